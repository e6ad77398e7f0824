-- Segments: what is counted of a subject, the view that segments are defined over, and who is in which of them.
-- Nothing of it is kept without the permits store, measure and profile (7).

create table avtryck.subject_day_part (
    subjects uuid[] not null,
    sites text[] not null,
    partners text[] not null,
    kinds text[] not null,
    names text[] not null,
    counts integer[] not null,
    devices bigint[] not null,
    places bigint[] not null,
    permits smallint[] not null,
    at timestamptz[] not null
);
alter table avtryck.subject_day_part alter column subjects set storage external;
comment on table avtryck.subject_day_part is 'What batches saw of subjects, until it is added to subject_day: one row a batch, whose arrays have an element a fact. Written in the transaction that loads the hits.';
comment on column avtryck.subject_day_part.subjects is 'As subject_day.subject.';
comment on column avtryck.subject_day_part.sites is 'As subject_day.site.';
comment on column avtryck.subject_day_part.partners is 'As subject_day.partner.';
comment on column avtryck.subject_day_part.kinds is 'As subject_day.kind.';
comment on column avtryck.subject_day_part.names is 'As subject_day.name.';
comment on column avtryck.subject_day_part.counts is 'How many hits of the batch say so.';
comment on column avtryck.subject_day_part.devices is 'The key of the device of the last of them; 0 where it is unknown.';
comment on column avtryck.subject_day_part.places is 'The key of the place of the last of them; 0 where it is unknown.';
comment on column avtryck.subject_day_part.permits is 'As subject_day.permit.';
comment on column avtryck.subject_day_part.at is 'When the last of them was received.';

create table avtryck.subject_day (
    subject uuid not null,
    day date not null,
    site text not null,
    partner text not null,
    kind text not null check (kind in ('event', 'page', 'ad')),
    name text not null,
    n integer not null,
    permit smallint not null check (permit & 7 = 7),
    primary key (subject, day, site, partner, kind, name)
) with (fillfactor = 85);
create index subject_day_day on avtryck.subject_day (day);
comment on table avtryck.subject_day is 'How often a subject did what on a day, for segments. At most 50 names of each kind a day; never the name of a sensitive category. Deleted by retention, and when the subject refuses profile.';
comment on column avtryck.subject_day.subject is 'As link_node.node. A user or a device that no visitor''s cookie stands for has rows only where somebody vouches for the ID.';
comment on column avtryck.subject_day.day is 'The UTC day on which the hits were received.';
comment on column avtryck.subject_day.site is 'The site.';
comment on column avtryck.subject_day.partner is 'The partner whose rules decided on the permit; empty where the site''s own did.';
comment on column avtryck.subject_day.kind is 'event; page, for a view of one; ad, for an impression.';
comment on column avtryck.subject_day.name is 'The name of the event, the category of the page, or the campaign of the ad; empty where there is none.';
comment on column avtryck.subject_day.n is 'How many hits.';
comment on column avtryck.subject_day.permit is 'What all of the hits permit, as hit.permit.';

create table avtryck.subject_seen (
    subject uuid primary key,
    device_key bigint not null,
    place_key bigint not null,
    first_day date not null,
    last_day date not null,
    permit smallint not null check (permit & 7 = 7)
) with (fillfactor = 85);
create index subject_seen_last_day on avtryck.subject_seen (last_day);
comment on table avtryck.subject_seen is 'When a subject was seen, and where and on which device last. Deleted by retention, and when the subject refuses profile.';
comment on column avtryck.subject_seen.subject is 'As subject_day.subject.';
comment on column avtryck.subject_seen.device_key is 'Points to device; 0 where it is unknown.';
comment on column avtryck.subject_seen.place_key is 'Points to place; 0 where it is unknown.';
comment on column avtryck.subject_seen.first_day is 'The first UTC day.';
comment on column avtryck.subject_seen.last_day is 'The last UTC day.';
comment on column avtryck.subject_seen.permit is 'As subject_day.permit, of the last hit.';

create table avtryck.area_size (
    kind text not null check (kind in ('city', 'postal_code')),
    area text not null,
    subjects bigint not null,
    primary key (kind, area)
);
comment on table avtryck.area_size is 'How many subjects were seen last in each area, as counted each night: segments know no area that has few.';
comment on column avtryck.area_size.kind is 'city or postal_code.';
comment on column avtryck.area_size.area is 'The area, after its country and a colon.';
comment on column avtryck.area_size.subjects is 'How many subjects.';

-- The segments.

