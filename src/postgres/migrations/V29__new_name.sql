-- How many names senders have brought for the first time: what a stranger can make grow has a limit for each day.

create table avtryck.new_name (
    day date not null,
    dimension text not null,
    scope text not null,
    rows bigint not null,
    primary key (day, dimension, scope)
);
comment on table avtryck.new_name is 'How many rows of ad, site and device were new on a day: loader.new_names_per_day bounds them. Kept for a week.';
comment on column avtryck.new_name.day is 'The UTC day, by the clock of Postgres.';
comment on column avtryck.new_name.dimension is 'The table that got the rows.';
comment on column avtryck.new_name.scope is 'The site; for ads the site and the partner, with a slash between them.';
comment on column avtryck.new_name.rows is 'How many.';
