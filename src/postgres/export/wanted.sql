-- $1: a partner; $2: the kind of the IDs that it knows; $3: members of a segment. Those whom it may be told of, with
-- the ID: a visitor by the partner's ID that the partner itself signed last, and any other by its own ID, where
-- somebody vouches for what is known of it. An ID that stands or stood for a visitor is told for that visitor alone.
select known.subject, known.subject_key, known.id, known.id_key, allowed.permit
from (
    select member.subject, avtryck.subject_key(member.subject, 1::smallint) as subject_key,
           paired.partner_uid as id, avtryck.partner_uid_key($1, paired.partner_uid) as id_key
    from unnest($3::uuid[]) as member (subject)
    cross join lateral (
        select own.partner_uid, own.last_seen from avtryck.partner_id as own
        where own.visitor_id = member.subject and own.partner = $1 and own.is_proved
        order by own.last_seen desc, own.partner_uid limit 1
    ) as paired
    where $2::smallint = 4 and not exists (
        select from avtryck.partner_id as other
        where other.partner_uid = paired.partner_uid and other.partner = $1 and other.is_proved
          and (other.last_seen, other.visitor_id) > (paired.last_seen, member.subject)
    )
    union all
    select own.subject, own.subject, own.id, own.subject
    from unnest($3::uuid[]) as member (subject) join avtryck.subject_id as own using (subject)
    where own.kind = $2 and (own.kind <> 4 or own.partner = $1)
      and (own.kind <> 4
           or not exists (select from avtryck.partner_id as paired
                          where paired.partner = $1 and paired.partner_uid = own.id and paired.is_proved)
              and not exists (select from avtryck.export_past as past
                              where past.partner = $1 and past.id_key = own.subject and past.subject_key <> own.subject))
      and exists (select from avtryck.subject_seen as seen where seen.subject = own.subject)
) as known
cross join lateral (
    select permit.permit from avtryck.subject_permit as permit
    where permit.subject = known.subject and permit.partner = $1 and permit.permit & 15 = 15
    order by permit.at desc, permit.site limit 1
) as allowed
where avtryck.permits_export(known.subject, $1)
  and not exists (select from avtryck.suppression where suppression.key in (known.id_key, known.subject_key))