create table avtryck.segment (
    segment smallint generated always as identity primary key,
    key text not null unique,
    digest text not null default '',
    state text not null default 'behind' check (state in ('behind', 'fresh', 'failed')),
    size bigint,
    sized_at timestamptz,
    min_size bigint not null default 100,
    is_exposed boolean not null default false,
    evaluated_at timestamptz,
    full_began_at timestamptz,
    full_at timestamptz,
    next_range smallint,
    error text,
    failed_at timestamptz,
    claimed_at timestamptz not null default now(),
    ended_at timestamptz
);
comment on table avtryck.segment is 'Each [[segment]] of the configuration, and how far it is evaluated.';
comment on column avtryck.segment.segment is 'Its number, which stays with its key.';
comment on column avtryck.segment.key is 'Its key in the configuration.';
comment on column avtryck.segment.digest is 'A hash of what decides who is in it: a new one means a new evaluation of everybody.';
comment on column avtryck.segment.state is 'fresh; behind, while something is still to be evaluated; failed, where the last evaluation did: the members are those of before.';
comment on column avtryck.segment.size is 'How many members it had when everybody was evaluated last.';
comment on column avtryck.segment.sized_at is 'When that was.';
comment on column avtryck.segment.min_size is 'The least size with which anybody is told of it.';
comment on column avtryck.segment.is_exposed is 'Whether its size is enough, and it has not ended.';
comment on column avtryck.segment.evaluated_at is 'What happened before that is in its members.';
comment on column avtryck.segment.full_began_at is 'When the last evaluation of everybody began.';
comment on column avtryck.segment.full_at is 'When the last evaluation of everybody ended; null where none has since it was defined, or since it failed.';
comment on column avtryck.segment.next_range is 'Where an evaluation of everybody goes on: a first byte of subjects; null where none is under way.';
comment on column avtryck.segment.error is 'Why its last evaluation failed.';
comment on column avtryck.segment.failed_at is 'When that was.';
comment on column avtryck.segment.claimed_at is 'When a collector that has it in its configuration last evaluated segments. It ends an hour later.';
comment on column avtryck.segment.ended_at is 'Since when no configuration has it, or its until has passed.';

create table avtryck.segment_member (
    segment smallint not null references avtryck.segment,
    subject uuid not null,
    since timestamptz not null,
    permit smallint not null check (permit & 7 = 7),
    primary key (segment, subject)
);
create index segment_member_subject on avtryck.segment_member (subject);
comment on table avtryck.segment_member is 'Who is in which segment.';
comment on column avtryck.segment_member.segment is 'As segment.segment.';
comment on column avtryck.segment_member.subject is 'As link_node.node.';
comment on column avtryck.segment_member.since is 'Since when.';
comment on column avtryck.segment_member.permit is 'What allowed it, as hit.permit.';

create table avtryck.segment_change (
    at timestamptz not null,
    segment smallint not null,
    subject uuid not null,
    is_entry boolean not null,
    reason text not null check (reason in ('rule', 'definition', 'expiry', 'split', 'withdrawal', 'end'))
);
create index segment_change_at on avtryck.segment_change (at);
create index segment_change_subject on avtryck.segment_change (subject);
comment on table avtryck.segment_change is 'Who came into a segment or left it, and why. Deleted by retention.';
comment on column avtryck.segment_change.at is 'When.';
comment on column avtryck.segment_change.segment is 'As segment.segment.';
comment on column avtryck.segment_change.subject is 'As segment_member.subject.';
comment on column avtryck.segment_change.is_entry is 'Whether the subject came in, and did not leave.';
comment on column avtryck.segment_change.reason is 'rule: what is known of the subject changed; definition: the segment did; expiry: time passed; split: its IDs came apart; withdrawal: it no longer permits profile; end: the segment ended.';

create table avtryck.segment_due (
    due bigint generated always as identity primary key,
    subjects uuid[] not null,
    at timestamptz not null default clock_timestamp()
);
comment on table avtryck.segment_due is 'Subjects of whom something changed, until they are evaluated, each minute.';
comment on column avtryck.segment_due.due is 'A number, in about the order of time.';
comment on column avtryck.segment_due.subjects is 'As subject_day.subject, up to 5,000 a row.';
comment on column avtryck.segment_due.at is 'When it was noted.';

create function avtryck.touch_subjects(touched uuid[]) returns void language plpgsql as $$
begin
    if exists (select from avtryck.segment where ended_at is null) then
        insert into avtryck.segment_due (subjects)
        select array_agg(subject) from (
            select subject, row_number() over (order by subject) / 5000 as portion
            from (select distinct unnest(touched) as subject) as each_once
        ) as portioned
        group by portion;
    end if;
end
$$;
comment on function avtryck.touch_subjects is 'Notes subjects that are to be evaluated anew.';

-- Which IDs are of one device, and who owns it: by proved ties alone, which a refusal of link removes.

create view avtryck.subject_alike as
select own.node as subject, other.node as other
from avtryck.link_node as own join avtryck.link_node as other using (proved_group)
where own.proved_group <> 0 and own.node <> other.node;
comment on view avtryck.subject_alike is 'The other IDs of the device of an ID.';
comment on column avtryck.subject_alike.subject is 'As link_node.node.';
comment on column avtryck.subject_alike.other is 'As link_node.node.';

create view avtryck.subject_user as
select a as subject, b as owner from avtryck.link_edge
where b_kind = 5 and proved_day > (now() at time zone 'UTC')::date - 90
union all
select b, a from avtryck.link_edge
where a_kind = 5 and proved_day > (now() at time zone 'UTC')::date - 90;
comment on view avtryck.subject_user is 'The users that were logged in with an ID within 90 days, as somebody vouches.';
comment on column avtryck.subject_user.subject is 'As link_node.node.';
comment on column avtryck.subject_user.owner is 'The user, as link_node.node.';

create function avtryck.subject_owner(of_subject uuid) returns uuid language plpgsql stable as $$
declare
    device uuid[];
    owners uuid[];
