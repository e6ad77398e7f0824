-- Which other IDs' facts count for a subject of scope owner, for many subjects at once and by index.

create function avtryck.subject_kin(subjects uuid[]) returns table (subject uuid, ids uuid[])
language plpgsql stable rows 1000
-- Of a part of everybody, Postgres expects more than there is, and would read all ties.
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
begin
    return query
    select own.subject, array(select distinct id from unnest(own.ids || kin.ids || own.owner) as id where id <> own.subject)
    from (
        select near.subject, near.ids,
               case when cardinality(near.owners) = 1 then near.owners[1]
                    when exists (select from avtryck.subject_user as users where users.owner = near.subject)
                        then near.subject end as owner
        from (
            select device.subject, array_agg(distinct device.id) as ids,
                   array_remove(array_agg(distinct users.owner), null) as owners
            from (select subject, subject as id from unnest(subjects) as subject
                  union all
                  select alike.subject, alike.other from avtryck.subject_alike as alike where alike.subject = any(subjects)) as device
            left join lateral (
                select each.owner from avtryck.subject_user as each where each.subject = device.id offset 0
            ) as users on true
            group by 1
        ) as near
    ) as own
    left join lateral (
        select array_agg(device.id) as ids
        from (
            select users.subject from avtryck.subject_user as users where users.owner = own.owner
        ) as owned
        cross join lateral (
            select array_agg(near.id) as ids, array_agg(distinct users.owner) as owners
            from (select owned.subject as id
                  union all
                  select alike.other from avtryck.subject_alike as alike where alike.subject = owned.subject) as near
            left join lateral (
                select each.owner from avtryck.subject_user as each where each.subject = near.id offset 0
            ) as users on true
        ) as theirs
        cross join lateral unnest(theirs.ids) as device (id)
        where array_remove(theirs.owners, null) = array[own.owner]
    ) as kin on true;
end
$$;
comment on function avtryck.subject_kin is 'For each subject the other IDs of its device, its one owner, and the IDs of the devices that this user alone owns. A user is its own owner. A device of several users has no owner, so that nobody is shown what is known of another.';

drop view avtryck.owner_fact;
drop function avtryck.subject_ids;

create or replace function avtryck.subjects_touched_with(touched uuid[]) returns setof uuid language plpgsql stable
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    owners uuid[] := touched || array(select alike.other from avtryck.subject_alike as alike where alike.subject = any(touched));
    owned uuid[];
begin
    owners := owners || array(
        select users.owner from unnest(owners) as id
        cross join lateral (select each.owner from avtryck.subject_user as each where each.subject = id offset 0) as users
    );
    owned := array(
        select users.subject from (select distinct unnest(owners) as id) as owner
        cross join lateral (
            select each.subject from avtryck.subject_user as each where each.owner = owner.id offset 0
        ) as users
    );
    return query select distinct unnest(
        owners || owned || array(select alike.other from avtryck.subject_alike as alike where alike.subject = any(owned))
    );
end
$$;
