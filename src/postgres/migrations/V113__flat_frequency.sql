-- Reach and frequency of a month are of millions of impressions: each step between a roll-up and the sums of its subjects
-- costs a tenth of a second. So spans are found first, and hits that no roll-up has are looked for only where there are some.

create or replace function avtryck.frequency(first date, last date, campaigns text[])
returns table (times bigint, subjects bigint) language plpgsql stable parallel safe security definer
set plan_cache_mode = force_custom_plan set work_mem = '64MB' as $$
#variable_conflict use_column
declare
    ads bigint[] := case when campaigns is not null then coalesce(avtryck.ad_keys(campaigns), '{}') end;
    spans timestamptz[];
    zones text[];
    is_whole boolean;
begin
    select array_agg(clean.begins), array_agg(own.time_zone) into spans, zones
    from avtryck.site_day
    cross join lateral avtryck.zone_day(site_day.day) as own
    join avtryck.report_clean as clean on clean.begins >= own.begins and clean.begins < own.ends and clean.ends <= own.ends
    where site_day.day between first and last;
    select not exists (
        select from avtryck.site_day
        cross join lateral avtryck.zone_day(site_day.day) as own
        cross join lateral avtryck.report_gap(own.begins, own.ends) as gap
        where site_day.day between first and last) into is_whole;
    if is_whole then
        return query
        select each.times, count(*)
        from (select sum(coalesce(shown.impressions, 1)) as times
              from (select unnest(seen.subjects) as subject, unnest(seen.impressions) as impressions
                    from unnest(spans, zones) as own (span, time_zone)
                    join avtryck.ad_day as seen on seen.span = own.span
                    join avtryck.site_in_zone as site on site.key = seen.site_key and site.time_zone = own.time_zone
                    where ads is null or seen.ad_key = any(ads)) as shown
              group by shown.subject >> 18) as each
        group by 1 order by 1;
    else
        return query
        select each.times, count(*)
        from (select sum(coalesce(shown.impressions, 1)) as times
              from (select unnest(seen.subjects) as subject, unnest(seen.impressions) as impressions
                    from unnest(spans, zones) as own (span, time_zone)
                    join avtryck.ad_day as seen on seen.span = own.span
                    join avtryck.site_in_zone as site on site.key = seen.site_key and site.time_zone = own.time_zone
                    where ads is null or seen.ad_key = any(ads)
                    union all
                    select fresh.subject << 18, least(fresh.net_impressions, 2147483647)::integer
                    from avtryck.site_day
                    cross join lateral avtryck.zone_day(site_day.day) as own
                    cross join lateral avtryck.report_gap(own.begins, own.ends) as gap
                    cross join lateral avtryck.ad_each_of(gap.begins, gap.ends) as fresh
                    join avtryck.site_in_zone as site on site.key = fresh.site_key and site.time_zone = own.time_zone
                    where site_day.day between first and last and fresh.subject is not null and (ads is null or fresh.ad_key = any(ads))) as shown
              group by shown.subject >> 18) as each
        group by 1 order by 1;
    end if;
end $$;
