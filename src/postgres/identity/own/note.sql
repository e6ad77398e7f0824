-- $1: a visitor, $2: what was said, $3: the groups that it was about. What this transaction split of them was split by
-- that; the visitor has a row of it, also where they stayed in their group.
with split as (
    update avtryck.link_change set reason = $2 where at = now() and reason = 'split' and from_group = any($3) returning node
)
insert into avtryck.link_change (at, node, from_group, to_group, reason)
select now(), $1, nullif(known.device_group, 0), nullif(known.device_group, 0), $2
from (select $1::uuid as node) as said left join avtryck.link_node as known using (node)
where said.node not in (select node from split)
