-- Roll-ups in less room. A row of ad_day has its subjects and their device classes and regions in one array, and beside
-- it only what has no subject. A row of ad_hour has one number for each hour, act and fault. Spans of a day that is not
-- over become spans of an hour, and then of six. What roll-ups had is rolled up anew.

truncate avtryck.ad_day, avtryck.ad_hour, avtryck.audience, avtryck.ad_sum, avtryck.ad_sum_day;
delete from avtryck.report_span;

alter table avtryck.audience add column number integer not null unique check (number between 0 and 262143);
comment on column avtryck.audience.number is 'What ad_day calls it: 18 bits.';

alter table avtryck.report_span add column built_at timestamptz not null default '-infinity';
comment on column avtryck.report_span.built_at is 'When it was rolled up from the hits. Spans that were not lately become one.';

-- Ad by ad, in numbers of 64 bits: how many, above 31 bits that say in which hour, what happened and what is wrong.
alter table avtryck.ad_hour rename column hits to old_hits;
alter table avtryck.ad_hour rename column unmeasured to old_unmeasured;
alter table avtryck.ad_hour add column hits bigint[], add column unmeasured bigint[];
comment on table avtryck.ad_hour is 'Hits about ads by span, site and ad; in arrays by hour, what happened, and what is wrong with them. Query ad_hour_detail, which also has what is not yet rolled up.';
comment on column avtryck.ad_hour.hits is 'An element for each hour, act and fault: how many hits, times 2^31, plus the hour of the UTC day times 2^26, plus the number of the act in ad_acts() times 2^22, plus the flags that keep them out of net figures.';
comment on column avtryck.ad_hour.unmeasured is 'The same of hits that had no permit to be measured; null where all had it.';

alter table avtryck.ad_day rename column audiences to old_audiences;
alter table avtryck.ad_day rename column gross_impressions to old_gross_impressions;
alter table avtryck.ad_day rename column net_impressions to old_net_impressions;
alter table avtryck.ad_day rename column gross_clicks to old_gross_clicks;
alter table avtryck.ad_day rename column net_clicks to old_net_clicks;
alter table avtryck.ad_day rename column subjects to old_subjects;
alter table avtryck.ad_day rename column impressions to old_impressions;
alter table avtryck.ad_day add column subjects bigint[], add column impressions integer[], add column others bigint[];
comment on column avtryck.ad_day.subjects is 'Who had the valid impressions, once for each device class and region: a hash of 46 bits of the subject, times 2^18, plus audience.number. Counts of them are exact but for hashes that two subjects share: of ten million subjects less than one pair does.';
comment on column avtryck.ad_day.impressions is 'How many valid impressions each of them had; null where each had one.';
comment on column avtryck.ad_day.others is 'What has no subject, by device class and region: how many, times 2^20, plus what they are times 2^18 (0 impressions, invalid ones included; 1 valid impressions; 2 clicks, invalid ones included; 3 valid clicks), plus audience.number.';

create or replace function avtryck.ad_each_of(since timestamptz, until timestamptz)
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
                   end, 0) >> 18 end as subject
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
comment on function avtryck.ad_each_of is 'Impressions and clicks of a time by site, ad, device class, region and subject (a hash of 46 bits), computed from the hits. With a subject are valid impressions and nothing else. Without one are clicks, invalid impressions and those of nobody, and the unmeasured ones.';

create or replace function avtryck.build_ad_hour(since timestamptz, until timestamptz) returns void language sql volatile
begin atomic
    insert into avtryck.ad_hour (span, site_key, ad_key, hits, unmeasured)
    select since, site_key, ad_key, array_agg(hits << 31 | code order by code) filter (where hits > 0),
           array_agg(unmeasured << 31 | code order by code) filter (where unmeasured > 0)
    from (select site_key, ad_key,
                 (extract(hour from hour at time zone 'UTC')::bigint << 26) | (array_position(avtryck.ad_acts(), act)::bigint << 22) | faults as code,
                 sum(hits)::bigint as hits, sum(unmeasured)::bigint as unmeasured
          from avtryck.ad_hour_of(since, until) group by 1, 2, 3) as fresh
    group by site_key, ad_key order by ad_key, site_key;
end;

