-- The IDs of one device, what a subject permits now, names of models, and the domains of pages.

-- A hit that may tie IDs together says so in its permit: store (1), measure (2) and link (16). The checks below hold
-- whatever program writes.

create table avtryck.link_part (
    a uuid[] not null,
    b uuid[] not null,
    a_kinds smallint[] not null,
    b_kinds smallint[] not null,
    partners text[] not null,
    at timestamptz[] not null,
    permits smallint[] not null,
    consent_sources smallint[] not null,
    sources smallint[] not null,
    are_proved boolean[] not null,
    are_removals boolean[] not null
);
alter table avtryck.link_part
    alter column a set storage external,
    alter column b set storage external;
comment on table avtryck.link_part is 'Ties that batches saw, until they are added to link_edge: one row a batch, whose arrays have an element a tie. Written in the transaction that loads the hits.';
comment on column avtryck.link_part.a is 'One ID, as link_node.node.';
comment on column avtryck.link_part.b is 'The other, as link_node.node; of a removal, the same as a.';
comment on column avtryck.link_part.a_kinds is 'As link_node.kind.';
comment on column avtryck.link_part.b_kinds is 'As link_node.kind.';
comment on column avtryck.link_part.partners is 'The key of the partner whose ID is among the two; empty where none is.';
comment on column avtryck.link_part.at is 'When the hit was received.';
comment on column avtryck.link_part.permits is 'The permit of the hit, as hit.permit.';
comment on column avtryck.link_part.consent_sources is 'As hit.consent_source.';
comment on column avtryck.link_part.sources is '0 a hit that named both, 1 an exchange of IDs.';
comment on column avtryck.link_part.are_proved is 'Whether a system, a signed callback or a site''s signature vouches for it.';
comment on column avtryck.link_part.are_removals is 'Whether the hit refused link for a, which loses its ties.';

create table avtryck.link_edge (
    a uuid not null,
    b uuid not null,
    a_kind smallint not null,
    b_kind smallint not null,
    partner text not null default '',
    first_day date not null,
    last_day date not null,
    proved_day date,
    permit smallint not null check (permit & 19 = 19),
    consent_source smallint not null,
    source smallint not null,
    is_new boolean not null default true,
    primary key (a, b),
    check (a < b)
) with (fillfactor = 85);
create index link_edge_b on avtryck.link_edge (b);
create index link_edge_new on avtryck.link_edge (a, b) where is_new;
create index link_edge_last_day on avtryck.link_edge (last_day);
comment on table avtryck.link_edge is 'Ties: two IDs that were seen together, with the permit that allowed it. All that is computed of device groups and owners follows from these rows. Deleted when not seen for 180 days, a partner''s ID for 90.';
comment on column avtryck.link_edge.a is 'The smaller of the two IDs, as link_node.node.';
comment on column avtryck.link_edge.b is 'The larger.';
comment on column avtryck.link_edge.a_kind is 'As link_node.kind.';
comment on column avtryck.link_edge.b_kind is 'As link_node.kind.';
comment on column avtryck.link_edge.partner is 'The key of the partner whose ID is among the two; empty where none is.';
comment on column avtryck.link_edge.first_day is 'The UTC day on which the two were seen together first.';
comment on column avtryck.link_edge.last_day is 'When last, to a week.';
comment on column avtryck.link_edge.proved_day is 'When a proof of it was seen last; null without one. An unproved tie serves reports only.';
comment on column avtryck.link_edge.permit is 'The permit of the last hit that named both: always with store, measure and link.';
comment on column avtryck.link_edge.consent_source is 'As hit.consent_source, of that hit.';
comment on column avtryck.link_edge.source is '0 a hit that named both, 1 an exchange of IDs.';
comment on column avtryck.link_edge.is_new is 'Whether it is not yet grouped.';

