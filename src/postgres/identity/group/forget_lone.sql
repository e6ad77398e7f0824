-- $1: groups that lost a tie, $2: why, as link_change says it. Deletes their IDs that have none left.
with lost as (select * from unnest($1::bigint[], $2::text[]) as lost (number, reason)),
lone as (
    delete from avtryck.link_node as known
    where known.node in (select node from avtryck.link_node where device_group = any($1)
                         union select node from avtryck.link_node where proved_group = any($1))
      and not exists (select from avtryck.link_edge as edge where edge.a = known.node)
      and not exists (select from avtryck.link_edge as edge where edge.b = known.node)
    returning node, device_group, proved_group
)
insert into avtryck.link_change (at, node, from_group, to_group, reason)
select now(), node, nullif(device_group, 0), null,
       coalesce((select reason from lost where number = device_group), (select reason from lost where number = proved_group), 'split')
from lone
