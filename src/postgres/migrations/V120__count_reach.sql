-- Nearly every number of ad_day is one impression, so the impressions of a subject are how often it is found among sorted
-- numbers. What is beyond the first impression of a number is added up apart, for the few subjects that have such. So no
-- number is too large for its place, and hits that no roll-up has are one more row of arrays. Where a row is of one value,
-- which all are but those of device classes and regions, the impressions are as many as the row has, and only who was
-- reached is found by sorting.

create or replace function avtryck.frequency(first date, last date, campaigns text[])
returns table (times bigint, subjects bigint) language plpgsql stable parallel safe security definer
set plan_cache_mode = force_custom_plan set work_mem = '128MB' as $$
#variable_conflict use_column
declare
    ads bigint[] := case when campaigns is not null then coalesce(avtryck.ad_keys(campaigns), '{}') end;
    spans timestamptz[];
    zones text[];
begin
    select array_agg(clean.begins), array_agg(own.time_zone) into spans, zones
    from avtryck.site_day
    cross join lateral avtryck.zone_day(site_day.day) as own
    join avtryck.report_clean as clean on clean.begins >= own.begins and clean.begins < own.ends and clean.ends <= own.ends
    where site_day.day between first and last;
    return query
    with seen as materialized (
        select seen.subjects, seen.impressions
        from unnest(spans, zones) as own (span, time_zone)
        join avtryck.ad_day as seen on seen.span = own.span
        join avtryck.site_in_zone as site on site.key = seen.site_key and site.time_zone = own.time_zone
        where seen.subjects is not null and (ads is null or seen.ad_key = any(ads))
        union all
        select array_agg(fresh.subject << 18), array_agg(least(fresh.net_impressions, 2147483647)::integer)
        from avtryck.site_day
        cross join lateral avtryck.zone_day(site_day.day) as own
        cross join lateral avtryck.report_gap(own.begins, own.ends) as gap
        cross join lateral avtryck.ad_each_of(gap.begins, gap.ends) as fresh
        join avtryck.site_in_zone as site on site.key = fresh.site_key and site.time_zone = own.time_zone
        where site_day.day between first and last and fresh.subject is not null
          and (ads is null or fresh.ad_key = any(ads))
    ),
    shown as (
        select sorted.subject, count(*) as times
        from (select unnest(seen.subjects) >> 18 as subject from seen order by 1 offset 0) as sorted
        group by sorted.subject offset 0
    ),
    -- Impressions beyond the first of their number.
    more as (
        select each.subject >> 18 as subject, sum(each.impressions - 1) as times
        from (select unnest(seen.subjects) as subject, unnest(seen.impressions) as impressions
              from seen where seen.impressions is not null) as each
        where each.impressions > 1 group by 1
    )
    select shown.times + coalesce(more.times, 0), count(*)
    from shown left join more on more.subject = shown.subject
    group by 1 order by 1;
end $$;

create or replace function avtryck.reach(first date, last date, campaigns text[], part text)
returns table (value text, reach bigint, impressions bigint, frequency numeric) language plpgsql stable parallel safe security definer
set plan_cache_mode = force_custom_plan set work_mem = '128MB' as $$
#variable_conflict use_column
declare
    ads bigint[] := case when campaigns is not null then coalesce(avtryck.ad_keys(campaigns), '{}') end;
    low constant bigint := 262143;
    is_of_audience boolean := part in ('device_class', 'country', 'region');
    days date[];
    spans timestamptz[];
    zones text[];
