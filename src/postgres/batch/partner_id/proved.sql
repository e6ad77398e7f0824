-- $1: visitors; $2: partners; $3: the partners' IDs; $4: when, in microseconds. Links that were signed. What was only
-- claimed of the same visitor or the same ID goes.
with new as materialized (
    select visitor, partner, uid, timestamptz 'epoch' + min(at) * interval '1 microsecond' as first_seen,
           timestamptz 'epoch' + max(at) * interval '1 microsecond' as last_seen
    from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[]) as new (visitor, partner, uid, at)
    group by 1, 2, 3
),
claimed as (
    select old.visitor_id, old.partner, old.partner_uid
    from new join avtryck.partner_id as old on old.visitor_id = new.visitor and old.partner = new.partner
    where not old.is_proved and old.partner_uid <> new.uid
    union
    select old.visitor_id, old.partner, old.partner_uid
    from new join avtryck.partner_id as old on old.partner_uid = new.uid and old.partner = new.partner
    where not old.is_proved and old.visitor_id <> new.visitor
),
locked as materialized (
    select visitor_id, partner, partner_uid from avtryck.partner_id join claimed using (visitor_id, partner, partner_uid)
    order by 1, 2, 3 for update of partner_id
),
deleted as (
    delete from avtryck.partner_id using locked
    where (partner_id.visitor_id, partner_id.partner, partner_id.partner_uid)
        = (locked.visitor_id, locked.partner, locked.partner_uid)
)
insert into avtryck.partner_id (visitor_id, partner, partner_uid, first_seen, last_seen, is_proved)
select visitor, partner, uid, first_seen, last_seen, true from new order by 1, 2, 3
on conflict (visitor_id, partner, partner_uid)
do update set first_seen = least(partner_id.first_seen, excluded.first_seen),
              last_seen = greatest(partner_id.last_seen, excluded.last_seen), is_proved = true
