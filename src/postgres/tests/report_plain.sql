-- What the reports of conversions say, one conversion after the other: a conversion, its click, its impression. Each is
-- looked up by itself, which takes long where many hits name each other.
create schema plain;
-- When a hit happened.
create function plain.at(hit avtryck.hit) returns timestamptz language sql immutable as $$
    select coalesce(hit.occurred_at, hit.received_at)
$$;
create function plain.linked(begins timestamptz, ends timestamptz, since timestamptz, within interval)
returns table (
    hit avtryck.hit, both_flags integer, led_site_key bigint, led_ad_key bigint, led_device_key bigint, led_place_key bigint,
    linked_by text, click avtryck.hit, own avtryck.ad, is_sound boolean
) language sql stable as $$
    select hit, hit.flags | coalesce((click).flags, 0), coalesce((click).site_key, hit.site_key),
           coalesce((click).ad_key, (own).key), coalesce((click).device_key, hit.device_key),
           coalesce((click).place_key, hit.place_key), linked_by, click, own,
           linked_by is not null and avtryck.is_net(hit.flags | coalesce((click).flags, 0), hit.kind, is_shown, true)
    from avtryck.hit
    left join avtryck.ad as own on own.key = hit.ad_key and (own.campaign is not null or own.creative is not null)
    left join lateral (
        select click as named from avtryck.hit as click
        where click.click_id = hit.click_id and click.kind = 4 and avtryck.is_counted(click.flags)
          and click.received_at >= since and click.received_at < ends
        order by click.received_at limit 1
    ) as first on plain.at(named) between plain.at(hit) - within and plain.at(hit)
    left join lateral (
        select coalesce(avtryck.may_follow(hit.kind, hit.flags, hit.visitor_id, (named).flags, (named).visitor_id), false) as is_own
    ) as claim on true
    left join lateral (
        select click as last from avtryck.hit as click left join avtryck.ad on ad.key = click.ad_key
        where not (named is distinct from null and is_own) and click.visitor_id = hit.visitor_id
          and click.kind = 4 and avtryck.is_counted(click.flags)
          and click.received_at >= since and click.received_at < ends
          and plain.at(click) >= plain.at(hit) - within and plain.at(click) <= plain.at(hit)
          and (own.key is null or (ad.partner, ad.campaign) is not distinct from (own.partner, own.campaign))
        order by plain.at(click) desc limit 1
    ) as latest on true
    left join lateral (
        select true as is_met from avtryck.hit as met join avtryck.ad on ad.key = met.ad_key
        where (hit.kind = 2 and met.visitor_id = hit.visitor_id and met.kind = 3
               or hit.kind = 5 and (lower(met.maid) = lower(hit.maid) or met.partner_uid = hit.partner_uid)
                  and (met.kind in (3, 4) or met.kind = 5 and met.event_name in ('impression', 'click')))
          and avtryck.is_counted(met.flags) and avtryck.is_valid(met.flags)
          and met.received_at >= since and met.received_at < ends and plain.at(met) between plain.at(hit) - within and plain.at(hit)
          and (ad.partner, ad.campaign) is not distinct from (own.partner, own.campaign)
          and (own.campaign is not null or ad.creative is not distinct from own.creative)
        limit 1
    ) as contact on true
    left join lateral (
        select case when (named).hit_id is not null and is_own then 1 when (last).hit_id is not null then 2
                    when own.key is not null then 3 when (named).hit_id is not null then 4 end as way
    ) as way on true
    left join lateral (
        select case when way in (1, 4) then named when way = 2 then last end as click,
               case when way in (1, 4) then 'click_id' when way = 2 then 'visitor' when way = 3 then 'ad' end as linked_by,
               way in (1, 2) or way = 3 and coalesce(is_met, false) as is_shown
    ) as led on true
    where hit.received_at >= begins and hit.received_at < ends
      and hit.kind in (2, 5) and hit.event_name = 'conversion' and avtryck.is_counted(hit.flags)
