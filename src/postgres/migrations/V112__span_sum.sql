-- Sums about ads are those of spans as they are rolled up: a span whose hits have changed is taken off and added again,
-- and the others stay. Where late hits keep coming to ten minutes, these are a span by themselves.

create sequence avtryck.report_span_number as bigint;
alter table avtryck.report_span add column number bigint not null default nextval('avtryck.report_span_number');
alter sequence avtryck.report_span_number owned by avtryck.report_span.number;
comment on column avtryck.report_span.number is 'Rises with each roll-up. Sums have the spans up to a number.';
delete from avtryck.ad_sum;
delete from avtryck.ad_sum_day;
alter table avtryck.ad_sum_day add column number bigint not null;
comment on column avtryck.ad_sum_day.number is 'ad_sum has the spans that do not end after `known` and whose number is not above this.';
comment on column avtryck.ad_sum_day.known is 'The end of what is summed up: this moment no longer belongs to it. The start of the day where nothing is.';
comment on table avtryck.ad_sum_day is 'Which spans ad_sum has of a day: as they are rolled up, whatever has changed since.';

create function avtryck.ad_sum_spans(day date, own_zone text, until timestamptz)
returns table (begins timestamptz, ends timestamptz, is_summed boolean, is_clean boolean) language sql stable parallel safe
begin atomic
    select span.begins, span.ends, coalesce(span.ends <= kept.known and span.number <= kept.number, false),
           not avtryck.is_marked(span.begins, span.ends)
    from avtryck.report_span as span
    left join avtryck.ad_sum_day as kept on kept.day = ad_sum_spans.day and kept.time_zone = own_zone
    where span.begins >= avtryck.zone_start(ad_sum_spans.day, own_zone) and span.begins < until and span.ends <= until;
end;
comment on function avtryck.ad_sum_spans is 'The spans of a day until a time, in a time zone: whether ad_sum has them, and whether they agree with the hits.';

create function avtryck.ad_cell_in(spans timestamptz[], own_zone text)
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
          from avtryck.ad_day
          where ad_day.span = any(spans) and ad_day.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone)) as cell
    join avtryck.audience on audience.number = (cell.code & 262143)
    union all
    select cell.site_key, cell.ad_key, audience.device_class, audience.country, audience.region, cell.impressions, cell.impressions, 0, 0, 0, 0
    from (select each.site_key, each.ad_key, each.subject & 262143 as audience, sum(coalesce(each.impressions, 1))::bigint as impressions
          from (select ad_day.site_key, ad_day.ad_key, unnest(ad_day.subjects) as subject, unnest(ad_day.impressions) as impressions
                from avtryck.ad_day
                where ad_day.span = any(spans) and ad_day.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone)) as each
          group by 1, 2, 3) as cell
    join avtryck.audience on audience.number = cell.audience
    union all
    select ad_day.site_key, ad_day.ad_key, null, null, null, 0, 0, 0, 0, ad_day.unmeasured_impressions, ad_day.unmeasured_clicks
    from avtryck.ad_day
    where ad_day.span = any(spans) and (ad_day.unmeasured_impressions > 0 or ad_day.unmeasured_clicks > 0)
      and ad_day.site_key in (select key from avtryck.site_in_zone where time_zone = own_zone);
end;
comment on function avtryck.ad_cell_in is 'Impressions and clicks by site, ad, device class and region as spans are rolled up, of the sites of a time zone. Rows of the same are to be added up.';

