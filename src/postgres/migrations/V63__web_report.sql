-- What web people ask for. A day that has been over for two hours is stored, as reports about ads are. Every other day is
-- computed from its hits. Sessions do not go beyond their UTC day.

create function avtryck.unescape(value text) returns text language sql immutable strict parallel safe
begin atomic
    select case
        when value !~ '[%+]' then value
        -- What is no UTF-8, or has a zero byte, stays as it is.
        when hex ~ ('^((0[1-9a-f]|[1-7].)|(c[2-9a-f]|d.)[89ab].|e0[ab].[89ab].|(e[1-9a-cef])[89ab].[89ab].|ed[89].[89ab].'
                    || '|f0[9ab].[89ab].[89ab].|f[1-3][89ab].[89ab].[89ab].|f48.[89ab].[89ab].)*$')
            then convert_from(decode(hex, 'hex'), 'UTF8')
        else value
    end
    from (select string_agg(coalesce(lower(piece[2]), encode(convert_to(piece[1], 'UTF8'), 'hex')), '' order by number) as hex
          from regexp_matches(replace(value, '+', ' '), '([^%]+|%(?![0-9A-Fa-f]{2}))|%([0-9A-Fa-f]{2})', 'g')
               with ordinality as pieces (piece, number)) as bytes;
end;
comment on function avtryck.unescape is 'A value of a query string without its escapes.';

create function avtryck.bare_url(url text) returns text language sql immutable strict parallel safe
    return split_part(split_part(url, '?', 1), '#', 1);
comment on function avtryck.bare_url is 'A URL without its query and fragment.';

-- No regular expressions in what is computed of each hit: they take most of the time.
create function avtryck.path_of(url text) returns text language sql immutable strict parallel safe
    return coalesce(nullif(left(case
        when strpos(avtryck.bare_url(url), '://') = 0 then avtryck.bare_url(url)
        else substr(avtryck.bare_url(url), strpos(avtryck.bare_url(url), '://') + 2
                    + strpos(substr(avtryck.bare_url(url), strpos(avtryck.bare_url(url), '://') + 3) || '/', '/'))
    end, 500), ''), '/');
comment on function avtryck.path_of is 'The path of a URL, without its host, query and fragment.';

create function avtryck.host_of(url text) returns text language sql immutable strict parallel safe
    return lower(substring(url from '^[a-zA-Z][a-zA-Z0-9+.-]*://(?:www\.)?([^/?#:]+)'));
comment on function avtryck.host_of is 'The host of a URL, without www; null where it has none.';

create function avtryck.medium_of(page_url text, page_host text, referrer_host text) returns text language sql immutable parallel safe
    return case
        when page_url like '%utm\_source=%' and avtryck.query_value_of(page_url, 'utm_source') <> ''
            then coalesce(nullif(lower(avtryck.unescape(avtryck.query_value_of(page_url, 'utm_medium'))), ''), 'campaign')
        when page_url like '%id=%' and page_url ~ '[?&](gclid|gbraid|wbraid|dclid|msclkid|fbclid|ttclid|twclid|li_fat_id)=' then 'paid'
        when referrer_host is null then 'direct'
        when referrer_host = page_host then 'internal'
        when referrer_host ~ '^(mail\.|webmail\.|outlook\.)' then 'mail'
        when referrer_host ~ '(^|\.)(google\.[a-z.]+|bing\.com|duckduckgo\.com|yahoo\.[a-z.]+|ecosia\.org|qwant\.com|yandex\.[a-z]+|baidu\.com|startpage\.com|search\.brave\.com)$' then 'search'
        when referrer_host ~ '(^|\.)(facebook\.com|instagram\.com|t\.co|x\.com|twitter\.com|linkedin\.com|lnkd\.in|reddit\.com|youtube\.com|tiktok\.com|pinterest\.[a-z.]+|threads\.net|bsky\.app|mastodon\.social)$' then 'social'
        else 'referral'
    end;
comment on function avtryck.medium_of is 'How somebody came to a page, by its address, its host and that of the referrer: the utm_medium (campaign without one), paid (it has an ad network''s click ID), mail, search, social, referral (another site), internal (the same host) or direct.';

create function avtryck.origin_of(page_url text, referrer_host text) returns text language sql immutable parallel safe
    return left(coalesce(
        case when page_url like '%utm\_source=%'
             then nullif(lower(avtryck.unescape(avtryck.query_value_of(page_url, 'utm_source'))), '') end,
        case when page_url like '%id=%' then case
            when page_url ~ '[?&](gclid|gbraid|wbraid|dclid)=' then 'google'
            when page_url ~ '[?&]msclkid=' then 'microsoft'
            when page_url ~ '[?&]fbclid=' then 'meta'
            when page_url ~ '[?&]ttclid=' then 'tiktok'
            when page_url ~ '[?&]twclid=' then 'x'
            when page_url ~ '[?&]li_fat_id=' then 'linkedin' end
        end, referrer_host), 200);