create or replace function avtryck.ad_hour_part(since timestamptz, until timestamptz, own_zone text)
returns table (hour timestamptz, site_key bigint, ad_key bigint, act text, faults integer, hits bigint, unmeasured bigint)
language sql stable parallel safe
begin atomic
    select date_trunc('day', cell.span, 'UTC') + (cell.code >> 26 & 31) * interval '1 hour', cell.site_key, cell.ad_key,
           (avtryck.ad_acts())[cell.code >> 22 & 15], (cell.code & 4194303)::integer,
           case when cell.is_measured then cell.code >> 31 else 0 end, case when cell.is_measured then 0 else cell.code >> 31 end
    from (select ad_hour.span, ad_hour.site_key, ad_hour.ad_key, sides.is_measured,
                 unnest(case when sides.is_measured then ad_hour.hits else ad_hour.unmeasured end) as code
          from avtryck.report_clean join avtryck.ad_hour on ad_hour.span = report_clean.begins
          cross join unnest(array[true, false]) as sides (is_measured)
          where report_clean.begins >= since and report_clean.begins < until and report_clean.ends <= until
            and (own_zone is null or ad_hour.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone))) as cell
    union all
    select fresh.* from avtryck.report_gap(since, until) as gap cross join lateral avtryck.ad_hour_of(gap.begins, gap.ends) as fresh
    where own_zone is null or fresh.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone);
end;

-- The callers of report_lock alone number audiences, so two do not take the same number.
create or replace function avtryck.build_ad_day(since timestamptz, until timestamptz) returns void language sql volatile
begin atomic
    with each as materialized (
        select fresh.*, avtryck.audience_key(fresh.device_class, fresh.country, fresh.region) as key
        from avtryck.ad_each_of(since, until) as fresh
    ),
    named as (
        insert into avtryck.audience (key, device_class, country, region, number)
        select wanted.key, wanted.device_class, wanted.country, wanted.region,
               (select coalesce(max(audience.number), 0) from avtryck.audience) + row_number() over (order by wanted.key)
        from (select distinct key, device_class, country, region from each where gross_impressions + gross_clicks > 0) as wanted
        where not exists (select from avtryck.audience where audience.key = wanted.key)
        returning key, number
    ),
    audience as (
        select key, number from named union all select audience.key, audience.number from avtryck.audience
    ),
    part as (
        select site_key, ad_key, sum(unmeasured_impressions) as unmeasured_impressions, sum(unmeasured_clicks) as unmeasured_clicks,
               null::bigint[] as subjects, null::integer[] as impressions, null::bigint[] as others
        from each where unmeasured_impressions + unmeasured_clicks > 0 group by 1, 2
        union all
        select site_key, ad_key, 0, 0, null, null, array_agg(hits << 20 | code)
        from (select each.site_key, each.ad_key, (figure.what << 18 | audience.number)::bigint as code, sum(figure.hits)::bigint as hits
              from each join audience using (key)
              cross join lateral (values (0, each.gross_impressions), (1, each.net_impressions), (2, each.gross_clicks), (3, each.net_clicks))
                  as figure (what, hits)
              where each.subject is null and figure.hits > 0
              group by 1, 2, 3 order by 1, 2, 3) as cell
        group by 1, 2
        union all
        select each.site_key, each.ad_key, 0, 0, array_agg(each.subject << 18 | audience.number),
               case when max(each.net_impressions) > 1 then array_agg(least(each.net_impressions, 2147483647)::integer) end, null
        from each join audience using (key) where each.subject is not null
        group by 1, 2
    )
    insert into avtryck.ad_day (span, site_key, ad_key, unmeasured_impressions, unmeasured_clicks, subjects, impressions, others)
    select since, site_key, ad_key, sum(unmeasured_impressions), sum(unmeasured_clicks), max(subjects), max(impressions), max(others)
    from part group by site_key, ad_key order by ad_key, site_key;
end;

create or replace function avtryck.ad_cell(since timestamptz, until timestamptz, own_zone text)
returns table (
    site_key bigint, ad_key bigint, device_class text, country text, region text,
    gross_impressions bigint, net_impressions bigint, gross_clicks bigint, net_clicks bigint,
    unmeasured_impressions bigint, unmeasured_clicks bigint
) language sql stable parallel safe
begin atomic
    select cell.site_key, cell.ad_key, audience.device_class, audience.country, audience.region,
           case when cell.code >> 18 & 3 = 0 then cell.code >> 20 else 0 end, case when cell.code >> 18 & 3 = 1 then cell.code >> 20 else 0 end,
           case when cell.code >> 18 & 3 = 2 then cell.code >> 20 else 0 end, case when cell.code >> 18 & 3 = 3 then cell.code >> 20 else 0 end,
           0::bigint, 0::bigint
    from (select ad_day.site_key, ad_day.ad_key, unnest(ad_day.others) as code
          from avtryck.report_clean join avtryck.ad_day on ad_day.span = report_clean.begins
          where report_clean.begins >= since and report_clean.begins < until and report_clean.ends <= until
            and (own_zone is null or ad_day.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone))) as cell
    join avtryck.audience on audience.number = (cell.code & 262143)
    union all
    select cell.site_key, cell.ad_key, audience.device_class, audience.country, audience.region, cell.impressions, cell.impressions, 0, 0, 0, 0
    from (select each.site_key, each.ad_key, each.subject & 262143 as audience, sum(coalesce(each.impressions, 1))::bigint as impressions
          from (select ad_day.site_key, ad_day.ad_key, unnest(ad_day.subjects) as subject, unnest(ad_day.impressions) as impressions
                from avtryck.report_clean join avtryck.ad_day on ad_day.span = report_clean.begins
                where report_clean.begins >= since and report_clean.begins < until and report_clean.ends <= until
                  and (own_zone is null or ad_day.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone))) as each
          group by 1, 2, 3) as cell
    join avtryck.audience on audience.number = cell.audience
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

