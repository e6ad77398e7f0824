-- What is proved of a click and of a partner's ID, and what anybody may have claimed.

-- The loader looks for the first visitor who followed a click, whatever number of hits name the same click.
create index hit_follower on only avtryck.hit (click_id, received_at)
    where event_name = 'conversion' and click_id is not null and flags & 16777216 = 0;
select avtryck.index_hit_day(day) from avtryck.hit_day where day >= (now() at time zone 'UTC')::date - 1;

alter table avtryck.partner_id add column is_proved boolean not null default false;
comment on column avtryck.partner_id.is_proved is 'Whether the partner signed the pair. Any other is what a browser claims, and may be anybody''s: join by proved ones alone.';
-- A claim is compared with what is proved, whatever number of claims name the same ID.
create index partner_id_proved_visitor on avtryck.partner_id (visitor_id, partner) where is_proved;
create index partner_id_proved_uid on avtryck.partner_id (partner_uid, partner) where is_proved;
