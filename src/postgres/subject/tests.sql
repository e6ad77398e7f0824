select avtryck.make_hit_day(day) from unnest(array['2026-11-22', '2026-11-23', '2026-11-24']::date[]) as day;
insert into avtryck.site values (1, 'shop', null);
insert into avtryck.place (key, country, city) values (1, 'SE', 'Solna');
insert into avtryck.device (key, class, is_bot) values (1, 'phone', false);
insert into avtryck.ad (key, partner) values (1, 'adform'), (2, 'other'), (3, null);
insert into avtryck.hit
    (received_at, site_key, place_key, device_key, ad_key, flags, kind, permit, consent_source, hit_id,
     visitor_id, partner_uid, maid, client_ip, params)
select received_at::timestamptz, 1, 1, 1, ad_key, 0, kind, 3, 4, gen_random_uuid(),
       visitor::uuid, partner_uid, maid, '192.0.2.0/24', '{"plan": 1}'
from (values
    -- Anna's, on three days.
    ('2026-11-22T10:00Z', 1, 3, 'a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1', '7', null),
    ('2026-11-23T10:00Z', null, 4, 'a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1', null, '38400000-8CF0-11BD-B23E-10B96E40000D'),
    ('2026-11-24T10:00Z', null, 1, 'a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1', null, null),
    -- Her MAID alone.
    ('2026-11-24T11:00Z', null, 2, null, null, '38400000-8cf0-11bd-b23e-10b96e40000d'),
    -- Others, one with the same text as a partner's ID for her.
    ('2026-11-24T12:00Z', 2, 3, 'b0b0b0b0-b0b0-b0b0-b0b0-b0b0b0b0b0b0', '7', null),
    ('2026-11-24T12:01Z', 3, 3, null, '7', null),
    ('2026-11-24T12:02Z', null, 1, 'b0b0b0b0-b0b0-b0b0-b0b0-b0b0b0b0b0b0', null, 'another'),
    ('2026-11-24T12:03Z', null, 1, null, null, null)
) as hits (received_at, ad_key, kind, visitor, partner_uid, maid);
