-- What campaign people ask for besides campaign_daily and placement_daily. What counts hits reads roll-ups; what follows
-- single visitors reads the hits of those visitors by index.

create function avtryck.ad_keys(campaigns text[]) returns bigint[] language sql stable parallel safe
begin atomic
    select array_agg(key) from avtryck.ad where campaigns is null or campaign = any(campaigns);
end;
comment on function avtryck.ad_keys is 'The ads of these campaigns; of all, where they are null.';

create function avtryck.seen(first date, last date, campaigns text[])
returns table (
    site text, partner text, campaign text, creative text, placement text, publisher text,
    device_class text, country text, region text, day date, subject bigint, impressions integer
) language sql stable parallel safe
begin atomic
    select site.site, ad.partner, ad.campaign, ad.creative, ad.placement, ad.publisher, part.device_class, part.country,
           part.region, hit_day.day, shown.subject, coalesce(shown.impressions, 1)
    from avtryck.hit_day
    cross join lateral avtryck.ad_part(avtryck.day_start(hit_day.day), avtryck.day_start(hit_day.day + 1)) as part
    cross join lateral unnest(part.subjects, part.impressions) as shown (subject, impressions)
    left join avtryck.site on site.key = part.site_key
    left join avtryck.ad on ad.key = part.ad_key
    where hit_day.day between first and last and (campaigns is null or part.ad_key = any(avtryck.ad_keys(campaigns)));
end;
comment on function avtryck.seen is 'Who had valid impressions of campaigns (of all, where they are null) on the days from the first to the last, in rows that are to be added up.';

create function avtryck.frequency(first date, last date, campaigns text[])
returns table (times bigint, subjects bigint) language plpgsql stable parallel safe security definer
set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
begin
    return query
    select each.times, count(*)
    from (select sum(seen.impressions) as times from avtryck.seen(first, last, campaigns) as seen group by seen.subject) as each
    group by 1 order by 1;
end $$;
comment on function avtryck.frequency is 'How many subjects had how many valid impressions of campaigns in those days. The sum of `subjects` is the reach, that of `times * subjects` the impressions. Exact, but for two subjects in 2^64 that share a hash.';

create function avtryck.reach(first date, last date, campaigns text[], part text)
returns table (value text, reach bigint, impressions bigint, frequency numeric) language plpgsql stable parallel safe security definer
set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
begin
    if part not in ('all', 'site', 'partner', 'campaign', 'creative', 'placement', 'publisher', 'device_class', 'country', 'region', 'day') then
        raise 'reach: % is none of all, site, partner, campaign, creative, placement, publisher, device_class, country, region, day', part;
    end if;
    return query
    select each.value, count(*), sum(each.times)::bigint, round(sum(each.times) / count(*), 2)
    from (select case reach.part when 'site' then seen.site when 'partner' then seen.partner
                 when 'campaign' then seen.campaign when 'creative' then seen.creative when 'placement' then seen.placement
                 when 'publisher' then seen.publisher when 'device_class' then seen.device_class
                 when 'country' then seen.country when 'region' then seen.region when 'day' then seen.day::text end as value,
                 subject, sum(seen.impressions) as times
          from avtryck.seen(first, last, campaigns) as seen group by 1, 2) as each
    group by 1 order by 2 desc, 1;
end $$;
comment on function avtryck.reach is 'How many subjects had a valid impression of campaigns (of all, where they are null) in those days, for each value of a part: all, site, partner, campaign, creative, placement, publisher, device_class, country, region or day. A subject may be in several rows. Exact.';

create view avtryck.campaign_hourly as
select day, hour, site, partner, campaign, creative, placement, publisher,
       coalesce(sum(gross) filter (where act = 'impression'), 0)::bigint as gross_impressions,
       coalesce(sum(net) filter (where act = 'impression'), 0)::bigint as net_impressions,
       coalesce(sum(gross) filter (where act = 'click'), 0)::bigint as gross_clicks,
       coalesce(sum(net) filter (where act = 'click'), 0)::bigint as net_clicks,
       coalesce(sum(unmeasured) filter (where act = 'impression'), 0)::bigint as unmeasured_impressions,
       coalesce(sum(unmeasured) filter (where act = 'click'), 0)::bigint as unmeasured_clicks
from avtryck.ad_hour_detail
where act in ('impression', 'click')
group by 1, 2, 3, 4, 5, 6, 7, 8;
comment on view avtryck.campaign_hourly is 'Impressions and clicks of each ad by hour (UTC).';

