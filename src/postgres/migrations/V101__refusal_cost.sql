-- What a refusal costs depends on who refuses, not on how much is known of others: each of these begins with those who
-- refuse, and finds the rest by index.

create or replace function avtryck.untell_refused() returns trigger language plpgsql as $$
declare
    refused uuid[];
begin
    if tg_op = 'DELETE' then
        refused := array(select distinct subject from said);
    else
        refused := array(select distinct subject from said where permit & 15 <> 15);
    end if;
    if cardinality(refused) = 0 then
        return null;
    end if;
    delete from avtryck.subject_id as known
    where known.subject = any(refused) and not exists (
        select from avtryck.subject_permit as other where other.subject = known.subject and other.permit & 15 = 15
    );
    if exists (select from avtryck.export_told) then
        perform avtryck.untell(array(
            -- Without the offsets Postgres asks for the permits of everybody first whom partners were told of.
            select told.told from (
                select known.* from unnest(refused) as gone (subject) cross join lateral (
                    select each.told, each.subject, each.partner from avtryck.export_told as each
                    where each.subject = gone.subject offset 0
                ) as known offset 0
            ) as told
            where not avtryck.permits_export(told.subject, told.partner) order by 1
        ));
    end if;
    return null;
end
$$;

create function avtryck.forget_waiting_facts(nodes uuid[], refusing uuid[], sites text[], partners text[], ats timestamptz[])
returns void language plpgsql
-- Sets of the two are compared, not each of the one with each of the other: both may have thousands, and Postgres takes
-- arrays for short.
set enable_nestloop = off as $$
begin
    update avtryck.subject_day_part as part
    set (subjects, sites, partners, kinds, names, counts, devices, places, permits, at) = (
        select coalesce(array_agg(subject), '{}'), coalesce(array_agg(site), '{}'), coalesce(array_agg(partner), '{}'),
               coalesce(array_agg(kind), '{}'), coalesce(array_agg(name), '{}'), coalesce(array_agg(n), '{}'),
               coalesce(array_agg(device), '{}'), coalesce(array_agg(place), '{}'),
               coalesce(array_agg(permit), '{}'), coalesce(array_agg(kept.at), '{}')
        from unnest(part.subjects, part.sites, part.partners, part.kinds, part.names, part.counts, part.devices,
                    part.places, part.permits, part.at)
             as kept (subject, site, partner, kind, name, n, device, place, permit, at)
        left join (
            select subject, site, partner, max(said.at) as until
            from unnest(refusing, forget_waiting_facts.sites, forget_waiting_facts.partners, ats)
                 as said (subject, site, partner, at)
            group by 1, 2, 3
        ) as refusal using (subject, site, partner)
        where kept.subject not in (select gone.node from unnest(nodes) as gone (node) where gone.node is not null)
          and (refusal.until is null or refusal.until < kept.at)
    ) where exists (select unnest(part.subjects) intersect select unnest(nodes || refusing));
end
$$;
comment on function avtryck.forget_waiting_facts is 'Takes out of subject_day_part what these subjects did, and what others did until they refused it on the same site.';

create function avtryck.forget_counted_facts(nodes uuid[], is_erasure boolean) returns void language plpgsql as $$
begin
    -- Those for whom the facts counted are to be evaluated without them.
    perform avtryck.touch_subjects(array(select avtryck.subjects_touched_with(nodes)));
    delete from avtryck.subject_day where subject = any(nodes);
    delete from avtryck.subject_seen where subject = any(nodes);
    with gone as (delete from avtryck.segment_member where subject = any(nodes) returning segment, subject)
    insert into avtryck.segment_change (at, segment, subject, is_entry, reason)
    select clock_timestamp(), segment, subject, false, 'withdrawal' from gone;
    if is_erasure then
        delete from avtryck.segment_change where subject = any(nodes);
    end if;
end
$$;
comment on function avtryck.forget_counted_facts is 'Deletes what segments have of these subjects, but for what waits to be counted.';

create or replace function avtryck.forget_profiles(nodes uuid[], is_erasure boolean) returns void language plpgsql as $$
begin
    perform avtryck.forget_counted_facts(nodes, is_erasure);
    perform avtryck.forget_waiting_facts(nodes, '{}', '{}', '{}', '{}');
end
$$;

create or replace function avtryck.forget_refused_profiles() returns trigger language plpgsql as $$
declare
    refused uuid[] := array(select distinct subject from said where permit & 7 <> 7);
    gone uuid[];
begin
    if cardinality(refused) = 0 then
        return null;
    end if;
    delete from avtryck.subject_day as fact using said
    where said.permit & 7 <> 7 and said.consent_source between 2 and 5
      and fact.subject = said.subject and fact.site = said.site and fact.partner = said.partner;
    gone := array(
        select said_by.node from unnest(refused) as said_by (node) where not exists (
            select from avtryck.subject_permit as other where other.subject = said_by.node and other.permit & 7 = 7
        )
    );
    -- What waits and is refused goes now: whoever permits it again would have it counted.
    if exists (select from avtryck.subject_day_part) then
        perform avtryck.forget_waiting_facts(
            gone, coalesce(array_agg(subject), '{}'), coalesce(array_agg(site), '{}'), coalesce(array_agg(partner), '{}'),
            coalesce(array_agg(at), '{}')
        )
        from (select subject, site, partner, at from said where permit & 7 <> 7 and consent_source between 2 and 5) as own_word;
    end if;
    if cardinality(gone) > 0 then
        perform avtryck.forget_counted_facts(gone, false);
    end if;
    perform avtryck.touch_subjects(array(select avtryck.subjects_touched_with(refused)));
    return null;
end
$$;

create or replace function avtryck.forget_sightings(nodes uuid[]) returns void language plpgsql as $$
declare
    devices uuid[];
    left_households bigint[];
begin
    select array_agg(distinct found.node) into devices from (
        select unnest(nodes) as node
        union all
        select other.node from avtryck.link_node as own
        join avtryck.link_node as other using (proved_group)
        where own.node = any(nodes) and own.proved_group <> 0
    ) as found;
    insert into avtryck.household_gone (key)
    select avtryck.household_gone_key(node) from unnest(devices) as gone (node) on conflict do nothing;
    delete from avtryck.sighting where node = any(nodes);
    update avtryck.sighting_part as part set (address, node, day, hour) = (
        select coalesce(array_agg(kept.address), '{}'), coalesce(array_agg(kept.node), '{}'),
               coalesce(array_agg(kept.day), '{}'), coalesce(array_agg(kept.hour), '{}')
        from unnest(part.address, part.node, part.day, part.hour) as kept (address, node, day, hour)
        where kept.node not in (select gone.node from unnest(nodes) as gone (node) where gone.node is not null)
    ) where exists (select unnest(part.node) intersect select unnest(nodes));
    delete from avtryck.household_pair where a = any(devices) or b = any(devices);
    delete from avtryck.household_shown where node = any(devices);
    with gone as (delete from avtryck.household_member where node = any(devices) returning household)
    select array_agg(household) into left_households from gone;
    delete from avtryck.household_member where household in (
        select household from avtryck.household_member where household = any(left_households)
        group by household having count(*) < 2
    );
end
$$;
