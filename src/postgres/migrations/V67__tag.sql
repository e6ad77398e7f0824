-- What the tag says of a page view, and how somebody came to the page. All of it is computed when it is asked for: the
-- address of the page and the fields of the hit hold it already, so a row takes no byte more.

comment on column avtryck.hit.flags is 'Set: 1 cleaned, 2 truncated, 4 macro, 8 prefetch, 16 new_visitor, 32 foreign_origin, 64 third_party, 128 over_limit, 256 preview, 512 bad_agent, 1024 data_centre, 2048 no_impression, 4096 fast_click, 8192 replayed, 16384 bot, 262144 system, 524288 wrong_clock, 1048576 mail_proxy, 2097152 id_conflict, 4194304 device_later, 8388608 other_ad, 16777216 foreign_click, 33554432 clock, 67108864 schema, 134217728 proved, 268435456 bad_user_sig, 536870912 signed_only, 1073741824 signed, -2147483648 webdriver.';

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
        case when flags & 262144 <> 0 then 'system' end,
        case when flags & 524288 <> 0 then 'wrong_clock' end,
        case when flags & 1048576 <> 0 then 'mail_proxy' end,
        case when flags & 2097152 <> 0 then 'id_conflict' end,
        case when flags & 4194304 <> 0 then 'device_later' end,
        case when flags & 8388608 <> 0 then 'other_ad' end,
        case when flags & 16777216 <> 0 then 'foreign_click' end,
        case when flags & 33554432 <> 0 then 'clock' end,
        case when flags & 67108864 <> 0 then 'schema' end,
        case when flags & 134217728 <> 0 then 'proved' end,
        case when flags & 268435456 <> 0 then 'bad_user_sig' end,
        case when flags & 536870912 <> 0 then 'signed_only' end,
        case when flags & 1073741824 <> 0 then 'signed' end,
        case when flags < 0 then 'webdriver' end], null);

-- Most addresses have neither, and no regular expression is needed to see that.
create function avtryck.campaign_value_of(url text, name text) returns text language sql immutable parallel safe
    return case when strpos(url, name || '=') > 0
                then nullif(left(avtryck.unescape(avtryck.query_value_of(url, name)), 500), '') end;
comment on function avtryck.campaign_value_of is 'A parameter in the query of an address without its escapes, at most 500 characters of it; null if it is empty or not there.';

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
       hit.user_key, hit.session_id, hit.occurred_at, avtryck.protocol_name(hit.protocol) as protocol,
       (select device_model.name from avtryck.device_model
        where device_model.brand = coalesce(device.brand, '') and device_model.model = device.model
        order by device_model.source limit 1) as device_name,
       page_domain.domain as page_domain, coalesce(site.category, page_domain.category) as page_category,
       page_domain.source as page_category_source, page_domain.is_sensitive as is_sensitive_page,
       avtryck.campaign_value_of(hit.page_url, 'utm_source') as utm_source,
       avtryck.campaign_value_of(hit.page_url, 'utm_medium') as utm_medium,
       avtryck.campaign_value_of(hit.page_url, 'utm_campaign') as utm_campaign,
       avtryck.campaign_value_of(hit.page_url, 'utm_term') as utm_term,
       avtryck.campaign_value_of(hit.page_url, 'utm_content') as utm_content,
       avtryck.campaign_value_of(hit.page_url, 'gclid') as gclid,
       avtryck.campaign_value_of(hit.page_url, 'gbraid') as gbraid,
       avtryck.campaign_value_of(hit.page_url, 'wbraid') as wbraid,
       avtryck.campaign_value_of(hit.page_url, 'dclid') as dclid,
       avtryck.campaign_value_of(hit.page_url, 'msclkid') as msclkid,
       avtryck.campaign_value_of(hit.page_url, 'fbclid') as fbclid,
       avtryck.campaign_value_of(hit.page_url, 'ttclid') as ttclid,
       avtryck.campaign_value_of(hit.page_url, 'twclid') as twclid,
       avtryck.campaign_value_of(hit.page_url, 'li_fat_id') as li_fat_id,
       case when hit.kind = 1 then hit.params ->> 'title' end as page_title,
       case when hit.kind = 1 then hit.params ->> 'screen' end as screen,
       case when hit.kind = 1 then hit.params ->> 'viewport' end as viewport,
       case when hit.kind = 1 then hit.params ->> 'language' end as language,
       case when hit.kind = 1 then hit.params ->> 'time_zone' end as browser_time_zone
from avtryck.hit
left join avtryck.site on site.key = hit.site_key
left join avtryck.place on place.key = hit.place_key
left join avtryck.network on network.key = hit.network_key
left join avtryck.device on device.key = hit.device_key
left join avtryck.ad on ad.key = hit.ad_key
left join avtryck.page_domain on page_domain.key = hit.page_domain_key;
comment on column avtryck.hit_detail.utm_source is 'Who sent somebody here, as the address of the page says.';
comment on column avtryck.hit_detail.utm_medium is 'By what: mail, an ad, a post, as the address of the page says.';
comment on column avtryck.hit_detail.utm_campaign is 'The campaign, as the address of the page says.';
comment on column avtryck.hit_detail.utm_term is 'The search term that was paid for, as the address of the page says.';
comment on column avtryck.hit_detail.utm_content is 'Which of several links or ads, as the address of the page says.';
comment on column avtryck.hit_detail.gclid is 'Google''s click ID in the address of the page; only with the permit store.';
comment on column avtryck.hit_detail.gbraid is 'Google''s click ID between apps and pages in the address of the page; only with the permit store.';
comment on column avtryck.hit_detail.wbraid is 'Google''s click ID from pages to apps in the address of the page; only with the permit store.';
comment on column avtryck.hit_detail.dclid is 'Google''s click ID of display ads in the address of the page; only with the permit store.';
comment on column avtryck.hit_detail.msclkid is 'Microsoft''s click ID in the address of the page; only with the permit store.';
comment on column avtryck.hit_detail.fbclid is 'Meta''s click ID in the address of the page; only with the permit store.';
comment on column avtryck.hit_detail.ttclid is 'TikTok''s click ID in the address of the page; only with the permit store.';
comment on column avtryck.hit_detail.twclid is 'X''s click ID in the address of the page; only with the permit store.';
comment on column avtryck.hit_detail.li_fat_id is 'LinkedIn''s click ID in the address of the page; only with the permit store.';
comment on column avtryck.hit_detail.page_title is 'The title of the page (module context).';
comment on column avtryck.hit_detail.screen is 'Width and height of the screen in CSS pixels, 390x844 (module context).';
comment on column avtryck.hit_detail.viewport is 'Width and height of the window in CSS pixels (module context).';
comment on column avtryck.hit_detail.language is 'The language that the browser prefers (module context).';
comment on column avtryck.hit_detail.browser_time_zone is 'The time zone of the browser (module context).';
