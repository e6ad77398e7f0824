-- $1: visitors; $2: partners; $3: the partners' IDs; $4: when, in microseconds. Links that anybody can claim: none
-- stands beside a signed one of the same visitor or the same ID.
with new as materialized (
    select visitor, partner, uid, timestamptz 'epoch' + min(at) * interval '1 microsecond' as first_seen,
           timestamptz 'epoch' + max(at) * interval '1 microsecond' as last_seen
    from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[]) as new (visitor, partner, uid, at)
    group by 1, 2, 3
)
insert into avtryck.partner_id (visitor_id, partner, partner_uid, first_seen, last_seen)
select visitor, partner, uid, first_seen, last_seen from new
where not exists (
        select from avtryck.partner_id as proved
        where proved.is_proved and proved.visitor_id = new.visitor and proved.partner = new.partner
          and proved.partner_uid <> new.uid)
  and not exists (
        select from avtryck.partner_id as proved
        where proved.is_proved and proved.partner_uid = new.uid and proved.partner = new.partner
          and proved.visitor_id <> new.visitor)
order by 1, 2, 3
on conflict (visitor_id, partner, partner_uid)
do update set first_seen = least(partner_id.first_seen, excluded.first_seen),
              last_seen = greatest(partner_id.last_seen, excluded.last_seen)
