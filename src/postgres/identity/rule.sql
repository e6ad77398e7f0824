-- $1: the partners whose IDs unite a device. The partners of whose IDs there are ties though they do not: the partners
-- are found one after the other by index.
with recursive known (partner) as (
    select min(partner) from avtryck.link_edge where partner <> ''
    union all
    select (select min(next.partner) from avtryck.link_edge as next where next.partner <> '' and next.partner > known.partner)
    from known where known.partner is not null
)
select partner from known where partner is not null and partner <> all($1)
