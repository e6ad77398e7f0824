-- Who is logged in, which visit it was, when it happened by the sender's clock, and in which protocol it arrived.
-- A hit of our own protocol that says none of it has four NULLs more, which take no byte of its row.

alter table avtryck.hit
    add column user_key uuid,
    add column session_id text,
    add column occurred_at timestamptz,
    add column protocol smallint;
comment on column avtryck.hit.user_key is 'Keyed hash of the sender''s ID of who is logged in (the first of user.keys); the ID itself is not held.';
comment on column avtryck.hit.session_id is 'The sender''s ID of a visit.';
comment on column avtryck.hit.occurred_at is 'When it happened by the sender''s clock, which is corrected where the sender says when it sent the hit; never after received_at, nor more than 30 days before it.';
comment on column avtryck.hit.protocol is 'Null for our own, 1 snowplow, 2 segment, 3 matomo, 4 plausible.';

-- Consent decides before anything is stored; this holds whatever program writes. Rows of before are not read for it.
alter table avtryck.hit add constraint hit_ids_need_store
    check (permit & 1 <> 0 or user_key is null and session_id is null and device_id is null) not valid;

create function avtryck.protocol_name(protocol smallint) returns text language sql immutable parallel safe
    return case when protocol is null then 'native'
                else (array['snowplow', 'segment', 'matomo', 'plausible'])[protocol] end;
comment on function avtryck.protocol_name is 'The protocol in which a hit arrived.';

comment on column avtryck.hit.flags is 'Set: 1 cleaned, 2 truncated, 4 macro, 8 prefetch, 16 new_visitor, 32 foreign_origin, 64 third_party, 128 over_limit, 256 preview, 512 bad_agent, 1024 data_centre, 2048 no_impression, 4096 fast_click, 8192 replayed, 16384 bot, 524288 wrong_clock, 1048576 mail_proxy, 2097152 id_conflict, 4194304 device_later, 8388608 other_ad, 16777216 foreign_click, 33554432 clock, 536870912 signed_only, 1073741824 signed.';

create or replace function avtryck.flag_names(flags integer) returns text[] language sql immutable parallel safe
    return array_remove(array[
        case when flags & 1 <> 0 then 'cleaned' end,
        case when flags & 2 <> 0 then 'truncated' end,
        case when flags & 4 <> 0 then 'macro' end,
        case when flags & 8 <> 0 then 'prefetch' end,
        case when flags & 16 <> 0 then 'new_visitor' end,
        case when flags & 32 <> 0 then 'foreign_origin' end,
        case when flags & 64 <> 0 then 'third_party' end,
        case when flags & 128 <> 0 then 'over_limit' end,
        case when flags & 256 <> 0 then 'preview' end,
        case when flags & 512 <> 0 then 'bad_agent' end,
        case when flags & 1024 <> 0 then 'data_centre' end,
        case when flags & 2048 <> 0 then 'no_impression' end,
        case when flags & 4096 <> 0 then 'fast_click' end,
        case when flags & 8192 <> 0 then 'replayed' end,
        case when flags & 16384 <> 0 then 'bot' end,
        case when flags & 524288 <> 0 then 'wrong_clock' end,
        case when flags & 1048576 <> 0 then 'mail_proxy' end,
        case when flags & 2097152 <> 0 then 'id_conflict' end,
        case when flags & 4194304 <> 0 then 'device_later' end,
        case when flags & 8388608 <> 0 then 'other_ad' end,
        case when flags & 16777216 <> 0 then 'foreign_click' end,
        case when flags & 33554432 <> 0 then 'clock' end,
        case when flags & 536870912 <> 0 then 'signed_only' end,
        case when flags & 1073741824 <> 0 then 'signed' end], null);

create or replace view avtryck.hit_detail as
select hit.hit_id, hit.received_at, avtryck.kind_name(hit.kind) as kind,
       site.site, site.category as site_category, hit.page_url, hit.referrer, hit.visitor_id,
       place.country, place.region, place.city, place.postal_code, place.latitude, place.longitude, place.time_zone,
       network.asn, network.name as network,
       device.class as device_class, device.brand as device_brand, device.model as device_model,
       device.os, device.os_version, device.browser, device.browser_version, device.is_bot,
       avtryck.flag_names(hit.flags) as flags, avtryck.permit_names(hit.permit) as permit,
       avtryck.consent_source_name(hit.consent_source) as consent_source,
       ad.partner, hit.partner_uid, hit.maid, hit.device_id,
       ad.campaign, ad.creative, ad.placement, ad.publisher,
       hit.event_name, hit.event_id, hit.client_ip, hit.params,
       hit.click_id, hit.exposure_number, hit.exposure_number > 1 as seen_before,
       hit.user_key, hit.session_id, hit.occurred_at, avtryck.protocol_name(hit.protocol) as protocol
from avtryck.hit
left join avtryck.site on site.key = hit.site_key
left join avtryck.place on place.key = hit.place_key
left join avtryck.network on network.key = hit.network_key
left join avtryck.device on device.key = hit.device_key
left join avtryck.ad on ad.key = hit.ad_key;
comment on column avtryck.hit_detail.user_key is 'Who is logged in: a keyed hash of the sender''s ID.';
comment on column avtryck.hit_detail.session_id is 'The sender''s ID of a visit.';
comment on column avtryck.hit_detail.occurred_at is 'When it happened by the sender''s clock, corrected; null where the sender says nothing of it.';
comment on column avtryck.hit_detail.protocol is 'native, snowplow, segment, matomo or plausible.';

-- Subject access by a user and by a device ID. Rows that have none are in neither.
create index hit_user_key on only avtryck.hit (user_key) where user_key is not null;
create index hit_device_id on only avtryck.hit (device_id collate "C") where device_id is not null;
select avtryck.index_hit_day(day) from avtryck.hit_day where day >= (now() at time zone 'UTC')::date - 1;
comment on column avtryck.suppression.id_kind is 'visitor, maid, partner_uid, device_id or user.';
comment on column avtryck.erasure.id_kind is 'visitor, maid, partner_uid, device_id or user.';

comment on column avtryck.event_key.key is 'SipHash-1-3 with 128 bits of site, kind, partner, event name, the sender''s class (a person, a machine, a server or a mail proxy) and the sender''s event ID, with the secret; of a hit that may not have the ID, or whose ID belongs to another event, a hash of that and of what it says. Where the sender says when it made the event, or its ID begins with a time, the first 48 bits are that time in milliseconds.';
comment on column avtryck.event_key.seen_on is 'UTC day on which the first hit with it was loaded; 23 days later where the sender says when it made the event, so that it is kept for 30 days and not for 7.';