create table avtryck.link_node (
    node uuid primary key,
    kind smallint not null,
    partner text not null default '',
    device_group bigint not null,
    proved_group bigint not null,
    degree integer not null,
    state smallint not null default 0,
    hub_since date,
    first_day date not null,
    last_day date not null
);
create index link_node_device_group on avtryck.link_node (device_group);
create index link_node_proved_group on avtryck.link_node (proved_group);
comment on table avtryck.link_node is 'IDs that have ties, each with its device group. A user never has one: users own groups (device_owner).';
comment on column avtryck.link_node.node is 'A visitor''s ID; of any other ID its key, as suppression.key.';
comment on column avtryck.link_node.kind is '1 visitor, 2 maid, 3 device_id, 4 partner_uid, 5 user.';
comment on column avtryck.link_node.partner is 'The partner''s key, of a partner''s ID; else empty.';
comment on column avtryck.link_node.device_group is 'The IDs of one device; 0 for a user and for an ID that is not in use.';
comment on column avtryck.link_node.proved_group is 'The same over proved ties alone: what is shown to a visitor, or used for them, goes by this one. 0 where it is alone.';
comment on column avtryck.link_node.degree is 'How many ties it has to IDs that are no users, counted up to about 200.';
comment on column avtryck.link_node.state is '0 in use, 1 hub (has more ties than one device can have, so they count nowhere), 2 blocked, 3 withdrawn.';
comment on column avtryck.link_node.hub_since is 'Since when it is a hub.';
comment on column avtryck.link_node.first_day is 'The first day of its ties.';
comment on column avtryck.link_node.last_day is 'The last day of its ties, to a week.';

create sequence avtryck.device_group_number;
create table avtryck.device_group (
    device_group bigint primary key,
    size smallint not null,
    is_capped boolean not null,
    is_shared boolean not null,
    since timestamptz not null,
    changed_at timestamptz not null
);
comment on table avtryck.device_group is 'Groups of IDs that belong to one device, at most 20 each.';
comment on column avtryck.device_group.device_group is 'The number. A group that is split leaves it to the part with the oldest visitor.';
comment on column avtryck.device_group.size is 'How many IDs.';
comment on column avtryck.device_group.is_capped is 'Whether a tie to one of its IDs was left out because the group would have become too large.';
comment on column avtryck.device_group.is_shared is 'Whether it had two owners or more within 90 days.';
comment on column avtryck.device_group.since is 'When the number was given out.';
comment on column avtryck.device_group.changed_at is 'When it changed last.';

create table avtryck.device_owner (
    device_group bigint not null,
    owner uuid not null,
    first_day date not null,
    last_day date not null,
    days smallint not null,
    permit smallint not null check (permit & 19 = 19),
    is_proved boolean not null,
    primary key (device_group, owner)
);
create index device_owner_owner on avtryck.device_owner (owner);
comment on table avtryck.device_owner is 'Who was logged in on a device, and when. A login never joins two devices.';
comment on column avtryck.device_owner.device_group is 'The device.';
comment on column avtryck.device_owner.owner is 'The user, as link_node.node.';
comment on column avtryck.device_owner.first_day is 'The first UTC day.';
comment on column avtryck.device_owner.last_day is 'The last, to a week.';
comment on column avtryck.device_owner.days is 'On how many ties of the device it was seen.';
comment on column avtryck.device_owner.permit is 'As link_edge.permit.';
comment on column avtryck.device_owner.is_proved is 'Whether one of these ties is proved.';

create table avtryck.link_forbidden (
    a uuid not null,
    b uuid not null,
    since timestamptz not null,
    primary key (a, b),
    check (a < b)
);
create index link_forbidden_b on avtryck.link_forbidden (b);
comment on table avtryck.link_forbidden is 'Pairs of IDs of which a visitor said that they are not one device: they are never in one group.';
comment on column avtryck.link_forbidden.a is 'The smaller of the two, as link_node.node.';
comment on column avtryck.link_forbidden.b is 'The larger.';
comment on column avtryck.link_forbidden.since is 'When it was said.';

