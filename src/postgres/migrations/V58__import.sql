-- Facts about subjects that come from outside: of registers, and bought.

create table avtryck.attribute (
    attribute smallint primary key,
    key text not null unique,
    kind text not null,
    class text not null,
    text_sv text not null,
    text_en text not null,
    min_group integer not null
);
comment on table avtryck.attribute is 'The attributes that this version knows; an import brings the table up to date.';
comment on column avtryck.attribute.attribute is 'The number.';
comment on column avtryck.attribute.key is 'The name in manifests and in segments.';
comment on column avtryck.attribute.kind is 'words, steps (words in an order), number or hash.';
comment on column avtryck.attribute.class is 'ordinary, financial, credit, special or minor.';
comment on column avtryck.attribute.text_sv is 'The name for a visitor, in Swedish.';
comment on column avtryck.attribute.text_en is 'The same in English.';
comment on column avtryck.attribute.min_group is 'A group that is made by it has at least so many subjects.';

create table avtryck.import (
    import integer primary key generated always as identity,
    name text not null unique,
    supplier text not null,
    legal_basis text not null,
    purposes text[] not null,
    key_kind text not null,
    partner text not null,
    columns smallint[] not null,
    valid_from date not null,
    valid_until date not null,
    ended_at timestamptz,
    check (valid_until > valid_from)
);
comment on table avtryck.import is 'What is imported under one name, as the manifest of its last file says.';
comment on column avtryck.import.import is 'The number.';
comment on column avtryck.import.name is 'The name in the manifest.';
comment on column avtryck.import.supplier is 'Whom the data comes from, as the person is told.';
comment on column avtryck.import.legal_basis is 'On what ground it is used.';
comment on column avtryck.import.purposes is 'What segments may use it for.';
comment on column avtryck.import.key_kind is 'What its rows are about: visitor, maid, device_id, partner_uid, user, postal_code or municipality.';
comment on column avtryck.import.partner is 'The partner whose IDs the rows name; empty where none is.';
comment on column avtryck.import.columns is 'The attributes in attribute_value.values, in their order, as attribute.attribute.';
comment on column avtryck.import.valid_from is 'The first day on which it is used, UTC.';
comment on column avtryck.import.valid_until is 'The day on which it is used no more, UTC.';
comment on column avtryck.import.ended_at is 'When it was ended by hand.';

create table avtryck.import_file (
    file integer primary key generated always as identity,
    import integer not null,
    sha256 bytea not null,
    replaces boolean not null,
    began_at timestamptz not null,
    done_at timestamptz,
    rows_read bigint not null default 0,
    new bigint not null default 0,
    changed bigint not null default 0,
    unchanged bigint not null default 0,
    rejected bigint not null default 0,
    suppressed bigint not null default 0,
    ended bigint not null default 0,
    unique (import, sha256),
    check (rows_read = new + changed + unchanged + rejected + suppressed)
);
comment on table avtryck.import_file is 'The files that were taken, and how far: the counts are written with the rows that they count.';
comment on column avtryck.import_file.file is 'The number.';
comment on column avtryck.import_file.import is 'As import.import.';
comment on column avtryck.import_file.sha256 is 'The SHA-256 of the file; of several files, of their digests.';
comment on column avtryck.import_file.replaces is 'Whether subjects that it does not name are ended.';
comment on column avtryck.import_file.began_at is 'When it was begun.';
comment on column avtryck.import_file.done_at is 'When it was done; null while it is not.';
comment on column avtryck.import_file.rows_read is 'How many rows of the file are done. A run that was cut off goes on after them.';
comment on column avtryck.import_file.new is 'Subjects that had no values.';
comment on column avtryck.import_file.changed is 'Subjects that had other values.';
comment on column avtryck.import_file.unchanged is 'Subjects that had these values.';
comment on column avtryck.import_file.rejected is 'Rows that are wrong.';
comment on column avtryck.import_file.suppressed is 'Rows of subjects that withdrew or were erased.';
comment on column avtryck.import_file.ended is 'Subjects that it does not name, and that it ended.';

create table avtryck.attribute_value (
    import integer not null,
    subject uuid not null,
    key uuid not null,
    "values" text[] not null,
    changed_at timestamptz not null,
    ended_at timestamptz,
    primary key (subject, import)
);
create index attribute_value_import on avtryck.attribute_value (import);
comment on table avtryck.attribute_value is 'What is imported of a subject: one row for each import.';
comment on column avtryck.attribute_value.import is 'As import.import.';
comment on column avtryck.attribute_value.subject is 'As link_node.node.';
comment on column avtryck.attribute_value.key is 'As suppression.key.';
comment on column avtryck.attribute_value."values" is 'The values in the order of import.columns; null where there is none.';
comment on column avtryck.attribute_value.changed_at is 'When they changed last.';
comment on column avtryck.attribute_value.ended_at is 'When a file that replaced the others did not name the subject.';

