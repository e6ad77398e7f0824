-- A conversion counts as net only where something shows that the ad led to it: a click of its own visitor, or an
-- impression that its subject had. What a sender says by naming a click or a campaign counts as gross.

create function avtryck.is_net(flags integer, kind smallint, is_shown boolean, is_first boolean)
returns boolean language sql immutable parallel safe
    return avtryck.is_valid(flags) and is_shown and is_first
           and (flags & 536870912 = 0 or kind = 5 or flags & 1073741824 <> 0);
comment on function avtryck.is_net is 'Whether a conversion counts in net figures: neither it nor its click is invalid (flags are those of both), something shows that the ad led to it, it is the first of its click and event ID, and it is proved (a callback, or signed) where the site asks for that (signed_only).';

create function avtryck.may_follow(kind smallint, flags integer, visitor uuid, click_flags integer, click_visitor uuid)
returns boolean language sql immutable parallel safe
    return kind = 5
        or flags & 16777216 = 0 and (visitor = click_visitor or (flags | click_flags) & 64 <> 0);
comment on function avtryck.may_follow is 'Whether a conversion follows the click that it names: a server says so, or the click is its own visitor''s. Where one of the two has a third party''s cookie they cannot be compared; then the loader has flagged all but the first visitor (foreign_click).';

create function avtryck.is_contact(kind smallint, event_name text)
returns boolean language sql immutable parallel safe
    return kind in (3, 4) or kind = 5 and event_name in ('impression', 'click');
comment on function avtryck.is_contact is 'Whether a hit is an impression or a click, be it reported by a partner''s callback.';