begin
    -- One query after the other, each of which finds its rows by index: for a join Postgres scans all ties.
    device := array(select alike.other from avtryck.subject_alike as alike where alike.subject = of_subject) || of_subject;
    owners := array(select distinct users.owner from avtryck.subject_user as users where users.subject = any(device));
    return case cardinality(owners) when 1 then owners[1] end;
end
$$;
comment on function avtryck.subject_owner is 'The one user who owns the device of a subject; null where there are several, so that nobody is shown what is known of another.';

create function avtryck.subjects_touched_with(touched uuid[]) returns setof uuid language sql stable
begin atomic
    with own as (
        select unnest(touched) as subject
        union
        select other from avtryck.subject_alike where subject = any(touched)
    ),
    owners as (
        select own.subject from own
        union
        select users.owner from own join avtryck.subject_user as users using (subject)
    ),
    owned as (
        select users.subject from owners join avtryck.subject_user as users on users.owner = owners.subject
    )
    select subject from owners
    union
    select subject from owned
    union
    select alike.other from owned join avtryck.subject_alike as alike using (subject);
end;
comment on function avtryck.subjects_touched_with is 'Subjects, and those for whom what is known of them counts too.';

-- What counts for a subject: its own facts where they are permitted now, and those of its other IDs with link (16).

create view avtryck.own_fact as
select fact.subject, fact.day, fact.kind, fact.name, fact.n
from avtryck.subject_day as fact
join avtryck.subject_permit as permit using (subject, site, partner)
where permit.permit & 7 = 7;
comment on view avtryck.own_fact is 'The facts of a subject that its permits allow now.';
comment on column avtryck.own_fact.subject is 'As subject_day.subject.';
comment on column avtryck.own_fact.day is 'As subject_day.day.';
comment on column avtryck.own_fact.kind is 'As subject_day.kind.';
comment on column avtryck.own_fact.name is 'As subject_day.name.';
comment on column avtryck.own_fact.n is 'As subject_day.n.';

create view avtryck.linked_fact as
select fact.subject, fact.day, fact.kind, fact.name, fact.n
from avtryck.subject_day as fact
join avtryck.subject_permit as permit using (subject, site, partner)
where permit.permit & 23 = 23;
comment on view avtryck.linked_fact is 'The facts of a subject that may count for its other IDs, too.';
comment on column avtryck.linked_fact.subject is 'As subject_day.subject.';
comment on column avtryck.linked_fact.day is 'As subject_day.day.';
comment on column avtryck.linked_fact.kind is 'As subject_day.kind.';
comment on column avtryck.linked_fact.name is 'As subject_day.name.';
comment on column avtryck.linked_fact.n is 'As subject_day.n.';

create view avtryck.device_fact as
select subject, day, kind, name, n from avtryck.own_fact
union all
select alike.subject, fact.day, fact.kind, fact.name, fact.n
from avtryck.subject_alike as alike
join avtryck.linked_fact as fact on fact.subject = alike.other
where exists (
    select from avtryck.subject_permit as permit where permit.subject = alike.subject and permit.permit & 23 = 23
);
comment on view avtryck.device_fact is 'The facts of a subject and of the other IDs of its device: what counts in segments of scope device.';
comment on column avtryck.device_fact.subject is 'The subject for which it counts.';
comment on column avtryck.device_fact.day is 'As subject_day.day.';
comment on column avtryck.device_fact.kind is 'As subject_day.kind.';
comment on column avtryck.device_fact.name is 'As subject_day.name.';
comment on column avtryck.device_fact.n is 'As subject_day.n.';

create function avtryck.subject_ids(of_subject uuid) returns setof uuid language plpgsql stable rows 5 as $$
declare
    device uuid[];
    its_owner uuid;
    owned uuid[];
begin
    device := array(select alike.other from avtryck.subject_alike as alike where alike.subject = of_subject);
    its_owner := avtryck.subject_owner(of_subject);
    -- A user is its own owner.
    if its_owner is null and exists (select from avtryck.subject_user as users where users.owner = of_subject) then
        its_owner := of_subject;
    end if;
    if its_owner is not null then
        owned := array(
            select users.subject from avtryck.subject_user as users
            where users.owner = its_owner and avtryck.subject_owner(users.subject) = its_owner
        );
        owned := owned || its_owner
                 || array(select alike.other from avtryck.subject_alike as alike where alike.subject = any(owned));
    end if;
    return query select distinct id from unnest(device || owned) as id where id <> of_subject;
end
$$;
comment on function avtryck.subject_ids is 'The other IDs of a subject''s device, its one owner, and the IDs of the devices that this user alone owns.';

create view avtryck.owner_fact as
select subject, day, kind, name, n from avtryck.own_fact
union all
select own.subject, fact.day, fact.kind, fact.name, fact.n
from (
    select distinct subject from avtryck.subject_permit where permit & 23 = 23
) as own
cross join lateral avtryck.subject_ids(own.subject) as id
join avtryck.linked_fact as fact on fact.subject = id;
comment on view avtryck.owner_fact is 'The same with the facts of its owner and of the owner''s other devices: what counts in segments of scope owner.';
comment on column avtryck.owner_fact.subject is 'The subject for which it counts.';
comment on column avtryck.owner_fact.day is 'As subject_day.day.';
comment on column avtryck.owner_fact.kind is 'As subject_day.kind.';
comment on column avtryck.owner_fact.name is 'As subject_day.name.';
comment on column avtryck.owner_fact.n is 'As subject_day.n.';

