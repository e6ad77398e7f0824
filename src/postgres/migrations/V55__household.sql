-- Which devices share a home. No address is here: an address is a number under a key that no database has, and that is
-- gone after 14 days. A hit may be a sighting if its permit has store (1), measure (2), link (16) and locate (32).

create table avtryck.sighting_part (
    epoch integer not null,
    permit smallint not null check (permit & 51 = 51),
    address bigint[] not null,
    node uuid[] not null,
    day date[] not null,
    hour smallint[] not null
);
alter table avtryck.sighting_part
    alter column address set storage external,
    alter column node set storage external;
comment on table avtryck.sighting_part is 'Sightings that batches saw, until the night adds them to sighting: one row a batch, whose arrays have an element a sighting. Written in the transaction that loads the hits.';
comment on column avtryck.sighting_part.epoch is 'As sighting.epoch.';
comment on column avtryck.sighting_part.permit is 'What all of its hits permitted: always with store, measure, link and locate.';
comment on column avtryck.sighting_part.address is 'As sighting.address.';
comment on column avtryck.sighting_part.node is 'As sighting.node.';
comment on column avtryck.sighting_part.day is 'As sighting.day.';
comment on column avtryck.sighting_part.hour is 'The hour there, 0 to 23; 32 more for a phone.';

create table avtryck.sighting (
    epoch integer not null,
    day date not null,
    address bigint not null,
    node uuid not null,
    hours integer not null,
    is_phone boolean not null
) partition by list ((epoch & 1));
-- Two epochs at most are there, so one ends without touching the other.
create table avtryck.sighting_even partition of avtryck.sighting for values in (0);
create table avtryck.sighting_odd partition of avtryck.sighting for values in (1);
create index sighting_node on avtryck.sighting (node);
comment on table avtryck.sighting is 'Which device was at which address, and when. Dropped with its epoch.';
comment on column avtryck.sighting.epoch is 'Which period of 14 days, since 1970: an address has another number in each.';
comment on column avtryck.sighting.day is 'The day there.';
comment on column avtryck.sighting.address is 'The number of the address in that epoch.';
comment on column avtryck.sighting.node is 'As link_node.node: a visitor, or where there is none a maid or device_id.';
comment on column avtryck.sighting.hours is 'The hours there in which it was seen, a bit each.';
comment on column avtryck.sighting.is_phone is 'Whether it is a phone.';

create table avtryck.address_kind (
    address bigint not null,
    epoch integer not null,
    kind smallint not null,
    devices integer not null,
    returning_devices integer not null,
    primary key (epoch, address)
);
comment on table avtryck.address_kind is 'What an address seems to be. Dropped with its epoch.';
comment on column avtryck.address_kind.address is 'As sighting.address.';
comment on column avtryck.address_kind.epoch is 'As sighting.epoch.';
comment on column avtryck.address_kind.kind is '0 home, 1 mobile, 2 shared, 3 office.';
comment on column avtryck.address_kind.devices is 'How many devices were there.';
comment on column avtryck.address_kind.returning_devices is 'How many of them on two days or more.';

create table avtryck.household_pair (
    a uuid not null,
    b uuid not null,
    is_open boolean not null,
    score double precision not null,
    days integer not null,
    addresses integer not null,
    primary key (a, b, is_open),
    check (a < b)
);
create index household_pair_b on avtryck.household_pair (b);
comment on table avtryck.household_pair is 'Two devices that were at the same homes, and how strongly that ties them.';
comment on column avtryck.household_pair.a is 'One device: of the IDs of its group (link_node.device_group) the smallest, or an ID without a group.';
comment on column avtryck.household_pair.b is 'The other, which is larger.';
comment on column avtryck.household_pair.is_open is 'Whether it is of the epoch that has not ended. The others are added up, older ones at half their weight every 28 days.';
comment on column avtryck.household_pair.score is 'How strongly.';
comment on column avtryck.household_pair.days is 'On how many days both were at one address, at home.';
comment on column avtryck.household_pair.addresses is 'At how many addresses, an address of each epoch counted again.';

create sequence avtryck.household_number;
create table avtryck.household_member (
    node uuid primary key,
    household bigint,
    proposed bigint,
    score double precision not null,
    days integer not null,
    addresses integer not null,
    since date not null,
    supported_on date not null
);
create index household_member_household on avtryck.household_member (household);
comment on table avtryck.household_member is 'Which devices share a home.';
comment on column avtryck.household_member.node is 'The device, as household_pair.a.';
comment on column avtryck.household_member.household is 'The household; null until two nights in a row have found the same.';
comment on column avtryck.household_member.proposed is 'Another one that the last night found; null where it found the same.';
comment on column avtryck.household_member.score is 'The sum of its scores with the others.';
comment on column avtryck.household_member.days is 'The most days that it has in common with one of the others.';
comment on column avtryck.household_member.addresses is 'At how many addresses, as household_pair.addresses.';
comment on column avtryck.household_member.since is 'Since when it is a member.';
comment on column avtryck.household_member.supported_on is 'The last night that found it there. It leaves after 45 days without.';