create view avtryck.campaign_view as
select day, site, partner, campaign, creative, placement, publisher,
       coalesce(sum(net) filter (where act = 'impression'), 0)::bigint as net_impressions,
       coalesce(sum(net) filter (where act = 'measurable'), 0)::bigint as measurable,
       coalesce(sum(net) filter (where act = 'viewable'), 0)::bigint as viewable,
       round(sum(net) filter (where act = 'viewable') / nullif(sum(net) filter (where act = 'measurable'), 0), 4) as viewable_share,
       coalesce(sum(net) filter (where act = 'start'), 0)::bigint as started,
       coalesce(sum(net) filter (where act = 'firstquartile'), 0)::bigint as first_quartile,
       coalesce(sum(net) filter (where act = 'midpoint'), 0)::bigint as midpoint,
       coalesce(sum(net) filter (where act = 'thirdquartile'), 0)::bigint as third_quartile,
       coalesce(sum(net) filter (where act = 'complete'), 0)::bigint as completed,
       round(sum(net) filter (where act = 'complete') / nullif(sum(net) filter (where act = 'start'), 0), 4) as completed_share
from avtryck.ad_hour_detail
group by 1, 2, 3, 4, 5, 6, 7;
comment on view avtryck.campaign_view is 'How much of each ad was seen a day: viewability, and how far videos were watched. It counts the valid events measurable, viewable, start, firstQuartile, midpoint, thirdQuartile and complete that name the ad.';
comment on column avtryck.campaign_view.measurable is 'Events measurable: the ad could be watched for being in view.';
comment on column avtryck.campaign_view.viewable is 'Events viewable: it was in view.';
comment on column avtryck.campaign_view.viewable_share is 'viewable for each measurable; null without any.';
comment on column avtryck.campaign_view.started is 'Events start: a video began.';
comment on column avtryck.campaign_view.first_quartile is 'Events firstQuartile.';
comment on column avtryck.campaign_view.midpoint is 'Events midpoint.';
comment on column avtryck.campaign_view.third_quartile is 'Events thirdQuartile.';
comment on column avtryck.campaign_view.completed is 'Events complete.';
comment on column avtryck.campaign_view.completed_share is 'completed for each started; null without any.';

create view avtryck.campaign_invalid as
select day, site, partner, campaign, act, reason, sum(gross)::bigint as hits
from avtryck.ad_hour_detail cross join lateral unnest(faults) as reason
where act in ('impression', 'click')
group by 1, 2, 3, 4, 5, 6;
comment on view avtryck.campaign_invalid is 'Invalid impressions and clicks of each campaign a day, by reason. A hit with two reasons is in two rows.';
comment on column avtryck.campaign_invalid.act is 'impression or click.';
comment on column avtryck.campaign_invalid.reason is 'The flag that makes them invalid: see docs/reports.md.';
comment on column avtryck.campaign_invalid.hits is 'How many.';

-- Money. What an ad cost is nowhere in the hits, so it is given here.

create table avtryck.campaign_cost (
    day date not null,
    campaign text not null,
    currency text not null,
    cost numeric not null check (cost >= 0),
    primary key (day, campaign, currency)
);
comment on table avtryck.campaign_cost is 'What campaigns cost, as whoever reads reports enters it. Nothing but campaign_value reads it.';
comment on column avtryck.campaign_cost.day is 'The UTC day.';
comment on column avtryck.campaign_cost.campaign is 'As ad.campaign.';
comment on column avtryck.campaign_cost.currency is 'ISO 4217, as the conversions give it.';
comment on column avtryck.campaign_cost.cost is 'How much.';

create function avtryck.conversions_through_of(day date, after_click interval, after_view interval)
returns table (
    campaign text, creative text, placement text, through text, event_id text, later interval, value numeric, currency text
) language plpgsql stable parallel safe security definer as $$
#variable_conflict use_column
begin
    return query
    select path.campaign, path.creative, path.placement, case when is_click then 'click' else 'view' end, path.event_id,
           path.converted_at - case when is_click then path.clicked_at else path.seen_at end,
           case when avtryck.number_of(path.params ->> 'value') between -1e15 and 1e15
                then avtryck.number_of(path.params ->> 'value')::numeric end,
           upper(path.params ->> 'currency')
    from avtryck.conversion_path_of(conversions_through_of.day, greatest(after_click, after_view)) as path
    cross join lateral (select path.linked_by in ('click_id', 'visitor')) as of (is_click)
    where path.is_valid
      and case when is_click then path.clicked_at >= path.converted_at - after_click
               else path.seen_at >= path.converted_at - after_view and exists (
                   select from avtryck.hit
                   where hit.visitor_id = path.visitor_id and hit.received_at = path.seen_at
                     and hit.hit_id = path.impression_hit_id and avtryck.is_valid(hit.flags)) end;