create view avtryck.profile_attribute as
select subject, attribute, value, number, import, purposes, 0 as distance
from avtryck.attribute_now where 'profile' = any(purposes)
union all
select alike.subject, held.attribute, held.value, held.number, held.import, held.purposes, 1
from avtryck.subject_alike as alike
join avtryck.attribute_now as held on held.subject = alike.other
where 'profile' = any(held.purposes) and exists (
    select from avtryck.subject_permit as permit where permit.subject = alike.subject and permit.permit & 23 = 23
)
union all
select own.subject, held.attribute, held.value, held.number, held.import, held.purposes, 2
from (select distinct subject from avtryck.subject_permit where permit & 23 = 23) as own
join avtryck.attribute_now as held on held.subject = avtryck.subject_owner(own.subject)
where 'profile' = any(held.purposes)
union all
select seen.subject, held.attribute, held.value, held.number, held.import, held.purposes, 3
from avtryck.subject_seen as seen
join avtryck.place on place.key = seen.place_key and place.country = 'SE'
cross join lateral (values ('postal_code', place.postal_code, replace(place.postal_code, ' ', '')),
                           ('city', place.city, lower(place.city))) as area (kind, name, key)
join avtryck.area_size on area_size.kind = area.kind and area_size.area = concat(place.country, ':', area.name)
join avtryck.attribute_area_now as held
on held.area = area.key and held.area_kind = case area.kind when 'city' then 'municipality' else area.kind end
where 'profile' = any(held.purposes) and area_size.subjects >= 20 and exists (
    select from avtryck.subject_permit as permit where permit.subject = seen.subject and permit.permit & 39 = 39
);
comment on view avtryck.profile_attribute is 'The attributes that count for a subject: its own; with link, those of the other IDs of its device and of its one owner; with locate, those of its area.';
comment on column avtryck.profile_attribute.subject is 'As profile.subject.';
comment on column avtryck.profile_attribute.attribute is 'As attribute.attribute.';
comment on column avtryck.profile_attribute.value is 'As attribute_now.value.';
comment on column avtryck.profile_attribute.number is 'As attribute_now.number.';
comment on column avtryck.profile_attribute.import is 'As attribute_now.import.';
comment on column avtryck.profile_attribute.purposes is 'As import.purposes; profile is always among them.';
comment on column avtryck.profile_attribute.distance is 'Whose it is: 0 the subject''s, 1 another ID''s of the device, 2 the owner''s, 3 the area''s. The nearest counts.';

