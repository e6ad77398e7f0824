select avtryck.make_hit_day(day)
from unnest(array['2026-10-15', '2026-11-22', '2026-11-23', '2026-11-24', '2026-11-25']::date[]) as day;
insert into avtryck.site values (1, 'shop', null);
insert into avtryck.device (key, class, is_bot) values (1, 'phone', false), (2, 'desktop', false);
insert into avtryck.place (key, country, region) values (1, 'SE', 'AB'), (2, 'NO', '03');
insert into avtryck.ad (key, partner, campaign, creative, placement, publisher) values
    (1, 'adform', 'spring', 'big', 'top', 'dn.se'),
    (2, 'adform', 'spring', 'small', 'side', 'dn.se'),
    (3, 'adform', 'autumn', 'big', 'top', 'dn.se'),
    (4, 'adform', null, null, 'top', 'dn.se');
insert into avtryck.hit
    (received_at, site_key, device_key, place_key, ad_key, flags, kind, permit, consent_source, hit_id,
     visitor_id, partner_uid, event_name, click_id, exposure_number)
select received_at::timestamptz, 1, device, device, ad, flags, kind, 63, 4, ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid,
       case when visitor > 0 then ('aaaaaaaa-0000-0000-0000-' || lpad(visitor::text, 12, '0'))::uuid end,
       uid, event_name, click_id, exposure_number
from (values
    -- A click that is too long ago for 30 days.
    (1, '2026-10-15T12:00Z', 1, 1, 0, 4, 7, null, null, 'old', 1),
    -- Visitor 1 sees an ad twice, the first time the day before, and clicks.
    (2, '2026-11-23T12:00Z', 1, 1, 0, 3, 1, null, null, null, 1),
    (3, '2026-11-24T10:00Z', 1, 1, 0, 3, 1, null, null, null, 2),
    (4, '2026-11-24T10:01Z', 1, 1, 0, 3, 1, null, null, null, 3),
    (5, '2026-11-24T10:02Z', 1, 1, 0, 4, 1, null, null, 'k1', 3),
    -- Visitor 2 is a robot.
    (6, '2026-11-24T10:03Z', 2, 1, 16384, 3, 2, null, null, null, 1),
    -- Visitor 3's page was fetched ahead; visitor 4 is shown a preview.
    (7, '2026-11-24T10:04Z', 1, 2, 8, 3, 3, null, null, null, null),
    (8, '2026-11-24T10:05Z', 1, 2, 256, 4, 3, null, null, 'k3', null),
    -- Nobody, and somebody whom only the partner knows.
    (9, '2026-11-24T10:06Z', 1, 1, 0, 3, 0, null, null, null, null),
    (10, '2026-11-24T10:07Z', 1, 1, 0, 5, 0, 'u1', 'impression', null, 1),
    -- Visitor 4 clicks what was not shown.
    (11, '2026-11-24T10:08Z', 1, 2, 2048, 4, 4, null, null, 'k4', 0),
    -- An event that is no conversion.
    (12, '2026-11-24T10:09Z', 1, 1, 0, 2, 1, null, 'viewable', null, null),
    -- Conversions: of visitor 1, who brings the click's ID; of visitor 4, by the visitor; of nobody, by the
    -- partner's callback; of visitor 2, who was only shown an ad; of visitor 5, who had nothing to do with any; of
    -- visitor 6, for somebody's click of 40 days ago; of visitor 1, for a campaign that was neither clicked nor shown.
    (20, '2026-11-24T11:00Z', 2, null, 0, 2, 1, null, 'conversion', 'k1', null),
    (21, '2026-11-24T11:01Z', 1, null, 0, 2, 4, null, 'conversion', null, null),
    (22, '2026-11-24T11:02Z', null, 3, 0, 5, 0, 'u2', 'conversion', null, null),
    (23, '2026-11-24T11:03Z', 2, 4, 0, 2, 2, null, 'conversion', null, null),
    (24, '2026-11-24T11:04Z', 1, null, 0, 2, 5, null, 'conversion', null, null),
    (25, '2026-11-24T11:05Z', 1, null, 0, 2, 6, null, 'conversion', 'old', null),
    (26, '2026-11-24T11:06Z', 1, 3, 0, 2, 1, null, 'conversion', null, null)
) as hits (n, received_at, device, ad, flags, kind, visitor, uid, event_name, click_id, exposure_number);
insert into avtryck.hit_count (minute, site_key, ad_key, kind, hits) values
    ('2026-11-24T00:00Z', 1, 1, 3, 5), ('2026-11-24T23:59Z', 1, 1, 4, 1), ('2026-11-24T12:00Z', 1, 0, 1, 9),
    ('2026-11-23T23:59Z', 1, 1, 3, 7), ('2026-11-25T00:00Z', 1, 1, 3, 8);
insert into avtryck.exposure values ('aaaaaaaa-0000-0000-0000-000000000001', 1, '2026-11-23T12:00Z', '2026-11-24T10:01Z', 3, 1);