drop function avtryck.ad_event(timestamptz, timestamptz, timestamptz);
drop function avtryck.conversion(timestamptz, timestamptz, timestamptz, interval);
create function avtryck.conversion(begins timestamptz, ends timestamptz, since timestamptz, within interval)
returns table (
    converted_at timestamptz, hit_id uuid, event_id text, params jsonb, visitor_id uuid, flags integer,
    site_key bigint, ad_key bigint, device_key bigint, place_key bigint, linked_by text,
    click_id text, click_hit_id uuid, clicked_at timestamptz, click_visitor_id uuid, network_key bigint, is_net boolean
) language sql stable parallel safe
begin atomic
    with converted as materialized (
        select hit.received_at, hit.hit_id, hit.kind, hit.click_id, hit.visitor_id, hit.flags, hit.site_key, hit.device_key,
               hit.place_key, hit.network_key, hit.event_id, hit.params, lower(hit.maid collate "C") as maid, hit.partner_uid,
               ad.partner, own.key as own_key, own.campaign, own.creative
        from avtryck.hit
        left join avtryck.ad on ad.key = hit.ad_key
        left join lateral (
            select ad.key, ad.campaign, case when ad.campaign is null then ad.creative end as creative
            where ad.campaign is not null or ad.creative is not null
        ) as own on true
        where hit.received_at >= begins and hit.received_at < ends
          and hit.kind in (2, 5) and hit.event_name = 'conversion' and avtryck.is_counted(hit.flags)
    ),
    -- A sender may choose the ID of a click that was tracked elsewhere: the first click of an ID counts.
    click_of_id as (
        select found.* from (select distinct click_id from converted where click_id is not null) as wanted
        cross join lateral (
            select hit.received_at, hit.click_id,
                   row(received_at, hit_id, click_id, visitor_id, flags, site_key, ad_key, device_key, place_key)::avtryck.click as click
            from avtryck.hit
            where hit.click_id = wanted.click_id and hit.kind = 4 and avtryck.is_counted(hit.flags)
              and hit.received_at >= since and hit.received_at < ends
            order by hit.received_at limit 1
        ) as found
    ),
    -- A visitor whose ID was made with the conversion has clicked and seen nothing before.
    click_of_visitor as (
        select found.* from (select distinct visitor_id from converted where visitor_id is not null and flags & 16 = 0) as wanted
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
        select rank, same, same_partner, same_campaign, received_at, hit_id as conversion_id, kind, visitor_id, flags,
               own_key is not null as names_ad, null::avtryck.click as click
        from converted cross join lateral (values
            (1, click_id, null, null),
            (2, case when own_key is null then visitor_id::text end, null, null),
            (3, case when own_key is not null then visitor_id::text end, partner, campaign)
        ) as common (rank, same, same_partner, same_campaign)
        where same is not null
        union all
        select 1, click_id, null, null, received_at, null, null, null, null, null, click from click_of_id
        union all
        select rank, visitor_id::text, same_partner, same_campaign, received_at, null, null, null, null, null, click
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
        select rank, conversion_id, received_at, kind, visitor_id, flags, names_ad, first_value(click) over (
                   partition by rank, same, same_partner, same_campaign, clicks
                   order by received_at, conversion_id is not null rows unbounded preceding) as click
        from counted where clicks > 0
    ),
    led as (
        select distinct on (conversion_id) conversion_id, rank, is_shown, (click).*
        from followed cross join lateral (
            select rank > 1 or coalesce(
                       avtryck.may_follow(kind, flags, visitor_id, (click).flags, (click).visitor_id), false)
        ) as own (is_shown)
        where conversion_id is not null and (click).received_at >= received_at - within and (is_shown or not names_ad)
        order by conversion_id, is_shown desc, rank
    ),
    -- Without a click of its own, a conversion that names a campaign needs an impression by the same visitor. A server
    -- also speaks for the MAID and the partner's ID that it names, and may have reported a click itself.
    asking as materialized (
        select received_at, hit_id, partner, campaign, creative, who.id_kind, who.id
        from converted cross join lateral (values
            ('visitor', case when kind = 2 and flags & 16 = 0 then visitor_id::text end),
            ('maid', case when kind = 5 then maid end),
            ('partner_uid', case when kind = 5 then partner_uid end)
        ) as who (id_kind, id)
        where own_key is not null and who.id is not null
    ),
    contact as (
        select wanted.id_kind, wanted.id, found.received_at, ad.partner, ad.campaign,
               case when ad.campaign is null then ad.creative end as creative
        from (select distinct id_kind, id from asking) as wanted
        cross join lateral (
            select hit.received_at, hit.ad_key from avtryck.hit
            where wanted.id_kind = 'visitor' and hit.visitor_id = wanted.id::uuid and hit.kind = 3
              and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
              and hit.received_at >= since and hit.received_at < ends
            union all
            select hit.received_at, hit.ad_key from avtryck.hit
            where wanted.id_kind = 'maid' and hit.maid is not null
              and lower(hit.maid collate "C") = wanted.id and avtryck.is_contact(hit.kind, hit.event_name)
              and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
              and hit.received_at >= since and hit.received_at < ends
            union all
            select hit.received_at, hit.ad_key from avtryck.hit
            where wanted.id_kind = 'partner_uid' and hit.partner_uid is not null
              and hit.partner_uid collate "C" = wanted.id and avtryck.is_contact(hit.kind, hit.event_name)
              and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
              and hit.received_at >= since and hit.received_at < ends
            offset 0
        ) as found
        left join avtryck.ad on ad.key = found.ad_key
    ),
    seen as (
        select hit_id as conversion_id, bool_or(last_at >= received_at - within) as is_seen
        from (
            select received_at, hit_id, max(received_at) filter (where hit_id is null) over (
                       partition by id_kind, id, partner, campaign, creative
                       order by received_at, hit_id is not null rows unbounded preceding) as last_at
            from (select id_kind, id, partner, campaign, creative, received_at, hit_id from asking
                  union all
                  select id_kind, id, partner, campaign, creative, received_at, null from contact) as met
        ) as passed
        where hit_id is not null
        group by hit_id
    ),
    -- All of `led` and of `seen` is in `converted`.
    linked as materialized (
        select converted.*, led.rank, led.hit_id as click_hit_id, led.click_id as led_click_id, led.received_at as clicked_at,
               led.visitor_id as click_visitor_id, converted.flags | coalesce(led.flags, 0) as both_flags,
               coalesce(led.site_key, converted.site_key) as led_site_key, coalesce(led.ad_key, own_key) as led_ad_key,
               coalesce(led.device_key, converted.device_key) as led_device_key,
               coalesce(led.place_key, converted.place_key) as led_place_key,
               coalesce(led.is_shown, own_key is null or seen.is_seen, false) as is_shown
        from converted
        full join seen on seen.conversion_id = converted.hit_id
        full join led on led.conversion_id = converted.hit_id
    ),
    sound as materialized (
        select hit_id as conversion_id, received_at, event_id, click_hit_id, led_click_id, clicked_at, click_visitor_id,
               case when click_hit_id is not null then click_hit_id::text
                    else concat_ws(' ', visitor_id, maid, partner_uid, partner, campaign, creative) end as cause
        from linked where avtryck.is_net(both_flags, kind, is_shown, true) and (rank is not null or own_key is not null)
    ),
    -- What followed the same click on an earlier day: it names the click, or is of its visitor and names none.
    history as (
        select cause, click_visitor_id, event_id, received_at, conversion_id, clicked_at from sound
        union all
        select wanted.click_hit_id::text, null, found.event_id, found.received_at, null, null
        from (select distinct click_hit_id, led_click_id, clicked_at from sound
              where clicked_at < begins and led_click_id is not null) as wanted
        cross join lateral (
            select hit.event_id, hit.received_at from avtryck.hit
            where hit.click_id = wanted.led_click_id and hit.event_name = 'conversion' and hit.flags & 16777216 = 0
              and avtryck.is_counted(hit.flags) and avtryck.is_net(hit.flags, hit.kind, hit.kind in (2, 5), true)
              and hit.received_at >= since and hit.received_at >= wanted.clicked_at and hit.received_at < begins
            offset 0
        ) as found
        union all
        select null, wanted.click_visitor_id, found.event_id, found.received_at, null, null
        from (select distinct click_visitor_id from sound where clicked_at < begins) as wanted
        cross join lateral (
            select hit.event_id, hit.received_at from avtryck.hit
            where hit.visitor_id = wanted.click_visitor_id and hit.event_name = 'conversion' and hit.click_id is null
              and avtryck.is_counted(hit.flags) and avtryck.is_net(hit.flags, hit.kind, hit.kind = 2, true)
              and hit.received_at >= since and hit.received_at < begins
            offset 0
        ) as found
    ),
    first as (
        select conversion_id
        from (
            select conversion_id, clicked_at,
                   row_number() over (partition by cause, event_id order by received_at, conversion_id nulls first) as number,
                   max(received_at) filter (where conversion_id is null) over (
                       partition by click_visitor_id, event_id) as last_of_visitor
            from history
        ) as numbered
        where conversion_id is not null and number = 1
          and (last_of_visitor is null or clicked_at is null or last_of_visitor < clicked_at)
    ),
    ranked as (
        select *,
               count(*) filter (where is_first) over (
                   partition by coalesce(led_click_id, click_hit_id::text) order by received_at, hit_id) as of_click,
               count(*) filter (where is_first) over (partition by visitor_id order by received_at, hit_id) as of_visitor,
               count(*) filter (where is_first) over (partition by maid order by received_at, hit_id) as of_maid,
               count(*) filter (where is_first) over (
                   partition by partner, partner_uid order by received_at, hit_id) as of_partner_uid
        from (select linked.*, first.conversion_id is not null as is_first
              from linked full join first on first.conversion_id = linked.hit_id) as linked
    ),
    capped as (
        select *, greatest(
               case when click_hit_id is not null then of_click end, case when visitor_id is not null then of_visitor end,
               case when maid is not null then of_maid end, case when partner_uid is not null then of_partner_uid end
           ) > avtryck.conversions_max() as is_beyond
        from ranked
    )
    select received_at, hit_id, event_id, params, visitor_id, both_flags | case when is_beyond then 128 else 0 end,
           led_site_key, led_ad_key, led_device_key, led_place_key,
           case when rank = 1 then 'click_id' when rank > 1 then 'visitor' when own_key is not null then 'ad' end,
           led_click_id, click_hit_id, clicked_at, click_visitor_id, network_key,
           coalesce(is_beyond, false) = false
           and (is_first or rank is null and own_key is null and avtryck.is_net(both_flags, kind, true, true))
    from capped;
