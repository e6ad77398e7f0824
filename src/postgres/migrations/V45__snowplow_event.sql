-- The events of Snowplow's trackers under the names that Snowplow's own table of events has, so that queries on that
-- need few changes. What a sender says is never trusted to be a number or a time: what is none is null.

create function avtryck.number_of(value text) returns double precision language sql immutable strict parallel safe
    return case when value ~ '^-?[0-9]{1,15}(\.[0-9]{1,15})?$' then value::double precision end;
comment on function avtryck.number_of is 'A text as a number; null if it is none, or one of more than 15 digits.';

create function avtryck.integer_of(value text) returns bigint language sql immutable strict parallel safe
    return case when value ~ '^-?[0-9]{1,18}$' then value::bigint end;
comment on function avtryck.integer_of is 'A text as a whole number; null if it is none.';

create function avtryck.millis_of(value text) returns timestamptz language sql immutable strict parallel safe
    return case when value ~ '^[0-9]{1,14}$' then to_timestamp(value::double precision / 1000) end;
comment on function avtryck.millis_of is 'Milliseconds since 1970 as a time; null if the text is not that.';

create function avtryck.iso_time_of(value text) returns timestamptz language sql immutable strict parallel safe
    return case when value ~ '^[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-5]):[0-5][0-9])$'
        -- A month that has no such day runs on into the next one.
        then (((substr(value, 1, 8) || '01')::date + (substr(value, 9, 2)::integer - 1))::timestamp
              + substring(value from '[T ]([0-9:.]+)')::interval
              - coalesce(substring(value from '[+-][0-9:]+$'), '00:00')::interval) at time zone 'UTC' end;
comment on function avtryck.iso_time_of is 'A date-time of a JSON schema as a time; null if the text is none.';

create function avtryck.query_value_of(url text, name text) returns text language sql immutable strict parallel safe
    return replace(substring(url from '[?&]' || name || '=([^&#]*)'), '+', ' ');
comment on function avtryck.query_value_of is 'A parameter in the query of an address, as it is written there; the name is a word.';