end $$;
comment on function avtryck.conversions_through_of is 'One day of conversions_through.';

create function avtryck.conversions_through(after_click interval, after_view interval)
returns table (
    day date, campaign text, creative text, placement text, through text, event_id text, later interval, value numeric, currency text
) language sql stable parallel safe
begin atomic
    select hit_day.day, of_day.* from avtryck.hit_day
    cross join lateral avtryck.conversions_through_of(hit_day.day, after_click, after_view) as of_day;
end;
comment on function avtryck.conversions_through is 'The conversions that count, each with whether a click led to it, no longer ago than the first time, or else a valid impression, no longer ago than the second, the last before it. Name the days: `where day = …`.';

create view avtryck.campaign_value as
select day, campaign, currency, sum(click_conversions)::bigint as click_conversions,
       sum(view_conversions)::bigint as view_conversions, sum(revenue) as revenue, sum(cost) as cost,
       round(sum(revenue) / nullif(sum(cost), 0), 2) as roas
from (
    select through.day, through.campaign, through.currency, case when through.through = 'click' then 1 else 0 end as click_conversions,
           case when through.through = 'view' then 1 else 0 end as view_conversions,
           case when through.through = 'click' then through.value end as revenue, null::numeric as cost
    from avtryck.conversions_through(interval '30 days', interval '1 day') as through
    union all
    select campaign_cost.day, campaign_cost.campaign, campaign_cost.currency, 0, 0, null, campaign_cost.cost
    from avtryck.campaign_cost
) as each
group by 1, 2, 3;
comment on view avtryck.campaign_value is 'Conversions of each campaign a UTC day by what led to them: a click within 30 days, or an impression within a day. The function conversions_through takes other times.';
comment on column avtryck.campaign_value.currency is 'The `currency` of the conversions, in capitals; null where they give none.';
comment on column avtryck.campaign_value.click_conversions is 'Net conversions after a click within 30 days.';
comment on column avtryck.campaign_value.view_conversions is 'Valid conversions without a click, after an impression within a day.';
comment on column avtryck.campaign_value.revenue is 'The sum of the `value` of the conversions after a click.';
comment on column avtryck.campaign_value.cost is 'What campaign_cost has of the day.';
comment on column avtryck.campaign_value.roas is 'Revenue for each unit of cost; null where no cost is entered.';

create function avtryck.funnel(first date, last date, steps text[], within interval)
returns table (step integer, name text, subjects bigint, share numeric) language plpgsql stable parallel safe security definer
set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    begins timestamptz := avtryck.day_start(first);
    ends timestamptz := avtryck.day_start(last + 1);
begin
    if cardinality(steps) not between 1 and 10 then
        raise 'funnel: 1 to 10 steps';
    end if;
    return query
    with recursive event as materialized (
        select hit.visitor_id, coalesce(hit.occurred_at, hit.received_at) as at, place.step
        from avtryck.hit
        join unnest(steps) with ordinality as place (name, step)
          on place.name = coalesce(hit.event_name, avtryck.kind_name(hit.kind))
        where hit.received_at >= begins and hit.received_at < ends and hit.visitor_id is not null
          and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
    ),
    reached as (
        select event.visitor_id, min(at) as at, min(at) as since, 1 as step from event where event.step = 1 group by 1
        union all
        select visitor_id, at, since, step
        from (select reached.visitor_id, event.at, reached.since, reached.step + 1 as step,
                     row_number() over (partition by reached.visitor_id order by event.at) as number
              from reached join event on event.visitor_id = reached.visitor_id and event.step = reached.step + 1
                                     and event.at >= reached.at and event.at <= reached.since + within) as next
        where number = 1
    )
    select place.step::integer, place.name, count(reached.visitor_id),
           round(count(reached.visitor_id)::numeric / nullif(first_value(count(reached.visitor_id)) over (order by place.step), 0), 4)
    from unnest(steps) with ordinality as place (name, step)
    left join reached on reached.step = place.step
    group by place.step, place.name order by place.step;
end $$;
comment on function avtryck.funnel is 'How many visitors took the steps in their order, each no longer after their first than `within`. A step is the name of an event, or a kind of hit without a name (page_view, impression, click). It reads the hits of those days.';

create function avtryck.attribution(first date, last date, model text, within interval)
returns table (partner text, campaign text, creative text, placement text, conversions numeric, value numeric)
language plpgsql stable parallel safe security definer set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    since timestamptz := avtryck.day_start(first) - within;
    ends timestamptz := avtryck.day_start(last + 1);
