-- What partners and webhooks are told of segments: which IDs they were told, what they are still to be told, and what
-- every delivery was. What somebody says against it is noted in the transaction in which it is said.

-- The IDs themselves, of which everything else has a hash only.
alter table avtryck.permit_part add column kinds smallint[], add column ids text[];
comment on column avtryck.permit_part.kinds is 'As subject_id.kind; null of rows that an earlier version wrote.';
comment on column avtryck.permit_part.ids is 'As subject_id.id; null where the permit lacks match.';

create table avtryck.subject_id (
    subject uuid primary key,
    kind smallint not null check (kind in (2, 4, 5)),
    partner text not null,
    id text not null,
    permit smallint not null check (permit & 15 = 15),
    last_seen timestamptz not null
);
create index subject_id_last_seen on avtryck.subject_id (last_seen);
comment on table avtryck.subject_id is 'The IDs of subjects that permit store, measure, profile and match somewhere, for partners that know them. Gone once none of their sites permits it.';
comment on column avtryck.subject_id.subject is 'As link_node.node.';
comment on column avtryck.subject_id.kind is 'As link_node.kind: 2 a MAID, 4 a partner''s ID, 5 a user.';
comment on column avtryck.subject_id.partner is 'The partner whose ID it is; empty where it is none''s.';
comment on column avtryck.subject_id.id is 'The ID: a MAID in lower case, a partner''s ID, a user''s key in hex.';
comment on column avtryck.subject_id.permit is 'As hit.permit, of the last hit that said so.';
comment on column avtryck.subject_id.last_seen is 'When that was, to a week.';

create function avtryck.permits_export(of_subject uuid, of_partner text) returns boolean language sql stable
    return exists (select from avtryck.subject_permit
                   where subject = of_subject and partner = of_partner and permit & 15 = 15)
       and not exists (select from avtryck.subject_permit
                       where subject = of_subject and partner in (of_partner, '') and permit & 15 <> 15
                         and consent_source between 2 and 5);
comment on function avtryck.permits_export is 'Whether a partner may be told of a subject: by the partner''s rules it permits store, measure, profile and match now, and its own word refuses that nowhere.';

create table avtryck.export_target (
    target text primary key,
    last_number bigint not null default 0,
    compared_at timestamptz,
    full_at timestamptz,
    full_began_at timestamptz,
    full_parts integer not null default 0,
    full_segment smallint,
    full_id text
);
comment on table avtryck.export_target is 'How far each partner and each webhook has been told.';
comment on column avtryck.export_target.target is 'The partner''s key; of a webhook, webhook/ and its key.';
comment on column avtryck.export_target.last_number is 'The number of the last delivery.';
comment on column avtryck.export_target.compared_at is 'When members were last compared with what the partner was told.';
comment on column avtryck.export_target.full_at is 'When the last full list was begun that the partner has.';
comment on column avtryck.export_target.full_began_at is 'When the full list was begun that is under way; null where none is.';
comment on column avtryck.export_target.full_parts is 'How many parts of it were made.';
comment on column avtryck.export_target.full_segment is 'The segment of the last line of the last part.';
comment on column avtryck.export_target.full_id is 'The ID of that line.';

create table avtryck.export_segment (
    partner text not null,
    segment smallint not null,
    matched bigint not null,
    counted_at timestamptz not null,
    is_told boolean not null,
    primary key (partner, segment)
);
comment on table avtryck.export_segment is 'How many members of a segment a partner could be told of: with fewer than segment.min_size it is told of none.';
comment on column avtryck.export_segment.partner is 'The partner.';
comment on column avtryck.export_segment.segment is 'As segment.segment.';
comment on column avtryck.export_segment.matched is 'Members with an ID that the partner knows, and with its permit.';
comment on column avtryck.export_segment.counted_at is 'When they were counted: once a day, so that two looks do not tell of one person.';
comment on column avtryck.export_segment.is_told is 'Whether that was enough.';

