-- $1: a visitor who is known. Their device is never in a household again.
insert into avtryck.household_never (key)
select avtryck.household_gone_key(node) from (
    select $1::uuid as node
    union
    select other.node from avtryck.link_node as known join avtryck.link_node as other using (proved_group)
    where known.node = $1 and known.proved_group <> 0
) as own
where exists (select from avtryck.subject_permit where subject = $1)
order by 1
on conflict do nothing
