-- What the reports say of a day, computed from its hits alone, as they did before there were roll-ups.

create schema plain;

-- The day of a site, by the date that its clocks show. Key 0 is of hits whose site is unknown.
create view plain.clock as
select key as own_key, coalesce((select time_zone from avtryck.site_zone where site_zone.site = site.site), 'UTC') as zone
from avtryck.site
union all select 0, 'UTC';

create function plain.day_of(at timestamptz, site_key bigint) returns date language sql stable as $$
    select (at at time zone zone)::date from plain.clock where own_key = day_of.site_key
$$;

-- What may count of conversions is limited by UTC day, wherever their site is.
create function plain.ad_event(day date)
returns table (
    at timestamptz, kind smallint, hits bigint, is_measured boolean, is_valid boolean, site_key bigint, ad_key bigint,
    device_key bigint, place_key bigint, visitor_id uuid, maid text, partner_uid text, flags integer, network_key bigint
) language plpgsql stable set plan_cache_mode = force_custom_plan as $$
declare
    begins timestamptz := avtryck.day_start(day);
    ends timestamptz := avtryck.day_start(day + 1);
begin
    return query
    select hit.received_at, case when hit.kind <> 5 then hit.kind when hit.event_name = 'click' then 4::smallint else 3::smallint end,
           1::bigint, true, avtryck.is_valid(hit.flags), hit.site_key, hit.ad_key, hit.device_key, hit.place_key, hit.visitor_id,
           case when hit.kind = 5 then hit.maid end, case when hit.kind = 5 then hit.partner_uid end, hit.flags, hit.network_key
    from avtryck.hit
    where hit.received_at >= begins and hit.received_at < ends and avtryck.is_counted(hit.flags)
      and (hit.kind in (3, 4) or hit.kind = 5 and hit.event_name in ('impression', 'click'))
    union all
    select conversion.converted_at, 2::smallint, 1::bigint, true, conversion.is_net, conversion.site_key, conversion.ad_key,
           conversion.device_key, conversion.place_key, null, null, null, conversion.flags, conversion.network_key
    from avtryck.conversion(begins, ends, begins - interval '30 days', interval '30 days') as conversion
    where conversion.linked_by is not null
    union all
    select hit_count.minute, hit_count.kind, hit_count.hits::bigint, false, false, hit_count.site_key, hit_count.ad_key, null, null,
           null, null, null, 0, null
    from avtryck.hit_count
    where hit_count.minute >= begins and hit_count.minute < ends and hit_count.kind in (3, 4);
end $$;

create function plain.event(day date)
returns table (
    at timestamptz, kind smallint, hits bigint, is_measured boolean, is_valid boolean, site_key bigint, ad_key bigint,
    device_key bigint, place_key bigint, visitor_id uuid, maid text, partner_uid text, flags integer, network_key bigint
) language sql stable as $$
    select of_utc.*
    from generate_series(-1, 1) as shift
    cross join lateral plain.ad_event(event.day + shift) as of_utc
    join plain.clock on own_key = of_utc.site_key
    where (shift = 0 or exists (select from avtryck.site_zone)) and (of_utc.at at time zone clock.zone)::date = event.day
$$;

create function plain.campaign_of(day date)
returns table (
    site text, partner text, campaign text, device_class text, country text, region text,
    gross_impressions bigint, net_impressions bigint, unique_visitors bigint, frequency numeric,
    gross_clicks bigint, net_clicks bigint, ctr numeric, gross_conversions bigint, net_conversions bigint,
    unmeasured_impressions bigint, unmeasured_clicks bigint
) language plpgsql stable as $$
#variable_conflict use_column
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
        from plain.event(day) as event
        left join avtryck.site on site.key = event.site_key
        left join avtryck.ad on ad.key = event.ad_key
        left join avtryck.device on device.key = event.device_key
        left join avtryck.place on place.key = event.place_key
        group by 1, 2, 3, 4, 5, 6, 7
    ) as each
    group by 1, 2, 3, 4, 5, 6;
end $$;

create function plain.placement_of(day date)
returns table (
    site text, partner text, publisher text, placement text, campaign text, creative text,
    gross_impressions bigint, net_impressions bigint, unique_visitors bigint, frequency numeric,
    gross_clicks bigint, net_clicks bigint, ctr numeric, gross_conversions bigint, net_conversions bigint,
    unmeasured_impressions bigint, unmeasured_clicks bigint
) language plpgsql stable as $$
#variable_conflict use_column
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
        from plain.event(day) as event
        left join avtryck.site on site.key = event.site_key
        left join avtryck.ad on ad.key = event.ad_key
        group by 1, 2, 3, 4, 5, 6, 7
    ) as each
    group by 1, 2, 3, 4, 5, 6;
end $$;

