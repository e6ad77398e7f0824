-- $1: IDs that have become hubs. Takes them out of their groups, and returns the numbers of these.
with hub as (select node, device_group, proved_group from avtryck.link_node where node = any($1)),
changed as (
    update avtryck.link_node as known set state = 1, hub_since = (now() at time zone 'UTC')::date, device_group = 0, proved_group = 0
    from hub where known.node = hub.node
),
told as (
    insert into avtryck.link_change (at, node, from_group, to_group, reason)
    select now(), node, nullif(device_group, 0), null, 'hub' from hub
)
select device_group from hub where device_group <> 0 union select proved_group from hub where proved_group <> 0
