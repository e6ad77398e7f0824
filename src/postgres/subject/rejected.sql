-- $1: bytes that a payload must hold to be looked at.
select payload,
       row_to_json((select line from (select 'rejected_hit' as "table", rejected_hit.*) as line))::text as columns
from avtryck.rejected_hit
where position($1::bytea in payload) > 0
order by rejected_at
