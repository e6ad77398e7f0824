-- $1: today, $2: for how many days an ID is a hub at least, $3: how many ties, of a visitor and of another ID, are too
-- many to come back. What comes back is counted anew, as if its ties had just been seen; what has no ties goes.
with counted as materialized (
    select node, case kind when 1 then ($3::integer[])[1] else ($3::integer[])[2] end as limit_degree,
           (select count(*) from (select from avtryck.link_edge where a = node and b_kind <> 5 limit 100) as few)
           + (select count(*) from (select from avtryck.link_edge where b = node and a_kind <> 5 limit 100) as few) as degree,
           (select count(*) from (select from avtryck.link_edge where a = node and b_kind <> 5 and proved_day is not null limit 100) as few)
           + (select count(*) from (select from avtryck.link_edge where b = node and a_kind <> 5 and proved_day is not null limit 100) as few)
           as proved_degree,
           state = 1 and hub_since <= date '1970-01-01' + $1::integer - $2::integer as may_return,
           proved_hub_since <= date '1970-01-01' + $1::integer - $2::integer as may_return_proved
    from avtryck.link_node where state = 1 or proved_hub_since is not null
),
gone as (
    delete from avtryck.link_node as known using counted
    where counted.node = known.node and counted.degree = 0
      and not exists (select from avtryck.link_edge as edge where edge.a = known.node)
      and not exists (select from avtryck.link_edge as edge where edge.b = known.node)
),
freed as (
    update avtryck.link_node as known
    set state = case when may_return and counted.degree < limit_degree then 0 else state end,
        hub_since = case when may_return and counted.degree < limit_degree then null else hub_since end,
        proved_hub_since =
            case when may_return_proved and counted.proved_degree < limit_degree then null else proved_hub_since end,
        degree = counted.degree, proved_degree = counted.proved_degree
    from counted
    where counted.node = known.node and counted.degree > 0
      and (may_return and counted.degree < limit_degree or may_return_proved and counted.proved_degree < limit_degree)
    returning known.node
)
update avtryck.link_edge as edge set is_new = true
where edge.a in (select node from freed) or edge.b in (select node from freed)
