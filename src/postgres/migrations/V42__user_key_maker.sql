-- The collectors that share a database must make the same hash of a user.
create table avtryck.user_key_maker (
    fingerprint uuid primary key,
    since timestamptz not null,
    number integer not null unique
);
comment on table avtryck.user_key_maker is 'Which key makes hit.user_key: the last one. A collector whose first of user.keys is another one stores no user_key, unless it has the last one among its others: then its first becomes the last.';
comment on column avtryck.user_key_maker.fingerprint is 'A hash of the key, from which the key cannot be found.';
comment on column avtryck.user_key_maker.since is 'When a collector first came with it.';
comment on column avtryck.user_key_maker.number is 'Counts the keys.';