create or replace function avtryck.ad_seen(since timestamptz, until timestamptz, own_zone text, ads bigint[])
returns table (
    site_key bigint, ad_key bigint, audience bigint, device_class text, country text, region text, subject bigint, impressions integer
) language sql stable parallel safe
begin atomic
    select shown.site_key, shown.ad_key, audience.key, audience.device_class, audience.country, audience.region, shown.subject >> 18,
           coalesce(shown.impressions, 1)
    from (select ad_day.site_key, ad_day.ad_key, unnest(ad_day.subjects) as subject, unnest(ad_day.impressions) as impressions
          from avtryck.report_clean join avtryck.ad_day on ad_day.span = report_clean.begins
          where report_clean.begins >= since and report_clean.begins < until and report_clean.ends <= until
            and (ads is null or ad_day.ad_key = any(ads))
            and (own_zone is null or ad_day.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone))) as shown
    join avtryck.audience on audience.number = (shown.subject & 262143)
    union all
    select fresh.site_key, fresh.ad_key, avtryck.audience_key(fresh.device_class, fresh.country, fresh.region), fresh.device_class,
           fresh.country, fresh.region, fresh.subject, least(fresh.net_impressions, 2147483647)::integer
    from avtryck.report_gap(since, until) as gap cross join lateral avtryck.ad_each_of(gap.begins, gap.ends) as fresh
    where fresh.subject is not null and (ads is null or fresh.ad_key = any(ads))
      and (own_zone is null or fresh.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone));
end;

create or replace function avtryck.ad_subject(since timestamptz, until timestamptz, own_zone text, ads bigint[])
returns table (site_key bigint, ad_key bigint, subject bigint, impressions integer) language sql stable parallel safe
begin atomic
    select shown.site_key, shown.ad_key, shown.subject >> 18, coalesce(shown.impressions, 1)
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

alter table avtryck.ad_hour drop column hours, drop column acts, drop column faults, drop column old_hits, drop column old_unmeasured;
alter table avtryck.ad_day drop column old_audiences, drop column old_gross_impressions, drop column old_net_impressions,
    drop column old_gross_clicks, drop column old_net_clicks, drop column old_subjects, drop column subject_audiences,
    drop column old_impressions;

