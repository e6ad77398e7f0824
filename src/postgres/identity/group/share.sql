-- As for owners. A device is shared that had two owners or more within 90 days.
with about as (
    select unnest($1::bigint[]) as device_group
    union select device_group from avtryck.link_node where node = any($2) or node = any($3)
),
told as (
    select known.device_group,
           (select count(*) > 1 from avtryck.device_owner as owner
            where owner.device_group = known.device_group
              and owner.last_day > (select max(last_day) - 90 from avtryck.device_owner as last
                                    where last.device_group = known.device_group)) as is_shared
    from avtryck.device_group as known join about using (device_group)
)
update avtryck.device_group as known set is_shared = told.is_shared, changed_at = now()
from told where told.device_group = known.device_group and told.is_shared <> known.is_shared