create view avtryck.profile as
select permit.subject, permit.permit,
       exists (select from avtryck.subject_permit as other where other.subject = permit.subject and other.permit & 23 = 23)
           as permits_link,
       exists (select from avtryck.subject_permit as other where other.subject = permit.subject and other.permit & 15 = 15)
           as permits_match,
       exists (select from avtryck.subject_permit as other where other.subject = permit.subject and other.permit & 39 = 39)
           as permits_locate,
       (select device.class from avtryck.subject_seen as seen join avtryck.device on device.key = seen.device_key
        where seen.subject = permit.subject) as device_class,
       (select device.brand from avtryck.subject_seen as seen join avtryck.device on device.key = seen.device_key
        where seen.subject = permit.subject) as device_brand,
       (select device.model from avtryck.subject_seen as seen join avtryck.device on device.key = seen.device_key
        where seen.subject = permit.subject) as device_model,
       (select model.name from avtryck.subject_seen as seen join avtryck.device on device.key = seen.device_key
        join avtryck.device_model as model on model.brand = coalesce(device.brand, '') and model.model = device.model
        where seen.subject = permit.subject order by model.source limit 1) as device_name,
       (select 12 * (extract(year from now() at time zone 'UTC')::integer - model.released)
        from avtryck.subject_seen as seen join avtryck.device on device.key = seen.device_key
        join avtryck.device_model as model on model.brand = coalesce(device.brand, '') and model.model = device.model
        where seen.subject = permit.subject and model.released is not null order by model.source limit 1) as device_age,
       (select device.os from avtryck.subject_seen as seen join avtryck.device on device.key = seen.device_key
        where seen.subject = permit.subject) as os,
       (select device.browser from avtryck.subject_seen as seen join avtryck.device on device.key = seen.device_key
        where seen.subject = permit.subject) as browser,
       (select place.country from avtryck.subject_seen as seen join avtryck.place on place.key = seen.place_key
        where seen.subject = permit.subject) as country,
       (select place.region from avtryck.subject_seen as seen join avtryck.place on place.key = seen.place_key
        where seen.subject = permit.subject) as region,
       (select place.city from avtryck.subject_seen as seen join avtryck.place on place.key = seen.place_key
        join avtryck.area_size on area_size.kind = 'city' and area_size.area = concat(place.country, ':', place.city)
        where seen.subject = permit.subject and area_size.subjects >= 20
          and exists (select from avtryck.subject_permit as other
                      where other.subject = permit.subject and other.permit & 39 = 39)) as city,
       (select place.postal_code from avtryck.subject_seen as seen join avtryck.place on place.key = seen.place_key
        join avtryck.area_size on area_size.kind = 'postal_code' and area_size.area = concat(place.country, ':', place.postal_code)
        where seen.subject = permit.subject and area_size.subjects >= 20
          and exists (select from avtryck.subject_permit as other
                      where other.subject = permit.subject and other.permit & 39 = 39)) as postal_code,
       (select (now() at time zone 'UTC')::date - seen.first_day from avtryck.subject_seen as seen
        where seen.subject = permit.subject) as days_since_first,
       (select (now() at time zone 'UTC')::date - seen.last_day from avtryck.subject_seen as seen
        where seen.subject = permit.subject) as days_since_last,
       (select count(distinct fact.day) from avtryck.own_fact as fact
        where fact.subject = permit.subject and fact.day > (now() at time zone 'UTC')::date - 30) as days_active,
       (select case when count(*) <= 2 then '2' when count(*) <= 5 then '3 to 5' else '6 or more' end
        from avtryck.household_device as own
        join avtryck.household_member as member on member.node = own.device
        join avtryck.household_member as other using (household)
        where own.node = permit.subject
          and exists (select from avtryck.subject_permit as allowed
                      where allowed.subject = permit.subject and allowed.permit & 55 = 55)
        having count(*) >= 2) as household_size,
       (select held.value from avtryck.profile_attribute as held
        where held.subject = permit.subject and held.attribute = 1
        order by held.distance, held.import desc limit 1) as housing_type,
       (select held.value from avtryck.profile_attribute as held
        where held.subject = permit.subject and held.attribute = 3
        order by held.distance, held.import desc limit 1) as civil_status,
       (select held.value from avtryck.profile_attribute as held
        where held.subject = permit.subject and held.attribute = 4
        order by held.distance, held.import desc limit 1) as family_type,
       (select held.number from avtryck.profile_attribute as held
        where held.subject = permit.subject and held.attribute = 5
        order by held.distance, held.import desc limit 1) as income,
       (select held.value from avtryck.profile_attribute as held
        where held.subject = permit.subject and held.attribute = 6
        order by held.distance, held.import desc limit 1) as income_band,
       (select held.value from avtryck.profile_attribute as held
        where held.subject = permit.subject and held.attribute = 7
        order by held.distance, held.import desc limit 1) as credit_band,
       (select held.value from avtryck.profile_attribute as held
        where held.subject = permit.subject and held.attribute = 8
        order by held.distance, held.import desc limit 1) as purchasing_power,
       (select held.value from avtryck.profile_attribute as held
        where held.subject = permit.subject and held.attribute = 9
        order by held.distance, held.import desc limit 1) as life_phase,
       (select held.value from avtryck.profile_attribute as held
        where held.subject = permit.subject and held.attribute = 10
        order by held.distance, held.import desc limit 1) as urbanisation,
       (select held.value from avtryck.profile_attribute as held
        where held.subject = permit.subject and held.attribute = 11
        order by held.distance, held.import desc limit 1) as education,
       (select nullif(held.value, 'under_18') from avtryck.profile_attribute as held
        where held.subject = permit.subject and held.attribute = 12
        order by held.distance, held.import desc limit 1) as age_band,
       (select held.value from avtryck.profile_attribute as held
        where held.subject = permit.subject and held.attribute = 13
        order by held.distance, held.import desc limit 1) as gender
from avtryck.subject_permit as permit
where permit.permit & 7 = 7 and not exists (
    select from avtryck.subject_permit as earlier
    where earlier.subject = permit.subject and earlier.permit & 7 = 7
      and (earlier.site, earlier.partner) < (permit.site, permit.partner)
);
comment on view avtryck.profile is 'What segments are defined over: one row for each subject that permits store, measure and profile now.';
comment on column avtryck.profile.subject is 'As link_node.node.';
comment on column avtryck.profile.permit is 'What it permits on one of its sites, as hit.permit.';
comment on column avtryck.profile.permits_link is 'Whether it permits link as well.';
comment on column avtryck.profile.permits_match is 'Whether it permits match as well.';
comment on column avtryck.profile.permits_locate is 'Whether it permits locate as well.';
comment on column avtryck.profile.device_class is 'The class of the device that it was seen on last, as device.class.';
comment on column avtryck.profile.device_brand is 'The maker of the device.';
comment on column avtryck.profile.device_model is 'The model of the device, often a code.';
comment on column avtryck.profile.device_name is 'What people call the device.';
comment on column avtryck.profile.device_age is 'How many months ago the device was released, as far as the year tells.';
comment on column avtryck.profile.os is 'The operating system of the device.';
comment on column avtryck.profile.browser is 'The browser or app.';
comment on column avtryck.profile.country is 'The country that it was seen in last, ISO 3166-1.';
comment on column avtryck.profile.region is 'The region, as place.region.';
comment on column avtryck.profile.city is 'The city; only with locate, and where at least 20 subjects are.';
comment on column avtryck.profile.postal_code is 'The postal code; only with locate, and where at least 20 subjects are.';
comment on column avtryck.profile.days_since_first is 'For how many days it has been known.';
comment on column avtryck.profile.days_since_last is 'How many days ago it was seen last.';
comment on column avtryck.profile.days_active is 'On how many of the last 30 days it did something that counts.';
comment on column avtryck.profile.household_size is 'How many devices its household has: 2, 3 to 5, 6 or more; only with link and locate.';
comment on column avtryck.profile.housing_type is 'The attribute of that name, as profile_attribute has it first.';
comment on column avtryck.profile.civil_status is 'The attribute of that name, as profile_attribute has it first.';
comment on column avtryck.profile.family_type is 'The attribute of that name, as profile_attribute has it first.';
comment on column avtryck.profile.income is 'The attribute of that name, as profile_attribute has it first.';
comment on column avtryck.profile.income_band is 'The attribute of that name, as profile_attribute has it first.';
comment on column avtryck.profile.credit_band is 'The attribute of that name, as profile_attribute has it first.';
comment on column avtryck.profile.purchasing_power is 'The attribute of that name, as profile_attribute has it first.';
comment on column avtryck.profile.life_phase is 'The attribute of that name, as profile_attribute has it first.';
comment on column avtryck.profile.urbanisation is 'The attribute of that name, as profile_attribute has it first.';
comment on column avtryck.profile.education is 'The attribute of that name, as profile_attribute has it first.';
comment on column avtryck.profile.age_band is 'The attribute of that name, as profile_attribute has it first; null for children.';
comment on column avtryck.profile.gender is 'The attribute of that name, as profile_attribute has it first.';