create table avtryck.export_delivery (
    target text not null,
    number bigint not null,
    delivery uuid not null,
    kind text not null check (kind in ('remove', 'delta', 'full', 'event')),
    part integer not null,
    is_last boolean not null,
    from_segment smallint,
    from_id text,
    until_segment smallint,
    until_id text,
    lines integer,
    made_at timestamptz not null default now(),
    delivered_at timestamptz,
    primary key (target, number)
);
create index export_delivery_open on avtryck.export_delivery (target, number) where delivered_at is null;
create index export_delivery_made_at on avtryck.export_delivery (made_at);
comment on table avtryck.export_delivery is 'Every delivery: made before it is sent, so that one that is cut off is sent again under the same ID. Kept for three years.';
comment on column avtryck.export_delivery.target is 'As export_target.target.';
comment on column avtryck.export_delivery.number is 'Its number among those of the target, from 1 on.';
comment on column avtryck.export_delivery.delivery is 'Its ID, by which the receiver knows that it has it already.';
comment on column avtryck.export_delivery.kind is 'remove; delta, what came since; full, all there is; event, of a webhook.';
comment on column avtryck.export_delivery.part is 'Which part of a full list; 1 of anything else.';
comment on column avtryck.export_delivery.is_last is 'Whether it is the last part.';
comment on column avtryck.export_delivery.from_segment is 'Of a part of a full list: the line after which it begins, as segment and ID; null at the start.';
comment on column avtryck.export_delivery.from_id is 'See from_segment. Null once it is delivered.';
comment on column avtryck.export_delivery.until_segment is 'The line with which it ends; null at the end.';
comment on column avtryck.export_delivery.until_id is 'See until_segment. Null once it is delivered.';
comment on column avtryck.export_delivery.lines is 'How many lines it had; null before it was delivered.';
comment on column avtryck.export_delivery.made_at is 'When it was made.';
comment on column avtryck.export_delivery.delivered_at is 'When the receiver had it.';

create table avtryck.export_told (
    told bigint generated always as identity primary key,
    partner text not null,
    segment smallint not null,
    subject uuid not null,
    subject_key uuid not null,
    id text not null,
    id_key uuid not null,
    permit smallint not null check (permit & 15 = 15),
    number bigint,
    told_at timestamptz,
    unique (partner, segment, id)
);
create index export_told_subject on avtryck.export_told (subject);
create index export_told_subject_key on avtryck.export_told (subject_key);
create index export_told_id_key on avtryck.export_told (id_key);
create index export_told_number on avtryck.export_told (partner, number);
comment on table avtryck.export_told is 'Which partner was told that whom is in which segment, or is to be told.';
comment on column avtryck.export_told.told is 'The number of the row.';
comment on column avtryck.export_told.partner is 'The partner.';
comment on column avtryck.export_told.segment is 'As segment.segment.';
comment on column avtryck.export_told.subject is 'As segment_member.subject.';
comment on column avtryck.export_told.subject_key is 'The same as suppression.key.';
comment on column avtryck.export_told.id is 'What the partner knows it by.';
comment on column avtryck.export_told.id_key is 'As suppression.key, of that ID; of a user''s, of the user.';
comment on column avtryck.export_told.permit is 'What allowed it, as hit.permit.';
comment on column avtryck.export_told.number is 'The delivery that told it, as export_delivery.number; null before.';
comment on column avtryck.export_told.told_at is 'When that was made; null before.';

