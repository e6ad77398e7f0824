-- Thirty days of a campaign, for the pictures in the documentation. The same each time: nothing is drawn by chance.
select avtryck.make_hit_day(date '2026-11-01' + n) from generate_series(0, 29) as n;
insert into avtryck.site values (1, 'shop', null);
insert into avtryck.device (key, class, is_bot) values (1, 'phone', false), (2, 'desktop', false), (3, 'tablet', false), (4, 'tv', false);
insert into avtryck.place (key, country, region) values
    (1, 'SE', 'Stockholm'), (2, 'SE', 'Västra Götaland'), (3, 'SE', 'Skåne'), (4, 'SE', 'Uppsala'), (5, 'NO', 'Oslo'), (6, 'DK', 'Hovedstaden');
insert into avtryck.ad (key, partner, campaign, creative, placement, publisher) values
    (1, 'adform', 'spring', 'big', 'top', 'dn.se'), (2, 'adform', 'spring', 'small', 'side', 'dn.se'),
    (3, 'adform', 'spring', 'video', 'article', 'svd.se');
-- An event for each number: what it is follows from digits of a hash of it.
create temp table event as
select n, day, 1 + dice[1] % 3 as ad, (array[1, 1, 1, 1, 2, 2, 2, 3, 3, 4])[1 + dice[2] % 10] as device,
       (array[1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6])[1 + dice[3] % 12] as place, md5('visitor ' || dice[4] % 900 * (dice[5] % 900) / 900)::uuid as visitor,
       case when dice[6] % 25 = 0 then 16384 when dice[6] % 40 = 1 then 512 when dice[6] % 60 = 2 then 128 else 0 end as flags,
       dice[7] as dice, timestamptz '2026-11-01Z' + day * interval '1 day' + dice[8] % 86000 * interval '1 s' as at
from generate_series(0, 29) as day
-- Weekends are quieter, and the campaign fades.
cross join lateral generate_series(1, 
    (260 - day * 4) * (case extract(isodow from date '2026-11-01' + day) when 6 then 6 when 7 then 7 else 10 end)::integer / 10) as n
cross join lateral (select array_agg(('x' || substr(md5(day || ' ' || n || ' ' || die), 1, 6))::bit(24)::integer order by die)
                    from generate_series(1, 8) as die) as thrown (dice);
insert into avtryck.hit (received_at, site_key, device_key, place_key, ad_key, flags, kind, permit, consent_source, hit_id, visitor_id)
select at, 1, device, place, ad, flags, 3, 63, 4, md5('shown ' || day || ' ' || n)::uuid, visitor from event;
insert into avtryck.hit (received_at, site_key, device_key, place_key, ad_key, flags, kind, permit, consent_source, hit_id, visitor_id, event_name)
select at + interval '2 s', 1, device, place, ad, flags, 2, 63, 4, md5(name || day || ' ' || n)::uuid, visitor, name
from event cross join unnest(array['measurable', 'viewable']) as name where dice % 10 < case name when 'viewable' then 6 else 9 end;
insert into avtryck.hit (received_at, site_key, device_key, place_key, ad_key, flags, kind, permit, consent_source, hit_id, visitor_id, click_id)
select at + interval '5 s', 1, device, place, ad, flags, 4, 63, 4, md5('clicked ' || day || ' ' || n)::uuid, visitor, 'k' || day || '-' || n
from event where dice % 23 = 0;
insert into avtryck.hit
    (received_at, site_key, device_key, place_key, flags, kind, permit, consent_source, hit_id, visitor_id, event_name, event_id, click_id, params)
select at + interval '9 min', 1, device, place, 0, 2, 63, 4, md5('bought ' || day || ' ' || n)::uuid, visitor, 'conversion',
       'order ' || day || ' ' || n, 'k' || day || '-' || n, '{"value": 350, "currency": "SEK"}'
from event where dice % 23 = 0 and dice % 4 = 0 and flags = 0 and at < timestamptz '2026-11-01Z' + (day + 1) * interval '1 day' - interval '10 min';
insert into avtryck.hit_count (minute, site_key, ad_key, kind, hits)
select timestamptz '2026-11-01Z' + day * interval '1 day' + interval '12 hours', 1, 1, 3, 30 + day % 5 from generate_series(0, 29) as day;
