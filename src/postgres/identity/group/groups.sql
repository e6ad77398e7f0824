-- $1: groups, $2: their sizes, $3: whether a tie to one of its IDs was left out; $4: groups that are no more.
with ended as (delete from avtryck.device_group where device_group = any($4)),
unowned as (delete from avtryck.device_owner where device_group = any($4))
insert into avtryck.device_group as known (device_group, size, is_capped, is_shared, since, changed_at)
select device_group, size, is_capped, false, now(), now()
from unnest($1::bigint[], $2::smallint[], $3::boolean[]) as kept (device_group, size, is_capped)
on conflict (device_group) do update
set size = excluded.size, is_capped = excluded.is_capped, changed_at = now()
where (known.size, known.is_capped) <> (excluded.size, excluded.is_capped)