create table avtryck.export_outbox (
    removal bigint generated always as identity primary key,
    partner text not null,
    segment smallint not null,
    id text not null,
    id_key uuid not null,
    subject_key uuid not null,
    due timestamptz not null default clock_timestamp(),
    number bigint
);
create index export_outbox_number on avtryck.export_outbox (partner, number, removal);
create index export_outbox_due on avtryck.export_outbox (due);
create index export_outbox_id on avtryck.export_outbox (partner, segment, id);
create index export_outbox_id_key on avtryck.export_outbox (id_key);
create index export_outbox_subject_key on avtryck.export_outbox (subject_key);
comment on table avtryck.export_outbox is 'Whom partners are to be told to take out of segments. Written in the transaction of the reason for it, and gone once the partner has it.';
comment on column avtryck.export_outbox.removal is 'The number of the row.';
comment on column avtryck.export_outbox.partner is 'The partner.';
comment on column avtryck.export_outbox.segment is 'As segment.segment.';
comment on column avtryck.export_outbox.id is 'As export_told.id.';
comment on column avtryck.export_outbox.id_key is 'As export_told.id_key.';
comment on column avtryck.export_outbox.subject_key is 'As export_told.subject_key.';
comment on column avtryck.export_outbox.due is 'Since when.';
comment on column avtryck.export_outbox.number is 'The delivery, as export_delivery.number; null before there is one.';

create table avtryck.export_past (
    partner text not null,
    segment smallint not null,
    id_key uuid not null,
    subject_key uuid not null,
    number bigint not null,
    told_at timestamptz not null,
    ended_at timestamptz not null
);
create index export_past_id_key on avtryck.export_past (id_key);
create index export_past_subject_key on avtryck.export_past (subject_key);
create index export_past_ended_at on avtryck.export_past (ended_at);
comment on table avtryck.export_past is 'What partners were told of whom, and no longer holds: the answer to who got my data. Kept for three years, as hashes.';
comment on column avtryck.export_past.partner is 'The partner.';
comment on column avtryck.export_past.segment is 'As segment.segment.';
comment on column avtryck.export_past.id_key is 'As export_told.id_key.';
comment on column avtryck.export_past.subject_key is 'As export_told.subject_key.';
comment on column avtryck.export_past.number is 'As export_told.number.';
comment on column avtryck.export_past.told_at is 'As export_told.told_at.';
comment on column avtryck.export_past.ended_at is 'Since when the partner is to have it no more.';

create table avtryck.export_webhook (
    webhook text not null,
    segment smallint not null,
    primary key (webhook, segment)
);
create index export_webhook_segment on avtryck.export_webhook (segment);
comment on table avtryck.export_webhook is 'Which webhooks are told who comes into which segments and leaves them, as the configuration of the last sender says.';
comment on column avtryck.export_webhook.webhook is 'The webhook.';
comment on column avtryck.export_webhook.segment is 'As segment.segment.';

create table avtryck.webhook_outbox (
    event bigint generated always as identity primary key,
    webhook text not null,
    segment smallint not null,
    subject uuid not null,
    is_entry boolean not null,
    reason text not null,
    at timestamptz not null,
    number bigint
);
create index webhook_outbox_number on avtryck.webhook_outbox (webhook, number, event);
create index webhook_outbox_subject on avtryck.webhook_outbox (subject);
create index webhook_outbox_at on avtryck.webhook_outbox (at);
comment on table avtryck.webhook_outbox is 'Who came into segments or left them, until the webhook has it. Deleted by retention.';
comment on column avtryck.webhook_outbox.event is 'The number of the row.';
comment on column avtryck.webhook_outbox.webhook is 'The webhook.';
comment on column avtryck.webhook_outbox.segment is 'As segment.segment.';
comment on column avtryck.webhook_outbox.subject is 'As segment_member.subject.';
comment on column avtryck.webhook_outbox.is_entry is 'As segment_change.is_entry.';
comment on column avtryck.webhook_outbox.reason is 'As segment_change.reason.';
comment on column avtryck.webhook_outbox.at is 'As segment_change.at.';
comment on column avtryck.webhook_outbox.number is 'The delivery, as export_delivery.number; null before there is one.';

-- What takes somebody out at a partner.

create function avtryck.untell(which bigint[]) returns void language plpgsql as $$
begin
    if cardinality(which) = 0 then
        return;
    end if;
    -- What was in no delivery yet, the partner was not told.
    with gone as (delete from avtryck.export_told where told = any(which) returning *),
    due as (
        insert into avtryck.export_outbox (partner, segment, id, id_key, subject_key)
        select partner, segment, id, id_key, subject_key from gone where number is not null
    )
    insert into avtryck.export_past (partner, segment, id_key, subject_key, number, told_at, ended_at)
    select partner, segment, id_key, subject_key, number, told_at, clock_timestamp() from gone where number is not null;
