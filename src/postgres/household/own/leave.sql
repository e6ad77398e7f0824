-- $1: a visitor. Their device leaves its household, and is not put back with those who are in it.
with own as (
    select $1::uuid as node
    union
    select other.node from avtryck.link_node as known join avtryck.link_node as other using (proved_group)
    where known.node = $1 and known.proved_group <> 0
),
home as (
    select household from avtryck.household_member
    where node in (select node from own) and household is not null
),
apart as (
    insert into avtryck.household_apart (node, other)
    select $1, member.node from avtryck.household_member as member
    where coalesce(member.household, member.proposed) in (select household from home)
      and member.node not in (select node from own)
    on conflict do nothing
),
unshown as (delete from avtryck.household_shown where node in (select node from own))
delete from avtryck.household_member where node in (select node from own)
