-- Roll-ups in a third of the room: a row for each span, site and ad has its hours, its device classes and regions, and its
-- subjects in arrays. Rows of before had one of them each. What they had is rolled up anew.
-- And of a day that is not over, sums up to an hour ago are kept: only the subjects since are looked for among those before.

drop view avtryck.ad_day_detail;
drop function avtryck.seen(date, date, text[]);
drop function avtryck.ad_part(timestamptz, timestamptz);
drop function avtryck.ad_day_of(timestamptz, timestamptz);
drop table avtryck.ad_day;
drop view avtryck.campaign_hourly, avtryck.campaign_view, avtryck.campaign_invalid, avtryck.ad_hour_detail;
drop function avtryck.ad_hour_part(timestamptz, timestamptz);
drop table avtryck.ad_hour;
delete from avtryck.report_span;

create function avtryck.ad_acts() returns text[] language sql immutable parallel safe
    return '{impression,click,measurable,viewable,start,firstquartile,midpoint,thirdquartile,complete}'::text[];
comment on function avtryck.ad_acts is 'What may happen with an ad, as ad_act has it: ad_hour has numbers of these, from 1 on.';

create table avtryck.ad_hour (
    span timestamptz not null,
    site_key bigint not null,
    ad_key bigint,
    hours smallint[] not null,
    acts smallint[] not null,
    faults integer[] not null,
    hits integer[] not null,
    unmeasured integer[]
);
create index ad_hour_span on avtryck.ad_hour (span);
comment on table avtryck.ad_hour is 'Hits about ads by span, site and ad; in arrays by hour, what happened, and what is wrong with them. Query ad_hour_detail, which also has what is not yet rolled up.';
comment on column avtryck.ad_hour.span is 'The report_span in which they were received.';
comment on column avtryck.ad_hour.site_key is 'The site.';
comment on column avtryck.ad_hour.ad_key is 'The ad; null where the hits name none.';
comment on column avtryck.ad_hour.hours is 'The hours of the UTC day in which they were received, from 0 on. The other arrays have an element for each of these.';
comment on column avtryck.ad_hour.acts is 'What happened: numbers of ad_acts().';
comment on column avtryck.ad_hour.faults is 'The flags that keep them out of net figures; 0 for valid hits.';
comment on column avtryck.ad_hour.hits is 'How many.';
comment on column avtryck.ad_hour.unmeasured is 'How many besides that had no permit to be measured; null where all had it.';

create function avtryck.build_ad_hour(since timestamptz, until timestamptz) returns void language sql volatile
begin atomic
    insert into avtryck.ad_hour
    select since, site_key, ad_key, array_agg(extract(hour from hour at time zone 'UTC')::smallint),
           array_agg(array_position(avtryck.ad_acts(), act)::smallint), array_agg(faults), array_agg(hits::integer),
           case when max(unmeasured) > 0 then array_agg(unmeasured::integer) end
    from (select site_key, ad_key, hour, act, faults, sum(hits) as hits, sum(unmeasured) as unmeasured
          from avtryck.ad_hour_of(since, until) group by 1, 2, 3, 4, 5 order by 1, 2, 3) as fresh
    group by site_key, ad_key;
end;
comment on function avtryck.build_ad_hour is 'Rolls up the hours of a span.';

create function avtryck.ad_hour_part(since timestamptz, until timestamptz)
returns table (hour timestamptz, site_key bigint, ad_key bigint, act text, faults integer, hits bigint, unmeasured bigint)
language sql stable parallel safe
begin atomic
    select date_trunc('day', ad_hour.span, 'UTC') + part.hour * interval '1 hour', ad_hour.site_key, ad_hour.ad_key,
           (avtryck.ad_acts())[part.act], part.faults, part.hits::bigint, coalesce(part.unmeasured, 0)::bigint
    from avtryck.report_clean join avtryck.ad_hour on ad_hour.span = report_clean.begins
    cross join lateral unnest(ad_hour.hours, ad_hour.acts, ad_hour.faults, ad_hour.hits, ad_hour.unmeasured)
        as part (hour, act, faults, hits, unmeasured)
    where report_clean.begins >= since and report_clean.begins < until
    union all
    select fresh.* from avtryck.report_gap(since, until) as gap cross join lateral avtryck.ad_hour_of(gap.begins, gap.ends) as fresh;
end;
comment on function avtryck.ad_hour_part is 'What there is of a day: of roll-ups where they agree with the hits, else of the hits. Rows of the same are to be added up.';

