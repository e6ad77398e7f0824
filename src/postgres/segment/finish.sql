-- $1: segment. Everybody is evaluated: sizes it.
update avtryck.segment set
    size = counted.size, sized_at = now(), is_exposed = counted.size >= min_size and ended_at is null,
    full_at = now(), next_range = null, error = null, failed_at = null,
    state = case state when 'failed' then 'behind' else state end
from (select count(*) as size from avtryck.segment_member where segment = $1) as counted
where segment.segment = $1
