-- Values end by themselves: each by the manifest of the file or the callback that said it last, whatever a later manifest
-- of the import says of others.

alter table avtryck.attribute_value
    add column valid_until date not null default 'infinity',
    add column untils date[];
update avtryck.attribute_value as held set valid_until = used.valid_until
from avtryck.import as used where used.import = held.import;
drop index avtryck.attribute_value_import;
create index attribute_value_import on avtryck.attribute_value (import, valid_until);
create index attribute_value_untils on avtryck.attribute_value (import) where untils is not null;
comment on column avtryck.attribute_value.valid_until is 'The day on which the last of the values is used no more, UTC, by the manifest of what said it; never later than import.valid_until.';
comment on column avtryck.attribute_value.untils is 'The same of each value, in the order of values; null where all have the same.';

alter table avtryck.attribute_area add column valid_until date not null default 'infinity';
update avtryck.attribute_area as held set valid_until = used.valid_until
from avtryck.import as used where used.import = held.import;
comment on column avtryck.attribute_area.valid_until is 'As attribute_value.valid_until.';

comment on column avtryck.import.valid_until is 'The day on which it is used no more, UTC. What the last file did not say ends by the manifest of the file that said it, if that is earlier.';

alter table avtryck.import_file add column terms bytea;
comment on column avtryck.import_file.terms is 'The SHA-256 of what the manifest said of supplier, ground, purposes and end when the file was begun; null of earlier versions. The same file is taken again where they are others.';

create or replace view avtryck.attribute_now as
select held.subject, named.attribute, named.value,
       case when known.kind = 'number' then named.value::double precision end as number,
       held.import, used.purposes, least(coalesce(named.until, held.valid_until), used.valid_until) as valid_until
from avtryck.attribute_value as held
join avtryck.import as used using (import)
cross join lateral unnest(used.columns, held."values", held.untils) as named (attribute, value, until)
join avtryck.attribute as known using (attribute)
where held.ended_at is null and named.value is not null
  and used.ended_at is null and used.valid_from <= (now() at time zone 'UTC')::date
  and used.valid_until > (now() at time zone 'UTC')::date
  and coalesce(named.until, held.valid_until) > (now() at time zone 'UTC')::date
  and not exists (select from avtryck.suppression where suppression.key = held.key)
  and not exists (
      select from avtryck.objection
      where objection.subject = held.subject and objection.kind = 'supplier' and objection.name = used.supplier
  );
comment on column avtryck.attribute_now.valid_until is 'The day on which it is used no more, UTC.';

create or replace view avtryck.attribute_area_now as
select used.key_kind as area_kind, held.area, named.attribute, named.value,
       case when known.kind = 'number' then named.value::double precision end as number,
       held.import, used.purposes
from avtryck.attribute_area as held
join avtryck.import as used using (import)
cross join lateral unnest(used.columns, held."values") as named (attribute, value)
join avtryck.attribute as known using (attribute)
where held.ended_at is null and named.value is not null
  and used.ended_at is null and used.valid_from <= (now() at time zone 'UTC')::date
  and used.valid_until > (now() at time zone 'UTC')::date
  and held.valid_until > (now() at time zone 'UTC')::date;

create or replace view avtryck.attribute_detail as
select held.subject, import.name as import, import.supplier, import.legal_basis, import.purposes,
       import.valid_from, least(held.valid_until, import.valid_until) as valid_until, held.changed_at, held.ended_at,
       (select jsonb_object_agg(known.key, named.value)
        from unnest(import.columns, held."values") as named (attribute, value)
        join avtryck.attribute as known using (attribute) where named.value is not null) as attributes
from avtryck.attribute_value as held join avtryck.import using (import);
comment on column avtryck.attribute_detail.valid_until is 'The day on which it is used no more, UTC.';

-- That a value holds longer changes nobody's segments.
create function avtryck.touch_reimported() returns trigger language plpgsql as $$
begin
    perform avtryck.touch_subjects(array(
        select changed.subject from former join changed using (subject, import)
        where changed."values" is distinct from former."values" or changed.ended_at is distinct from former.ended_at
           or changed.valid_until < former.valid_until
    ));
    return null;
end
$$;
comment on function avtryck.touch_reimported is 'Notes the subjects whose attributes are others than before.';
drop trigger segment_due_attribute_changed on avtryck.attribute_value;
create trigger segment_due_attribute_changed after update on avtryck.attribute_value
    referencing old table as former new table as changed for each statement execute function avtryck.touch_reimported();

create function avtryck.merge_untils(said text[], known text[], untils date[], known_until date, until date)
returns date[] language sql immutable
begin atomic
    select array_agg(case when new.said is null and new.known is not null then coalesce(new.ends, known_until) else until end
                     order by new.place)
    from unnest(said, known, untils) with ordinality as new (said, known, ends, place);
end;
comment on function avtryck.merge_untils is 'When each value of a subject ends that some are said of anew: those by the last argument, and the others when they did.';

create or replace function avtryck.fold_attributes(parts integer) returns boolean language plpgsql as $$
declare
    one avtryck.attribute_part;
begin
    -- Whoever withdraws or objects does so under this lock: "identity" in ASCII.
    perform pg_advisory_xact_lock(x'6964656e74697479'::bigint);
    for one in select * from avtryck.attribute_part order by part limit parts loop
        insert into avtryck.attribute_value as held (import, subject, key, "values", changed_at, valid_until)
        select said.import, said.subject, said.key,
               array(select value from json_array_elements_text(said.list::json) with ordinality as named (value, place) order by place),
               now(), used.valid_until
        from unnest(one.imports, one.subjects, one.keys, one."values") as said (import, subject, key, list)
        join avtryck.import as used using (import)
        where used.ended_at is null and cardinality(used.columns) = json_array_length(said.list::json)
          and not exists (select from avtryck.suppression where suppression.key = said.key)
          and not exists (
              select from avtryck.objection
              where objection.subject = said.subject and objection.kind = 'supplier' and objection.name = used.supplier
          )
        order by said.subject, said.import
        -- What a callback does not say stays, and ends when it did; what a file ended stays ended.
        on conflict (subject, import) do update
        set "values" = array(
                select coalesce(said, case when held.ended_at is null then known end)
                from unnest(excluded."values", held."values") with ordinality as both_of (said, known, place)
                order by place
            ),
            untils = case when held.untils is not null or held.valid_until <> excluded.valid_until then avtryck.merge_untils(
                excluded."values", held."values", held.untils, held.valid_until, excluded.valid_until
            ) end,
            valid_until = greatest(held.valid_until, excluded.valid_until), changed_at = now(), ended_at = null
        where held.ended_at is not null or exists (
            select from unnest(excluded."values", held."values", held.untils) as both_of (said, known, until)
            where said is not null
              and (known is distinct from said or coalesce(until, held.valid_until) <> excluded.valid_until)
        );
        delete from avtryck.attribute_part where part = one.part;
    end loop;
    return exists (select from avtryck.attribute_part);
end
$$;
