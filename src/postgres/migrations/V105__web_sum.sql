-- Reports about sites of a day that is not over: sums up to some minutes ago are kept, and only the visitors since are
-- looked up. All that they did on the day is counted anew, and what was counted of them before is taken off: so sums are
-- exact in whatever order hits came. And days are those of each site.

-- Visits without a visitor are found by their session_id.
create index hit_session_id on only avtryck.hit (session_id) where visitor_id is null and session_id is not null;
select avtryck.index_hit_day(day) from avtryck.hit_day where day >= (now() at time zone 'UTC')::date - 1;

-- A branch that is not wanted asks for no time, so that the planner opens no partition for it.
create function avtryck.web_hit(since timestamptz, until timestamptz, own_zone text, whose text, people uuid[], visits text[])
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
      and hit.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone);
end;
comment on function avtryck.web_hit is 'The hits of a time that reports about sites count, of the sites of a time zone: all; those of some visitors and session IDs; or those of nobody, which have neither.';

create function avtryck.engagement_of(event_name text, params jsonb) returns numeric language sql immutable parallel safe
    return case when event_name = 'engagement' and avtryck.number_of(params ->> 'engagement_msec') between 0 and 86400000
                then avtryck.number_of(params ->> 'engagement_msec')::numeric end;
comment on function avtryck.engagement_of is 'For how many milliseconds an event engagement says that a page was in use; null for other events.';