create view avtryck.ad_hour_detail as
select hit_day.day, part.hour, site.site, ad.partner, ad.campaign, ad.creative, ad.placement, ad.publisher, part.act,
       avtryck.flag_names(part.faults) as faults, part.hits as gross, case when part.faults = 0 then part.hits else 0 end as net,
       part.unmeasured
from avtryck.hit_day
cross join lateral avtryck.ad_hour_part(avtryck.day_start(hit_day.day), avtryck.day_start(hit_day.day + 1)) as part
left join avtryck.site on site.key = part.site_key
left join avtryck.ad on ad.key = part.ad_key;
comment on view avtryck.ad_hour_detail is 'What happened with each ad in each hour, and what is wrong with it. Rows of the same ad and hour are to be added up.';
comment on column avtryck.ad_hour_detail.hour is 'The hour (UTC).';
comment on column avtryck.ad_hour_detail.act is 'impression, click, measurable, viewable, start, firstquartile, midpoint, thirdquartile or complete.';
comment on column avtryck.ad_hour_detail.faults is 'The flags that keep the hits out of net figures; empty for valid hits.';
comment on column avtryck.ad_hour_detail.gross is 'How many, invalid ones included.';
comment on column avtryck.ad_hour_detail.net is 'How many valid ones.';
comment on column avtryck.ad_hour_detail.unmeasured is 'How many besides that had no permit to be measured.';

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


create function avtryck.audience_key(device_class text, country text, region text) returns bigint language sql immutable parallel safe
    return hash_record_extended(row(device_class, country, region), 0);
comment on function avtryck.audience_key is 'The key of a device class and region in audience.';

create table avtryck.audience (
    key bigint primary key,
    device_class text,
    country text,
    region text
);
comment on table avtryck.audience is 'The device classes and regions that ad_day points to. Rows stay: there are as many as there are classes in regions.';
comment on column avtryck.audience.key is 'A hash of 64 bits of the other columns (audience_key).';
comment on column avtryck.audience.device_class is 'As device.class; null where unknown.';
comment on column avtryck.audience.country is 'ISO 3166-1 code.';
comment on column avtryck.audience.region is 'ISO 3166-2 code or name of the region.';

create table avtryck.ad_day (
    span timestamptz not null,
    site_key bigint not null,
    ad_key bigint,
    unmeasured_impressions integer not null,
    unmeasured_clicks integer not null,
    audiences bigint[],
    gross_impressions integer[],
    net_impressions integer[],
    gross_clicks integer[],
    net_clicks integer[],
    subjects bigint[],
    subject_audiences bigint[],
    impressions integer[]
);
create index ad_day_span on avtryck.ad_day (span, ad_key);
comment on table avtryck.ad_day is 'Impressions and clicks by span, site and ad, with the subjects of the impressions. A day that has been over for two hours is one span. Query ad_day_detail, which also has what is not yet rolled up.';
comment on column avtryck.ad_day.span is 'The report_span in which they were received.';
comment on column avtryck.ad_day.site_key is 'The site.';
comment on column avtryck.ad_day.ad_key is 'The ad; null where the hits name none.';
comment on column avtryck.ad_day.unmeasured_impressions is 'Impressions without the permit measure.';
comment on column avtryck.ad_day.unmeasured_clicks is 'Clicks without the permit measure.';
comment on column avtryck.ad_day.audiences is 'The device classes and regions of those that may be measured: keys of audience. The next four columns have a number for each.';
comment on column avtryck.ad_day.gross_impressions is 'Impressions, invalid ones included.';
comment on column avtryck.ad_day.net_impressions is 'Valid impressions.';
comment on column avtryck.ad_day.gross_clicks is 'Clicks, invalid ones included.';
comment on column avtryck.ad_day.net_clicks is 'Valid clicks.';
comment on column avtryck.ad_day.subjects is 'Who had the valid impressions: a hash of 64 bits of each subject, once for each device class and region. What is counted with them is exact: that two subjects of ten million share a hash has a chance of 1 in 370,000.';
comment on column avtryck.ad_day.subject_audiences is 'The device class and region of each of them, in order: a long array of few values takes little room.';
comment on column avtryck.ad_day.impressions is 'How many valid impressions each of them had; null where each had one.';

