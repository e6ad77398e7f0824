-- What visitors say of their own devices and homes, and what their page shows of a home.

-- Whether anything that ties an ID may be shown or used: its last word permits it somewhere, and refuses it nowhere.
create function avtryck.permits_now(of_subject uuid, needed smallint) returns boolean language sql stable
    return exists (select from avtryck.subject_permit where subject = of_subject and permit & needed = needed)
       and not exists (select from avtryck.subject_permit
                       where subject = of_subject and permit & 1 = 1 and permit & needed <> needed
                         and consent_source between 2 and 5);
comment on function avtryck.permits_now is 'Whether a subject permits now what is needed, as the bits of a permit: some site has it, and the subject refuses it on none.';

create table avtryck.household_shown (
    node uuid primary key,
    others smallint not null check (others in (0, 1, 2, 4)),
    days smallint not null,
    addresses smallint not null,
    shown_on date not null,
    next_others smallint check (next_others in (0, 1, 2, 4)),
    next_on date
);
comment on table avtryck.household_shown is 'What visitors'' pages say of households. A change is shown once it has held for 14 days, so that nobody learns who came or left, or when.';
comment on column avtryck.household_shown.node is 'The device, as household_member.node.';
comment on column avtryck.household_shown.others is 'How many other devices are shown: 0 none, 1 one, 2 two or three, 4 four or more.';
comment on column avtryck.household_shown.days is 'At least how many days they have in common: 1, 3, 7, 14, 30 or 60. Read again 14 days later.';
comment on column avtryck.household_shown.addresses is 'At how many addresses: 1, or 2 for more.';
comment on column avtryck.household_shown.shown_on is 'The night on which that was read.';
comment on column avtryck.household_shown.next_others is 'What is to be shown instead if it holds; null where it is the same.';
comment on column avtryck.household_shown.next_on is 'The first night that found it.';

create table avtryck.household_apart (
    node uuid not null,
    other uuid not null,
    since date not null default (now() at time zone 'UTC')::date,
    primary key (node, other),
    check (node <> other)
);
create index household_apart_other on avtryck.household_apart (other);
comment on table avtryck.household_apart is 'Devices of which a visitor said that their home is another. Deleted after 400 days, when the visitor''s cookie has ended.';
comment on column avtryck.household_apart.node is 'The visitor who said so.';
comment on column avtryck.household_apart.other is 'The other device, as household_member.node.';
comment on column avtryck.household_apart.since is 'When.';

create table avtryck.household_never (
    key uuid primary key,
    since date not null default (now() at time zone 'UTC')::date
);
comment on table avtryck.household_never is 'Whose household is never computed, because the visitor said so. Deleted after 400 days, when the visitor''s cookie has ended.';
comment on column avtryck.household_never.key is 'A hash of the ID (avtryck.household_gone_key).';
comment on column avtryck.household_never.since is 'When it was said.';

create view avtryck.household_apart_detail as
select node, encode(substring(sha256('avtryck apart'::bytea || uuid_send(other)) from 1 for 16), 'hex') as other_hash, since
from avtryck.household_apart
union all
select other, encode(substring(sha256('avtryck apart'::bytea || uuid_send(node)) from 1 for 16), 'hex'), since
from avtryck.household_apart;
comment on view avtryck.household_apart_detail is 'Each pair of household_apart from either end.';
comment on column avtryck.household_apart_detail.node is 'As link_node.node.';
comment on column avtryck.household_apart_detail.other_hash is 'A hash of the other, which is no key of anything else.';
comment on column avtryck.household_apart_detail.since is 'As household_apart.since.';

-- From now on the devices of households rest on proved ties alone: a stranger who names the MAID of another comes into
-- no home by it, and takes nobody out of one. What was found over claims cannot be told from the rest.
delete from avtryck.household_pair;
delete from avtryck.household_member;
create or replace view avtryck.household_device as
select node, first_value(node) over (partition by proved_group order by node) as device
from avtryck.link_node where proved_group <> 0;
comment on column avtryck.household_pair.a is 'One device: of the IDs that proved ties join (link_node.proved_group) the smallest, or an ID that has none.';

create or replace function avtryck.forget_sightings(nodes uuid[]) returns void language plpgsql as $$
declare
    devices uuid[];
    left_households bigint[];
