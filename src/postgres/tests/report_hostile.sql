-- 10,000 clicks and 20,000 conversions that name each other: the same click ID, visitor, MAID, partner's ID and event ID in
-- all of them; a quarter of the conversions follow the visitor's clicks, a quarter name a campaign that was never clicked,
-- and the others come from new visitors. The visitor also saw 50,000 impressions and 50,000 pages.
insert into avtryck.hit
    (received_at, site_key, device_key, place_key, ad_key, flags, kind, permit, consent_source, hit_id,
     visitor_id, partner_uid, maid, event_name, event_id, click_id, exposure_number)
select timestamptz '2026-11-24T12:00Z' + apart * n, 1, 1, 1, case when part = 2 and n % 2 = 1 then 1 else ad end, 0, kind::smallint, 63, 4, gen_random_uuid(),
       case when is_new then gen_random_uuid() else 'bbbbbbbb-0000-0000-0000-000000000001' end,
       case when not is_new then 'one' end, case when not is_new then 'one' end,
       case when kind = 2 then 'conversion' end, 'one',
       case when kind = 4 or is_new then 'one' when kind = 2 and n % 2 = 0 then 'other' end, case when kind in (3, 4) then 1 end
from (values
    (1, 10000, 4, 1, false, interval '200 ms'), (2, 10000, 2, 3, false, interval '200 ms'),
    (3, 10000, 2, null, true, interval '300 ms'), (4, 50000, 3, 1, false, interval '40 ms'), (5, 50000, 1, null, false, interval '40 ms')
) as hits (part, hits, kind, ad, is_new, apart)
cross join lateral generate_series(1, hits) as n;
insert into avtryck.exposure
select 'bbbbbbbb-0000-0000-0000-000000000001', n, '2026-11-24Z', '2026-11-24Z', 1, 1 from generate_series(1, 20000) as n;
insert into avtryck.exposure_part
select array_agg('bbbbbbbb-0000-0000-0000-000000000001'::uuid), array_agg(n), array_agg(timestamptz '2026-11-24Z'),
       array_agg(timestamptz '2026-11-24Z'), array_agg(1), array_agg(1) from generate_series(1, 20000) as n;
insert into avtryck.hit_count (minute, site_key, ad_key, kind, hits)
select timestamptz '2026-11-24Z' + n % 1440 * interval '1 minute', 1, n, 3, 1 from generate_series(10, 20000) as n;
