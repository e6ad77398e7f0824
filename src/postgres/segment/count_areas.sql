-- Counts the subjects that were seen last in each area.
delete from avtryck.area_size;
insert into avtryck.area_size (kind, area, subjects)
select area.kind, concat(place.country, ':', area.name), count(*)
from avtryck.subject_seen as seen
join avtryck.place on place.key = seen.place_key
cross join lateral (values ('city', place.city), ('postal_code', place.postal_code)) as area (kind, name)
where area.name is not null
group by 1, 2