begin
    if part is null or part not in ('all', 'site', 'partner', 'campaign', 'creative', 'placement', 'publisher', 'device_class', 'country', 'region', 'day', 'hour') then
        raise 'reach: % is none of all, site, partner, campaign, creative, placement, publisher, device_class, country, region, day, hour', part;
    end if;
    if reach.part = 'hour' then
        -- Roll-ups do not say at which hour somebody was shown an ad.
        if last - first > 6 then
            raise 'reach: by hour up to seven days, because it reads the hits';
        end if;
        return query
        select to_char(each.hour at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), count(*), sum(each.times)::bigint, round(sum(each.times) / count(*), 2)
        from (select hour, shown.subject, sum(shown.net_impressions) as times
              from avtryck.site_day
              cross join lateral avtryck.zone_day(site_day.day) as own
              cross join lateral generate_series(date_trunc('hour', own.begins, 'UTC'), own.ends - interval '1 us', interval '1 hour') as hour
              cross join lateral avtryck.ad_each_of(greatest(hour, own.begins), least(hour + interval '1 hour', own.ends)) as shown
              where site_day.day between first and last and shown.subject is not null
                and shown.site_key in (select key from avtryck.site_in_zone where time_zone = own.time_zone)
                and (ads is null or shown.ad_key = any(ads))
              group by 1, 2) as each
        group by each.hour order by each.hour;
        return;
    end if;
    select array_agg(site_day.day), array_agg(clean.begins), array_agg(own.time_zone) into days, spans, zones
    from avtryck.site_day
    cross join lateral avtryck.zone_day(site_day.day) as own
    join avtryck.report_clean as clean on clean.begins >= own.begins and clean.begins < own.ends and clean.ends <= own.ends
    where site_day.day between first and last;
    return query
    with fresh as (
        select site_day.day, fresh.*
        from avtryck.site_day
        cross join lateral avtryck.zone_day(site_day.day) as own
        cross join lateral avtryck.report_gap(own.begins, own.ends) as gap
        cross join lateral avtryck.ad_each_of(gap.begins, gap.ends) as fresh
        join avtryck.site_in_zone as site on site.key = fresh.site_key and site.time_zone = own.time_zone
        where site_day.day between first and last and fresh.subject is not null and (ads is null or fresh.ad_key = any(ads))
    ),
    seen as (
        select own.day, seen.site_key, seen.ad_key, null::text as of_audience, null::integer as audience, seen.subjects, seen.impressions
        from unnest(days, spans, zones) as own (day, span, time_zone)
        join avtryck.ad_day as seen on seen.span = own.span
        join avtryck.site_in_zone as site on site.key = seen.site_key and site.time_zone = own.time_zone
        where seen.subjects is not null and (ads is null or seen.ad_key = any(ads))
        union all
        select fresh.day, fresh.site_key, fresh.ad_key,
               case reach.part when 'device_class' then fresh.device_class when 'country' then fresh.country when 'region' then fresh.region end,
               0, array_agg(fresh.subject << 18), array_agg(least(fresh.net_impressions, 2147483647)::integer)
        from fresh group by 1, 2, 3, 4
        union all
        select null, null, null,
               case reach.part when 'device_class' then audience.device_class when 'country' then audience.country else audience.region end,
               audience.number, null, null
        from avtryck.audience where is_of_audience
    ),
    -- A row of ad_day has subjects of several audiences, each of which says where it belongs; all others are of one value.
    ranked as materialized (
        select seen.subjects, seen.impressions, seen.audience, is_of_audience and seen.audience is null as is_mixed,
               named.value, dense_rank() over (order by named.value) - 1 as rank
        from seen
        left join avtryck.site on site.key = seen.site_key
        left join avtryck.ad on ad.key = seen.ad_key
        cross join lateral (
            select case reach.part when 'site' then site.site when 'partner' then ad.partner when 'campaign' then ad.campaign
                       when 'creative' then ad.creative when 'placement' then ad.placement when 'publisher' then ad.publisher
                       when 'day' then seen.day::text else seen.of_audience end as value) as named
    ),
    audience_rank as materialized (
        select array_agg(ranked.rank::integer order by each.number) as ranks
        from generate_series(0, (select max(audience) from ranked)) as each (number)
        left join ranked on ranked.audience = each.number and ranked.subjects is null
    ),
    -- Who was reached is found as frequency finds it. Where a row is of one value, its impressions need no counting.
    reached as (
        select (page.page << 18) | (shown.shown & low) as rank, count(*) as subjects, 0::double precision as times
        from (select distinct ranked.rank >> 18 as page from ranked where not is_of_audience) as page
        cross join lateral (
            select sorted.shown
            from (select (unnest(ranked.subjects) & ~low) | (ranked.rank & low) as shown from ranked
                  where ranked.rank >> 18 = page.page order by 1 offset 0) as sorted
            group by sorted.shown offset 0) as shown
        group by 1
        union all
        select shown.shown & low, count(*), sum(shown.times)
        from (select sorted.shown, count(*)::double precision as times
              from (select (unnest(ranked.subjects) & ~low) | ranked.rank as shown from ranked where not ranked.is_mixed
                    union all
                    select (each.subject & ~low) | (select ranks from audience_rank)[(each.subject & low) + 1]
                    from (select unnest(ranked.subjects) as subject from ranked where ranked.is_mixed) as each
                    order by 1 offset 0) as sorted
              where is_of_audience
              group by sorted.shown offset 0) as shown
        group by 1
    ),
    more as (
        select ranked.rank, sum(case when ranked.impressions is null then cardinality(ranked.subjects)
                                else (select sum(each.times) from (select unnest(ranked.impressions) as times) as each) end) as times
        from ranked where not is_of_audience group by 1
        union all
        -- Impressions beyond the first of their number.
        select case when each.is_mixed then (select ranks from audience_rank)[(each.subject & low) + 1] else each.rank end,
               sum(each.impressions - 1)
        from (select unnest(ranked.subjects) as subject, unnest(ranked.impressions) as impressions, ranked.is_mixed, ranked.rank
              from ranked where is_of_audience and ranked.impressions is not null) as each
        where each.impressions > 1 group by 1
    )
    select named.value, reached.subjects, (reached.times + coalesce(more.times, 0))::bigint,
           round((reached.times + coalesce(more.times, 0))::numeric / reached.subjects, 2)
    from reached
    join (select distinct ranked.rank, ranked.value from ranked) as named on named.rank = reached.rank
    left join more on more.rank = reached.rank
    order by 2 desc, 1;
end $$;
