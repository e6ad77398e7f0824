-- A site may name its time zone, and its days in reports are days there. Hits are rolled up without days: the spans of
-- roll-ups are cut where a day of any site begins, so that the day of each is made of whole ones.

create table avtryck.site_zone (
    site text primary key,
    time_zone text not null
);
comment on table avtryck.site_zone is 'The sites whose days are days of a time zone, as the configuration says (time_zone). All others have UTC days.';
comment on column avtryck.site_zone.site is 'As site.site.';
comment on column avtryck.site_zone.time_zone is 'A name of the IANA, such as Europe/Stockholm.';

-- Where the clocks go back at midnight, Postgres takes the second of the two.
create function avtryck.zone_start(day date, time_zone text) returns timestamptz language sql immutable strict parallel safe
begin atomic
    select coalesce(
        (select min(earlier) from unnest(array[begins - interval '1 hour', begins - interval '30 minutes']) as earlier
         where (earlier at time zone 'UTC' at time zone time_zone)::date = day) at time zone 'UTC',
        begins at time zone 'UTC')
    from (select day::timestamp at time zone time_zone at time zone 'UTC' as begins) as of;
end;
comment on function avtryck.zone_start is 'When a day begins in a time zone: its first moment there. All that is said of days of sites goes by it.';

-- Hits whose site is unknown have key 0, which no row of site has: they count in UTC days.
create view avtryck.site_in_zone as
select site.key, site.site, coalesce(site_zone.time_zone, 'UTC') as time_zone
from avtryck.site left join avtryck.site_zone on site_zone.site = site.site
union all
select 0, null, 'UTC' where not exists (select from avtryck.site where site.key = 0);
comment on view avtryck.site_in_zone is 'The sites, each with the time zone of its days; and key 0, which hits have whose site is unknown.';
comment on column avtryck.site_in_zone.key is 'As site.key; 0 where the site is unknown.';
comment on column avtryck.site_in_zone.site is 'As site.site; null where it is unknown.';
comment on column avtryck.site_in_zone.time_zone is 'UTC, or what site_zone says.';

create view avtryck.site_day as
select day from avtryck.hit_day
union
select hit_day.day + shift from avtryck.hit_day cross join (values (-1), (1)) as around (shift)
where exists (select from avtryck.site_zone);
comment on view avtryck.site_day is 'The days of sites that may have hits. A day of another time zone than UTC lies in two partitions of hit.';
comment on column avtryck.site_day.day is 'The day.';

-- In SQL it would become a part of queries that ask it, and when days begin would be computed for each hit.
create function avtryck.zone_day(day date) returns table (time_zone text, begins timestamptz, ends timestamptz)
language plpgsql stable parallel safe rows 1 as $$
#variable_conflict use_column
begin
    return query
    select zone.time_zone, avtryck.zone_start(zone_day.day, zone.time_zone), avtryck.zone_start(zone_day.day + 1, zone.time_zone)
    from (select distinct site_in_zone.time_zone from avtryck.site_in_zone) as zone;
end $$;
comment on function avtryck.zone_day is 'When a day begins and ends in each time zone that sites have.';

create function avtryck.zone_day_at(at timestamptz) returns table (day date, time_zone text, begins timestamptz, ends timestamptz)
language sql stable parallel safe
begin atomic
    select each.day, own.time_zone, own.begins, own.ends
    from generate_series(-1, 1) as shift
    cross join lateral (select (zone_day_at.at at time zone 'UTC')::date + shift) as each (day)
    cross join lateral avtryck.zone_day(each.day) as own
    where zone_day_at.at >= own.begins and zone_day_at.at < own.ends;
end;
comment on function avtryck.zone_day_at is 'Which day a time lies in, in each time zone that sites have.';

create function avtryck.day_range(day date) returns table (begins timestamptz, ends timestamptz) language sql stable parallel safe
begin atomic
    select least(avtryck.day_start(day_range.day), min(avtryck.zone_start(day_range.day, site_zone.time_zone))),
           greatest(avtryck.day_start(day_range.day + 1), max(avtryck.zone_start(day_range.day + 1, site_zone.time_zone)))
    from avtryck.site_zone;
end;
comment on function avtryck.day_range is 'From where a day begins first to where it ends last, in UTC and the time zones of sites.';

create function avtryck.day_slack() returns integer language sql stable parallel safe
begin atomic
    select case when exists (select from avtryck.site_zone) then 1 else 0 end;
end;
comment on function avtryck.day_slack is 'How many UTC days before and after its own a day of a site may reach into.';

create function avtryck.next_cut(at timestamptz) returns timestamptz language sql stable parallel safe
begin atomic
    select min(cut.begins)
    from avtryck.site_zone
    cross join generate_series(-1, 2) as shift
    cross join lateral avtryck.zone_start((next_cut.at at time zone 'UTC')::date + shift, site_zone.time_zone) as cut (begins)
    where cut.begins > next_cut.at;
end;
comment on function avtryck.next_cut is 'When a day of a site begins next that is not a UTC day. No span reaches beyond it.';

-- Marks are of ten minutes, and a day may begin at a quarter of an hour.
create function avtryck.is_marked(begins timestamptz, ends timestamptz) returns boolean language sql stable parallel safe
begin atomic
    select exists (select from avtryck.report_mark where at > is_marked.begins - interval '10 minutes' and at < is_marked.ends);
end;
comment on function avtryck.is_marked is 'Whether hits of a time have changed since it was rolled up.';

create or replace view avtryck.report_clean as
select begins, ends from avtryck.report_span
where not exists (select from avtryck.report_mark where at > begins - interval '10 minutes' and at < ends);

-- A span that reaches out of a day counts for nothing: the rules of a time zone, or the zone of a site, may have changed.
create or replace function avtryck.report_gap(since timestamptz, until timestamptz)
returns table (begins timestamptz, ends timestamptz) language sql stable parallel safe
begin atomic
    select gap_begins, gap_ends
    from (select coalesce(lag(clean.ends) over (order by clean.begins), since) as gap_begins, clean.begins as gap_ends
          from (select report_clean.begins, report_clean.ends from avtryck.report_clean
                where report_clean.begins >= since and report_clean.begins < until and report_clean.ends <= until
                union all
                select until, until) as clean) as gap
    where gap_begins < gap_ends;
end;

create function avtryck.ad_hour_part(since timestamptz, until timestamptz, own_zone text)
returns table (hour timestamptz, site_key bigint, ad_key bigint, act text, faults integer, hits bigint, unmeasured bigint)
language sql stable parallel safe
begin atomic
    select date_trunc('day', ad_hour.span, 'UTC') + part.hour * interval '1 hour', ad_hour.site_key, ad_hour.ad_key,
           (avtryck.ad_acts())[part.act], part.faults, part.hits::bigint, coalesce(part.unmeasured, 0)::bigint
    from avtryck.report_clean join avtryck.ad_hour on ad_hour.span = report_clean.begins
    cross join lateral unnest(ad_hour.hours, ad_hour.acts, ad_hour.faults, ad_hour.hits, ad_hour.unmeasured)
        as part (hour, act, faults, hits, unmeasured)
    where report_clean.begins >= since and report_clean.begins < until and report_clean.ends <= until
      and (own_zone is null or ad_hour.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone))
    union all
    select fresh.* from avtryck.report_gap(since, until) as gap cross join lateral avtryck.ad_hour_of(gap.begins, gap.ends) as fresh
    where own_zone is null or fresh.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone);
