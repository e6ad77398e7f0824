-- $1: a visitor, $2: an ID that is not to be tied to them. Deletes its ties to the IDs of their device, and those to a
-- user of it of all IDs that proved ties join to it. Collectors learn of it, so that they note such a tie anew.
with own as (
    select other.node from avtryck.link_node as known join avtryck.link_node as other using (device_group)
    where known.node = $1 and known.device_group <> 0
    union
    select other.node from avtryck.link_node as known join avtryck.link_node as other using (proved_group)
    where known.node = $1 and known.proved_group <> 0
    union select $1
),
owner as (
    select edge.b as node from own join avtryck.link_edge as edge on edge.a = own.node where edge.b_kind = 5
    union
    select edge.a from own join avtryck.link_edge as edge on edge.b = own.node where edge.a_kind = 5
),
its as (
    select $2::uuid as node
    union
    select other.node from avtryck.link_node as known join avtryck.link_node as other using (proved_group)
    where known.node = $2 and known.proved_group <> 0 and $2 not in (select node from own)
),
end_of as (select node from own union select node from owner),
tie as (
    select edge.a, edge.b from its join avtryck.link_edge as edge on edge.a = its.node
    where edge.b in (select node from end_of)
    union
    select edge.a, edge.b from its join avtryck.link_edge as edge on edge.b = its.node
    where edge.a in (select node from end_of)
),
gone as (
    delete from avtryck.link_edge as edge using tie where edge.a = tie.a and edge.b = tie.b returning edge.a, edge.b
)
update avtryck.subject_permit as permit set changed_at = clock_timestamp()
where permit.subject in (select a from gone union select b from gone)