create function avtryck.ad_each_of(since timestamptz, until timestamptz)
returns table (
    site_key bigint, ad_key bigint, device_class text, country text, region text, subject bigint,
    gross_impressions bigint, net_impressions bigint, gross_clicks bigint, net_clicks bigint,
    unmeasured_impressions bigint, unmeasured_clicks bigint
) language plpgsql stable parallel safe security definer set plan_cache_mode = force_custom_plan
-- The planner expects few rows of conditions on flags, and would compare each hit with each row of a dimension.
set enable_nestloop = off as $$
#variable_conflict use_column
begin
    return query
    with event as (
        select hit.site_key, hit.ad_key, hit.device_key, hit.place_key, avtryck.is_valid(hit.flags) as is_net,
               hit.kind = 3 or hit.kind = 5 and hit.event_name = 'impression' as is_shown,
               case when (hit.kind = 3 or hit.event_name = 'impression') and avtryck.is_valid(hit.flags) then
                   uuid_hash_extended(case
                       when hit.visitor_id is not null then hit.visitor_id
                       when hit.kind = 5 then coalesce(md5(hit.maid)::uuid, md5(ad.partner || ':' || hit.partner_uid)::uuid)
                   end, 0) end as subject
        from avtryck.hit left join avtryck.ad on ad.key = hit.ad_key
        where hit.received_at >= since and hit.received_at < until and avtryck.is_counted(hit.flags)
          and (hit.kind in (3, 4) or hit.kind = 5 and hit.event_name in ('impression', 'click'))
    ),
    keyed as (
        select site_key, ad_key, device_key, place_key, subject, count(*) filter (where is_shown) as shown,
               count(*) filter (where is_shown and is_net) as shown_net,
               count(*) filter (where not is_shown) as clicked, count(*) filter (where not is_shown and is_net) as clicked_net
        from event group by 1, 2, 3, 4, 5
    )
    select keyed.site_key, keyed.ad_key, device.class, place.country, place.region, subject, sum(shown)::bigint, sum(shown_net)::bigint,
           sum(clicked)::bigint, sum(clicked_net)::bigint, 0::bigint, 0::bigint
    from keyed left join avtryck.device on device.key = device_key left join avtryck.place on place.key = place_key
    group by 1, 2, 3, 4, 5, 6
    union all
    select site_key, ad_key, null, null, null, null, 0, 0, 0, 0, coalesce(sum(hits) filter (where kind = 3), 0)::bigint,
           coalesce(sum(hits) filter (where kind = 4), 0)::bigint
    from avtryck.hit_count
    where minute >= since and minute < until and kind in (3, 4)
    group by 1, 2;
end $$;
comment on function avtryck.ad_each_of is 'Impressions and clicks of a time by site, ad, device class, region and subject, computed from the hits. Without a subject are clicks, invalid impressions and those of nobody, and the unmeasured ones.';

create function avtryck.build_ad_day(since timestamptz, until timestamptz) returns void language sql volatile
begin atomic
    with each as materialized (
        select fresh.*, avtryck.audience_key(fresh.device_class, fresh.country, fresh.region) as audience
        from avtryck.ad_each_of(since, until) as fresh
    ),
    named as (
        insert into avtryck.audience
        select distinct audience, device_class, country, region from each where gross_impressions + gross_clicks > 0
        on conflict (key) do nothing
    ),
    part as (
        select site_key, ad_key, sum(unmeasured_impressions) as unmeasured_impressions, sum(unmeasured_clicks) as unmeasured_clicks,
               null::bigint[] as audiences, null::integer[] as gross_impressions, null::integer[] as net_impressions,
               null::integer[] as gross_clicks, null::integer[] as net_clicks,
               null::bigint[] as subjects, null::bigint[] as subject_audiences, null::integer[] as impressions
        from each where unmeasured_impressions + unmeasured_clicks > 0 group by 1, 2
        union all
        select site_key, ad_key, 0, 0, array_agg(audience), array_agg(gross_impressions), array_agg(net_impressions),
               array_agg(gross_clicks), array_agg(net_clicks), null, null, null
        from (select site_key, ad_key, audience, sum(gross_impressions)::integer as gross_impressions,
                     sum(net_impressions)::integer as net_impressions, sum(gross_clicks)::integer as gross_clicks,
                     sum(net_clicks)::integer as net_clicks
              from each where gross_impressions + gross_clicks > 0 group by 1, 2, 3) as cell
        group by 1, 2
        union all
        select site_key, ad_key, 0, 0, null, null, null, null, null, array_agg(subject), array_agg(audience),
               case when max(net_impressions) > 1 then array_agg(least(net_impressions, 2147483647)::integer) end
        from (select * from each where subject is not null order by site_key, ad_key, audience) as seen
        group by 1, 2
    )
    insert into avtryck.ad_day
    select since, site_key, ad_key, sum(unmeasured_impressions), sum(unmeasured_clicks), max(audiences), max(gross_impressions),
           max(net_impressions), max(gross_clicks), max(net_clicks), max(subjects), max(subject_audiences), max(impressions)
    from part group by site_key, ad_key order by ad_key, site_key;
