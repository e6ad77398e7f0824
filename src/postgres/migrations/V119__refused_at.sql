-- What a refusal costs depends on who refuses, not on what is known of others nor on what waits of them: it is noted when
-- somebody refused last, and what waits of before that time is left out when it is added up. Until now it was taken out of
-- the arrays of all batches that waited.
-- And Postgres does not choose to read a whole table for a few subjects (enable_seqscan): a plan that was made while a
-- table was empty would stay in use while it grows.

alter table avtryck.subject_permit add column refused_at timestamptz;
comment on column avtryck.subject_permit.refused_at is 'When the subject''s own word last lacked store, measure or profile, also where it permits them now; null where it never did. What it did until then counts for no segment.';

-- Most subjects refuse nothing, so a look-up here costs less than one of the permit.
create index subject_permit_refused on avtryck.subject_permit (subject, site, partner)
    where permit & 7 <> 7 or refused_at is not null;

create function avtryck.note_refusal() returns trigger language plpgsql as $$
begin
    new.refused_at := new.at;
    return new;
end
$$;
comment on function avtryck.note_refusal is 'Notes when a subject refused: sources 2 to 5 are its own word.';
create trigger refusal_time before insert or update on avtryck.subject_permit
    for each row when (new.permit & 7 <> 7 and new.consent_source between 2 and 5) execute function avtryck.note_refusal();

create or replace view avtryck.subject_permit_detail as
select subject, site, nullif(partner, '') as partner, avtryck.permit_names(permit) as permit,
       avtryck.consent_source_name(consent_source) as consent_source, at, refused_at
from avtryck.subject_permit;
comment on column avtryck.subject_permit_detail.refused_at is 'As subject_permit.refused_at.';

create function avtryck.touch_subjects_with(nodes uuid[]) returns void language plpgsql as $$
begin
    if exists (select 1 from avtryck.segment where ended_at is null) then
        perform avtryck.touch_subjects(array(select avtryck.subjects_touched_with(nodes)));
    end if;
end
$$;
comment on function avtryck.touch_subjects_with is 'Notes subjects, and those for whom what is known of them counts too, as due for the next evaluation, if there are segments.';

drop function avtryck.forget_waiting_facts;

create or replace function avtryck.forget_counted_facts(nodes uuid[], is_erasure boolean) returns void language plpgsql
set enable_seqscan = off as $$
begin
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

create or replace function avtryck.forget_profiles(nodes uuid[], is_erasure boolean) returns void language plpgsql as $$
begin
    -- Those for whom the facts counted are to be evaluated without them.
    perform avtryck.touch_subjects_with(nodes);
    perform avtryck.forget_counted_facts(nodes, is_erasure);
    update avtryck.subject_day_part as part
    set (subjects, sites, partners, kinds, names, counts, devices, places, permits, at) = (
        select coalesce(array_agg(subject), '{}'), coalesce(array_agg(site), '{}'), coalesce(array_agg(partner), '{}'),
               coalesce(array_agg(kind), '{}'), coalesce(array_agg(name), '{}'), coalesce(array_agg(n), '{}'),
               coalesce(array_agg(device), '{}'), coalesce(array_agg(place), '{}'),
               coalesce(array_agg(permit), '{}'), coalesce(array_agg(kept.at), '{}')
        from unnest(part.subjects, part.sites, part.partners, part.kinds, part.names, part.counts, part.devices,
                    part.places, part.permits, part.at)
             as kept (subject, site, partner, kind, name, n, device, place, permit, at)
        where kept.subject not in (select gone.node from unnest(nodes) as gone (node) where gone.node is not null)
    ) where exists (select unnest(part.subjects) intersect select unnest(nodes));
end
$$;

create or replace function avtryck.forget_refused_profiles() returns trigger language plpgsql
set enable_seqscan = off as $$
declare
    refused uuid[] := array(select distinct subject from said where permit & 7 <> 7);
    gone uuid[];
begin
    if cardinality(refused) = 0 then
        return null;
    end if;
    -- With the offset Postgres looks each one up.
    delete from avtryck.subject_day where ctid = any(array(
        select fact.ctid from said cross join lateral (
            select each.ctid from avtryck.subject_day as each
            where each.subject = said.subject and each.site = said.site and each.partner = said.partner offset 0
        ) as fact
        where said.permit & 7 <> 7 and said.consent_source between 2 and 5
    ));
    gone := array(
        select said_by.node from unnest(refused) as said_by (node) cross join lateral (
            select count(*) filter (where each.permit & 7 = 7) as permitting from avtryck.subject_permit as each
            where each.subject = said_by.node offset 0
        ) as left_over
        where permitting = 0
    );
    if cardinality(gone) > 0 then
        perform avtryck.forget_counted_facts(gone, false);
    end if;
    perform avtryck.touch_subjects_with(refused);
    return null;
end
$$;

create or replace function avtryck.fold_subject_days(parts integer) returns bigint language plpgsql
-- Enough for all that is added at once, of which Postgres does not know how much it is.
set work_mem = '32MB' set enable_seqscan = off as $$
declare
    part_rows tid[];
    touched uuid[];