create table avtryck.household_night (
    one boolean primary key default true check (one),
    night date not null,
    folded_epoch integer not null
);
comment on table avtryck.household_night is 'How far the nightly work on households is.';
comment on column avtryck.household_night.one is 'There is one row.';
comment on column avtryck.household_night.night is 'The last night that was worked through.';
comment on column avtryck.household_night.folded_epoch is 'The last epoch whose pairs were added up. A sighting of it or of an earlier one comes too late.';

create table avtryck.household_gone (
    key uuid primary key
);
comment on table avtryck.household_gone is 'Devices that left on request since the last night began, so that it does not bring them back.';
comment on column avtryck.household_gone.key is 'A hash of household_member.node.';

create function avtryck.household_gone_key(node uuid) returns uuid language sql immutable parallel safe
    return encode(substring(sha256('avtryck household gone'::bytea || uuid_send(node)) from 1 for 16), 'hex')::uuid;
comment on function avtryck.household_gone_key is 'The hash in household_gone.';

create function avtryck.dissolve_households() returns void language sql
begin atomic
    delete from avtryck.household_member where household in
        (select household from avtryck.household_member group by household having count(*) < 2);
end;
comment on function avtryck.dissolve_households is 'Dissolves households of one.';

create function avtryck.forget_sightings(nodes uuid[]) returns void language plpgsql as $$
declare
    devices uuid[];
    left_households bigint[];
begin
    select array_agg(distinct found.node) into devices from (
        select unnest(nodes) as node
        union all
        select other.node from avtryck.link_node as own
        join avtryck.link_node as other using (device_group)
        where own.node = any(nodes) and own.device_group <> 0
    ) as found;
    insert into avtryck.household_gone (key)
    select avtryck.household_gone_key(node) from unnest(devices) as gone (node) on conflict do nothing;
    delete from avtryck.sighting where node = any(nodes);
    update avtryck.sighting_part as part set (address, node, day, hour) = (
        select coalesce(array_agg(kept.address), '{}'), coalesce(array_agg(kept.node), '{}'),
               coalesce(array_agg(kept.day), '{}'), coalesce(array_agg(kept.hour), '{}')
        from unnest(part.address, part.node, part.day, part.hour) as kept (address, node, day, hour)
        where kept.node <> all(nodes)
    ) where part.node && nodes;
    delete from avtryck.household_pair where a = any(devices) or b = any(devices);
    with gone as (delete from avtryck.household_member where node = any(devices) returning household)
    select array_agg(household) into left_households from gone;
    delete from avtryck.household_member where household in (
        select household from avtryck.household_member where household = any(left_households)
        group by household having count(*) < 2
    );
end
$$;
comment on function avtryck.forget_sightings is 'Deletes at once all that households have of these IDs, and of the devices that they belong to.';

-- A subject that refuses link or locate is in no household from then on. Sources 2 to 5 are its own word.
create function avtryck.forget_refused_sightings() returns trigger language plpgsql as $$
declare
    refused uuid[];
begin
    select array_agg(distinct subject) into refused from said
    where consent_source between 2 and 5 and permit & 1 = 1 and permit & 51 <> 51;
    if refused is not null then
        perform avtryck.forget_sightings(refused);
    end if;
    return null;
end
$$;
comment on function avtryck.forget_refused_sightings is 'Takes whoever refuses link or locate out of households.';
create trigger household_refusal_new after insert on avtryck.subject_permit
    referencing new table as said for each statement execute function avtryck.forget_refused_sightings();
create trigger household_refusal_changed after update on avtryck.subject_permit
    referencing new table as said for each statement execute function avtryck.forget_refused_sightings();

create function avtryck.fold_sightings(parts integer) returns bigint language plpgsql as $$
declare
    folded bigint;
