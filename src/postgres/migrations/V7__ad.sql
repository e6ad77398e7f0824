-- Ads: which click a hit follows, whether its ad was seen before, what traffic is invalid, and the reports.

alter table avtryck.hit add column click_id text, add column exposure_number integer;
comment on column avtryck.hit.click_id is 'Of a click its own ID, of another hit that of the click that it follows.';
comment on column avtryck.hit.exposure_number is 'How many impressions of the creative the subject had had when the hit was loaded, an impression itself included; null where subject or creative is unknown.';
comment on column avtryck.hit.flags is 'Set: 1 cleaned, 2 truncated, 4 macro, 8 prefetch, 16 new_visitor, 32 foreign_origin, 64 third_party, 128 over_limit, 256 preview, 512 bad_agent, 1024 data_centre, 2048 no_impression, 4096 fast_click, 8192 replayed, 16384 bot.';

-- A conversion looks for the click that it names. Few rows have a click ID, so the index is small.
create index hit_click_id on avtryck.hit using hash (click_id) where click_id is not null;

create or replace function avtryck.flag_names(flags integer) returns text[] language sql immutable parallel safe
    return array_remove(array[
        case when flags & 1 <> 0 then 'cleaned' end,
        case when flags & 2 <> 0 then 'truncated' end,
        case when flags & 4 <> 0 then 'macro' end,
        case when flags & 8 <> 0 then 'prefetch' end,
        case when flags & 16 <> 0 then 'new_visitor' end,
        case when flags & 32 <> 0 then 'foreign_origin' end,
        case when flags & 64 <> 0 then 'third_party' end,
        case when flags & 128 <> 0 then 'over_limit' end,
        case when flags & 256 <> 0 then 'preview' end,
        case when flags & 512 <> 0 then 'bad_agent' end,
        case when flags & 1024 <> 0 then 'data_centre' end,
        case when flags & 2048 <> 0 then 'no_impression' end,
        case when flags & 4096 <> 0 then 'fast_click' end,
        case when flags & 8192 <> 0 then 'replayed' end,
        case when flags & 16384 <> 0 then 'bot' end], null);

create function avtryck.is_counted(flags integer) returns boolean language sql immutable parallel safe
    return flags & (8 + 256) = 0;
comment on function avtryck.is_counted is 'Whether a hit counts at all, in gross figures: neither prefetch nor preview.';
create function avtryck.is_valid(flags integer) returns boolean language sql immutable parallel safe
    return flags & (4 + 128 + 512 + 1024 + 2048 + 4096 + 8192 + 16384) = 0;
comment on function avtryck.is_valid is 'Whether a hit counts in net figures too: none of macro, over_limit, bad_agent, data_centre, no_impression, fast_click, replayed, bot.';

create or replace view avtryck.hit_detail as
select hit.hit_id, hit.received_at, avtryck.kind_name(hit.kind) as kind,
       site.site, site.category as site_category, hit.page_url, hit.referrer, hit.visitor_id,
       place.country, place.region, place.city, place.postal_code, place.latitude, place.longitude, place.time_zone,
       network.asn, network.name as network,
       device.class as device_class, device.brand as device_brand, device.model as device_model,
       device.os, device.os_version, device.browser, device.browser_version, device.is_bot,
       avtryck.flag_names(hit.flags) as flags, avtryck.permit_names(hit.permit) as permit,
       avtryck.consent_source_name(hit.consent_source) as consent_source,
       ad.partner, hit.partner_uid, hit.maid, hit.device_id,
       ad.campaign, ad.creative, ad.placement, ad.publisher,
       hit.event_name, hit.event_id, hit.client_ip, hit.params,
       hit.click_id, hit.exposure_number, hit.exposure_number > 1 as seen_before
from avtryck.hit
left join avtryck.site on site.key = hit.site_key
left join avtryck.place on place.key = hit.place_key
left join avtryck.network on network.key = hit.network_key
left join avtryck.device on device.key = hit.device_key
left join avtryck.ad on ad.key = hit.ad_key;

