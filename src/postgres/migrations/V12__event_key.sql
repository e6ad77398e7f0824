-- Event keys have another form than in 0.1.0. Those of before are kept for their 7 days, so that no
-- event counts twice; the loader asks for them as long as there may be some.

create table avtryck.event_key_form (
    form smallint primary key,
    last_made_on date not null
);
insert into avtryck.event_key_form (form, last_made_on)
select 1, (now() at time zone 'UTC')::date where exists (select from avtryck.event_key);
comment on table avtryck.event_key_form is 'Former ways in which keys of avtryck.event_key were made; empty where none ever was.';
comment on column avtryck.event_key_form.form is '1: the XXH3 128-bit hash of site, kind, partner and the sender''s event ID, as 0.1.0 made it.';
comment on column avtryck.event_key_form.last_made_on is 'UTC day of the migration that ended it.';
comment on column avtryck.event_key.key is 'XXH3 128-bit hash of site, kind, partner, event name, the sender''s class (a person, a machine, a server or a mail proxy) and the sender''s event ID.';
