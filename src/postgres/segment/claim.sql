-- $1: key; $2: digest; $3: min_size; $4, $5: names; $6, $7: reasons. Notes that a segment is in use; returns its number.
insert into avtryck.segment as known (key, digest, min_size, name_sv, name_en, reason_sv, reason_en, full_began_at, next_range)
values ($1, $2, $3, $4, $5, $6, $7, now(), 0)
on conflict (key) do update
set min_size = excluded.min_size, claimed_at = now(), ended_at = null, digest = excluded.digest,
    name_sv = excluded.name_sv, name_en = excluded.name_en, reason_sv = excluded.reason_sv, reason_en = excluded.reason_en,
    is_exposed = known.is_exposed and known.size >= excluded.min_size,
    full_began_at = case when known.digest = excluded.digest and known.ended_at is null then known.full_began_at else now() end,
    full_at = case when known.digest = excluded.digest and known.ended_at is null then known.full_at end,
    next_range = case when known.digest = excluded.digest and known.ended_at is null then known.next_range else 0 end,
    state = case when known.digest = excluded.digest and known.ended_at is null then known.state else 'behind' end,
    error = case when known.digest = excluded.digest and known.ended_at is null then known.error end,
    failed_at = case when known.digest = excluded.digest and known.ended_at is null then known.failed_at end
returning segment
