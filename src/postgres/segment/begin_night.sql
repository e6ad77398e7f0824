-- Begins to evaluate everybody where that is due: at three o'clock UTC.
update avtryck.segment set next_range = 0, full_began_at = now()
where ended_at is null and next_range is null
  and full_began_at < date_trunc('day', now() at time zone 'UTC' - interval '3 hours') at time zone 'UTC' + interval '3 hours'
