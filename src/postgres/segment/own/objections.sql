-- $1: the subjects that a visitor is. The groups and the suppliers that they object to, of those that there are.
select known.segment::integer as number, known.name_sv, known.name_en, null::text as supplier
from avtryck.segment as known
where known.ended_at is null and exists (
    select from avtryck.objection as said where said.subject = any($1) and said.kind = 'segment' and said.name = known.key
)
union all
select min(used.import), null, null, used.supplier
from avtryck.import as used
where exists (
    select from avtryck.objection as said
    where said.subject = any($1) and said.kind = 'supplier' and said.name = used.supplier
)
group by used.supplier
order by 4 nulls first, 1 limit 100
