-- What Citus refuses of a table that lies on several servers: a subquery of no columns, and a lateral one with a limit. The
-- first is written with a column wherever it stands; the answer is the same.
do $$
declare
    body text;
begin
    for body in
        select pg_get_functiondef(proc.oid) from pg_proc as proc
        where proc.pronamespace = 'avtryck'::regnamespace and proc.prokind in ('f', 'p')
          and pg_get_functiondef(proc.oid) ~* 'exists\s*\(\s*select\s+from\s'
    loop
        execute regexp_replace(body, '(exists\s*\(\s*select)(\s+from\s)', '\1 1\2', 'gi');
    end loop;
end $$;

create function avtryck.known_clicks(ids text[])
returns table (click_id text, visitor_id uuid, is_third_party boolean, follower uuid) language plpgsql stable as $$
#variable_conflict use_column
declare
    since constant timestamptz := now() - interval '31 days';
    wanted text;
begin
    -- `order by` and `limit` go by an index however many hits name the same click.
    if to_regclass('pg_catalog.pg_dist_partition') is null then
        return query
        select asked.click_id, click.visitor_id, click.flags & 64 <> 0, follower.visitor_id
        from unnest(ids) as asked (click_id)
        cross join lateral (
            select visitor_id, flags from avtryck.hit
            where hit.click_id = asked.click_id and kind = 4 and avtryck.is_counted(flags) and received_at >= since
            order by received_at limit 1) as click
        left join lateral (
            select visitor_id from avtryck.hit
            where hit.click_id = asked.click_id and kind = 2 and event_name = 'conversion' and flags & 16777216 = 0
              and received_at >= since
            order by received_at limit 1) as follower on true;
        return;
    end if;
    -- Citus takes each question by itself.
    foreach wanted in array ids loop
        select hit.visitor_id, hit.flags & 64 <> 0 into visitor_id, is_third_party from avtryck.hit
        where hit.click_id = wanted and kind = 4 and avtryck.is_counted(flags) and received_at >= since
        order by received_at limit 1;
        continue when not found;
        select hit.visitor_id into follower from avtryck.hit
        where hit.click_id = wanted and kind = 2 and event_name = 'conversion' and flags & 16777216 = 0 and received_at >= since
        order by received_at limit 1;
        click_id := wanted;
        return next;
    end loop;
end $$;
comment on function avtryck.known_clicks is 'The first click of each click ID, with the first visitor whose conversion followed it; of the last 31 days.';
