-- Functions that answer reports are not compiled. Postgres expects far more rows of many partitions than there are, and
-- costs of plans without nested loops mean nothing: it would take seconds to compile a report that takes milliseconds, in
-- sessions of Grafana and of people. A collector's compile nothing.
do $$
declare
    dear regprocedure;
begin
    for dear in
        select proc.oid from pg_proc as proc
        where proc.pronamespace = 'avtryck'::regnamespace and pg_has_role(proc.proowner, 'usage')
          and (coalesce('enable_nestloop=off' = any(proc.proconfig), false)
               or proc.proretset and proc.provolatile = 's'
                  and proc.prolang = (select oid from pg_language where lanname = 'plpgsql'))
          and not exists (select from unnest(proc.proconfig) as setting where setting like 'jit=%')
    loop
        execute format('alter function %s set jit = off', dear);
    end loop;
end $$
