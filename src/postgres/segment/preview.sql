-- $1, $2: the first and the last subject of a range; $3: the key of the segment, which is not compared with itself.
with checked as materialized (
    select profile.subject, (/* condition */) as is_in from avtryck.profile /* kin */
    where profile.subject between $1 and $2
),
member as materialized (
    select checked.subject, device.class, place.region from checked
    left join avtryck.subject_seen as seen using (subject)
    left join avtryck.device on device.key = seen.device_key
    left join avtryck.place on place.key = seen.place_key
    where is_in
)
select 'subjects', '', count(*) from checked
union all
select 'members', '', count(*) from member
union all
select 'class', coalesce(class, 'unknown'), count(*) from member group by class
union all
select 'region', coalesce(region, 'unknown'), count(*) from member group by region
union all
select 'segment', segment.key, count(*) from member
join avtryck.segment_member as other using (subject) join avtryck.segment using (segment)
where segment.key <> $3 and segment.ended_at is null group by segment.key
