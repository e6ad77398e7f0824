-- $1: the subjects that a visitor is. What is imported of them and used today, with where it comes from.
select used.import, used.supplier, used.legal_basis, now.attribute, now.value,
       (extract(epoch from max(held.changed_at)) * 1000000)::bigint as changed_at,
       now.valid_until - date '1970-01-01' as valid_until
from avtryck.attribute_now as now
join avtryck.attribute_value as held using (subject, import)
join avtryck.import as used using (import)
where now.subject = any($1)
group by used.import, now.attribute, now.value, now.valid_until order by used.supplier, now.attribute, used.import limit 200