begin
    if model not in ('last_click', 'first_click', 'linear', 'position', 'time_decay') then
        raise 'attribution: % is none of last_click, first_click, linear, position, time_decay', model;
    end if;
    return query
    with conversion as materialized (
        select path.hit_id, coalesce(hit.occurred_at, path.converted_at) as at, path.visitor_id,
               case when avtryck.number_of(path.params ->> 'value') between -1e15 and 1e15
                    then avtryck.number_of(path.params ->> 'value')::numeric end as value
        from avtryck.hit_day
        cross join lateral avtryck.conversion_path_of(hit_day.day, within) as path
        join avtryck.hit on hit.visitor_id = path.visitor_id and hit.received_at = path.converted_at and hit.hit_id = path.hit_id
        where hit_day.day between first and last and path.is_valid and path.visitor_id is not null
    ),
    -- The visitors of one device group are one subject. Only IDs that may be linked have a group.
    member as (
        select wanted.visitor_id, coalesce(other.node, wanted.visitor_id) as node
        from (select distinct visitor_id from conversion) as wanted
        left join avtryck.link_node as own on own.node = wanted.visitor_id and own.device_group <> 0
        left join avtryck.link_node as other on other.device_group = own.device_group and other.kind = 1
    ),
    touch as materialized (
        select member.visitor_id, found.*
        from member cross join lateral (
            select coalesce(hit.occurred_at, hit.received_at) as at, hit.hit_id, hit.kind, hit.ad_key
            from avtryck.hit
            where hit.visitor_id = member.node and hit.kind in (3, 4) and avtryck.is_counted(hit.flags)
              and avtryck.is_valid(hit.flags) and hit.ad_key is not null
              and hit.received_at >= since and hit.received_at < ends
            offset 0
        ) as found
    ),
    led as (
        select conversion.hit_id, conversion.value, touch.ad_key, conversion.at - touch.at as age,
               row_number() over earliest as number, count(*) over (partition by conversion.hit_id) as touches
        from conversion join touch on touch.visitor_id = conversion.visitor_id and touch.at <= conversion.at
                                  and touch.at >= conversion.at - within
        where model not in ('last_click', 'first_click') or touch.kind = 4
        window earliest as (partition by conversion.hit_id order by touch.at, touch.hit_id)
    ),
    weighed as (
        select hit_id, value, ad_key, case model
            when 'last_click' then case when number = touches then 1 else 0 end
            when 'first_click' then case when number = 1 then 1 else 0 end
            when 'linear' then 1
            when 'position' then case when touches <= 2 then 1 when number in (1, touches) then 0.4 else 0.2 / (touches - 2) end
            else power(0.5::double precision, extract(epoch from age)::double precision / 604800) end::double precision as weight
        from led
    ),
    shared as (
        select ad_key, value, weight / sum(weight) over (partition by hit_id) as part from weighed
    )
    select ad.partner, ad.campaign, ad.creative, ad.placement, round(sum(part)::numeric, 4), round(sum(part::numeric * value), 2)
    from shared left join avtryck.ad on ad.key = shared.ad_key
    where part > 0
    group by 1, 2, 3, 4 order by 5 desc, 2, 3, 4, 1;
end $$;
comment on function avtryck.attribution is 'The valid conversions of those days, shared out among the ads that their subject met no longer before than `within`. last_click, first_click: all to that click. linear: the same to each impression and click. position: two fifths to the first and the last, the rest to those between. time_decay: half as much for each week that one lies back. A subject is the visitor, with the other visitors of its device group.';

do $$
declare
    bare record;
begin
    for bare in
        select view.oid as view, shown.attname as column, coalesce(
                   (select col_description(known.attrelid, known.attnum) from pg_attribute as known
                    where known.attrelid = 'avtryck.campaign_daily'::regclass and known.attname = shown.attname),
                   (select col_description(known.attrelid, known.attnum) from pg_attribute as known
                    where known.attrelid = 'avtryck.placement_daily'::regclass and known.attname = shown.attname),
                   (select col_description(known.attrelid, known.attnum) from pg_attribute as known
                    where known.attrelid = 'avtryck.ad_hour_detail'::regclass and known.attname = shown.attname)) as description
        from unnest(array['campaign_hourly', 'campaign_view', 'campaign_invalid', 'campaign_value']) as name (view)
        join pg_class as view on view.oid = to_regclass('avtryck.' || name.view)
        join pg_attribute as shown on shown.attrelid = view.oid and shown.attnum > 0
        where col_description(view.oid, shown.attnum) is null
    loop
        execute format('comment on column %s.%I is %L', bare.view::regclass, bare.column, bare.description);
    end loop;
end $$;
