-- Reports are read from roll-ups. The hits of a span of time are rolled up, and whoever stores or deletes hits of it
-- later marks it in the same transaction. A report reads a span that nobody has marked from its roll-up, and everything
-- else from the hits themselves. So a report is right at each moment, whatever the job has got round to.

create table avtryck.report_mark (
    at timestamptz not null,
    moves_conversions boolean not null
);
create index report_mark_at on avtryck.report_mark (at);
comment on table avtryck.report_mark is 'Where roll-ups no longer agree with hits, until the job report has taken the mark: a row for each ten minutes in which a transaction stored or deleted hits or counts. Written in that transaction.';
comment on column avtryck.report_mark.at is 'The start of the ten minutes (UTC) in which the hits were received.';
comment on column avtryck.report_mark.moves_conversions is 'Whether conversions of the 30 days after may be ascribed otherwise: there are other hits among them than page views and counts.';

create table avtryck.report_span (
    begins timestamptz primary key,
    ends timestamptz not null check (ends > begins)
);
comment on table avtryck.report_span is 'The spans of time whose hits are rolled up. They do not overlap, and each lies within one UTC day.';
comment on column avtryck.report_span.begins is 'When it begins.';
comment on column avtryck.report_span.ends is 'When it ends: this moment no longer belongs to it.';

create table avtryck.ad_hour (
    span timestamptz not null,
    hour timestamptz not null,
    site_key bigint not null,
    ad_key bigint,
    act text not null,
    faults integer not null,
    hits integer not null,
    unmeasured integer not null
);
create index ad_hour_span on avtryck.ad_hour (span);
comment on table avtryck.ad_hour is 'Hits about ads by hour, site, ad, what happened, and what is wrong with them. Query ad_hour_detail, which also has what is not yet rolled up.';
comment on column avtryck.ad_hour.span is 'The report_span in which they were received.';
comment on column avtryck.ad_hour.hour is 'The hour (UTC) in which they were received.';
comment on column avtryck.ad_hour.site_key is 'The site.';
comment on column avtryck.ad_hour.ad_key is 'The ad; null where the hits name none.';
comment on column avtryck.ad_hour.act is 'impression, click, measurable, viewable, start, firstquartile, midpoint, thirdquartile or complete.';
comment on column avtryck.ad_hour.faults is 'The flags that keep them out of net figures; 0 for valid hits.';
comment on column avtryck.ad_hour.hits is 'How many.';
comment on column avtryck.ad_hour.unmeasured is 'How many besides that had no permit to be measured.';

create table avtryck.ad_day (
    span timestamptz not null,
    site_key bigint not null,
    ad_key bigint,
    device_class text,
    country text,
    region text,
    gross_impressions integer not null,
    net_impressions integer not null,
    gross_clicks integer not null,
    net_clicks integer not null,
    unmeasured_impressions integer not null,
    unmeasured_clicks integer not null,
    subjects bigint[],
    impressions integer[]
);
create index ad_day_span on avtryck.ad_day (span, ad_key);
comment on table avtryck.ad_day is 'Impressions and clicks by span, site, ad, device class and region, with the subjects of the impressions. A day that has been over for two hours is one span. Query ad_day_detail, which also has what is not yet rolled up.';
comment on column avtryck.ad_day.span is 'The report_span in which they were received.';
comment on column avtryck.ad_day.site_key is 'The site.';
comment on column avtryck.ad_day.ad_key is 'The ad; null where the hits name none.';
comment on column avtryck.ad_day.device_class is 'As device.class; null where unknown and for unmeasured hits.';
comment on column avtryck.ad_day.country is 'ISO 3166-1 code.';
comment on column avtryck.ad_day.region is 'ISO 3166-2 code or name of the region.';
comment on column avtryck.ad_day.gross_impressions is 'Impressions, invalid ones included.';
comment on column avtryck.ad_day.net_impressions is 'Valid impressions.';
comment on column avtryck.ad_day.gross_clicks is 'Clicks, invalid ones included.';
comment on column avtryck.ad_day.net_clicks is 'Valid clicks.';
comment on column avtryck.ad_day.unmeasured_impressions is 'Impressions without the permit measure.';
comment on column avtryck.ad_day.unmeasured_clicks is 'Clicks without the permit measure.';
comment on column avtryck.ad_day.subjects is 'Who had the valid impressions: a hash of 64 bits of each subject. One that used several devices of the class may be there several times, until the day is over. What is counted with them is exact: that two subjects of ten million share a hash has a chance of 1 in 370,000.';
comment on column avtryck.ad_day.impressions is 'How many valid impressions each of them had; null where each had one.';