create or replace function avtryck.ad_sum_of(day date, own_zone text, is_by_placement boolean, until timestamptz)
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
    no_ad bigint := hash_record_extended(row(null::text, null::text, null::text, null::text, null::text), 0);
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
    ),
    -- Few subjects are new since.
    seen as materialized (
        select own_site.number # coalesce(own_ad.number, no_ad) # case when ad_sum_of.is_by_placement then 0 else audience end as number,
               subject, sum(impressions) as shown
        from avtryck.ad_seen(known, until, own_zone, null) as each
        join own_site on own_site.key = each.site_key
        left join own_ad on own_ad.key = each.ad_key
        group by 1, 2
    ),
    -- All of it is rolled up, or it would not be known. Few of the subjects before are among those since, so what their
    -- row is called is looked up last.
    before as (
        select distinct number, subject
        from (select own_site.number # coalesce(own_ad.number, no_ad)
                     # case when ad_sum_of.is_by_placement then 0 else audience.key end as number, each.subject >> 18 as subject
              from (select site_key, ad_key, unnest(ad_day.subjects) as subject
                    from avtryck.report_clean join avtryck.ad_day on ad_day.span = report_clean.begins
                    where report_clean.begins >= opens and report_clean.ends <= known) as each
              join own_site on own_site.key = each.site_key
              left join own_ad on own_ad.key = each.ad_key
              join avtryck.audience on audience.number = (each.subject & 262143)
              where each.subject >> 18 in (select seen.subject from seen)) as each
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
        select own_site.number # coalesce(own_ad.number, no_ad) # case when ad_sum_of.is_by_placement then 0
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
        left join own_ad on own_ad.key = cell.ad_key
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

-- Spans become one.

create function avtryck.join_report_spans(spans timestamptz[]) returns void language plpgsql as $$
declare
    since timestamptz;
    until timestamptz;
begin
    select min(begins), max(ends) into since, until from avtryck.report_span where begins = any(spans);
    with gone as (delete from avtryck.ad_hour where span = any(spans) returning *),
    cell as (
        select site_key, ad_key, is_measured, code & 2147483647 as code, sum(code >> 31)::bigint as hits
        from (select site_key, ad_key, is_measured, unnest(case when is_measured then hits else unmeasured end) as code
              from gone cross join unnest(array[true, false]) as sides (is_measured)) as each
        group by 1, 2, 3, 4
    )
    insert into avtryck.ad_hour (span, site_key, ad_key, hits, unmeasured)
    select since, site_key, ad_key, array_agg(hits << 31 | code order by code) filter (where is_measured),
           array_agg(hits << 31 | code order by code) filter (where not is_measured)
    from cell group by site_key, ad_key order by ad_key, site_key;
    with gone as (delete from avtryck.ad_day where span = any(spans) returning *),
    part as (
        select site_key, ad_key, sum(unmeasured_impressions) as unmeasured_impressions, sum(unmeasured_clicks) as unmeasured_clicks,
               null::bigint[] as subjects, null::integer[] as impressions, null::bigint[] as others
        from gone group by 1, 2
        union all
        select site_key, ad_key, 0, 0, null, null, array_agg(hits << 20 | code)
        from (select site_key, ad_key, code & 1048575 as code, sum(code >> 20)::bigint as hits
              from (select site_key, ad_key, unnest(others) as code from gone) as each
              group by 1, 2, 3 order by 1, 2, 3) as cell
        group by 1, 2
        union all
        select site_key, ad_key, 0, 0, array_agg(subject),
               case when max(impressions) > 1 then array_agg(least(impressions, 2147483647)::integer) end, null
        from (select site_key, ad_key, subject, sum(coalesce(impressions, 1)) as impressions
              from (select site_key, ad_key, unnest(subjects) as subject, unnest(impressions) as impressions from gone) as each
              group by 1, 2, 3) as seen
        group by 1, 2
    )
    insert into avtryck.ad_day (span, site_key, ad_key, unmeasured_impressions, unmeasured_clicks, subjects, impressions, others)
    select since, site_key, ad_key, sum(unmeasured_impressions), sum(unmeasured_clicks), max(subjects), max(impressions), max(others)
    from part group by site_key, ad_key order by ad_key, site_key;
    delete from avtryck.report_span where begins = any(spans);
    insert into avtryck.report_span (begins, ends) values (since, until);
end $$;
comment on function avtryck.join_report_spans is 'Makes spans that follow each other one, of their roll-ups alone.';

create function avtryck.next_joined_spans(as_of timestamptz) returns timestamptz[] language sql stable
begin atomic
    select array_agg(span.begins order by span.begins)
    from unnest(array[interval '1 hour', interval '6 hours']) as step (width)
    cross join lateral (
        select report_span.begins, report_span.ends, report_span.built_at,
               date_bin(step.width, report_span.begins, timestamptz '2000-01-01 00:00:00+00') as opens
        from avtryck.report_span join avtryck.report_clean on report_clean.begins = report_span.begins
        where not exists (select from avtryck.report_day where report_day.day = (report_span.begins at time zone 'UTC')::date)
    ) as span
    where span.ends <= span.opens + step.width and span.opens + step.width <= as_of - interval '1 hour'
    group by step.width, span.opens
    having count(*) > 1 and sum(span.ends - span.begins) = max(span.ends) - min(span.begins)
       and max(span.built_at) <= as_of - interval '30 minutes'
       and coalesce(avtryck.next_cut(min(span.begins)) >= max(span.ends), true)
       and not exists (select from avtryck.ad_sum_day where ad_sum_day.known > min(span.begins) and ad_sum_day.known < max(span.ends))
    order by step.width, span.opens limit 1;
end;
comment on function avtryck.next_joined_spans is 'The next spans that are to become one: those of an hour, or of six, that is over for an hour, agrees with the hits, and was not rolled up from the hits in the last half hour, as where late hits keep coming. Sums do not end within them, and no day of a site begins there.';

create or replace function avtryck.build_report(as_of timestamptz) returns text language plpgsql as $$
declare
    latest timestamptz := avtryck.report_slot(as_of - interval '10 seconds');
    gap record;
    due date;
    joined timestamptz[];
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
        update avtryck.report_span set built_at = as_of where begins = gap.begins;
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
    joined := avtryck.next_joined_spans(as_of);
    if joined is not null then
        perform avtryck.join_report_spans(joined);
        return 'join';
    end if;
    return null;
end $$;
comment on function avtryck.build_report is 'Rolls up the next hour of hits that is not rolled up, the newest day first, or stores the reports of the next day that has been over for two hours, or makes spans of today one. Returns what it did; null if nothing is left.';
