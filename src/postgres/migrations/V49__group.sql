-- What keeps device groups in step with ties, and shows them.

-- Whatever deletes a tie notes the groups of its IDs, so that the job link splits them.
create function avtryck.note_lost_ties() returns trigger language plpgsql as $$
begin
    insert into avtryck.link_regroup (device_group)
    select known.device_group
    from (select a as node from gone union select b from gone) as ended
    join avtryck.link_node as known using (node) where known.device_group <> 0
    union
    select known.proved_group
    from (select a as node from gone union select b from gone) as ended
    join avtryck.link_node as known using (node) where known.proved_group <> 0
    on conflict do nothing;
    return null;
end
$$;
comment on function avtryck.note_lost_ties is 'Notes the device groups that lost a tie.';
create trigger lost_ties after delete on avtryck.link_edge referencing old table as gone
    for each statement execute function avtryck.note_lost_ties();

create function avtryck.owner_on(device_group bigint, day date) returns uuid language sql stable parallel safe
    return (select owner.owner from avtryck.device_owner as owner
            where owner.device_group = $1 and owner.first_day <= $2 and owner.last_day + 7 >= $2
            order by owner.last_day desc, owner.first_day desc, owner.owner limit 1);
comment on function avtryck.owner_on is 'Who owned a device on a UTC day: of several, who was seen on it last. Days are known to a week.';

create view avtryck.device_group_detail as
select known.device_group, nullif(known.proved_group, 0) as proved_group, avtryck.node_kind_name(known.kind) as kind,
       avtryck.subject_key(known.node, known.kind) as key, nullif(known.partner, '') as partner, known.degree,
       known.first_day, known.last_day, device.size, device.is_capped, device.is_shared, device.since, device.changed_at
from avtryck.link_node as known
join avtryck.device_group as device using (device_group);
comment on view avtryck.device_group_detail is 'The IDs of each device group, a row each. IDs are given by their keys.';
comment on column avtryck.device_group_detail.device_group is 'As device_group.device_group.';
comment on column avtryck.device_group_detail.proved_group is 'As link_node.proved_group; null where it is alone over proved ties.';
comment on column avtryck.device_group_detail.kind is 'visitor, maid, device_id or partner_uid.';
comment on column avtryck.device_group_detail.key is 'The key of the ID, as suppression.key.';
comment on column avtryck.device_group_detail.partner is 'The partner''s key, of a partner''s ID.';
comment on column avtryck.device_group_detail.degree is 'As link_node.degree.';
comment on column avtryck.device_group_detail.first_day is 'As link_node.first_day.';
comment on column avtryck.device_group_detail.last_day is 'As link_node.last_day.';
comment on column avtryck.device_group_detail.size is 'As device_group.size.';
comment on column avtryck.device_group_detail.is_capped is 'As device_group.is_capped.';
comment on column avtryck.device_group_detail.is_shared is 'As device_group.is_shared.';
comment on column avtryck.device_group_detail.since is 'As device_group.since.';
comment on column avtryck.device_group_detail.changed_at is 'As device_group.changed_at.';

create view avtryck.link_conflict as
select avtryck.subject_key(edge.a, edge.a_kind) as a_key, avtryck.node_kind_name(edge.a_kind) as a_kind,
       avtryck.subject_key(edge.b, edge.b_kind) as b_key, avtryck.node_kind_name(edge.b_kind) as b_kind,
       nullif(one.device_group, 0) as a_group, nullif(other.device_group, 0) as b_group,
       case when one.state = 1 or other.state = 1 then 'hub'
            when one.state <> 0 or other.state <> 0 then 'blocked'
            when exists (select from avtryck.link_forbidden as apart
                         join avtryck.link_node as x on x.node = apart.a
                         join avtryck.link_node as y on y.node = apart.b
                         where x.device_group in (one.device_group, other.device_group)
                           and y.device_group in (one.device_group, other.device_group)) then 'not_mine'
            else 'cap' end as reason,
       edge.first_day, edge.last_day, edge.proved_day
from avtryck.link_edge as edge
join avtryck.link_node as one on one.node = edge.a
join avtryck.link_node as other on other.node = edge.b
where edge.a_kind <> 5 and edge.b_kind <> 5 and not edge.is_new
  and (one.device_group <> other.device_group or one.device_group = 0);
comment on view avtryck.link_conflict is 'Ties that join nothing, with the reason.';
comment on column avtryck.link_conflict.a_key is 'The key of the smaller ID, as suppression.key.';
comment on column avtryck.link_conflict.a_kind is 'Its kind.';
comment on column avtryck.link_conflict.b_key is 'The key of the larger ID.';
comment on column avtryck.link_conflict.b_kind is 'Its kind.';
comment on column avtryck.link_conflict.a_group is 'The device group of the smaller ID; null where it has none.';
comment on column avtryck.link_conflict.b_group is 'The device group of the larger.';
comment on column avtryck.link_conflict.reason is 'hub (one of them has more ties than one device can have), blocked, not_mine (a visitor said so), cap (together they would be too many).';
comment on column avtryck.link_conflict.first_day is 'As link_edge.first_day.';
comment on column avtryck.link_conflict.last_day is 'As link_edge.last_day.';
comment on column avtryck.link_conflict.proved_day is 'As link_edge.proved_day.';
