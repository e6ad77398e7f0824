-- $1: since when, in microseconds since 1970; $2: how many. The permits that changed since then, the oldest first.
select subject, site, partner, permit, consent_source, (extract(epoch from changed_at) * 1000000)::bigint as changed_at
from avtryck.subject_permit
where changed_at > timestamptz 'epoch' + $1::bigint * interval '1 microsecond'
order by subject_permit.changed_at
limit $2::bigint
