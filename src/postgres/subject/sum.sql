-- $1: the visitor.
select count(*) as hits
from avtryck.hit
where visitor_id = $1