end;
comment on function avtryck.ad_hour_part(timestamptz, timestamptz, text) is 'What there is of a time, of the sites of a time zone (of all, where it is null): of roll-ups where they agree with the hits, else of the hits. Rows of the same are to be added up.';

create function avtryck.ad_cell(since timestamptz, until timestamptz, own_zone text)
returns table (
    site_key bigint, ad_key bigint, device_class text, country text, region text,
    gross_impressions bigint, net_impressions bigint, gross_clicks bigint, net_clicks bigint,
    unmeasured_impressions bigint, unmeasured_clicks bigint
) language sql stable parallel safe
begin atomic
    select ad_day.site_key, ad_day.ad_key, audience.device_class, audience.country, audience.region,
           cell.gross_impressions::bigint, cell.net_impressions::bigint, cell.gross_clicks::bigint, cell.net_clicks::bigint, 0::bigint, 0::bigint
    from avtryck.report_clean join avtryck.ad_day on ad_day.span = report_clean.begins
    cross join lateral unnest(ad_day.audiences, ad_day.gross_impressions, ad_day.net_impressions, ad_day.gross_clicks, ad_day.net_clicks)
        as cell (audience, gross_impressions, net_impressions, gross_clicks, net_clicks)
    join avtryck.audience on audience.key = cell.audience
    where report_clean.begins >= since and report_clean.begins < until and report_clean.ends <= until
      and (own_zone is null or ad_day.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone))
    union all
    select ad_day.site_key, ad_day.ad_key, null, null, null, 0, 0, 0, 0, ad_day.unmeasured_impressions, ad_day.unmeasured_clicks
    from avtryck.report_clean join avtryck.ad_day on ad_day.span = report_clean.begins
    where report_clean.begins >= since and report_clean.begins < until and report_clean.ends <= until
      and (ad_day.unmeasured_impressions > 0 or ad_day.unmeasured_clicks > 0)
      and (own_zone is null or ad_day.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone))
    union all
    select fresh.site_key, fresh.ad_key, fresh.device_class, fresh.country, fresh.region, sum(fresh.gross_impressions)::bigint,
           sum(fresh.net_impressions)::bigint, sum(fresh.gross_clicks)::bigint, sum(fresh.net_clicks)::bigint,
           sum(fresh.unmeasured_impressions)::bigint, sum(fresh.unmeasured_clicks)::bigint
    from avtryck.report_gap(since, until) as gap cross join lateral avtryck.ad_each_of(gap.begins, gap.ends) as fresh
    where own_zone is null or fresh.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone)
    group by 1, 2, 3, 4, 5;
end;
comment on function avtryck.ad_cell(timestamptz, timestamptz, text) is 'Impressions and clicks of a time by site, ad, device class and region, of the sites of a time zone (of all, where it is null): of roll-ups where they agree with the hits, else of the hits. Rows of the same are to be added up.';

create function avtryck.ad_seen(since timestamptz, until timestamptz, own_zone text, ads bigint[])
returns table (
    site_key bigint, ad_key bigint, audience bigint, device_class text, country text, region text, subject bigint, impressions integer
) language sql stable parallel safe
begin atomic
    select shown.site_key, shown.ad_key, shown.audience, audience.device_class, audience.country, audience.region, shown.subject,
           coalesce(shown.impressions, 1)
    from (select ad_day.site_key, ad_day.ad_key, unnest(ad_day.subjects) as subject, unnest(ad_day.subject_audiences) as audience,
                 unnest(ad_day.impressions) as impressions
          from avtryck.report_clean join avtryck.ad_day on ad_day.span = report_clean.begins
          where report_clean.begins >= since and report_clean.begins < until and report_clean.ends <= until
            and (ads is null or ad_day.ad_key = any(ads))
            and (own_zone is null or ad_day.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone))) as shown
    left join avtryck.audience on audience.key = shown.audience
    union all
    select fresh.site_key, fresh.ad_key, avtryck.audience_key(fresh.device_class, fresh.country, fresh.region), fresh.device_class,
           fresh.country, fresh.region, fresh.subject, least(fresh.net_impressions, 2147483647)::integer
    from avtryck.report_gap(since, until) as gap cross join lateral avtryck.ad_each_of(gap.begins, gap.ends) as fresh
    where fresh.subject is not null and (ads is null or fresh.ad_key = any(ads))
      and (own_zone is null or fresh.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone));
end;
comment on function avtryck.ad_seen(timestamptz, timestamptz, text, bigint[]) is 'Who had valid impressions of ads (of all, where they are null) in a time on the sites of a time zone, as ad_cell has its figures. A subject may be in several rows.';

create function avtryck.ad_subject(since timestamptz, until timestamptz, own_zone text, ads bigint[])
returns table (site_key bigint, ad_key bigint, subject bigint, impressions integer) language sql stable parallel safe
begin atomic
    select shown.site_key, shown.ad_key, shown.subject, coalesce(shown.impressions, 1)
    from (select ad_day.site_key, ad_day.ad_key, unnest(ad_day.subjects) as subject, unnest(ad_day.impressions) as impressions
          from avtryck.report_clean join avtryck.ad_day on ad_day.span = report_clean.begins
          where report_clean.begins >= since and report_clean.begins < until and report_clean.ends <= until
            and (ads is null or ad_day.ad_key = any(ads))
            and (own_zone is null or ad_day.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone))) as shown
    union all
    select fresh.site_key, fresh.ad_key, fresh.subject, least(fresh.net_impressions, 2147483647)::integer
    from avtryck.report_gap(since, until) as gap cross join lateral avtryck.ad_each_of(gap.begins, gap.ends) as fresh
    where fresh.subject is not null and (ads is null or fresh.ad_key = any(ads))
      and (own_zone is null or fresh.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone));
end;
comment on function avtryck.ad_subject(timestamptz, timestamptz, text, bigint[]) is 'What ad_seen has, without device classes and regions.';

create or replace view avtryck.ad_hour_detail as
select site_day.day, part.hour, site.site, ad.partner, ad.campaign, ad.creative, ad.placement, ad.publisher, part.act,
       avtryck.flag_names(part.faults) as faults, part.hits as gross, case when part.faults = 0 then part.hits else 0 end as net,
       part.unmeasured
from avtryck.site_day
cross join lateral avtryck.zone_day(site_day.day) as own
cross join lateral avtryck.ad_hour_part(own.begins, own.ends, own.time_zone) as part
left join avtryck.site on site.key = part.site_key
left join avtryck.ad on ad.key = part.ad_key;

create or replace view avtryck.ad_day_detail as
select site_day.day, site.site, ad.partner, ad.campaign, ad.creative, ad.placement, ad.publisher, part.device_class,
       part.country, part.region, part.gross_impressions, part.net_impressions, part.gross_clicks, part.net_clicks,
       part.unmeasured_impressions, part.unmeasured_clicks, part.subjects, part.impressions
