-- A hit is one step of a funnel: of a name that is asked for twice ("seen twice", "ordered again") everybody who did it once
-- had taken both steps. Nothing is said of a model or of steps that are null: `attribution` gave the figures of a model that
-- does not exist.

create or replace function avtryck.funnel(first date, last date, steps text[], within interval)
returns table (step integer, name text, subjects bigint, share numeric) language plpgsql stable parallel safe security definer
set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    opens timestamptz := (select min(own.begins) from avtryck.zone_day(first) as own);
    closes timestamptz := (select max(own.ends) from avtryck.zone_day(last) as own);
begin
    if steps is null or cardinality(steps) not between 1 and 10 then
        raise 'funnel: 1 to 10 steps';
    end if;
    return query
    with recursive event as materialized (
        select hit.visitor_id, hit.hit_id, coalesce(hit.occurred_at, hit.received_at) as at, place.step
        from avtryck.hit
        join unnest(steps) with ordinality as place (name, step)
          on place.name = coalesce(hit.event_name, avtryck.kind_name(hit.kind))
        join avtryck.site_in_zone as site on site.key = hit.site_key
        join avtryck.zone_day(first) as opening on opening.time_zone = site.time_zone and hit.received_at >= opening.begins
        join avtryck.zone_day(last) as closing on closing.time_zone = site.time_zone and hit.received_at < closing.ends
        where hit.received_at >= opens and hit.received_at < closes and hit.visitor_id is not null
          and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
    ),
    reached as (
        (select distinct on (event.visitor_id) event.visitor_id, event.at, event.at as since, 1 as step, array[event.hit_id] as used
         from event where event.step = 1 order by event.visitor_id, event.at, event.hit_id)
        union all
        select visitor_id, at, since, step, used
        from (select reached.visitor_id, event.at, reached.since, reached.step + 1 as step, reached.used || event.hit_id as used,
                     row_number() over (partition by reached.visitor_id order by event.at, event.hit_id) as number
              from reached join event on event.visitor_id = reached.visitor_id and event.step = reached.step + 1
                                     and event.at >= reached.at and event.at <= reached.since + within
                                     and event.hit_id <> all(reached.used)) as next
        where number = 1
    )
    select place.step::integer, place.name, count(reached.visitor_id),
           round(count(reached.visitor_id)::numeric / nullif(first_value(count(reached.visitor_id)) over (order by place.step), 0), 4)
    from unnest(steps) with ordinality as place (name, step)
    left join reached on reached.step = place.step
    group by place.step, place.name order by place.step;
end $$;

alter function avtryck.attribution(date, date, text, interval) strict;
