-- $1: the subjects that a visitor is. The groups that they are in, with the reason in words.
select known.segment::integer as number, known.name_sv, known.name_en, known.reason_sv, known.reason_en,
       (extract(epoch from min(member.since)) * 1000000)::bigint as since
from avtryck.segment_member as member join avtryck.segment as known using (segment)
where member.subject = any($1) and known.ended_at is null
group by known.segment order by min(member.since), known.segment limit 100