from avtryck.site_day
cross join lateral avtryck.zone_day(site_day.day) as own
cross join lateral (
    select site_key, ad_key, device_class, country, region, sum(gross_impressions)::bigint as gross_impressions,
           sum(net_impressions)::bigint as net_impressions, sum(gross_clicks)::bigint as gross_clicks,
           sum(net_clicks)::bigint as net_clicks, sum(unmeasured_impressions)::bigint as unmeasured_impressions,
           sum(unmeasured_clicks)::bigint as unmeasured_clicks, null::bigint[] as subjects, null::integer[] as impressions
    from avtryck.ad_cell(own.begins, own.ends, own.time_zone)
    group by 1, 2, 3, 4, 5
    union all
    select site_key, ad_key, device_class, country, region, 0, 0, 0, 0, 0, 0, array_agg(subject), array_agg(impressions)
    from avtryck.ad_seen(own.begins, own.ends, own.time_zone, null)
    group by 1, 2, 3, 4, 5
) as part
left join avtryck.site on site.key = part.site_key
left join avtryck.ad on ad.key = part.ad_key;

create or replace function avtryck.seen(first date, last date, ads bigint[])
returns table (
    site text, partner text, campaign text, creative text, placement text, publisher text,
    device_class text, country text, region text, day date, subject bigint, impressions integer
) language sql stable parallel safe
begin atomic
    select site.site, ad.partner, ad.campaign, ad.creative, ad.placement, ad.publisher, shown.device_class, shown.country,
           shown.region, site_day.day, shown.subject, shown.impressions
    from avtryck.site_day
    cross join lateral avtryck.zone_day(site_day.day) as own
    cross join lateral avtryck.ad_seen(own.begins, own.ends, own.time_zone, ads) as shown
    left join avtryck.site on site.key = shown.site_key
    left join avtryck.ad on ad.key = shown.ad_key
    where site_day.day between first and last;
end;

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
          from avtryck.site_day
          cross join lateral avtryck.zone_day(site_day.day) as own
          cross join lateral avtryck.ad_subject(own.begins, own.ends, own.time_zone, ads) as shown
          where site_day.day between first and last
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
                 when 'day' then site_day.day::text end as value, subject, sum(shown.impressions) as times
          from avtryck.site_day
          cross join lateral avtryck.zone_day(site_day.day) as own
          cross join lateral avtryck.ad_subject(own.begins, own.ends, own.time_zone, ads) as shown
          left join avtryck.site on site.key = shown.site_key
          left join avtryck.ad on ad.key = shown.ad_key
          where site_day.day between first and last
          group by 1, 2) as each
    group by 1 order by 2 desc, 1;
end $$;

-- Sums of a day are kept for each time zone. Those of before are made again.
truncate avtryck.ad_sum, avtryck.ad_sum_day;
alter table avtryck.ad_sum add column time_zone text not null;
comment on column avtryck.ad_sum.time_zone is 'The time zone whose day it is, of the site.';
alter table avtryck.ad_sum_day add column time_zone text not null, drop constraint ad_sum_day_pkey, add primary key (day, time_zone);
comment on column avtryck.ad_sum_day.time_zone is 'The time zone whose day it is.';
comment on column avtryck.ad_sum.day is 'The day of the site.';
comment on column avtryck.ad_sum_day.day is 'The day of sites in the time zone.';

