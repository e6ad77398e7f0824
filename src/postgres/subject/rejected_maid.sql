-- $1: a MAID in lower case, as bytes. In the text form of the payload other bytes are escaped, so that
-- lowering it is safe.
select payload,
       row_to_json((select line from (select 'rejected_hit' as "table", rejected_hit.*) as line))::text as columns
from avtryck.rejected_hit
where position(lower(encode($1::bytea, 'escape') collate "C") in lower(encode(payload, 'escape') collate "C")) > 0
order by rejected_at
