-- $2: how many. The columns are those of `HeldHit`.
select (extract(epoch from received_at) * 1000000)::bigint as received_at,
       avtryck.kind_name(recent.kind) as kind, page_url, event_name,
       place.country, place.region, place.city, network.name as network,
       device.class as device_class, device.brand as device_brand, device.model as device_model,
       device.os, device.browser, host(client_ip) as client_ip, ad.campaign, ad.creative
from (select * from recent order by received_at desc limit $2) as recent
left join avtryck.place on place.key = recent.place_key
left join avtryck.network on network.key = recent.network_key
left join avtryck.device on device.key = recent.device_key
left join avtryck.ad on ad.key = recent.ad_key
order by recent.received_at desc
