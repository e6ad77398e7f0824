-- $1: today. A hub that has had few ties for 30 days is counted anew, as if its ties had just been seen.
with hub as (
    select node, kind,
           (select count(*) from (select from avtryck.link_edge where a = node and b_kind <> 5 limit 100) as few)
           + (select count(*) from (select from avtryck.link_edge where b = node and a_kind <> 5 limit 100) as few) as degree
    from avtryck.link_node where state = 1 and hub_since <= date '1970-01-01' + $1::integer - 30
),
freed as (
    update avtryck.link_node as known set state = 0, hub_since = null, degree = hub.degree
    from hub where hub.node = known.node and hub.degree < case known.kind when 1 then 10 else 5 end
    returning known.node
)
update avtryck.link_edge as edge set is_new = true
where edge.a in (select node from freed) or edge.b in (select node from freed)