end
$$;
comment on function avtryck.untell is 'Ends what partners were told, and notes that they are to be told so.';

create function avtryck.untell_members() returns trigger language plpgsql as $$
begin
    if exists (select from avtryck.export_told) then
        perform avtryck.untell(array(
            select told.told from gone join avtryck.export_told as told using (subject, segment) order by 1
        ));
    end if;
    return null;
end
$$;
comment on function avtryck.untell_members is 'Has partners told who left a segment, for whatever reason.';
create trigger untold_member after delete on avtryck.segment_member
    referencing old table as gone for each statement execute function avtryck.untell_members();

create function avtryck.untell_refused() returns trigger language plpgsql as $$
begin
    if tg_op <> 'DELETE' and not exists (select from said where permit & 15 <> 15) then
        return null;
    end if;
    delete from avtryck.subject_id as known using said
    where known.subject = said.subject and not exists (
        select from avtryck.subject_permit as other where other.subject = known.subject and other.permit & 15 = 15
    );
    if exists (select from avtryck.export_told) then
        perform avtryck.untell(array(
            select distinct told.told from said join avtryck.export_told as told using (subject)
            where not avtryck.permits_export(told.subject, told.partner) order by 1
        ));
    end if;
    return null;
end
$$;
comment on function avtryck.untell_refused is 'Has partners told who no longer permits that they are told.';
-- By their names they come after those that end memberships, so everybody locks rows in one order.
create trigger untold_refusal_new after insert on avtryck.subject_permit
    referencing new table as said for each statement execute function avtryck.untell_refused();
create trigger untold_refusal_changed after update on avtryck.subject_permit
    referencing new table as said for each statement execute function avtryck.untell_refused();
create trigger untold_refusal_gone after delete on avtryck.subject_permit
    referencing old table as said for each statement execute function avtryck.untell_refused();

create function avtryck.untell_suppressed() returns trigger language plpgsql as $$
begin
    if not exists (select from avtryck.export_told) then
        return null;
    end if;
    -- The lock under which members are compared with what partners were told: "identity" in ASCII.
    perform pg_advisory_xact_lock(x'6964656e74697479'::bigint);
    perform avtryck.untell(array(
        select distinct told.told from listed
        join avtryck.export_told as told on listed.key in (told.id_key, told.subject_key) order by 1
    ));
    return null;
end
$$;
comment on function avtryck.untell_suppressed is 'Has partners told whose ID got on the list of suppression, though its visitor did not.';
create trigger untold_suppression_new after insert on avtryck.suppression
    referencing new table as listed for each statement execute function avtryck.untell_suppressed();
create trigger untold_suppression_changed after update on avtryck.suppression
    referencing new table as listed for each statement execute function avtryck.untell_suppressed();

create function avtryck.note_segment_events() returns trigger language plpgsql as $$
begin
    if not exists (select from avtryck.export_webhook) then
        return null;
    end if;
    -- Nothing is told of those who left before it was told that they came, and only that they left where somebody may
    -- have been told already.
    with gone as (
        delete from avtryck.webhook_outbox as waiting using said
        where not said.is_entry and waiting.subject = said.subject and waiting.segment = said.segment and waiting.is_entry
        returning waiting.webhook, waiting.segment, waiting.subject, waiting.number
    )
    insert into avtryck.webhook_outbox (webhook, segment, subject, is_entry, reason, at)
    select known.webhook, said.segment, said.subject, said.is_entry, said.reason, said.at
    from said join avtryck.export_webhook as known using (segment)
    where said.is_entry or not exists (
        select from gone
        where gone.webhook = known.webhook and gone.segment = said.segment and gone.subject = said.subject and gone.number is null)
    order by said.at, said.subject;
    return null;
