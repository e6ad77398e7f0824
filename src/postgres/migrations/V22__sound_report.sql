-- What a day's report costs grows with what the day holds, whatever hits name each other. Clicks and impressions are read
-- once for all conversions that may follow them. Then a window in the order of time gives each conversion the last one
-- before it. Sets are joined in full, because the planner, who expects few conversions, would compare each row of the one
-- with each of the other, and can do so in any other join.

create function avtryck.conversions_max() returns bigint language sql immutable parallel safe
    return 10;
comment on function avtryck.conversions_max is 'How many conversions of a UTC day count as net for one click ID, for one visitor, for one MAID, and for one of a partner''s IDs. Those beyond are over_limit, and gross.';

create type avtryck.click as (
    received_at timestamptz, hit_id uuid, click_id text, visitor_id uuid, flags integer,
    site_key bigint, ad_key bigint, device_key bigint, place_key bigint
);
comment on type avtryck.click is 'What a conversion takes over from its click.';

create or replace function avtryck.conversion(begins timestamptz, ends timestamptz, since timestamptz, within interval)
returns table (
    converted_at timestamptz, hit_id uuid, event_id text, params jsonb, visitor_id uuid, flags integer,
    site_key bigint, ad_key bigint, device_key bigint, place_key bigint, linked_by text,
    click_id text, click_hit_id uuid, clicked_at timestamptz, click_visitor_id uuid
) language sql stable parallel safe as $$
    with converted as materialized (
        select hit.received_at, hit.hit_id, hit.click_id, hit.visitor_id, hit.flags, hit.site_key, hit.device_key,
               hit.place_key, hit.event_id, hit.params, lower(hit.maid collate "C") as maid, hit.partner_uid, ad.partner,
               own.key as own_key, own.campaign
        from avtryck.hit
        left join avtryck.ad on ad.key = hit.ad_key
        left join lateral (
            select ad.key, ad.campaign where ad.campaign is not null or ad.creative is not null
        ) as own on true
        where hit.received_at >= begins and hit.received_at < ends
          and hit.kind in (2, 5) and hit.event_name = 'conversion' and avtryck.is_counted(hit.flags)
    ),
    click_of_id as (
        select found.* from (select distinct click_id from converted where click_id is not null) as wanted
        cross join lateral (
            select hit.received_at, hit.click_id,
                   row(received_at, hit_id, click_id, visitor_id, flags, site_key, ad_key, device_key, place_key)::avtryck.click as click
            from avtryck.hit
            where hit.click_id = wanted.click_id and hit.kind = 4 and avtryck.is_counted(hit.flags)
              and hit.received_at >= since and hit.received_at < ends
            offset 0
        ) as found
    ),
    click_of_visitor as (
        select found.* from (select distinct visitor_id from converted where visitor_id is not null) as wanted
        cross join lateral (
            select hit.received_at, hit.visitor_id, hit.ad_key,
                   row(received_at, hit_id, click_id, visitor_id, flags, site_key, ad_key, device_key, place_key)::avtryck.click as click
            from avtryck.hit
            where hit.visitor_id = wanted.visitor_id and hit.kind = 4 and avtryck.is_counted(hit.flags)
              and hit.received_at >= since and hit.received_at < ends
            offset 0
        ) as found
    ),
    -- What a conversion and a click have in common, the best first: 1 the click's ID; 2 the visitor; 3 the visitor, and
    -- the campaign that the conversion names.
    step as (
        select rank, same, same_partner, same_campaign, received_at, hit_id as conversion_id, null::avtryck.click as click
        from converted cross join lateral (values
            (1, click_id, null, null),
            (2, case when own_key is null then visitor_id::text end, null, null),
            (3, case when own_key is not null then visitor_id::text end, partner, campaign)
        ) as common (rank, same, same_partner, same_campaign)
        where same is not null
        union all
        select 1, click_id, null, null, received_at, null, click from click_of_id
        union all
        select rank, visitor_id::text, same_partner, same_campaign, received_at, null, click
        from click_of_visitor left join avtryck.ad on ad.key = click_of_visitor.ad_key
        cross join lateral (values (2, null, null), (3, ad.partner, ad.campaign)) as common (rank, same_partner, same_campaign)
    ),
    counted as (
        select *, count(*) filter (where conversion_id is null) over (
                   partition by rank, same, same_partner, same_campaign
                   order by received_at, conversion_id is not null rows unbounded preceding) as clicks
        from step
    ),
    followed as (
        select rank, conversion_id, received_at, first_value(click) over (
                   partition by rank, same, same_partner, same_campaign, clicks
                   order by received_at, conversion_id is not null rows unbounded preceding) as click
        from counted where clicks > 0
    ),
    led as (
        select distinct on (conversion_id) conversion_id, rank, (click).*
        from followed
        where conversion_id is not null and (click).received_at >= received_at - within
        order by conversion_id, rank
    ),
    linked as (
        select converted.*, led.rank, led.hit_id as click_hit_id, led.click_id as led_click_id, led.received_at as clicked_at,
               led.visitor_id as click_visitor_id, converted.flags | coalesce(led.flags, 0) as both_flags,
               coalesce(led.site_key, converted.site_key) as led_site_key, coalesce(led.ad_key, own_key) as led_ad_key,
               coalesce(led.device_key, converted.device_key) as led_device_key,
               coalesce(led.place_key, converted.place_key) as led_place_key
        -- All of `led` is in `converted`.
        from converted full join led on led.conversion_id = converted.hit_id
    ),
    ranked as (
        select *,
               count(*) filter (where is_net) over (
                   partition by coalesce(led_click_id, click_hit_id::text) order by received_at, hit_id) as of_click,
               count(*) filter (where is_net) over (partition by visitor_id order by received_at, hit_id) as of_visitor,
               count(*) filter (where is_net) over (partition by maid order by received_at, hit_id) as of_maid,
               count(*) filter (where is_net) over (
                   partition by partner, partner_uid order by received_at, hit_id) as of_partner_uid
        from linked cross join lateral (select avtryck.is_valid(both_flags)) as valid (is_net)
    )
    select received_at, hit_id, event_id, params, visitor_id,
           both_flags | case when greatest(
               case when click_hit_id is not null then of_click end, case when visitor_id is not null then of_visitor end,
               case when maid is not null then of_maid end, case when partner_uid is not null then of_partner_uid end
           ) > avtryck.conversions_max() then 128 else 0 end,
           led_site_key, led_ad_key, led_device_key, led_place_key,
           case when rank = 1 then 'click_id' when rank > 1 then 'visitor' when own_key is not null then 'ad' end,
           led_click_id, click_hit_id, clicked_at, click_visitor_id
    from ranked