comment on function avtryck.origin_of is 'Who sent somebody to a page: the utm_source of its address, the network of a click ID, or the host of the referrer; null for none.';

create function avtryck.web_session_of(day date)
returns table (
    site text, visitor_id uuid, session_id text, begins timestamptz, ends timestamptz, entry_page text, exit_page text,
    page_views bigint, events bigint, engagement_seconds numeric, is_bounce boolean,
    medium text, origin text, campaign text, device_class text, country text, region text
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan
set enable_nestloop = off as $$
#variable_conflict use_column
declare
    since timestamptz := avtryck.day_start(day);
    until timestamptz := avtryck.day_start(day + 1);
begin
    return query
    with event as (
        select hit.site_key, hit.visitor_id, hit.session_id, coalesce(hit.occurred_at, hit.received_at) as at, hit.hit_id, hit.kind,
               hit.event_name, hit.page_url, hit.referrer, hit.device_key, hit.place_key,
               case when hit.event_name = 'engagement' and avtryck.number_of(hit.params ->> 'engagement_msec') between 0 and 86400000
                    then avtryck.number_of(hit.params ->> 'engagement_msec')::numeric end as engagement_msec
        from avtryck.hit
        where hit.received_at >= since and hit.received_at < until and hit.kind in (1, 2) and hit.ad_key is null
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
comment on function avtryck.web_session_of is 'One day of web_session.';

create view avtryck.web_session as
select hit_day.day, session.* from avtryck.hit_day cross join lateral avtryck.web_session_of(hit_day.day) as session;
comment on view avtryck.web_session is 'Sessions with page views: the hits of a visitor on a site with the same session_id or, without one, until 30 minutes pass without any. In the order of the sender''s time where it gives one; none goes beyond its UTC day. Valid hits only.';

-- Senders choose names and addresses, so of each a site has so many rows a day, and one for all others.
create function avtryck.web_rows_max() returns bigint language sql immutable parallel safe
    return 1000;
comment on function avtryck.web_rows_max is 'How many pages, searches, events and origins of a site a day have rows of their own in reports. The others are "(other)" together.';

create function avtryck.web_live(day date)
returns table (
    site text, medium text, origin text, campaign text, device_class text, country text, sessions bigint, visitors bigint,
    bounces bigint, page_views bigint, events bigint, engagement_seconds numeric, unmeasured_page_views bigint
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan
set enable_nestloop = off as $$
#variable_conflict use_column
declare
    since timestamptz := avtryck.day_start(day);
    until timestamptz := avtryck.day_start(day + 1);
begin
    return query
    with session as materialized (select * from avtryck.web_session_of(web_live.day)),
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
        join avtryck.site on site.key = hit.site_key
        left join avtryck.device on device.key = hit.device_key
        left join avtryck.place on place.key = hit.place_key
        where hit.received_at >= since and hit.received_at < until and hit.kind = 1 and hit.ad_key is null
          and hit.visitor_id is null and hit.session_id is null and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
        group by 1, 5, 6
        union all
        select site.site, null, null, null, null, null, 0, 0, 0, 0, 0, 0, sum(hits)::bigint
        from avtryck.hit_count join avtryck.site on site.key = hit_count.site_key
        where minute >= since and minute < until and kind = 1
        group by 1
    )
    select site, medium, origin, campaign, device_class, country, sum(sessions)::bigint, sum(visitors)::bigint,
           sum(bounces)::bigint, sum(page_views)::bigint, sum(events)::bigint, sum(engagement_seconds), sum(unmeasured_page_views)::bigint
    from each group by 1, 2, 3, 4, 5, 6;
end $$;
comment on function avtryck.web_live is 'One day of web_daily, computed from the hits.';

create function avtryck.web_page_live(day date)
returns table (
    site text, page text, page_views bigint, visitors bigint, entries bigint, exits bigint, bounces bigint, engagement_seconds numeric
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan
set enable_nestloop = off as $$
#variable_conflict use_column
declare
    since timestamptz := avtryck.day_start(day);
    until timestamptz := avtryck.day_start(day + 1);
begin
    return query
    with viewed as materialized (
        select site_key, page_url, visitor_id, count(*) filter (where kind = 1) as page_views,
               sum(case when event_name = 'engagement' and avtryck.number_of(params ->> 'engagement_msec') between 0 and 86400000
                        then avtryck.number_of(params ->> 'engagement_msec')::numeric end) as engagement_msec
        from avtryck.hit
        where received_at >= since and received_at < until and (kind = 1 or kind = 2 and event_name = 'engagement')
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
    session as materialized (select site, entry_page, exit_page, is_bounce from avtryck.web_session_of(web_page_live.day)),
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
    )
    select site, case when number <= avtryck.web_rows_max() then page else '(other)' end, sum(page_views)::bigint,
           sum(visitors)::bigint, sum(entries)::bigint, sum(exits)::bigint, sum(bounces)::bigint, sum(engagement_seconds)
    from ranked group by 1, 2;
end $$;
comment on function avtryck.web_page_live is 'One day of web_page_daily, computed from the hits.';

create function avtryck.web_event_live(day date)
returns table (site text, event text, hits bigint, visitors bigint, value numeric)
language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan
set enable_nestloop = off as $$
#variable_conflict use_column
declare
    since timestamptz := avtryck.day_start(day);
    until timestamptz := avtryck.day_start(day + 1);
begin
    return query
    with each as (
        select site.site, hit.event_name as event, count(*) as hits, count(distinct hit.visitor_id) as visitors,
               sum(case when avtryck.number_of(hit.params ->> 'value') between -1e15 and 1e15
                        then avtryck.number_of(hit.params ->> 'value')::numeric end) as value
        from avtryck.hit join avtryck.site on site.key = hit.site_key
        where hit.received_at >= since and hit.received_at < until and hit.kind = 2 and hit.ad_key is null
          and hit.event_name is not null and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
        group by 1, 2
    ),
    ranked as (select each.*, row_number() over (partition by site order by hits desc, event) as number from each)
    select site, case when number <= avtryck.web_rows_max() then event else '(other)' end, sum(hits)::bigint, sum(visitors)::bigint, sum(value)
    from ranked group by 1, 2;
end $$;
comment on function avtryck.web_event_live is 'One day of web_event_daily, computed from the hits.';

create function avtryck.search_of(params jsonb, page_url text) returns text language sql immutable parallel safe
    return nullif(left(lower(btrim(coalesce(params ->> 'search_term', params ->> 'query', params ->> 'q',
        avtryck.unescape(avtryck.query_value_of(page_url, 'q')), avtryck.unescape(avtryck.query_value_of(page_url, 's')), avtryck.unescape(avtryck.query_value_of(page_url, 'query')),
        avtryck.unescape(avtryck.query_value_of(page_url, 'search'))))), 200), '');
comment on function avtryck.search_of is 'What somebody searched a site for: the search_term, query or q of an event, or the q, s, query or search of the page''s address.';

create function avtryck.web_search_live(day date)
returns table (site text, search text, hits bigint, visitors bigint)
language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan
set enable_nestloop = off as $$
#variable_conflict use_column
declare
    since timestamptz := avtryck.day_start(day);
    until timestamptz := avtryck.day_start(day + 1);
begin
    return query
    with each as (
        select site.site, avtryck.search_of(case when hit.kind = 2 then hit.params end, hit.page_url) as search,
               count(*) as hits, count(distinct hit.visitor_id) as visitors
        from avtryck.hit join avtryck.site on site.key = hit.site_key
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
comment on function avtryck.web_search_live is 'One day of web_search_daily, computed from the hits.';

create table avtryck.web_day (
    day date not null, site text, medium text, origin text, campaign text, device_class text, country text, sessions bigint,
    visitors bigint, bounces bigint, page_views bigint, events bigint, engagement_seconds numeric, unmeasured_page_views bigint
);
create table avtryck.web_page_day (
    day date not null, site text, page text, page_views bigint, visitors bigint, entries bigint, exits bigint, bounces bigint,
    engagement_seconds numeric
);
create table avtryck.web_event_day (day date not null, site text, event text, hits bigint, visitors bigint, value numeric);
create table avtryck.web_search_day (day date not null, site text, search text, hits bigint, visitors bigint);
create index web_day_day on avtryck.web_day (day);
create index web_page_day_day on avtryck.web_page_day (day);
create index web_event_day_day on avtryck.web_event_day (day);
create index web_search_day_day on avtryck.web_search_day (day);
insert into avtryck.report_store values
    ('web_day', 'web_live'), ('web_page_day', 'web_page_live'), ('web_event_day', 'web_event_live'), ('web_search_day', 'web_search_live');
-- Days that are stored lack these reports.
delete from avtryck.report_day;
delete from avtryck.campaign_day;
delete from avtryck.placement_day;
delete from avtryck.quality_day;

-- A view for each table, by a function that chooses between what is stored and what is computed.
do $$
declare
    report record;
    columns text;
    names text;
begin
    for report in
        select * from (values
            ('web_day', 'web_live', 'web_of', 'web_daily', 'Sessions of each site a UTC day by where they came from, device class and country.'),
            ('web_page_day', 'web_page_live', 'web_page_of', 'web_page_daily', 'Pages of each site a UTC day: how often they were viewed, and how many sessions began and ended there.'),
            ('web_event_day', 'web_event_live', 'web_event_of', 'web_event_daily', 'Events of each site a UTC day: goals, for example.'),
            ('web_search_day', 'web_search_live', 'web_search_of', 'web_search_daily', 'What people searched each site for a UTC day.')
        ) as name (stored, live, chosen, shown, told)
    loop
        select string_agg(format('%I %s', attname, format_type(atttypid, null)), ', ' order by attnum),
               string_agg(format('stored.%I', attname), ', ' order by attnum)
        into columns, names
        from pg_attribute where attrelid = to_regclass('avtryck.' || report.stored) and attnum > 1;
        execute format($sql$
            create function avtryck.%1$I(day date) returns table (%2$s) language plpgsql stable parallel safe security definer as $body$
            #variable_conflict use_column
            begin
                if avtryck.is_stored(%1$I.day) then
                    return query select %3$s from avtryck.%4$I as stored where stored.day = %1$I.day;
                else
                    return query select * from avtryck.%5$I(%1$I.day);
                end if;
            end $body$ $sql$, report.chosen, columns, names, report.stored, report.live);
        execute format('comment on function avtryck.%I is %L', report.chosen, format('One day of %s.', report.shown));
        execute format('create view avtryck.%I as select hit_day.day, report.* from avtryck.hit_day cross join lateral avtryck.%I(hit_day.day) as report',
                       report.shown, report.chosen);
        execute format('comment on view avtryck.%I is %L', report.shown, report.told || ' Valid hits that name no ad.');
        execute format('comment on table avtryck.%I is %L', report.stored, format('The stored rows of %s, whose columns it has.', report.shown));
    end loop;
end $$;

do $$
declare
    bare record;
begin
    for bare in
        select shown.oid::regclass as shown, told.attname as column, meaning.of
        from pg_class as shown
        join pg_attribute as told on told.attrelid = shown.oid and told.attnum > 0
        join (values
            ('day', 'The UTC day of received_at.'),
            ('site', 'The key of the [[site]] in the configuration.'),
            ('visitor_id', 'The cookie ID; null without one, where the sender gives a session_id.'),
            ('session_id', 'The sender''s ID of the session; null where sessions are cut after 30 minutes without a hit.'),
            ('begins', 'The time of its first hit, by the sender where it gives one.'),
            ('ends', 'The time of its last hit.'),
            ('entry_page', 'The path of its first page.'),
            ('exit_page', 'The path of its last page.'),
            ('page', 'The path of the page; (other) for those beyond web_rows_max().'),
            ('page_views', 'How many page views.'),
            ('unmeasured_page_views', 'How many page views without the permit measure.'),
            ('events', 'How many events, engagement and scroll left out.'),
            ('engagement_seconds', 'For how long pages were in use, as the tag''s module engagement measures it.'),
            ('is_bounce', 'Whether it has one page view, no event, and less than 10 s of engagement.'),
            ('medium', 'How it came, as medium_of says: a utm_medium, paid, search, social, mail, referral, internal or direct. Null for page views without a session.'),
            ('origin', 'Who sent it, as origin_of says; null for nobody.'),
            ('campaign', 'The utm_campaign of its first page.'),
            ('device_class', 'The device of its first hit, as device.class.'),
            ('country', 'The country of its first hit, ISO 3166-1.'),
            ('region', 'The region of its first hit.'),
            ('sessions', 'How many sessions.'),
            ('visitors', 'How many visitors. Those of two rows cannot be added up.'),
            ('bounces', 'How many sessions were a bounce.'),
            ('entries', 'How many sessions began there.'),
            ('exits', 'How many sessions ended there.'),
            ('event', 'The name of the event; (other) for those beyond web_rows_max().'),
            ('hits', 'How often.'),
            ('value', 'The sum of their `value`, whatever the currency.'),
            ('search', 'What was searched for, in lower case; (other) for those beyond web_rows_max().')
        ) as meaning (name, of) on meaning.name = told.attname
        where shown.oid in (select to_regclass('avtryck.' || name) from unnest(array[
            'web_session', 'web_day', 'web_page_day', 'web_event_day', 'web_search_day', 'web_daily', 'web_page_daily',
            'web_event_daily', 'web_search_daily']) as name)
    loop
        execute format('comment on column %s.%I is %L', bare.shown, bare.column, bare.of);
    end loop;
end $$;
