-- In the order of the fields of Census.
select sized.members, sized.of_2, sized.of_3, sized.of_4, sized.to_8, sized.more,
       coalesce((select greatest(extract(epoch from now() - (night.night::timestamp at time zone 'UTC')), 0)
                 from avtryck.household_night as night where night.night > '-infinity'), 0)::double precision,
       part.waiting, part.seconds
from (select coalesce(sum(devices * households), 0)::bigint as members,
             coalesce(sum(households) filter (where devices = 2), 0)::bigint as of_2,
             coalesce(sum(households) filter (where devices = 3), 0)::bigint as of_3,
             coalesce(sum(households) filter (where devices = 4), 0)::bigint as of_4,
             coalesce(sum(households) filter (where devices between 5 and 8), 0)::bigint as to_8,
             coalesce(sum(households) filter (where devices > 8), 0)::bigint as more
      from avtryck.household_size) as sized,
     (select coalesce(sum(cardinality(node)), 0)::bigint as waiting,
             greatest(coalesce(extract(epoch from now() - min(since)), 0), 0)::double precision as seconds
      from avtryck.sighting_part) as part
