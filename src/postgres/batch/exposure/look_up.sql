-- $1: subjects; $2: creatives; $3: the spool. Each pair that has had an impression, with how far the spool was loaded
-- then. `offset 0` keeps the lookups by key what they are, however many there are.
with wanted as materialized (select * from unnest($1, $2) as wanted (subject, creative_key)),
known as (
    select wanted.subject, wanted.creative_key, added.impressions, added.last_at
    from wanted cross join lateral (
        select impressions, last_at from avtryck.exposure
        where exposure.subject = wanted.subject and exposure.creative_key = wanted.creative_key
        offset 0) as added
    where added.impressions > 0
    union all
    select subject, creative_key, part.impressions, part.last_at
    from avtryck.exposure_part_detail as part join wanted using (subject, creative_key)
    where part.impressions > 0
),
position as (select chunk, byte_offset from avtryck.spool_position where spool_id = $3)
select array_agg(subject), array_agg(creative_key), array_agg(impressions), array_agg(last_at),
       (select chunk from position), (select byte_offset from position)
from known
