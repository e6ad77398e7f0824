-- $1: the visitor; $2: how many.
select partner, campaign, creative,
       count(*) filter (where kind = 'impression') as seen,
       count(*) filter (where kind = 'click') as clicked,
       (extract(epoch from max(received_at)) * 1000000)::bigint as last_at
from avtryck.hit_detail
where visitor_id = $1 and kind in ('impression', 'click')
group by partner, campaign, creative
order by max(received_at) desc
limit $2
