-- $1: the visitor.
select count(*) as hits,
       (extract(epoch from min(received_at)) * 1000000)::bigint as first_at,
       count(*) filter (where kind = 3) as ads_seen,
       count(*) filter (where kind = 4) as ads_clicked
from avtryck.hit
where visitor_id = $1