create function avtryck.ad_sum_of(day date, own_zone text, is_by_placement boolean, until timestamptz)
returns table (
    number bigint, site text, partner text, campaign text, publisher text, placement text, creative text,
    device_class text, country text, region text, gross_impressions bigint, net_impressions bigint, visitors bigint, shown bigint,
    gross_clicks bigint, net_clicks bigint, unmeasured_impressions bigint, unmeasured_clicks bigint
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan
-- The planner expects few subjects, and would sort what it could hash.
set enable_nestloop = off set enable_mergejoin = off set work_mem = '64MB' as $$
#variable_conflict use_column
declare
    opens timestamptz := avtryck.zone_start(day, own_zone);
    known timestamptz := coalesce(
        (select ad_sum_day.known from avtryck.ad_sum_day
         where ad_sum_day.day = ad_sum_of.day and ad_sum_day.time_zone = own_zone
           and not avtryck.is_marked(opens, ad_sum_day.known)), opens);
begin
    return query
    with own_site as materialized (
        select key, site.site, coalesce(hashtextextended(site.site, 0), 0) as number from avtryck.site_in_zone as site where time_zone = own_zone
    ),
    own_ad as materialized (
        select key, partner, campaign, case when ad_sum_of.is_by_placement then publisher end as publisher,
               case when ad_sum_of.is_by_placement then placement end as placement,
               case when ad_sum_of.is_by_placement then creative end as creative,
               hash_record_extended(case when ad_sum_of.is_by_placement then row(partner, campaign, publisher, placement, creative)
                                         else row(partner, campaign, null::text, null::text, null::text) end, 0) as number
        from avtryck.ad
        union all
        select null, null, null, null, null, null,
               hash_record_extended(row(null::text, null::text, null::text, null::text, null::text), 0)
    ),
    -- Few subjects are new since.
    seen as materialized (
        select own_site.number # own_ad.number # case when ad_sum_of.is_by_placement then 0 else audience end as number,
               subject, sum(impressions) as shown
        from avtryck.ad_seen(known, until, own_zone, null) as each
        join own_site on own_site.key = each.site_key
        join own_ad on coalesce(own_ad.key, 0) = coalesce(each.ad_key, 0) and (own_ad.key is null) = (each.ad_key is null)
        group by 1, 2
    ),
    -- All of it is rolled up, or it would not be known. A row of ad_day is named before its subjects are taken apart.
    before as (
        select distinct number, subject
        from (select base # case when ad_sum_of.is_by_placement then 0 else audience end as number, subject
              from (select own_site.number # own_ad.number as base, unnest(ad_day.subjects) as subject,
                           unnest(ad_day.subject_audiences) as audience
                    from avtryck.report_clean join avtryck.ad_day on ad_day.span = report_clean.begins
                    join own_site on own_site.key = ad_day.site_key
                    join own_ad on coalesce(own_ad.key, 0) = coalesce(ad_day.ad_key, 0) and (own_ad.key is null) = (ad_day.ad_key is null)
                    where report_clean.begins >= opens and report_clean.ends <= known) as each) as each
        where opens < known and (number, subject) in (select number, subject from seen)
    ),
    part as (
        select ad_sum.number, ad_sum.site, ad_sum.partner, ad_sum.campaign, ad_sum.publisher, ad_sum.placement, ad_sum.creative,
               ad_sum.device_class, ad_sum.country, ad_sum.region, ad_sum.gross_impressions, ad_sum.net_impressions,
               ad_sum.visitors, ad_sum.shown::numeric, ad_sum.gross_clicks, ad_sum.net_clicks, ad_sum.unmeasured_impressions,
               ad_sum.unmeasured_clicks
        from avtryck.ad_sum
        where opens < known and ad_sum.day = ad_sum_of.day and ad_sum.time_zone = own_zone and ad_sum.is_by_placement = ad_sum_of.is_by_placement
        union all
        select own_site.number # own_ad.number # case when ad_sum_of.is_by_placement then 0
                                                      else avtryck.audience_key(cell.device_class, cell.country, cell.region) end,
               own_site.site, own_ad.partner, own_ad.campaign, own_ad.publisher, own_ad.placement, own_ad.creative,
               cell.device_class, cell.country, cell.region, gross_impressions, net_impressions, 0, 0, gross_clicks, net_clicks,
               unmeasured_impressions, unmeasured_clicks
        from (select site_key, ad_key, case when not ad_sum_of.is_by_placement then device_class end as device_class,
                     case when not ad_sum_of.is_by_placement then country end as country,
                     case when not ad_sum_of.is_by_placement then region end as region,
                     sum(gross_impressions)::bigint as gross_impressions, sum(net_impressions)::bigint as net_impressions,
                     sum(gross_clicks)::bigint as gross_clicks, sum(net_clicks)::bigint as net_clicks,
                     sum(unmeasured_impressions)::bigint as unmeasured_impressions, sum(unmeasured_clicks)::bigint as unmeasured_clicks
              from avtryck.ad_cell(known, until, own_zone) group by 1, 2, 3, 4, 5) as cell
        join own_site on own_site.key = cell.site_key
        join own_ad on coalesce(own_ad.key, 0) = coalesce(cell.ad_key, 0) and (own_ad.key is null) = (cell.ad_key is null)
        union all
        select seen.number, null, null, null, null, null, null, null, null, null, 0, 0, count(*), sum(seen.shown), 0, 0, 0, 0
        from seen group by 1
        union all
        select before.number, null, null, null, null, null, null, null, null, null, 0, 0, -count(*), 0, 0, 0, 0, 0
        from before group by 1
    )
    select part.number, max(part.site), max(part.partner), max(part.campaign), max(part.publisher), max(part.placement), max(part.creative),
           max(part.device_class), max(part.country), max(part.region), sum(part.gross_impressions)::bigint,
           sum(part.net_impressions)::bigint, sum(part.visitors)::bigint, sum(part.shown)::bigint, sum(part.gross_clicks)::bigint,
           sum(part.net_clicks)::bigint, sum(part.unmeasured_impressions)::bigint, sum(part.unmeasured_clicks)::bigint
    from part group by part.number;
end $$;
comment on function avtryck.ad_sum_of(date, text, boolean, timestamptz) is 'What campaign_daily or placement_daily counts of the impressions and clicks of a day until a time, of the sites of a time zone: the sums of ad_sum, and what came since.';

drop function avtryck.build_ad_sum(date, timestamptz);
create function avtryck.build_ad_sum(day date, own_zone text, until timestamptz) returns void language plpgsql as $$
begin
    with fresh as materialized (
        select ad_report.is_by_placement, sums.*
        from unnest(array[false, true]) as ad_report (is_by_placement)
        cross join lateral avtryck.ad_sum_of(build_ad_sum.day, own_zone, ad_report.is_by_placement, until) as sums
    )
    insert into avtryck.ad_sum as kept
    select build_ad_sum.day, fresh.*, own_zone from fresh
    on conflict on constraint ad_sum_pkey do update set
        gross_impressions = excluded.gross_impressions, net_impressions = excluded.net_impressions, visitors = excluded.visitors,
        shown = excluded.shown, gross_clicks = excluded.gross_clicks, net_clicks = excluded.net_clicks,
        unmeasured_impressions = excluded.unmeasured_impressions, unmeasured_clicks = excluded.unmeasured_clicks
    where kept.* is distinct from excluded.*;
    insert into avtryck.ad_sum_day (day, time_zone, known) values (build_ad_sum.day, own_zone, until)
    on conflict on constraint ad_sum_day_pkey do update set known = excluded.known;
end $$;
comment on function avtryck.build_ad_sum is 'Brings ad_sum up to a time of a day, of the sites of a time zone.';

-- Conversions are looked up by UTC day, as what may count of them is limited by it. Each is of the day that it has at its site.

create function avtryck.utc_days(day date) returns setof date language sql stable parallel safe
begin atomic
    select each.day::date
    from (select min(begins) as begins, max(ends) as ends from avtryck.zone_day(utc_days.day)) as own
    cross join lateral generate_series((own.begins at time zone 'UTC')::date::timestamp,
                                       ((own.ends - interval '1 us') at time zone 'UTC')::date::timestamp, interval '1 day') as each (day);
end;
comment on function avtryck.utc_days is 'The UTC days that a day of sites lies in.';

create function avtryck.conversion_in(day date, within interval)
returns table (
    converted_at timestamptz, hit_id uuid, event_id text, params jsonb, visitor_id uuid, site_key bigint, ad_key bigint,
    linked_by text, click_id text, click_hit_id uuid, clicked_at timestamptz, is_net boolean,
    impression_hit_id uuid, seen_at timestamptz, seen_ad_key bigint, exposure_number integer, is_seen_valid boolean
) language sql stable parallel safe
begin atomic
    select path.*
    from avtryck.utc_days(conversion_in.day) as utc (day)
    cross join lateral avtryck.conversion_all_of(utc.day, within) as path
    join avtryck.site_in_zone as site on site.key = path.site_key
    join avtryck.zone_day(conversion_in.day) as own
      on own.time_zone = site.time_zone and path.converted_at >= own.begins and path.converted_at < own.ends;
end;
comment on function avtryck.conversion_in is 'What conversion_all_of has, of a day of sites.';

create or replace function avtryck.conversion_path_of(day date, within interval)
returns table (
    converted_at timestamptz, hit_id uuid, site text, event_id text, params jsonb, visitor_id uuid, is_valid boolean,
    linked_by text, partner text, campaign text, creative text, placement text, publisher text,
    click_id text, click_hit_id uuid, clicked_at timestamptz,
    impression_hit_id uuid, seen_at timestamptz, exposure_number integer
) language plpgsql stable parallel safe as $$
#variable_conflict use_column
begin
    return query
    select path.converted_at, path.hit_id, site.site, path.event_id, path.params, path.visitor_id, path.is_net,
           coalesce(path.linked_by, 'impression'), ad.partner, ad.campaign, ad.creative, ad.placement, ad.publisher,
           path.click_id, path.click_hit_id, path.clicked_at, path.impression_hit_id, path.seen_at, path.exposure_number
    from avtryck.conversion_in(day, within) as path
    left join avtryck.ad as led on led.key = path.ad_key
    left join avtryck.ad on ad.key = coalesce(led.key, path.seen_ad_key)
    left join avtryck.site on site.key = path.site_key;
end $$;

create or replace function avtryck.conversion_path(within interval)
returns table (
    day date, converted_at timestamptz, hit_id uuid, site text, event_id text, params jsonb, visitor_id uuid,
    is_valid boolean, linked_by text, partner text, campaign text, creative text, placement text, publisher text,
    click_id text, click_hit_id uuid, clicked_at timestamptz,
    impression_hit_id uuid, seen_at timestamptz, exposure_number integer
) language sql stable parallel safe
begin atomic
    select site_day.day, path.* from avtryck.site_day
    cross join lateral avtryck.conversion_path_of(site_day.day, within) as path;
end;

create or replace function avtryck.conversions_through_of(day date, after_click interval, after_view interval)
returns table (
    campaign text, creative text, placement text, through text, event_id text, later interval, value numeric, currency text
) language plpgsql stable parallel safe security definer as $$
#variable_conflict use_column
begin
    return query
    select ad.campaign, ad.creative, ad.placement, case when is_click then 'click' else 'view' end, path.event_id,
           path.converted_at - case when is_click then path.clicked_at else path.seen_at end,
           case when avtryck.number_of(path.params ->> 'value') between -1e15 and 1e15
                then avtryck.number_of(path.params ->> 'value')::numeric end,
           upper(path.params ->> 'currency')
    from avtryck.conversion_in(conversions_through_of.day, greatest(after_click, after_view)) as path
    cross join lateral (select coalesce(path.linked_by in ('click_id', 'visitor'), false)) as of (is_click)
    left join avtryck.ad as led on led.key = path.ad_key
    left join avtryck.ad on ad.key = coalesce(led.key, path.seen_ad_key)
    where path.is_net
      and case when is_click then path.clicked_at >= path.converted_at - after_click
               else path.visitor_id is not null and path.seen_at >= path.converted_at - after_view and path.is_seen_valid end;
end $$;

create or replace function avtryck.conversions_through(after_click interval, after_view interval)
returns table (
    day date, campaign text, creative text, placement text, through text, event_id text, later interval, value numeric, currency text
) language sql stable parallel safe
begin atomic
    select site_day.day, of_day.* from avtryck.site_day
    cross join lateral avtryck.conversions_through_of(site_day.day, after_click, after_view) as of_day;
end;

create function avtryck.conversion_counted(day date)
returns table (converted_at timestamptz, site_key bigint, ad_key bigint, device_key bigint, place_key bigint, is_net boolean)
language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    begins timestamptz := avtryck.day_start(day);
    ends timestamptz := avtryck.day_start(day + 1);
    since timestamptz := begins - interval '30 days';
    known timestamptz := avtryck.conversion_known(day);
begin
    return query
    select received_at, site_key, ad_key, device_key, place_key, is_net
    from avtryck.conversion_link where received_at >= begins and received_at < known and linked_by is not null;
    if exists (select from avtryck.hit where hit.received_at >= known and hit.received_at < ends
               and hit.kind in (2, 5) and hit.event_name = 'conversion') then
        return query
        select converted_at, site_key, ad_key, device_key, place_key, is_net
        from avtryck.conversion_after(begins, known, ends, since, interval '30 days') where linked_by is not null;
    end if;
end $$;
comment on function avtryck.conversion_counted is 'The conversions of a UTC day that a click or their sender ascribes to an ad: those of conversion_link, and what came since.';

create or replace function avtryck.ad_report_of(day date, is_by_placement boolean)
returns table (
    site text, partner text, campaign text, publisher text, placement text, creative text, device_class text, country text, region text,
    gross_impressions bigint, net_impressions bigint, visitors bigint, shown bigint, gross_clicks bigint, net_clicks bigint,
    gross_conversions bigint, net_conversions bigint, unmeasured_impressions bigint, unmeasured_clicks bigint
) language sql stable parallel safe
begin atomic
    select sums.site, sums.partner, sums.campaign, sums.publisher, sums.placement, sums.creative, sums.device_class, sums.country,
           sums.region, sums.gross_impressions, sums.net_impressions, sums.visitors, sums.shown, sums.gross_clicks, sums.net_clicks,
           0::bigint, 0::bigint, sums.unmeasured_impressions, sums.unmeasured_clicks
    from avtryck.zone_day(ad_report_of.day) as own
    cross join lateral avtryck.ad_sum_of(ad_report_of.day, own.time_zone, is_by_placement, own.ends) as sums
    union all
    select site.site, ad.partner, ad.campaign, case when is_by_placement then ad.publisher end,
           case when is_by_placement then ad.placement end, case when is_by_placement then ad.creative end,
           case when not is_by_placement then device.class end, case when not is_by_placement then place.country end,
           case when not is_by_placement then place.region end, 0, 0, 0, null, 0, 0,
           count(*), count(*) filter (where is_net), 0, 0
    from avtryck.utc_days(ad_report_of.day) as utc (day)
    cross join lateral avtryck.conversion_counted(utc.day) as conversion
    join avtryck.site_in_zone as site on site.key = conversion.site_key
    join avtryck.zone_day(ad_report_of.day) as own
      on own.time_zone = site.time_zone and conversion.converted_at >= own.begins and conversion.converted_at < own.ends
    left join avtryck.ad on ad.key = conversion.ad_key
    left join avtryck.device on device.key = conversion.device_key
    left join avtryck.place on place.key = conversion.place_key
    group by 1, 2, 3, 4, 5, 6, 7, 8, 9;
end;

drop function avtryck.ad_sum_of(date, boolean, timestamptz);
drop function avtryck.conversion_of(date);
drop function avtryck.ad_hour_part(timestamptz, timestamptz);
drop function avtryck.ad_cell(timestamptz, timestamptz);
drop function avtryck.ad_seen(timestamptz, timestamptz, bigint[]);
drop function avtryck.ad_subject(timestamptz, timestamptz, bigint[]);

-- Its times are constants to the planner, so that it leaves other days alone.
create function avtryck.conversion_quality(day date)
returns table (
    converted_at timestamptz, flags integer, site_key bigint, ad_key bigint, network_key bigint, linked_by text, is_net boolean
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    opens timestamptz := avtryck.day_start(day);
    closes timestamptz := avtryck.day_start(day + 1);
    since timestamptz := avtryck.day_start(day - 30);
begin
    return query
    select converted_at, flags, site_key, ad_key, network_key, linked_by, is_net
    from avtryck.conversion(opens, closes, since, interval '30 days');
end $$;
comment on function avtryck.conversion_quality is 'What campaign_quality counts of the conversions of a UTC day.';

create or replace function avtryck.quality_live(day date)
returns table (
    site text, partner text, campaign text, kind text, net_hits bigint,
    new_visitor_share numeric, top_network_share numeric, top_network text
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    first timestamptz;
    last timestamptz;
begin
    select min(own.begins), max(own.ends) into first, last from avtryck.zone_day(quality_live.day) as own;
    return query
    select each.site, each.partner, each.campaign, each.kind, sum(each.hits)::bigint,
           round(sum(each.new_hits) / sum(each.hits), 4),
           round(max(each.hits) filter (where each.network is not null) / sum(each.hits), 4),
           (array_agg(each.network order by each.hits desc, each.network) filter (where each.network is not null))[1]
    from (
        select site.site, ad.partner, ad.campaign, event.kind, coalesce(network.name, 'AS' || network.asn) as network,
               sum(event.hits) as hits, sum(event.new_hits) as new_hits
        from (
            select hit.site_key, hit.ad_key, hit.network_key,
                   case when hit.kind = 3 or hit.kind = 5 and hit.event_name = 'impression' then 'impression' else 'click' end as kind,
                   count(*) as hits, count(*) filter (where hit.flags & 16 <> 0) as new_hits
            from avtryck.hit
            join avtryck.site_in_zone as site on site.key = hit.site_key
            join avtryck.zone_day(quality_live.day) as own
              on own.time_zone = site.time_zone and hit.received_at >= own.begins and hit.received_at < own.ends
            where hit.received_at >= first and hit.received_at < last and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
              and (hit.kind in (3, 4) or hit.kind = 5 and hit.event_name in ('impression', 'click'))
            group by 1, 2, 3, 4
            union all
            select conversion.site_key, conversion.ad_key, conversion.network_key, 'conversion', count(*),
                   count(*) filter (where conversion.flags & 16 <> 0)
            from avtryck.utc_days(quality_live.day) as utc (day)
            cross join lateral avtryck.conversion_quality(utc.day) as conversion
            join avtryck.site_in_zone as site on site.key = conversion.site_key
            join avtryck.zone_day(quality_live.day) as own
              on own.time_zone = site.time_zone and conversion.converted_at >= own.begins and conversion.converted_at < own.ends
            where conversion.linked_by is not null and conversion.is_net
            group by 1, 2, 3
        ) as event
        left join avtryck.site on site.key = event.site_key
        left join avtryck.ad on ad.key = event.ad_key
        left join avtryck.network on network.key = event.network_key
        group by 1, 2, 3, 4, 5
    ) as each
    group by 1, 2, 3, 4;
end $$;

do $$
declare
    report record;
begin
    for report in
        select * from (values
            ('campaign_daily', 'campaign_of'), ('placement_daily', 'placement_of'), ('campaign_quality', 'quality_of'),
            ('web_daily', 'web_of'), ('web_page_daily', 'web_page_of'), ('web_event_daily', 'web_event_of'),
            ('web_search_daily', 'web_search_of'), ('web_session', 'web_session_of')) as name (shown, chosen)
    loop
        execute format('create or replace view avtryck.%I as select site_day.day, report.* from avtryck.site_day '
                       'cross join lateral avtryck.%I(site_day.day) as report', report.shown, report.chosen);
    end loop;
end $$;

create or replace function avtryck.funnel(first date, last date, steps text[], within interval)
returns table (step integer, name text, subjects bigint, share numeric) language plpgsql stable parallel safe security definer
set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    opens timestamptz := (select min(own.begins) from avtryck.zone_day(first) as own);
    closes timestamptz := (select max(own.ends) from avtryck.zone_day(last) as own);
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
        join avtryck.site_in_zone as site on site.key = hit.site_key
        join avtryck.zone_day(first) as opening on opening.time_zone = site.time_zone and hit.received_at >= opening.begins
        join avtryck.zone_day(last) as closing on closing.time_zone = site.time_zone and hit.received_at < closing.ends
        where hit.received_at >= opens and hit.received_at < closes and hit.visitor_id is not null
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
create or replace function avtryck.attribution(first date, last date, model text, within interval)
returns table (partner text, campaign text, creative text, placement text, conversions numeric, value numeric)
language plpgsql stable parallel safe security definer set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    since timestamptz := (select own.begins from avtryck.day_range(first) as own) - within;
    ends timestamptz := (select own.ends from avtryck.day_range(last) as own);
begin
    if model not in ('last_click', 'first_click', 'linear', 'position', 'time_decay') then
        raise 'attribution: % is none of last_click, first_click, linear, position, time_decay', model;
    end if;
    return query
    with conversion as materialized (
        select path.hit_id, coalesce(hit.occurred_at, path.converted_at) as at, path.visitor_id,
               case when avtryck.number_of(path.params ->> 'value') between -1e15 and 1e15
                    then avtryck.number_of(path.params ->> 'value')::numeric end as value
        from avtryck.site_day
        cross join lateral avtryck.conversion_path_of(site_day.day, within) as path
        join avtryck.hit on hit.visitor_id = path.visitor_id and hit.received_at = path.converted_at and hit.hit_id = path.hit_id
        where site_day.day between first and last and path.is_valid and path.visitor_id is not null
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

-- What keeps roll-ups up.

create or replace function avtryck.is_stored(day date) returns boolean language sql stable parallel safe
begin atomic
    select exists (select from avtryck.report_day where report_day.day = is_stored.day)
       and not exists (select from avtryck.day_range(is_stored.day) as own
                       join avtryck.report_mark on at < own.ends
                                               and at >= avtryck.day_start((own.begins at time zone 'UTC')::date - 30)
                       where moves_conversions or at > own.begins - interval '10 minutes');
end;

create function avtryck.forget_sums(spans timestamptz[]) returns void language plpgsql as $$
begin
    delete from avtryck.ad_sum_day
    where spans is null
       or exists (select from unnest(spans) as span where span < known and span >= avtryck.zone_start(ad_sum_day.day, time_zone));
    delete from avtryck.ad_sum
    where not exists (select from avtryck.ad_sum_day where ad_sum_day.day = ad_sum.day and ad_sum_day.time_zone = ad_sum.time_zone);
end $$;
comment on function avtryck.forget_sums is 'Deletes the sums of days that hits of spans are in; where that is null, all. Sums of a day are of all hits up to a time: those of spans after it are not in.';

create function avtryck.drop_sums(day date) returns void language plpgsql as $$
begin
    delete from avtryck.ad_sum where ad_sum.day = drop_sums.day;
    delete from avtryck.ad_sum_day where ad_sum_day.day = drop_sums.day;
end $$;
comment on function avtryck.drop_sums is 'Deletes the sums of a day whose reports are stored.';

create or replace function avtryck.forget_report_spans(spans timestamptz[]) returns void language plpgsql as $$
begin
    delete from avtryck.report_span where begins = any(spans);
    delete from avtryck.ad_hour where span = any(spans);
    delete from avtryck.ad_day where span = any(spans);
    perform avtryck.forget_sums(coalesce(spans, '{}'));
end $$;

create or replace function avtryck.forget_report_of(day date) returns void language plpgsql as $$
begin
    perform avtryck.forget_expired_day(forget_report_of.day);
    perform avtryck.forget_report_days(array(
        select report_day.day from avtryck.report_day
        where report_day.day between forget_report_of.day - avtryck.day_slack() and forget_report_of.day + 30 + avtryck.day_slack()));
end $$;

create or replace function avtryck.take_report_marks() returns bigint language plpgsql as $$
declare
    slots timestamptz[];
    moving timestamptz[];
    spans timestamptz[];
    slack integer := avtryck.day_slack();
begin
    perform avtryck.report_lock();
    -- Somebody may have dropped a partition by hand.
    perform avtryck.forget_expired_day(gone.day)
    from (select day
          from (select (begins at time zone 'UTC')::date as day from avtryck.report_span
                union select day from avtryck.conversion_day) as held
          where day not in (select day from avtryck.hit_day)
          union
          select day from avtryck.report_day where day not in (select day from avtryck.site_day)) as gone;
    with taken as (delete from avtryck.report_mark returning at, moves_conversions)
    select array_agg(distinct at), array_agg(distinct at) filter (where moves_conversions) into slots, moving from taken;
    if slots is null then
        return 0;
    end if;
    select array_agg(distinct begins) into spans
    from unnest(slots) as slot join avtryck.report_span on slot > begins - interval '10 minutes' and slot < ends;
    perform avtryck.forget_report_spans(spans);
    perform avtryck.forget_report_days(array(
        select distinct report_day.day
        from (select (slot at time zone 'UTC')::date as first, max(case when slot = any(moving) then 30 else 0 end) as days
              from unnest(slots) as slot group by 1) as changed
        join avtryck.report_day on report_day.day between changed.first - slack and changed.first + changed.days + slack));
    perform avtryck.forget_conversions(cut.day, cut.since)
    from (select kept.day, greatest(avtryck.day_start(kept.day), min(slot)) as since
          from avtryck.conversion_day as kept
          join unnest(moving) as slot on slot >= avtryck.day_start(kept.day - 30) and slot < kept.known
          group by kept.day) as cut;
    return coalesce(cardinality(spans), 0);
end $$;

create function avtryck.sum_target(opens timestamptz, whole timestamptz, known timestamptz, settled_after interval, step interval)
returns timestamptz language plpgsql stable as $$
#variable_conflict use_column
declare
    first_gap timestamptz := (select min(gap.begins) from avtryck.report_gap(opens, whole) as gap);
    settled timestamptz;
begin
    -- Days before the last one, which an upgrade rolls up, are stored soon.
    if first_gap is null or exists (select from avtryck.report_span where report_span.begins >= whole) then
        return null;
    end if;
    select max(report_span.begins) into settled
    from avtryck.report_span where report_span.begins >= opens and report_span.begins <= first_gap - settled_after;
    return case when settled >= step + coalesce(known, opens) then settled end;
end $$;
comment on function avtryck.sum_target is 'The time up to which sums of a day are to be brought, that are known up to a time: the last at which hits are likely to have come all, if that is a step further; otherwise null.';

create function avtryck.build_sums(at timestamptz) returns void language plpgsql as $$
#variable_conflict use_column
declare
    own record;
    settled timestamptz;
begin
    -- The last day is summed up to between half an hour and an hour and a half ago: sums take as long whatever they add,
    -- and a hit that is late takes them all.
    for own in select * from avtryck.zone_day_at(build_sums.at) loop
        settled := avtryck.sum_target(
            own.begins, own.ends,
            (select known from avtryck.ad_sum_day where ad_sum_day.day = own.day and time_zone = own.time_zone),
            interval '30 minutes', interval '1 hour');
        if settled is not null then
            perform avtryck.build_ad_sum(own.day, own.time_zone, settled);
        end if;
    end loop;
end $$;
comment on function avtryck.build_sums is 'Brings the sums of the days that a time lies in up to date.';

create or replace function avtryck.build_report_span(since timestamptz, until timestamptz) returns void language plpgsql as $$
declare
    of_day date := (since at time zone 'UTC')::date;
    whole timestamptz := avtryck.day_start((since at time zone 'UTC')::date + 1);
    first_gap timestamptz;
begin
    insert into avtryck.report_span values (since, until);
    perform avtryck.build_ad_hour(since, until);
    perform avtryck.build_ad_day(since, until);
    -- Conversions are known up to the first gap. Where that is marked meanwhile, they go with the mark.
    select min(gap.begins) into first_gap from avtryck.report_gap(avtryck.day_start(of_day), whole) as gap;
    perform avtryck.build_conversions(of_day, coalesce(first_gap, whole));
    perform avtryck.build_sums(since);
end $$;

create or replace function avtryck.close_report_day(day date) returns void language plpgsql as $$
#variable_conflict use_column
declare
    since timestamptz;
    until timestamptz;
    piece record;
    report record;
begin
    select own.begins, own.ends into since, until from avtryck.day_range(close_report_day.day) as own;
    perform avtryck.forget_report_days(array[close_report_day.day]);
    insert into avtryck.report_day values (close_report_day.day);
    if exists (select from avtryck.hit where received_at >= since and received_at < until)
       or exists (select from avtryck.hit_count where minute >= since and minute < until) then
        perform avtryck.build_conversions(utc.day, avtryck.day_start(utc.day + 1))
        from avtryck.utc_days(close_report_day.day) as utc (day)
        where avtryck.day_start(utc.day + 1) <= until;
        -- Of what is summed up already, and then the spans may go.
        for report in select * from avtryck.report_store loop
            execute format('insert into avtryck.%I select $1, live.* from avtryck.%I($1) as live', report.stored, report.live)
                using close_report_day.day;
        end loop;
    end if;
    for piece in
        select cut.begins, cut.ends, array_agg(span.begins) as spans
        from (select at as begins, lead(at) over (order by at) as ends
              from (select since as at union select until
                    union select avtryck.day_start(close_report_day.day) union select avtryck.day_start(close_report_day.day + 1)
                    union select edge
                          from generate_series(-1, 1) as shift
                          cross join lateral avtryck.zone_day(close_report_day.day + shift) as zone
                          cross join unnest(array[zone.begins, zone.ends]) as edge
                          where edge > since and edge < until) as edge) as cut
        join avtryck.report_span as span on span.begins >= cut.begins and span.ends <= cut.ends
        group by 1, 2 having count(*) > 1
    loop
        perform avtryck.forget_report_spans(piece.spans);
        perform avtryck.build_report_span(piece.begins, piece.ends);
    end loop;
    perform avtryck.drop_sums(close_report_day.day);
end $$;
comment on function avtryck.close_report_day is 'Stores the reports of a day, and makes its spans one for each piece of it that is of the same day at all sites.';

create or replace function avtryck.build_report(as_of timestamptz) returns text language plpgsql as $$
declare
    latest timestamptz := avtryck.report_slot(as_of - interval '10 seconds');
    gap record;
    due date;
begin
    perform avtryck.report_lock();
    -- A small day is rolled up in one go, a large one hour by hour.
    select missing.begins, least(missing.ends, latest, case when pg_relation_size(partition) > 64 * 1024 * 1024
                                                            then missing.begins + interval '1 hour' end,
                                 avtryck.next_cut(missing.begins)) as ends into gap
    from avtryck.hit_day
    cross join lateral to_regclass('avtryck.hit_' || to_char(day, 'YYYYMMDD')) as of (partition)
    cross join lateral (
        select coalesce(lag(report_span.ends) over (order by report_span.begins), avtryck.day_start(hit_day.day)) as begins,
               report_span.begins as ends
        from (select report_span.begins, report_span.ends from avtryck.report_span
              where report_span.begins >= avtryck.day_start(hit_day.day)
                and report_span.begins < avtryck.day_start(hit_day.day + 1)
              union all
              select avtryck.day_start(hit_day.day + 1), null) as report_span
    ) as missing
    where hit_day.day <= (as_of at time zone 'UTC')::date and missing.begins < least(missing.ends, latest)
    order by hit_day.day desc, missing.begins
    limit 1;
    if found then
        perform avtryck.build_report_span(gap.begins, gap.ends);
        return 'span';
    end if;
    select site_day.day into due
    from avtryck.site_day cross join lateral avtryck.day_range(site_day.day) as own
    where own.ends <= as_of - interval '2 hours' and not exists (select from avtryck.report_day where report_day.day = site_day.day)
    order by site_day.day desc limit 1;
    if found then
        perform avtryck.close_report_day(due);
        return 'day';
    end if;
    -- A day that was stored before there was conversion_link.
    select report_day.day into due from avtryck.report_day
    where not exists (select from avtryck.conversion_day where conversion_day.day = report_day.day)
      and exists (select from avtryck.hit where received_at >= avtryck.day_start(report_day.day)
                                            and received_at < avtryck.day_start(report_day.day + 1))
    order by day desc limit 1;
    if found then
        perform avtryck.build_conversions(due, avtryck.day_start(due + 1));
        return 'conversions';
    end if;
    return null;
end $$;

create or replace function avtryck.compare_reports() returns bigint language plpgsql as $$
#variable_conflict use_column
declare
    slice record;
    of_hour bigint;
    of_span bigint;
    of_day bigint;
begin
    perform avtryck.report_lock();
    select begins, ends, hour, greatest(begins, hour) as since, least(ends, hour + interval '1 hour') as until,
           (begins at time zone 'UTC')::date as day into slice
    from avtryck.report_clean
    cross join lateral generate_series(date_trunc('hour', begins, 'UTC'), ends - interval '1 us', interval '1 hour') as hour
    order by random() limit 1;
    if not found then
        return 0;
    end if;
    -- Each statement looks for marks itself: a batch may have come since.
    with stored as (
        select site_key, ad_key, act, faults, sum(hits), sum(unmeasured) from avtryck.ad_hour_part(slice.begins, slice.ends, null)
        where hour = slice.hour group by 1, 2, 3, 4
    ),
    fresh as (
        select site_key, ad_key, act, faults, sum(hits), sum(unmeasured)
        from avtryck.ad_hour_of(slice.since, slice.until) group by 1, 2, 3, 4
    )
    select count(*) into of_hour
    from ((table stored except table fresh) union all (table fresh except table stored)) as difference
    where exists (select from avtryck.report_clean where begins = slice.begins);
    with by_day as (
        select site_key, ad_key, sum(gross_impressions), sum(net_impressions), sum(unmeasured_impressions),
               sum(gross_clicks), sum(net_clicks), sum(unmeasured_clicks)
        from avtryck.ad_cell(slice.begins, slice.ends, null) group by 1, 2
    ),
    by_hour as (
        select site_key, ad_key, coalesce(sum(hits) filter (where act = 'impression'), 0),
               coalesce(sum(hits) filter (where act = 'impression' and faults = 0), 0),
               coalesce(sum(unmeasured) filter (where act = 'impression'), 0),
               coalesce(sum(hits) filter (where act = 'click'), 0),
               coalesce(sum(hits) filter (where act = 'click' and faults = 0), 0),
               coalesce(sum(unmeasured) filter (where act = 'click'), 0)
        from avtryck.ad_hour_part(slice.begins, slice.ends, null) where act in ('impression', 'click') group by 1, 2
    )
    select count(*) into of_span
    from ((table by_day except table by_hour) union all (table by_hour except table by_day)) as difference
    where exists (select from avtryck.report_clean where begins = slice.begins);
    with by_campaign as (
        select coalesce(sum(gross_impressions), 0), coalesce(sum(net_impressions), 0), coalesce(sum(gross_clicks), 0),
               coalesce(sum(net_clicks), 0), coalesce(sum(unmeasured_impressions), 0)
        from avtryck.campaign_day where day = slice.day
    ),
    by_placement as (
        select coalesce(sum(gross_impressions), 0), coalesce(sum(net_impressions), 0), coalesce(sum(gross_clicks), 0),
               coalesce(sum(net_clicks), 0), coalesce(sum(unmeasured_impressions), 0)
        from avtryck.placement_day where day = slice.day
    ),
    by_zone as (
        select coalesce(sum(gross_impressions), 0), coalesce(sum(net_impressions), 0), coalesce(sum(gross_clicks), 0),
               coalesce(sum(net_clicks), 0), coalesce(sum(unmeasured_impressions), 0)
        from avtryck.zone_day(slice.day) as own cross join lateral avtryck.ad_cell(own.begins, own.ends, own.time_zone)
    )
    select count(*) into of_day
    from ((table by_campaign except table by_zone) union all (table by_placement except table by_zone)) as difference
    where avtryck.is_stored(slice.day);
    if of_hour + of_span + of_day > 0 then
        perform avtryck.forget_report_of(slice.day);
    end if;
    return of_hour + of_span + of_day;
end $$;

create function avtryck.set_time_zones(sites text[], zones text[]) returns text[] language plpgsql as $$
#variable_conflict use_column
declare
    own record;
    known boolean;
    changed text[] := '{}';
    unknown text[] := '{}';
begin
    perform avtryck.report_lock();
    for own in
        select wanted.site, nullif(wanted.time_zone, 'UTC') as time_zone
        from unnest(sites, zones) as wanted (site, time_zone)
        left join avtryck.site_zone on site_zone.site = wanted.site
        where site_zone.time_zone is distinct from nullif(wanted.time_zone, 'UTC')
    loop
        if own.time_zone is null then
            delete from avtryck.site_zone where site_zone.site = own.site;
            changed := changed || own.site;
            continue;
        end if;
        begin
            perform avtryck.zone_start('2000-01-01', own.time_zone);
            known := true;
        exception when invalid_parameter_value then
            known := false;
            unknown := unknown || own.site;
        end;
        if known then
            insert into avtryck.site_zone values (own.site, own.time_zone)
            on conflict on constraint site_zone_pkey do update set time_zone = excluded.time_zone;
            changed := changed || own.site;
        end if;
    end loop;
    if changed = '{}' then
        return unknown;
    end if;
    perform avtryck.forget_report_spans(array(
        select report_span.begins from avtryck.report_span where avtryck.next_cut(report_span.begins) < report_span.ends));
    -- What is stored of days is of those of before.
    if exists (select from avtryck.site where site.site = any(changed)) then
        perform avtryck.forget_report_days(array(select report_day.day from avtryck.report_day));
        perform avtryck.forget_sums(null);
    end if;
    return unknown;
end $$;
comment on function avtryck.set_time_zones is 'Makes these the time zones of sites, UTC where null, and returns the sites whose time zone Postgres does not know, which stay as they were. Where one changes, all days that are kept become days of the new one: they are read from roll-ups of hours until they are stored anew.';

do $$
declare
    meaning record;
begin
    for meaning in
        select described.objoid::regclass as shown, attname as column, relkind,
               case objsubid when 0 then replace(replace(description, ' a UTC day', ' a day'), 'its UTC day', 'its day')
                    else 'The day: the UTC day, or that of the site''s time zone.' end as told
        from pg_description as described
        join pg_class on pg_class.oid = described.objoid and relnamespace = 'avtryck'::regnamespace
        left join pg_attribute on attrelid = described.objoid and attnum = described.objsubid and objsubid > 0
        where described.classoid = 'pg_class'::regclass and description ~ 'UTC day'
          and (objsubid = 0 or attname = 'day')
          and relname in ('campaign_daily', 'placement_daily', 'campaign_quality', 'conversion_path', 'ad_hour_detail', 'ad_day_detail',
                          'campaign_hourly', 'campaign_view', 'campaign_invalid', 'campaign_value', 'campaign_cost', 'report_day',
                          'campaign_day', 'placement_day', 'quality_day', 'web_session', 'web_day', 'web_page_day', 'web_event_day',
                          'web_search_day', 'web_daily', 'web_page_daily', 'web_event_daily', 'web_search_daily')
    loop
        if meaning.column is null then
            execute format('comment on %s %s is %L', case meaning.relkind when 'v' then 'view' else 'table' end, meaning.shown, meaning.told);
        else
            execute format('comment on column %s.%I is %L', meaning.shown, meaning.column, meaning.told);
        end if;
    end loop;
end $$;
