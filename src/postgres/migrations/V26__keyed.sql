-- Keys of dimension rows can no longer be chosen. A key was the XXH3 64-bit hash of its content, and the first content
-- under a key stayed: whoever found a second content with the key of a coming campaign, site or device (3 s on one core)
-- had it in all reports. From now on it is a hash that needs the secret below.
--
-- No row gets another key: hits, counts and exposures point to rows by key, and partitions of hits are too large to be
-- rewritten. The loader reads the rows that have a key of before (`not is_keyed`) when it starts, and goes on giving
-- their content that key. So a content has one key, and what is counted by it goes on being counted. A content that
-- somebody had put in place of another keeps its key too, but what it stood in place of now gets one of its own.

create table avtryck.secret (
    name text primary key,
    value bytea not null
);
comment on table avtryck.secret is 'What only the collectors may know, the same for all that load into this database. Whoever can read it can choose keys. A collector that cannot read it does not load.';
comment on column avtryck.secret.name is 'key: for the keys of dimension rows and event IDs.';
comment on column avtryck.secret.value is 'Random bytes. Never change them: known content would get new keys beside its old ones.';
-- Two random UUIDs have 244 random bits, by Postgres's strong generator.
insert into avtryck.secret (name, value)
values ('key', sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));

-- Default privileges may have given others a right to it.
do $$
declare
    grantee text;
begin
    for grantee in
        select distinct case acl.grantee when 0 then 'public' else acl.grantee::regrole::text end
        from pg_class, aclexplode(relacl) as acl
        where pg_class.oid = 'avtryck.secret'::regclass and acl.grantee <> relowner
    loop
        execute format('revoke all on avtryck.secret from %s', grantee);
    end loop;
end $$;

alter table avtryck.place add column is_keyed boolean not null default false;
alter table avtryck.network add column is_keyed boolean not null default false;
alter table avtryck.device add column is_keyed boolean not null default false;
alter table avtryck.ad add column is_keyed boolean not null default false;
alter table avtryck.site add column is_keyed boolean not null default false;
create index place_former on avtryck.place (key) where not is_keyed;
create index network_former on avtryck.network (key) where not is_keyed;
create index device_former on avtryck.device (key) where not is_keyed;
create index ad_former on avtryck.ad (key) where not is_keyed;
create index site_former on avtryck.site (key) where not is_keyed;
comment on column avtryck.place.key is 'SipHash-1-3 of the content, with the secret: all loaders agree on it. Where not is_keyed, XXH3 64-bit of the content.';
comment on column avtryck.network.key is 'As place.key.';
comment on column avtryck.device.key is 'As place.key.';
comment on column avtryck.ad.key is 'As place.key.';
comment on column avtryck.site.key is 'As place.key.';
comment on column avtryck.place.is_keyed is 'Whether the key needs the secret; false for rows of 0.1.0.';
comment on column avtryck.network.is_keyed is 'As place.is_keyed.';
comment on column avtryck.device.is_keyed is 'As place.is_keyed.';
comment on column avtryck.ad.is_keyed is 'As place.is_keyed.';
comment on column avtryck.site.is_keyed is 'As place.is_keyed.';