-- Whoever leaves takes everything along.

create function avtryck.forget_profiles(nodes uuid[], is_erasure boolean) returns void language plpgsql as $$
begin
    -- Those for whom the facts counted are to be evaluated without them.
    perform avtryck.touch_subjects(array(select avtryck.subjects_touched_with(nodes)));
    delete from avtryck.subject_day where subject = any(nodes);
    delete from avtryck.subject_seen where subject = any(nodes);
    update avtryck.subject_day_part as part
    set (subjects, sites, partners, kinds, names, counts, devices, places, permits, at) = (
        select coalesce(array_agg(subject), '{}'), coalesce(array_agg(site), '{}'), coalesce(array_agg(partner), '{}'),
               coalesce(array_agg(kind), '{}'), coalesce(array_agg(name), '{}'), coalesce(array_agg(n), '{}'),
               coalesce(array_agg(device), '{}'), coalesce(array_agg(place), '{}'),
               coalesce(array_agg(permit), '{}'), coalesce(array_agg(kept.at), '{}')
        from unnest(part.subjects, part.sites, part.partners, part.kinds, part.names, part.counts, part.devices,
                    part.places, part.permits, part.at)
             as kept (subject, site, partner, kind, name, n, device, place, permit, at)
        where kept.subject <> all(nodes)
    ) where part.subjects && nodes;
    with gone as (delete from avtryck.segment_member where subject = any(nodes) returning segment, subject)
    insert into avtryck.segment_change (at, segment, subject, is_entry, reason)
    select clock_timestamp(), segment, subject, false, 'withdrawal' from gone;
    if is_erasure then
        delete from avtryck.segment_change where subject = any(nodes);
    end if;
end
$$;
comment on function avtryck.forget_profiles is 'Deletes at once what segments have of these subjects; with an erasure, their history too.';

-- A subject that refuses profile loses what was counted there, and without a site that it permits profile, everything.
-- Sources 2 to 5 are its own word.
create function avtryck.forget_refused_profiles() returns trigger language plpgsql as $$
declare
    gone uuid[];
begin
    if not exists (select from said where permit & 7 <> 7) then
        return null;
    end if;
    delete from avtryck.subject_day as fact using said
    where said.permit & 7 <> 7 and said.consent_source between 2 and 5
      and fact.subject = said.subject and fact.site = said.site and fact.partner = said.partner;
    select array_agg(distinct subject) into gone from said
    where permit & 7 <> 7 and not exists (
        select from avtryck.subject_permit as other where other.subject = said.subject and other.permit & 7 = 7
    );
    if gone is not null then
        perform avtryck.forget_profiles(gone, false);
    end if;
    perform avtryck.touch_subjects(array(
        select avtryck.subjects_touched_with(array(select subject from said where permit & 7 <> 7))
    ));
    return null;
end
$$;
comment on function avtryck.forget_refused_profiles is 'Takes whoever refuses profile out of segments.';
create trigger profile_refusal_new after insert on avtryck.subject_permit
    referencing new table as said for each statement execute function avtryck.forget_refused_profiles();
create trigger profile_refusal_changed after update on avtryck.subject_permit
    referencing new table as said for each statement execute function avtryck.forget_refused_profiles();

create function avtryck.touch_permitted() returns trigger language plpgsql as $$
begin
    perform avtryck.touch_subjects(array(select distinct subject from said));
    return null;
end
$$;
comment on function avtryck.touch_permitted is 'Notes the subjects whose permits changed.';
create trigger segment_due_new after insert on avtryck.subject_permit
    referencing new table as said for each statement execute function avtryck.touch_permitted();
create trigger segment_due_changed after update on avtryck.subject_permit
    referencing new table as said for each statement execute function avtryck.touch_permitted();
create trigger segment_due_gone after delete on avtryck.subject_permit
    referencing old table as said for each statement execute function avtryck.touch_permitted();

-- An ID that comes to a device, or leaves it, counts for the others there.
create function avtryck.touch_regrouped() returns trigger language plpgsql as $$
begin
    perform avtryck.touch_subjects(array(
        select node from changed where proved_group <> 0
        union
        select other.node from changed join avtryck.link_node as other using (proved_group) where proved_group <> 0
    ));
    return null;
