-- $1: a group, $2: how many from it on, $3: the partners whose IDs unite a device. Deletes the ties to others' IDs.
with portion as (
    select device_group from avtryck.device_group where device_group >= $1 order by device_group limit $2
),
node as (select known.node from avtryck.link_node as known join portion using (device_group))
delete from avtryck.link_edge as edge
where edge.partner <> '' and edge.partner <> all($3)
  and (edge.a in (select node from node) or edge.b in (select node from node))
