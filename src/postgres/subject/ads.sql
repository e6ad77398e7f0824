-- $2: how many. Impressions are 3, clicks 4.
select partner, campaign, creative,
       count(*) filter (where kind = 3) as seen,
       count(*) filter (where kind = 4) as clicked,
       (extract(epoch from max(received_at)) * 1000000)::bigint as last_at
from recent
left join avtryck.ad on ad.key = recent.ad_key
where kind in (3, 4)
group by partner, campaign, creative
order by max(received_at) desc
limit $2