create table avtryck.link_change (
    at timestamptz not null,
    node uuid not null,
    from_group bigint,
    to_group bigint,
    reason text not null check (reason in
        ('merge', 'split', 'withdrawal', 'erasure', 'cap', 'expiry', 'hub', 'rule', 'not_mine', 'forgotten'))
);
create index link_change_at on avtryck.link_change (at);
create index link_change_node on avtryck.link_change (node);
comment on table avtryck.link_change is 'Why each ID is in its device group, or is not. Deleted by retention.';
comment on column avtryck.link_change.at is 'When it was changed.';
comment on column avtryck.link_change.node is 'As link_node.node.';
comment on column avtryck.link_change.from_group is 'The group that it was in; null if it had none.';
comment on column avtryck.link_change.to_group is 'The group that it is in now; null if it has none.';
comment on column avtryck.link_change.reason is 'merge; split (by the removal of another ID); withdrawal, erasure, not_mine, forgotten (as its subject asked); cap (a tie was left out); expiry; hub; rule (a rule became stricter).';

-- What a subject permits now.
create table avtryck.permit_part (
    subjects uuid[] not null,
    sites text[] not null,
    partners text[] not null,
    permits smallint[] not null,
    consent_sources smallint[] not null,
    at timestamptz[] not null
);
alter table avtryck.permit_part alter column subjects set storage external;
comment on table avtryck.permit_part is 'What batches saw of permits, until it is added to subject_permit: one row a batch, whose arrays have an element for each subject and site or partner. Written in the transaction that loads the hits.';
comment on column avtryck.permit_part.subjects is 'As subject_permit.subject.';
comment on column avtryck.permit_part.sites is 'As subject_permit.site.';
comment on column avtryck.permit_part.partners is 'As subject_permit.partner.';
comment on column avtryck.permit_part.permits is 'As subject_permit.permit.';
comment on column avtryck.permit_part.consent_sources is 'As subject_permit.consent_source.';
comment on column avtryck.permit_part.at is 'As subject_permit.at.';

create table avtryck.subject_permit (
    subject uuid not null,
    site text not null,
    partner text not null,
    permit smallint not null,
    consent_source smallint not null,
    at timestamptz not null,
    changed_at timestamptz,
    primary key (subject, site, partner)
) with (fillfactor = 85);
create index subject_permit_at on avtryck.subject_permit (at);
create index subject_permit_changed_at on avtryck.subject_permit (changed_at) where changed_at is not null;
create index subject_permit_unlinked on avtryck.subject_permit (subject) where permit & 19 <> 19;
comment on table avtryck.subject_permit is 'What a subject permits now: what its last hit said. Whatever asks what is permitted now reads this table. Gone once not seen for privacy.retention.';
comment on column avtryck.subject_permit.subject is 'As link_node.node.';
comment on column avtryck.subject_permit.site is 'The site.';
comment on column avtryck.subject_permit.partner is 'The partner whose rules decided; empty where the site''s own did.';
comment on column avtryck.subject_permit.permit is 'As hit.permit.';
comment on column avtryck.subject_permit.consent_source is 'As hit.consent_source.';
comment on column avtryck.subject_permit.at is 'When the hit was received. Later hits that say the same may be up to a week later.';
comment on column avtryck.subject_permit.changed_at is 'When it last became another permit, or a refusal of link was stored again, by the clock of Postgres; null where neither was. By it collectors learn what others stored.';

-- Names of models.
create table avtryck.device_model (
    brand text not null,
    model text not null,
    maker text not null,
    name text not null,
    family text,
    released smallint,
    source text not null,
    source_version text not null,
    primary key (brand, model, source)
);
create index device_model_name on avtryck.device_model (maker, name);
comment on table avtryck.device_model is 'What the models of the dimension device are called. Where sources disagree there is a row a source.';
comment on column avtryck.device_model.brand is 'As device.brand; empty where that is null.';
comment on column avtryck.device_model.model is 'As device.model: what the hit said, often a code.';
comment on column avtryck.device_model.maker is 'Who makes it.';
comment on column avtryck.device_model.name is 'What people call it.';
comment on column avtryck.device_model.family is 'The name without what tells variants apart.';
comment on column avtryck.device_model.released is 'The year of its release, where the source says so.';
comment on column avtryck.device_model.source is 'Which list of names says so.';
comment on column avtryck.device_model.source_version is 'The version of the list.';

