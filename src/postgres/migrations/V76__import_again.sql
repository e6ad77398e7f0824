-- A file may be taken again after another of its import: it is then what holds.

alter table avtryck.import_file drop constraint import_file_import_sha256_key;
create unique index import_file_open on avtryck.import_file (import, sha256) where done_at is null;
create index import_file_began_at on avtryck.import_file (import, began_at);
comment on table avtryck.import_file is 'The files that were taken, and how far: the counts are written with the rows that they count. A file that is taken again after another of its import has two rows.';