create function plain.path_of(day date)
returns table (
    converted_at timestamptz, hit_id uuid, site text, event_id text, params jsonb, visitor_id uuid, is_valid boolean,
    linked_by text, partner text, campaign text, creative text, placement text, publisher text,
    click_id text, click_hit_id uuid, clicked_at timestamptz,
    impression_hit_id uuid, seen_at timestamptz, exposure_number integer
) language plpgsql stable set plan_cache_mode = force_custom_plan as $$
begin
    return query
    select path.at, path.hit_id, site.site, path.event_id, path.params, path.visitor_id, path.is_net,
           coalesce(path.linked_by, 'impression'), ad.partner, ad.campaign, ad.creative, ad.placement, ad.publisher,
           path.click_id, path.click_hit_id, path.clicked_at, path.impression_hit_id, path.seen_at, path.exposure_number
    from generate_series(-1, 1) as shift
    cross join lateral (select avtryck.day_start(day + shift)) as utc (begins)
    cross join lateral avtryck.conversion_seen(begins, begins, begins + interval '24 hours', begins - interval '720 hours',
                                               interval '30 days') as path
    left join avtryck.ad as led on led.key = path.ad_key
    left join avtryck.ad on ad.key = coalesce(led.key, path.seen_ad_key)
    left join avtryck.site on site.key = path.site_key
    where plain.day_of(path.converted_at, path.site_key) = day;
end $$;

create function plain.quality_of(day date)
returns table (
    site text, partner text, campaign text, kind text, net_hits bigint,
    new_visitor_share numeric, top_network_share numeric, top_network text
) language plpgsql stable as $$
#variable_conflict use_column
begin
    return query
    select each.site, each.partner, each.campaign, each.kind, sum(each.hits)::bigint,
           round(sum(each.new_hits) / sum(each.hits), 4),
           round(max(each.hits) filter (where each.network is not null) / sum(each.hits), 4),
           (array_agg(each.network order by each.hits desc, each.network) filter (where each.network is not null))[1]
    from (
        select site.site, ad.partner, ad.campaign,
               case event.kind when 2 then 'conversion' else avtryck.kind_name(event.kind) end as kind,
               coalesce(network.name, 'AS' || network.asn) as network,
               count(*) as hits, count(*) filter (where event.flags & 16 <> 0) as new_hits
        from plain.event(day) as event
        left join avtryck.site on site.key = event.site_key
        left join avtryck.ad on ad.key = event.ad_key
        left join avtryck.network on network.key = event.network_key
        where event.is_valid
        group by 1, 2, 3, 4, 5
    ) as each
    group by 1, 2, 3, 4;
end $$;

create view plain.ad_hour as
select date_trunc('hour', received_at, 'UTC') as hour, act, avtryck.flag_names(faults) as faults, ad.campaign, sum(hits)::bigint as hits,
       sum(unmeasured)::bigint as unmeasured
from (
    select received_at, ad_key, flags & 2129540 as faults, 1 as hits, 0 as unmeasured,
           case when kind = 3 or kind = 5 and event_name = 'impression' then 'impression'
                when kind = 4 or kind = 5 and event_name = 'click' then 'click'
                when kind = 2 and event_name = 'viewable' and ad_key is not null then 'viewable' end as act
    from avtryck.hit where flags & 264 = 0
    union all
    select minute, ad_key, 0, 0, hits, case kind when 3 then 'impression' when 4 then 'click' end
    from avtryck.hit_count
    where plain.day_of(minute, site_key) in (select day from avtryck.site_day)
) as event
left join avtryck.ad on ad.key = event.ad_key
where act is not null
group by 1, 2, 3, 4;

create view plain.seen as
select plain.day_of(received_at, site_key) as day, ad.creative,
       uuid_hash_extended(coalesce(visitor_id, case when kind = 5 then coalesce(
           md5(maid)::uuid, md5(ad.partner || ':' || partner_uid)::uuid) end), 0) >> 18 as subject, count(*) as impressions
from avtryck.hit left join avtryck.ad on ad.key = hit.ad_key
where (kind = 3 or kind = 5 and event_name = 'impression') and flags & (264 + 2129540) = 0
  and (visitor_id is not null or kind = 5 and (maid is not null or partner_uid is not null and ad.partner is not null))
group by 1, 2, 3;

create view plain.shown as
select plain.day_of(received_at, site_key) as day, site.site, ad.partner, ad.campaign, ad.creative, ad.placement,
       ad.publisher, device.class as device_class,
       coalesce(visitor_id::text, case when kind = 5 then coalesce('m' || maid, 'p' || ad.partner || ':' || partner_uid) end) as subject
from avtryck.hit
left join avtryck.ad on ad.key = hit.ad_key
left join avtryck.site on site.key = hit.site_key
left join avtryck.device on device.key = hit.device_key
where (kind = 3 or kind = 5 and event_name = 'impression') and flags & (264 + 2129540) = 0;