end;
comment on function avtryck.conversion is 'The conversions of a UTC day, each with the click that it names if that is its own visitor''s, else the last click of its visitor, none of them longer before it than `within`; `since` is the earliest that could be. One that names a campaign belongs to its visitor''s clicks on that campaign alone, and where there is none to the ad that it names. One with neither belongs to the click of somebody else that it names, as gross. Those beyond conversions_max() have the flag over_limit.';

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
           conversion.visitor_id, conversion.is_net, coalesce(conversion.linked_by, 'impression'),
           ad.partner, ad.campaign, ad.creative, ad.placement, ad.publisher,
           conversion.click_id, conversion.click_hit_id, conversion.clicked_at,
           seen.impression_id, seen.seen_at, seen.exposure_number
    -- All of `seen` is in `conversion`. A full join never compares each with each.
    from conversion full join seen on seen.conversion_id = conversion.hit_id
    left join avtryck.ad on ad.key = coalesce(conversion.led_key, seen.ad_key)
    left join avtryck.site on site.key = conversion.site_key
    where conversion.linked_by is not null or seen.conversion_id is not null;
end $$;
comment on column avtryck.conversion_path.is_valid is 'Whether the conversion counts in net figures: see docs/reports.md.';

create function avtryck.ad_event(begins timestamptz, ends timestamptz, since timestamptz)
returns table (
    kind smallint, hits bigint, is_measured boolean, is_valid boolean, site_key bigint, ad_key bigint,
    device_key bigint, place_key bigint, visitor_id uuid, maid text, partner_uid text, flags integer, network_key bigint
) language sql stable parallel safe
begin atomic
    select case when hit.kind <> 5 then hit.kind when hit.event_name = 'click' then 4::smallint else 3::smallint end,
           1::bigint, true, avtryck.is_valid(hit.flags), hit.site_key, hit.ad_key,
           hit.device_key, hit.place_key, hit.visitor_id,
           case when hit.kind = 5 then hit.maid end, case when hit.kind = 5 then hit.partner_uid end,
           hit.flags, hit.network_key
    from avtryck.hit
    where hit.received_at >= begins and hit.received_at < ends and avtryck.is_counted(hit.flags)
      and (hit.kind in (3, 4) or hit.kind = 5 and hit.event_name in ('impression', 'click'))
    union all
    select 2::smallint, 1::bigint, true, is_net, site_key, ad_key, device_key, place_key, null, null, null, flags, network_key
    from avtryck.conversion(begins, ends, since, interval '30 days') where linked_by is not null
    union all
    select hit_count.kind, hit_count.hits, false, false, hit_count.site_key, hit_count.ad_key, null, null, null, null, null,
           0, null
    from avtryck.hit_count
    where hit_count.minute >= begins and hit_count.minute < ends and hit_count.kind in (3, 4);
