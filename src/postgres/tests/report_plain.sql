-- What the reports of conversions say, one conversion after the other: a conversion, its click, its impression. Each is
-- looked up by itself, which takes long where many hits name each other.
create schema plain;
create function plain.conversion(begins timestamptz, ends timestamptz, since timestamptz, within interval)
returns table (
    converted_at timestamptz, hit_id uuid, event_id text, params jsonb, visitor_id uuid, flags integer,
    site_key bigint, ad_key bigint, device_key bigint, place_key bigint, linked_by text,
    click_id text, click_hit_id uuid, clicked_at timestamptz, click_visitor_id uuid
) language sql stable parallel safe as $$
    select hit.received_at, hit.hit_id, hit.event_id, hit.params, hit.visitor_id,
           hit.flags | coalesce(named.flags, last.flags, 0),
           coalesce(named.site_key, last.site_key, hit.site_key), coalesce(named.ad_key, last.ad_key, own.key),
           coalesce(named.device_key, last.device_key, hit.device_key),
           coalesce(named.place_key, last.place_key, hit.place_key),
           case when named.hit_id is not null then 'click_id' when last.hit_id is not null then 'visitor'
                when own.key is not null then 'ad' end,
           coalesce(named.click_id, last.click_id), coalesce(named.hit_id, last.hit_id),
           coalesce(named.received_at, last.received_at), coalesce(named.visitor_id, last.visitor_id)
    from avtryck.hit
    left join avtryck.ad as own on own.key = hit.ad_key and (own.campaign is not null or own.creative is not null)
    left join lateral (
        select click.* from avtryck.hit as click
        where click.click_id = hit.click_id and click.kind = 4 and avtryck.is_counted(click.flags)
          and click.received_at >= since and click.received_at < ends
          and click.received_at >= hit.received_at - within and click.received_at <= hit.received_at
        order by click.received_at desc limit 1
    ) as named on true
    left join lateral (
        select click.* from avtryck.hit as click left join avtryck.ad on ad.key = click.ad_key
        where named.hit_id is null and click.visitor_id = hit.visitor_id
          and click.kind = 4 and avtryck.is_counted(click.flags)
          and click.received_at >= since and click.received_at < ends
          and click.received_at >= hit.received_at - within and click.received_at <= hit.received_at
          and (own.key is null or (ad.partner, ad.campaign) is not distinct from (own.partner, own.campaign))
        order by click.received_at desc limit 1
    ) as last on true
    where hit.received_at >= begins and hit.received_at < ends
      and hit.kind in (2, 5) and hit.event_name = 'conversion' and avtryck.is_counted(hit.flags)
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
    select conversion.converted_at, conversion.hit_id, site.site, conversion.event_id, conversion.params,
           conversion.visitor_id, avtryck.is_valid(conversion.flags), coalesce(conversion.linked_by, 'impression'),
           ad.partner, ad.campaign, ad.creative, ad.placement, ad.publisher,
           conversion.click_id, conversion.click_hit_id, conversion.clicked_at,
           seen.hit_id, seen.received_at, seen.exposure_number
    from plain.conversion(begins, ends, since, within) as conversion
    left join avtryck.ad as led on led.key = conversion.ad_key
    left join lateral (
        select hit.hit_id, hit.received_at, hit.exposure_number, hit.ad_key
        from avtryck.hit left join avtryck.ad on ad.key = hit.ad_key
        where hit.visitor_id = coalesce(conversion.click_visitor_id, conversion.visitor_id)
          and hit.kind = 3 and avtryck.is_counted(hit.flags)
          and hit.received_at >= since and hit.received_at < ends
          and hit.received_at >= conversion.converted_at - within
          and hit.received_at <= coalesce(conversion.clicked_at, conversion.converted_at)
          and (led.key is null or ((ad.partner, ad.campaign) is not distinct from (led.partner, led.campaign)
                                   and (led.creative is null or ad.creative = led.creative)))
        order by hit.received_at desc limit 1
    ) as seen on true
    left join avtryck.ad on ad.key = coalesce(led.key, seen.ad_key)
    left join avtryck.site on site.key = conversion.site_key
    where conversion.linked_by is not null or seen.hit_id is not null;
end $$;

-- A history of a few days in which everything meets everything, with `seed`: times differ.
create function plain.fill(seed integer) returns void language sql as $$
    truncate avtryck.hit;
    insert into avtryck.hit
        (received_at, site_key, device_key, place_key, ad_key, flags, kind, permit, consent_source, hit_id,
         visitor_id, partner_uid, maid, event_name, event_id, click_id, exposure_number, params)
    select timestamptz '2026-11-24T20:00Z' - dice[14] % 3000 * interval '1 minute' + n * interval '100 ms',
           1 + dice[1] % 2, nullif(dice[2] % 3, 0), nullif(dice[3] % 3, 0), nullif(dice[4] % 8, 0),
           (array[0, 0, 0, 0, 8, 16384, 2048, 64])[1 + dice[5] % 8], kind, 63, 4, gen_random_uuid(),
           case when dice[7] % 5 > 0 then ('aaaaaaaa-0000-0000-0000-' || lpad((dice[7] % 5)::text, 12, '0'))::uuid end,
           case when dice[8] % 4 = 0 then 'u' || n end, case when dice[9] % 4 = 0 then 'm' || n end,
           case when kind in (2, 5) then (array['conversion', 'conversion', 'click', 'impression'])[1 + dice[10] % 4] end,
           null, case when kind <> 3 and dice[11] % 2 = 0 then 'k' || dice[12] % 4 end, dice[13] % 5, jsonb_build_object('n', n)
    from generate_series(1, 60) as n
    cross join lateral (select array_agg(('x' || substr(md5(seed || ' ' || n || ' ' || die), 1, 6))::bit(24)::integer order by die)
                        from generate_series(1, 14) as die) as thrown (dice)
    cross join lateral (select (2 + dice[7] % 4)::smallint) as of (kind)
$$;
