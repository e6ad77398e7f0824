-- $1: a group, $2: how many from it on, $3: the partners whose IDs unite a device. Deletes the ties to others' IDs.
with portion as (
    select device_group from avtryck.device_group where device_group >= $1 order by device_group limit $2
),
node as (select known.node from avtryck.link_node as known join portion using (device_group)),
stale as (
    select edge.a, edge.b from node join avtryck.link_edge as edge on edge.a = node.node
    where edge.partner <> '' and edge.partner <> all($3)
    union
    select edge.a, edge.b from node join avtryck.link_edge as edge on edge.b = node.node
    where edge.partner <> '' and edge.partner <> all($3)
)
delete from avtryck.link_edge as edge using stale where edge.a = stale.a and edge.b = stale.b
