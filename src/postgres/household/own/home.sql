-- $1: a visitor, $2: a site. What is shown of the visitor's home, if they permit it there now.
with own as (select node, proved_group from avtryck.link_node where node = $1),
device as (
    select coalesce((select min(other.node::text)::uuid from own join avtryck.link_node as other using (proved_group)
                     where own.proved_group <> 0), $1) as node
)
select exists (select from avtryck.household_never where key = avtryck.household_gone_key($1)) as is_never,
       shown.others, shown.days, shown.addresses
from device left join avtryck.household_shown as shown
  on shown.node = device.node and shown.others <> 0
 and exists (select from avtryck.subject_permit
             where subject = $1 and site = $2 and partner = '' and permit & 51 = 51)
 and avtryck.permits_now($1, 51::smallint)
