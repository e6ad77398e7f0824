-- The facts: one narrow row a hit, and the dimensions it points to by content hash.

create table avtryck.place (
    key bigint primary key,
    country text, region text, city text, postal_code text,
    latitude double precision, longitude double precision,
    time_zone text
);
comment on table avtryck.place is 'Where hits came from, by IP address. Without the permit locate only country and region are known.';
comment on column avtryck.place.country is 'ISO 3166-1 code.';
comment on column avtryck.place.region is 'ISO 3166-2 code or name of the region.';
comment on column avtryck.place.city is 'Only with the permit locate.';
comment on column avtryck.place.postal_code is 'Only with the permit locate.';
comment on column avtryck.place.latitude is 'Degrees; only with the permit locate.';
comment on column avtryck.place.longitude is 'Degrees; only with the permit locate.';
comment on column avtryck.place.time_zone is 'IANA name; only with the permit locate.';
comment on column avtryck.place.key is 'XXH3 64-bit hash of the content: any number of loaders agree on it.';

create table avtryck.network (
    key bigint primary key,
    asn bigint,
    name text
);
comment on table avtryck.network is 'Whose network hits came from.';
comment on column avtryck.network.key is 'XXH3 64-bit hash of the content.';
comment on column avtryck.network.asn is 'Autonomous system number.';
comment on column avtryck.network.name is 'Owner of the autonomous system.';

create table avtryck.device (
    key bigint primary key,
    class text not null,
    brand text, model text, os text, os_version text, browser text, browser_version text,
    is_bot boolean not null
);
comment on table avtryck.device is 'What devices hits were made on, by user agent and client hints.';
comment on column avtryck.device.brand is 'Maker.';
comment on column avtryck.device.model is 'Model as the maker or the client hint names it.';
comment on column avtryck.device.os is 'Operating system.';
comment on column avtryck.device.os_version is 'Its version.';
comment on column avtryck.device.browser is 'Browser or app.';
comment on column avtryck.device.browser_version is 'Its version.';
comment on column avtryck.device.is_bot is 'Whether it says or is known to be a robot.';
comment on column avtryck.device.key is 'XXH3 64-bit hash of the content.';
comment on column avtryck.device.class is 'phone, tablet, desktop, tv, console, car, watch, bot or other.';

create table avtryck.ad (
    key bigint primary key,
    partner text, campaign text, creative text, placement text, publisher text
);
comment on table avtryck.ad is 'Which ad: creative of a campaign, placement on a publisher, by which partner.';
comment on column avtryck.ad.partner is 'The key of the [[partner]] in the configuration.';
comment on column avtryck.ad.campaign is 'As the sender names it.';
comment on column avtryck.ad.creative is 'As the sender names it.';
comment on column avtryck.ad.placement is 'As the sender names it.';
comment on column avtryck.ad.publisher is 'As the sender names it.';
comment on column avtryck.ad.key is 'XXH3 64-bit hash of the content.';

create table avtryck.site (
    key bigint primary key,
    site text not null,
    category text
);
comment on table avtryck.site is 'The site a hit was made on, with the category of the page.';
comment on column avtryck.site.category is 'The category of the page, where known.';
comment on column avtryck.site.key is 'XXH3 64-bit hash of the content.';
comment on column avtryck.site.site is 'The key of the [[site]] in the configuration.';

