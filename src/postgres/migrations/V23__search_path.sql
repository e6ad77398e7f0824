-- What a function calls is decided by its author, not by whoever calls it. Where its body is a text, names in it are
-- looked up at each call, and a function or an operator that a stranger made in another schema would run in its place,
-- with the rights of the caller, wherever it fits the types better. These three are called within the queries of others,
-- which a fixed search_path would prevent: their bodies are read once, here. The others get a fixed search_path after
-- each migration (src/postgres/server/fix_search_path.sql).

create or replace function avtryck.conversion(begins timestamptz, ends timestamptz, since timestamptz, within interval)
returns table (
    converted_at timestamptz, hit_id uuid, event_id text, params jsonb, visitor_id uuid, flags integer,
    site_key bigint, ad_key bigint, device_key bigint, place_key bigint, linked_by text,
    click_id text, click_hit_id uuid, clicked_at timestamptz, click_visitor_id uuid
) language sql stable parallel safe
begin atomic
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
    from ranked;
end;

create or replace function avtryck.conversion_path(within interval)
returns table (
    day date, converted_at timestamptz, hit_id uuid, site text, event_id text, params jsonb, visitor_id uuid,
    is_valid boolean, linked_by text, partner text, campaign text, creative text, placement text, publisher text,
    click_id text, click_hit_id uuid, clicked_at timestamptz,
    impression_hit_id uuid, seen_at timestamptz, exposure_number integer
) language sql stable parallel safe
begin atomic
    select hit_day.day, path.* from avtryck.hit_day
    cross join lateral avtryck.conversion_path_of(hit_day.day, within) as path;
end;

create or replace function avtryck.ad_event(begins timestamptz, ends timestamptz, since timestamptz)
returns table (
    kind smallint, hits bigint, is_measured boolean, is_valid boolean, site_key bigint, ad_key bigint,
    device_key bigint, place_key bigint, visitor_id uuid, maid text, partner_uid text
) language sql stable parallel safe
begin atomic
    select case when hit.kind <> 5 then hit.kind when hit.event_name = 'click' then 4::smallint else 3::smallint end,
           1::bigint, true, avtryck.is_valid(hit.flags), hit.site_key, hit.ad_key,
           hit.device_key, hit.place_key, hit.visitor_id, hit.maid, hit.partner_uid
    from avtryck.hit
    where hit.received_at >= begins and hit.received_at < ends and avtryck.is_counted(hit.flags)
      and (hit.kind in (3, 4) or hit.kind = 5 and hit.event_name in ('impression', 'click'))
    union all
    select 2::smallint, 1::bigint, true, avtryck.is_valid(flags), site_key, ad_key, device_key, place_key, null, null, null
    from avtryck.conversion(begins, ends, since, interval '30 days') where linked_by is not null
    union all
    select hit_count.kind, hit_count.hits, false, false, hit_count.site_key, hit_count.ad_key, null, null, null, null, null
    from avtryck.hit_count
    where hit_count.minute >= begins and hit_count.minute < ends and hit_count.kind in (3, 4);
end;
