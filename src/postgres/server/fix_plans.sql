-- Plans within functions that answer reports are not compiled, whoever asks: Postgres would do so because it expects far
-- more rows of many partitions than there are, and compiling takes seconds where the answer takes milliseconds.
do $$
declare
    compiled regprocedure;
begin
    for compiled in
        select proc.oid from pg_proc as proc
        where proc.pronamespace = 'avtryck'::regnamespace and proc.proretset and proc.provolatile = 's'
          and proc.prolang = (select oid from pg_language where lanname = 'plpgsql')
          and pg_has_role(proc.proowner, 'usage')
          and not coalesce(proc.proconfig @> array['jit=off'], false)
    loop
        execute format('alter function %s set jit = off', compiled);
    end loop;
end $$
