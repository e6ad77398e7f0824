-- $1: the visitor; $2: how many. The columns are those of `HeldHit`.
select (extract(epoch from received_at) * 1000000)::bigint as received_at,
       kind, page_url, event_name, country, region, city, network,
       device_class, device_brand, device_model, os, browser, host(client_ip) as client_ip,
       campaign, creative
from avtryck.hit_detail
where visitor_id = $1
order by hit_detail.received_at desc
limit $2
