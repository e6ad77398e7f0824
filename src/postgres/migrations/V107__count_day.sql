-- Counts lose their ad once their day has expired, and their minutes after two days. The first hours of a day of a site
-- may lie in a UTC day that has expired, and its counts are of no ad that there is a row of.

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
    -- All of it is rolled up, or it would not be known. A row of ad_day is named before its subjects are taken apart.
    before as (
        select distinct number, subject
        from (select base # case when ad_sum_of.is_by_placement then 0 else audience end as number, subject
              from (select own_site.number # coalesce(own_ad.number, no_ad) as base, unnest(ad_day.subjects) as subject,
                           unnest(ad_day.subject_audiences) as audience
                    from avtryck.report_clean join avtryck.ad_day on ad_day.span = report_clean.begins
                    join own_site on own_site.key = ad_day.site_key
                    left join own_ad on own_ad.key = ad_day.ad_key
                    where report_clean.begins >= opens and report_clean.ends <= known) as each) as each
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

-- A day of a site may begin within an hour: a count stays in its day.
create function avtryck.count_hour(minute timestamptz) returns timestamptz language sql stable parallel safe
begin atomic
    select greatest(date_trunc('hour', count_hour.minute, 'UTC'), max(cut.begins))
    from avtryck.site_zone
    cross join generate_series(-1, 1) as shift
    cross join lateral avtryck.zone_start((count_hour.minute at time zone 'UTC')::date + shift, site_zone.time_zone) as cut (begins)
    where cut.begins <= count_hour.minute;
end;
comment on function avtryck.count_hour is 'What is left of the minute of a count: its hour (UTC), or when a day of a site begins within that.';