create function avtryck.report_slot(at timestamptz) returns timestamptz language sql immutable parallel safe
    return date_bin(interval '10 minutes', at, timestamptz '2000-01-01 00:00:00+00');
comment on function avtryck.report_slot is 'The start of the ten minutes that a time lies in, which is what report_mark goes by.';

create view avtryck.report_clean as
select begins, ends from avtryck.report_span
where not exists (select from avtryck.report_mark where at >= begins and at < ends);
comment on view avtryck.report_clean is 'The spans whose roll-ups agree with the hits.';
comment on column avtryck.report_clean.begins is 'When it begins.';
comment on column avtryck.report_clean.ends is 'When it ends.';

create function avtryck.report_gap(since timestamptz, until timestamptz)
returns table (begins timestamptz, ends timestamptz) language sql stable parallel safe
begin atomic
    select gap_begins, gap_ends
    from (select coalesce(lag(clean.ends) over (order by clean.begins), since) as gap_begins, clean.begins as gap_ends
          from (select report_clean.begins, report_clean.ends from avtryck.report_clean
                where report_clean.begins >= since and report_clean.begins < until
                union all
                select until, until) as clean) as gap
    where gap_begins < gap_ends;
end;
comment on function avtryck.report_gap is 'What of a day, or of a part of it that no span reaches out of, must be read from the hits, because it is not rolled up or has changed since.';

create function avtryck.fault_mask() returns integer language sql immutable parallel safe
    return 4 + 128 + 512 + 1024 + 2048 + 4096 + 8192 + 16384 + 2097152;
comment on function avtryck.fault_mask is 'The flags that keep a hit out of net figures, as is_valid has them.';

create function avtryck.ad_act(kind smallint, event_name text) returns text language sql immutable parallel safe
    return case
        when kind = 3 or kind = 5 and event_name = 'impression' then 'impression'
        when kind = 4 or kind = 5 and event_name = 'click' then 'click'
        when kind in (2, 5) and lower(replace(event_name, '_', '')) = any('{measurable,viewable,start,firstquartile,midpoint,thirdquartile,complete}'::text[])
            then lower(replace(event_name, '_', ''))
    end;
comment on function avtryck.ad_act is 'What happened with an ad: impression, click, measurable, viewable or a mark that a video has reached; null for other hits.';

-- Who reads reports need not be able to read hits, so what computes sums of them runs as the owner of the schema.
create function avtryck.ad_hour_of(since timestamptz, until timestamptz)
returns table (hour timestamptz, site_key bigint, ad_key bigint, act text, faults integer, hits bigint, unmeasured bigint)
language plpgsql stable parallel safe security definer set plan_cache_mode = force_custom_plan
-- The planner expects few rows of conditions on flags, and would compare each hit with each row of a dimension.
set enable_nestloop = off as $$
#variable_conflict use_column
begin
    return query
    select date_trunc('hour', received_at, 'UTC'), site_key, ad_key, avtryck.ad_act(kind, event_name),
           flags & avtryck.fault_mask(), count(*), 0::bigint
    from avtryck.hit
    where received_at >= since and received_at < until and avtryck.is_counted(flags)
      and (kind in (3, 4) or kind in (2, 5) and avtryck.ad_act(kind, event_name) is not null
                             and (kind = 5 or ad_key is not null))
    group by 1, 2, 3, 4, 5
    union all
    select date_trunc('hour', minute, 'UTC'), site_key, ad_key, case kind when 3 then 'impression' else 'click' end,
           0, 0::bigint, sum(hits)::bigint
    from avtryck.hit_count
    where minute >= since and minute < until and kind in (3, 4)
    group by 1, 2, 3, 4;
end $$;
comment on function avtryck.ad_hour_of is 'What ad_hour has of a time, computed from the hits.';

