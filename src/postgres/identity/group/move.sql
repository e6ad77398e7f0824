-- $1: IDs, $2: their former groups, $3: their new ones, $4: the reasons.
with moved as (
    select * from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[]) as moved (node, from_group, to_group, reason)
),
changed as (
    update avtryck.link_node as known set device_group = moved.to_group from moved where known.node = moved.node
)
insert into avtryck.link_change (at, node, from_group, to_group, reason)
select now(), node, from_group, to_group, reason from moved