create view plain.campaign_view as
select plain.day_of(received_at, site_key) as day, ad.creative,
       count(*) filter (where event_name = 'viewable') as viewable,
       count(*) filter (where kind = 3 or kind = 5) as impressions
from avtryck.hit join avtryck.ad on ad.key = hit.ad_key
where (kind = 3 or kind = 5 and event_name = 'impression' or kind = 2 and event_name = 'viewable') and flags & (264 + 2129540) = 0
group by 1, 2;

create view plain.campaign_invalid as
select plain.day_of(received_at, site_key) as day, ad.campaign, reason, count(*) as hits
from avtryck.hit left join avtryck.ad on ad.key = hit.ad_key
cross join lateral unnest(avtryck.flag_names(flags & 2129540)) as reason
where (kind in (3, 4) or kind = 5 and event_name in ('impression', 'click')) and flags & 264 = 0
group by 1, 2, 3;

create view plain.web_event as
select day, event_name, sum(hits)::bigint as hits, sum(visitors)::bigint as visitors
from (select plain.day_of(received_at, site_key) as day, site.site, event_name, count(*) as hits, count(distinct visitor_id) as visitors
      from avtryck.hit join avtryck.site on site.key = hit.site_key
      where kind = 2 and ad_key is null and flags & (264 + 2129540) = 0 group by 1, 2, 3) as each
group by 1, 2;

create view plain.web_page_view as
select day, sum(measured)::bigint as measured, sum(unmeasured)::bigint as unmeasured
from (select plain.day_of(received_at, site_key) as day, 1 as measured, 0 as unmeasured
      from avtryck.hit where kind = 1 and ad_key is null and flags & (264 + 2129540) = 0
      union all
      select plain.day_of(minute, site_key), 0, hits from avtryck.hit_count where kind = 1) as each
where day in (select day from avtryck.site_day)
group by 1;

-- What a day was said to be while it was stored and all hits were there: the hits of a day that expires may be what
-- conversions of the days after it followed. It counts for as long as the day is not stored anew.

create table plain.kept (day date primary key, mark text not null);
create table plain.campaign_kept as
select day, report.* from (select date '2000-01-01' as day) as none cross join lateral plain.campaign_of(day) as report
with no data;
create table plain.placement_kept as
select day, report.* from (select date '2000-01-01' as day) as none cross join lateral plain.placement_of(day) as report
with no data;
create table plain.quality_kept as
select day, report.* from (select date '2000-01-01' as day) as none cross join lateral plain.quality_of(day) as report
with no data;

create view plain.still_kept as
select kept.day from plain.kept join avtryck.report_day using (day)
where report_day.xmin::text = kept.mark and avtryck.is_stored(kept.day);

create function plain.keep() returns void language plpgsql as $$
begin
    delete from plain.kept where day not in (select day from plain.still_kept);
    delete from plain.campaign_kept where day not in (select day from plain.kept);
    delete from plain.placement_kept where day not in (select day from plain.kept);
    delete from plain.quality_kept where day not in (select day from plain.kept);
    insert into plain.campaign_kept
    select stored.day, report.* from avtryck.report_day as stored cross join lateral plain.campaign_of(stored.day) as report
    where avtryck.is_stored(stored.day) and stored.day not in (select day from plain.kept);
    insert into plain.placement_kept
    select stored.day, report.* from avtryck.report_day as stored cross join lateral plain.placement_of(stored.day) as report
    where avtryck.is_stored(stored.day) and stored.day not in (select day from plain.kept);
    insert into plain.quality_kept
    select stored.day, report.* from avtryck.report_day as stored cross join lateral plain.quality_of(stored.day) as report
    where avtryck.is_stored(stored.day) and stored.day not in (select day from plain.kept);
    insert into plain.kept
    select day, xmin::text from avtryck.report_day
    where avtryck.is_stored(day) and day not in (select day from plain.kept);
end $$;

create view plain.campaign as
select day, report.* from avtryck.site_day cross join lateral plain.campaign_of(day) as report
where day not in (select day from plain.still_kept)
union all
select campaign_kept.* from plain.campaign_kept join plain.still_kept using (day) join avtryck.site_day using (day);

create view plain.placement as
select day, report.* from avtryck.site_day cross join lateral plain.placement_of(day) as report
where day not in (select day from plain.still_kept)
union all
select placement_kept.* from plain.placement_kept join plain.still_kept using (day) join avtryck.site_day using (day);

create view plain.quality as
select day, report.* from avtryck.site_day cross join lateral plain.quality_of(day) as report
where day not in (select day from plain.still_kept)
union all
select quality_kept.* from plain.quality_kept join plain.still_kept using (day) join avtryck.site_day using (day);