create view avtryck.snowplow_event as
select hit.params ->> 'aid' as app_id,
       hit.params ->> 'p' as platform,
       hit.received_at as collector_tstamp,
       avtryck.millis_of(hit.params ->> 'dtm') as dvce_created_tstamp,
       case hit.params ->> 'e'
           when 'pv' then 'page_view' when 'pp' then 'page_ping' when 'se' then 'struct' when 'ev' then 'struct'
           when 'ue' then 'unstruct' when 'tr' then 'transaction' when 'ti' then 'transaction_item'
           when 'ad' then 'ad_impression' end as event,
       hit.event_id,
       hit.params ->> 'tna' as name_tracker,
       hit.params ->> 'tv' as v_tracker,
       hit.user_key::text as user_id,
       hit.client_ip::text as user_ipaddress,
       hit.device_id as domain_userid,
       avtryck.integer_of(hit.params ->> 'vid') as domain_sessionidx,
       hit.visitor_id::text as network_userid,
       hit.country as geo_country,
       hit.region as geo_region,
       hit.city as geo_city,
       hit.postal_code as geo_zipcode,
       hit.latitude as geo_latitude,
       hit.longitude as geo_longitude,
       hit.time_zone as geo_timezone,
       hit.network as ip_organization,
       hit.page_url,
       hit.params ->> 'page' as page_title,
       hit.referrer as page_referrer,
       substring(hit.page_url from '^([a-z][a-z0-9+.-]*):') as page_urlscheme,
       substring(hit.page_url from '^[^:/?#]+://([^/:?#]+)') as page_urlhost,
       avtryck.integer_of(coalesce(
           substring(hit.page_url from '^[^:/?#]+://[^/:?#]+:([0-9]+)'),
           case substring(hit.page_url from '^([a-z]+)://') when 'https' then '443' when 'http' then '80' end
       )) as page_urlport,
       substring(hit.page_url from '^[^:/?#]+://[^/?#]*([^?#]*)') as page_urlpath,
       substring(hit.page_url from '[?]([^#]*)') as page_urlquery,
       substring(hit.referrer from '^([a-z][a-z0-9+.-]*):') as refr_urlscheme,
       substring(hit.referrer from '^[^:/?#]+://([^/:?#]+)') as refr_urlhost,
       substring(hit.referrer from '^[^:/?#]+://[^/?#]*([^?#]*)') as refr_urlpath,
       substring(hit.referrer from '[?]([^#]*)') as refr_urlquery,
       avtryck.query_value_of(hit.page_url, 'utm_medium') as mkt_medium,
       avtryck.query_value_of(hit.page_url, 'utm_source') as mkt_source,
       avtryck.query_value_of(hit.page_url, 'utm_term') as mkt_term,
       avtryck.query_value_of(hit.page_url, 'utm_content') as mkt_content,
       avtryck.query_value_of(hit.page_url, 'utm_campaign') as mkt_campaign,
       case when hit.params ? 'co' then jsonb_build_object(
           'schema', 'iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0', 'data', hit.params -> 'co'
       ) end as contexts,
       hit.params ->> 'se_ca' as se_category,
       hit.params ->> 'se_ac' as se_action,
       hit.params ->> 'se_la' as se_label,
       hit.params ->> 'se_pr' as se_property,
       avtryck.number_of(hit.params ->> 'se_va') as se_value,
       case when hit.params ? 'ue' then jsonb_build_object(
           'schema', 'iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0', 'data', hit.params -> 'ue'
       ) end as unstruct_event,
       hit.params ->> 'tr_id' as tr_orderid,
       hit.params ->> 'tr_af' as tr_affiliation,
       avtryck.number_of(hit.params ->> 'tr_tt') as tr_total,
       avtryck.number_of(hit.params ->> 'tr_tx') as tr_tax,
       avtryck.number_of(hit.params ->> 'tr_sh') as tr_shipping,
       hit.params ->> 'tr_ci' as tr_city,
       hit.params ->> 'tr_st' as tr_state,
       hit.params ->> 'tr_co' as tr_country,
       hit.params ->> 'ti_id' as ti_orderid,
       hit.params ->> 'ti_sk' as ti_sku,
       coalesce(hit.params ->> 'ti_nm', hit.params ->> 'ti_na') as ti_name,
       hit.params ->> 'ti_ca' as ti_category,
       avtryck.number_of(hit.params ->> 'ti_pr') as ti_price,
       avtryck.integer_of(hit.params ->> 'ti_qu') as ti_quantity,
       avtryck.integer_of(hit.params ->> 'pp_mix') as pp_xoffset_min,
       avtryck.integer_of(hit.params ->> 'pp_max') as pp_xoffset_max,
       avtryck.integer_of(hit.params ->> 'pp_miy') as pp_yoffset_min,
       avtryck.integer_of(hit.params ->> 'pp_may') as pp_yoffset_max,
       hit.browser as br_name,
       hit.browser_version as br_version,
       hit.params ->> 'lang' as br_lang,
       case hit.params ->> 'cookie' when '1' then true when 'true' then true when '0' then false when 'false' then false
           end as br_cookies,
       hit.params ->> 'cd' as br_colordepth,
       avtryck.integer_of(split_part(hit.params ->> 'vp', 'x', 1)) as br_viewwidth,
       avtryck.integer_of(split_part(hit.params ->> 'vp', 'x', 2)) as br_viewheight,
       hit.os as os_name,
       hit.params ->> 'tz' as os_timezone,
       hit.device_class as dvce_type,
       hit.device_class in ('phone', 'tablet') as dvce_ismobile,
       avtryck.integer_of(split_part(hit.params ->> 'res', 'x', 1)) as dvce_screenwidth,
       avtryck.integer_of(split_part(hit.params ->> 'res', 'x', 2)) as dvce_screenheight,
       hit.params ->> 'cs' as doc_charset,
       avtryck.integer_of(split_part(hit.params ->> 'ds', 'x', 1)) as doc_width,
       avtryck.integer_of(split_part(hit.params ->> 'ds', 'x', 2)) as doc_height,
       hit.params ->> 'tr_cu' as tr_currency,
       hit.params ->> 'ti_cu' as ti_currency,
       avtryck.millis_of(hit.params ->> 'stm') as dvce_sent_tstamp,
       hit.session_id as domain_sessionid,
       coalesce(hit.occurred_at, hit.received_at) as derived_tstamp,
       coalesce(
           substring(hit.params #>> '{ue,schema}' from '^iglu:([^/]+)/'), 'com.snowplowanalytics.snowplow'
       ) as event_vendor,
       coalesce(hit.event_name, 'page_view') as event_name,
       coalesce(substring(hit.params #>> '{ue,schema}' from '^iglu:[^/]+/[^/]+/([^/]+)/'), 'jsonschema') as event_format,
       coalesce(substring(hit.params #>> '{ue,schema}' from '^iglu:[^/]+/[^/]+/[^/]+/([^/]+)$'), '1-0-0') as event_version,
       avtryck.millis_of(hit.params ->> 'ttm') as true_tstamp,
       hit.params ->> 'page_view_id' as page_view_id,
       hit.hit_id, hit.site, hit.permit, hit.flags, hit.is_bot
from avtryck.hit_detail as hit
where hit.protocol = 'snowplow';
comment on view avtryck.snowplow_event is 'The events of Snowplow''s trackers, with the names that the columns of Snowplow''s atomic.events have; the last ones are our own. user_id is our keyed hash of it, and derived_tstamp is not after collector_tstamp.';

do $$
declare
    name text;
begin
    for name in
        select attname from pg_catalog.pg_attribute
        where attrelid = 'avtryck.snowplow_event'::regclass and attnum > 0 and not attisdropped
    loop
        execute format('comment on column avtryck.snowplow_event.%I is %L', name,
            case when name in ('hit_id', 'site', 'permit', 'flags', 'is_bot')
                then 'As in hit_detail.'
                else 'What the column of that name holds in Snowplow''s atomic.events.' end);
    end loop;
end
$$;
