-- In the order of the fields of Census.
select tie.claimed, tie.proved, grouped.of_1, grouped.of_2, grouped.to_5, grouped.to_10, grouped.to_20, grouped.capped,
       grouped.shared, hub.hubs, owned.claimed, owned.proved
from (select count(*) filter (where proved_day is null) as claimed, count(proved_day) as proved
      from avtryck.link_edge) as tie,
     (select count(*) filter (where size <= 1) as of_1, count(*) filter (where size = 2) as of_2,
             count(*) filter (where size between 3 and 5) as to_5, count(*) filter (where size between 6 and 10) as to_10,
             count(*) filter (where size > 10) as to_20,
             count(*) filter (where is_capped) as capped, count(*) filter (where is_shared) as shared
      from avtryck.device_group) as grouped,
     (select count(*) as hubs from avtryck.link_node where state = 1 or proved_hub_since is not null) as hub,
     (select count(*) filter (where not is_proved) as claimed, count(*) filter (where is_proved) as proved
      from avtryck.device_owner) as owned
