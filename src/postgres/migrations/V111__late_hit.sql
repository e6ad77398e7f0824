-- Late hits leave the sums about sites: the loader keeps those that come when sums may have their time already, so what
-- their visitors had before is known, and can be taken off. Sums are made anew only where hits change in other ways.

create table avtryck.late_hit (like avtryck.hit including comments);
comment on table avtryck.late_hit is 'Copies of page views and events that came more than some minutes late, up to late_hits_max(): sums about sites (web_sum, web_page_sum) up to a time are those of the hits before it without these. A row goes as soon as sums have it, or where there are none of its day.';

create function avtryck.late_hits_max() returns bigint language sql immutable parallel safe return 20000;
comment on function avtryck.late_hits_max is 'How many rows late_hit has at the most. Late hits beyond that take the sums of their day.';

alter table avtryck.report_mark add column changes_web boolean not null default true;
comment on column avtryck.report_mark.changes_web is 'Whether page views or events have changed that are not in late_hit.';

create or replace function avtryck.web_known(day date, own_zone text) returns timestamptz language sql stable parallel safe
begin atomic
    select coalesce((select known from avtryck.web_sum_day
                     where web_sum_day.day = web_known.day and web_sum_day.time_zone = own_zone
                       and not exists (select from avtryck.report_mark
                                       where at > begins - interval '10 minutes' and at < known and changes_web)), begins)
    from (select avtryck.zone_start(web_known.day, own_zone) as begins) as of;
end;
comment on function avtryck.web_known is 'The time up to which web_sum and web_page_sum agree with the hits of a day, but for those in late_hit: its start where they have nothing of it.';
comment on table avtryck.web_sum_day is 'Up to which time of a day web_sum and web_page_sum have sums. They hold for as long as report_mark has no other changes of the day before that time than late_hit has.';

-- A branch that is not wanted asks for no time, so that the planner opens no partition for it.
create or replace function avtryck.web_hit(since timestamptz, until timestamptz, own_zone text, whose text, people uuid[], visits text[])
returns table (
    site_key bigint, visitor_id uuid, session_id text, at timestamptz, hit_id uuid, kind smallint, event_name text,
    page_url text, referrer text, device_key bigint, place_key bigint, params jsonb, received_at timestamptz
) language sql stable parallel safe
begin atomic
    select hit.site_key, hit.visitor_id, hit.session_id, coalesce(hit.occurred_at, hit.received_at), hit.hit_id, hit.kind,
           hit.event_name, hit.page_url, hit.referrer, hit.device_key, hit.place_key, hit.params, hit.received_at
    from avtryck.hit
    where hit.received_at >= case when whose = 'all' then since else 'infinity' end and hit.received_at < until and hit.kind in (1, 2) and hit.ad_key is null
      and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
      and hit.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone)
    union all
    select hit.site_key, hit.visitor_id, hit.session_id, coalesce(hit.occurred_at, hit.received_at), hit.hit_id, hit.kind,
           hit.event_name, hit.page_url, hit.referrer, hit.device_key, hit.place_key, hit.params, hit.received_at
    from avtryck.hit
    where hit.visitor_id = any(coalesce(people, '{}'))
      and hit.received_at >= case when whose = 'some' then since else 'infinity' end and hit.received_at < until and hit.kind in (1, 2) and hit.ad_key is null
      and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
      and hit.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone)
    union all
    select hit.site_key, hit.visitor_id, hit.session_id, coalesce(hit.occurred_at, hit.received_at), hit.hit_id, hit.kind,
           hit.event_name, hit.page_url, hit.referrer, hit.device_key, hit.place_key, hit.params, hit.received_at
    from avtryck.hit
    where hit.visitor_id is null and hit.session_id is not null and hit.session_id = any(coalesce(visits, '{}'))
      and hit.received_at >= case when whose = 'some' then since else 'infinity' end and hit.received_at < until and hit.kind in (1, 2) and hit.ad_key is null
      and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
      and hit.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone)
    union all
    select hit.site_key, hit.visitor_id, hit.session_id, coalesce(hit.occurred_at, hit.received_at), hit.hit_id, hit.kind,
           hit.event_name, hit.page_url, hit.referrer, hit.device_key, hit.place_key, hit.params, hit.received_at
    from avtryck.hit
    where hit.visitor_id is null and hit.session_id is null
      and hit.received_at >= case when whose = 'nobody' then since else 'infinity' end and hit.received_at < until and hit.kind in (1, 2) and hit.ad_key is null
      and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
      and hit.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone)
    union all
    select hit.site_key, hit.visitor_id, hit.session_id, coalesce(hit.occurred_at, hit.received_at), hit.hit_id, hit.kind,
           hit.event_name, hit.page_url, hit.referrer, hit.device_key, hit.place_key, hit.params, hit.received_at
    from avtryck.late_hit as hit
    where whose = 'late' and hit.received_at >= since and hit.received_at < until
      and hit.visitor_id is null and hit.session_id is null and hit.kind in (1, 2) and hit.ad_key is null
      and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
      and hit.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone);
