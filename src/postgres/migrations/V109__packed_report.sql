-- Stored reports are one row a day with an array for each column, which Postgres compresses: names repeat. They take a
-- fifth of the room, where days have few hits.

comment on column avtryck.report_store.stored is 'The table that they are stored in: the day, and then an array for each column of the function.';

create function avtryck.store_report(day date, report text) returns void language plpgsql as $$
declare
    kept avtryck.report_store;
    columns text;
    arrays text;
begin
    select * into strict kept from avtryck.report_store where stored = report;
    select string_agg(format('%I', attname), ', ' order by attnum), string_agg(format('array_agg(%I)', attname), ', ' order by attnum)
    into columns, arrays
    from pg_attribute where attrelid = format('avtryck.%I', kept.stored)::regclass and attnum > 1 and not attisdropped;
    execute format('insert into avtryck.%I (day, %s) select $1, %s from (select * from avtryck.%I($1) as live order by live) as live having count(*) > 0',
                   kept.stored, columns, arrays, kept.live)
        using store_report.day;
end $$;
comment on function avtryck.store_report is 'Stores a report of a day.';

do $$
declare
    report record;
    columns text;
    arrays text;
    unnested text;
    kept record;
    told record;
begin
    for report in
        select stored, replace(stored, '_day', '_of') as chosen, live from avtryck.report_store
    loop
        select string_agg(format('%I %s[]', attname, format_type(atttypid, null)), ', ' order by attnum),
               string_agg(format('array_agg(%I)', attname), ', ' order by attnum),
               string_agg(format('unnest(stored.%I)', attname), ', ' order by attnum)
        into columns, arrays, unnested
        from pg_attribute where attrelid = to_regclass('avtryck.' || report.stored) and attnum > 1 and not attisdropped;
        execute format('alter table avtryck.%I rename to old_report', report.stored);
        execute format('create table avtryck.%I (day date primary key, %s)', report.stored, columns);
        execute format('insert into avtryck.%I select day, %s from (select * from avtryck.old_report order by old_report) as each group by day',
                       report.stored, arrays);
        for told in
            select objsubid, attname, description
            from pg_description left join pg_attribute on attrelid = objoid and attnum = objsubid and objsubid > 0
            where objoid = 'avtryck.old_report'::regclass and classoid = 'pg_class'::regclass
        loop
            if told.objsubid = 0 then
                execute format('comment on table avtryck.%I is %L', report.stored,
                               told.description || ' A row for each day; its columns are arrays of as many elements as the view has rows of the day.');
            else
                execute format('comment on column avtryck.%I.%I is %L', report.stored, told.attname, told.description);
            end if;
        end loop;
        execute 'drop table avtryck.old_report';
        execute format($sql$
            create or replace function avtryck.%1$I(day date) returns %4$s
            language plpgsql stable parallel safe security definer as $body$
            #variable_conflict use_column
            begin
                if avtryck.is_stored(%1$I.day) then
                    return query select %2$s from avtryck.%3$I as stored where stored.day = %1$I.day;
                else
                    return query select * from avtryck.%5$I(%1$I.day);
                end if;
            end $body$ $sql$,
            report.chosen, unnested, report.stored,
            pg_get_function_result(format('avtryck.%I(date)', report.chosen)::regprocedure), report.live);
    end loop;
end $$;

create or replace function avtryck.close_report_day(day date) returns void language plpgsql as $$
#variable_conflict use_column
declare
    since timestamptz;
    until timestamptz;
    piece record;
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
        perform avtryck.store_report(close_report_day.day, stored) from avtryck.report_store;
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
        group by 1, 2 having count(*) > 1 and sum(span.ends - span.begins) = max(span.ends) - min(span.begins)
    loop
        perform avtryck.join_report_spans(piece.spans);
    end loop;
    perform avtryck.drop_sums(close_report_day.day);
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
        from avtryck.campaign_of(slice.day)
    ),
    by_placement as (
        select coalesce(sum(gross_impressions), 0), coalesce(sum(net_impressions), 0), coalesce(sum(gross_clicks), 0),
               coalesce(sum(net_clicks), 0), coalesce(sum(unmeasured_impressions), 0)
        from avtryck.placement_of(slice.day)
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