create function avtryck.ad_day_of(since timestamptz, until timestamptz)
returns table (
    site_key bigint, ad_key bigint, device_class text, country text, region text,
    gross_impressions bigint, net_impressions bigint, gross_clicks bigint, net_clicks bigint,
    unmeasured_impressions bigint, unmeasured_clicks bigint, subjects bigint[], impressions integer[]
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
    select keyed.site_key, keyed.ad_key, device.class, place.country, place.region, sum(shown)::bigint, sum(shown_net)::bigint,
           sum(clicked)::bigint, sum(clicked_net)::bigint, 0::bigint, 0::bigint,
           array_agg(subject) filter (where subject is not null),
           case when max(shown_net) filter (where subject is not null) > 1
                then array_agg(least(shown_net, 2147483647)::integer) filter (where subject is not null) end
    from keyed left join avtryck.device on device.key = device_key left join avtryck.place on place.key = place_key
    group by 1, 2, 3, 4, 5
    union all
    select site_key, ad_key, null, null, null, 0, 0, 0, 0, coalesce(sum(hits) filter (where kind = 3), 0)::bigint,
           coalesce(sum(hits) filter (where kind = 4), 0)::bigint, null, null
    from avtryck.hit_count
    where minute >= since and minute < until and kind in (3, 4)
    group by 1, 2;
end $$;
comment on function avtryck.ad_day_of is 'What ad_day has of a time, computed from the hits.';

create function avtryck.ad_part(since timestamptz, until timestamptz)
returns table (
    site_key bigint, ad_key bigint, device_class text, country text, region text,
    gross_impressions bigint, net_impressions bigint, gross_clicks bigint, net_clicks bigint,
    unmeasured_impressions bigint, unmeasured_clicks bigint, subjects bigint[], impressions integer[]
) language sql stable parallel safe
begin atomic
    select ad_day.site_key, ad_day.ad_key, ad_day.device_class, ad_day.country, ad_day.region,
           ad_day.gross_impressions, ad_day.net_impressions, ad_day.gross_clicks, ad_day.net_clicks,
           ad_day.unmeasured_impressions, ad_day.unmeasured_clicks, ad_day.subjects, ad_day.impressions
    from avtryck.report_clean join avtryck.ad_day on ad_day.span = report_clean.begins
    where report_clean.begins >= since and report_clean.begins < until
    union all
    select fresh.* from avtryck.report_gap(since, until) as gap cross join lateral avtryck.ad_day_of(gap.begins, gap.ends) as fresh;
end;
comment on function avtryck.ad_part is 'What there is of a day: of roll-ups where they agree with the hits, else of the hits. Rows of the same ad, device class and region are to be added up; a subject may be in several.';

create function avtryck.ad_hour_part(since timestamptz, until timestamptz)
returns table (hour timestamptz, site_key bigint, ad_key bigint, act text, faults integer, hits bigint, unmeasured bigint)
language sql stable parallel safe
begin atomic
    select ad_hour.hour, ad_hour.site_key, ad_hour.ad_key, ad_hour.act, ad_hour.faults, ad_hour.hits, ad_hour.unmeasured
    from avtryck.report_clean join avtryck.ad_hour on ad_hour.span = report_clean.begins
    where report_clean.begins >= since and report_clean.begins < until
    union all
    select fresh.* from avtryck.report_gap(since, until) as gap cross join lateral avtryck.ad_hour_of(gap.begins, gap.ends) as fresh;
end;
comment on function avtryck.ad_hour_part is 'What ad_part is for ad_day, for ad_hour.';

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

create view avtryck.ad_day_detail as
select hit_day.day, site.site, ad.partner, ad.campaign, ad.creative, ad.placement, ad.publisher, part.device_class,
       part.country, part.region, part.gross_impressions, part.net_impressions, part.gross_clicks, part.net_clicks,
       part.unmeasured_impressions, part.unmeasured_clicks, part.subjects, part.impressions
from avtryck.hit_day
cross join lateral avtryck.ad_part(avtryck.day_start(hit_day.day), avtryck.day_start(hit_day.day + 1)) as part
left join avtryck.site on site.key = part.site_key
left join avtryck.ad on ad.key = part.ad_key;
comment on view avtryck.ad_day_detail is 'Impressions and clicks of each ad a day, by device class and region, with the subjects of the impressions. Rows of the same ad, device class and region are to be added up.';

do $$
declare
    bare record;
begin
    for bare in
        select shown.oid as shown, told.attnum, told.attname as column,
               coalesce((select col_description(stored.attrelid, stored.attnum) from pg_attribute as stored
                         where stored.attrelid = 'avtryck.ad_day'::regclass and stored.attname = told.attname),
                        (select col_description(known.attrelid, known.attnum) from pg_attribute as known
                         where known.attrelid = 'avtryck.hit_detail'::regclass and known.attname = told.attname),
                        'The UTC day.') as description
        from unnest(array['ad_hour_detail', 'ad_day_detail']) as name (shown)
        join pg_class as shown on shown.oid = to_regclass('avtryck.' || name.shown)
        join pg_attribute as told on told.attrelid = shown.oid and told.attnum > 0
        where col_description(shown.oid, told.attnum) is null
    loop
        execute format('comment on column %s.%I is %L', bare.shown::regclass, bare.column, bare.description);
    end loop;
end $$;

-- What the reports of a day that is over say, so that they need not be computed again.

create table avtryck.report_day (
    day date primary key
);
comment on table avtryck.report_day is 'The days whose reports are stored. They hold for as long as report_mark has nothing of the day or of the 30 days before it, in which a conversion may have its click.';
comment on column avtryck.report_day.day is 'The UTC day.';

create table avtryck.campaign_day (
    day date not null,
    site text, partner text, campaign text, device_class text, country text, region text,
    gross_impressions bigint, net_impressions bigint, unique_visitors bigint, frequency numeric,
    gross_clicks bigint, net_clicks bigint, ctr numeric, gross_conversions bigint, net_conversions bigint,
    unmeasured_impressions bigint, unmeasured_clicks bigint
);
create index campaign_day_day on avtryck.campaign_day (day);
comment on table avtryck.campaign_day is 'The stored rows of campaign_daily, whose columns it has.';

create table avtryck.placement_day (
    day date not null,
    site text, partner text, publisher text, placement text, campaign text, creative text,
    gross_impressions bigint, net_impressions bigint, unique_visitors bigint, frequency numeric,
    gross_clicks bigint, net_clicks bigint, ctr numeric, gross_conversions bigint, net_conversions bigint,
    unmeasured_impressions bigint, unmeasured_clicks bigint
);
create index placement_day_day on avtryck.placement_day (day);
comment on table avtryck.placement_day is 'The stored rows of placement_daily, whose columns it has.';

create table avtryck.quality_day (
    day date not null,
    site text, partner text, campaign text, kind text, net_hits bigint,
    new_visitor_share numeric, top_network_share numeric, top_network text
);
create index quality_day_day on avtryck.quality_day (day);
comment on table avtryck.quality_day is 'The stored rows of campaign_quality, whose columns it has.';

do $$
declare
    pair record;
begin
    for pair in
        select stored.relname as stored, shown.relname as shown, told.attname as column,
               col_description(shown.oid, told.attnum) as description
        from (values ('campaign_day', 'campaign_daily'), ('placement_day', 'placement_daily'),
                     ('quality_day', 'campaign_quality')) as name (stored, shown)
        join pg_class as stored on stored.oid = to_regclass('avtryck.' || name.stored)
        join pg_class as shown on shown.oid = to_regclass('avtryck.' || name.shown)
        join pg_attribute as told on told.attrelid = shown.oid and told.attnum > 0
    loop
        execute format('comment on column avtryck.%I.%I is %L', pair.stored, pair.column, pair.description);
    end loop;
end $$;

create function avtryck.is_stored(day date) returns boolean language sql stable parallel safe
begin atomic
    select exists (select from avtryck.report_day where report_day.day = is_stored.day)
       and not exists (select from avtryck.report_mark
                       where at >= avtryck.day_start(is_stored.day - 30) and at < avtryck.day_start(is_stored.day + 1)
                         and (moves_conversions or at >= avtryck.day_start(is_stored.day)));
end;
comment on function avtryck.is_stored is 'Whether the stored reports of a day agree with the hits.';

create function avtryck.campaign_live(day date)
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
    with part as materialized (
        select hash_record_extended(row(site.site, ad.partner, ad.campaign, part.device_class, part.country, part.region), 0) as number,
               site.site, ad.partner, ad.campaign, part.*
        from avtryck.ad_part(begins, ends) as part
        left join avtryck.site on site.key = part.site_key
        left join avtryck.ad on ad.key = part.ad_key
    ),
    visit as (
        select number, count(*) as visitors, sum(shown) as shown
        from (select number, subject, sum(coalesce(shown, 1)) as shown
              from part cross join lateral unnest(subjects, impressions) as seen (subject, shown)
              group by 1, 2) as each
        group by 1
    ),
    shown as (
        select number, site, partner, campaign, device_class, country, region, sum(gross_impressions) as gross_impressions,
               sum(net_impressions) as net_impressions, sum(gross_clicks) as gross_clicks, sum(net_clicks) as net_clicks,
               sum(unmeasured_impressions) as unmeasured_impressions, sum(unmeasured_clicks) as unmeasured_clicks
        from part group by 1, 2, 3, 4, 5, 6, 7
    ),
    converted as (
        select site.site, ad.partner, ad.campaign, device.class as device_class, place.country, place.region,
               count(*) as gross, count(*) filter (where is_net) as net
        from avtryck.conversion(begins, ends, since, interval '30 days') as conversion
        left join avtryck.site on site.key = conversion.site_key
        left join avtryck.ad on ad.key = conversion.ad_key
        left join avtryck.device on device.key = conversion.device_key
        left join avtryck.place on place.key = conversion.place_key
        where linked_by is not null
        group by 1, 2, 3, 4, 5, 6
    )
    select site, partner, campaign, device_class, country, region,
           sum(gross_impressions)::bigint, sum(net_impressions)::bigint, sum(visitors)::bigint,
           round(sum(shown) / nullif(sum(visitors), 0), 2), sum(gross_clicks)::bigint, sum(net_clicks)::bigint,
           round(sum(net_clicks) / nullif(sum(net_impressions), 0), 4), sum(gross)::bigint, sum(net)::bigint,
           sum(unmeasured_impressions)::bigint, sum(unmeasured_clicks)::bigint
    from (
        select site, partner, campaign, device_class, country, region, gross_impressions, net_impressions,
               coalesce(visit.visitors, 0) as visitors, visit.shown, gross_clicks, net_clicks, 0 as gross, 0 as net,
               unmeasured_impressions, unmeasured_clicks
        from shown left join visit using (number)
        union all
        select site, partner, campaign, device_class, country, region, 0, 0, 0, null, 0, 0, gross, net, 0, 0 from converted
    ) as each
    group by 1, 2, 3, 4, 5, 6;
end $$;
comment on function avtryck.campaign_live is 'One day of campaign_daily, computed from ad_part and the day''s conversions.';

create function avtryck.placement_live(day date)
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
    with part as materialized (
        select hash_record_extended(row(site.site, ad.partner, ad.publisher, ad.placement, ad.campaign, ad.creative), 0) as number,
               site.site, ad.partner, ad.publisher, ad.placement, ad.campaign, ad.creative, part.*
        from avtryck.ad_part(begins, ends) as part
        left join avtryck.site on site.key = part.site_key
        left join avtryck.ad on ad.key = part.ad_key
    ),
    visit as (
        select number, count(*) as visitors, sum(shown) as shown
        from (select number, subject, sum(coalesce(shown, 1)) as shown
              from part cross join lateral unnest(subjects, impressions) as seen (subject, shown)
              group by 1, 2) as each
        group by 1
    ),
    shown as (
        select number, site, partner, publisher, placement, campaign, creative, sum(gross_impressions) as gross_impressions,
               sum(net_impressions) as net_impressions, sum(gross_clicks) as gross_clicks, sum(net_clicks) as net_clicks,
               sum(unmeasured_impressions) as unmeasured_impressions, sum(unmeasured_clicks) as unmeasured_clicks
        from part group by 1, 2, 3, 4, 5, 6, 7
    ),
    converted as (
        select site.site, ad.partner, ad.publisher, ad.placement, ad.campaign, ad.creative,
               count(*) as gross, count(*) filter (where is_net) as net
        from avtryck.conversion(begins, ends, since, interval '30 days') as conversion
        left join avtryck.site on site.key = conversion.site_key
        left join avtryck.ad on ad.key = conversion.ad_key
        where linked_by is not null
        group by 1, 2, 3, 4, 5, 6
    )
    select site, partner, publisher, placement, campaign, creative,
           sum(gross_impressions)::bigint, sum(net_impressions)::bigint, sum(visitors)::bigint,
           round(sum(shown) / nullif(sum(visitors), 0), 2), sum(gross_clicks)::bigint, sum(net_clicks)::bigint,
           round(sum(net_clicks) / nullif(sum(net_impressions), 0), 4), sum(gross)::bigint, sum(net)::bigint,
           sum(unmeasured_impressions)::bigint, sum(unmeasured_clicks)::bigint
    from (
        select site, partner, publisher, placement, campaign, creative, gross_impressions, net_impressions,
               coalesce(visit.visitors, 0) as visitors, visit.shown, gross_clicks, net_clicks, 0 as gross, 0 as net,
               unmeasured_impressions, unmeasured_clicks
        from shown left join visit using (number)
        union all
        select site, partner, publisher, placement, campaign, creative, 0, 0, 0, null, 0, 0, gross, net, 0, 0 from converted
    ) as each
    group by 1, 2, 3, 4, 5, 6;
end $$;
comment on function avtryck.placement_live is 'One day of placement_daily, computed from ad_part and the day''s conversions.';

-- The reports keep their names. What `*_of` computed of a day is `*_live` now, and `*_of` chooses.

alter function avtryck.quality_of(date) rename to quality_live;
comment on function avtryck.quality_live is 'One day of campaign_quality, computed from the hits.';

create or replace function avtryck.campaign_of(day date)
returns table (
    site text, partner text, campaign text, device_class text, country text, region text,
    gross_impressions bigint, net_impressions bigint, unique_visitors bigint, frequency numeric,
    gross_clicks bigint, net_clicks bigint, ctr numeric, gross_conversions bigint, net_conversions bigint,
    unmeasured_impressions bigint, unmeasured_clicks bigint
) language plpgsql stable parallel safe security definer as $$
#variable_conflict use_column
begin
    if avtryck.is_stored(campaign_of.day) then
        return query
        select site, partner, campaign, device_class, country, region, gross_impressions, net_impressions, unique_visitors,
               frequency, gross_clicks, net_clicks, ctr, gross_conversions, net_conversions, unmeasured_impressions,
               unmeasured_clicks
        from avtryck.campaign_day as stored where stored.day = campaign_of.day;
    else
        return query select * from avtryck.campaign_live(campaign_of.day);
    end if;
end $$;

create or replace function avtryck.placement_of(day date)
returns table (
    site text, partner text, publisher text, placement text, campaign text, creative text,
    gross_impressions bigint, net_impressions bigint, unique_visitors bigint, frequency numeric,
    gross_clicks bigint, net_clicks bigint, ctr numeric, gross_conversions bigint, net_conversions bigint,
    unmeasured_impressions bigint, unmeasured_clicks bigint
) language plpgsql stable parallel safe security definer as $$
#variable_conflict use_column
begin
    if avtryck.is_stored(placement_of.day) then
        return query
        select site, partner, publisher, placement, campaign, creative, gross_impressions, net_impressions, unique_visitors,
               frequency, gross_clicks, net_clicks, ctr, gross_conversions, net_conversions, unmeasured_impressions,
               unmeasured_clicks
        from avtryck.placement_day as stored where stored.day = placement_of.day;
    else
        return query select * from avtryck.placement_live(placement_of.day);
    end if;
end $$;

create function avtryck.quality_of(day date)
returns table (
    site text, partner text, campaign text, kind text, net_hits bigint,
    new_visitor_share numeric, top_network_share numeric, top_network text
) language plpgsql stable parallel safe security definer as $$
#variable_conflict use_column
begin
    if avtryck.is_stored(quality_of.day) then
        return query
        select site, partner, campaign, kind, net_hits, new_visitor_share, top_network_share, top_network
        from avtryck.quality_day as stored where stored.day = quality_of.day;
    else
        return query select * from avtryck.quality_live(quality_of.day);
    end if;
end $$;
comment on function avtryck.quality_of is 'One day of campaign_quality.';

create or replace view avtryck.campaign_quality as
select hit_day.day, report.* from avtryck.hit_day cross join lateral avtryck.quality_of(hit_day.day) as report;

-- What keeps roll-ups up. The callers of take_report_marks and build_report take turns by a lock.

create function avtryck.report_lock() returns void language sql volatile
begin atomic
    select pg_advisory_xact_lock(8243118316935476014);
end;
comment on function avtryck.report_lock is 'Waits until nobody else changes roll-ups, and keeps others waiting until the transaction ends.';

create table avtryck.report_store (
    stored name primary key,
    live name not null
);
comment on table avtryck.report_store is 'The reports that are stored once their day has been over for two hours.';
comment on column avtryck.report_store.stored is 'The table that they are stored in: the day, and then the columns of the function.';
comment on column avtryck.report_store.live is 'The function that computes those of a day.';
insert into avtryck.report_store values
    ('campaign_day', 'campaign_live'), ('placement_day', 'placement_live'), ('quality_day', 'quality_live');

create function avtryck.try_report_lock() returns boolean language sql volatile
begin atomic
    select pg_try_advisory_xact_lock(8243118316935476014);
end;
comment on function avtryck.try_report_lock is 'Does what report_lock does, or returns false where it would wait.';

create function avtryck.forget_report_days(days date[]) returns void language plpgsql as $$
declare
    stored name;
begin
    delete from avtryck.report_day where day = any(days);
    for stored in select report_store.stored from avtryck.report_store loop
        execute format('delete from avtryck.%I where day = any($1)', stored) using days;
    end loop;
end $$;
comment on function avtryck.forget_report_days is 'Deletes the stored reports of days.';

create function avtryck.forget_report_spans(spans timestamptz[]) returns void language plpgsql as $$
begin
    delete from avtryck.report_span where begins = any(spans);
    delete from avtryck.ad_hour where span = any(spans);
    delete from avtryck.ad_day where span = any(spans);
end $$;
comment on function avtryck.forget_report_spans is 'Deletes the roll-ups of spans.';

create function avtryck.forget_report_of(day date) returns void language plpgsql as $$
begin
    perform avtryck.report_lock();
    perform avtryck.forget_report_spans(array(
        select begins from avtryck.report_span
        where begins >= avtryck.day_start(forget_report_of.day) and begins < avtryck.day_start(forget_report_of.day + 1)));
    perform avtryck.forget_report_days(array(
        select report_day.day from avtryck.report_day
        where report_day.day between forget_report_of.day and forget_report_of.day + 30));
end $$;
comment on function avtryck.forget_report_of is 'Deletes the roll-ups of a day, and the stored reports of it and of the 30 days after it, whose conversions may have had their clicks on that day.';

create function avtryck.take_report_marks() returns bigint language plpgsql as $$
declare
    slots timestamptz[];
    moving timestamptz[];
    spans timestamptz[];
begin
    perform avtryck.report_lock();
    -- Somebody may have dropped a partition by hand.
    perform avtryck.forget_report_of(gone.day)
    from (select (begins at time zone 'UTC')::date as day from avtryck.report_span
          union select day from avtryck.report_day
          except select day from avtryck.hit_day) as gone;
    with taken as (delete from avtryck.report_mark returning at, moves_conversions)
    select array_agg(distinct at), array_agg(distinct at) filter (where moves_conversions) into slots, moving from taken;
    if slots is null then
        return 0;
    end if;
    select array_agg(distinct begins) into spans
    from unnest(slots) as slot join avtryck.report_span on slot >= begins and slot < ends;
    perform avtryck.forget_report_spans(spans);
    perform avtryck.forget_report_days(array(
        select distinct report_day.day
        from (select (slot at time zone 'UTC')::date as first, max(case when slot = any(moving) then 30 else 0 end) as days
              from unnest(slots) as slot group by 1) as changed
        join avtryck.report_day on report_day.day between changed.first and changed.first + changed.days));
    return coalesce(cardinality(spans), 0);
end $$;
comment on function avtryck.take_report_marks is 'Takes the marks, and with them the roll-ups and stored reports that no longer agree with the hits. Returns how many spans went.';

create function avtryck.build_report_span(since timestamptz, until timestamptz) returns void language plpgsql as $$
begin
    insert into avtryck.report_span values (since, until);
    insert into avtryck.ad_hour select since, fresh.* from avtryck.ad_hour_of(since, until) as fresh;
    insert into avtryck.ad_day select since, fresh.* from avtryck.ad_day_of(since, until) as fresh
    order by ad_key, site_key;
end $$;
comment on function avtryck.build_report_span is 'Rolls up the hits of a span that has no roll-up.';

create function avtryck.close_report_day(day date) returns void language plpgsql as $$
declare
    since timestamptz := avtryck.day_start(day);
    until timestamptz := avtryck.day_start(day + 1);
    spans timestamptz[];
    report record;
begin
    select array_agg(begins) into spans from avtryck.report_span where begins >= since and begins < until;
    if cardinality(spans) > 1 then
        with gone as (delete from avtryck.ad_hour where span = any(spans) returning *)
        insert into avtryck.ad_hour
        select since, hour, site_key, ad_key, act, faults, sum(hits), sum(unmeasured) from gone group by 2, 3, 4, 5, 6;
        with gone as (delete from avtryck.ad_day where span = any(spans) returning *),
        part as materialized (
            select hash_record_extended(row(ad_key, site_key, device_class, country, region), 0) as number, gone.* from gone
        ),
        seen as (
            select number, array_agg(subject) as subjects,
                   case when max(shown) > 1 then array_agg(least(shown, 2147483647)::integer) end as impressions
            from (select number, subject, sum(coalesce(shown, 1)) as shown
                  from part cross join lateral unnest(subjects, impressions) as each (subject, shown)
                  group by 1, 2) as each
            group by 1
        )
        insert into avtryck.ad_day
        select since, site_key, ad_key, device_class, country, region, sum(gross_impressions), sum(net_impressions),
               sum(gross_clicks), sum(net_clicks), sum(unmeasured_impressions), sum(unmeasured_clicks),
               seen.subjects, seen.impressions
        from part left join seen using (number)
        group by number, site_key, ad_key, device_class, country, region, seen.subjects, seen.impressions
        order by ad_key, site_key;
        delete from avtryck.report_span where begins = any(spans);
        insert into avtryck.report_span values (since, until);
    end if;
    perform avtryck.forget_report_days(array[close_report_day.day]);
    insert into avtryck.report_day values (close_report_day.day);
    if not exists (select from avtryck.hit where received_at >= since and received_at < until)
       and not exists (select from avtryck.hit_count where minute >= since and minute < until) then
        return;
    end if;
    for report in select * from avtryck.report_store loop
        execute format('insert into avtryck.%I select $1, live.* from avtryck.%I($1) as live', report.stored, report.live)
            using close_report_day.day;
    end loop;
end $$;
comment on function avtryck.close_report_day is 'Makes the spans of a day one span, and stores the reports of the day.';

create function avtryck.build_report(as_of timestamptz) returns text language plpgsql as $$
declare
    latest timestamptz := avtryck.report_slot(as_of - interval '10 seconds');
    open_day date := (as_of at time zone 'UTC' - interval '2 hours')::date;
    gap record;
    due date;
begin
    perform avtryck.report_lock();
    -- A small day is rolled up in one go, a large one hour by hour.
    select missing.begins, least(missing.ends, latest, case when pg_relation_size(partition) > 64 * 1024 * 1024
                                                            then missing.begins + interval '1 hour' end) as ends into gap
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
    select day into due from avtryck.hit_day
    where day < open_day and not exists (select from avtryck.report_day where report_day.day = hit_day.day)
    order by day desc limit 1;
    if found then
        perform avtryck.close_report_day(due);
        return 'day';
    end if;
    return null;
end $$;
comment on function avtryck.build_report is 'Rolls up the next hour of hits that is not rolled up, the newest day first, or stores the reports of the next day that has been over for two hours. Returns what it did; null if nothing is left.';

create function avtryck.compare_reports() returns bigint language plpgsql as $$
#variable_conflict use_column
declare
    slice record;
    of_hour bigint;
    of_span bigint;
    of_day bigint;
begin
    perform avtryck.report_lock();
    select begins, hour, greatest(begins, hour) as since, least(ends, hour + interval '1 hour') as until,
           (begins at time zone 'UTC')::date as day into slice
    from avtryck.report_clean
    cross join lateral generate_series(date_trunc('hour', begins, 'UTC'), ends - interval '1 us', interval '1 hour') as hour
    order by random() limit 1;
    if not found then
        return 0;
    end if;
    -- Each statement looks for marks itself: a batch may have come since.
    with stored as (
        select site_key, ad_key, act, faults, sum(hits), sum(unmeasured) from avtryck.ad_hour
        where span = slice.begins and hour = slice.hour group by 1, 2, 3, 4
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
        from avtryck.ad_day where span = slice.begins group by 1, 2
    ),
    by_hour as (
        select site_key, ad_key, coalesce(sum(hits) filter (where act = 'impression'), 0),
               coalesce(sum(hits) filter (where act = 'impression' and faults = 0), 0),
               coalesce(sum(unmeasured) filter (where act = 'impression'), 0),
               coalesce(sum(hits) filter (where act = 'click'), 0),
               coalesce(sum(hits) filter (where act = 'click' and faults = 0), 0),
               coalesce(sum(unmeasured) filter (where act = 'click'), 0)
        from avtryck.ad_hour where span = slice.begins and act in ('impression', 'click') group by 1, 2
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
        from avtryck.ad_day where span = slice.begins
    )
    select count(*) into of_day
    from ((table by_campaign except table by_span) union all (table by_placement except table by_span)) as difference
    where avtryck.is_stored(slice.day);
    if of_hour + of_span + of_day > 0 then
        perform avtryck.forget_report_of(slice.day);
    end if;
    return of_hour + of_span + of_day;
end $$;
comment on function avtryck.compare_reports is 'Compares an hour that chance picks of ad_hour with the hits, and ad_day and the stored reports of its day with ad_hour. Returns how many figures differ; then the roll-ups of that day are gone, and are made again.';
