-- The sender's time, where it gives one, says what came before a conversion: clicks and impressions are in that order, and
-- as long ago as it says. The day of a conversion stays that of its receipt, and what was received after its UTC day does
-- not lead to it: so days that are over stay as they are. A click that happened before and is received later on the day
-- does: whoever stores or deletes it marks the time at which it happened.

create table avtryck.report_path_mark (
    at timestamptz not null
);
create index report_path_mark_at on avtryck.report_path_mark (at);
comment on table avtryck.report_path_mark is 'From when on conversions of a UTC day may follow something else, until the job report has taken the mark: a row for each ten minutes in which hits happened that were received later. Written as report_mark is.';
comment on column avtryck.report_path_mark.at is 'The start of the ten minutes (UTC) in which a hit happened; of the UTC day in which it was received, if it happened before that.';

create function avtryck.mark_paths(received_at timestamptz[], occurred_at timestamptz[]) returns void language sql volatile
begin atomic
    insert into avtryck.report_path_mark
    select distinct avtryck.report_slot(greatest(hit.occurred_at, date_trunc('day', hit.received_at, 'UTC')))
    from unnest(mark_paths.received_at, mark_paths.occurred_at) as hit (received_at, occurred_at)
    where hit.occurred_at < avtryck.report_slot(hit.received_at);
end;
comment on function avtryck.mark_paths is 'Marks when hits happened that conversions can follow.';

alter type avtryck.click add attribute at timestamptz;

-- What returns `at` besides is made anew.
alter function avtryck.conversion_kept(timestamptz, timestamptz) rename to conversion_kept_before;
alter function avtryck.conversion_after(timestamptz, timestamptz, timestamptz, timestamptz, interval) rename to conversion_after_before;
alter function avtryck.conversion_seen(timestamptz, timestamptz, timestamptz, timestamptz, interval) rename to conversion_seen_before;
alter function avtryck.conversion_all_of(date, interval) rename to conversion_all_of_before;
alter function avtryck.conversion_in(date, interval) rename to conversion_in_before;