$$;
create function plain.conversion(begins timestamptz, ends timestamptz, since timestamptz, within interval)
returns table (
    converted_at timestamptz, hit_id uuid, event_id text, params jsonb, visitor_id uuid, flags integer,
    site_key bigint, ad_key bigint, device_key bigint, place_key bigint, linked_by text,
    click_id text, click_hit_id uuid, clicked_at timestamptz, click_visitor_id uuid, network_key bigint, is_net boolean
) language sql stable as $$
    with linked as materialized (
        select *, coalesce((click).hit_id::text, concat_ws(' ', (hit).visitor_id, lower((hit).maid), (hit).partner_uid,
                           (own).partner, (own).campaign, case when (own).campaign is null then (own).creative end)) as cause
        from plain.linked(begins, ends, since, within)
    ),
    ordered as materialized (
        select *, is_sound
               and not exists (
                   select from linked as other
                   where other.is_sound and other.cause = linked.cause
                     and (other.hit).event_id is not distinct from (linked.hit).event_id
                     and ((other.hit).received_at, (other.hit).hit_id) < ((linked.hit).received_at, (linked.hit).hit_id))
               and not exists (
                   select from avtryck.hit as before
                   where plain.at(before) >= plain.at(linked.click) and before.received_at >= since and before.received_at < begins
                     and before.event_name = 'conversion' and before.event_id is not distinct from (linked.hit).event_id
                     and avtryck.is_counted(before.flags)
                     and (before.kind in (2, 5) and before.click_id = (linked.click).click_id and before.flags & 16777216 = 0
                          and avtryck.is_net(before.flags, before.kind, true, true)
                          or before.kind = 2 and before.click_id is null and before.visitor_id = (linked.click).visitor_id
                             and avtryck.is_net(before.flags, before.kind, true, true))) as is_first
        from linked
    ),
    capped as materialized (
        select *, coalesce(greatest(
                   case when (click).hit_id is not null then (
                       select count(*) from ordered as other where other.is_first
                         and coalesce((other.click).click_id, (other.click).hit_id::text) = coalesce((ordered.click).click_id, (ordered.click).hit_id::text)
                         and ((other.hit).received_at, (other.hit).hit_id) <= ((ordered.hit).received_at, (ordered.hit).hit_id)) end,
                   case when (hit).visitor_id is not null then (
                       select count(*) from ordered as other where other.is_first and (other.hit).visitor_id = (ordered.hit).visitor_id
                         and ((other.hit).received_at, (other.hit).hit_id) <= ((ordered.hit).received_at, (ordered.hit).hit_id)) end
               ) > avtryck.conversions_max(), false) as is_beyond
        from ordered
    )
    select (hit).received_at, (hit).hit_id, (hit).event_id, (hit).params, (hit).visitor_id,
           both_flags | case when is_beyond then 128 else 0 end,
           led_site_key, led_ad_key, led_device_key, led_place_key, linked_by, (click).click_id, (click).hit_id,
           plain.at(click), (click).visitor_id, (hit).network_key,
           not is_beyond and (is_first or linked_by is null and avtryck.is_net(both_flags, (hit).kind, true, true))
    from capped
$$;
create function plain.conversion_path_of(day date, within interval)
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
    select happened.at, conversion.hit_id, site.site, conversion.event_id, conversion.params,
           conversion.visitor_id, conversion.is_net, coalesce(conversion.linked_by, 'impression'),
           ad.partner, ad.campaign, ad.creative, ad.placement, ad.publisher,
           conversion.click_id, conversion.click_hit_id, conversion.clicked_at,
           seen.hit_id, seen.at, seen.exposure_number
    from plain.conversion(begins, ends, since, within) as conversion
    cross join lateral (select plain.at(hit) as at from avtryck.hit where hit.hit_id = conversion.hit_id) as happened
    left join avtryck.ad as led on led.key = conversion.ad_key
    left join lateral (
        select hit.hit_id, plain.at(hit) as at, hit.exposure_number, hit.ad_key
        from avtryck.hit left join avtryck.ad on ad.key = hit.ad_key
        where hit.visitor_id = coalesce(conversion.click_visitor_id, conversion.visitor_id)
          and hit.kind = 3 and avtryck.is_counted(hit.flags)
          and hit.received_at >= since and hit.received_at < ends
          and plain.at(hit) >= happened.at - within
          and plain.at(hit) <= coalesce(conversion.clicked_at, happened.at)
          and (led.key is null or ((ad.partner, ad.campaign) is not distinct from (led.partner, led.campaign)
                                   and (led.creative is null or ad.creative = led.creative)))
        order by plain.at(hit) desc limit 1
    ) as seen on true
    left join avtryck.ad on ad.key = coalesce(led.key, seen.ad_key)
    left join avtryck.site on site.key = conversion.site_key
    where conversion.linked_by is not null or seen.hit_id is not null;
end $$;

-- A history of a few days in which everything meets everything, with `seed`: times differ.
create function plain.fill(seed integer) returns void language sql as $$
    truncate avtryck.hit;
    insert into avtryck.site values (2, 'news') on conflict do nothing;
    insert into avtryck.hit
        (received_at, occurred_at, site_key, device_key, place_key, ad_key, flags, kind, permit, consent_source, hit_id,
         visitor_id, partner_uid, maid, event_name, event_id, click_id, exposure_number, params)
    select received_at, case when dice[16] % 3 = 0 then received_at - dice[17] % 600 * interval '1 minute' end,
           dice[1] % 3, nullif(dice[2] % 3, 0), nullif(dice[3] % 3, 0), nullif(dice[4] % 8, 0),
           (array[0, 0, 0, 0, 8, 16384, 2048, 64, 64, 16777216, 536870912, 536870912 + 1073741824])[1 + dice[5] % 12], kind, 63, 4, gen_random_uuid(),
           case when dice[7] % 5 > 0 then ('aaaaaaaa-0000-0000-0000-' || lpad((dice[7] % 5)::text, 12, '0'))::uuid end,
           case when dice[8] % 4 = 0 then 'u' || n % 5 end, case when dice[9] % 4 = 0 then 'm' || n % 5 end,
           case when kind in (2, 5) then (array['conversion', 'conversion', 'click', 'impression'])[1 + dice[10] % 4] end,
           case when dice[15] % 3 > 0 then 'e' || dice[15] % 3 end, case when kind <> 3 and dice[11] % 2 = 0 then 'k' || dice[12] % 4 end, dice[13] % 5, jsonb_build_object('n', n)
    from generate_series(1, 60) as n
    cross join lateral (select array_agg(('x' || substr(md5(seed || ' ' || n || ' ' || die), 1, 6))::bit(24)::integer order by die)
                        from generate_series(1, 17) as die) as thrown (dice)
    cross join lateral (select (2 + dice[7] % 4)::smallint,
                               timestamptz '2026-11-24T20:00Z' - dice[14] % 3000 * interval '1 minute' + n * interval '100 ms') as of (kind, received_at)
$$;
