-- What segments cost a hit: what batches saw is added with fewer look-ups, and without Postgres preparing each row for a
-- conflict that cannot come, since one adds at a time.

-- Rows that live for seconds are not worth compressing.
alter table avtryck.subject_day_part
    alter column sites set storage external, alter column partners set storage external,
    alter column kinds set storage external, alter column names set storage external,
    alter column counts set storage external, alter column devices set storage external,
    alter column places set storage external, alter column permits set storage external,
    alter column at set storage external;
alter table avtryck.segment_due alter column subjects set storage external;

create or replace function avtryck.touch_subjects(touched uuid[]) returns void language plpgsql as $$
begin
    if cardinality(touched) > 0 and exists (select from avtryck.segment where ended_at is null) then
        insert into avtryck.segment_due (subjects)
        select array_agg(subject) from (
            select subject, row_number() over () / 5000 as portion
            from (select distinct unnest(touched) as subject) as each_once
        ) as portioned
        group by portion;
    end if;
end
$$;

create or replace function avtryck.touch_permitted() returns trigger language plpgsql as $$
begin
    perform avtryck.touch_subjects(array(select subject from said));
    return null;
end
$$;

create or replace function avtryck.touch_tied() returns trigger language plpgsql as $$
declare
    tied uuid[] := array(
        select unnest(array[a, b]) from changed where 5 in (a_kind, b_kind) and proved_day is not null
    );
begin
    if cardinality(tied) > 0 then
        perform avtryck.touch_subjects(array(select avtryck.subjects_touched_with(tied)));
    end if;
    return null;
end
$$;

create or replace function avtryck.fold_subject_days(parts integer) returns bigint language plpgsql as $$
declare
    part_rows tid[];
    touched uuid[];
begin
    -- Whoever leaves on request leaves all of these tables under this lock: "identity" in ASCII. Nobody else inserts into
    -- subject_day, so a row that is not there before is not there when it is inserted.
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
        from part, unnest(part.subjects, part.sites, part.partners, part.kinds, part.names, part.counts, part.devices,
                          part.places, part.permits, part.at)
             as seen (subject, site, partner, kind, name, n, device, place, permit, at)
        where not exists (
            select from avtryck.subject_permit as refused
            where refused.subject = seen.subject and refused.site = seen.site and refused.partner = seen.partner
              and refused.permit & 7 <> 7 and refused.at >= seen.at
        )
    ),
    said as materialized (
        select subject, day, site, partner, kind, name, least(sum(n), 1000000)::integer as n, bit_and(permit) as permit
        from folding group by 1, 2, 3, 4, 5, 6
    ),
    before as materialized (
        select held.* from (select distinct subject, day from said) as asked
        cross join lateral (
            select each.subject, each.day, each.site, each.partner, each.kind, each.name from avtryck.subject_day as each
            where each.subject = asked.subject and each.day = asked.day offset 0
        ) as held
    ),
    new as materialized (
        select said.*, before.subject is not null as is_known
        from said left join before using (subject, day, site, partner, kind, name)
    ),
    raised as (
        update avtryck.subject_day as known
        set n = least(known.n + new.n, 1000000), permit = known.permit & new.permit
        from new
        where new.is_known and known.subject = new.subject and known.day = new.day and known.site = new.site
          and known.partner = new.partner and known.kind = new.kind and known.name = new.name
    ),
    -- Only of a subject with more names than may be kept of one kind it matters which come first.
    crowded as materialized (
        select subject, day from (select subject, day from new where not is_known union all select subject, day from before) as named
        group by 1, 2 having count(*) > 50
    ),
    counted as (
        insert into avtryck.subject_day (subject, day, site, partner, kind, name, n, permit)
        select subject, day, site, partner, kind, name, n, permit from (
            select subject, day, site, partner, kind, name, n, permit from new
            where not is_known and (subject, day) not in (select subject, day from crowded)
            union all
            select subject, day, site, partner, kind, name, n, permit from (
                select new.*, row_number() over (partition by subject, day, kind order by n desc, name, site, partner)
                              + coalesce(held.names, 0) as names
                from new left join (
                    select subject, day, kind, count(*) as names from before group by 1, 2, 3
                ) as held using (subject, day, kind)
                where not new.is_known and (subject, day) in (select subject, day from crowded)
            ) as numbered where names <= 50
        ) as fitting
        order by subject, day
    ),
    noted as (
        insert into avtryck.subject_seen as known (subject, device_key, place_key, first_day, last_day, permit)
        select distinct on (subject) subject, device, place,
               min(day) over (partition by subject order by at desc, device desc, place desc
                              rows between unbounded preceding and unbounded following), day, permit
        from folding order by subject, at desc, device desc, place desc
        on conflict (subject) do update
        set device_key = case when excluded.last_day >= known.last_day and excluded.device_key <> 0 then excluded.device_key
                              else known.device_key end,
            place_key = case when excluded.last_day >= known.last_day and excluded.place_key <> 0 then excluded.place_key
                             else known.place_key end,
            first_day = least(known.first_day, excluded.first_day), last_day = greatest(known.last_day, excluded.last_day),
            permit = case when excluded.last_day >= known.last_day then excluded.permit else known.permit end
        where (known.device_key, known.place_key, known.last_day, known.permit)
              is distinct from (excluded.device_key, excluded.place_key, excluded.last_day, excluded.permit)
           or excluded.first_day < known.first_day
    )
    select array_agg(subject) into touched from (select distinct subject from said) as each_once;
    if touched is not null then
        perform avtryck.touch_subjects(touched);
    end if;
    return (select count(*) from (select from avtryck.subject_day_part limit 1) as left_over);
end
$$;
