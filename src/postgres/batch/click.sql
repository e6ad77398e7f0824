-- $1: IDs of clicks. The first click of each, with the first visitor whose conversion followed it. `order by` and
-- `limit` go by an index however many hits name the same click.
select wanted.click_id, click.visitor_id, click.flags & 64 <> 0 as is_third_party, follower.visitor_id as follower
from unnest($1::text[]) as wanted (click_id)
cross join lateral (
    select visitor_id, flags from avtryck.hit
    where hit.click_id = wanted.click_id and kind = 4 and avtryck.is_counted(flags)
      and received_at >= now() - interval '31 days'
    order by received_at limit 1) as click
left join lateral (
    select visitor_id from avtryck.hit
    where hit.click_id = wanted.click_id and kind = 2 and event_name = 'conversion' and flags & 16777216 = 0
      and received_at >= now() - interval '31 days'
    order by received_at limit 1) as follower on true