create table avtryck.attribute_area (
    import integer not null,
    area text not null,
    "values" text[] not null,
    changed_at timestamptz not null,
    ended_at timestamptz,
    primary key (area, import)
);
comment on table avtryck.attribute_area is 'The same of an area: it applies to whoever permits locate.';
comment on column avtryck.attribute_area.import is 'As import.import.';
comment on column avtryck.attribute_area.area is 'A postal code of five digits, or the name of a municipality in lower case.';
comment on column avtryck.attribute_area."values" is 'As attribute_value.values.';
comment on column avtryck.attribute_area.changed_at is 'When they changed last.';
comment on column avtryck.attribute_area.ended_at is 'As attribute_value.ended_at.';

create unlogged table avtryck.import_named (
    file integer not null,
    subject uuid not null
);
create index import_named_file on avtryck.import_named (file, subject);
comment on table avtryck.import_named is 'Whom a file names that replaces the others, while it is taken.';
comment on column avtryck.import_named.file is 'As import_file.file.';
comment on column avtryck.import_named.subject is 'As attribute_value.subject; of an area, a hash of it.';

create view avtryck.attribute_now as
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
  and not exists (select from avtryck.suppression where suppression.key = held.key);
comment on view avtryck.attribute_now is 'What is known of subjects today: valid, not ended, and of nobody who withdrew. What a subject permits is not asked here.';
comment on column avtryck.attribute_now.subject is 'As attribute_value.subject.';
comment on column avtryck.attribute_now.attribute is 'As attribute.attribute.';
comment on column avtryck.attribute_now.value is 'The value.';
comment on column avtryck.attribute_now.number is 'The same of a number; else null.';
comment on column avtryck.attribute_now.import is 'As import.import.';
comment on column avtryck.attribute_now.purposes is 'As import.purposes.';

create view avtryck.attribute_area_now as
select used.key_kind as area_kind, held.area, named.attribute, named.value,
       case when known.kind = 'number' then named.value::double precision end as number,
       held.import, used.purposes
from avtryck.attribute_area as held
join avtryck.import as used using (import)
cross join lateral unnest(used.columns, held."values") as named (attribute, value)
join avtryck.attribute as known using (attribute)
where held.ended_at is null and named.value is not null
  and used.ended_at is null and used.valid_from <= (now() at time zone 'UTC')::date
  and used.valid_until > (now() at time zone 'UTC')::date;
comment on view avtryck.attribute_area_now is 'What is known of areas today.';
comment on column avtryck.attribute_area_now.area_kind is 'postal_code or municipality.';
comment on column avtryck.attribute_area_now.area is 'As attribute_area.area.';
comment on column avtryck.attribute_area_now.attribute is 'As attribute.attribute.';
comment on column avtryck.attribute_area_now.value is 'The value.';
comment on column avtryck.attribute_area_now.number is 'The same of a number; else null.';
comment on column avtryck.attribute_area_now.import is 'As import.import.';
comment on column avtryck.attribute_area_now.purposes is 'As import.purposes.';

create view avtryck.attribute_detail as
select held.subject, import.name as import, import.supplier, import.legal_basis, import.purposes,
       import.valid_from, import.valid_until, held.changed_at, held.ended_at,
       (select jsonb_object_agg(known.key, named.value)
        from unnest(import.columns, held."values") as named (attribute, value)
        join avtryck.attribute as known using (attribute) where named.value is not null) as attributes
from avtryck.attribute_value as held join avtryck.import using (import);
comment on view avtryck.attribute_detail is 'What is imported of each subject, with where it is from, on what ground, and until when.';
comment on column avtryck.attribute_detail.subject is 'As attribute_value.subject.';
comment on column avtryck.attribute_detail.import is 'As import.name.';
comment on column avtryck.attribute_detail.supplier is 'As import.supplier.';
comment on column avtryck.attribute_detail.legal_basis is 'As import.legal_basis.';
comment on column avtryck.attribute_detail.purposes is 'As import.purposes.';
comment on column avtryck.attribute_detail.valid_from is 'As import.valid_from.';
comment on column avtryck.attribute_detail.valid_until is 'As import.valid_until.';
comment on column avtryck.attribute_detail.changed_at is 'As attribute_value.changed_at.';
comment on column avtryck.attribute_detail.ended_at is 'As attribute_value.ended_at.';
comment on column avtryck.attribute_detail.attributes is 'The values by the keys of their attributes.';