begin
    select array_agg(distinct found.node) into devices from (
        select unnest(nodes) as node
        union all
        select other.node from avtryck.link_node as own
        join avtryck.link_node as other using (proved_group)
        where own.node = any(nodes) and own.proved_group <> 0
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
    delete from avtryck.household_shown where node = any(devices);
    with gone as (delete from avtryck.household_member where node = any(devices) returning household)
    select array_agg(household) into left_households from gone;
    delete from avtryck.household_member where household in (
        select household from avtryck.household_member where household = any(left_households)
        group by household having count(*) < 2
    );
end
$$;

create or replace function avtryck.fold_sightings(parts integer) returns bigint language plpgsql as $$
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
    having avtryck.household_gone_key(seen.node) not in (select key from avtryck.household_never)
    order by epoch, seen.address;
    select count(*) into folded from (select from avtryck.sighting_part limit 1) as left_over;
    return folded;
end
$$;

create or replace function avtryck.household_scores(passed integer) returns table (
    a uuid, b uuid, score double precision, days bigint, addresses bigint
) language sql stable
begin atomic
    with now as (
        select coalesce(one.device, pair.a) as a, coalesce(other.device, pair.b) as b, pair.is_open, pair.score, pair.days, pair.addresses
        from avtryck.household_pair as pair
        left join avtryck.household_device as one on one.node = pair.a
        left join avtryck.household_device as other on other.node = pair.b
    ),
    apart as (
        select coalesce(one.device, apart.node) as node, coalesce(other.device, apart.other) as other
        from avtryck.household_apart as apart
        left join avtryck.household_device as one on one.node = apart.node
        left join avtryck.household_device as other on other.node = apart.other
    ),
    kept as (
        select now.* from now
        -- What may be one device, though nobody vouches for it, is not two that share a home.
        left join avtryck.link_node as one on one.node = now.a and one.device_group <> 0
        left join avtryck.link_node as other on other.node = now.b and other.device_group = one.device_group
        where now.a <> now.b and other.node is null
          and (now.a, now.b) not in (select node, other from apart)
          and (now.b, now.a) not in (select node, other from apart)
    )
    select least(a, b), greatest(a, b),
           sum(case when is_open then score else score * exp(ln(2::double precision) * -passed / 28) end),
           sum(days), sum(addresses)
    from kept group by 1, 2;
end;

-- IDs that may be one device are counted as one.
create or replace view avtryck.household_size as
select devices, count(*) as households from (
    select count(distinct coalesce(nullif(known.device_group, 0)::text, member.node::text)) as devices
    from avtryck.household_member as member left join avtryck.link_node as known using (node)
    where household is not null group by household
) as household group by devices;

create function avtryck.leave_refused_households() returns void language plpgsql as $$
begin
    if not exists (select from avtryck.household_never) then
        return;
    end if;
    -- What has been joined to such an ID since is of the same device.
    with found as (select a as node from avtryck.household_pair union select b from avtryck.household_pair),
    held as (
        select found.node as device, found.node from found
        union
        select found.node, other.node from found
        join avtryck.link_node as known on known.node = found.node and known.proved_group <> 0
        join avtryck.link_node as other on other.proved_group = known.proved_group
    ),
    refused as (
        select distinct device from held
        where avtryck.household_gone_key(node) in (select key from avtryck.household_never)
    )
    insert into avtryck.household_gone (key)
    select avtryck.household_gone_key(device) from refused on conflict do nothing;
end
$$;
comment on function avtryck.leave_refused_households is 'Notes that the devices leave whose household is never to be computed.';

create function avtryck.keep_households_apart() returns void language sql
begin atomic
    delete from avtryck.household_member as member using (
        select coalesce(one.device, apart.node) as node, coalesce(other.device, apart.other) as other
        from avtryck.household_apart as apart
        left join avtryck.household_device as one on one.node = apart.node
        left join avtryck.household_device as other on other.node = apart.other
    ) as apart, avtryck.household_member as stranger
    where member.node = apart.node and stranger.node = apart.other and stranger.household = member.household;
end;
comment on function avtryck.keep_households_apart is 'Takes out of a household whoever said not to share a home with one of its devices.';

create function avtryck.show_households(night date) returns void language plpgsql as $$
begin
    create temporary table before on commit drop as
    select distinct on (coalesce(known.device, shown.node)) coalesce(known.device, shown.node) as node,
           shown.others, shown.days, shown.addresses, shown.shown_on, shown.next_others, shown.next_on
    from avtryck.household_shown as shown left join avtryck.household_device as known using (node)
    order by coalesce(known.device, shown.node), shown.shown_on, shown.node;
    delete from avtryck.household_shown;
    with size as (
        -- IDs that may be one device are counted as one.
        select household, count(distinct coalesce(nullif(known.device_group, 0)::text, member.node::text)) - 1 as others
        from avtryck.household_member as member left join avtryck.link_node as known using (node)
        where household is not null group by household
    ),
    found as (
        select member.node,
               (case when others >= 4 then 4 when others >= 2 then 2 else others end)::smallint as others,
               (select max(step) from unnest(array[1, 3, 7, 14, 30, 60]) as step where step <= greatest(days, 1))::smallint as days,
               least(addresses, 2)::smallint as addresses
        from avtryck.household_member as member join size using (household)
    ),
    compared as (
        select node, coalesce(found.others, 0) as now, found.days as found_days, found.addresses as found_addresses,
               coalesce(before.others, 0) as others, before.days, before.addresses, before.shown_on,
               before.next_others, before.next_on,
               coalesce(before.next_others = coalesce(found.others, 0) and night - before.next_on >= 14, false) as has_held
        from found full join before using (node)
    ),
    judged as (
        select *, has_held or now = others and night - shown_on >= 14 as is_read, not has_held and now <> others as is_waiting
        from compared where others <> 0 or now <> 0
    )
    insert into avtryck.household_shown (node, others, days, addresses, shown_on, next_others, next_on)
    select node, case when has_held then now else others end,
           coalesce(case when is_read then found_days else days end, 0),
           coalesce(case when is_read then found_addresses else addresses end, 0),
           case when is_read then night else coalesce(shown_on, night) end,
           case when is_waiting then now end,
           case when is_waiting then case when next_others = now then next_on else night end end
    from judged;
    drop table before;
    delete from avtryck.household_shown where others = 0 and next_others is null;
end
$$;
comment on function avtryck.show_households is 'Brings household_shown up to date after a night.';
