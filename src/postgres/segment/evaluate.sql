-- $1: subjects; $2: segment; $3: the reason of what changes. Returns how many came in or left.
with is_in as materialized (
    select profile.subject, profile.permit from avtryck.profile /* kin */
    where profile.subject = any($1) and (/* condition */)
      and profile.subject not in (
          select avtryck.segment_refused($1, (select key from avtryck.segment where segment = $2))
      )
),
gone as (
    delete from avtryck.segment_member as member
    where member.segment = $2 and member.subject = any($1)
      and not exists (select from is_in where is_in.subject = member.subject)
    returning member.subject
),
come as (
    insert into avtryck.segment_member as member (segment, subject, since, permit)
    select $2, subject, now(), permit from is_in order by subject
    on conflict (segment, subject) do update set permit = excluded.permit where member.permit <> excluded.permit
    returning subject, xmax = 0 as is_new
),
changed as (
    insert into avtryck.segment_change (at, segment, subject, is_entry, reason)
    select now(), $2, gone.subject, false,
           case when not exists (select from avtryck.profile where profile.subject = gone.subject) then 'withdrawal'
                when $3 = 'rule' and exists (
                    select from avtryck.link_change as moved
                    where moved.node = gone.subject and moved.at > now() - interval '1 hour' and moved.reason <> 'merge'
                ) then 'split'
                else $3 end
    from gone
    union all
    select now(), $2, come.subject, true, $3 from come where is_new
    returning subject
)
select count(*) from changed
