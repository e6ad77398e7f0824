-- $1: keys; $2: kinds of ID; $3: reasons. An erasure stays one where a withdrawal follows it.
insert into avtryck.suppression (key, since, id_kind, reason, day)
select key, now(), min(id_kind), min(reason), coalesce((select days from avtryck.clock), 0)
from unnest($1::uuid[], $2::text[], $3::text[]) as entry (key, id_kind, reason)
group by key
order by key
on conflict (key) do update
set since = excluded.since, day = excluded.day, reason = least(suppression.reason, excluded.reason)
