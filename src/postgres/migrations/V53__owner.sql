-- An ID's owners are those whose ties to it, or to an ID that proved ties join to it, are proved. Somebody who names the
-- MAID of another comes into the same device group by a tie that nothing proves, and is told of no owner by it.
create or replace view avtryck.device_owner_detail as
select owner as node, device_group, null::uuid as owner_key, first_day, last_day, days,
       avtryck.permit_names(permit) as permit, is_proved
from avtryck.device_owner
union all
select known.node, known.device_group, tie.owner, min(tie.first_day), max(tie.last_day), count(*)::smallint,
       avtryck.permit_names((array_agg(tie.permit order by tie.last_day desc, tie.permit))[1]), true
from avtryck.link_node as known
cross join lateral (
    select known.node
    union
    select other.node from avtryck.link_node as other
    where other.proved_group = known.proved_group and known.proved_group <> 0
) as held
cross join lateral (
    select b as owner, first_day, last_day, permit from avtryck.link_edge
    where a = held.node and b_kind = 5 and proved_day is not null
    union all
    select a, first_day, last_day, permit from avtryck.link_edge
    where b = held.node and a_kind = 5 and proved_day is not null
) as tie
where known.device_group <> 0
group by known.node, known.device_group, tie.owner;
comment on column avtryck.device_owner_detail.first_day is 'As device_owner.first_day; for an ID over proved ties alone, as the next three.';