create table avtryck.exposure (
    subject uuid not null,
    creative_key bigint not null,
    first_at timestamptz not null,
    last_at timestamptz not null,
    impressions integer not null,
    clicks integer not null,
    primary key (subject, creative_key)
) with (fillfactor = 85);
comment on table avtryck.exposure is 'Who saw which creative, how often. Kept up in the transaction that loads the hits; deleted by retention.';
comment on column avtryck.exposure.subject is 'The visitor ID; without one a hash of the MAID, else of the partner''s ID for the visitor.';
comment on column avtryck.exposure.creative_key is 'The row of ad that has the partner, campaign and creative alone.';
comment on column avtryck.exposure.first_at is 'When the first impression was received; where there is none, the first click.';
comment on column avtryck.exposure.last_at is 'When the last impression was received; where there is none, the last click.';
comment on column avtryck.exposure.impressions is 'How many impressions.';
comment on column avtryck.exposure.clicks is 'How many clicks.';

create view avtryck.exposure_detail as
select exposure.subject, ad.partner, ad.campaign, ad.creative,
       exposure.first_at, exposure.last_at, exposure.impressions, exposure.clicks
from avtryck.exposure
left join avtryck.ad on ad.key = exposure.creative_key;
comment on view avtryck.exposure_detail is 'Who saw which creative, how often, with its names. One subject''s rows are found by index, so what it saw of a campaign is a short sum.';

-- The reports. Each goes through hit day by day, and a day is planned for itself, with its own times as
-- constants: the partitions of other days are left alone whatever `day` is compared with (a date,
-- `current_date - 7`, a parameter), and the planner knows how many rows to expect.

create view avtryck.hit_day as
select to_date(substr(relname, 5), 'YYYYMMDD') as day
from pg_inherits join pg_class on pg_class.oid = inhrelid
where inhparent = 'avtryck.hit'::regclass and relname ~ '^hit_[0-9]{8}$'
offset 0;
comment on view avtryck.hit_day is 'The UTC days that have a partition of hit.';

create function avtryck.day_start(day date) returns timestamptz language sql immutable parallel safe
    return day::timestamp at time zone 'UTC';
comment on function avtryck.day_start is 'When a UTC day begins.';

create function avtryck.conversion(begins timestamptz, ends timestamptz, since timestamptz, within interval)
returns table (
    converted_at timestamptz, hit_id uuid, event_id text, params jsonb, visitor_id uuid, flags integer,
    site_key bigint, ad_key bigint, device_key bigint, place_key bigint, linked_by text,
    click_id text, click_hit_id uuid, clicked_at timestamptz, click_visitor_id uuid
) language sql stable parallel safe as $$
    select hit.received_at, hit.hit_id, hit.event_id, hit.params, hit.visitor_id,
           hit.flags | coalesce(named.flags, last.flags, 0),
           coalesce(named.site_key, last.site_key, hit.site_key), coalesce(named.ad_key, last.ad_key, own.key),
           coalesce(named.device_key, last.device_key, hit.device_key),
           coalesce(named.place_key, last.place_key, hit.place_key),
           case when named.hit_id is not null then 'click_id' when last.hit_id is not null then 'visitor'
                when own.key is not null then 'ad' end,
           coalesce(named.click_id, last.click_id), coalesce(named.hit_id, last.hit_id),
           coalesce(named.received_at, last.received_at), coalesce(named.visitor_id, last.visitor_id)
    from avtryck.hit
    left join avtryck.ad as own on own.key = hit.ad_key and (own.campaign is not null or own.creative is not null)
    left join lateral (
        select click.* from avtryck.hit as click
        where click.click_id = hit.click_id and click.kind = 4 and avtryck.is_counted(click.flags)
          and click.received_at >= since and click.received_at < ends
          and click.received_at >= hit.received_at - within and click.received_at <= hit.received_at
        order by click.received_at desc limit 1
    ) as named on true
    left join lateral (
        select click.* from avtryck.hit as click left join avtryck.ad on ad.key = click.ad_key
        where named.hit_id is null and click.visitor_id = hit.visitor_id
          and click.kind = 4 and avtryck.is_counted(click.flags)
          and click.received_at >= since and click.received_at < ends
          and click.received_at >= hit.received_at - within and click.received_at <= hit.received_at
          and (own.key is null or (ad.partner, ad.campaign) is not distinct from (own.partner, own.campaign))
        order by click.received_at desc limit 1
    ) as last on true
    where hit.received_at >= begins and hit.received_at < ends
      and hit.kind in (2, 5) and hit.event_name = 'conversion' and avtryck.is_counted(hit.flags)
