-- What persons say against groups and against imported data. It holds from the transaction on in which they say it.

create table avtryck.objection (
    subject uuid not null,
    kind text not null check (kind in ('segment', 'segments', 'supplier')),
    name text not null,
    at timestamptz not null default now(),
    primary key (subject, kind, name)
);
comment on table avtryck.objection is 'What subjects object to on their own page: it is asked when segments are evaluated, when data is imported, and when it is used. Deleted when the subject is erased.';
comment on column avtryck.objection.subject is 'As link_node.node.';
comment on column avtryck.objection.kind is 'segment: to be in one group; segments: to be in any; supplier: that data of a supplier is used.';
comment on column avtryck.objection.name is 'segment.key, or import.supplier; empty for segments.';
comment on column avtryck.objection.at is 'When.';

alter table avtryck.segment
    add column name_sv text not null default '',
    add column name_en text not null default '',
    add column reason_sv text not null default '',
    add column reason_en text not null default '';
comment on column avtryck.segment.name_sv is 'What its members are told that it is called, in Swedish.';
comment on column avtryck.segment.name_en is 'The same in English.';
comment on column avtryck.segment.reason_sv is 'Who is in it, in words for its members, in Swedish.';
comment on column avtryck.segment.reason_en is 'The same in English.';

alter table avtryck.segment_change drop constraint segment_change_reason_check;
alter table avtryck.segment_change add constraint segment_change_reason_check
    check (reason in ('rule', 'definition', 'expiry', 'split', 'withdrawal', 'end', 'objection'));
comment on column avtryck.segment_change.reason is 'rule: what is known of the subject changed; definition: the segment did; expiry: time passed; split: its IDs came apart; withdrawal: it no longer permits profile; end: the segment ended; objection: the subject does not want to be in it.';

create function avtryck.segment_refused(subjects uuid[], segment_key text) returns setof uuid language sql stable
begin atomic
    select objection.subject from avtryck.objection
    where objection.subject = any(subjects)
      and (objection.kind = 'segments' or objection.kind = 'segment' and objection.name = segment_key)
    union
    select users.subject from avtryck.subject_user as users
    join avtryck.objection on objection.subject = users.owner
    where users.subject = any(subjects)
      and (objection.kind = 'segments' or objection.kind = 'segment' and objection.name = segment_key);
end;
comment on function avtryck.segment_refused is 'Those of some subjects who object to be in a segment, themselves or as a user that is logged in.';

create function avtryck.apply_objections() returns trigger language plpgsql as $$
begin
    with gone as (
        delete from avtryck.segment_member as member using said, avtryck.segment as of_segment
        where member.subject = said.subject and of_segment.segment = member.segment
          and (said.kind = 'segments' or said.kind = 'segment' and said.name = of_segment.key)
        returning member.segment, member.subject
    )
    insert into avtryck.segment_change (at, segment, subject, is_entry, reason)
    select distinct clock_timestamp(), segment, subject, false, 'objection' from gone;
    delete from avtryck.attribute_value as held using said, avtryck.import as used
    where said.kind = 'supplier' and held.subject = said.subject
      and used.import = held.import and used.supplier = said.name;
    perform avtryck.touch_subjects(array(
        select avtryck.subjects_touched_with(array(select subject from said))
    ));
    return null;
end
$$;
comment on function avtryck.apply_objections is 'Takes whoever objects out of the group, and deletes what the supplier said of them.';
create trigger objection_new after insert on avtryck.objection
    referencing new table as said for each statement execute function avtryck.apply_objections();

create or replace view avtryck.attribute_now as
select held.subject, named.attribute, named.value,
       case when known.kind = 'number' then named.value::double precision end as number,
       held.import, used.purposes
from avtryck.attribute_value as held
join avtryck.import as used using (import)
cross join lateral unnest(used.columns, held."values") as named (attribute, value)
join avtryck.attribute as known using (attribute)
where held.ended_at is null and named.value is not null
  and used.ended_at is null and used.valid_from <= (now() at time zone 'UTC')::date
  and used.valid_until > (now() at time zone 'UTC')::date
  and not exists (select from avtryck.suppression where suppression.key = held.key)
  and not exists (
      select from avtryck.objection
      where objection.subject = held.subject and objection.kind = 'supplier' and objection.name = used.supplier
  );
comment on view avtryck.attribute_now is 'What is known of subjects today: valid, not ended, of nobody who withdrew, and of no supplier that they object to. What a subject permits is not asked here.';
