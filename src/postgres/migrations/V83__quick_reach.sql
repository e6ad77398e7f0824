-- Who saw a campaign in a month is counted from millions of subjects. Arrays in a select list are taken apart twice as
-- fast as by a function in `from`, and who asks for neither devices nor regions need not look them up.

create or replace function avtryck.ad_seen(since timestamptz, until timestamptz, ads bigint[])
returns table (
    site_key bigint, ad_key bigint, audience bigint, device_class text, country text, region text, subject bigint, impressions integer
) language sql stable parallel safe
begin atomic
    select shown.site_key, shown.ad_key, shown.audience, audience.device_class, audience.country, audience.region, shown.subject,
           coalesce(shown.impressions, 1)
    from (select ad_day.site_key, ad_day.ad_key, unnest(ad_day.subjects) as subject, unnest(ad_day.subject_audiences) as audience,
                 unnest(ad_day.impressions) as impressions
          from avtryck.report_clean join avtryck.ad_day on ad_day.span = report_clean.begins
          where report_clean.begins >= since and report_clean.begins < until and (ads is null or ad_day.ad_key = any(ads))) as shown
    left join avtryck.audience on audience.key = shown.audience
    union all
    select fresh.site_key, fresh.ad_key, avtryck.audience_key(fresh.device_class, fresh.country, fresh.region), fresh.device_class,
           fresh.country, fresh.region, fresh.subject, least(fresh.net_impressions, 2147483647)::integer
    from avtryck.report_gap(since, until) as gap cross join lateral avtryck.ad_each_of(gap.begins, gap.ends) as fresh
    where fresh.subject is not null and (ads is null or fresh.ad_key = any(ads));
end;

create function avtryck.ad_subject(since timestamptz, until timestamptz, ads bigint[])
returns table (site_key bigint, ad_key bigint, subject bigint, impressions integer) language sql stable parallel safe
begin atomic
    select shown.site_key, shown.ad_key, shown.subject, coalesce(shown.impressions, 1)
    from (select ad_day.site_key, ad_day.ad_key, unnest(ad_day.subjects) as subject, unnest(ad_day.impressions) as impressions
          from avtryck.report_clean join avtryck.ad_day on ad_day.span = report_clean.begins
          where report_clean.begins >= since and report_clean.begins < until and (ads is null or ad_day.ad_key = any(ads))) as shown
    union all
    select fresh.site_key, fresh.ad_key, fresh.subject, least(fresh.net_impressions, 2147483647)::integer
    from avtryck.report_gap(since, until) as gap cross join lateral avtryck.ad_each_of(gap.begins, gap.ends) as fresh
    where fresh.subject is not null and (ads is null or fresh.ad_key = any(ads));
end;
comment on function avtryck.ad_subject is 'What ad_seen has, without device classes and regions.';

create or replace function avtryck.frequency(first date, last date, campaigns text[])
returns table (times bigint, subjects bigint) language plpgsql stable parallel safe security definer
set plan_cache_mode = force_custom_plan set work_mem = '64MB' as $$
#variable_conflict use_column
declare
    ads bigint[] := case when campaigns is not null then coalesce(avtryck.ad_keys(campaigns), '{}') end;
begin
    return query
    select each.times, count(*)
    from (select sum(shown.impressions) as times
          from avtryck.hit_day
          cross join lateral avtryck.ad_subject(avtryck.day_start(hit_day.day), avtryck.day_start(hit_day.day + 1), ads) as shown
          where hit_day.day between first and last
          group by shown.subject) as each
    group by 1 order by 1;
end $$;

create or replace function avtryck.reach(first date, last date, campaigns text[], part text)
returns table (value text, reach bigint, impressions bigint, frequency numeric) language plpgsql stable parallel safe security definer
set plan_cache_mode = force_custom_plan set work_mem = '64MB' as $$
#variable_conflict use_column
declare
    ads bigint[] := case when campaigns is not null then coalesce(avtryck.ad_keys(campaigns), '{}') end;
begin
    if part not in ('all', 'site', 'partner', 'campaign', 'creative', 'placement', 'publisher', 'device_class', 'country', 'region', 'day', 'hour') then
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
              from avtryck.hit_day
              cross join lateral generate_series(avtryck.day_start(hit_day.day), avtryck.day_start(hit_day.day + 1) - interval '1 hour',
                                                 interval '1 hour') as hour
              cross join lateral avtryck.ad_each_of(hour, hour + interval '1 hour') as shown
              where hit_day.day between first and last and shown.subject is not null
                and (ads is null or shown.ad_key = any(ads))
              group by 1, 2) as each
        group by each.hour order by each.hour;
        return;
    end if;
    if reach.part in ('device_class', 'country', 'region') then
        return query
        select each.value, count(*), sum(each.times)::bigint, round(sum(each.times) / count(*), 2)
        from (select case reach.part when 'device_class' then seen.device_class when 'country' then seen.country
                     else seen.region end as value, subject, sum(seen.impressions) as times
              from avtryck.seen(first, last, ads) as seen group by 1, 2) as each
        group by 1 order by 2 desc, 1;
        return;
    end if;
    return query
    select each.value, count(*), sum(each.times)::bigint, round(sum(each.times) / count(*), 2)
    from (select case reach.part when 'site' then site.site when 'partner' then ad.partner when 'campaign' then ad.campaign
                 when 'creative' then ad.creative when 'placement' then ad.placement when 'publisher' then ad.publisher
                 when 'day' then hit_day.day::text end as value, subject, sum(shown.impressions) as times
          from avtryck.hit_day
          cross join lateral avtryck.ad_subject(avtryck.day_start(hit_day.day), avtryck.day_start(hit_day.day + 1), ads) as shown
          left join avtryck.site on site.key = shown.site_key
          left join avtryck.ad on ad.key = shown.ad_key
          where hit_day.day between first and last
          group by 1, 2) as each
    group by 1 order by 2 desc, 1;
end $$;

create or replace function avtryck.build_report_span(since timestamptz, until timestamptz) returns void language plpgsql as $$
declare
    of_day date := (since at time zone 'UTC')::date;
    begins timestamptz := avtryck.day_start((since at time zone 'UTC')::date);
    whole timestamptz := avtryck.day_start((since at time zone 'UTC')::date + 1);
    first_gap timestamptz;
begin
    insert into avtryck.report_span values (since, until);
    perform avtryck.build_ad_hour(since, until);
    perform avtryck.build_ad_day(since, until);
    -- Conversions are known up to the first gap. Where that is marked meanwhile, they go with the mark.
    select min(gap.begins) into first_gap from avtryck.report_gap(begins, whole) as gap;
    perform avtryck.build_conversions(of_day, coalesce(first_gap, whole));
    -- What is summed up of the last day is behind by an hour at most: it takes as long whatever it adds. Days before it,
    -- which an upgrade rolls up, are stored soon.
    if not exists (select from avtryck.report_span where report_span.begins >= whole)
       and first_gap >= interval '1 hour' + coalesce((select known from avtryck.ad_sum_day where day = of_day), begins) then
        perform avtryck.build_ad_sum(of_day, first_gap);
    end if;
end $$;
