-- $1: IDs with new ties; $2: groups that lost one. The IDs of these groups and of those beside them.
with seed as (select node, device_group from avtryck.link_node where node = any($1) and state = 0 and kind <> 5),
about as (select device_group from seed where device_group <> 0 union select unnest($2::bigint[])),
core as (
    select node from seed
    union select node from avtryck.link_node where device_group in (select device_group from about) and state = 0 and kind <> 5
),
ring as (
    select node from core
    union select edge.b from core join avtryck.link_edge as edge on edge.a = core.node
          where edge.b_kind <> 5 /* proved */
    union select edge.a from core join avtryck.link_edge as edge on edge.b = core.node
          where edge.a_kind <> 5 /* proved */
),
beside as (
    select known.device_group from ring join avtryck.link_node as known using (node)
    where known.device_group <> 0 and known.state = 0
)
select node, kind, partner, first_day - date '1970-01-01', device_group from avtryck.link_node
where state = 0 and kind <> 5
  and node in (select node from ring
               union select known.node from avtryck.link_node as known join beside using (device_group))
order by node
