-- Two that add up at once share the rows out. Those of the table are locked in the order of their keys, so that
-- both come through.
with part as (delete from avtryck.exposure_part returning *),
pair as (
    select unnest(subjects) as subject, unnest(creative_keys) as creative_key,
           unnest(first_at) as first_at, unnest(last_at) as last_at,
           unnest(impressions) as impressions, unnest(clicks) as clicks
    from part
)
insert into avtryck.exposure as known (subject, creative_key, first_at, last_at, impressions, clicks)
select subject, creative_key,
       coalesce(min(first_at) filter (where impressions > 0), min(first_at)),
       coalesce(max(last_at) filter (where impressions > 0), max(last_at)),
       sum(impressions)::integer, sum(clicks)::integer
from pair group by subject, creative_key order by subject, creative_key
on conflict (subject, creative_key) do update set
    first_at = case
        when (known.impressions > 0) = (excluded.impressions > 0) then least(known.first_at, excluded.first_at)
        when known.impressions > 0 then known.first_at
        else excluded.first_at end,
    last_at = case
        when (known.impressions > 0) = (excluded.impressions > 0) then greatest(known.last_at, excluded.last_at)
        when known.impressions > 0 then known.last_at
        else excluded.last_at end,
    impressions = known.impressions + excluded.impressions,
    clicks = known.clicks + excluded.clicks
