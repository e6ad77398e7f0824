-- Attributes that come with partners' callbacks.

create table avtryck.attribute_part (
    part bigint generated always as identity primary key,
    imports integer[] not null,
    subjects uuid[] not null,
    keys uuid[] not null,
    "values" text[] not null
);
comment on table avtryck.attribute_part is 'What the callbacks of batches say of subjects, until it is added to attribute_value: one row a batch, whose arrays have an element a subject. Written in the transaction that loads the hits.';
comment on column avtryck.attribute_part.part is 'The number of the row.';
comment on column avtryck.attribute_part.imports is 'As attribute_value.import.';
comment on column avtryck.attribute_part.subjects is 'As attribute_value.subject.';
comment on column avtryck.attribute_part.keys is 'As attribute_value.key.';
comment on column avtryck.attribute_part."values" is 'As attribute_value.values, each as an array in JSON.';

create function avtryck.fold_attributes(parts integer) returns boolean language plpgsql as $$
declare
    one avtryck.attribute_part;
begin
    -- Whoever withdraws or objects does so under this lock: "identity" in ASCII.
    perform pg_advisory_xact_lock(x'6964656e74697479'::bigint);
    for one in select * from avtryck.attribute_part order by part limit parts loop
        insert into avtryck.attribute_value as held (import, subject, key, "values", changed_at)
        select said.import, said.subject, said.key,
               array(select value from json_array_elements_text(said.list::json) with ordinality as named (value, place) order by place),
               now()
        from unnest(one.imports, one.subjects, one.keys, one."values") as said (import, subject, key, list)
        join avtryck.import as used using (import)
        where used.ended_at is null and cardinality(used.columns) = json_array_length(said.list::json)
          and not exists (select from avtryck.suppression where suppression.key = said.key)
          and not exists (
              select from avtryck.objection
              where objection.subject = said.subject and objection.kind = 'supplier' and objection.name = used.supplier
          )
        order by said.subject, said.import
        -- What a callback does not say stays.
        on conflict (subject, import) do update
        set "values" = array(
                select coalesce(said, known) from unnest(excluded."values", held."values") with ordinality as both_of (said, known, place)
                order by place
            ), changed_at = now(), ended_at = null
        where held.ended_at is not null or held."values" is distinct from array(
            select coalesce(said, known) from unnest(excluded."values", held."values") with ordinality as both_of (said, known, place)
            order by place
        );
        delete from avtryck.attribute_part where part = one.part;
    end loop;
    return exists (select from avtryck.attribute_part);
end
$$;
comment on function avtryck.fold_attributes is 'Adds what so many batches say of subjects to attribute_value; returns whether anything is left.';
