-- The arrays are sorted by key, so rows are locked in that order. Given back as arrays, tens of thousands
-- of pairs are one message.
with counted as (
insert into avtryck.exposure as known (subject, creative_key, first_at, last_at, impressions, clicks)
select * from unnest($1, $2, $3, $4, $5, $6)
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
returning subject, creative_key, impressions, last_at
)
select array_agg(subject), array_agg(creative_key), array_agg(impressions), array_agg(last_at) from counted
