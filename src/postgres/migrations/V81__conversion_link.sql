-- What a conversion followed is decided by what came before it. So what is known of the conversions of a day up to a time
-- holds for as long as nobody stores or deletes hits before that time, and only those since need to be looked up: of a
-- day that is over none, of today those of the last minutes. What is kept of a conversion has the keys of hits and no
-- person; whom it is of, its hit says.

create index hit_conversion on only avtryck.hit (received_at) where event_name = 'conversion' and kind in (2, 5);
select avtryck.index_hit_day(day) from avtryck.hit_day where day >= (now() at time zone 'UTC')::date - 1;

create table avtryck.conversion_link (
    received_at timestamptz not null,
    hit_id uuid not null,
    flags integer not null,
    site_key bigint not null,
    ad_key bigint,
    device_key bigint,
    place_key bigint,
    linked_by text,
    click_id text,
    click_hit_id uuid,
    clicked_at timestamptz,
    is_net boolean not null,
    cause bigint,
    is_first boolean not null,
    impression_hit_id uuid,
    seen_at timestamptz,
    seen_ad_key bigint,
    exposure_number integer,
    is_seen_valid boolean
);
create index conversion_link_received_at on avtryck.conversion_link (received_at);
comment on table avtryck.conversion_link is 'The conversions that followed an ad, each with its click and impression of the 30 days before: conversion_path, as far as conversion_day says. Query conversion_path, which has all of them.';
comment on column avtryck.conversion_link.received_at is 'When the conversion was received.';
comment on column avtryck.conversion_link.hit_id is 'The hit_id of the conversion.';
comment on column avtryck.conversion_link.flags is 'Its flags, and those of its click; over_limit where a click or a subject has more than conversions_max().';
comment on column avtryck.conversion_link.site_key is 'The site of the click; of the conversion where it has none.';
comment on column avtryck.conversion_link.ad_key is 'The ad of the click, or else the ad that the conversion names.';
comment on column avtryck.conversion_link.device_key is 'The device of the click or, without one, of the conversion.';
comment on column avtryck.conversion_link.place_key is 'The place of the click or, without one, of the conversion.';
comment on column avtryck.conversion_link.linked_by is 'click_id, visitor or ad, as in conversion_path; null where only an impression leads to it.';
comment on column avtryck.conversion_link.click_id is 'The ID of the click.';
comment on column avtryck.conversion_link.click_hit_id is 'The hit_id of the click.';
comment on column avtryck.conversion_link.clicked_at is 'When the click was received.';
comment on column avtryck.conversion_link.is_net is 'Whether it counts in net figures.';
comment on column avtryck.conversion_link.cause is 'A hash of 64 bits of what it followed: the click, or its subject and campaign. Null where it cannot be net.';
comment on column avtryck.conversion_link.is_first is 'Whether it is the first of its cause with its event ID.';
comment on column avtryck.conversion_link.impression_hit_id is 'The hit_id of the impression.';
comment on column avtryck.conversion_link.seen_at is 'When the impression was received.';
comment on column avtryck.conversion_link.seen_ad_key is 'The ad of the impression.';
comment on column avtryck.conversion_link.exposure_number is 'Which impression of the creative it was.';
comment on column avtryck.conversion_link.is_seen_valid is 'Whether the impression is valid.';

create table avtryck.conversion_day (
    day date primary key,
    known timestamptz not null
);
comment on table avtryck.conversion_day is 'Up to which time of a day conversion_link has its conversions.';
comment on column avtryck.conversion_day.day is 'The UTC day.';
comment on column avtryck.conversion_day.known is 'The end of what is known: conversions received at this moment or later are looked up. The marks of report_mark cut it short.';

create function avtryck.conversion_known(day date) returns timestamptz language sql stable parallel safe
begin atomic
    select coalesce((
        select case
            when not is_over or avtryck.is_stored(conversion_known.day) then greatest(begins, least(known, changed)) else begins
        end
        from (select conversion_day.known,
                     exists (select from avtryck.report_day where report_day.day = conversion_day.day) as is_over,
                     (select min(at) from avtryck.report_mark
                      where at >= begins - interval '30 days' and at < conversion_day.known and moves_conversions) as changed
              from avtryck.conversion_day where conversion_day.day = conversion_known.day) as kept), begins)
    from (select avtryck.day_start(conversion_known.day) as begins) as of;
