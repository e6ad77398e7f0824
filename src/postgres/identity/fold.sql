-- Adds what batches saw of permits and ties to subject_permit and link_edge, whichever collector loaded them. One does
-- so at a time, so the rows that are found first are the rows that are deleted.
do $$
declare
    permit_rows tid[];
    link_rows tid[];
    removed uuid[];
    until_days date[];
begin
    perform pg_advisory_xact_lock(x'6964656e74697479'::bigint);
    select array_agg(ctid) into permit_rows from avtryck.permit_part;
    select array_agg(ctid) into link_rows from avtryck.link_part;

    with part as (delete from avtryck.permit_part where ctid = any(permit_rows) returning *),
    said as (
        select unnest(subjects) as subject, unnest(sites) as site, unnest(partners) as partner,
               unnest(part.permits) as permit, unnest(consent_sources) as consent_source, unnest(at) as at,
               unnest(kinds) as kind, unnest(ids) as id
        from part
    ),
    -- Sources 2 to 5 are the subject's own word. A default says nothing of a subject that has spoken.
    newest as (
        select distinct on (subject, site, partner) *, permit & 19 in (1, 3, 17) and consent_source between 2 and 5 as refuses
        from said order by subject, site, partner, consent_source between 2 and 5 desc, at desc, permit
    ),
    named as (
        insert into avtryck.subject_id as known (subject, kind, partner, id, permit, last_seen)
        select distinct on (subject) subject, kind, case kind when 4 then partner else '' end, id, permit, at
        from said where id is not null and permit & 15 = 15 order by subject, at desc, id
        on conflict (subject) do update
        set permit = excluded.permit, last_seen = greatest(known.last_seen, excluded.last_seen)
    )
    insert into avtryck.subject_permit as known (subject, site, partner, permit, consent_source, at, changed_at)
    select subject, site, partner, permit, consent_source, at, case when refuses then clock_timestamp() end from newest
    order by subject, site, partner
    on conflict (subject, site, partner) do update
    set (permit, consent_source, at) = (
            select case when is_later then excluded.permit else known.permit end,
                   case when is_later then excluded.consent_source else known.consent_source end,
                   greatest(known.at, excluded.at)
            from (select (excluded.consent_source between 2 and 5, excluded.at, -excluded.permit)
                         > (known.consent_source between 2 and 5, known.at, -known.permit) as is_later) as told),
        changed_at = case when known.permit <> excluded.permit then clock_timestamp()
                          else coalesce(excluded.changed_at, known.changed_at) end
    -- Of two that differ, the earlier tells its collector that it lost.
    where (known.at < excluded.at or known.permit <> excluded.permit)
      and (excluded.consent_source between 2 and 5 or known.consent_source not between 2 and 5);

    if link_rows is null then
        return;
    end if;
    with removal as (
        select unnest(a) as node, unnest(at) as at, unnest(are_removals) as is_removal
        from avtryck.link_part where ctid = any(link_rows)
    ),
    last as (
        select node, max((at at time zone 'UTC')::date) as until from removal where is_removal group by node
    )
    select array_agg(node), array_agg(until) into removed, until_days from last;
    if removed is not null then
        perform set_config('avtryck.reason', 'withdrawal', true);
        perform avtryck.unlink(removed, until_days, 'withdrawal');
        perform set_config('avtryck.reason', '', true);
    end if;

    with part as (delete from avtryck.link_part where ctid = any(link_rows) returning *),
    said as materialized (
        select unnest(a) as a, unnest(b) as b, unnest(a_kinds) as a_kind, unnest(b_kinds) as b_kind, unnest(partners) as partner, unnest(at) as at,
               (unnest(at) at time zone 'UTC')::date as day, unnest(part.permits) as permit,
               unnest(consent_sources) as consent_source, unnest(sources) as source,
               unnest(are_proved) as is_proved, unnest(are_removals) as is_removal
        from part
    ),
    removal as materialized (select a as node, max(at) as at from said where is_removal group by a),
    judged as materialized (
        select said.*,
               exists (
                   select from avtryck.subject_permit as refused
                   where refused.subject = said.a and refused.permit & 19 <> 19 and refused.at >= said.at
                     and refused.permit & 1 = 1 and refused.consent_source in (2, 3, 4, 5))
               or exists (
                   select from avtryck.subject_permit as refused
                   where refused.subject = said.b and refused.permit & 19 <> 19 and refused.at >= said.at
                     and refused.permit & 1 = 1 and refused.consent_source in (2, 3, 4, 5)) as is_refused
        from said
        left join removal as of_a on of_a.node = said.a
        left join removal as of_b on of_b.node = said.b
        where not is_removal and said.at > coalesce(greatest(of_a.at, of_b.at), '-infinity')
    ),
    told as (
        update avtryck.subject_permit as permit set changed_at = clock_timestamp()
        where permit.subject in (select a from judged where is_refused union select b from judged where is_refused)
    ),
    tie as (select * from judged where not is_refused)
    insert into avtryck.link_edge as known
        (a, b, a_kind, b_kind, partner, first_day, last_day, proved_day, permit, consent_source, source)
    select a, b, min(a_kind), min(b_kind), max(partner), min(day), max(day), max(day) filter (where is_proved),
           (array_agg(permit order by at desc, permit))[1],
           (array_agg(consent_source order by at desc, permit, consent_source))[1],
           min(source)
    from tie group by a, b order by a, b
    on conflict (a, b) do update
    set first_day = least(known.first_day, excluded.first_day),
        last_day = greatest(known.last_day, excluded.last_day),
        proved_day = greatest(known.proved_day, excluded.proved_day),
        permit = case when excluded.last_day >= known.last_day then excluded.permit else known.permit end,
        consent_source =
            case when excluded.last_day >= known.last_day then excluded.consent_source else known.consent_source end,
        source = least(known.source, excluded.source),
        is_new = known.is_new or known.proved_day is null and excluded.proved_day is not null
                 -- Owners have days of their own.
                 or 5 in (known.a_kind, known.b_kind) and excluded.last_day > known.last_day;
end
$$
