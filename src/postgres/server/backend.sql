-- $1: the process of a backend. Its state, what it waits for, how far its COPY is, and whose locks it waits for.
select coalesce(activity.state, ''),
       coalesce(activity.wait_event_type || ':' || activity.wait_event, ''),
       concat_ws(' ', activity.query_start, progress.bytes_processed, progress.tuples_processed),
       array_to_string(pg_blocking_pids($1), ', ')
from pg_stat_activity as activity
left join pg_stat_progress_copy as progress on progress.pid = activity.pid
where activity.pid = $1
