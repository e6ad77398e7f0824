-- Of a coordinator of Citus: hit, its dimensions (those tables whose key is a column of hit) and every other table of
-- the schema that is in shards. By which column, and whether it is whole on each server.
select class.relname::text,
       case known.partmethod when 'h' then column_to_column_name(known.logicalrelid, known.partkey) end,
       coalesce(known.partmethod = 'n' and known.repmodel = 't', false)
from pg_class as class
left join pg_dist_partition as known on known.logicalrelid = class.oid
where class.relnamespace = 'avtryck'::regnamespace and class.relkind in ('r', 'p') and not class.relispartition
  and (class.relname = 'hit' or known.partmethod = 'h'
       or exists (select 1 from pg_attribute as pointing
                  where pointing.attrelid = 'avtryck.hit'::regclass and not pointing.attisdropped
                    and pointing.attname = class.relname || '_key'))
