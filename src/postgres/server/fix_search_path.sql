-- Functions of the schema whose body is a text, so that names in it are looked up at each call, look nowhere but in
-- Postgres itself. Other schemas are named where they are meant.
do $$
declare
    loose regprocedure;
begin
    for loose in
        select proc.oid from pg_proc as proc
        where proc.pronamespace = 'avtryck'::regnamespace and proc.prosqlbody is null
          and pg_has_role(proc.proowner, 'usage')
          and not exists (select from unnest(proc.proconfig) as setting where setting like 'search_path=%')
    loop
        execute format('alter function %s set search_path = pg_catalog, pg_temp', loose);
    end loop;
end $$
