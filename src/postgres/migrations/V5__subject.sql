-- Subject access, withdrawal and erasure: whose hits are no longer loaded, and what was erased.

create table avtryck.suppression (
    key uuid primary key,
    since timestamptz not null,
    id_kind text not null,
    reason text not null
);
comment on table avtryck.suppression is 'IDs that were withdrawn or erased: their hits become counts and no rows. A visitor''s entry goes when no cookie with its ID can be left; those of other IDs stay.';
comment on column avtryck.suppression.key is 'First 128 bits of the SHA-256 of a context, the kind of ID and the ID (src/subject.rs). The ID itself is not held.';
comment on column avtryck.suppression.since is 'When it was asked for last.';
comment on column avtryck.suppression.id_kind is 'visitor, maid or partner_uid.';
comment on column avtryck.suppression.reason is 'withdrawal (rows from before stay) or erasure (they were deleted).';

create table avtryck.erasure (
    erased_at timestamptz not null,
    key uuid not null,
    id_kind text not null,
    asked_by text not null,
    removed jsonb not null
);
create index erasure_key on avtryck.erasure (key);
comment on table avtryck.erasure is 'What was erased: a row for each time that it was asked for, also where nothing was left to remove.';
comment on column avtryck.erasure.erased_at is 'When it was done.';
comment on column avtryck.erasure.key is 'Whose data: the key as in suppression, never the ID.';
comment on column avtryck.erasure.id_kind is 'visitor, maid or partner_uid.';
comment on column avtryck.erasure.asked_by is 'cli (avtryck subject erase) or visitor (their own page).';
comment on column avtryck.erasure.removed is 'Rows removed, by table.';

-- Subject access by the other IDs, as hit_visitor_id is for visitors.
create index hit_maid on avtryck.hit using hash (lower(maid collate "C")) where maid is not null;
create index hit_partner_uid on avtryck.hit using hash (partner_uid) where partner_uid is not null;
