-- $1: a visitor, $2: a site, $3: the devices that the page shows as theirs; empty where the request does not permit ties.
-- $4: whether it does. The subjects that are the visitor: with ties, the one user who is logged in as well.
select $1::uuid as subject
union
select unnest($3::uuid[])
union
select owner.subject from (select avtryck.subject_owner($1) as subject) as owner
where $4::boolean and owner.subject is not null
  and exists (select from avtryck.subject_permit as permit
              where permit.subject = $1 and permit.site = $2 and permit.partner = '' and permit.permit & 19 = 19)
  and avtryck.permits_now($1, 19::smallint)
  and avtryck.permits_now(owner.subject, 19::smallint)
  and not exists (select from avtryck.link_node as own join avtryck.device_group using (device_group)
                  where own.node = $1 and is_shared)