create table avtryck.device_alias (
    maker text not null,
    name text not null,
    alias text not null,
    kind text not null check (kind in ('code', 'name', 'codename')),
    primary key (maker, name, alias)
);
create index device_alias_alias on avtryck.device_alias (lower(alias));
comment on table avtryck.device_alias is 'Every code and name under which a model is known.';
comment on column avtryck.device_alias.maker is 'As device_model.maker.';
comment on column avtryck.device_alias.name is 'As device_model.name.';
comment on column avtryck.device_alias.alias is 'Another name of it.';
comment on column avtryck.device_alias.kind is 'code, name or codename.';

-- The domains of pages, with their categories.
create table avtryck.page_domain (
    key bigint primary key,
    domain text not null,
    category text,
    source text,
    is_sensitive boolean not null,
    is_keyed boolean not null default false,
    last_seen date not null default (now() at time zone 'UTC')::date
);
create index page_domain_former on avtryck.page_domain (key) where not is_keyed;
comment on table avtryck.page_domain is 'The registrable domain of the page that a hit was made on, or of its publisher, with the categories that a list gives it.';
comment on column avtryck.page_domain.key is 'As place.key.';
comment on column avtryck.page_domain.domain is 'The registrable domain, in lower case.';
comment on column avtryck.page_domain.category is 'The names of its categories, with semicolons between them; null where no list knows it.';
comment on column avtryck.page_domain.source is 'Whose list says so.';
comment on column avtryck.page_domain.is_sensitive is 'Whether one of the categories is sensitive: these are never counted by subject.';
comment on column avtryck.page_domain.is_keyed is 'As place.is_keyed.';
comment on column avtryck.page_domain.last_seen is 'The last UTC day on which a hit with it was received or loaded. The row is deleted once retention has dropped that day.';

alter table avtryck.hit add column page_domain_key bigint;
comment on column avtryck.hit.page_domain_key is 'page_domain.key of its page, or of its publisher.';

comment on column avtryck.hit.flags is 'Set: 1 cleaned, 2 truncated, 4 macro, 8 prefetch, 16 new_visitor, 32 foreign_origin, 64 third_party, 128 over_limit, 256 preview, 512 bad_agent, 1024 data_centre, 2048 no_impression, 4096 fast_click, 8192 replayed, 16384 bot, 524288 wrong_clock, 1048576 mail_proxy, 2097152 id_conflict, 4194304 device_later, 8388608 other_ad, 16777216 foreign_click, 33554432 clock, 67108864 schema, 134217728 proved, 536870912 signed_only, 1073741824 signed.';

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
        case when flags & 67108864 <> 0 then 'schema' end,
        case when flags & 134217728 <> 0 then 'proved' end,
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
       hit.user_key, hit.session_id, hit.occurred_at, avtryck.protocol_name(hit.protocol) as protocol,
       (select device_model.name from avtryck.device_model
        where device_model.brand = coalesce(device.brand, '') and device_model.model = device.model
        order by device_model.source limit 1) as device_name,
       page_domain.domain as page_domain, coalesce(site.category, page_domain.category) as page_category,
       page_domain.source as page_category_source, page_domain.is_sensitive as is_sensitive_page
from avtryck.hit
left join avtryck.site on site.key = hit.site_key
left join avtryck.place on place.key = hit.place_key
left join avtryck.network on network.key = hit.network_key
left join avtryck.device on device.key = hit.device_key
left join avtryck.ad on ad.key = hit.ad_key
left join avtryck.page_domain on page_domain.key = hit.page_domain_key;
comment on column avtryck.hit_detail.device_name is 'What people call the model; of several names, that of the first source in the alphabet.';
comment on column avtryck.hit_detail.page_domain is 'The registrable domain of the page, or of its publisher.';
comment on column avtryck.hit_detail.page_category is 'The category that the sender gave (site_category), else those that a list gives the domain.';
comment on column avtryck.hit_detail.page_category_source is 'The list that gives the domain categories.';
comment on column avtryck.hit_detail.is_sensitive_page is 'Whether the list gives the domain a sensitive category.';
