-- $1: subjects; $2: the key of the segment. Returns how many would come in and how many would leave.
with is_in as materialized (
    select profile.subject from avtryck.profile /* kin */
    where profile.subject = any($1) and (/* condition */)
      and profile.subject not in (select avtryck.segment_refused($1, $2))
),
held as materialized (
    select member.subject from avtryck.segment join avtryck.segment_member as member using (segment)
    where segment.key = $2 and segment.ended_at is null and member.subject = any($1)
)
select (select count(*) from is_in where subject not in (select subject from held)),
       (select count(*) from held where subject not in (select subject from is_in))
