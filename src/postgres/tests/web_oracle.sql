-- What the reports about sites say of a day, computed from its hits alone: sessions cut from all hits of the day.

create function plain.session_of(day date)
returns table (
    site text, visitor_id uuid, session_id text, begins timestamptz, ends timestamptz, entry_page text, exit_page text,
    page_views bigint, events bigint, engagement_seconds numeric, is_bounce boolean,
    medium text, origin text, campaign text, device_class text, country text, region text
) language plpgsql stable set plan_cache_mode = force_custom_plan set enable_nestloop = off as $$
#variable_conflict use_column
begin
    return query
    with event as (
        select hit.site_key, hit.visitor_id, hit.session_id, coalesce(hit.occurred_at, hit.received_at) as at, hit.hit_id, hit.kind,
               hit.event_name, hit.page_url, hit.referrer, hit.device_key, hit.place_key,
               case when hit.event_name = 'engagement' and avtryck.number_of(hit.params ->> 'engagement_msec') between 0 and 86400000
                    then avtryck.number_of(hit.params ->> 'engagement_msec')::numeric end as engagement_msec
        from avtryck.hit join plain.clock on own_key = hit.site_key
        where (hit.received_at at time zone zone)::date = day and hit.received_at >= avtryck.day_start(day - 1)
          and hit.received_at < avtryck.day_start(day + 2) and hit.kind in (1, 2) and hit.ad_key is null
          and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
          and (hit.visitor_id is not null or hit.session_id is not null)
    ),
    -- A site has a row for each category of its pages.
    named as (
        select event.*, site.number as site
        from event join (select key, min(key) over (partition by site) as number from avtryck.site) as site on site.key = event.site_key
    ),
    cut as (
        select named.*, case when session_id is null and at - lag(at) over one > interval '30 minutes' then 1 else 0 end as is_new
        from named
        window one as (partition by site, visitor_id, session_id order by at, hit_id)
    ),
    numbered as (
        select cut.*, sum(is_new) over one as number, row_number() over one as place
        from cut
        window one as (partition by site, visitor_id, session_id order by at, hit_id rows unbounded preceding)
    ),
    session as materialized (
        select site, visitor_id, session_id, number, min(at) as begins, max(at) as ends,
               count(*) filter (where kind = 1) as page_views,
               count(*) filter (where kind = 2 and event_name not in ('engagement', 'scroll')) as events,
               round(coalesce(sum(engagement_msec), 0) / 1000, 1) as engagement_seconds,
               -- The least place comes first; an ordered array of each session would be sorted by itself.
               min(array[lpad(place::text, 9, '0'), page_url, referrer]) filter (where kind = 1) as entry,
               max(array[lpad(place::text, 9, '0'), page_url]) filter (where kind = 1) as exit,
               min(array[place, device_key, place_key]) as found
        from numbered group by 1, 2, 3, 4
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
    select site.site, visitor_id, session_id, begins, ends, first.path, last.path,
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

create function plain.web_of(day date)
returns table (
    site text, medium text, origin text, campaign text, device_class text, country text, sessions bigint, visitors bigint,
    bounces bigint, page_views bigint, events bigint, engagement_seconds numeric, unmeasured_page_views bigint
) language plpgsql stable set plan_cache_mode = force_custom_plan set enable_nestloop = off as $$
#variable_conflict use_column
begin
    return query
    with session as materialized (select * from plain.session_of(web_of.day)),
    origin as (
        select site, origin, campaign, row_number() over (partition by site order by count(*) desc, origin, campaign) as number
        from session group by 1, 2, 3
    ),
    each as (
        select session.site, medium, case when number <= avtryck.web_rows_max() then session.origin else '(other)' end as origin,
               case when number <= avtryck.web_rows_max() then session.campaign end as campaign, device_class, country,
               count(*) as sessions, count(distinct visitor_id) as visitors, count(*) filter (where is_bounce) as bounces,
               sum(page_views)::bigint as page_views, sum(events)::bigint as events, sum(engagement_seconds) as engagement_seconds,
               0::bigint as unmeasured_page_views
        from session
        join origin on origin.site = session.site and coalesce(origin.origin, '') = coalesce(session.origin, '')
                   and coalesce(origin.campaign, '') = coalesce(session.campaign, '')
        group by 1, 2, 3, 4, 5, 6
        union all
        select site.site, null, null, null, device.class, place.country, 0, 0, 0, count(*), 0, 0, 0
        from avtryck.hit
        join plain.clock on own_key = hit.site_key
        join avtryck.site on site.key = hit.site_key
        left join avtryck.device on device.key = hit.device_key
        left join avtryck.place on place.key = hit.place_key
        where (hit.received_at at time zone zone)::date = day and hit.received_at >= avtryck.day_start(day - 1)
          and hit.received_at < avtryck.day_start(day + 2) and hit.kind = 1 and hit.ad_key is null
          and hit.visitor_id is null and hit.session_id is null and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
        group by 1, 5, 6
        union all
        select site.site, null, null, null, null, null, 0, 0, 0, 0, 0, 0, sum(hits)::bigint
        from avtryck.hit_count join avtryck.site on site.key = hit_count.site_key
        where plain.day_of(minute, hit_count.site_key) = day and kind = 1
        group by 1
    )
    select site, medium, origin, campaign, device_class, country, sum(sessions)::bigint, sum(visitors)::bigint,
           sum(bounces)::bigint, sum(page_views)::bigint, sum(events)::bigint, round(sum(engagement_seconds), 1), sum(unmeasured_page_views)::bigint
    from each group by 1, 2, 3, 4, 5, 6;
end $$;

create function plain.web_page_of(day date)
returns table (
    site text, page text, page_views bigint, visitors bigint, entries bigint, exits bigint, bounces bigint, engagement_seconds numeric
) language plpgsql stable set plan_cache_mode = force_custom_plan set enable_nestloop = off as $$
#variable_conflict use_column
begin
    return query
    with viewed as materialized (
        select site_key, page_url, visitor_id, count(*) filter (where kind = 1) as page_views,
               sum(case when event_name = 'engagement' and avtryck.number_of(params ->> 'engagement_msec') between 0 and 86400000
                        then avtryck.number_of(params ->> 'engagement_msec')::numeric end) as engagement_msec
        from avtryck.hit join plain.clock on own_key = site_key
        where (hit.received_at at time zone zone)::date = day and hit.received_at >= avtryck.day_start(day - 1)
          and hit.received_at < avtryck.day_start(day + 2) and (kind = 1 or kind = 2 and event_name = 'engagement')
          and ad_key is null and avtryck.is_counted(flags) and avtryck.is_valid(flags) and page_url is not null
        group by 1, 2, 3
    ),
    address as materialized (
        select url, avtryck.path_of(url) as path from (select distinct page_url as url from viewed) as each
    ),
    seen as (
        select site.site, address.path as page, sum(page_views) as page_views,
               count(distinct visitor_id) filter (where page_views > 0) as visitors,
               round(coalesce(sum(engagement_msec), 0) / 1000, 1) as engagement_seconds
        from viewed join address on address.url = viewed.page_url join avtryck.site on site.key = viewed.site_key
        group by 1, 2
    ),
    session as materialized (select site, entry_page, exit_page, is_bounce from plain.session_of(web_page_of.day)),
    each as (
        select site, page, page_views, visitors, 0::bigint as entries, 0::bigint as exits, 0::bigint as bounces, engagement_seconds from seen
        union all
        select site, entry_page, 0, 0, count(*), 0, count(*) filter (where is_bounce), 0 from session group by 1, 2
        union all
        select site, exit_page, 0, 0, 0, count(*), 0, 0 from session group by 1, 2
    ),
    ranked as (
        select site, page, sum(page_views) as page_views, sum(visitors) as visitors, sum(entries) as entries, sum(exits) as exits,
               sum(bounces) as bounces, sum(engagement_seconds) as engagement_seconds,
               row_number() over (partition by site order by sum(page_views) desc, page) as number
        from each where page is not null group by 1, 2
        having sum(page_views) + sum(entries) + sum(exits) + sum(engagement_seconds) > 0
    )
    select site, case when number <= avtryck.web_rows_max() then page else '(other)' end, sum(page_views)::bigint,
           sum(visitors)::bigint, sum(entries)::bigint, sum(exits)::bigint, sum(bounces)::bigint, round(sum(engagement_seconds), 1)
    from ranked group by 1, 2;
end $$;