begin
    -- Whoever leaves on request leaves all of these tables under this lock: "identity" in ASCII. Nobody else inserts into
    -- subject_day and subject_seen, so a row that is not there before is not there when it is inserted.
    perform pg_advisory_xact_lock(x'6964656e74697479'::bigint);
    part_rows := array(select ctid from avtryck.subject_day_part limit parts);
    if cardinality(part_rows) = 0 then
        return 0;
    end if;
    with part as (
        delete from avtryck.subject_day_part where ctid = any(part_rows) returning *
    ),
    folding as materialized (
        select seen.*, (seen.at at time zone 'UTC')::date as day
        from (
            select unnest(subjects) as subject, unnest(sites) as site, unnest(partners) as partner, unnest(kinds) as kind,
                   unnest(names) as name, unnest(counts) as n, unnest(devices) as device, unnest(places) as place,
                   unnest(permits) as permit, unnest(part.at) as at
            from part
        ) as seen
        where not exists (
            select 1 from avtryck.subject_permit as refused
            where refused.subject = seen.subject and refused.site = seen.site and refused.partner = seen.partner
              and (refused.permit & 7 <> 7 or refused.refused_at is not null)
              and (refused.permit & 7 <> 7 and refused.at >= seen.at or refused.refused_at >= seen.at)
        )
    ),
    said as materialized (
        select subject, day, site, partner, kind, name, least(sum(n), 1000000)::integer as n, bit_and(permit) as permit
        from folding group by 1, 2, 3, 4, 5, 6
    ),
    before as materialized (
        select held.* from (select distinct subject, day from said) as asked
        cross join lateral (
            select each.ctid as place, each.subject, each.day, each.site, each.partner, each.kind, each.name
            from avtryck.subject_day as each
            where each.subject = asked.subject and each.day = asked.day offset 0
        ) as held
    ),
    new as materialized (
        select said.*, before.place
        from said left join before using (subject, day, site, partner, kind, name)
    ),
    raised as (
        update avtryck.subject_day as known
        set n = least(known.n + new.n, 1000000), permit = known.permit & new.permit
        from new where known.ctid = new.place
    ),
    -- Only of a subject with more names than may be kept of one kind it matters which come first.
    crowded as materialized (
        select subject, day from (select subject, day from new where place is null union all select subject, day from before) as named
        group by 1, 2 having count(*) > 50
    ),
    counted as (
        insert into avtryck.subject_day (subject, day, site, partner, kind, name, n, permit)
        select subject, day, site, partner, kind, name, n, permit from (
            select subject, day, site, partner, kind, name, n, permit from new
            where place is null and (subject, day) not in (select subject, day from crowded)
            union all
            select subject, day, site, partner, kind, name, n, permit from (
                select new.*, row_number() over (partition by subject, day, kind order by n desc, name, site, partner)
                              + coalesce(held.names, 0) as names
                from new left join (
                    select subject, day, kind, count(*) as names from before group by 1, 2, 3
                ) as held using (subject, day, kind)
                where new.place is null and (subject, day) in (select subject, day from crowded)
            ) as numbered where names <= 50
        ) as fitting
        order by subject, day
    ),
    last as materialized (
        select seen.*, known.place as known_place from (
            select distinct on (subject) subject, device, place,
                   min(day) over (partition by subject order by at desc, device desc, place desc
                                  rows between unbounded preceding and unbounded following) as first_day,
                   day as last_day, permit
            from folding order by subject, at desc, device desc, place desc
        ) as seen
        left join lateral (
            select each.ctid as place from avtryck.subject_seen as each where each.subject = seen.subject offset 0
        ) as known on true
    ),
    moved as (
        update avtryck.subject_seen as known
        set device_key = case when last.last_day >= known.last_day and last.device <> 0 then last.device else known.device_key end,
            place_key = case when last.last_day >= known.last_day and last.place <> 0 then last.place else known.place_key end,
            first_day = least(known.first_day, last.first_day), last_day = greatest(known.last_day, last.last_day),
            permit = case when last.last_day >= known.last_day then last.permit else known.permit end
        from last
        where known.ctid = last.known_place
          and ((known.device_key, known.place_key, known.last_day, known.permit)
               is distinct from (last.device, last.place, last.last_day, last.permit)
               or last.first_day < known.first_day)
    ),
    noted as (
        insert into avtryck.subject_seen (subject, device_key, place_key, first_day, last_day, permit)
        select subject, device, place, first_day, last_day, permit from last where known_place is null order by subject
    )
    select array_agg(subject) into touched from (select distinct subject from said) as each_once;
    if touched is not null then
        perform avtryck.touch_subjects(touched);
    end if;
    return (select count(*) from (select from avtryck.subject_day_part limit 1) as left_over);
end
$$;

alter function avtryck.untell_refused() set enable_seqscan = off;

create or replace function avtryck.forget_sightings(nodes uuid[]) returns void language plpgsql
set enable_seqscan = off as $$
declare
    devices uuid[];
    left_households bigint[];
begin
    -- Where there is nothing to leave, no night can bring anybody back, and strangers who refuse leave no trace.
    if not exists (select 1 from avtryck.sighting) and not exists (select 1 from avtryck.sighting_part)
       and not exists (select 1 from avtryck.household_pair) and not exists (select 1 from avtryck.household_member)
       and not exists (select 1 from avtryck.household_shown) then
        return;
    end if;
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
delete from avtryck.household_gone
where not exists (select 1 from avtryck.sighting) and not exists (select 1 from avtryck.sighting_part)
  and not exists (select 1 from avtryck.household_pair) and not exists (select 1 from avtryck.household_member)
  and not exists (select 1 from avtryck.household_shown);