end;
comment on function avtryck.web_hit is 'The hits of a time that reports about sites count, of the sites of a time zone: all; those of some visitors and session IDs; or those of nobody, which have neither, and of these the late ones.';

create or replace function avtryck.web_session_part(
    since timestamptz, until timestamptz, own_zone text, whose text, people uuid[], visits text[], known timestamptz
)
returns table (
    sign integer, site text, visitor_id uuid, session_id text, begins timestamptz, ends timestamptz, entry_page text, exit_page text,
    page_views bigint, events bigint, engagement_seconds numeric, is_bounce boolean,
    medium text, origin text, campaign text, device_class text, country text, region text
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan
set enable_nestloop = off set work_mem = '64MB' as $$
#variable_conflict use_column
begin
    return query
    with event as (
        select hit.*, avtryck.engagement_of(hit.event_name, hit.params) as engagement_msec, sides.sign
        from avtryck.web_hit(since, until, own_zone, whose, people, visits) as hit
        cross join unnest(array[1, -1]) as sides (sign)
        where (hit.visitor_id is not null or hit.session_id is not null) and (sides.sign = 1 or hit.received_at < known
               and hit.hit_id not in (select late.hit_id from avtryck.late_hit as late where late.received_at >= since and late.received_at < known))
    ),
    -- A site has a row for each category of its pages.
    named as (
        select event.*, site.number as site
        from event join (select key, min(key) over (partition by site) as number from avtryck.site) as site on site.key = event.site_key
    ),
    cut as (
        select named.*, case when session_id is null and at - lag(at) over one > interval '30 minutes' then 1 else 0 end as is_new
        from named
        window one as (partition by sign, site, visitor_id, session_id order by at, hit_id)
    ),
    numbered as (
        select cut.*, sum(is_new) over one as number, row_number() over one as place
        from cut
        window one as (partition by sign, site, visitor_id, session_id order by at, hit_id rows unbounded preceding)
    ),
    session as materialized (
        select sign, site, visitor_id, session_id, number, min(at) as begins, max(at) as ends,
               count(*) filter (where kind = 1) as page_views,
               count(*) filter (where kind = 2 and event_name not in ('engagement', 'scroll')) as events,
               round(coalesce(sum(engagement_msec), 0) / 1000, 1) as engagement_seconds,
               -- The least place comes first; an ordered array of each session would be sorted by itself.
               min(array[lpad(place::text, 9, '0'), page_url, referrer] collate "C") filter (where kind = 1) as entry,
               max(array[lpad(place::text, 9, '0'), page_url] collate "C") filter (where kind = 1) as exit,
               min(array[place, device_key, place_key]) as found
        from numbered group by 1, 2, 3, 4, 5
    ),
    -- Many sessions begin and end at the same addresses.
    arrival as materialized (
        select url, referrer, avtryck.medium_of(url, avtryck.host_of(url), host) as medium, avtryck.origin_of(url, host) as origin,
               case when url like '%utm\_campaign=%'
                    then left(nullif(avtryck.unescape(avtryck.query_value_of(url, 'utm_campaign')), ''), 200) end as campaign
        from (select url, referrer, avtryck.host_of(nullif(referrer, '')) as host
              from (select distinct coalesce(entry[2], '') as url, coalesce(entry[3], '') as referrer
                    from session where page_views > 0) as each offset 0) as each
    ),
    address as materialized (
        select url, avtryck.path_of(url) as path
        from (select entry[2] as url from session union select exit[2] from session) as each where url is not null
    )
    select session.sign, site.site, visitor_id, session_id, begins, ends, first.path, last.path,
           page_views, events, engagement_seconds, page_views = 1 and events = 0 and engagement_seconds < 10,
           arrival.medium, arrival.origin, arrival.campaign, device.class, place.country, place.region
    from session
    join arrival on arrival.url = coalesce(session.entry[2], '') and arrival.referrer = coalesce(session.entry[3], '')
    join avtryck.site on site.key = session.site
    left join address as first on first.url = session.entry[2]
    left join address as last on last.url = session.exit[2]
    left join avtryck.device on device.key = found[2]
    left join avtryck.place on place.key = found[3]
    where page_views > 0;
end $$;
comment on function avtryck.web_session_part is 'The sessions in the hits that web_hit has, with sign 1, and those that sums up to `known` have of them, with sign -1: of the hits before that time without those in late_hit.';

create or replace function avtryck.web_part(
    since timestamptz, until timestamptz, own_zone text, whose text, people uuid[], visits text[], known timestamptz
)
returns table (
    number bigint, site text, medium text, origin text, campaign text, device_class text, country text, sessions bigint,
    visitors bigint, bounces bigint, page_views bigint, events bigint, engagement_seconds numeric, unmeasured_page_views bigint
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan
set enable_nestloop = off set work_mem = '64MB' as $$
#variable_conflict use_column
begin
    return query
    select hash_record_extended(row(site, medium, origin, campaign, device_class, country), 0), each.*
    from (
        select site, medium, origin, campaign, device_class, country, sign * count(*) as sessions,
               sign * count(distinct visitor_id) as visitors, sign * count(*) filter (where is_bounce) as bounces,
               sign * sum(page_views)::bigint as page_views, sign * sum(events)::bigint as events,
               sign * sum(engagement_seconds) as engagement_seconds, 0::bigint as unmeasured_page_views
        from avtryck.web_session_part(since, until, own_zone, whose, people, visits, known)
        where whose in ('all', 'some')
        group by 1, 2, 3, 4, 5, 6, sign
        union all
        select site.site, null, null, null, device.class, place.country, 0, 0, 0, count(*), 0, 0, 0
        from avtryck.web_hit(since, until, own_zone, whose, null, null) as hit
        join avtryck.site on site.key = hit.site_key
        left join avtryck.device on device.key = hit.device_key
        left join avtryck.place on place.key = hit.place_key
        where whose <> 'some' and hit.kind = 1 and hit.visitor_id is null and hit.session_id is null
        group by 1, 5, 6
    ) as each;
end $$;
comment on function avtryck.web_part is 'What web_daily counts of the hits that web_hit has. What sums up to `known` have of it is taken off. Rows of the same are to be added up.';

create or replace function avtryck.web_page_part(
    since timestamptz, until timestamptz, own_zone text, whose text, people uuid[], visits text[], known timestamptz
)
returns table (
    number bigint, site text, page text, page_views bigint, visitors bigint, entries bigint, exits bigint, bounces bigint, engagement_msec numeric
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan
set enable_nestloop = off set work_mem = '64MB' as $$
#variable_conflict use_column
begin
    return query
    with viewed as materialized (
        select sign, site_key, page_url, visitor_id, count(*) filter (where kind = 1) as page_views,
               sum(avtryck.engagement_of(event_name, params)) as engagement_msec
        from avtryck.web_hit(since, until, own_zone, whose, people, visits) as hit
        cross join unnest(array[1, -1]) as sides (sign)
        where (kind = 1 or event_name = 'engagement') and page_url is not null and (sign = 1 or hit.received_at < known
               and hit.hit_id not in (select late.hit_id from avtryck.late_hit as late where late.received_at >= since and late.received_at < known))
        group by 1, 2, 3, 4
    ),
    address as materialized (
        select url, avtryck.path_of(url) as path from (select distinct page_url as url from viewed) as each
    ),
    session as materialized (
        select sign, site, entry_page, exit_page, is_bounce
        from avtryck.web_session_part(since, until, own_zone, whose, people, visits, known)
        where whose in ('all', 'some')
    )
    select hash_record_extended(row(site, page), 0), each.*
    from (
        select site.site, address.path as page, sign * sum(page_views)::bigint as page_views,
               sign * count(distinct visitor_id) filter (where page_views > 0) as visitors, 0::bigint as entries, 0::bigint as exits,
               0::bigint as bounces, sign * sum(engagement_msec) as engagement_msec
        from viewed join address on address.url = viewed.page_url join avtryck.site on site.key = viewed.site_key
        group by 1, 2, sign
        union all
        select site, entry_page, 0, 0, sign * count(*), 0, sign * count(*) filter (where is_bounce), null from session group by 1, 2, sign
        union all
        select site, exit_page, 0, 0, 0, sign * count(*), 0, null from session group by 1, 2, sign
    ) as each
    where page is not null;
end $$;

create function avtryck.web_unmeasured(since timestamptz, until timestamptz, own_zone text)
returns table (
    number bigint, site text, medium text, origin text, campaign text, device_class text, country text, sessions bigint,
    visitors bigint, bounces bigint, page_views bigint, events bigint, engagement_seconds numeric, unmeasured_page_views bigint
) language sql stable parallel safe
begin atomic
    select hash_record_extended(row(site.site, null::text, null::text, null::text, null::text, null::text), 0),
           site.site, null::text, null::text, null::text, null::text, null::text, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint,
           0::numeric, sum(hits)::bigint
    from avtryck.hit_count join avtryck.site_in_zone as site on site.key = hit_count.site_key and site.site is not null
    where site.time_zone = own_zone and minute >= since and minute < until and kind = 1
    group by site.site;
end;
comment on function avtryck.web_unmeasured is 'What web_daily counts of page views without the permit to measure. Sums do not have it, so that late ones change none.';
update avtryck.web_sum set unmeasured_page_views = 0 where unmeasured_page_views <> 0;
comment on column avtryck.web_sum.unmeasured_page_views is 'Always 0: these are few, and read from hit_count.';

do $$
declare
    report record;
    columns text;
    names text;
    sums text;
begin
    for report in
        select * from (values
            ('web_sum', 'web_part', 'web_sum_of', 'web_daily', array['number', 'site', 'medium', 'origin', 'campaign', 'device_class', 'country'],
             'union all select %s from avtryck.web_unmeasured(begins, until, own_zone) as part'),
            ('web_page_sum', 'web_page_part', 'web_page_sum_of', 'web_page_daily', array['number', 'site', 'page'], '')
        ) as name (kept, part, sum, shown, keys, besides)
    loop
        select string_agg(format('%I %s', attname, format_type(atttypid, null)), ', ' order by attnum),
               string_agg(format('part.%I', attname), ', ' order by attnum),
               string_agg(case when attname = 'number' then 'part.number'
                               when attname = any(report.keys) then format('max(part.%I)', attname)
                               when format_type(atttypid, null) = 'numeric' then format('sum(part.%I)', attname)
                               else format('sum(part.%I)::bigint', attname) end, ', ' order by attnum)
        into columns, names, sums
        from pg_attribute where attrelid = to_regclass('avtryck.' || report.kept) and attnum > 2;
        execute format($sql$
            create or replace function avtryck.%1$I(day date, own_zone text, until timestamptz) returns table (%2$s)
            language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan as $body$
            #variable_conflict use_column
            declare
                begins timestamptz := avtryck.zone_start(day, own_zone);
                known timestamptz := avtryck.web_known(day, own_zone);
                people uuid[];
                visits text[];
            begin
                if known <= begins then
                    return query
                    select %4$s
                    from (select %3$s from avtryck.%5$I(begins, until, own_zone, 'all', null, null, null) as part
                          %7$s) as part
                    group by part.number;
                    return;
                end if;
                people := array(select unnest(avtryck.web_visitors(known, until, own_zone))
                                union
                                select visitor_id from avtryck.late_hit
                                where visitor_id is not null and received_at >= begins and received_at < known);
                visits := array(select unnest(avtryck.web_sessions(known, until, own_zone))
                                union
                                select session_id from avtryck.late_hit
                                where visitor_id is null and session_id is not null and received_at >= begins and received_at < known);
                return query
                select %4$s
                from (select %3$s from avtryck.%6$I as part where part.day = %1$I.day and part.time_zone = own_zone
                      union all
                      select %3$s from avtryck.%5$I(begins, until, own_zone, 'some', people, visits, known) as part
                      union all
                      select %3$s from avtryck.%5$I(known, until, own_zone, 'nobody', null, null, null) as part
                      union all
                      select %3$s from avtryck.%5$I(begins, known, own_zone, 'late', null, null, null) as part
                      %7$s) as part
                group by part.number;
            end $body$ $sql$, report.sum, columns, names, sums, report.part, report.kept, format(report.besides, names));
        execute format('comment on function avtryck.%I is %L', report.sum,
                       format('What %s counts of a day until a time, of the sites of a time zone: the sums of %s, and what has changed since. With every page and origin.', report.shown, report.kept));
    end loop;
end $$;

create or replace function avtryck.build_web_sum(day date, own_zone text, until timestamptz) returns void language plpgsql as $$
#variable_conflict use_column
declare
    opens timestamptz := avtryck.zone_start(build_web_sum.day, own_zone);
begin
    if avtryck.web_known(build_web_sum.day, own_zone) <= opens then
        perform avtryck.drop_web_sum(build_web_sum.day, own_zone);
        insert into avtryck.web_sum_day (day, time_zone, known, begun_at)
        values (build_web_sum.day, own_zone, opens, clock_timestamp())
        on conflict on constraint web_sum_day_pkey do update set known = excluded.known, begun_at = excluded.begun_at;
    end if;
    -- One statement, so one moment: a late hit that is committed meanwhile is in neither sum, and stays in late_hit.
    with of_day as (
        insert into avtryck.web_sum as kept
        select build_web_sum.day, own_zone, number, site, medium, origin, campaign, device_class, country, sessions, visitors,
               bounces, page_views, events, engagement_seconds, 0
        from avtryck.web_sum_of(build_web_sum.day, own_zone, until)
        on conflict on constraint web_sum_pkey do update set
            sessions = excluded.sessions, visitors = excluded.visitors, bounces = excluded.bounces, page_views = excluded.page_views,
            events = excluded.events, engagement_seconds = excluded.engagement_seconds
        where kept.* is distinct from excluded.*
    ),
    of_pages as (
        insert into avtryck.web_page_sum as kept
        select build_web_sum.day, own_zone, number, site, page, page_views, visitors, entries, exits, bounces, coalesce(engagement_msec, 0)
        from avtryck.web_page_sum_of(build_web_sum.day, own_zone, until)
        on conflict on constraint web_page_sum_pkey do update set
            page_views = excluded.page_views, visitors = excluded.visitors, entries = excluded.entries, exits = excluded.exits,
            bounces = excluded.bounces, engagement_msec = excluded.engagement_msec
        where kept.* is distinct from excluded.*
    ),
    taken as (
        delete from avtryck.late_hit
        where received_at >= opens and received_at < until
          and site_key in (select key from avtryck.site_in_zone where time_zone = own_zone)
    )
    update avtryck.web_sum_day set known = until where web_sum_day.day = build_web_sum.day and time_zone = own_zone;
end $$;

create table avtryck.late_slot (at timestamptz primary key, marked_at timestamptz not null);
comment on table avtryck.late_slot is 'Ten minutes of which something changed within the last half hour after they were rolled up. On a large day they are rolled up by themselves, because that is likely to go on.';
comment on column avtryck.late_slot.at is 'When they begin.';
comment on column avtryck.late_slot.marked_at is 'When the job took the last mark.';

-- Spans and sums are forgotten each by what changed of them.

create function avtryck.forget_ad_sums(spans timestamptz[], is_brief boolean default false) returns void language plpgsql as $$
declare
    own record;
begin
    for own in
        select day, time_zone, avtryck.zone_start(day, time_zone) as begins from avtryck.ad_sum_day
        where spans is null
           or exists (select from unnest(spans) as span where span < known and span >= avtryck.zone_start(day, time_zone))
    loop
        delete from avtryck.ad_sum where ad_sum.day = own.day and ad_sum.time_zone = own.time_zone;
        update avtryck.ad_sum_day set known = own.begins where ad_sum_day.day = own.day and ad_sum_day.time_zone = own.time_zone;
    end loop;
end $$;
comment on function avtryck.forget_ad_sums is 'Deletes the sums about ads of days that have these spans; where that is null, all. Sums of a day are of all hits up to a time: those of spans after it are not in.';

create function avtryck.forget_web_sums(slots timestamptz[]) returns void language plpgsql as $$
declare
    own record;
begin
    for own in
        select day, time_zone, avtryck.zone_start(day, time_zone) as begins from avtryck.web_sum_day
        where slots is null
           or exists (select from unnest(slots) as slot
                      where slot < known and slot > avtryck.zone_start(day, time_zone) - interval '10 minutes')
    loop
        perform avtryck.drop_web_sum(own.day, own.time_zone);
        update avtryck.web_sum_day set known = own.begins where day = own.day and time_zone = own.time_zone;
    end loop;
end $$;
comment on function avtryck.forget_web_sums is 'Deletes the sums about sites of days in whose time, as far as they have it, these ten minutes lie; where that is null, all.';

create or replace function avtryck.forget_sums(spans timestamptz[]) returns void language sql volatile
begin atomic
    select avtryck.forget_ad_sums(spans);
    select avtryck.forget_web_sums(spans);
end;

drop function avtryck.take_report_marks();
create function avtryck.take_report_marks(is_brief boolean default false) returns bigint language plpgsql as $$
declare
    slots timestamptz[];
    moving timestamptz[];
    web timestamptz[];
    spans timestamptz[];
    paths timestamptz[];
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
    with taken as (delete from avtryck.report_path_mark returning at)
    select array_agg(distinct at) into paths from taken;
    perform avtryck.forget_conversions(cut.day, cut.since)
    from (select kept.day, min(slot) as since
          from avtryck.conversion_day as kept
          join unnest(paths) as slot on slot >= avtryck.day_start(kept.day) and slot < kept.known
          group by kept.day) as cut;
    with taken as (delete from avtryck.report_mark returning at, moves_conversions, changes_web)
    select array_agg(distinct at), array_agg(distinct at) filter (where moves_conversions), array_agg(distinct at) filter (where changes_web)
    into slots, moving, web from taken;
    if slots is not null then
        select array_agg(distinct begins) into spans
        from unnest(slots) as slot join avtryck.report_span on slot > begins - interval '10 minutes' and slot < ends;
        insert into avtryck.late_slot
        select slot, clock_timestamp()
        from unnest(slots) as slot join avtryck.report_span on slot > begins - interval '10 minutes' and slot < ends
        group by slot
        on conflict on constraint late_slot_pkey do update set marked_at = excluded.marked_at;
        perform avtryck.forget_changed_spans(spans, is_brief);
        perform avtryck.forget_web_sums(coalesce(web, '{}'));
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
    end if;
    delete from avtryck.late_slot where marked_at < clock_timestamp() - interval '30 minutes';
    -- Sums that have not come to them yet will see the hits themselves.
    delete from avtryck.late_hit
    where not exists (select from avtryck.web_sum_day as own join avtryck.site_in_zone as site using (time_zone)
                      where site.key = late_hit.site_key and late_hit.received_at < own.known
                        and late_hit.received_at >= avtryck.zone_start(own.day, own.time_zone));
    return coalesce(cardinality(spans), 0);
end $$;

comment on function avtryck.take_report_marks is 'Takes the marks, and deletes the roll-ups that they show to be wrong; where it is to be brief, rather too many sums than what takes long to find. Returns how many spans that were.';

create function avtryck.forget_changed_spans(spans timestamptz[], is_brief boolean default false) returns void language plpgsql as $$
begin
    delete from avtryck.report_span where begins = any(spans);
    delete from avtryck.ad_hour where span = any(spans);
    delete from avtryck.ad_day where span = any(spans);
    perform avtryck.forget_ad_sums(coalesce(spans, '{}'), is_brief);
end $$;
comment on function avtryck.forget_changed_spans is 'Deletes the roll-ups of spans whose hits have changed.';

create or replace function avtryck.forget_report_spans(spans timestamptz[]) returns void language plpgsql as $$
begin
    perform avtryck.forget_changed_spans(spans);
    perform avtryck.forget_web_sums(coalesce(spans, '{}'));
end $$;