end;
comment on function avtryck.conversion_known is 'The time up to which conversion_link agrees with the hits of a day: the start of the day where it has nothing of it. Of a day whose reports are stored and no longer hold it is not read, so that all figures of a day are of the same hits.';

create function avtryck.conversion_kept(begins timestamptz, known timestamptz)
returns table (
    received_at timestamptz, hit_id uuid, event_id text, params jsonb, visitor_id uuid, maid text, partner_uid text, own_ad_key bigint,
    site_key bigint, ad_key bigint, device_key bigint, place_key bigint, linked_by text, click_id text, click_hit_id uuid,
    clicked_at timestamptz, is_net boolean, cause bigint, is_first boolean, impression_hit_id uuid, seen_at timestamptz,
    seen_ad_key bigint, exposure_number integer, is_seen_valid boolean
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan
-- The partition of an old day may lack the index that finds a hit by its time.
set enable_nestloop = off as $$
#variable_conflict use_column
begin
    if begins < known then
        return query
        select hit.received_at, hit.hit_id, hit.event_id, hit.params, hit.visitor_id, lower(hit.maid collate "C"), hit.partner_uid, hit.ad_key,
               link.site_key, link.ad_key, link.device_key, link.place_key, link.linked_by, link.click_id, link.click_hit_id,
               link.clicked_at, link.is_net, link.cause, link.is_first, link.impression_hit_id, link.seen_at,
               link.seen_ad_key, link.exposure_number, link.is_seen_valid
        from avtryck.conversion_link as link join avtryck.hit on hit.hit_id = link.hit_id
        where link.received_at >= begins and link.received_at < known
          and hit.received_at >= begins and hit.received_at < known and hit.kind in (2, 5) and hit.event_name = 'conversion';
    end if;
end $$;
comment on function avtryck.conversion_kept is 'The conversions that conversion_link has of a time, with what their hits say.';

create function avtryck.conversion_after(begins timestamptz, known timestamptz, ends timestamptz, since timestamptz, within interval)
returns table (
    converted_at timestamptz, hit_id uuid, event_id text, params jsonb, visitor_id uuid, flags integer,
    site_key bigint, ad_key bigint, device_key bigint, place_key bigint, linked_by text,
    click_id text, click_hit_id uuid, clicked_at timestamptz, click_visitor_id uuid, network_key bigint, is_net boolean, cause bigint, is_first boolean
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
        where hit.received_at >= known and hit.received_at < ends
          and hit.kind in (2, 5) and hit.event_name = 'conversion' and avtryck.is_counted(hit.flags)
    ),
    -- What is known of the day's conversions before.
    earlier as materialized (
        select kept.received_at, kept.hit_id, kept.click_id as led_click_id, kept.click_hit_id, kept.cause, kept.is_first,
               kept.event_id, kept.visitor_id, kept.maid, kept.partner_uid, ad.partner
        from avtryck.conversion_kept(begins, known) as kept left join avtryck.ad on ad.key = kept.own_ad_key
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
            (2, case when own_key is null and flags & 16 = 0 then visitor_id::text end, null, null),
            (3, case when own_key is not null and flags & 16 = 0 then visitor_id::text end, partner, campaign)
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
               hashtextextended(case when click_hit_id is not null then click_hit_id::text
                    else concat_ws(' ', visitor_id, maid, partner_uid, partner, campaign, creative) end, 0) as cause
        from linked where avtryck.is_net(both_flags, kind, is_shown, true) and (rank is not null or own_key is not null)
    ),
    -- What followed the same click on an earlier day: it names the click, or is of its visitor and names none.
    history as (
        select cause, click_visitor_id, event_id, received_at, conversion_id, clicked_at, true as is_new from sound
        union all
        select cause, null, event_id, received_at, hit_id, null, false from earlier where cause is not null
        union all
        select hashtextextended(wanted.click_hit_id::text, 0), null, found.event_id, found.received_at, null, null, false
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
        select null, wanted.click_visitor_id, found.event_id, found.received_at, null, null, false
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
        select conversion_id, cause, number = 1
               and (last_of_visitor is null or clicked_at is null or last_of_visitor < clicked_at) as is_first
        from (
            select conversion_id, clicked_at, cause, is_new,
                   row_number() over (partition by cause, event_id order by received_at, conversion_id nulls first) as number,
                   max(received_at) filter (where conversion_id is null) over (
                       partition by click_visitor_id, event_id) as last_of_visitor
            from history
        ) as numbered
        where is_new
    ),
    judged as materialized (
        select linked.*, first.cause, coalesce(first.is_first, false) as is_first
        from linked full join first on first.conversion_id = linked.hit_id
    ),
    ranked as (
        select *,
               count(*) filter (where is_first) over (
                   partition by coalesce(led_click_id, click_hit_id::text) order by received_at, hit_id) as of_click,
               count(*) filter (where is_first) over (partition by visitor_id order by received_at, hit_id) as of_visitor,
               count(*) filter (where is_first) over (partition by maid order by received_at, hit_id) as of_maid,
               count(*) filter (where is_first) over (
                   partition by partner, partner_uid order by received_at, hit_id) as of_partner_uid
        from (select received_at, hit_id, led_click_id, click_hit_id, visitor_id, maid, partner, partner_uid, is_first, true as is_new
              from judged
              union all
              select received_at, hit_id, led_click_id, click_hit_id, visitor_id, maid, partner, partner_uid, is_first, false
              from earlier) as each
    ),
    capped as (
        select hit_id as conversion_id, greatest(
               case when click_hit_id is not null then of_click end, case when visitor_id is not null then of_visitor end,
               case when maid is not null then of_maid end, case when partner_uid is not null then of_partner_uid end
           ) > avtryck.conversions_max() as is_beyond
        from ranked where is_new
    )
    select received_at, hit_id, event_id, params, visitor_id, both_flags | case when is_beyond then 128 else 0 end,
           led_site_key, led_ad_key, led_device_key, led_place_key,
           case when rank = 1 then 'click_id' when rank > 1 then 'visitor' when own_key is not null then 'ad' end,
           led_click_id, click_hit_id, clicked_at, click_visitor_id, network_key,
           coalesce(is_beyond, false) = false
           and (is_first or rank is null and own_key is null and avtryck.is_net(both_flags, kind, true, true)),
           cause, is_first
    from judged full join capped on capped.conversion_id = judged.hit_id;
end;
comment on function avtryck.conversion_after is 'What the function conversion says of the conversions from `known` on, where conversion_link has those of the day before that; where `known` is the start of the day, of all. cause and is_first are as in conversion_link.';

create or replace function avtryck.conversion(begins timestamptz, ends timestamptz, since timestamptz, within interval)
returns table (
    converted_at timestamptz, hit_id uuid, event_id text, params jsonb, visitor_id uuid, flags integer,
    site_key bigint, ad_key bigint, device_key bigint, place_key bigint, linked_by text,
    click_id text, click_hit_id uuid, clicked_at timestamptz, click_visitor_id uuid, network_key bigint, is_net boolean
) language sql stable parallel safe
begin atomic
    select converted_at, hit_id, event_id, params, visitor_id, flags, site_key, ad_key, device_key, place_key, linked_by,
           click_id, click_hit_id, clicked_at, click_visitor_id, network_key, is_net
    from avtryck.conversion_after(begins, begins, ends, since, within);
end;

create function avtryck.conversion_seen(begins timestamptz, known timestamptz, ends timestamptz, since timestamptz, within interval)
returns table (
    converted_at timestamptz, hit_id uuid, event_id text, params jsonb, visitor_id uuid, flags integer,
    site_key bigint, ad_key bigint, device_key bigint, place_key bigint, linked_by text,
    click_id text, click_hit_id uuid, clicked_at timestamptz, is_net boolean, cause bigint, is_first boolean,
    impression_hit_id uuid, seen_at timestamptz, seen_ad_key bigint, exposure_number integer, is_seen_valid boolean
) language sql stable parallel safe
begin atomic
    with conversion as materialized (
        select conversion.*, led.key as led_key, led.partner, led.campaign, led.creative,
               coalesce(click_visitor_id, visitor_id) as viewer, coalesce(clicked_at, converted_at) as until
        from avtryck.conversion_after(begins, known, ends, since, within) as conversion
        left join avtryck.ad as led on led.key = conversion.ad_key
    ),
    impression as (
        select hit.* from (select distinct viewer from conversion where viewer is not null) as wanted
        cross join lateral (
            select hit.received_at, hit.hit_id, hit.visitor_id, hit.exposure_number, hit.ad_key,
                   avtryck.is_valid(hit.flags) as is_valid
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
               null::integer as exposure_number, null::boolean as is_valid
        from conversion where viewer is not null
        union all
        select common, impression.visitor_id, same_partner, same_campaign, same_creative, impression.received_at,
               null, null, impression.hit_id, impression.ad_key, impression.exposure_number,
               impression.is_valid
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
               first_value(exposure_number) over impression as exposure_number,
               first_value(is_valid) over impression as is_valid
        from counted where impressions > 0
        window impression as (partition by common, same, same_partner, same_campaign, same_creative, impressions
                              order by at, conversion_id is not null)
    ),
    seen as (
        select * from followed where conversion_id is not null and seen_at >= converted_at - within
    )
    select conversion.converted_at, conversion.hit_id, conversion.event_id, conversion.params, conversion.visitor_id,
           conversion.flags, conversion.site_key, conversion.ad_key, conversion.device_key, conversion.place_key,
           conversion.linked_by, conversion.click_id, conversion.click_hit_id, conversion.clicked_at, conversion.is_net,
           conversion.cause, conversion.is_first, seen.impression_id, seen.seen_at, seen.ad_key, seen.exposure_number,
           seen.is_valid
    -- All of `seen` is in `conversion`. A full join never compares each with each.
    from conversion full join seen on seen.conversion_id = conversion.hit_id
    where conversion.linked_by is not null or seen.conversion_id is not null;
end;
comment on function avtryck.conversion_seen is 'The conversions of conversion_after that followed an ad, each with the last impression before it or before its click.';

create function avtryck.build_conversions(day date, until timestamptz) returns void language plpgsql
set plan_cache_mode = force_custom_plan as $$
declare
    begins timestamptz := avtryck.day_start(build_conversions.day);
    since timestamptz := begins - interval '30 days';
    last timestamptz := coalesce((select known from avtryck.conversion_day where conversion_day.day = build_conversions.day), begins);
begin
    if last >= until then
        return;
    end if;
    insert into avtryck.conversion_link
    select converted_at, hit_id, flags, site_key, ad_key, device_key, place_key, linked_by, click_id, click_hit_id, clicked_at,
           is_net, cause, is_first, impression_hit_id, seen_at, seen_ad_key, exposure_number, is_seen_valid
    from avtryck.conversion_seen(begins, last, until, since, interval '30 days');
    insert into avtryck.conversion_day values (build_conversions.day, until)
    on conflict on constraint conversion_day_pkey do update set known = excluded.known;
end $$;
comment on function avtryck.build_conversions is 'Adds the conversions of a day up to a time to conversion_link.';

create function avtryck.forget_conversions(day date, since timestamptz) returns void language plpgsql as $$
begin
    delete from avtryck.conversion_link
    where received_at >= since and received_at < avtryck.day_start(forget_conversions.day + 1);
    update avtryck.conversion_day set known = since where conversion_day.day = forget_conversions.day and known > since;
    delete from avtryck.conversion_day
    where conversion_day.day = forget_conversions.day and known <= avtryck.day_start(forget_conversions.day);
end $$;
comment on function avtryck.forget_conversions is 'Deletes what conversion_link has of a day from a time on.';

create function avtryck.conversion_all_of(day date, within interval)
returns table (
    converted_at timestamptz, hit_id uuid, event_id text, params jsonb, visitor_id uuid, site_key bigint, ad_key bigint,
    linked_by text, click_id text, click_hit_id uuid, clicked_at timestamptz, is_net boolean,
    impression_hit_id uuid, seen_at timestamptz, seen_ad_key bigint, exposure_number integer, is_seen_valid boolean
) language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    begins timestamptz := avtryck.day_start(day);
    ends timestamptz := avtryck.day_start(day + 1);
    since timestamptz := begins - within;
    known timestamptz := case when within = interval '30 days' then avtryck.conversion_known(day) else begins end;
begin
    return query
    select received_at, hit_id, event_id, params, visitor_id, site_key, ad_key, linked_by, click_id, click_hit_id, clicked_at,
           is_net, impression_hit_id, seen_at, seen_ad_key, exposure_number, is_seen_valid
    from avtryck.conversion_kept(begins, known);
    -- To plan it takes longer than to find that there is nothing.
    if exists (select from avtryck.hit where hit.received_at >= known and hit.received_at < ends
               and hit.kind in (2, 5) and hit.event_name = 'conversion') then
        return query
        select converted_at, hit_id, event_id, params, visitor_id, site_key, ad_key, linked_by, click_id, click_hit_id, clicked_at,
               is_net, impression_hit_id, seen_at, seen_ad_key, exposure_number, is_seen_valid
        from avtryck.conversion_seen(begins, known, ends, since, within);
    end if;
end $$;
comment on function avtryck.conversion_all_of is 'The conversions of a day that followed an ad: those of conversion_link, and what came since; all are looked up where `within` is not 30 days.';

create or replace function avtryck.conversion_path_of(day date, within interval)
returns table (
    converted_at timestamptz, hit_id uuid, site text, event_id text, params jsonb, visitor_id uuid, is_valid boolean,
    linked_by text, partner text, campaign text, creative text, placement text, publisher text,
    click_id text, click_hit_id uuid, clicked_at timestamptz,
    impression_hit_id uuid, seen_at timestamptz, exposure_number integer
) language plpgsql stable parallel safe as $$
#variable_conflict use_column
begin
    return query
    select path.converted_at, path.hit_id, site.site, path.event_id, path.params, path.visitor_id, path.is_net,
           coalesce(path.linked_by, 'impression'), ad.partner, ad.campaign, ad.creative, ad.placement, ad.publisher,
           path.click_id, path.click_hit_id, path.clicked_at, path.impression_hit_id, path.seen_at, path.exposure_number
    from avtryck.conversion_all_of(day, within) as path
    left join avtryck.ad as led on led.key = path.ad_key
    left join avtryck.ad on ad.key = coalesce(led.key, path.seen_ad_key)
    left join avtryck.site on site.key = path.site_key;
end $$;

create or replace function avtryck.conversions_through_of(day date, after_click interval, after_view interval)
returns table (
    campaign text, creative text, placement text, through text, event_id text, later interval, value numeric, currency text
) language plpgsql stable parallel safe security definer as $$
#variable_conflict use_column
begin
    return query
    select ad.campaign, ad.creative, ad.placement, case when is_click then 'click' else 'view' end, path.event_id,
           path.converted_at - case when is_click then path.clicked_at else path.seen_at end,
           case when avtryck.number_of(path.params ->> 'value') between -1e15 and 1e15
                then avtryck.number_of(path.params ->> 'value')::numeric end,
           upper(path.params ->> 'currency')
    from avtryck.conversion_all_of(conversions_through_of.day, greatest(after_click, after_view)) as path
    cross join lateral (select coalesce(path.linked_by in ('click_id', 'visitor'), false)) as of (is_click)
    left join avtryck.ad as led on led.key = path.ad_key
    left join avtryck.ad on ad.key = coalesce(led.key, path.seen_ad_key)
    where path.is_net
      and case when is_click then path.clicked_at >= path.converted_at - after_click
               else path.visitor_id is not null and path.seen_at >= path.converted_at - after_view and path.is_seen_valid end;
end $$;

create function avtryck.conversion_of(day date)
returns table (site_key bigint, ad_key bigint, device_key bigint, place_key bigint, is_net boolean)
language plpgsql stable parallel safe set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    begins timestamptz := avtryck.day_start(day);
    ends timestamptz := avtryck.day_start(day + 1);
    since timestamptz := begins - interval '30 days';
    known timestamptz := avtryck.conversion_known(day);
begin
    return query
    select site_key, ad_key, device_key, place_key, is_net
    from avtryck.conversion_link where received_at >= begins and received_at < known and linked_by is not null;
    if exists (select from avtryck.hit where hit.received_at >= known and hit.received_at < ends
               and hit.kind in (2, 5) and hit.event_name = 'conversion') then
        return query
        select site_key, ad_key, device_key, place_key, is_net
        from avtryck.conversion_after(begins, known, ends, since, interval '30 days') where linked_by is not null;
    end if;
end $$;
comment on function avtryck.conversion_of is 'The conversions of a day that a click or their sender ascribes to an ad: those of conversion_link, and what came since.';

-- What keeps it up: the job that rolls hits up, in the same transactions.

create or replace function avtryck.forget_report_days(days date[]) returns void language plpgsql as $$
declare
    stored name;
begin
    perform avtryck.forget_conversions(report_day.day, avtryck.day_start(report_day.day))
    from avtryck.report_day where report_day.day = any(days);
    delete from avtryck.report_day where day = any(days);
    for stored in select report_store.stored from avtryck.report_store loop
        execute format('delete from avtryck.%I where day = any($1)', stored) using days;
    end loop;
end $$;

create or replace function avtryck.forget_expired_day(day date) returns void language plpgsql as $$
begin
    perform avtryck.report_lock();
    perform avtryck.forget_report_spans(array(
        select begins from avtryck.report_span
        where begins >= avtryck.day_start(forget_expired_day.day) and begins < avtryck.day_start(forget_expired_day.day + 1)));
    perform avtryck.forget_report_days(array[forget_expired_day.day]);
    -- Days that are not over yet are computed of the hits that there are.
    perform avtryck.forget_conversions(kept.day, avtryck.day_start(kept.day))
    from avtryck.conversion_day as kept
    where kept.day between forget_expired_day.day and forget_expired_day.day + 30
      and not exists (select from avtryck.report_day where report_day.day = kept.day);
end $$;

create or replace function avtryck.take_report_marks() returns bigint language plpgsql as $$
declare
    slots timestamptz[];
    moving timestamptz[];
    spans timestamptz[];
begin
    perform avtryck.report_lock();
    -- Somebody may have dropped a partition by hand.
    perform avtryck.forget_expired_day(gone.day)
    from (select (begins at time zone 'UTC')::date as day from avtryck.report_span
          union select day from avtryck.report_day
          union select day from avtryck.conversion_day
          except select day from avtryck.hit_day) as gone;
    with taken as (delete from avtryck.report_mark returning at, moves_conversions)
    select array_agg(distinct at), array_agg(distinct at) filter (where moves_conversions) into slots, moving from taken;
    if slots is null then
        return 0;
    end if;
    select array_agg(distinct begins) into spans
    from unnest(slots) as slot join avtryck.report_span on slot >= begins and slot < ends;
    perform avtryck.forget_report_spans(spans);
    perform avtryck.forget_report_days(array(
        select distinct report_day.day
        from (select (slot at time zone 'UTC')::date as first, max(case when slot = any(moving) then 30 else 0 end) as days
              from unnest(slots) as slot group by 1) as changed
        join avtryck.report_day on report_day.day between changed.first and changed.first + changed.days));
    perform avtryck.forget_conversions(cut.day, cut.since)
    from (select kept.day, greatest(avtryck.day_start(kept.day), min(slot)) as since
          from avtryck.conversion_day as kept
          join unnest(moving) as slot on slot >= avtryck.day_start(kept.day - 30) and slot < kept.known
          group by kept.day) as cut;
    return coalesce(cardinality(spans), 0);
end $$;

create or replace function avtryck.build_report(as_of timestamptz) returns text language plpgsql as $$
declare
    latest timestamptz := avtryck.report_slot(as_of - interval '10 seconds');
    open_day date := (as_of at time zone 'UTC' - interval '2 hours')::date;
    gap record;
    due date;
begin
    perform avtryck.report_lock();
    -- A small day is rolled up in one go, a large one hour by hour.
    select missing.begins, least(missing.ends, latest, case when pg_relation_size(partition) > 64 * 1024 * 1024
                                                            then missing.begins + interval '1 hour' end) as ends into gap
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
        return 'span';
    end if;
    select day into due from avtryck.hit_day
    where day < open_day and not exists (select from avtryck.report_day where report_day.day = hit_day.day)
    order by day desc limit 1;
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
    return null;
end $$;
