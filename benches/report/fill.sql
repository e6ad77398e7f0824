-- What `benches/report.rs` fills tables with: of the hits of a day 60 % are about ads. Each is drawn anew, so days differ.

create schema bench;

insert into avtryck.site (key, site) select n, 'site-' || n from generate_series(1, 3) as n;
insert into avtryck.device (key, class, brand, is_bot)
select n, (array['phone', 'phone', 'phone', 'desktop', 'tablet', 'tv'])[1 + n % 6], 'brand-' || n, false
from generate_series(1, 60) as n;
insert into avtryck.place (key, country, region)
select n, case when n <= 21 then 'SE' else (array['NO', 'DK', 'FI'])[1 + n % 3] end, lpad(n::text, 2, '0')
from generate_series(1, 25) as n;
insert into avtryck.network (key, asn, name) select n, n, 'network-' || n from generate_series(1, 20) as n;
-- Ten campaigns, each of four creatives on five placements.
insert into avtryck.ad (key, partner, campaign, creative, placement, publisher)
select n, 'partner-' || n % 2, 'campaign-' || n % 10, 'creative-' || n / 10 % 4, 'placement-' || n / 40, 'publisher-' || n / 40 % 3
from generate_series(0, 199) as n;

create function bench.visitor(draw double precision, visitors bigint) returns uuid language sql immutable parallel safe
-- Few visitors come often: the square of an even draw.
    return md5(floor(draw * draw * visitors)::bigint::text)::uuid;

create function bench.fill(day date, hits bigint, visitors bigint, until timestamptz) returns void language sql as $$
    select avtryck.make_hit_day(day);
    insert into avtryck.hit
        (received_at, site_key, place_key, network_key, device_key, ad_key, flags, kind, permit, consent_source, hit_id,
         visitor_id, page_url, referrer, event_name, event_id, click_id, exposure_number, params)
    select avtryck.day_start(day) + n * (interval '1 day' / hits), 1 + floor(random() * 3), 1 + floor(pow(random(), 3) * 25),
           1 + floor(pow(random(), 2) * 20), 1 + floor(pow(random(), 2) * 60),
           case when is_about_ad then floor(pow(random(), 2) * 200) end,
           case when random() < 0.04 then 16384 when random() < 0.02 then 512 when random() < 0.2 then 16 else 0 end,
           kind, 63, 4, gen_random_uuid(), bench.visitor(random(), visitors),
           'https://shop.example/product/' || floor(pow(random(), 2) * 500) || '?utm_source=mail',
           case when random() < 0.3 then 'https://www.google.com/' end,
           case when kind = 2 then case when name < 0.02 then 'conversion'
                                        when name < 0.5 then 'measurable' when name < 0.8 then 'viewable' else 'order' end end,
           null, case when kind = 4 then 'click-' || day || '-' || n end, 1, '{}'
    from generate_series(0, hits - 1) as n
    cross join lateral (select random() + n * 0 as draw, random() + n * 0 as name) as drawn
    cross join lateral (
        select case when draw < 0.55 then 3 when draw < 0.56 then 4 when draw < 0.71 then 2 else 1 end::smallint as kind,
               draw < 0.60 as is_about_ad
    ) as of
    where avtryck.day_start(day) + n * (interval '1 day' / hits) < until;
    insert into avtryck.hit_count (minute, site_key, ad_key, kind, hits)
    select avtryck.day_start(day) + minute * interval '1 minute', site, ad, 3, 1 + minute % 3
    from generate_series(0, 1439, 10) as minute, generate_series(1, 3) as site, generate_series(0, 199, 20) as ad;
$$;