end;
comment on function avtryck.build_ad_day is 'Rolls the impressions and clicks of a span up.';

create function avtryck.ad_cell(since timestamptz, until timestamptz)
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
    where report_clean.begins >= since and report_clean.begins < until
    union all
    select ad_day.site_key, ad_day.ad_key, null, null, null, 0, 0, 0, 0, ad_day.unmeasured_impressions, ad_day.unmeasured_clicks
    from avtryck.report_clean join avtryck.ad_day on ad_day.span = report_clean.begins
    where report_clean.begins >= since and report_clean.begins < until
      and (ad_day.unmeasured_impressions > 0 or ad_day.unmeasured_clicks > 0)
    union all
    select fresh.site_key, fresh.ad_key, fresh.device_class, fresh.country, fresh.region, sum(fresh.gross_impressions)::bigint,
           sum(fresh.net_impressions)::bigint, sum(fresh.gross_clicks)::bigint, sum(fresh.net_clicks)::bigint,
           sum(fresh.unmeasured_impressions)::bigint, sum(fresh.unmeasured_clicks)::bigint
    from avtryck.report_gap(since, until) as gap cross join lateral avtryck.ad_each_of(gap.begins, gap.ends) as fresh
    group by 1, 2, 3, 4, 5;
end;
comment on function avtryck.ad_cell is 'Impressions and clicks of a day by site, ad, device class and region: of roll-ups where they agree with the hits, else of the hits. Rows of the same are to be added up.';

create function avtryck.ad_seen(since timestamptz, until timestamptz, ads bigint[])
returns table (
    site_key bigint, ad_key bigint, audience bigint, device_class text, country text, region text, subject bigint, impressions integer
) language sql stable parallel safe
begin atomic
    select ad_day.site_key, ad_day.ad_key, shown.audience, audience.device_class, audience.country, audience.region, shown.subject,
           coalesce(shown.impressions, 1)
    from avtryck.report_clean join avtryck.ad_day on ad_day.span = report_clean.begins
    cross join lateral unnest(ad_day.subjects, ad_day.subject_audiences, ad_day.impressions) as shown (subject, audience, impressions)
    left join avtryck.audience on audience.key = shown.audience
    where report_clean.begins >= since and report_clean.begins < until and (ads is null or ad_day.ad_key = any(ads))
    union all
    select fresh.site_key, fresh.ad_key, avtryck.audience_key(fresh.device_class, fresh.country, fresh.region), fresh.device_class,
           fresh.country, fresh.region, fresh.subject, least(fresh.net_impressions, 2147483647)::integer
    from avtryck.report_gap(since, until) as gap cross join lateral avtryck.ad_each_of(gap.begins, gap.ends) as fresh
    where fresh.subject is not null and (ads is null or fresh.ad_key = any(ads));
end;
comment on function avtryck.ad_seen is 'Who had valid impressions of ads (of all, where they are null) in a day, as ad_cell has its figures. A subject may be in several rows.';

create function avtryck.seen(first date, last date, ads bigint[])
returns table (
    site text, partner text, campaign text, creative text, placement text, publisher text,
    device_class text, country text, region text, day date, subject bigint, impressions integer
) language sql stable parallel safe
begin atomic
    select site.site, ad.partner, ad.campaign, ad.creative, ad.placement, ad.publisher, shown.device_class, shown.country,
           shown.region, hit_day.day, shown.subject, shown.impressions
    from avtryck.hit_day
    cross join lateral avtryck.ad_seen(avtryck.day_start(hit_day.day), avtryck.day_start(hit_day.day + 1), ads) as shown
    left join avtryck.site on site.key = shown.site_key
    left join avtryck.ad on ad.key = shown.ad_key
    where hit_day.day between first and last;
end;
comment on function avtryck.seen is 'Who had valid impressions of ads (of all, where they are null) on the days from the first to the last, in rows that are to be added up.';

