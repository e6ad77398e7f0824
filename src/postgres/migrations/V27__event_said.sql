-- An event ID can no longer be burnt: beside its key is kept what the event said, in 12 bytes, so that a hit that is
-- sent again is told from another one under the same ID, which is stored and flagged. A row of event_key grows from 48
-- bytes to 56 and its index not at all: `said` lies in what was padding.
--
-- Keys are keyed hashes now, so those of before have a second former form (1 is that of 0.1.0). As with the first, the
-- loader looks them up for their 7 days; what those events said is not known (null), and any hit with their ID is left out.
-- So is a hit with a known ID that was received before: then it was promised that an ID is stored once, whatever it says.

alter table avtryck.event_key add column said integer, add column about bigint;
comment on column avtryck.event_key.key is 'SipHash-1-3 with 128 bits of site, kind, partner, event name, the sender''s class (a person, a machine, a server or a mail proxy) and the sender''s event ID, with the secret; of a hit that may not have the ID, or whose ID belongs to another event, a hash of that and of what it says.';
comment on column avtryck.event_key.said is 'Hash, with the secret, of what the event said: its parameters, category and ad, without what differs when it is sent again; 0 for nothing, null if unknown.';
comment on column avtryck.event_key.about is 'Hashes of 16 bits, with the secret, of its page, its visitor if known by a cookie, the click that it follows and its other IDs; 0 for none, null if unknown.';

alter table avtryck.event_key_form add column ended_at timestamptz;
insert into avtryck.event_key_form (form, last_made_on, ended_at)
select 2, (now() at time zone 'UTC')::date, now() where exists (select from avtryck.spool_position);
comment on column avtryck.event_key_form.ended_at is 'When the migration ended it: of hits received before, an ID is stored once, whatever they say.';
comment on column avtryck.event_key_form.form is '1: the XXH3 128-bit hash of site, kind, partner and the sender''s event ID, as 0.1.0 made it. 2: with the event''s name and the sender''s class.';

create or replace function avtryck.is_valid(flags integer) returns boolean language sql immutable parallel safe
    return flags & (4 + 128 + 512 + 1024 + 2048 + 4096 + 8192 + 16384 + 2097152) = 0;
comment on function avtryck.is_valid is 'Whether a hit counts in net figures too: none of macro, over_limit, bad_agent, data_centre, no_impression, fast_click, replayed, bot, id_conflict.';
