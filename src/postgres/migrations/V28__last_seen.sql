-- Dimension rows know the last day on which a hit brought them, so that those to which nothing points any more can go.
-- What is there at this migration counts as seen on its day, and so does what a former version inserts later.

alter table avtryck.place add column last_seen date not null default (now() at time zone 'UTC')::date;
alter table avtryck.network add column last_seen date not null default (now() at time zone 'UTC')::date;
alter table avtryck.device add column last_seen date not null default (now() at time zone 'UTC')::date;
alter table avtryck.ad add column last_seen date not null default (now() at time zone 'UTC')::date;
alter table avtryck.site add column last_seen date not null default (now() at time zone 'UTC')::date;
comment on column avtryck.place.last_seen is 'The last UTC day on which a hit with it was received or loaded. The row is deleted once retention has dropped that day.';
comment on column avtryck.network.last_seen is 'The last UTC day on which a hit with it was received or loaded. The row is deleted once retention has dropped that day.';
comment on column avtryck.device.last_seen is 'The last UTC day on which a hit with it was received or loaded. The row is deleted once retention has dropped that day.';
comment on column avtryck.ad.last_seen is 'The last UTC day on which a hit with it was received or loaded. The row is deleted once retention has dropped that day.';
comment on column avtryck.site.last_seen is 'The last UTC day on which a hit with it was received or loaded. The row is deleted once retention has dropped that day, if it has a category.';

comment on table avtryck.hit_count is 'What is kept of hits without the permit measure: a count. It holds no personal data, so retention leaves it, but takes its details: after two days the minute becomes the hour, and what is older than retention has neither ad nor category.';
comment on column avtryck.hit_count.minute is 'The start of the minute in which the hits were received; after two days, of the hour.';
comment on column avtryck.hit_count.ad_key is '0 where the hit names no ad, and for hits older than retention.';
