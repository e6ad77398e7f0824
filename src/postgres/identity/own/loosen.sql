-- $1, $2: IDs. Notes that their groups are to be found anew, and returns these.
with own as (
    select device_group from avtryck.link_node where node in ($1, $2) and device_group <> 0
    union
    select proved_group from avtryck.link_node where node in ($1, $2) and proved_group <> 0
),
noted as (insert into avtryck.link_regroup (device_group) select device_group from own on conflict do nothing)
select device_group from own
