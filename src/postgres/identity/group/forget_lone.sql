-- $1: groups that lost a tie. Deletes their IDs that have none left.
with lone as (
    delete from avtryck.link_node as known
    where known.node in (select node from avtryck.link_node where device_group = any($1)
                         union select node from avtryck.link_node where proved_group = any($1))
      and not exists (select from avtryck.link_edge as edge where edge.a = known.node)
      and not exists (select from avtryck.link_edge as edge where edge.b = known.node)
    returning node, device_group
)
insert into avtryck.link_change (at, node, from_group, to_group, reason)
select now(), node, nullif(device_group, 0), null, 'split' from lone
