-- In the order of the fields of Waiting. A clock that was set back makes nothing younger than now.
select part.parts, part.seconds, (select count(*) from avtryck.link_edge where is_new), loose.splits, loose.seconds
from (select count(*) as parts,
             greatest(coalesce(extract(epoch from now() - min(since)), 0), 0)::double precision as seconds
      from avtryck.link_part) as part,
     (select count(*) as splits,
             greatest(coalesce(extract(epoch from now() - min(since)), 0), 0)::double precision as seconds
      from avtryck.link_regroup) as loose