end
$$;
comment on function avtryck.note_segment_events is 'Notes for webhooks who came into a segment or left it.';
create trigger webhook_event after insert on avtryck.segment_change
    referencing new table as said for each statement execute function avtryck.note_segment_events();

-- What is exported of a subject.

create view avtryck.export_told_detail as
select told.subject_key, told.id_key, told.partner, segment.key as segment, told.id,
       avtryck.permit_names(told.permit) as permit, told.number, told.told_at
from avtryck.export_told as told join avtryck.segment using (segment);
comment on view avtryck.export_told_detail is 'export_told in words.';
comment on column avtryck.export_told_detail.subject_key is 'As export_told.subject_key.';
comment on column avtryck.export_told_detail.id_key is 'As export_told.id_key.';
comment on column avtryck.export_told_detail.partner is 'As export_told.partner.';
comment on column avtryck.export_told_detail.segment is 'As segment.key.';
comment on column avtryck.export_told_detail.id is 'As export_told.id.';
comment on column avtryck.export_told_detail.permit is 'As export_told.permit.';
comment on column avtryck.export_told_detail.number is 'As export_told.number.';
comment on column avtryck.export_told_detail.told_at is 'As export_told.told_at.';

create view avtryck.export_outbox_detail as
select waiting.subject_key, waiting.id_key, waiting.partner, segment.key as segment, waiting.id, waiting.due, waiting.removal
from avtryck.export_outbox as waiting join avtryck.segment using (segment);
comment on view avtryck.export_outbox_detail is 'export_outbox in words.';
comment on column avtryck.export_outbox_detail.subject_key is 'As export_outbox.subject_key.';
comment on column avtryck.export_outbox_detail.id_key is 'As export_outbox.id_key.';
comment on column avtryck.export_outbox_detail.partner is 'As export_outbox.partner.';
comment on column avtryck.export_outbox_detail.segment is 'As segment.key.';
comment on column avtryck.export_outbox_detail.id is 'As export_outbox.id.';
comment on column avtryck.export_outbox_detail.due is 'As export_outbox.due.';
comment on column avtryck.export_outbox_detail.removal is 'As export_outbox.removal.';

create view avtryck.export_past_detail as
select past.subject_key, past.id_key, past.partner, segment.key as segment, past.number, past.told_at, past.ended_at
from avtryck.export_past as past join avtryck.segment using (segment);
comment on view avtryck.export_past_detail is 'export_past in words.';
comment on column avtryck.export_past_detail.subject_key is 'As export_past.subject_key.';
comment on column avtryck.export_past_detail.id_key is 'As export_past.id_key.';
comment on column avtryck.export_past_detail.partner is 'As export_past.partner.';
comment on column avtryck.export_past_detail.segment is 'As segment.key.';
comment on column avtryck.export_past_detail.number is 'As export_past.number.';
comment on column avtryck.export_past_detail.told_at is 'As export_past.told_at.';
comment on column avtryck.export_past_detail.ended_at is 'As export_past.ended_at.';

create view avtryck.webhook_outbox_detail as
select waiting.subject, waiting.webhook, segment.key as segment, waiting.is_entry, waiting.reason, waiting.at, waiting.event
from avtryck.webhook_outbox as waiting join avtryck.segment using (segment);
comment on view avtryck.webhook_outbox_detail is 'webhook_outbox in words.';
comment on column avtryck.webhook_outbox_detail.subject is 'As webhook_outbox.subject.';
comment on column avtryck.webhook_outbox_detail.webhook is 'As webhook_outbox.webhook.';
comment on column avtryck.webhook_outbox_detail.segment is 'As segment.key.';
comment on column avtryck.webhook_outbox_detail.is_entry is 'As webhook_outbox.is_entry.';
comment on column avtryck.webhook_outbox_detail.reason is 'As webhook_outbox.reason.';
comment on column avtryck.webhook_outbox_detail.at is 'As webhook_outbox.at.';
comment on column avtryck.webhook_outbox_detail.event is 'As webhook_outbox.event.';