create function avtryck.ad_sum_with(
    day date, own_zone text, is_by_placement boolean, added timestamptz[], gone timestamptz[], since timestamptz, until timestamptz
)
returns table (
    number bigint, site text, partner text, campaign text, publisher text, placement text, creative text,
    device_class text, country text, region text, gross_impressions bigint, net_impressions bigint, visitors bigint, shown bigint,
    gross_clicks bigint, net_clicks bigint, unmeasured_impressions bigint, unmeasured_clicks bigint
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan
-- The planner expects few subjects, and would sort what it could hash.
set enable_nestloop = off set enable_mergejoin = off set work_mem = '64MB' as $$
#variable_conflict use_column
declare
    no_ad bigint := hash_record_extended(row(null::text, null::text, null::text, null::text, null::text), 0);
    summed timestamptz[] := array(
        select begins from avtryck.ad_sum_spans(ad_sum_with.day, own_zone, avtryck.zone_start(ad_sum_with.day + 1, own_zone)) where is_summed);
begin
    return query
    with own_site as materialized (
        select key, site.site, coalesce(hashtextextended(site.site, 0), 0) as number from avtryck.site_in_zone as site where time_zone = own_zone
    ),
    own_ad as materialized (
        select key, partner, campaign, case when ad_sum_with.is_by_placement then publisher end as publisher,
               case when ad_sum_with.is_by_placement then placement end as placement,
               case when ad_sum_with.is_by_placement then creative end as creative,
               hash_record_extended(case when ad_sum_with.is_by_placement then row(partner, campaign, publisher, placement, creative)
                                         else row(partner, campaign, null::text, null::text, null::text) end, 0) as number
        from avtryck.ad
    ),
    -- Hits that no roll-up has.
    raw as materialized (
        select fresh.* from avtryck.report_gap(since, until) as gap cross join lateral avtryck.ad_each_of(gap.begins, gap.ends) as fresh
        where since < until and fresh.site_key in (select key from own_site)
    ),
    -- Few subjects are new since.
    seen as materialized (
        select own_site.number # coalesce(own_ad.number, no_ad) # case when ad_sum_with.is_by_placement then 0 else each.audience end as number,
               each.subject, bool_or(each.sign > 0) as is_added, sum(each.sign * each.impressions) as shown
        from (select shown.site_key, shown.ad_key, audience.key as audience, shown.subject >> 18 as subject, shown.sign,
                     coalesce(shown.impressions, 1)::bigint as impressions
              from (select ad_day.site_key, ad_day.ad_key, span.sign, unnest(ad_day.subjects) as subject, unnest(ad_day.impressions) as impressions
                    from (select unnest(added) as begins, 1 as sign union all select unnest(gone), -1) as span
                    join avtryck.ad_day on ad_day.span = span.begins) as shown
              join avtryck.audience on audience.number = (shown.subject & 262143)
              union all
              select raw.site_key, raw.ad_key, avtryck.audience_key(raw.device_class, raw.country, raw.region), raw.subject, 1,
                     raw.net_impressions
              from raw where raw.subject is not null) as each
        join own_site on own_site.key = each.site_key
        left join own_ad on own_ad.key = each.ad_key
        group by 1, 2
    ),
    -- Few of the subjects before are among those since, so what their row is called is looked up last.
    before as (
        select number, subject, bool_or(stays) as stays
        from (select own_site.number # coalesce(own_ad.number, no_ad)
                     # case when ad_sum_with.is_by_placement then 0 else audience.key end as number, each.subject >> 18 as subject, each.stays
              from (select site_key, ad_key, unnest(ad_day.subjects) as subject, ad_day.span <> all(coalesce(gone, '{}')) as stays
                    from avtryck.ad_day where ad_day.span = any(summed)) as each
              join own_site on own_site.key = each.site_key
              left join own_ad on own_ad.key = each.ad_key
              join avtryck.audience on audience.number = (each.subject & 262143)
              where each.subject >> 18 in (select seen.subject from seen)) as each
        where (number, subject) in (select number, subject from seen)
        group by 1, 2
    ),
    part as (
        select ad_sum.number, ad_sum.site, ad_sum.partner, ad_sum.campaign, ad_sum.publisher, ad_sum.placement, ad_sum.creative,
               ad_sum.device_class, ad_sum.country, ad_sum.region, ad_sum.gross_impressions, ad_sum.net_impressions,
               ad_sum.visitors, ad_sum.shown::numeric, ad_sum.gross_clicks, ad_sum.net_clicks, ad_sum.unmeasured_impressions,
               ad_sum.unmeasured_clicks
        from avtryck.ad_sum
        where ad_sum.day = ad_sum_with.day and ad_sum.time_zone = own_zone and ad_sum.is_by_placement = ad_sum_with.is_by_placement
        union all
        select own_site.number # coalesce(own_ad.number, no_ad) # case when ad_sum_with.is_by_placement then 0
                                                      else avtryck.audience_key(cell.device_class, cell.country, cell.region) end,
               own_site.site, own_ad.partner, own_ad.campaign, own_ad.publisher, own_ad.placement, own_ad.creative,
               cell.device_class, cell.country, cell.region, gross_impressions, net_impressions, 0, 0, gross_clicks, net_clicks,
               unmeasured_impressions, unmeasured_clicks
        from (select site_key, ad_key, case when not ad_sum_with.is_by_placement then device_class end as device_class,
                     case when not ad_sum_with.is_by_placement then country end as country,
                     case when not ad_sum_with.is_by_placement then region end as region,
                     sum(sign * gross_impressions)::bigint as gross_impressions, sum(sign * net_impressions)::bigint as net_impressions,
                     sum(sign * gross_clicks)::bigint as gross_clicks, sum(sign * net_clicks)::bigint as net_clicks,
                     sum(sign * unmeasured_impressions)::bigint as unmeasured_impressions,
                     sum(sign * unmeasured_clicks)::bigint as unmeasured_clicks
              from (select 1 as sign, cell.* from avtryck.ad_cell_in(added, own_zone) as cell
                    union all
                    select -1, cell.* from avtryck.ad_cell_in(gone, own_zone) as cell
                    union all
                    select 1, raw.site_key, raw.ad_key, raw.device_class, raw.country, raw.region, raw.gross_impressions, raw.net_impressions,
                           raw.gross_clicks, raw.net_clicks, raw.unmeasured_impressions, raw.unmeasured_clicks
                    from raw) as each
              group by 1, 2, 3, 4, 5) as cell
        join own_site on own_site.key = cell.site_key
        left join own_ad on own_ad.key = cell.ad_key
        union all
        select seen.number, null, null, null, null, null, null, null, null, null, 0, 0,
               count(*) filter (where seen.is_added or before.stays) - count(before.subject), sum(seen.shown), 0, 0, 0, 0
        from seen left join before on before.number = seen.number and before.subject = seen.subject
        group by 1
    )
    select part.number, max(part.site), max(part.partner), max(part.campaign), max(part.publisher), max(part.placement), max(part.creative),
           max(part.device_class), max(part.country), max(part.region), sum(part.gross_impressions)::bigint,
           sum(part.net_impressions)::bigint, sum(part.visitors)::bigint, sum(part.shown)::bigint, sum(part.gross_clicks)::bigint,
           sum(part.net_clicks)::bigint, sum(part.unmeasured_impressions)::bigint, sum(part.unmeasured_clicks)::bigint
    from part group by part.number;
end $$;
comment on function avtryck.ad_sum_with is 'What ad_sum has of a day, in a time zone, by placement or not, with spans added that it does not have, without spans that it has, and with the hits between two times that no roll-up has. Rows of nothing are among them.';

create or replace function avtryck.ad_sum_of(day date, own_zone text, is_by_placement boolean, until timestamptz)
returns table (
    number bigint, site text, partner text, campaign text, publisher text, placement text, creative text,
    device_class text, country text, region text, gross_impressions bigint, net_impressions bigint, visitors bigint, shown bigint,
    gross_clicks bigint, net_clicks bigint, unmeasured_impressions bigint, unmeasured_clicks bigint
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    added timestamptz[];
    gone timestamptz[];
begin
    select array_agg(begins) filter (where is_clean and not is_summed), array_agg(begins) filter (where is_summed and not is_clean)
    into added, gone from avtryck.ad_sum_spans(ad_sum_of.day, own_zone, until);
    return query
    select * from avtryck.ad_sum_with(ad_sum_of.day, own_zone, ad_sum_of.is_by_placement, added, gone,
                                      avtryck.zone_start(ad_sum_of.day, own_zone), until) as sums
    where (sums.gross_impressions, sums.net_impressions, sums.gross_clicks, sums.net_clicks, sums.unmeasured_impressions,
           sums.unmeasured_clicks) <> (0, 0, 0, 0, 0, 0);
end $$;

create function avtryck.keep_ad_sum(day date, own_zone text, added timestamptz[], gone timestamptz[]) returns void language sql volatile
begin atomic
    with fresh as materialized (
        select ad_report.is_by_placement, sums.*
        from unnest(array[false, true]) as ad_report (is_by_placement)
        cross join lateral avtryck.ad_sum_with(keep_ad_sum.day, own_zone, ad_report.is_by_placement, added, gone, 'infinity', '-infinity') as sums
    )
    insert into avtryck.ad_sum as kept
    select keep_ad_sum.day, fresh.*, own_zone from fresh
    on conflict on constraint ad_sum_pkey do update set
        gross_impressions = excluded.gross_impressions, net_impressions = excluded.net_impressions, visitors = excluded.visitors,
        shown = excluded.shown, gross_clicks = excluded.gross_clicks, net_clicks = excluded.net_clicks,
        unmeasured_impressions = excluded.unmeasured_impressions, unmeasured_clicks = excluded.unmeasured_clicks
    where kept.* is distinct from excluded.*;
    delete from avtryck.ad_sum
    where ad_sum.day = keep_ad_sum.day and ad_sum.time_zone = own_zone
      and (gross_impressions, net_impressions, gross_clicks, net_clicks, unmeasured_impressions, unmeasured_clicks) = (0, 0, 0, 0, 0, 0);
end;
comment on function avtryck.keep_ad_sum is 'Adds spans, as they are rolled up, to ad_sum of a day, and takes others off. The caller says in ad_sum_day which it has.';

create or replace function avtryck.build_ad_sum(day date, own_zone text, until timestamptz) returns void language plpgsql as $$
#variable_conflict use_column
declare
    started timestamptz := clock_timestamp();
    opens timestamptz := avtryck.zone_start(build_ad_sum.day, own_zone);
    is_anew boolean := not exists (select from avtryck.ad_sum_day where ad_sum_day.day = build_ad_sum.day
                                   and ad_sum_day.time_zone = own_zone and ad_sum_day.known > opens);
begin
    if is_anew then
        delete from avtryck.ad_sum where ad_sum.day = build_ad_sum.day and ad_sum.time_zone = own_zone;
    end if;
    perform avtryck.keep_ad_sum(build_ad_sum.day, own_zone,
                                array(select begins from avtryck.ad_sum_spans(build_ad_sum.day, own_zone, until) where not is_summed), null);
    insert into avtryck.ad_sum_day (day, time_zone, known, begun_at, took, number)
    values (build_ad_sum.day, own_zone, until, started, clock_timestamp() - started, (select coalesce(max(number), 0) from avtryck.report_span))
    on conflict on constraint ad_sum_day_pkey do update set
        known = excluded.known, number = excluded.number,
        begun_at = case when is_anew then excluded.begun_at else ad_sum_day.begun_at end,
        took = case when is_anew then excluded.took else ad_sum_day.took end;
end $$;

-- The caller deletes the spans in the same transaction.
create or replace function avtryck.forget_ad_sums(spans timestamptz[], is_brief boolean default false) returns void language plpgsql as $$
#variable_conflict use_column
declare
    own record;
    gone timestamptz[];
    is_all boolean;
    share double precision;
begin
    if spans is null then
        delete from avtryck.ad_sum;
        update avtryck.ad_sum_day set known = avtryck.zone_start(day, time_zone);
        return;
    end if;
    for own in select day, time_zone from avtryck.ad_sum_day loop
        select array_agg(span.begins) filter (where span.begins = any(spans)), bool_and(span.begins = any(spans)),
               extract(epoch from sum(span.ends - span.begins) filter (where span.begins = any(spans)))
               / extract(epoch from sum(span.ends - span.begins))
        into gone, is_all, share
        from avtryck.ad_sum_spans(own.day, own.time_zone, avtryck.zone_start(own.day + 1, own.time_zone)) as span where span.is_summed;
        if is_all then
            delete from avtryck.ad_sum where ad_sum.day = own.day and ad_sum.time_zone = own.time_zone;
        elsif is_brief and share > 0.1 then
            delete from avtryck.ad_sum where ad_sum.day = own.day and ad_sum.time_zone = own.time_zone;
            update avtryck.ad_sum_day set known = avtryck.zone_start(day, time_zone)
            where ad_sum_day.day = own.day and ad_sum_day.time_zone = own.time_zone;
        elsif gone is not null then
            perform avtryck.keep_ad_sum(own.day, own.time_zone, null, gone);
        end if;
    end loop;
end $$;
comment on function avtryck.forget_ad_sums is 'Takes spans that are deleted off the sums about ads of their days; where that is null, deletes all sums. It reads what is rolled up of the day, which takes less than to roll up a span of hours; where it is to be brief, it deletes the sums of a day from which more than a tenth goes.';

create or replace function avtryck.forget_changed_spans(spans timestamptz[], is_brief boolean default false) returns void language plpgsql as $$
begin
    perform avtryck.forget_ad_sums(coalesce(spans, '{}'), is_brief);
    delete from avtryck.report_span where begins = any(spans);
    delete from avtryck.ad_hour where span = any(spans);
    delete from avtryck.ad_day where span = any(spans);
end $$;

create or replace function avtryck.join_report_spans(spans timestamptz[]) returns void language plpgsql as $$
declare
    since timestamptz;
    until timestamptz;
    latest bigint;
    own record;
begin
    -- Sums that have some of them and not the others would have neither all nor none of what they become.
    for own in
        select kept.day, kept.time_zone, avtryck.zone_start(kept.day, kept.time_zone) as begins
        from avtryck.ad_sum_day as kept
        cross join lateral avtryck.ad_sum_spans(kept.day, kept.time_zone, avtryck.zone_start(kept.day + 1, kept.time_zone)) as span
        where span.begins = any(spans)
        group by kept.day, kept.time_zone having count(distinct span.is_summed) > 1
    loop
        delete from avtryck.ad_sum where ad_sum.day = own.day and ad_sum.time_zone = own.time_zone;
        update avtryck.ad_sum_day set known = own.begins where ad_sum_day.day = own.day and ad_sum_day.time_zone = own.time_zone;
    end loop;
    select min(begins), max(ends), max(number) into since, until, latest from avtryck.report_span where begins = any(spans);
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
    insert into avtryck.report_span (begins, ends, number) values (since, until, latest);
end $$;

create or replace function avtryck.next_joined_spans(as_of timestamptz) returns timestamptz[] language sql stable
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
       and not exists (
           select from avtryck.ad_sum_day as kept
           cross join lateral avtryck.ad_sum_spans(kept.day, kept.time_zone, avtryck.zone_start(kept.day + 1, kept.time_zone)) as own
           where own.begins = any(array_agg(span.begins))
           group by kept.day, kept.time_zone having count(distinct own.is_summed) > 1)
    order by step.width, span.opens limit 1;
end;
comment on function avtryck.next_joined_spans is 'The next spans that are to become one: those of an hour, or of six, that is over for an hour, agrees with the hits, and was not rolled up from the hits in the last half hour, as where late hits keep coming. Sums have all of them or none, and no day of a site begins there.';

create function avtryck.late_edge(at timestamptz) returns timestamptz language sql stable parallel safe
begin atomic
    select min(edge) from avtryck.late_slot cross join lateral unnest(array[late_slot.at, late_slot.at + interval '10 minutes']) as edge
    where edge > late_edge.at;
end;
comment on function avtryck.late_edge is 'When ten minutes that late hits come to begin or end next.';

create or replace function avtryck.build_report(as_of timestamptz) returns text language plpgsql as $$
declare
    latest timestamptz := avtryck.report_slot(as_of - interval '10 seconds');
    gap record;
    due date;
    joined timestamptz[];
begin
    perform avtryck.report_lock();
    -- A small day is rolled up in one go, a large one hour by hour, and ten minutes that late hits come to by themselves.
    select missing.begins, least(missing.ends, latest, case when pg_relation_size(partition) > avtryck.web_begin_max()
                                                            then least(missing.begins + interval '1 hour', avtryck.late_edge(missing.begins)) end,
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
comment on function avtryck.build_report is 'Rolls up the next hour of hits that is not rolled up, the newest day first, or less where late hits come, or stores the reports of the next day that has been over for two hours, or makes spans of today one. Returns what it did; null if nothing is left.';