end;
comment on function avtryck.ad_event is 'Of a time each impression (3) and click (4) that counts, and each conversion (2) that a click or its sender ascribes to an ad; is_measured is false for counts of hits without the permit measure, is_valid true for what counts as net. Only servers speak for a MAID or a partner''s ID.';

create function avtryck.quality_of(day date)
returns table (
    site text, partner text, campaign text, kind text, net_hits bigint,
    new_visitor_share numeric, top_network_share numeric, top_network text
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    begins timestamptz := avtryck.day_start(day);
    ends timestamptz := avtryck.day_start(day + 1);
    since timestamptz := begins - interval '30 days';
begin
    return query
    select each.site, each.partner, each.campaign, each.kind, sum(each.hits)::bigint,
           round(sum(each.new_hits) / sum(each.hits), 4),
           round(max(each.hits) filter (where each.network is not null) / sum(each.hits), 4),
           (array_agg(each.network order by each.hits desc, each.network) filter (where each.network is not null))[1]
    from (
        select site.site, ad.partner, ad.campaign,
               case event.kind when 2 then 'conversion' else avtryck.kind_name(event.kind) end as kind,
               coalesce(network.name, 'AS' || network.asn) as network,
               count(*) as hits, count(*) filter (where event.flags & 16 <> 0) as new_hits
        from avtryck.ad_event(begins, ends, since) as event
        left join avtryck.site on site.key = event.site_key
        left join avtryck.ad on ad.key = event.ad_key
        left join avtryck.network on network.key = event.network_key
        where event.is_valid
        group by 1, 2, 3, 4, 5
    ) as each
    group by 1, 2, 3, 4;
end $$;
comment on function avtryck.quality_of is 'One day of campaign_quality.';

create view avtryck.campaign_quality as
select hit_day.day, report.* from avtryck.hit_day cross join lateral avtryck.quality_of(hit_day.day) as report;
comment on view avtryck.campaign_quality is 'Signs of made-up traffic in the net figures of each campaign a UTC day: how many of its visitors were new, and how many came from one network. Compare campaigns with each other.';
comment on column avtryck.campaign_quality.day is 'The UTC day.';
comment on column avtryck.campaign_quality.site is 'The site, as in campaign_daily.';
comment on column avtryck.campaign_quality.partner is 'The partner.';
comment on column avtryck.campaign_quality.campaign is 'The campaign.';
comment on column avtryck.campaign_quality.kind is 'impression, click or conversion.';
comment on column avtryck.campaign_quality.net_hits is 'How many of them count as net.';
comment on column avtryck.campaign_quality.new_visitor_share is 'The share of them whose visitor was made with the hit or, of a conversion, with its click.';
comment on column avtryck.campaign_quality.top_network_share is 'The share of the network that most of them came from; null where no network is known.';
comment on column avtryck.campaign_quality.top_network is 'That network.';
