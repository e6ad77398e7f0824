-- $1, $2: the ends of new ties. Adds the IDs that are new, and counts the ties of each.
with new as (select edge.* from unnest($1::uuid[], $2::uuid[]) as new (a, b) join avtryck.link_edge as edge using (a, b)),
ended as (
    select node, min(kind) as kind, max(partner) as partner, min(first_day) as first_day, max(last_day) as last_day,
           bool_or(proved_day is not null) as is_proved
    from (select a as node, a_kind as kind, case a_kind when 4 then partner else '' end as partner, first_day, last_day, proved_day
          from new
          union all
          select b, b_kind, case b_kind when 4 then partner else '' end, first_day, last_day, proved_day from new) as either
    group by node
)
insert into avtryck.link_node as known
    (node, kind, partner, device_group, proved_group, degree, proved_degree, first_day, last_day)
select node, kind, partner, 0, 0,
       (select count(*) from (select from avtryck.link_edge where a = node and b_kind <> 5 limit 100) as few)
       + (select count(*) from (select from avtryck.link_edge where b = node and a_kind <> 5 limit 100) as few),
       -- Most ties are not proved.
       case when is_proved then
           (select count(*) from (select from avtryck.link_edge where a = node and b_kind <> 5 and proved_day is not null limit 100) as few)
           + (select count(*) from (select from avtryck.link_edge where b = node and a_kind <> 5 and proved_day is not null limit 100) as few)
       else 0 end,
       first_day, last_day
from ended order by node
on conflict (node) do update
set degree = excluded.degree,
    proved_degree = case when excluded.proved_degree > 0 then excluded.proved_degree else known.proved_degree end,
    first_day = least(known.first_day, excluded.first_day),
    last_day = greatest(known.last_day, excluded.last_day)
