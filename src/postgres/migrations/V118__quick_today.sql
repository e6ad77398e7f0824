-- Reports of a day that is not over took longer than they had to.

-- A list that the planner knows is one hash table, asked by each subject as it is unpacked. Before, it joined all of a day's
-- million subjects with their audience first, whatever the query said.
create function avtryck.ad_met(spans timestamptz[], people bigint[])
returns table (span timestamptz, site_key bigint, ad_key bigint, subject bigint)
language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
begin
    return query
    select each.* from (select ad_day.span, ad_day.site_key, ad_day.ad_key, unnest(ad_day.subjects) as subject
                        from avtryck.ad_day where ad_day.span = any(spans)) as each
    where each.subject >> 18 = any(people);
end $$;
comment on function avtryck.ad_met is 'What ad_day has of some subjects in some spans. A subject comes with its audience, as ad_day has it.';

create or replace function avtryck.ad_sum_with(
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
    found as (
        select met.site_key, met.ad_key, met.subject, met.span <> all(coalesce(gone, '{}')) as stays
        from avtryck.ad_met(summed, array(select subject from seen)) as met
    ),
    before as (
        select number, subject, bool_or(stays) as stays
        from (select own_site.number # coalesce(own_ad.number, no_ad)
                     # case when ad_sum_with.is_by_placement then 0 else audience.key end as number, found.subject >> 18 as subject, found.stays
              from found
              join own_site on own_site.key = found.site_key
              left join own_ad on own_ad.key = found.ad_key
              join avtryck.audience on audience.number = (found.subject & 262143)) as each
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

-- Several processes would read all of the day, which takes longer than to look up those who came in the last minutes.
alter function avtryck.web_session_part(timestamptz, timestamptz, text, text, uuid[], text[], timestamptz) set max_parallel_workers_per_gather = 0;
alter function avtryck.web_page_part(timestamptz, timestamptz, text, text, uuid[], text[], timestamptz) set max_parallel_workers_per_gather = 0;
