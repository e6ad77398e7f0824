-- $1: a visitor, $2: an ID that is not theirs.
insert into avtryck.link_forbidden (a, b, since) values (least($1::uuid, $2), greatest($1::uuid, $2), now())
on conflict do nothing