create or replace function avtryck.frequency(first date, last date, campaigns text[])
returns table (times bigint, subjects bigint) language plpgsql stable parallel safe security definer
set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    ads bigint[] := case when campaigns is not null then coalesce(avtryck.ad_keys(campaigns), '{}') end;
begin
    return query
    select each.times, count(*)
    from (select sum(seen.impressions) as times from avtryck.seen(first, last, ads) as seen group by seen.subject) as each
    group by 1 order by 1;
end $$;

create or replace function avtryck.reach(first date, last date, campaigns text[], part text)
returns table (value text, reach bigint, impressions bigint, frequency numeric) language plpgsql stable parallel safe security definer
set plan_cache_mode = force_custom_plan as $$
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
    return query
    select each.value, count(*), sum(each.times)::bigint, round(sum(each.times) / count(*), 2)
    from (select case reach.part when 'site' then seen.site when 'partner' then seen.partner
                 when 'campaign' then seen.campaign when 'creative' then seen.creative when 'placement' then seen.placement
                 when 'publisher' then seen.publisher when 'device_class' then seen.device_class
                 when 'country' then seen.country when 'region' then seen.region when 'day' then seen.day::text end as value,
                 subject, sum(seen.impressions) as times
          from avtryck.seen(first, last, ads) as seen group by 1, 2) as each
    group by 1 order by 2 desc, 1;
end $$;
comment on function avtryck.reach is 'How many subjects had a valid impression of campaigns (of all, where they are null) in those days, for each value of a part: all, site, partner, campaign, creative, placement, publisher, device_class, country, region, day or hour (UTC, of seven days at most, from the hits). A subject may be in several rows. Exact.';

create view avtryck.ad_day_detail as
select hit_day.day, site.site, ad.partner, ad.campaign, ad.creative, ad.placement, ad.publisher, part.device_class,
       part.country, part.region, part.gross_impressions, part.net_impressions, part.gross_clicks, part.net_clicks,
       part.unmeasured_impressions, part.unmeasured_clicks, part.subjects, part.impressions
from avtryck.hit_day
cross join lateral (
    select site_key, ad_key, device_class, country, region, sum(gross_impressions)::bigint as gross_impressions,
           sum(net_impressions)::bigint as net_impressions, sum(gross_clicks)::bigint as gross_clicks,
           sum(net_clicks)::bigint as net_clicks, sum(unmeasured_impressions)::bigint as unmeasured_impressions,
           sum(unmeasured_clicks)::bigint as unmeasured_clicks, null::bigint[] as subjects, null::integer[] as impressions
    from avtryck.ad_cell(avtryck.day_start(hit_day.day), avtryck.day_start(hit_day.day + 1))
    group by 1, 2, 3, 4, 5
    union all
    select site_key, ad_key, device_class, country, region, 0, 0, 0, 0, 0, 0, array_agg(subject), array_agg(impressions)
    from avtryck.ad_seen(avtryck.day_start(hit_day.day), avtryck.day_start(hit_day.day + 1), null)
    group by 1, 2, 3, 4, 5
) as part
left join avtryck.site on site.key = part.site_key
left join avtryck.ad on ad.key = part.ad_key;
comment on view avtryck.ad_day_detail is 'Impressions and clicks of each ad a day, by device class and region, with the subjects of the impressions. Rows of the same ad, device class and region are to be added up.';

-- Sums of a day up to a time, for days that are not over.

create table avtryck.ad_sum (
    day date not null,
    is_by_placement boolean not null,
    number bigint not null,
    site text, partner text, campaign text, publisher text, placement text, creative text,
    device_class text, country text, region text,
    gross_impressions bigint not null, net_impressions bigint not null, visitors bigint not null, shown bigint not null,
    gross_clicks bigint not null, net_clicks bigint not null, unmeasured_impressions bigint not null, unmeasured_clicks bigint not null,
    primary key (day, is_by_placement, number)
);
comment on table avtryck.ad_sum is 'What campaign_daily and placement_daily count of impressions and clicks on a day that is not over, up to the time that ad_sum_day has. Query those views, which have what came since.';
comment on column avtryck.ad_sum.day is 'The UTC day.';
comment on column avtryck.ad_sum.is_by_placement is 'Whether it is of placement_daily; of campaign_daily otherwise.';
comment on column avtryck.ad_sum.number is 'A hash of 64 bits of the columns that name the row.';
comment on column avtryck.ad_sum.visitors is 'Subjects with a net impression.';
comment on column avtryck.ad_sum.shown is 'Their net impressions.';

