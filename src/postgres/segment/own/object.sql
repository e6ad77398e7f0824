-- $1: the subjects that a visitor is; $2: what the visitor objects to; $3: the number of the segment or import.
-- Only what holds for one of them, so that nobody fills the table with objections to nothing.
insert into avtryck.objection (subject, kind, name)
select own.subject, $2::text, what.name
from unnest($1::uuid[]) as own (subject)
cross join (
    select known.key as name from avtryck.segment as known
    where $2 = 'segment' and known.segment = $3::integer
      and exists (select from avtryck.segment_member as member
                  where member.segment = known.segment and member.subject = any($1))
    union all
    select used.supplier from avtryck.import as used
    where $2 = 'supplier' and used.import = $3::integer
      and exists (select from avtryck.attribute_value as held
                  where held.import = used.import and held.subject = any($1))
    union all
    select '' where $2 = 'segments'
      and exists (select from avtryck.subject_permit as permit where permit.subject = any($1))
) as what
on conflict (subject, kind, name) do update set at = excluded.at
