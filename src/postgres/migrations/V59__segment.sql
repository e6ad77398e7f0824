-- Who is in which segments, and what a collector has to read again.

create table avtryck.segment (
    segment smallint primary key generated always as identity,
    key text not null unique,
    size integer not null default 0,
    is_exposed boolean not null default false
);
comment on table avtryck.segment is 'The segments that the configuration names, and those that it named once.';
comment on column avtryck.segment.segment is 'The number.';
comment on column avtryck.segment.key is 'The key in the configuration.';
comment on column avtryck.segment.size is 'How many subjects are in it.';
comment on column avtryck.segment.is_exposed is 'Whether pages may be told who is in it: it is large enough, and was evaluated by the text in force.';

create table avtryck.segment_member (
    segment smallint not null,
    subject uuid not null,
    since timestamptz not null,
    primary key (subject, segment)
);
create index segment_member_segment on avtryck.segment_member (segment);
comment on table avtryck.segment_member is 'Who is in which segment now.';
comment on column avtryck.segment_member.segment is 'As segment.segment.';
comment on column avtryck.segment_member.subject is 'As link_node.node: a visitor''s ID, or the key of another ID.';
comment on column avtryck.segment_member.since is 'Since when.';

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
