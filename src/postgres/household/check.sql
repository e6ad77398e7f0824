-- $1: the most devices that a user's truth may have. What proved logins say of households, in the order of the fields of
-- Truth. Two devices on which one user is proved to have logged in are taken for devices of one home.
with device_of as materialized (select * from avtryck.household_device),
login as materialized (
    select distinct tie.owner, coalesce(known.device, tie.node) as device
    from (select b as owner, a as node from avtryck.link_edge where b_kind = 5 and a_kind <> 5 and proved_day is not null
          union all
          select a, b from avtryck.link_edge where a_kind = 5 and b_kind <> 5 and proved_day is not null) as tie
    left join device_of as known using (node)
),
member as materialized (
    select coalesce(known.device, member.node) as device, min(member.household) as household
    from avtryck.household_member as member left join device_of as known using (node)
    where member.household is not null group by 1
),
-- Devices that a night could have found: seen on three days, or found.
seen as materialized (
    select device from (
        select distinct coalesce(known.device, sighting.node) as device, sighting.day
        from avtryck.sighting left join device_of as known using (node)
    ) as at_day group by device having count(*) >= 3
    union
    select device from member
),
candidate as materialized (select login.* from login join seen using (device)),
usable as (select owner from candidate group by owner having count(*) between 2 and $1),
same_owner as materialized (
    select distinct on (one.device, other.device) one.owner, mine.household as one_household, theirs.household as other_household
    from usable join candidate as one using (owner) join candidate as other using (owner)
    left join member as mine on mine.device = one.device
    left join member as theirs on theirs.device = other.device
    where one.device < other.device
    order by one.device, other.device, one.owner
),
same_home as materialized (
    select mine.household, exists (
               select from candidate as a join candidate as b using (owner) where a.device = mine.device and b.device = theirs.device
           ) as is_right
    from member as mine join member as theirs using (household)
    where mine.device < theirs.device
      and exists (select from candidate where candidate.device = mine.device)
      and exists (select from candidate where candidate.device = theirs.device)
)
select (select count(*) from same_owner where one_household = other_household),
       (select count(*) from same_owner),
       (select count(distinct owner) from same_owner),
       (select count(*) from same_owner where one_household is not null and other_household is not null),
       (select count(distinct owner) from same_owner where one_household is not null and other_household is not null),
       (select count(*) from same_home where is_right),
       (select count(*) from same_home),
       (select count(distinct household) from same_home),
       (select count(*) from (select owner from candidate group by owner having count(*) > $1) as too_many),
       (select count(*) from avtryck.household_member as member
        where exists (select from avtryck.subject_permit as said
                      where said.subject = member.node and said.consent_source between 2 and 5
                        and said.permit & 1 = 1 and said.permit & 51 <> 51))