begin
    -- Whoever leaves on request leaves both tables under this lock: "identity" in ASCII.
    perform pg_advisory_xact_lock(x'6964656e74697479'::bigint);
    with part as (
        delete from avtryck.sighting_part
        where ctid = any(array(select ctid from avtryck.sighting_part limit parts)) returning *
    )
    insert into avtryck.sighting (epoch, day, address, node, hours, is_phone)
    select epoch, seen.day, seen.address, seen.node, bit_or(1 << (seen.hour & 31)), bool_or(seen.hour & 32 <> 0)
    from part, unnest(part.address, part.node, part.day, part.hour) as seen (address, node, day, hour)
    where not exists (select from avtryck.household_night where folded_epoch >= part.epoch)
    group by epoch, seen.day, seen.address, seen.node
    order by epoch, seen.address;
    select count(*) into folded from (select from avtryck.sighting_part limit 1) as left_over;
    return folded;
end
$$;
comment on function avtryck.fold_sightings is 'Adds what so many batches saw to sighting; returns 0 once nothing is left.';

-- The device of each ID that has one. Of the IDs of a group the smallest stands for all of them.
create view avtryck.household_device as
select node, first_value(node) over (partition by device_group order by node) as device
from avtryck.link_node where device_group <> 0 and state = 0;
comment on view avtryck.household_device is 'Which ID stands for the device of an ID, in what households have. An ID that is not here stands for itself.';
comment on column avtryck.household_device.node is 'As link_node.node.';
comment on column avtryck.household_device.device is 'The ID that stands for the device.';

create function avtryck.household_stays(of_epoch integer) returns table (
    address bigint, device uuid, is_phone boolean, days integer, home_days integer, work_hours bigint, other_hours bigint
) language sql stable
begin atomic
    with at_day as (
        select seen.address, coalesce(known.device, seen.node) as device, seen.day - date '1970-01-01' - of_epoch * 14 as day,
               extract(isodow from seen.day) >= 6 as is_weekend,
               bit_or(seen.hours) as hours, bool_or(seen.is_phone) as is_phone
        from avtryck.sighting as seen left join avtryck.household_device as known using (node)
        where seen.epoch = of_epoch and seen.epoch & 1 = of_epoch & 1
        group by 1, 2, seen.day
    ),
    -- 261888 are the hours from 8 to 17.
    by_use as (
        select address, device, is_phone, day,
               case when is_weekend then 0 else hours & 261888 end as work,
               case when is_weekend then hours else hours & ~261888 end as other
        from at_day
    )
    select address, device, bool_or(is_phone), bit_or(1 << day), bit_or(case when other <> 0 then 1 << day else 0 end),
           sum(bit_count(work::bit(32))), sum(bit_count(other::bit(32)))
    from by_use group by address, device;
end;
comment on function avtryck.household_stays is 'On which days of an epoch each device was at an address, and in how many hours of work and others.';

-- Finds the pairs of an epoch of which so many days have passed. Those of the open epoch replace the ones of the night
-- before; those of an epoch that has ended are added to the ones of before, which lose weight.
create function avtryck.find_household_pairs(of_epoch integer, passed integer, is_ended boolean) returns bigint
language plpgsql as $$
declare
    return_min constant double precision := 0.3 + 0.2 * (least(greatest(passed, 7), 14) - 7) / 21::double precision;
    found bigint;
begin
    create temporary table stay on commit drop as select * from avtryck.household_stays(of_epoch);
    analyze stay;
    delete from avtryck.address_kind where epoch = of_epoch;
    insert into avtryck.address_kind (address, epoch, kind, devices, returning_devices)
    select address, of_epoch, case
               when devices >= 6 and returning_devices < 0.3::double precision * devices and are_phones then 1
               when devices > 12 or devices >= 6 and returning_devices < return_min * devices then 2
               when devices >= 3 and work_hours > 2 * other_hours then 3
               else 0 end, devices, returning_devices
    from (
        select address, count(*) as devices, bool_and(is_phone) as are_phones,
               count(*) filter (where bit_count(days::bit(32)) >= 2) as returning_devices,
               sum(work_hours) as work_hours, sum(other_hours) as other_hours
        from stay group by address
    ) as address;
    create temporary table home on commit drop as
    select stay.address, stay.device, stay.home_days,
           ln(1::double precision + count(*) over (partition by stay.address)) / ln(2::double precision) as crowd
    from stay join avtryck.address_kind as kind on kind.epoch = of_epoch and kind.address = stay.address
    where kind.kind = 0 and stay.home_days <> 0;
    analyze home;
    create temporary table ended on commit drop as
    with of_device as (select device, bit_or(home_days) as home_days from stay group by device),
    pair as (
        select a.device as a, b.device as b,
               sum((bit_count((a.home_days & b.home_days)::bit(32))
                    + 0.5::double precision * least(bit_count(a.home_days::bit(32)), bit_count(b.home_days::bit(32)))) / a.crowd) as score,
               bit_or(a.home_days) as a_days, bit_or(b.home_days) as b_days,
               bit_or(a.home_days & b.home_days) as days, count(*) as addresses
        from home as a join home as b on a.address = b.address and a.device < b.device
        group by 1, 2
    )
    select pair.a, pair.b, pair.score, bit_count(pair.days::bit(32))::integer as days, pair.addresses::integer
    from pair join of_device as one on one.device = pair.a join of_device as other on other.device = pair.b
    where bit_count(pair.a_days::bit(32)) >= 0.34::double precision * bit_count(one.home_days::bit(32))
      and bit_count(pair.b_days::bit(32)) >= 0.34::double precision * bit_count(other.home_days::bit(32));
    delete from avtryck.household_pair where is_open;
    if is_ended then
        insert into ended select a, b, score * exp(ln(2::double precision) * -0.5), days, addresses from avtryck.household_scores(0);
        delete from avtryck.household_pair;
    end if;
    insert into avtryck.household_pair (a, b, is_open, score, days, addresses)
    select a, b, not is_ended, sum(score), sum(days), sum(addresses) from ended
    where avtryck.household_gone_key(a) not in (select key from avtryck.household_gone)
      and avtryck.household_gone_key(b) not in (select key from avtryck.household_gone)
    group by a, b having sum(score) >= 0.01 or not is_ended;
    get diagnostics found = row_count;
    drop table stay, home, ended;
    return found;