create table avtryck.hit (
    received_at timestamptz not null,
    site_key bigint not null,
    place_key bigint,
    network_key bigint,
    device_key bigint,
    ad_key bigint,
    flags integer not null,
    kind smallint not null,
    permit smallint not null,
    consent_source smallint not null,
    hit_id uuid not null,
    visitor_id uuid,
    page_url text,
    referrer text,
    event_name text,
    event_id text,
    partner_uid text,
    maid text,
    device_id text,
    client_ip inet,
    params jsonb
) partition by range (received_at);
comment on table avtryck.hit is 'One row a hit that may be measured. Query the view hit_detail. One partition a UTC day (hit_20261124), dropped whole by retention.';
comment on column avtryck.hit.site_key is 'The site.';
comment on column avtryck.hit.place_key is 'Where it came from.';
comment on column avtryck.hit.network_key is 'Whose network it came from.';
comment on column avtryck.hit.device_key is 'On what device.';
comment on column avtryck.hit.ad_key is 'Which ad; null where the hit names none.';
comment on column avtryck.hit.page_url is 'The page.';
comment on column avtryck.hit.referrer is 'Where the visitor came from.';
comment on column avtryck.hit.event_name is 'What happened, for an event.';
comment on column avtryck.hit.received_at is 'When the edge received the hit.';
comment on column avtryck.hit.flags is 'Set: 1 cleaned, 2 truncated, 4 macro, 8 prefetch, 16 new_visitor, 32 foreign_origin, 64 third_party.';
comment on column avtryck.hit.kind is '1 page_view, 2 event, 3 impression, 4 click, 5 callback, 6 sync.';
comment on column avtryck.hit.permit is 'What the visitor allowed. Set: 1 store, 2 measure, 4 profile, 8 match, 16 link, 32 locate.';
comment on column avtryck.hit.consent_source is 'The signal that decided the permit: 1 default, 2 choice, 3 gpc, 4 tcf, 5 gpp.';
comment on column avtryck.hit.hit_id is 'The ID of this row.';
comment on column avtryck.hit.visitor_id is 'The cookie ID; null without the permit store.';
comment on column avtryck.hit.event_id is 'The sender''s ID of the event; a repeated one is stored once.';
comment on column avtryck.hit.partner_uid is 'The partner''s ID for the visitor.';
comment on column avtryck.hit.maid is 'Mobile advertising ID.';
comment on column avtryck.hit.device_id is 'The vendor''s device ID.';
comment on column avtryck.hit.client_ip is 'By privacy.client_ip: null, truncated to /24 or /48, or full.';
comment on column avtryck.hit.params is 'What else the sender added.';

-- Nearly free to keep, and enough for ranges of time within a day.
create index hit_received_at on avtryck.hit using brin (received_at);
-- Subject access: all rows of one visitor, asked for by equality only. Loading 500,000 rows with random
-- visitors in batches of 20,000 took 2.9 to 3.7 µs a row without an index on them, 4.9 to 5.6 with a hash
-- and 6.3 to 7.3 with a btree (Postgres 15, 2 cores); both take 38 bytes a row.
create index hit_visitor_id on avtryck.hit using hash (visitor_id) where visitor_id is not null;

-- Makes the partition of a UTC day unless it is there. Attaching takes no lock that stops readers or
-- loaders, which `create table … partition of` would.
create function avtryck.make_hit_day(day date) returns boolean language plpgsql as $$
declare
    partition text := 'hit_' || to_char(day, 'YYYYMMDD');
