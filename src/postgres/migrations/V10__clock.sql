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
