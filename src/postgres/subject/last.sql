-- $1: the visitor; $2: how many.
select (extract(epoch from received_at) * 1000000)::bigint as received_at,
       kind, site, page_url, referrer, event_name, country, region, city, network,
       device_class, device_brand, device_model, os, browser, host(client_ip) as client_ip,
       partner, partner_uid, maid, campaign, creative, placement, publisher
from avtryck.hit_detail
where visitor_id = $1
order by hit_detail.received_at desc
limit $2
