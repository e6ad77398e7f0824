-- $1, $2: as for members. The ties of the IDs of these groups.
with seed as (select node, device_group from avtryck.link_node where node = any($1) and state = 0 and kind <> 5),
about as (select device_group from seed where device_group <> 0 union select unnest($2::bigint[])),
core as (
    select node from seed
    union select node from avtryck.link_node where device_group in (select device_group from about) and state = 0 and kind <> 5
)
select edge.a, edge.b, edge.first_day - date '1970-01-01', edge.proved_day is not null
from core join avtryck.link_edge as edge on edge.a = core.node
where edge.b_kind <> 5 and edge.a_kind <> 5 /* proved */
union
select edge.a, edge.b, edge.first_day - date '1970-01-01', edge.proved_day is not null
from core join avtryck.link_edge as edge on edge.b = core.node
where edge.b_kind <> 5 and edge.a_kind <> 5 /* proved */