begin
    if exists (select from pg_inherits
               where inhparent = 'avtryck.hit'::regclass
                 and inhrelid = to_regclass('avtryck.' || partition)) then
        return false;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('avtryck.make_hit_day', 0));
    if exists (select from pg_inherits
               where inhparent = 'avtryck.hit'::regclass
                 and inhrelid = to_regclass('avtryck.' || partition)) then
        return false;
    end if;
    execute format('create table avtryck.%I (like avtryck.hit including defaults including constraints including storage including comments)', partition);
    execute format('alter table avtryck.hit attach partition avtryck.%I for values from (%L) to (%L)',
                   partition, day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
    return true;
end $$;
comment on function avtryck.make_hit_day is 'Makes the partition of hit for a UTC day; false if it was there.';

create function avtryck.kind_name(kind smallint) returns text language sql immutable parallel safe
    return (array['page_view', 'event', 'impression', 'click', 'callback', 'sync'])[kind];
create function avtryck.consent_source_name(source smallint) returns text language sql immutable parallel safe
    return (array['default', 'choice', 'gpc', 'tcf', 'gpp'])[source];
create function avtryck.permit_names(permit smallint) returns text[] language sql immutable parallel safe
    return array_remove(array[
        case when permit & 1 <> 0 then 'store' end,
        case when permit & 2 <> 0 then 'measure' end,
        case when permit & 4 <> 0 then 'profile' end,
        case when permit & 8 <> 0 then 'match' end,
        case when permit & 16 <> 0 then 'link' end,
        case when permit & 32 <> 0 then 'locate' end], null);
create function avtryck.flag_names(flags integer) returns text[] language sql immutable parallel safe
    return array_remove(array[
        case when flags & 1 <> 0 then 'cleaned' end,
        case when flags & 2 <> 0 then 'truncated' end,
        case when flags & 4 <> 0 then 'macro' end,
        case when flags & 8 <> 0 then 'prefetch' end,
        case when flags & 16 <> 0 then 'new_visitor' end,
        case when flags & 32 <> 0 then 'foreign_origin' end,
        case when flags & 64 <> 0 then 'third_party' end], null);

create view avtryck.hit_detail as
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
       hit.event_name, hit.event_id, hit.client_ip, hit.params
from avtryck.hit
left join avtryck.site on site.key = hit.site_key
left join avtryck.place on place.key = hit.place_key
left join avtryck.network on network.key = hit.network_key
left join avtryck.device on device.key = hit.device_key
left join avtryck.ad on ad.key = hit.ad_key;
comment on view avtryck.hit_detail is 'What people query: each hit with its dimensions joined and its numbers in words.';

create table avtryck.hit_count (
    minute timestamptz not null,
    site_key bigint not null,
    ad_key bigint not null default 0,
    hits bigint not null,
    kind smallint not null,
    primary key (minute, site_key, ad_key, kind)
);
comment on table avtryck.hit_count is 'What is kept of hits without the permit measure: a count. It holds no personal data, so retention leaves it.';
comment on column avtryck.hit_count.site_key is 'The site.';
comment on column avtryck.hit_count.hits is 'How many.';
comment on column avtryck.hit_count.kind is 'As in hit.';
comment on column avtryck.hit_count.minute is 'The start of the minute in which the hits were received.';
comment on column avtryck.hit_count.ad_key is '0 where the hit names no ad.';

create view avtryck.hit_count_detail as
select hit_count.minute, site.site, site.category as site_category, avtryck.kind_name(hit_count.kind) as kind,
       ad.partner, ad.campaign, ad.creative, ad.placement, ad.publisher, hit_count.hits
from avtryck.hit_count
left join avtryck.site on site.key = hit_count.site_key
left join avtryck.ad on ad.key = hit_count.ad_key;
comment on view avtryck.hit_count_detail is 'The counts of hits without the permit measure, with the names of site and ad.';

create table avtryck.spool_position (
    spool_id uuid primary key,
    chunk bigint not null,
    byte_offset bigint not null,
    records bigint not null,
    updated_at timestamptz not null
);
comment on table avtryck.spool_position is 'Up to where each spool is loaded. Changed in the transaction that stores the rows, so each record becomes one row.';
comment on column avtryck.spool_position.spool_id is 'The ID in the directory of the spool.';
comment on column avtryck.spool_position.chunk is 'Number of the chunk.';
comment on column avtryck.spool_position.byte_offset is 'Offset in the chunk.';
comment on column avtryck.spool_position.records is 'How many records lie before it in the whole life of the spool.';
comment on column avtryck.spool_position.updated_at is 'When the last batch was loaded.';

create table avtryck.rejected_hit (
    rejected_at timestamptz not null,
    spool_id uuid not null,
    chunk bigint not null,
    byte_offset bigint not null,
    reason text not null,
    payload bytea not null
);
create index rejected_hit_rejected_at on avtryck.rejected_hit using brin (rejected_at);
comment on table avtryck.rejected_hit is 'Recorded hits that could not become rows. Deleted by retention.';
comment on column avtryck.rejected_hit.rejected_at is 'When it was set aside.';
comment on column avtryck.rejected_hit.spool_id is 'The spool it was read from.';
comment on column avtryck.rejected_hit.chunk is 'Number of the chunk.';
comment on column avtryck.rejected_hit.byte_offset is 'Offset of the record in the chunk.';
comment on column avtryck.rejected_hit.reason is 'Why: the SQLSTATE and message of Postgres, or what the loader found.';
comment on column avtryck.rejected_hit.payload is 'The record as encoded by proto/hit.proto, with the IP address as privacy.client_ip allows.';

create table avtryck.event_key (
    key uuid primary key,
    seen_on date not null
);
create index event_key_seen_on on avtryck.event_key (seen_on);
comment on table avtryck.event_key is 'Event IDs of the last 7 days, so that a repeated one is stored once.';
comment on column avtryck.event_key.key is 'XXH3 128-bit hash of site, kind, partner and the sender''s event ID.';
comment on column avtryck.event_key.seen_on is 'UTC day on which the first hit with it was received.';