create function avtryck.conversion_kept(begins timestamptz, known timestamptz)
returns table (
    received_at timestamptz, hit_id uuid, event_id text, params jsonb, visitor_id uuid, maid text, partner_uid text, own_ad_key bigint,
    site_key bigint, ad_key bigint, device_key bigint, place_key bigint, linked_by text, click_id text, click_hit_id uuid,
    clicked_at timestamptz, is_net boolean, cause bigint, is_first boolean, impression_hit_id uuid, seen_at timestamptz,
    seen_ad_key bigint, exposure_number integer, is_seen_valid boolean,
    at timestamptz
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
               link.seen_ad_key, link.exposure_number, link.is_seen_valid, coalesce(hit.occurred_at, hit.received_at)
        from avtryck.conversion_link as link join avtryck.hit on hit.hit_id = link.hit_id
        where link.received_at >= begins and link.received_at < known
          and hit.received_at >= begins and hit.received_at < known and hit.kind in (2, 5) and hit.event_name = 'conversion';
    end if;
end $$;
comment on function avtryck.conversion_kept is 'The conversions that conversion_link has of a time, with what their hits say; `at` is when they happened.';

create function avtryck.conversion_after(begins timestamptz, known timestamptz, ends timestamptz, since timestamptz, within interval)
returns table (
    converted_at timestamptz, hit_id uuid, event_id text, params jsonb, visitor_id uuid, flags integer,
    site_key bigint, ad_key bigint, device_key bigint, place_key bigint, linked_by text,
    click_id text, click_hit_id uuid, clicked_at timestamptz, click_visitor_id uuid, network_key bigint, is_net boolean, cause bigint, is_first boolean,
    at timestamptz
) language sql stable parallel safe
begin atomic
    with converted as materialized (
        select hit.received_at, coalesce(hit.occurred_at, hit.received_at) as at, hit.hit_id, hit.kind, hit.click_id, hit.visitor_id,
               hit.flags, hit.site_key, hit.device_key,
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
            select coalesce(hit.occurred_at, hit.received_at) as at, hit.click_id,
                   row(received_at, hit_id, click_id, visitor_id, flags, site_key, ad_key, device_key, place_key,
                       coalesce(occurred_at, received_at))::avtryck.click as click
            from avtryck.hit
            where hit.click_id = wanted.click_id and hit.kind = 4 and avtryck.is_counted(hit.flags)
              and hit.received_at >= since and hit.received_at < greatest(ends, avtryck.day_start((begins at time zone 'UTC')::date + 1))
            order by hit.received_at limit 1
        ) as found
    ),
    -- A visitor whose ID was made with the conversion has clicked and seen nothing before.
    click_of_visitor as (
        select found.* from (select distinct visitor_id from converted where visitor_id is not null and flags & 16 = 0) as wanted
        cross join lateral (
            select coalesce(hit.occurred_at, hit.received_at) as at, hit.visitor_id, hit.ad_key,
                   row(received_at, hit_id, click_id, visitor_id, flags, site_key, ad_key, device_key, place_key,
                       coalesce(occurred_at, received_at))::avtryck.click as click
            from avtryck.hit
            where hit.visitor_id = wanted.visitor_id and hit.kind = 4 and avtryck.is_counted(hit.flags)
              and hit.received_at >= since and hit.received_at < greatest(ends, avtryck.day_start((begins at time zone 'UTC')::date + 1))
            offset 0
        ) as found
    ),
    -- What a conversion and a click have in common, the best first: 1 the click's ID; 2 the visitor; 3 the visitor, and
    -- the campaign that the conversion names.
    step as (
        select rank, same, same_partner, same_campaign, at, hit_id as conversion_id, kind, visitor_id, flags,
               own_key is not null as names_ad, null::avtryck.click as click
        from converted cross join lateral (values
            (1, click_id, null, null),
            (2, case when own_key is null and flags & 16 = 0 then visitor_id::text end, null, null),
            (3, case when own_key is not null and flags & 16 = 0 then visitor_id::text end, partner, campaign)
        ) as common (rank, same, same_partner, same_campaign)
        where same is not null
        union all
        select 1, click_id, null, null, at, null, null, null, null, null, click from click_of_id
        union all
        select rank, visitor_id::text, same_partner, same_campaign, at, null, null, null, null, null, click
        from click_of_visitor left join avtryck.ad on ad.key = click_of_visitor.ad_key
        cross join lateral (values (2, null, null), (3, ad.partner, ad.campaign)) as common (rank, same_partner, same_campaign)
    ),
    counted as (
        select *, count(*) filter (where conversion_id is null) over (
                   partition by rank, same, same_partner, same_campaign
                   order by at, conversion_id is not null rows unbounded preceding) as clicks
        from step
    ),
    followed as (
        select rank, conversion_id, at, kind, visitor_id, flags, names_ad, first_value(click) over (
                   partition by rank, same, same_partner, same_campaign, clicks
                   order by at, conversion_id is not null rows unbounded preceding) as click
        from counted where clicks > 0
    ),
    led as (
        select distinct on (conversion_id) conversion_id, rank, is_shown, (click).*
        from followed cross join lateral (
            select rank > 1 or coalesce(
                       avtryck.may_follow(kind, flags, visitor_id, (click).flags, (click).visitor_id), false)
        ) as own (is_shown)
        where conversion_id is not null and (click).at >= followed.at - within and (is_shown or not names_ad)
        order by conversion_id, is_shown desc, rank
    ),
    -- Without a click of its own, a conversion that names a campaign needs an impression by the same visitor. A server
    -- also speaks for the MAID and the partner's ID that it names, and may have reported a click itself.
    asking as materialized (
        select at, hit_id, partner, campaign, creative, who.id_kind, who.id
        from converted cross join lateral (values
            ('visitor', case when kind = 2 and flags & 16 = 0 then visitor_id::text end),
            ('maid', case when kind = 5 then maid end),
            ('partner_uid', case when kind = 5 then partner_uid end)
        ) as who (id_kind, id)
        where own_key is not null and who.id is not null
    ),
    contact as (
        select wanted.id_kind, wanted.id, found.at, ad.partner, ad.campaign,
               case when ad.campaign is null then ad.creative end as creative
        from (select distinct id_kind, id from asking) as wanted
        cross join lateral (
            select coalesce(hit.occurred_at, hit.received_at) as at, hit.ad_key from avtryck.hit
            where wanted.id_kind = 'visitor' and hit.visitor_id = wanted.id::uuid and hit.kind = 3
              and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
              and hit.received_at >= since and hit.received_at < greatest(ends, avtryck.day_start((begins at time zone 'UTC')::date + 1))
            union all
            select coalesce(hit.occurred_at, hit.received_at) as at, hit.ad_key from avtryck.hit
            where wanted.id_kind = 'maid' and hit.maid is not null
              and lower(hit.maid collate "C") = wanted.id and avtryck.is_contact(hit.kind, hit.event_name)
              and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
              and hit.received_at >= since and hit.received_at < greatest(ends, avtryck.day_start((begins at time zone 'UTC')::date + 1))
            union all
            select coalesce(hit.occurred_at, hit.received_at) as at, hit.ad_key from avtryck.hit
            where wanted.id_kind = 'partner_uid' and hit.partner_uid is not null
              and hit.partner_uid collate "C" = wanted.id and avtryck.is_contact(hit.kind, hit.event_name)
              and avtryck.is_counted(hit.flags) and avtryck.is_valid(hit.flags)
              and hit.received_at >= since and hit.received_at < greatest(ends, avtryck.day_start((begins at time zone 'UTC')::date + 1))
            offset 0
        ) as found
        left join avtryck.ad on ad.key = found.ad_key
    ),
    seen as (
        select hit_id as conversion_id, bool_or(last_at >= at - within) as is_seen
        from (
            select at, hit_id, max(at) filter (where hit_id is null) over (
                       partition by id_kind, id, partner, campaign, creative
                       order by at, hit_id is not null rows unbounded preceding) as last_at
            from (select id_kind, id, partner, campaign, creative, at, hit_id from asking
                  union all
                  select id_kind, id, partner, campaign, creative, at, null from contact) as met
        ) as passed
        where hit_id is not null
        group by hit_id
    ),
    -- All of `led` and of `seen` is in `converted`.
    linked as materialized (
        select converted.*, led.rank, led.hit_id as click_hit_id, led.click_id as led_click_id, led.received_at as clicked_at,
               led.at as led_at,
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
        select hit_id as conversion_id, received_at, at, event_id, click_hit_id, led_click_id, clicked_at, led_at, click_visitor_id,
               hashtextextended(case when click_hit_id is not null then click_hit_id::text
                    else concat_ws(' ', visitor_id, maid, partner_uid, partner, campaign, creative) end, 0) as cause
        from linked where avtryck.is_net(both_flags, kind, is_shown, true) and (rank is not null or own_key is not null)
    ),
    -- What followed the same click on an earlier day: it names the click, or is of its visitor and names none.
    history as (
        select cause, click_visitor_id, event_id, received_at, at, conversion_id, led_at, true as is_new from sound
        union all
        select cause, null, event_id, received_at, null, hit_id, null, false from earlier where cause is not null
        union all
        select hashtextextended(wanted.click_hit_id::text, 0), null, found.event_id, found.received_at, null, null, null, false
        from (select distinct click_hit_id, led_click_id, led_at from sound
              where clicked_at < begins and led_click_id is not null) as wanted
        cross join lateral (
            select hit.event_id, hit.received_at from avtryck.hit
            where hit.click_id = wanted.led_click_id and hit.event_name = 'conversion' and hit.flags & 16777216 = 0
              and avtryck.is_counted(hit.flags) and avtryck.is_net(hit.flags, hit.kind, hit.kind in (2, 5), true)
              and hit.received_at >= since and hit.received_at >= wanted.led_at and hit.received_at < begins
              and coalesce(hit.occurred_at, hit.received_at) >= wanted.led_at
            offset 0
        ) as found
        union all
        select null, wanted.click_visitor_id, found.event_id, found.received_at, found.at, null, null, false
        from (select distinct click_visitor_id from sound where clicked_at < begins) as wanted
        cross join lateral (
            select hit.event_id, hit.received_at, coalesce(hit.occurred_at, hit.received_at) as at from avtryck.hit
            where hit.visitor_id = wanted.click_visitor_id and hit.event_name = 'conversion' and hit.click_id is null
              and avtryck.is_counted(hit.flags) and avtryck.is_net(hit.flags, hit.kind, hit.kind = 2, true)
              and hit.received_at >= since and hit.received_at < begins
            offset 0
        ) as found
    ),
    first as (
        select conversion_id, cause, number = 1
               and (last_of_visitor is null or led_at is null or last_of_visitor < led_at) as is_first
        from (
            select conversion_id, led_at, cause, is_new,
                   row_number() over (partition by cause, event_id order by received_at, conversion_id nulls first) as number,
                   max(at) filter (where conversion_id is null) over (
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
           led_click_id, click_hit_id, led_at, click_visitor_id, network_key,
           coalesce(is_beyond, false) = false
           and (is_first or rank is null and own_key is null and avtryck.is_net(both_flags, kind, true, true)),
           cause, is_first, at
    from judged full join capped on capped.conversion_id = judged.hit_id;
end;
comment on function avtryck.conversion_after is 'What the function conversion says of the conversions from `known` on, where conversion_link has those of the day before that; where `known` is the start of the day, of all. cause and is_first are as in conversion_link; `at` is when they happened, as clicked_at is of the click.';

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
    impression_hit_id uuid, seen_at timestamptz, seen_ad_key bigint, exposure_number integer, is_seen_valid boolean,
    at timestamptz
) language sql stable parallel safe
begin atomic
    with conversion as materialized (
        select conversion.*, led.key as led_key, led.partner, led.campaign, led.creative,
               coalesce(click_visitor_id, visitor_id) as viewer, coalesce(clicked_at, at) as until
        from avtryck.conversion_after(begins, known, ends, since, within) as conversion
        left join avtryck.ad as led on led.key = conversion.ad_key
    ),
    impression as (
        select hit.* from (select distinct viewer from conversion where viewer is not null) as wanted
        cross join lateral (
            select coalesce(hit.occurred_at, hit.received_at) as at, hit.hit_id, hit.visitor_id, hit.exposure_number, hit.ad_key,
                   avtryck.is_valid(hit.flags) as is_valid
            from avtryck.hit
            where hit.visitor_id = wanted.viewer and hit.kind = 3 and avtryck.is_counted(hit.flags)
              and hit.received_at >= since and hit.received_at < greatest(ends, avtryck.day_start((begins at time zone 'UTC')::date + 1))
            offset 0
        ) as hit
    ),
    -- What a conversion and an impression have in common: 1 the visitor, where no ad is known; 2 also the campaign, where
    -- no creative is; 3 also the creative.
    step as (
        select case when led_key is null then 1 when creative is null then 2 else 3 end as common, viewer as same,
               partner as same_partner, campaign as same_campaign, creative as same_creative, until as at,
               hit_id as conversion_id, at as converted_at, null::uuid as impression_id, null::bigint as ad_key,
               null::integer as exposure_number, null::boolean as is_valid
        from conversion where viewer is not null
        union all
        select common, impression.visitor_id, same_partner, same_campaign, same_creative, impression.at,
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
           seen.is_valid, conversion.at
    -- All of `seen` is in `conversion`. A full join never compares each with each.
    from conversion full join seen on seen.conversion_id = conversion.hit_id
    where conversion.linked_by is not null or seen.conversion_id is not null;
end;
comment on function avtryck.conversion_seen is 'The conversions of conversion_after that followed an ad, each with the last impression before it or before its click.';

create function avtryck.conversion_all_of(day date, within interval)
returns table (
    converted_at timestamptz, hit_id uuid, event_id text, params jsonb, visitor_id uuid, site_key bigint, ad_key bigint,
    linked_by text, click_id text, click_hit_id uuid, clicked_at timestamptz, is_net boolean,
    impression_hit_id uuid, seen_at timestamptz, seen_ad_key bigint, exposure_number integer, is_seen_valid boolean,
    at timestamptz
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
           is_net, impression_hit_id, seen_at, seen_ad_key, exposure_number, is_seen_valid, at
    from avtryck.conversion_kept(begins, known);
    -- To plan it takes longer than to find that there is nothing.
    if exists (select from avtryck.hit where hit.received_at >= known and hit.received_at < ends
               and hit.kind in (2, 5) and hit.event_name = 'conversion') then
        return query
        select converted_at, hit_id, event_id, params, visitor_id, site_key, ad_key, linked_by, click_id, click_hit_id, clicked_at,
               is_net, impression_hit_id, seen_at, seen_ad_key, exposure_number, is_seen_valid, at
        from avtryck.conversion_seen(begins, known, ends, since, within);
    end if;
end $$;
comment on function avtryck.conversion_all_of is 'The conversions of a UTC day that followed an ad: those of conversion_link, and what came since; all are looked up where `within` is not 30 days. converted_at is when they were received, `at` when they happened.';

create function avtryck.conversion_in(day date, within interval)
returns table (
    converted_at timestamptz, hit_id uuid, event_id text, params jsonb, visitor_id uuid, site_key bigint, ad_key bigint,
    linked_by text, click_id text, click_hit_id uuid, clicked_at timestamptz, is_net boolean,
    impression_hit_id uuid, seen_at timestamptz, seen_ad_key bigint, exposure_number integer, is_seen_valid boolean,
    at timestamptz
) language sql stable parallel safe
begin atomic
    select path.*
    from avtryck.utc_days(conversion_in.day) as utc (day)
    cross join lateral avtryck.conversion_all_of(utc.day, within) as path
    join avtryck.site_in_zone as site on site.key = path.site_key
    join avtryck.zone_day(conversion_in.day) as own
      on own.time_zone = site.time_zone and path.converted_at >= own.begins and path.converted_at < own.ends;
end;
comment on function avtryck.conversion_in is 'What conversion_all_of has, of a day of sites.';

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
    select path.at, path.hit_id, site.site, path.event_id, path.params, path.visitor_id, path.is_net,
           coalesce(path.linked_by, 'impression'), ad.partner, ad.campaign, ad.creative, ad.placement, ad.publisher,
           path.click_id, path.click_hit_id, path.clicked_at, path.impression_hit_id, path.seen_at, path.exposure_number
    from avtryck.conversion_in(day, within) as path
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
           path.at - case when is_click then path.clicked_at else path.seen_at end,
           case when avtryck.number_of(path.params ->> 'value') between -1e15 and 1e15
                then avtryck.number_of(path.params ->> 'value')::numeric end,
           upper(path.params ->> 'currency')
    from avtryck.conversion_in(conversions_through_of.day, greatest(after_click, after_view)) as path
    cross join lateral (select coalesce(path.linked_by in ('click_id', 'visitor'), false)) as of (is_click)
    left join avtryck.ad as led on led.key = path.ad_key
    left join avtryck.ad on ad.key = coalesce(led.key, path.seen_ad_key)
    where path.is_net
      and case when is_click then path.clicked_at >= path.at - after_click
               else path.visitor_id is not null and path.seen_at >= path.at - after_view and path.is_seen_valid end;
end $$;

create or replace function avtryck.attribution(first date, last date, model text, within interval)
returns table (partner text, campaign text, creative text, placement text, conversions numeric, value numeric)
language plpgsql stable parallel safe security definer set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    since timestamptz := (select own.begins from avtryck.day_range(first) as own) - within;
    ends timestamptz := (select own.ends from avtryck.day_range(last) as own);
begin
    if model not in ('last_click', 'first_click', 'linear', 'position', 'time_decay') then
        raise 'attribution: % is none of last_click, first_click, linear, position, time_decay', model;
    end if;
    return query
    with conversion as materialized (
        select path.hit_id, path.at, path.visitor_id,
               case when avtryck.number_of(path.params ->> 'value') between -1e15 and 1e15
                    then avtryck.number_of(path.params ->> 'value')::numeric end as value
        from avtryck.site_day
        cross join lateral avtryck.conversion_in(site_day.day, within) as path
        where site_day.day between first and last and path.is_net and path.visitor_id is not null
    ),
    -- The visitors of one device group are one subject. Only IDs that may be linked have a group.
    member as (
        select wanted.visitor_id, coalesce(other.node, wanted.visitor_id) as node
        from (select distinct visitor_id from conversion) as wanted
        left join avtryck.link_node as own on own.node = wanted.visitor_id and own.device_group <> 0
        left join avtryck.link_node as other on other.device_group = own.device_group and other.kind = 1
    ),
    touch as materialized (
        select member.visitor_id, found.*
        from member cross join lateral (
            select coalesce(hit.occurred_at, hit.received_at) as at, hit.hit_id, hit.kind, hit.ad_key
            from avtryck.hit
            where hit.visitor_id = member.node and hit.kind in (3, 4) and avtryck.is_counted(hit.flags)
              and avtryck.is_valid(hit.flags) and hit.ad_key is not null
              and hit.received_at >= since and hit.received_at < ends
            offset 0
        ) as found
    ),
    led as (
        select conversion.hit_id, conversion.value, touch.ad_key, conversion.at - touch.at as age,
               row_number() over earliest as number, count(*) over (partition by conversion.hit_id) as touches
        from conversion join touch on touch.visitor_id = conversion.visitor_id and touch.at <= conversion.at
                                  and touch.at >= conversion.at - within
        where model not in ('last_click', 'first_click') or touch.kind = 4
        window earliest as (partition by conversion.hit_id order by touch.at, touch.hit_id)
    ),
    weighed as (
        select hit_id, value, ad_key, case model
            when 'last_click' then case when number = touches then 1 else 0 end
            when 'first_click' then case when number = 1 then 1 else 0 end
            when 'linear' then 1
            when 'position' then case when touches <= 2 then 1 when number in (1, touches) then 0.4 else 0.2 / (touches - 2) end
            else power(0.5::double precision, extract(epoch from age)::double precision / 604800) end::double precision as weight
        from led
    ),
    shared as (
        select ad_key, value, weight / sum(weight) over (partition by hit_id) as part from weighed
    )
    select ad.partner, ad.campaign, ad.creative, ad.placement, round(sum(part)::numeric, 4), round(sum(part::numeric * value), 2)
    from shared left join avtryck.ad on ad.key = shared.ad_key
    where part > 0
    group by 1, 2, 3, 4 order by 5 desc, 2, 3, 4, 1;
end $$;

drop function avtryck.conversion_in_before(date, interval);
drop function avtryck.conversion_all_of_before(date, interval);
drop function avtryck.conversion_seen_before(timestamptz, timestamptz, timestamptz, timestamptz, interval);
drop function avtryck.conversion_after_before(timestamptz, timestamptz, timestamptz, timestamptz, interval);
drop function avtryck.conversion_kept_before(timestamptz, timestamptz);

create or replace function avtryck.conversion_known(day date) returns timestamptz language sql stable parallel safe
begin atomic
    select coalesce((
        select case
            when not is_over or avtryck.is_stored(conversion_known.day) then greatest(begins, least(known, changed)) else begins
        end
        from (select conversion_day.known,
                     exists (select from avtryck.report_day where report_day.day = conversion_day.day) as is_over,
                     least((select min(at) from avtryck.report_mark
                            where at >= begins - interval '30 days' and at < conversion_day.known and moves_conversions),
                           (select min(at) from avtryck.report_path_mark
                            where at >= begins and at < conversion_day.known)) as changed
              from avtryck.conversion_day where conversion_day.day = conversion_known.day) as kept), begins)
    from (select avtryck.day_start(conversion_known.day) as begins) as of;
end;
create or replace function avtryck.take_report_marks() returns bigint language plpgsql as $$
declare
    slots timestamptz[];
    moving timestamptz[];
    spans timestamptz[];
    paths timestamptz[];
    slack integer := avtryck.day_slack();
begin
    perform avtryck.report_lock();
    -- Somebody may have dropped a partition by hand.
    perform avtryck.forget_expired_day(gone.day)
    from (select day
          from (select (begins at time zone 'UTC')::date as day from avtryck.report_span
                union select day from avtryck.conversion_day) as held
          where day not in (select day from avtryck.hit_day)
          union
          select day from avtryck.report_day where day not in (select day from avtryck.site_day)) as gone;
    with taken as (delete from avtryck.report_path_mark returning at)
    select array_agg(distinct at) into paths from taken;
    perform avtryck.forget_conversions(cut.day, cut.since)
    from (select kept.day, min(slot) as since
          from avtryck.conversion_day as kept
          join unnest(paths) as slot on slot >= avtryck.day_start(kept.day) and slot < kept.known
          group by kept.day) as cut;
    with taken as (delete from avtryck.report_mark returning at, moves_conversions)
    select array_agg(distinct at), array_agg(distinct at) filter (where moves_conversions) into slots, moving from taken;
    if slots is null then
        return 0;
    end if;
    select array_agg(distinct begins) into spans
    from unnest(slots) as slot join avtryck.report_span on slot > begins - interval '10 minutes' and slot < ends;
    perform avtryck.forget_report_spans(spans);
    perform avtryck.forget_report_days(array(
        select distinct report_day.day
        from (select (slot at time zone 'UTC')::date as first, max(case when slot = any(moving) then 30 else 0 end) as days
              from unnest(slots) as slot group by 1) as changed
        join avtryck.report_day on report_day.day between changed.first - slack and changed.first + changed.days + slack));
    perform avtryck.forget_conversions(cut.day, cut.since)
    from (select kept.day, greatest(avtryck.day_start(kept.day), min(slot)) as since
          from avtryck.conversion_day as kept
          join unnest(moving) as slot on slot >= avtryck.day_start(kept.day - 30) and slot < kept.known
          group by kept.day) as cut;
    return coalesce(cardinality(spans), 0);
end $$;

comment on column avtryck.conversion_link.clicked_at is 'When the click happened: by its sender, where that says so.';
comment on column avtryck.conversion_link.seen_at is 'When the impression happened.';
comment on column avtryck.conversion_path.converted_at is 'When it happened: the sender''s time where there is one, else when it was received. The day is that of its receipt.';
comment on column avtryck.conversion_path.clicked_at is 'When the click happened.';
comment on column avtryck.conversion_path.seen_at is 'When the impression happened.';

-- What is known of conversions with the order of before. What is stored of days that are over stays.
delete from avtryck.conversion_link using avtryck.conversion_day
where (received_at at time zone 'UTC')::date = day and not exists (select from avtryck.report_day where report_day.day = conversion_day.day);
delete from avtryck.conversion_day where not exists (select from avtryck.report_day where report_day.day = conversion_day.day);