$$;
comment on function avtryck.conversion is 'The conversions of a time, each with the click that it names, else the last click of its visitor, none of them longer before it than `within`; `since` is the earliest that could be. One that names a campaign belongs to clicks on that campaign alone, and where there is none to the ad that it names.';

create function avtryck.conversion_path_of(day date, within interval)
returns table (
    converted_at timestamptz, hit_id uuid, site text, event_id text, params jsonb, visitor_id uuid, is_valid boolean,
    linked_by text, partner text, campaign text, creative text, placement text, publisher text,
    click_id text, click_hit_id uuid, clicked_at timestamptz,
    impression_hit_id uuid, seen_at timestamptz, exposure_number integer
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    begins timestamptz := avtryck.day_start(day);
    ends timestamptz := avtryck.day_start(day + 1);
    since timestamptz := begins - within;
begin
    return query
    select conversion.converted_at, conversion.hit_id, site.site, conversion.event_id, conversion.params,
           conversion.visitor_id, avtryck.is_valid(conversion.flags), coalesce(conversion.linked_by, 'impression'),
           ad.partner, ad.campaign, ad.creative, ad.placement, ad.publisher,
           conversion.click_id, conversion.click_hit_id, conversion.clicked_at,
           seen.hit_id, seen.received_at, seen.exposure_number
    from avtryck.conversion(begins, ends, since, within) as conversion
    left join avtryck.ad as led on led.key = conversion.ad_key
    left join lateral (
        select hit.hit_id, hit.received_at, hit.exposure_number, hit.ad_key
        from avtryck.hit left join avtryck.ad on ad.key = hit.ad_key
        where hit.visitor_id = coalesce(conversion.click_visitor_id, conversion.visitor_id)
          and hit.kind = 3 and avtryck.is_counted(hit.flags)
          and hit.received_at >= since and hit.received_at < ends
          and hit.received_at >= conversion.converted_at - within
          and hit.received_at <= coalesce(conversion.clicked_at, conversion.converted_at)
          and (led.key is null or ((ad.partner, ad.campaign) is not distinct from (led.partner, led.campaign)
                                   and (led.creative is null or ad.creative = led.creative)))
        order by hit.received_at desc limit 1
    ) as seen on true
    left join avtryck.ad on ad.key = coalesce(led.key, seen.ad_key)
    left join avtryck.site on site.key = conversion.site_key
    where conversion.linked_by is not null or seen.hit_id is not null;
end $$;
comment on function avtryck.conversion_path_of is 'One day of conversion_path.';

create function avtryck.conversion_path(within interval)
returns table (
    day date, converted_at timestamptz, hit_id uuid, site text, event_id text, params jsonb, visitor_id uuid,
    is_valid boolean, linked_by text, partner text, campaign text, creative text, placement text, publisher text,
    click_id text, click_hit_id uuid, clicked_at timestamptz,
    impression_hit_id uuid, seen_at timestamptz, exposure_number integer
) language sql stable parallel safe as $$
    select hit_day.day, path.* from avtryck.hit_day
    cross join lateral avtryck.conversion_path_of(hit_day.day, within) as path
$$;
comment on function avtryck.conversion_path is 'Each conversion that an ad led to, with its click and the impression before it, none of them longer before it than that. linked_by: click_id, visitor (its last click), ad (which the conversion itself names) or impression (none of these, but the visitor was shown an ad).';

create view avtryck.conversion_path as select * from avtryck.conversion_path(interval '30 days');
comment on view avtryck.conversion_path is 'Each conversion that an ad led to within 30 days. The function of that name takes another time.';

create function avtryck.ad_event(begins timestamptz, ends timestamptz, since timestamptz)
returns table (
    kind smallint, hits bigint, is_measured boolean, is_valid boolean, site_key bigint, ad_key bigint,
    device_key bigint, place_key bigint, visitor_id uuid, maid text, partner_uid text
) language sql stable parallel safe as $$
    select case when hit.kind <> 5 then hit.kind when hit.event_name = 'click' then 4::smallint else 3::smallint end,
           1::bigint, true, avtryck.is_valid(hit.flags), hit.site_key, hit.ad_key,
           hit.device_key, hit.place_key, hit.visitor_id, hit.maid, hit.partner_uid
    from avtryck.hit
    where hit.received_at >= begins and hit.received_at < ends and avtryck.is_counted(hit.flags)
      and (hit.kind in (3, 4) or hit.kind = 5 and hit.event_name in ('impression', 'click'))
    union all
    select 2::smallint, 1::bigint, true, avtryck.is_valid(flags), site_key, ad_key, device_key, place_key, null, null, null
    from avtryck.conversion(begins, ends, since, interval '30 days') where linked_by is not null
    union all
    select hit_count.kind, hit_count.hits, false, false, hit_count.site_key, hit_count.ad_key, null, null, null, null, null
    from avtryck.hit_count
    where hit_count.minute >= begins and hit_count.minute < ends and hit_count.kind in (3, 4)
$$;
comment on function avtryck.ad_event is 'Of a time each impression (3) and click (4) that counts, and each conversion (2) that a click or its sender ascribes to an ad; is_measured is false for counts of hits without the permit measure.';

create function avtryck.campaign_of(day date)
returns table (
    site text, partner text, campaign text, device_class text, country text, region text,
    gross_impressions bigint, net_impressions bigint, unique_visitors bigint, frequency numeric,
    gross_clicks bigint, net_clicks bigint, ctr numeric, gross_conversions bigint, net_conversions bigint,
    unmeasured_impressions bigint, unmeasured_clicks bigint
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    begins timestamptz := avtryck.day_start(day);
    ends timestamptz := avtryck.day_start(day + 1);
    since timestamptz := begins - interval '30 days';
begin
    return query
    select each.site, each.partner, each.campaign, each.device_class, each.country, each.region,
           sum(shown)::bigint, sum(shown_net)::bigint, count(subject) filter (where shown_net > 0),
           round(sum(shown_net) filter (where subject is not null)
                 / nullif(count(subject) filter (where shown_net > 0), 0), 2),
           sum(clicked)::bigint, sum(clicked_net)::bigint, round(sum(clicked_net) / nullif(sum(shown_net), 0), 4),
           sum(converted)::bigint, sum(converted_net)::bigint, sum(shown_unmeasured)::bigint, sum(clicked_unmeasured)::bigint
    from (
        select site.site, ad.partner, ad.campaign, device.class as device_class, place.country, place.region,
               coalesce(event.visitor_id, md5(event.maid)::uuid, md5(ad.partner || ':' || event.partner_uid)::uuid) as subject,
               count(*) filter (where kind = 3 and is_measured) as shown,
               count(*) filter (where kind = 3 and is_valid) as shown_net,
               count(*) filter (where kind = 4 and is_measured) as clicked,
               count(*) filter (where kind = 4 and is_valid) as clicked_net,
               count(*) filter (where kind = 2) as converted,
               count(*) filter (where kind = 2 and is_valid) as converted_net,
               coalesce(sum(hits) filter (where kind = 3 and not is_measured), 0) as shown_unmeasured,
               coalesce(sum(hits) filter (where kind = 4 and not is_measured), 0) as clicked_unmeasured
        from avtryck.ad_event(begins, ends, since) as event
        left join avtryck.site on site.key = event.site_key
        left join avtryck.ad on ad.key = event.ad_key
        left join avtryck.device on device.key = event.device_key
        left join avtryck.place on place.key = event.place_key
        group by 1, 2, 3, 4, 5, 6, 7
    ) as each
    group by 1, 2, 3, 4, 5, 6;
end $$;
comment on function avtryck.campaign_of is 'One day of campaign_daily.';

create view avtryck.campaign_daily as
select hit_day.day, report.* from avtryck.hit_day cross join lateral avtryck.campaign_of(hit_day.day) as report;
comment on view avtryck.campaign_daily is 'Impressions, visitors, clicks and conversions of each campaign a UTC day, by device class and region. Hits without the permit measure stand in columns of their own, where device and region are null.';

create function avtryck.placement_of(day date)
returns table (
    site text, partner text, publisher text, placement text, campaign text, creative text,
    gross_impressions bigint, net_impressions bigint, unique_visitors bigint, frequency numeric,
    gross_clicks bigint, net_clicks bigint, ctr numeric, gross_conversions bigint, net_conversions bigint,
    unmeasured_impressions bigint, unmeasured_clicks bigint
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    begins timestamptz := avtryck.day_start(day);
    ends timestamptz := avtryck.day_start(day + 1);
    since timestamptz := begins - interval '30 days';
begin
    return query
    select each.site, each.partner, each.publisher, each.placement, each.campaign, each.creative,
           sum(shown)::bigint, sum(shown_net)::bigint, count(subject) filter (where shown_net > 0),
           round(sum(shown_net) filter (where subject is not null)
                 / nullif(count(subject) filter (where shown_net > 0), 0), 2),
           sum(clicked)::bigint, sum(clicked_net)::bigint, round(sum(clicked_net) / nullif(sum(shown_net), 0), 4),
           sum(converted)::bigint, sum(converted_net)::bigint, sum(shown_unmeasured)::bigint, sum(clicked_unmeasured)::bigint
    from (
        select site.site, ad.partner, ad.publisher, ad.placement, ad.campaign, ad.creative,
               coalesce(event.visitor_id, md5(event.maid)::uuid, md5(ad.partner || ':' || event.partner_uid)::uuid) as subject,
               count(*) filter (where kind = 3 and is_measured) as shown,
               count(*) filter (where kind = 3 and is_valid) as shown_net,
               count(*) filter (where kind = 4 and is_measured) as clicked,
               count(*) filter (where kind = 4 and is_valid) as clicked_net,
               count(*) filter (where kind = 2) as converted,
               count(*) filter (where kind = 2 and is_valid) as converted_net,
               coalesce(sum(hits) filter (where kind = 3 and not is_measured), 0) as shown_unmeasured,
               coalesce(sum(hits) filter (where kind = 4 and not is_measured), 0) as clicked_unmeasured
        from avtryck.ad_event(begins, ends, since) as event
        left join avtryck.site on site.key = event.site_key
        left join avtryck.ad on ad.key = event.ad_key
        group by 1, 2, 3, 4, 5, 6, 7
    ) as each
    group by 1, 2, 3, 4, 5, 6;
end $$;
comment on function avtryck.placement_of is 'One day of placement_daily.';

create view avtryck.placement_daily as
select hit_day.day, report.* from avtryck.hit_day cross join lateral avtryck.placement_of(hit_day.day) as report;
comment on view avtryck.placement_daily is 'Impressions, visitors, clicks and conversions of each creative on each placement a UTC day.';