create function avtryck.web_session_part(
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
        where (hit.visitor_id is not null or hit.session_id is not null) and (sides.sign = 1 or hit.received_at < known)
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
comment on function avtryck.web_session_part is 'The sessions in the hits that web_hit has, with sign 1, and those that there were in them before `known`, with sign -1.';

create or replace function avtryck.web_session_of(day date)
returns table (
    site text, visitor_id uuid, session_id text, begins timestamptz, ends timestamptz, entry_page text, exit_page text,
    page_views bigint, events bigint, engagement_seconds numeric, is_bounce boolean,
    medium text, origin text, campaign text, device_class text, country text, region text
) language sql stable parallel safe
begin atomic
    select session.site, session.visitor_id, session.session_id, session.begins, session.ends, session.entry_page, session.exit_page,
           session.page_views, session.events, session.engagement_seconds, session.is_bounce, session.medium, session.origin,
           session.campaign, session.device_class, session.country, session.region
    from avtryck.zone_day(web_session_of.day) as own
    cross join lateral avtryck.web_session_part(own.begins, own.ends, own.time_zone, 'all', null, null, null) as session;
end;

-- What sums are made of: figures that can be added up and taken off again.

create function avtryck.web_part(
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
        where whose <> 'nobody'
        group by 1, 2, 3, 4, 5, 6, sign
        union all
        select site.site, null, null, null, device.class, place.country, 0, 0, 0, count(*), 0, 0, 0
        from avtryck.web_hit(since, until, own_zone, whose, null, null) as hit
        join avtryck.site on site.key = hit.site_key
        left join avtryck.device on device.key = hit.device_key
        left join avtryck.place on place.key = hit.place_key
        where whose <> 'some' and hit.kind = 1 and hit.visitor_id is null and hit.session_id is null
        group by 1, 5, 6
        union all
        select site.site, null, null, null, null, null, 0, 0, 0, 0, 0, 0, sum(hits)::bigint
        from avtryck.hit_count join avtryck.site_in_zone as site on site.key = hit_count.site_key and site.site is not null
        where whose <> 'some' and site.time_zone = own_zone and minute >= since and minute < until and kind = 1
        group by 1
    ) as each;
end $$;
comment on function avtryck.web_part is 'What web_daily counts of the hits that web_hit has, and of unmeasured ones unless it is of some visitors. What there was of it before `known` is taken off. Rows of the same are to be added up.';

create function avtryck.web_page_part(
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
        where (kind = 1 or event_name = 'engagement') and page_url is not null and (sign = 1 or hit.received_at < known)
        group by 1, 2, 3, 4
    ),
    address as materialized (
        select url, avtryck.path_of(url) as path from (select distinct page_url as url from viewed) as each
    ),
    session as materialized (
        select sign, site, entry_page, exit_page, is_bounce
        from avtryck.web_session_part(since, until, own_zone, whose, people, visits, known)
        where whose <> 'nobody'
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
comment on function avtryck.web_page_part is 'What web_page_daily counts of the hits that web_hit has. Rows of the same are to be added up.';

create table avtryck.web_sum (
    day date not null,
    time_zone text not null,
    number bigint not null,
    site text, medium text, origin text, campaign text, device_class text, country text, sessions bigint not null,
    visitors bigint not null, bounces bigint not null, page_views bigint not null, events bigint not null,
    engagement_seconds numeric not null, unmeasured_page_views bigint not null,
    primary key (day, time_zone, number)
);
comment on table avtryck.web_sum is 'What web_daily counts on a day that is not over, up to the time that web_sum_day has. Query that view, which has what came since.';
create table avtryck.web_page_sum (
    day date not null,
    time_zone text not null,
    number bigint not null,
    site text, page text, page_views bigint not null, visitors bigint not null, entries bigint not null, exits bigint not null,
    bounces bigint not null, engagement_msec numeric not null,
    primary key (day, time_zone, number)
);
comment on table avtryck.web_page_sum is 'What web_page_daily counts on a day that is not over, up to the time that web_sum_day has. Query that view, which has what came since.';
comment on column avtryck.web_page_sum.engagement_msec is 'For how many milliseconds the page was in use.';
create table avtryck.web_sum_day (
    day date not null,
    time_zone text not null,
    known timestamptz not null,
    begun_at timestamptz not null,
    primary key (day, time_zone)
);
comment on table avtryck.web_sum_day is 'Up to which time of a day web_sum and web_page_sum have sums. They hold for as long as report_mark has nothing of the day before that time.';
comment on column avtryck.web_sum_day.known is 'The end of what is summed up: this moment no longer belongs to it. The start of the day where nothing is, because hits before it came late.';
comment on column avtryck.web_sum_day.begun_at is 'When the sums were begun anew.';

do $$
declare
    bare record;
begin
    for bare in
        select shown.oid::regclass as shown, attname as column, coalesce(
                   (select col_description(known.attrelid, known.attnum) from pg_attribute as known
                    where known.attrelid = 'avtryck.web_day'::regclass and known.attname = told.attname),
                   (select col_description(known.attrelid, known.attnum) from pg_attribute as known
                    where known.attrelid = 'avtryck.web_page_day'::regclass and known.attname = told.attname),
                   case attname when 'time_zone' then 'The time zone whose day it is, of the site.'
                                when 'number' then 'A hash of 64 bits of the columns that name the row.' end) as description
        from pg_class as shown join pg_attribute as told on told.attrelid = shown.oid and told.attnum > 0
        where shown.oid in ('avtryck.web_sum'::regclass, 'avtryck.web_page_sum'::regclass, 'avtryck.web_sum_day'::regclass)
          and col_description(shown.oid, told.attnum) is null
    loop
        execute format('comment on column %s.%I is %L', bare.shown, bare.column, bare.description);
    end loop;
end $$;

create function avtryck.web_known(day date, own_zone text) returns timestamptz language sql stable parallel safe
begin atomic
    select coalesce((select known from avtryck.web_sum_day
                     where web_sum_day.day = web_known.day and web_sum_day.time_zone = own_zone
                       and not avtryck.is_marked(begins, known)), begins)
    from (select avtryck.zone_start(web_known.day, own_zone) as begins) as of;
end;
comment on function avtryck.web_known is 'The time up to which web_sum and web_page_sum agree with the hits of a day: its start where they have nothing of it.';

create function avtryck.web_visitors(since timestamptz, until timestamptz, own_zone text) returns uuid[] language sql stable parallel safe
begin atomic
    select coalesce(array_agg(distinct visitor_id), '{}')
    from avtryck.web_hit(since, until, own_zone, 'all', null, null) where visitor_id is not null;
end;
comment on function avtryck.web_visitors is 'The visitors that did something in a time on the sites of a time zone.';
create function avtryck.web_sessions(since timestamptz, until timestamptz, own_zone text) returns text[] language sql stable parallel safe
begin atomic
    select coalesce(array_agg(distinct session_id), '{}')
    from avtryck.web_hit(since, until, own_zone, 'all', null, null) where visitor_id is null and session_id is not null;
end;
comment on function avtryck.web_sessions is 'The session IDs of hits without a visitor in a time on the sites of a time zone.';

-- In place of a function for each report: the sums that are kept, and what has changed of them since.
do $$
declare
    report record;
    columns text;
    names text;
    sums text;
begin
    for report in
        select * from (values
            ('web_sum', 'web_part', 'web_sum_of', 'web_daily', array['number', 'site', 'medium', 'origin', 'campaign', 'device_class', 'country']),
            ('web_page_sum', 'web_page_part', 'web_page_sum_of', 'web_page_daily', array['number', 'site', 'page'])
        ) as name (kept, part, sum, shown, keys)
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
            create function avtryck.%1$I(day date, own_zone text, until timestamptz) returns table (%2$s)
            language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan as $body$
            #variable_conflict use_column
            declare
                begins timestamptz := avtryck.zone_start(day, own_zone);
                known timestamptz := avtryck.web_known(day, own_zone);
                people uuid[];
                visits text[];
            begin
                if known <= begins then
                    return query select %4$s from avtryck.%5$I(begins, until, own_zone, 'all', null, null, null) as part group by part.number;
                    return;
                end if;
                people := avtryck.web_visitors(known, until, own_zone);
                visits := avtryck.web_sessions(known, until, own_zone);
                return query
                select %4$s
                from (select %3$s from avtryck.%6$I as part where part.day = %1$I.day and part.time_zone = own_zone
                      union all
                      select %3$s from avtryck.%5$I(begins, until, own_zone, 'some', people, visits, known) as part
                      union all
                      select %3$s from avtryck.%5$I(known, until, own_zone, 'nobody', null, null, null) as part) as part
                group by part.number;
            end $body$ $sql$, report.sum, columns, names, sums, report.part, report.kept);
        execute format('comment on function avtryck.%I is %L', report.sum,
                       format('What %s counts of a day until a time, of the sites of a time zone: the sums of %s, and what has changed since. With every page and origin.', report.shown, report.kept));
    end loop;
end $$;

create or replace function avtryck.web_live(day date)
returns table (
    site text, medium text, origin text, campaign text, device_class text, country text, sessions bigint, visitors bigint,
    bounces bigint, page_views bigint, events bigint, engagement_seconds numeric, unmeasured_page_views bigint
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan
set enable_nestloop = off as $$
#variable_conflict use_column
begin
    return query
    with each as materialized (
        select sums.*
        from avtryck.zone_day(web_live.day) as own
        cross join lateral avtryck.web_sum_of(web_live.day, own.time_zone, own.ends) as sums
        where sums.sessions > 0 or sums.page_views > 0 or sums.unmeasured_page_views > 0
    ),
    origin as (
        select site, origin, campaign, row_number() over (partition by site order by sum(sessions) desc, origin, campaign) as place
        from each where sessions > 0 group by 1, 2, 3
    )
    select each.site, medium, case when origin.place > avtryck.web_rows_max() then '(other)' else each.origin end,
           case when origin.place > avtryck.web_rows_max() then null else each.campaign end, device_class, country,
           sum(sessions)::bigint, sum(visitors)::bigint, sum(bounces)::bigint, sum(page_views)::bigint, sum(events)::bigint,
           round(sum(engagement_seconds), 1), sum(unmeasured_page_views)::bigint
    from each
    left join origin on each.sessions > 0 and origin.site = each.site and coalesce(origin.origin, '') = coalesce(each.origin, '')
                    and coalesce(origin.campaign, '') = coalesce(each.campaign, '')
    group by 1, 2, 3, 4, 5, 6;
end $$;
comment on function avtryck.web_live is 'One day of web_daily, computed from web_sum and the hits.';

create or replace function avtryck.web_page_live(day date)
returns table (
    site text, page text, page_views bigint, visitors bigint, entries bigint, exits bigint, bounces bigint, engagement_seconds numeric
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan
set enable_nestloop = off as $$
#variable_conflict use_column
begin
    return query
    with ranked as (
        select sums.*, row_number() over (partition by sums.site order by sums.page_views desc, sums.page) as place
        from avtryck.zone_day(web_page_live.day) as own
        cross join lateral avtryck.web_page_sum_of(web_page_live.day, own.time_zone, own.ends) as sums
        where sums.page_views > 0 or sums.entries > 0 or sums.exits > 0 or sums.engagement_msec > 0
    )
    select site, case when ranked.place <= avtryck.web_rows_max() then page else '(other)' end, sum(page_views)::bigint,
           sum(visitors)::bigint, sum(entries)::bigint, sum(exits)::bigint, sum(bounces)::bigint,
           sum(round(coalesce(engagement_msec, 0) / 1000, 1))
    from ranked group by 1, 2;
end $$;
comment on function avtryck.web_page_live is 'One day of web_page_daily, computed from web_page_sum and the hits.';

create or replace function avtryck.web_event_live(day date)
returns table (site text, event text, hits bigint, visitors bigint, value numeric)
language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan
set enable_nestloop = off as $$
#variable_conflict use_column
declare
    since timestamptz;
    until timestamptz;
begin
    select min(own.begins), max(own.ends) into since, until from avtryck.zone_day(web_event_live.day) as own;
    return query
    with each as (
        select site.site, hit.event_name as event, count(*) as hits, count(distinct hit.visitor_id) as visitors,
               sum(case when avtryck.number_of(hit.params ->> 'value') between -1e15 and 1e15
                        then avtryck.number_of(hit.params ->> 'value')::numeric end) as value
        from avtryck.hit
        join avtryck.site_in_zone as site on site.key = hit.site_key and site.site is not null
        join avtryck.zone_day(web_event_live.day) as own
          on own.time_zone = site.time_zone and hit.received_at >= own.begins and hit.received_at < own.ends
        where hit.received_at >= since and hit.received_at < until and hit.kind = 2 and hit.ad_key is null
          and hit.event_name is not null and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
        group by 1, 2
    ),
    ranked as (select each.*, row_number() over (partition by site order by hits desc, event) as number from each)
    select site, case when number <= avtryck.web_rows_max() then event else '(other)' end, sum(hits)::bigint, sum(visitors)::bigint, sum(value)
    from ranked group by 1, 2;
end $$;

create or replace function avtryck.web_search_live(day date)
returns table (site text, search text, hits bigint, visitors bigint)
language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan
set enable_nestloop = off as $$
#variable_conflict use_column
declare
    since timestamptz;
    until timestamptz;
begin
    select min(own.begins), max(own.ends) into since, until from avtryck.zone_day(web_search_live.day) as own;
    return query
    with each as (
        select site.site, avtryck.search_of(case when hit.kind = 2 then hit.params end, hit.page_url) as search,
               count(*) as hits, count(distinct hit.visitor_id) as visitors
        from avtryck.hit
        join avtryck.site_in_zone as site on site.key = hit.site_key and site.site is not null
        join avtryck.zone_day(web_search_live.day) as own
          on own.time_zone = site.time_zone and hit.received_at >= own.begins and hit.received_at < own.ends
        where hit.received_at >= since and hit.received_at < until and hit.ad_key is null
          and (hit.kind = 2 and hit.event_name in ('search', 'view_search_results', 'site_search')
               or hit.kind = 1 and hit.page_url ~ '[?&](q|s|query|search)=')
          and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
        group by 1, 2
    ),
    ranked as (
        select each.*, row_number() over (partition by site order by hits desc, search) as number from each where search is not null
    )
    select site, case when number <= avtryck.web_rows_max() then search else '(other)' end, sum(hits)::bigint, sum(visitors)::bigint
    from ranked group by 1, 2;
end $$;

-- What keeps sums up.

create function avtryck.build_web_sum(day date, own_zone text, until timestamptz) returns void language plpgsql as $$
begin
    if avtryck.web_known(build_web_sum.day, own_zone) <= avtryck.zone_start(build_web_sum.day, own_zone) then
        perform avtryck.drop_web_sum(build_web_sum.day, own_zone);
        insert into avtryck.web_sum_day
        values (build_web_sum.day, own_zone, avtryck.zone_start(build_web_sum.day, own_zone), clock_timestamp())
        on conflict on constraint web_sum_day_pkey do update set known = excluded.known, begun_at = excluded.begun_at;
    end if;
    insert into avtryck.web_sum as kept
    select build_web_sum.day, own_zone, sums.* from avtryck.web_sum_of(build_web_sum.day, own_zone, until) as sums
    on conflict on constraint web_sum_pkey do update set
        sessions = excluded.sessions, visitors = excluded.visitors, bounces = excluded.bounces, page_views = excluded.page_views,
        events = excluded.events, engagement_seconds = excluded.engagement_seconds, unmeasured_page_views = excluded.unmeasured_page_views
    where kept.* is distinct from excluded.*;
    insert into avtryck.web_page_sum as kept
    select build_web_sum.day, own_zone, number, site, page, page_views, visitors, entries, exits, bounces, coalesce(engagement_msec, 0)
    from avtryck.web_page_sum_of(build_web_sum.day, own_zone, until)
    on conflict on constraint web_page_sum_pkey do update set
        page_views = excluded.page_views, visitors = excluded.visitors, entries = excluded.entries, exits = excluded.exits,
        bounces = excluded.bounces, engagement_msec = excluded.engagement_msec
    where kept.* is distinct from excluded.*;
    update avtryck.web_sum_day set known = until where web_sum_day.day = build_web_sum.day and time_zone = own_zone;
end $$;
comment on function avtryck.build_web_sum is 'Brings web_sum and web_page_sum up to a time of a day, of the sites of a time zone.';

create function avtryck.drop_web_sum(day date, own_zone text) returns void language plpgsql as $$
begin
    delete from avtryck.web_sum where web_sum.day = drop_web_sum.day and time_zone = own_zone;
    delete from avtryck.web_page_sum where web_page_sum.day = drop_web_sum.day and time_zone = own_zone;
end $$;
comment on function avtryck.drop_web_sum is 'Deletes the sums about sites of a time zone and a day.';

create or replace function avtryck.forget_sums(spans timestamptz[]) returns void language plpgsql as $$
declare
    own record;
begin
    delete from avtryck.ad_sum_day
    where spans is null
       or exists (select from unnest(spans) as span where span < known and span >= avtryck.zone_start(ad_sum_day.day, time_zone));
    delete from avtryck.ad_sum
    where not exists (select from avtryck.ad_sum_day where ad_sum_day.day = ad_sum.day and ad_sum_day.time_zone = ad_sum.time_zone);
    for own in
        select day, time_zone, avtryck.zone_start(day, time_zone) as begins from avtryck.web_sum_day
        where spans is null
           or exists (select from unnest(spans) as span where span < known and span >= avtryck.zone_start(day, time_zone))
    loop
        perform avtryck.drop_web_sum(own.day, own.time_zone);
        update avtryck.web_sum_day set known = own.begins where day = own.day and time_zone = own.time_zone;
    end loop;
end $$;

create or replace function avtryck.drop_sums(day date) returns void language plpgsql as $$
begin
    delete from avtryck.ad_sum where ad_sum.day = drop_sums.day;
    delete from avtryck.ad_sum_day where ad_sum_day.day = drop_sums.day;
    delete from avtryck.web_sum where web_sum.day = drop_sums.day;
    delete from avtryck.web_page_sum where web_page_sum.day = drop_sums.day;
    delete from avtryck.web_sum_day where web_sum_day.day = drop_sums.day;
end $$;

create function avtryck.web_begin_max() returns bigint language sql immutable parallel safe
    return 64 * 1024 * 1024;
comment on function avtryck.web_begin_max is 'Of how many bytes of hits of a UTC day sums about its sites are begun anew each time that late hits took them; of a larger day, every ten minutes at most.';

create or replace function avtryck.build_sums(at timestamptz) returns void language plpgsql as $$
#variable_conflict use_column
declare
    own record;
    settled timestamptz;
    web record;
begin
    for own in select * from avtryck.zone_day_at(build_sums.at) loop
        -- Sums about ads are up to between half an hour and an hour and a half ago: they take as long whatever they add,
        -- and a hit that is late takes them all.
        settled := avtryck.sum_target(
            own.begins, own.ends,
            (select known from avtryck.ad_sum_day where ad_sum_day.day = own.day and time_zone = own.time_zone),
            interval '30 minutes', interval '1 hour');
        if settled is not null then
            perform avtryck.build_ad_sum(own.day, own.time_zone, settled);
        end if;
        select known, begun_at into web from avtryck.web_sum_day where web_sum_day.day = own.day and time_zone = own.time_zone;
        settled := avtryck.sum_target(own.begins, own.ends, web.known, interval '10 minutes', interval '10 minutes');
        if settled is not null
           and not (web.known is not distinct from own.begins and web.begun_at > clock_timestamp() - interval '10 minutes'
                    and pg_relation_size(to_regclass('avtryck.hit_' || to_char(build_sums.at at time zone 'UTC', 'YYYYMMDD'))) > avtryck.web_begin_max())
        then
            perform avtryck.build_web_sum(own.day, own.time_zone, settled);
        end if;
    end loop;
end $$;