$$;
comment on function avtryck.conversion is 'The conversions of a UTC day, each with the click that it names, else the last click of its visitor, none of them longer before it than `within`; `since` is the earliest that could be. One that names a campaign belongs to clicks on that campaign alone, and where there is none to the ad that it names. Those beyond conversions_max() have the flag over_limit.';

create or replace function avtryck.conversion_path_of(day date, within interval)
returns table (
    converted_at timestamptz, hit_id uuid, site text, event_id text, params jsonb, visitor_id uuid, is_valid boolean,
    linked_by text, partner text, campaign text, creative text, placement text, publisher text,
    click_id text, click_hit_id uuid, clicked_at timestamptz,
    impression_hit_id uuid, seen_at timestamptz, exposure_number integer
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    begins timestamptz := avtryck.day_start(day);
    ends timestamptz := avtryck.day_start(day + 1);
    since timestamptz := begins - within;
begin
    return query
    with conversion as materialized (
        select conversion.*, led.key as led_key, led.partner, led.campaign, led.creative,
               coalesce(click_visitor_id, visitor_id) as viewer, coalesce(clicked_at, converted_at) as until
        from avtryck.conversion(begins, ends, since, within) as conversion
        left join avtryck.ad as led on led.key = conversion.ad_key
    ),
    impression as (
        select hit.* from (select distinct viewer from conversion where viewer is not null) as wanted
        cross join lateral (
            select hit.received_at, hit.hit_id, hit.visitor_id, hit.exposure_number, hit.ad_key
            from avtryck.hit
            where hit.visitor_id = wanted.viewer and hit.kind = 3 and avtryck.is_counted(hit.flags)
              and hit.received_at >= since and hit.received_at < ends
            offset 0
        ) as hit
    ),
    -- What a conversion and an impression have in common: 1 the visitor, where no ad is known; 2 also the campaign, where
    -- no creative is; 3 also the creative.
    step as (
        select case when led_key is null then 1 when creative is null then 2 else 3 end as common, viewer as same,
               partner as same_partner, campaign as same_campaign, creative as same_creative, until as at,
               hit_id as conversion_id, converted_at, null::uuid as impression_id, null::bigint as ad_key,
               null::integer as exposure_number
        from conversion where viewer is not null
        union all
        select common, impression.visitor_id, same_partner, same_campaign, same_creative, impression.received_at,
               null, null, impression.hit_id, impression.ad_key, impression.exposure_number
        from impression left join avtryck.ad on ad.key = impression.ad_key
        cross join lateral (values
            (1, null, null, null), (2, ad.partner, ad.campaign, null), (3, ad.partner, ad.campaign, ad.creative)
        ) as about (common, same_partner, same_campaign, same_creative)
    ),
    counted as (
        select *, count(impression_id) over (
                   partition by common, same, same_partner, same_campaign, same_creative
                   order by at, conversion_id is not null rows unbounded preceding) as impressions
        from step
    ),
    followed as (
        select conversion_id, converted_at, first_value(at) over impression as seen_at,
               first_value(impression_id) over impression as impression_id,
               first_value(ad_key) over impression as ad_key,
               first_value(exposure_number) over impression as exposure_number
        from counted where impressions > 0
        window impression as (partition by common, same, same_partner, same_campaign, same_creative, impressions
                              order by at, conversion_id is not null)
    ),
    seen as (
        select * from followed where conversion_id is not null and seen_at >= converted_at - within
    )
    select conversion.converted_at, conversion.hit_id, site.site, conversion.event_id, conversion.params,
           conversion.visitor_id, avtryck.is_valid(conversion.flags), coalesce(conversion.linked_by, 'impression'),
           ad.partner, ad.campaign, ad.creative, ad.placement, ad.publisher,
           conversion.click_id, conversion.click_hit_id, conversion.clicked_at,
           seen.impression_id, seen.seen_at, seen.exposure_number
    -- All of `seen` is in `conversion`. A full join never compares each with each.
    from conversion full join seen on seen.conversion_id = conversion.hit_id
    left join avtryck.ad on ad.key = coalesce(conversion.led_key, seen.ad_key)
    left join avtryck.site on site.key = conversion.site_key
    where conversion.linked_by is not null or seen.conversion_id is not null;
end $$;
