-- $1: IDs that have become hubs among all ties, $2: those among the proved ones. Takes them out of their groups, and
-- returns the numbers of these.
with hub as (select node, device_group from avtryck.link_node where node = any($1)),
proved_hub as (select node, proved_group from avtryck.link_node where node = any($2)),
changed as (
    update avtryck.link_node as known
    set state = case when known.node = any($1) then 1 else known.state end,
        hub_since = case when known.node = any($1) then (now() at time zone 'UTC')::date else known.hub_since end,
        device_group = case when known.node = any($1) then 0 else known.device_group end,
        proved_hub_since = case when known.node = any($2) then (now() at time zone 'UTC')::date else known.proved_hub_since end,
        proved_group = case when known.node = any($2) then 0 else known.proved_group end
    where known.node = any($1::uuid[] || $2::uuid[])
),
told as (
    insert into avtryck.link_change (at, node, from_group, to_group, reason)
    select now(), node, nullif(device_group, 0), null, 'hub' from hub
)
select device_group from hub where device_group <> 0 union select proved_group from proved_hub where proved_group <> 0
