-- $1: groups whose IDs changed; $2, $3: the ends of new ties; $4: the most owners within 90 days. The owners of these
-- groups, and of those of the ties' IDs. Proved ones come first, then the oldest, so that whoever names many users takes
-- nobody's place.
with about as (
    select unnest($1::bigint[]) as device_group
    union select device_group from avtryck.link_node where node = any($2) or node = any($3)
),
owned as (
    select known.device_group, case edge.a_kind when 5 then edge.a else edge.b end as owner, edge.*
    from about join avtryck.link_node as known using (device_group)
    join avtryck.link_edge as edge on edge.a = known.node and edge.b_kind = 5
    where about.device_group <> 0
    union all
    select known.device_group, case edge.a_kind when 5 then edge.a else edge.b end, edge.*
    from about join avtryck.link_node as known using (device_group)
    join avtryck.link_edge as edge on edge.b = known.node and edge.a_kind = 5
    where about.device_group <> 0
),
counted as (
    select device_group, owner, min(first_day) as first_day, max(last_day) as last_day, count(*)::smallint as days,
           (array_agg(permit order by last_day desc, permit))[1] as permit, bool_or(proved_day is not null) as is_proved
    from owned group by device_group, owner
),
spanned as (
    select *, (max(last_day) over (partition by device_group) - last_day) / 90 as span from counted
),
ranked as (
    select *, row_number() over (partition by device_group, span order by is_proved desc, first_day, owner) as place from spanned
),
owner as (select * from ranked where place <= $4),
gone as (
    delete from avtryck.device_owner as known
    where known.device_group in (select device_group from about)
      and not exists (select from owner where owner.device_group = known.device_group and owner.owner = known.owner)
)
insert into avtryck.device_owner as known (device_group, owner, first_day, last_day, days, permit, is_proved)
select device_group, owner, first_day, last_day, days, permit, is_proved from owner order by device_group, owner
on conflict (device_group, owner) do update
set first_day = excluded.first_day, last_day = excluded.last_day, days = excluded.days,
    permit = excluded.permit, is_proved = excluded.is_proved
