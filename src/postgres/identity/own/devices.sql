-- $1: a visitor, $2: a site, $3: the most. The devices that proved ties join to the visitor, and those of the same
-- login, with why. Nothing where the visitor does not permit ties there now, nor of a device that several people use.
with own as (
    select node, proved_group from avtryck.link_node
    where node = $1
      and exists (select from avtryck.subject_permit
                  where subject = $1 and site = $2 and partner = '' and permit & 19 = 19)
      and avtryck.permits_now($1, 19::smallint)
),
held as (
    select node from own
    union
    select known.node from own join avtryck.link_node as known using (proved_group)
    where own.proved_group <> 0
),
tie as materialized (
    select edge.a as one, edge.b as other, edge.b_kind as kind, edge.first_day, edge.last_day
    from held join avtryck.link_edge as edge on edge.a = held.node where edge.proved_day is not null
    union all
    select edge.b, edge.a, edge.a_kind, edge.first_day, edge.last_day
    from held join avtryck.link_edge as edge on edge.b = held.node where edge.proved_day is not null
),
owner as (select distinct other as node from tie where kind = 5),
-- Whoever else uses this device is not to learn of the visitor's others, nor the visitor of theirs.
private as (
    select from own
    where (select count(*) from owner) <= 1
      and not exists (select from held join avtryck.link_node using (node)
                      join avtryck.device_group using (device_group) where is_shared)
),
of_group as (
    select known.node, known.kind, known.partner,
           array(select 'together' where exists (select from tie where one = $1 and other = known.node)
                 union
                 select avtryck.node_kind_name(mine.kind) from tie as mine join tie as theirs using (other)
                 where mine.one = $1 and theirs.one = known.node) as reasons,
           (select min(first_day) from tie where one = known.node) as first_day,
           (select max(last_day) from tie where one = known.node) as last_day
    from held join avtryck.link_node as known using (node) where known.node <> $1
),
-- An account that many share says nothing of any of them.
login as materialized (
    select edge.a as node, edge.b as owner, edge.first_day, edge.last_day
    from owner join avtryck.link_edge as edge on edge.b = owner.node where edge.proved_day is not null
    union all
    select edge.b, edge.a, edge.first_day, edge.last_day
    from owner join avtryck.link_edge as edge on edge.a = owner.node where edge.proved_day is not null
    limit $3::bigint + 1
),
of_login as (
    select (array_agg(known.node order by known.kind, known.node))[1] as node,
           array_agg(known.node) as nodes, min(known.proved_group) as proved_group,
           min(login.first_day) as first_day, max(login.last_day) as last_day
    from login join avtryck.link_node as known using (node)
    left join avtryck.device_group as device using (device_group)
    where (select count(*) from login) <= $3::bigint
      and known.node not in (select node from held)
      and avtryck.permits_now(login.owner, 19::smallint)
    group by coalesce(nullif(known.proved_group, 0)::text, known.node::text)
    having not bool_or(coalesce(device.is_shared, false))
),
its as (
    select device.node as device, unnest(device.nodes) as node from of_login as device
    union
    select device.node, other.node from of_login as device join avtryck.link_node as other using (proved_group)
    where device.proved_group <> 0
),
its_owner as (
    select its.device, edge.b as owner from its join avtryck.link_edge as edge on edge.a = its.node
    where edge.b_kind = 5 and edge.proved_day is not null
    union
    select its.device, edge.a from its join avtryck.link_edge as edge on edge.b = its.node
    where edge.a_kind = 5 and edge.proved_day is not null
),
believed as (
    select node, array[node] as nodes, kind, partner, reasons, first_day, last_day from of_group
    union all
    select node, device.nodes, known.kind, known.partner, array['user'], device.first_day, device.last_day
    from of_login as device join avtryck.link_node as known using (node)
    where not exists (select from its_owner
                      where its_owner.device = device.node and its_owner.owner not in (select node from owner))
),
apart as (
    select b as node from avtryck.link_forbidden where a = $1
    union
    select a from avtryck.link_forbidden where b = $1
)
select node, avtryck.node_kind_name(kind) as kind, partner, reasons,
       first_day - date '1970-01-01' as first_day, last_day - date '1970-01-01' as last_day
from believed
where exists (select from private)
  and avtryck.permits_now(node, 19::smallint)
  and not exists (select from apart where apart.node = any(believed.nodes))
order by believed.last_day desc, node limit $3::bigint