end
$$;
comment on function avtryck.find_household_pairs is 'Finds the pairs of an epoch, and stores or adds them up; returns how many.';

create function avtryck.household_scores(passed integer) returns table (
    a uuid, b uuid, score double precision, days bigint, addresses bigint
) language sql stable
begin atomic
    with now as (
        select coalesce(one.device, pair.a) as a, coalesce(other.device, pair.b) as b, pair.is_open, pair.score, pair.days, pair.addresses
        from avtryck.household_pair as pair
        left join avtryck.household_device as one on one.node = pair.a
        left join avtryck.household_device as other on other.node = pair.b
    )
    select least(a, b), greatest(a, b),
           sum(case when is_open then score else score * exp(ln(2::double precision) * -passed / 28) end),
           sum(days), sum(addresses)
    from now where a <> b group by 1, 2;
end;
comment on function avtryck.household_scores is 'The pairs of the devices as they are grouped now, when so many days of the open epoch have passed.';

create view avtryck.household_detail as
select member.household, known.device_group, member.since, member.score, member.days, member.addresses
from avtryck.household_member as member left join avtryck.link_node as known using (node)
where member.household is not null;
comment on view avtryck.household_detail is 'Which devices share a home, and on what evidence: never where.';
comment on column avtryck.household_detail.household is 'The number of the household, the same from night to night.';
comment on column avtryck.household_detail.device_group is 'The device, as link_node.device_group; null where it is an ID without a group.';
comment on column avtryck.household_detail.since is 'Since when it is a member.';
comment on column avtryck.household_detail.score is 'The sum of its scores with the others.';
comment on column avtryck.household_detail.days is 'The most days that it has in common with one of the others.';
comment on column avtryck.household_detail.addresses is 'At how many addresses they were, an address of each 14 days counted again.';

create view avtryck.household_size as
select devices, count(*) as households from (
    select count(*) as devices from avtryck.household_member where household is not null group by household
) as household group by devices;
comment on view avtryck.household_size is 'How many households there are of each size.';
comment on column avtryck.household_size.devices is 'How many devices.';
comment on column avtryck.household_size.households is 'How many households have so many.';

create view avtryck.sighting_detail as
select node, day, array_remove(array(select hour from generate_series(0, 23) as hour where hours & (1 << hour) <> 0), null) as hours
from avtryck.sighting;
comment on view avtryck.sighting_detail is 'When a device was seen at some address.';
comment on column avtryck.sighting_detail.node is 'As sighting.node.';
comment on column avtryck.sighting_detail.day is 'As sighting.day.';
comment on column avtryck.sighting_detail.hours is 'The hours there in which it was seen.';

create view avtryck.household_pair_detail as
select a as node, score, days, addresses, is_open from avtryck.household_pair
union all
select b, score, days, addresses, is_open from avtryck.household_pair;
comment on view avtryck.household_pair_detail is 'Each pair from either end, without the other.';
comment on column avtryck.household_pair_detail.node is 'As household_pair.a.';
comment on column avtryck.household_pair_detail.score is 'As household_pair.score.';
comment on column avtryck.household_pair_detail.days is 'As household_pair.days.';
comment on column avtryck.household_pair_detail.addresses is 'As household_pair.addresses.';
comment on column avtryck.household_pair_detail.is_open is 'As household_pair.is_open.';
