-- A sender may repeat any value. A hash index keeps equal values in a chain of pages that each insert walks to its end:
-- with 800,000 rows of one visitor a row took 290 µs. A btree orders equal values by their place, so that the next one
-- is found like any other. What a btree costs more than a hash, the loader saves by the order in which it brings rows
-- (docs/performance.md).

drop index avtryck.hit_visitor_id, avtryck.hit_maid, avtryck.hit_partner_uid, avtryck.hit_click_id;

-- On the parent only: days that are made from now on have them, earlier ones as told below.
create index hit_visitor_id on only avtryck.hit (visitor_id) where visitor_id is not null;
create index hit_maid on only avtryck.hit (lower(maid collate "C")) where maid is not null;
-- Bytes are compared ten times faster than words of a language. A query has to name the collation too.
create index hit_partner_uid on only avtryck.hit (partner_uid collate "C") where partner_uid is not null;
-- Reports look for clicks alone: by their ID, and by their visitor, who may have a million other hits.
create index hit_click_id on only avtryck.hit (click_id, received_at) where kind = 4 and click_id is not null;
create index hit_click_visitor on only avtryck.hit (visitor_id, received_at) where kind = 4 and visitor_id is not null;

-- Builds the indexes of `hit` that the partition of a day lacks. While it runs, nothing can be loaded into that day.
create function avtryck.index_hit_day(day date) returns integer language plpgsql as $$
declare
    partition text := 'hit_' || to_char(day, 'YYYYMMDD');
    own regclass := to_regclass('avtryck.' || partition);
    missing record;
    made integer := 0;
begin
    if own is null then
        return 0;
    end if;
    for missing in
        select name, definition from avtryck.missing_hit_index where missing_hit_index.partition = own order by name
    loop
        execute regexp_replace(missing.definition, '^CREATE INDEX .+? USING ',
                               format('create index %I on avtryck.%I using ', partition || substr(missing.name, 4), partition));
        execute format('alter index avtryck.%I attach partition avtryck.%I', missing.name, partition || substr(missing.name, 4));
        made := made + 1;
    end loop;
    return made;
end $$;
comment on function avtryck.index_hit_day is 'Builds the indexes of hit that the partition of a UTC day lacks, and returns how many. Nothing can be loaded into that day meanwhile.';

create view avtryck.missing_hit_index as
select day.inhrelid::regclass as partition, own.relname as name, pg_get_indexdef(own.oid) as definition
from pg_inherits as day
cross join pg_index as index
join pg_class as own on own.oid = index.indexrelid
where day.inhparent = 'avtryck.hit'::regclass and index.indrelid = 'avtryck.hit'::regclass
  and not exists (select from pg_inherits as part join pg_index as built on built.indexrelid = part.inhrelid
                  where part.inhparent = index.indexrelid and built.indrelid = day.inhrelid);
comment on view avtryck.missing_hit_index is 'Which partitions of hit lack which index, after an upgrade that brought a new one. A job builds them, the newest day first; until then a subject''s rows of that day are found by reading it whole.';
comment on column avtryck.missing_hit_index.partition is 'The partition.';
comment on column avtryck.missing_hit_index.name is 'The name of the index of hit.';
comment on column avtryck.missing_hit_index.definition is 'Its definition.';

-- Hits still come for yesterday and today; a day of 5 million rows takes 12 seconds. The job index_days builds the
-- others in its own time, because a year of such days would take more than an hour.
select avtryck.index_hit_day(day) from avtryck.hit_day where day >= (now() at time zone 'UTC')::date - 1;