end
$$;
comment on function avtryck.touch_regrouped is 'Notes the subjects that came to a device or left one.';
create function avtryck.touch_moved() returns trigger language plpgsql as $$
begin
    perform avtryck.touch_subjects(array(
        with moved as (
            select node, known.proved_group as former, changed.proved_group as new
            from former as known join changed using (node)
            where known.proved_group <> changed.proved_group
        )
        select node from moved
        union
        select other.node from moved join avtryck.link_node as other on other.proved_group = moved.former
        where moved.former <> 0
        union
        select other.node from moved join avtryck.link_node as other on other.proved_group = moved.new
        where moved.new <> 0
    ));
    return null;
end
$$;
comment on function avtryck.touch_moved is 'Notes the subjects whose device changed.';
create trigger segment_due_node_new after insert on avtryck.link_node
    referencing new table as changed for each statement execute function avtryck.touch_regrouped();
create trigger segment_due_node_changed after update on avtryck.link_node
    referencing old table as former new table as changed for each statement execute function avtryck.touch_moved();
create trigger segment_due_node_gone after delete on avtryck.link_node
    referencing old table as changed for each statement execute function avtryck.touch_regrouped();

create function avtryck.touch_tied() returns trigger language plpgsql as $$
begin
    perform avtryck.touch_subjects(array(
        select avtryck.subjects_touched_with(array(
            select unnest(array[a, b]) from changed where 5 in (a_kind, b_kind) and proved_day is not null
        ))
    ));
    return null;
end
$$;
comment on function avtryck.touch_tied is 'Notes the subjects whose owners changed.';
create trigger segment_due_tie_new after insert on avtryck.link_edge
    referencing new table as changed for each statement execute function avtryck.touch_tied();
create trigger segment_due_tie_changed after update on avtryck.link_edge
    referencing new table as changed for each statement execute function avtryck.touch_tied();
create trigger segment_due_tie_gone after delete on avtryck.link_edge
    referencing old table as changed for each statement execute function avtryck.touch_tied();

create function avtryck.touch_imported() returns trigger language plpgsql as $$
begin
    perform avtryck.touch_subjects(array(select subject from changed));
    return null;
end
$$;
comment on function avtryck.touch_imported is 'Notes the subjects whose attributes changed.';
create trigger segment_due_attribute_new after insert on avtryck.attribute_value
    referencing new table as changed for each statement execute function avtryck.touch_imported();
create trigger segment_due_attribute_changed after update on avtryck.attribute_value
    referencing new table as changed for each statement execute function avtryck.touch_imported();
create trigger segment_due_attribute_gone after delete on avtryck.attribute_value
    referencing old table as changed for each statement execute function avtryck.touch_imported();

create function avtryck.fold_subject_days(parts integer) returns bigint language plpgsql as $$
declare
    folded bigint;
    touched uuid[];
begin
    -- Whoever leaves on request leaves all of these tables under this lock: "identity" in ASCII.
    perform pg_advisory_xact_lock(x'6964656e74697479'::bigint);
    with part as (
        delete from avtryck.subject_day_part
        where ctid = any(array(select ctid from avtryck.subject_day_part limit parts)) returning *
    ),
    folding as materialized (
        select seen.*, (seen.at at time zone 'UTC')::date as day
        from part, unnest(part.subjects, part.sites, part.partners, part.kinds, part.names, part.counts, part.devices,
                          part.places, part.permits, part.at)
             as seen (subject, site, partner, kind, name, n, device, place, permit, at)
        where not exists (
            select from avtryck.subject_permit as refused
            where refused.subject = seen.subject and refused.site = seen.site and refused.partner = seen.partner
              and refused.permit & 7 <> 7 and refused.at >= seen.at
        )
    ),
    counted as (
        insert into avtryck.subject_day as known (subject, day, site, partner, kind, name, n, permit)
        select subject, day, site, partner, kind, name, n, permit from (
            select new.*, count(*) filter (where not is_known)
                       over (partition by subject, day, kind order by is_known desc, n desc, name, site, partner)
                       + (select count(*) from avtryck.subject_day as before
                          where before.subject = new.subject and before.day = new.day and before.kind = new.kind) as names
            from (
                select folding.subject, folding.day, folding.site, folding.partner, folding.kind, folding.name,
                       least(sum(folding.n), 1000000)::integer as n, bit_and(folding.permit) as permit,
                       bool_or(before.subject is not null) as is_known
                from folding left join avtryck.subject_day as before using (subject, day, site, partner, kind, name)
                group by 1, 2, 3, 4, 5, 6
            ) as new
        ) as numbered
        where is_known or names <= 50
        order by subject, day, site, partner, kind, name
        on conflict (subject, day, site, partner, kind, name) do update
        set n = least(known.n + excluded.n, 1000000), permit = known.permit & excluded.permit
    ),
    noted as (
        insert into avtryck.subject_seen as known (subject, device_key, place_key, first_day, last_day, permit)
        select distinct on (subject) subject, device, place, min(day) over (partition by subject), day, permit
        from folding order by subject, at desc, device desc, place desc
        on conflict (subject) do update
        set device_key = case when excluded.last_day >= known.last_day and excluded.device_key <> 0 then excluded.device_key
                              else known.device_key end,
            place_key = case when excluded.last_day >= known.last_day and excluded.place_key <> 0 then excluded.place_key
                             else known.place_key end,
            first_day = least(known.first_day, excluded.first_day), last_day = greatest(known.last_day, excluded.last_day),
            permit = case when excluded.last_day >= known.last_day then excluded.permit else known.permit end
        where (known.device_key, known.place_key, known.last_day, known.permit)
              is distinct from (excluded.device_key, excluded.place_key, excluded.last_day, excluded.permit)
           or excluded.first_day < known.first_day
    )
    select array_agg(distinct subject) into touched from folding;
    if touched is not null then
        perform avtryck.touch_subjects(touched);
    end if;
    select count(*) into folded from (select from avtryck.subject_day_part limit 1) as left_over;
    return folded;
