-- A clock that jumps destroys nothing. What is deleted by age is deleted by Postgres's clock, and only while that can be
-- believed (src/jobs/guard.rs).

create table avtryck.clock (
    one boolean primary key default true check (one),
    seen_at timestamptz not null,
    in_step_since timestamptz not null,
    wrong_at timestamptz,
    day_at timestamptz not null,
    days integer not null
);
comment on table avtryck.clock is 'What the collectors know of the clock of Postgres: one row. Jobs delete nothing until 24 hours after in_step_since.';
comment on column avtryck.clock.one is 'Always true: there is one row.';
comment on column avtryck.clock.seen_at is 'What the clock of Postgres showed when a collector looked last.';
comment on column avtryck.clock.in_step_since is 'Since when it has run in step with the clocks of the collectors. Time in which no collector looked is left out.';
comment on column avtryck.clock.wrong_at is 'When the clock of Postgres was last found to have jumped. That no collector looked for up to 30 days is not taken for that.';
comment on column avtryck.clock.day_at is 'When the last of the days was counted.';
comment on column avtryck.clock.days is 'Days on which collectors ran with their clocks in step. No jump of a clock changes it by more than one.';
-- A database that is in use knows when a batch was loaded last.
insert into avtryck.clock (seen_at, in_step_since, day_at, days)
select max(updated_at), max(updated_at) - interval '1 day', max(updated_at), 0
from avtryck.spool_position having max(updated_at) is not null;

create table avtryck.job (
    name text primary key,
    deleted_at timestamptz not null
);
comment on table avtryck.job is 'When each job that deletes by age deleted something last: a run deletes a day''s worth, and runs are an hour apart.';
comment on column avtryck.job.name is 'The job, as in logs.';
comment on column avtryck.job.deleted_at is 'By the clock of Postgres.';

create table avtryck.wrong_clock_day (
    day date primary key,
    lived_day integer not null
);
comment on table avtryck.wrong_clock_day is 'Days that rows bear while a clock is wrong or in doubt. Such rows are kept until the collectors have lived through as many days as rows of their table are kept, whatever their day.';
comment on column avtryck.wrong_clock_day.day is 'The UTC day that rows bear.';
comment on column avtryck.wrong_clock_day.lived_day is 'clock.days when the last of them was loaded.';

alter table avtryck.suppression add column day integer not null default 0;
comment on column avtryck.suppression.day is 'clock.days when it was asked for last. A visitor''s entry also outlives a cookie by these days, which no clock that jumps can make pass.';
comment on column avtryck.event_key.seen_on is 'UTC day on which the first hit with it was loaded.';

comment on column avtryck.hit.flags is 'Set: 1 cleaned, 2 truncated, 4 macro, 8 prefetch, 16 new_visitor, 32 foreign_origin, 64 third_party, 128 over_limit, 256 preview, 512 bad_agent, 1024 data_centre, 2048 no_impression, 4096 fast_click, 8192 replayed, 16384 bot, 524288 wrong_clock.';
create or replace function avtryck.flag_names(flags integer) returns text[] language sql immutable parallel safe
    return array_remove(array[
        case when flags & 1 <> 0 then 'cleaned' end,
        case when flags & 2 <> 0 then 'truncated' end,
        case when flags & 4 <> 0 then 'macro' end,
        case when flags & 8 <> 0 then 'prefetch' end,
        case when flags & 16 <> 0 then 'new_visitor' end,
        case when flags & 32 <> 0 then 'foreign_origin' end,
        case when flags & 64 <> 0 then 'third_party' end,
        case when flags & 128 <> 0 then 'over_limit' end,
        case when flags & 256 <> 0 then 'preview' end,
        case when flags & 512 <> 0 then 'bad_agent' end,
        case when flags & 1024 <> 0 then 'data_centre' end,
        case when flags & 2048 <> 0 then 'no_impression' end,
        case when flags & 4096 <> 0 then 'fast_click' end,
        case when flags & 8192 <> 0 then 'replayed' end,
        case when flags & 16384 <> 0 then 'bot' end,
        case when flags & 524288 <> 0 then 'wrong_clock' end], null);
