-- What a batch adds to exposure is one row of arrays, which costs the batch little; another connection
-- adds it up at once. Reading joins the two.

create table avtryck.exposure_part (
    subjects uuid[] not null,
    creative_keys bigint[] not null,
    first_at timestamptz[] not null,
    last_at timestamptz[] not null,
    impressions integer[] not null,
    clicks integer[] not null
);
-- Hashes and times hardly shrink, and the row is read once.
alter table avtryck.exposure_part
    alter column subjects set storage external,
    alter column creative_keys set storage external,
    alter column first_at set storage external,
    alter column last_at set storage external,
    alter column impressions set storage external,
    alter column clicks set storage external;
comment on table avtryck.exposure_part is 'What batches add to exposure, until it is added: one row a batch, whose arrays have an element for each pair of subject and creative. Written in the transaction that loads the hits.';
comment on column avtryck.exposure_part.subjects is 'As exposure.subject.';
comment on column avtryck.exposure_part.creative_keys is 'As exposure.creative_key.';
comment on column avtryck.exposure_part.first_at is 'When the first impression in the batch was received; where there is none, the first click.';
comment on column avtryck.exposure_part.last_at is 'When the last impression in the batch was received; where there is none, the last click.';
comment on column avtryck.exposure_part.impressions is 'How many impressions.';
comment on column avtryck.exposure_part.clicks is 'How many clicks.';

comment on table avtryck.exposure is 'Who saw which creative, how often, but for the last batches, which are in exposure_part: exposure_detail has both. Deleted by retention.';

create view avtryck.exposure_part_detail as
select subject, creative_key,
       coalesce(min(first_at) filter (where impressions > 0), min(first_at)) as first_at,
       coalesce(max(last_at) filter (where impressions > 0), max(last_at)) as last_at,
       sum(impressions)::integer as impressions, sum(clicks)::integer as clicks
from (select unnest(subjects) as subject, unnest(creative_keys) as creative_key,
             unnest(first_at) as first_at, unnest(last_at) as last_at,
             unnest(impressions) as impressions, unnest(clicks) as clicks
      from avtryck.exposure_part) as part
group by subject, creative_key;
comment on view avtryck.exposure_part_detail is 'What is not yet added to exposure, a row a pair.';

-- Of a full join the planner takes a condition on the subject to both sides, so that one is found by index.
create or replace view avtryck.exposure_detail as
select pair.subject, ad.partner, ad.campaign, ad.creative,
       pair.first_at, pair.last_at, pair.impressions, pair.clicks
from (select subject, creative_key,
             case when part.subject is null then added.first_at
                  when added.subject is null then part.first_at
                  when (added.impressions > 0) = (part.impressions > 0) then least(added.first_at, part.first_at)
                  when added.impressions > 0 then added.first_at
                  else part.first_at end as first_at,
             case when part.subject is null then added.last_at
                  when added.subject is null then part.last_at
                  when (added.impressions > 0) = (part.impressions > 0) then greatest(added.last_at, part.last_at)
                  when added.impressions > 0 then added.last_at
                  else part.last_at end as last_at,
             coalesce(added.impressions, 0) + coalesce(part.impressions, 0) as impressions,
             coalesce(added.clicks, 0) + coalesce(part.clicks, 0) as clicks
      from avtryck.exposure as added full join avtryck.exposure_part_detail as part using (subject, creative_key)) as pair
left join avtryck.ad on ad.key = pair.creative_key;