create table avtryck.ad_sum_day (
    day date primary key,
    known timestamptz not null
);
comment on table avtryck.ad_sum_day is 'Up to which time of a day ad_sum has sums. They hold for as long as report_mark has nothing of the day before that time.';
comment on column avtryck.ad_sum_day.day is 'The UTC day.';
comment on column avtryck.ad_sum_day.known is 'The end of what is summed up: this moment no longer belongs to it.';

create function avtryck.ad_sum_of(day date, is_by_placement boolean, until timestamptz)
returns table (
    number bigint, site text, partner text, campaign text, publisher text, placement text, creative text,
    device_class text, country text, region text, gross_impressions bigint, net_impressions bigint, visitors bigint, shown bigint,
    gross_clicks bigint, net_clicks bigint, unmeasured_impressions bigint, unmeasured_clicks bigint
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan
set enable_nestloop = off set work_mem = '64MB' as $$
#variable_conflict use_column
declare
    begins timestamptz := avtryck.day_start(day);
    known timestamptz := coalesce(
        (select ad_sum_day.known from avtryck.ad_sum_day
         where ad_sum_day.day = ad_sum_of.day
           and not exists (select from avtryck.report_mark where at >= begins and at < ad_sum_day.known)), begins);
begin
    return query
    with own_site as materialized (
        select key, site.site, hashtextextended(site.site, 0) as number from avtryck.site
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
        from avtryck.ad_seen(known, until, null) as each
        join own_site on own_site.key = each.site_key
        join own_ad on coalesce(own_ad.key, 0) = coalesce(each.ad_key, 0) and (own_ad.key is null) = (each.ad_key is null)
        group by 1, 2
    ),
    before as (
        select distinct number, subject
        from (select own_site.number # own_ad.number # case when ad_sum_of.is_by_placement then 0 else audience end as number, subject
              from avtryck.ad_seen(begins, known, null) as each
              join own_site on own_site.key = each.site_key
              join own_ad on coalesce(own_ad.key, 0) = coalesce(each.ad_key, 0) and (own_ad.key is null) = (each.ad_key is null)
             ) as each
        where begins < known and (number, subject) in (select number, subject from seen)
    ),
    part as (
        select ad_sum.number, ad_sum.site, ad_sum.partner, ad_sum.campaign, ad_sum.publisher, ad_sum.placement, ad_sum.creative,
               ad_sum.device_class, ad_sum.country, ad_sum.region, ad_sum.gross_impressions, ad_sum.net_impressions,
               ad_sum.visitors, ad_sum.shown::numeric, ad_sum.gross_clicks, ad_sum.net_clicks, ad_sum.unmeasured_impressions,
               ad_sum.unmeasured_clicks
        from avtryck.ad_sum
        where begins < known and ad_sum.day = ad_sum_of.day and ad_sum.is_by_placement = ad_sum_of.is_by_placement
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
              from avtryck.ad_cell(known, until) group by 1, 2, 3, 4, 5) as cell
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
comment on function avtryck.ad_sum_of is 'What campaign_daily or placement_daily counts of the impressions and clicks of a day until a time: the sums of ad_sum, and what came since.';

create function avtryck.build_ad_sum(day date, until timestamptz) returns void language plpgsql as $$
begin
    with fresh as materialized (
        select ad_report.is_by_placement, sums.*
        from unnest(array[false, true]) as ad_report (is_by_placement)
        cross join lateral avtryck.ad_sum_of(build_ad_sum.day, ad_report.is_by_placement, until) as sums
    )
    insert into avtryck.ad_sum as kept select build_ad_sum.day, fresh.* from fresh
    on conflict on constraint ad_sum_pkey do update set
        gross_impressions = excluded.gross_impressions, net_impressions = excluded.net_impressions, visitors = excluded.visitors,
        shown = excluded.shown, gross_clicks = excluded.gross_clicks, net_clicks = excluded.net_clicks,
        unmeasured_impressions = excluded.unmeasured_impressions, unmeasured_clicks = excluded.unmeasured_clicks
    where kept.* is distinct from excluded.*;
    insert into avtryck.ad_sum_day values (build_ad_sum.day, until)
    on conflict on constraint ad_sum_day_pkey do update set known = excluded.known;
end $$;
comment on function avtryck.build_ad_sum is 'Brings ad_sum up to a time of a day.';

create or replace function avtryck.forget_report_spans(spans timestamptz[]) returns void language plpgsql as $$
declare
    days date[] := array(select distinct (span at time zone 'UTC')::date from unnest(spans) as span);
begin
    delete from avtryck.report_span where begins = any(spans);
    delete from avtryck.ad_hour where span = any(spans);
    delete from avtryck.ad_day where span = any(spans);
    delete from avtryck.ad_sum where day = any(days);
    delete from avtryck.ad_sum_day where day = any(days);
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
    -- What is summed up of today is behind by an hour at most: it takes as long whatever it adds.
    if first_gap >= interval '1 hour' + coalesce((select known from avtryck.ad_sum_day where day = of_day), begins) then
        perform avtryck.build_ad_sum(of_day, first_gap);
    end if;
end $$;

create or replace function avtryck.close_report_day(day date) returns void language plpgsql as $$
declare
    since timestamptz := avtryck.day_start(day);
    until timestamptz := avtryck.day_start(day + 1);
    spans timestamptz[];
    report record;
begin
    select array_agg(begins) into spans from avtryck.report_span where begins >= since and begins < until;
    if cardinality(spans) > 1 then
        perform avtryck.forget_report_spans(spans);
        perform avtryck.build_report_span(since, until);
    end if;
    perform avtryck.forget_report_days(array[close_report_day.day]);
    insert into avtryck.report_day values (close_report_day.day);
    if not exists (select from avtryck.hit where received_at >= since and received_at < until)
       and not exists (select from avtryck.hit_count where minute >= since and minute < until) then
        return;
    end if;
    perform avtryck.build_conversions(close_report_day.day, until);
    for report in select * from avtryck.report_store loop
        execute format('insert into avtryck.%I select $1, live.* from avtryck.%I($1) as live', report.stored, report.live)
            using close_report_day.day;
    end loop;
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
        select site_key, ad_key, act, faults, sum(hits), sum(unmeasured) from avtryck.ad_hour_part(slice.begins, slice.ends)
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
        from avtryck.ad_cell(slice.begins, slice.ends) group by 1, 2
    ),
    by_hour as (
        select site_key, ad_key, coalesce(sum(hits) filter (where act = 'impression'), 0),
               coalesce(sum(hits) filter (where act = 'impression' and faults = 0), 0),
               coalesce(sum(unmeasured) filter (where act = 'impression'), 0),
               coalesce(sum(hits) filter (where act = 'click'), 0),
               coalesce(sum(hits) filter (where act = 'click' and faults = 0), 0),
               coalesce(sum(unmeasured) filter (where act = 'click'), 0)
        from avtryck.ad_hour_part(slice.begins, slice.ends) where act in ('impression', 'click') group by 1, 2
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
    by_span as (
        select coalesce(sum(gross_impressions), 0), coalesce(sum(net_impressions), 0), coalesce(sum(gross_clicks), 0),
               coalesce(sum(net_clicks), 0), coalesce(sum(unmeasured_impressions), 0)
        from avtryck.ad_cell(slice.begins, slice.ends)
    )
    select count(*) into of_day
    from ((table by_campaign except table by_span) union all (table by_placement except table by_span)) as difference
    where avtryck.is_stored(slice.day);
    if of_hour + of_span + of_day > 0 then
        perform avtryck.forget_report_of(slice.day);
    end if;
    return of_hour + of_span + of_day;
end $$;

-- What campaign_live and placement_live have in common.
create function avtryck.ad_report_of(day date, is_by_placement boolean)
returns table (
    site text, partner text, campaign text, publisher text, placement text, creative text, device_class text, country text, region text,
    gross_impressions bigint, net_impressions bigint, visitors bigint, shown bigint, gross_clicks bigint, net_clicks bigint,
    gross_conversions bigint, net_conversions bigint, unmeasured_impressions bigint, unmeasured_clicks bigint
) language sql stable parallel safe
begin atomic
    select sums.site, sums.partner, sums.campaign, sums.publisher, sums.placement, sums.creative, sums.device_class, sums.country,
           sums.region, sums.gross_impressions, sums.net_impressions, sums.visitors, sums.shown, sums.gross_clicks, sums.net_clicks,
           0::bigint, 0::bigint, sums.unmeasured_impressions, sums.unmeasured_clicks
    from avtryck.ad_sum_of(ad_report_of.day, is_by_placement, avtryck.day_start(ad_report_of.day + 1)) as sums
    union all
    select site.site, ad.partner, ad.campaign, case when is_by_placement then ad.publisher end,
           case when is_by_placement then ad.placement end, case when is_by_placement then ad.creative end,
           case when not is_by_placement then device.class end, case when not is_by_placement then place.country end,
           case when not is_by_placement then place.region end, 0, 0, 0, null, 0, 0,
           count(*), count(*) filter (where is_net), 0, 0
    from avtryck.conversion_of(ad_report_of.day) as conversion
    left join avtryck.site on site.key = conversion.site_key
    left join avtryck.ad on ad.key = conversion.ad_key
    left join avtryck.device on device.key = conversion.device_key
    left join avtryck.place on place.key = conversion.place_key
    group by 1, 2, 3, 4, 5, 6, 7, 8, 9;
end;
comment on function avtryck.ad_report_of is 'The rows of a day of placement_daily, or else of campaign_daily, that are to be added up: impressions and clicks, and conversions.';

create or replace function avtryck.campaign_live(day date)
returns table (
    site text, partner text, campaign text, device_class text, country text, region text,
    gross_impressions bigint, net_impressions bigint, unique_visitors bigint, frequency numeric,
    gross_clicks bigint, net_clicks bigint, ctr numeric, gross_conversions bigint, net_conversions bigint,
    unmeasured_impressions bigint, unmeasured_clicks bigint
) language sql stable parallel safe
begin atomic
    select site, partner, campaign, device_class, country, region, sum(gross_impressions)::bigint, sum(net_impressions)::bigint, sum(visitors)::bigint,
           round(sum(shown) / nullif(sum(visitors), 0), 2), sum(gross_clicks)::bigint, sum(net_clicks)::bigint,
           round(sum(net_clicks) / nullif(sum(net_impressions), 0), 4), sum(gross_conversions)::bigint, sum(net_conversions)::bigint,
           sum(unmeasured_impressions)::bigint, sum(unmeasured_clicks)::bigint
    from avtryck.ad_report_of(campaign_live.day, false)
    group by 1, 2, 3, 4, 5, 6;
end;

create or replace function avtryck.placement_live(day date)
returns table (
    site text, partner text, publisher text, placement text, campaign text, creative text,
    gross_impressions bigint, net_impressions bigint, unique_visitors bigint, frequency numeric,
    gross_clicks bigint, net_clicks bigint, ctr numeric, gross_conversions bigint, net_conversions bigint,
    unmeasured_impressions bigint, unmeasured_clicks bigint
) language sql stable parallel safe
begin atomic
    select site, partner, publisher, placement, campaign, creative, sum(gross_impressions)::bigint, sum(net_impressions)::bigint, sum(visitors)::bigint,
           round(sum(shown) / nullif(sum(visitors), 0), 2), sum(gross_clicks)::bigint, sum(net_clicks)::bigint,
           round(sum(net_clicks) / nullif(sum(net_impressions), 0), 4), sum(gross_conversions)::bigint, sum(net_conversions)::bigint,
           sum(unmeasured_impressions)::bigint, sum(unmeasured_clicks)::bigint
    from avtryck.ad_report_of(placement_live.day, true)
    group by 1, 2, 3, 4, 5, 6;
end;

do $$
declare
    bare record;
begin
    for bare in
        select shown.oid as shown, told.attname as column,
               coalesce((select col_description(stored.attrelid, stored.attnum) from pg_attribute as stored
                         where stored.attrelid = 'avtryck.ad_day'::regclass and stored.attname = told.attname
                           and told.attname not in ('subjects', 'impressions')),
                        (select col_description(known.attrelid, known.attnum) from pg_attribute as known
                         where known.attrelid = 'avtryck.placement_day'::regclass and known.attname = told.attname),
                        (select col_description(known.attrelid, known.attnum) from pg_attribute as known
                         where known.attrelid = 'avtryck.campaign_day'::regclass and known.attname = told.attname),
                        (select col_description(known.attrelid, known.attnum) from pg_attribute as known
                         where known.attrelid = 'avtryck.ad_hour_detail'::regclass and known.attname = told.attname),
                        case told.attname
                            when 'subjects' then 'Who had the valid impressions: a hash of 64 bits of each subject.'
                            when 'impressions' then 'How many valid impressions each of them had.' end) as description
        from unnest(array['ad_hour_detail', 'ad_day_detail', 'ad_sum', 'campaign_hourly', 'campaign_view', 'campaign_invalid']) as name (shown)
        join pg_class as shown on shown.oid = to_regclass('avtryck.' || name.shown)
        join pg_attribute as told on told.attrelid = shown.oid and told.attnum > 0
        where col_description(shown.oid, told.attnum) is null
    loop
        execute format('comment on column %s.%I is %L', bare.shown::regclass, bare.column, bare.description);
    end loop;
end $$;