end
$$;
comment on function avtryck.fold_subject_days is 'Adds what so many batches saw to subject_day and subject_seen; returns 0 once nothing is left.';

-- What is exported of a subject.

create view avtryck.subject_seen_detail as
select seen.subject, seen.first_day, seen.last_day, avtryck.permit_names(seen.permit) as permit,
       device.class as device_class, device.brand as device_brand, device.model as device_model, device.os, device.browser,
       place.country, place.region, place.city, place.postal_code
from avtryck.subject_seen as seen
left join avtryck.device on device.key = seen.device_key
left join avtryck.place on place.key = seen.place_key;
comment on view avtryck.subject_seen_detail is 'subject_seen in words.';
comment on column avtryck.subject_seen_detail.subject is 'As subject_seen.subject.';
comment on column avtryck.subject_seen_detail.first_day is 'As subject_seen.first_day.';
comment on column avtryck.subject_seen_detail.last_day is 'As subject_seen.last_day.';
comment on column avtryck.subject_seen_detail.permit is 'As subject_seen.permit.';
comment on column avtryck.subject_seen_detail.device_class is 'As device.class.';
comment on column avtryck.subject_seen_detail.device_brand is 'As device.brand.';
comment on column avtryck.subject_seen_detail.device_model is 'As device.model.';
comment on column avtryck.subject_seen_detail.os is 'As device.os.';
comment on column avtryck.subject_seen_detail.browser is 'As device.browser.';
comment on column avtryck.subject_seen_detail.country is 'As place.country.';
comment on column avtryck.subject_seen_detail.region is 'As place.region.';
comment on column avtryck.subject_seen_detail.city is 'As place.city.';
comment on column avtryck.subject_seen_detail.postal_code is 'As place.postal_code.';

create view avtryck.segment_member_detail as
select member.subject, segment.key as segment, member.since, avtryck.permit_names(member.permit) as permit
from avtryck.segment_member as member join avtryck.segment using (segment);
comment on view avtryck.segment_member_detail is 'segment_member in words.';
comment on column avtryck.segment_member_detail.subject is 'As segment_member.subject.';
comment on column avtryck.segment_member_detail.segment is 'As segment.key.';
comment on column avtryck.segment_member_detail.since is 'As segment_member.since.';
comment on column avtryck.segment_member_detail.permit is 'As segment_member.permit.';

create view avtryck.segment_change_detail as
select change.subject, change.at, segment.key as segment, change.is_entry, change.reason
from avtryck.segment_change as change join avtryck.segment using (segment);
comment on view avtryck.segment_change_detail is 'segment_change in words.';
comment on column avtryck.segment_change_detail.subject is 'As segment_change.subject.';
comment on column avtryck.segment_change_detail.at is 'As segment_change.at.';
comment on column avtryck.segment_change_detail.segment is 'As segment.key.';
comment on column avtryck.segment_change_detail.is_entry is 'As segment_change.is_entry.';
comment on column avtryck.segment_change_detail.reason is 'As segment_change.reason.';

-- What changes in segment_member is noted with the transaction that changes it. A collector reads from the oldest
-- transaction that was under way when it read last, so that it misses none, whatever the order of commits.
create table avtryck.segment_touched (
    prefix bigint not null,
    xid xid8 not null default pg_current_xact_id(),
    at timestamptz not null default now()
);
create index segment_touched_xid on avtryck.segment_touched (xid);
create index segment_touched_at on avtryck.segment_touched (at);
comment on table avtryck.segment_touched is 'Whose segments changed within the last hour, for the collectors that answer pages from memory.';
comment on column avtryck.segment_touched.prefix is 'The first 64 bits of segment_member.subject.';
comment on column avtryck.segment_touched.xid is 'The transaction that changed them.';
comment on column avtryck.segment_touched.at is 'When it began.';

create function avtryck.subject_prefix(subject uuid) returns bigint language sql immutable parallel safe
    return ('x' || encode(substring(uuid_send(subject) from 1 for 8), 'hex'))::bit(64)::bigint;
comment on function avtryck.subject_prefix is 'The first 64 bits of a subject.';

create function avtryck.touch_segment_members() returns trigger language plpgsql as $$
begin
    insert into avtryck.segment_touched (prefix) select distinct avtryck.subject_prefix(subject) from changed;
    return null;
end
$$;
comment on function avtryck.touch_segment_members is 'Notes whose segments changed.';
create trigger segment_member_new after insert on avtryck.segment_member
    referencing new table as changed for each statement execute function avtryck.touch_segment_members();
create trigger segment_member_gone after delete on avtryck.segment_member
    referencing old table as changed for each statement execute function avtryck.touch_segment_members();
