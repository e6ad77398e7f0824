-- What is counted of ties and of households, a daily look at whether each tie was permitted, and why groups are split.

-- Whoever deletes ties says why, for the transaction: set_config('avtryck.reason', …, true).
alter table avtryck.link_regroup
    add column reason text not null default coalesce(nullif(current_setting('avtryck.reason', true), ''), 'other'),
    add column since timestamptz not null default now();
comment on column avtryck.link_regroup.reason is 'Why it lost the tie: withdrawal, erasure, expiry, rule (today''s rules would not make it), hub, not_mine, forgotten or other.';
comment on column avtryck.link_regroup.since is 'Since when it waits.';

alter table avtryck.link_part add column since timestamptz not null default now();
comment on column avtryck.link_part.since is 'Since when it waits.';
alter table avtryck.sighting_part add column since timestamptz not null default now();
comment on column avtryck.sighting_part.since is 'Since when it waits.';

-- Which partners' IDs there are among ties, without reading the ties.
create index link_edge_partner on avtryck.link_edge (partner) where partner <> '';

-- An ID with too many ties that nothing proves is a hub among all ties, and stays what it is among the proved ones.
alter table avtryck.link_node
    add column proved_degree integer not null default 0,
    add column proved_hub_since date;
comment on column avtryck.link_node.proved_degree is 'How many of them are proved, as of the last proved one.';
comment on column avtryck.link_node.proved_hub_since is 'Since when it is a hub by its proved ties alone; then it has no proved_group.';
comment on column avtryck.link_node.state is '0 in use, 1 hub (has more ties than one device can have, so they do not count for device_group), 2 blocked, 3 withdrawn.';
create index link_node_hub on avtryck.link_node (node) where state = 1 or proved_hub_since is not null;
update avtryck.link_edge as edge set is_new = true
where edge.proved_day is not null
  and (edge.a in (select node from avtryck.link_node where state = 1)
       or edge.b in (select node from avtryck.link_node where state = 1));

-- Users and hubs stay no longer than their ties.
delete from avtryck.link_node as known
where (known.kind = 5 or known.state = 1)
  and not exists (select from avtryck.link_edge as edge where edge.a = known.node)
  and not exists (select from avtryck.link_edge as edge where edge.b = known.node);

-- The key of an ID of a hit, as link_node.node.
create function avtryck.id_key(kind text, id text) returns uuid language sql immutable parallel safe
    return encode(substring(sha256(convert_to('avtryck subject 1' || kind, 'UTF8') || '\x00'::bytea || convert_to(id, 'UTF8'))
                            from 1 for 16), 'hex')::uuid;
comment on function avtryck.id_key is 'The key of a maid (in lower case) or a device_id, as link_node.node.';
create function avtryck.partner_uid_key(partner text, id text) returns uuid language sql immutable parallel safe
    return encode(substring(sha256('avtryck subject 1partner_uid'::bytea || '\x00'::bytea
                                   || substring(int4send(octet_length(partner)) from 4 for 1)
                                   || substring(int4send(octet_length(partner)) from 3 for 1) || '\x000000000000'::bytea
                                   || convert_to(partner || id, 'UTF8'))
                            from 1 for 16), 'hex')::uuid;
comment on function avtryck.partner_uid_key is 'The key of a partner''s ID, as link_node.node.';

-- Ties picked at random, and whether a stored hit permitted each: one of its leading ID (visitor, maid, device_id,
-- partner_uid, in this order), on a day of the tie, with store, measure and link. Only ties that were seen since
-- first_kept are looked at, because older hits are gone; of those without a visitor, whose hits no index finds, only the
-- ones of the last two days. A tie whose leading ID has no hit at all is passed over if another ID was erased since:
-- an erasure deletes hits that named others, too.
create function avtryck.audit_ties(most integer, first_kept date, today date) returns table (
    a uuid, b uuid, a_kind smallint, b_kind smallint, is_permitted boolean
) language plpgsql stable as $$
declare
    -- A page has room for more than twenty ties; a small table is read whole.
    share constant double precision := least(100, 100 * greatest(most / 20.0, 100)
        / greatest(pg_relation_size('avtryck.link_edge') / current_setting('block_size')::integer, 1));
    erased_on constant date := (select max((erased_at at time zone 'UTC')::date) from avtryck.erasure where id_kind <> 'visitor');
begin
    return query
    with picked as materialized (
        select edge.a, edge.b, edge.a_kind, edge.b_kind, edge.last_day,
               case when edge.a_kind <= edge.b_kind then edge.a else edge.b end as node,
               least(edge.a_kind, edge.b_kind) as kind,
               greatest(edge.first_day, first_kept)::timestamp at time zone 'UTC' as begins,
               (edge.last_day + 1)::timestamp at time zone 'UTC' as ends
        from avtryck.link_edge as edge tablesample system (share)
        where edge.last_day >= first_kept and (1 in (edge.a_kind, edge.b_kind) or edge.last_day >= today - 1)
        order by random() limit most
    ),
    recent as materialized (
        select named.node, bool_or(hit.permit & 19 = 19) as permits
        from avtryck.hit
        left join avtryck.ad on ad.key = hit.ad_key
        cross join lateral (values
            (avtryck.id_key('maid', lower(hit.maid collate "C"))), (avtryck.id_key('device_id', hit.device_id)),
            (avtryck.partner_uid_key(coalesce(ad.partner, ''), hit.partner_uid))
        ) as named (node)
        where exists (select from picked where picked.kind > 1)
          and hit.received_at >= (today - 1)::timestamp at time zone 'UTC' and hit.visitor_id is null
          and coalesce(hit.maid, hit.device_id, hit.partner_uid) is not null
          and named.node in (select picked.node from picked where picked.kind > 1)
        group by 1
    )
    select picked.a, picked.b, picked.a_kind, picked.b_kind,
           case when picked.kind > 1 then coalesce(recent.permits, picked.last_day <= erased_on)
                else exists (select from avtryck.hit where hit.visitor_id = picked.node and hit.permit & 19 = 19
                               and hit.received_at >= picked.begins and hit.received_at < picked.ends)
                     or picked.last_day <= erased_on
                        and not exists (select from avtryck.hit where hit.visitor_id = picked.node
                                          and hit.received_at >= picked.begins and hit.received_at < picked.ends)
           end is true
    from picked left join recent using (node);
end
$$;
comment on function avtryck.audit_ties is 'Ties picked at random, each with whether a stored hit permitted it.';

-- A hash of the other ID under a context of its own, which is no key of anything else.
create or replace view avtryck.link_forbidden_detail as
select a as node, encode(substring(sha256('avtryck forbidden'::bytea || uuid_send(b)) from 1 for 16), 'hex') as other_hash, since
from avtryck.link_forbidden
union all
select b, encode(substring(sha256('avtryck forbidden'::bytea || uuid_send(a)) from 1 for 16), 'hex'), since
from avtryck.link_forbidden;

-- What an unproved tie names may be another person's, and whoever made it up gets nothing of it in an export.
create or replace view avtryck.link_edge_detail as
select a as node, avtryck.node_kind_name(a_kind) as kind, avtryck.node_kind_name(b_kind) as other_kind,
       avtryck.subject_key(b, b_kind) as other_key,
       first_day, last_day, proved_day, avtryck.permit_names(permit) as permit,
       avtryck.consent_source_name(consent_source) as consent_source
from avtryck.link_edge where proved_day is not null
union all
select b, avtryck.node_kind_name(b_kind), avtryck.node_kind_name(a_kind),
       avtryck.subject_key(a, a_kind),
       first_day, last_day, proved_day, avtryck.permit_names(permit), avtryck.consent_source_name(consent_source)
from avtryck.link_edge where proved_day is not null;
comment on view avtryck.link_edge_detail is 'Each proved tie from either end. The other end has its kind and its key, never the ID.';

-- The caps of a group, as src/identity/group.rs has them; a test compares them.
create function avtryck.group_cap(kind smallint) returns integer language sql immutable parallel safe
    return (array[10, 2, 3, 3])[kind];
comment on function avtryck.group_cap is 'The most IDs of a kind in a device group, of a partner''s IDs those of one partner.';

-- Which cap two groups together would break.
create function avtryck.broken_cap(one bigint, other bigint) returns text language sql stable parallel safe
begin atomic
    select case when sum(count(*)) over () > 20 then 'ids'
                else avtryck.node_kind_name(kind) || case when partner <> '' then ' of ' || partner else '' end end
    from avtryck.link_node where device_group in (one, other) and device_group <> 0
    group by kind, partner
    order by count(*) > avtryck.group_cap(kind) desc, count(*) desc, kind, partner limit 1;
end;
comment on function avtryck.broken_cap is 'Which cap two device groups would break together: ids (20 in all), or a kind.';

create or replace view avtryck.link_conflict as
select avtryck.subject_key(edge.a, edge.a_kind) as a_key, avtryck.node_kind_name(edge.a_kind) as a_kind,
       avtryck.subject_key(edge.b, edge.b_kind) as b_key, avtryck.node_kind_name(edge.b_kind) as b_kind,
       nullif(one.device_group, 0) as a_group, nullif(other.device_group, 0) as b_group,
       of.reason, edge.first_day, edge.last_day, edge.proved_day,
       case when of.reason = 'cap' then avtryck.broken_cap(one.device_group, other.device_group) end as cap
from avtryck.link_edge as edge
join avtryck.link_node as one on one.node = edge.a
join avtryck.link_node as other on other.node = edge.b
cross join lateral (values (
    case when one.state = 1 or other.state = 1 then 'hub'
         when one.state <> 0 or other.state <> 0 then 'blocked'
         when exists (select from avtryck.link_forbidden as apart
                      join avtryck.link_node as x on x.node = apart.a
                      join avtryck.link_node as y on y.node = apart.b
                      where x.device_group in (one.device_group, other.device_group)
                        and y.device_group in (one.device_group, other.device_group)) then 'not_mine'
         else 'cap' end)) as of (reason)
where edge.a_kind <> 5 and edge.b_kind <> 5 and not edge.is_new
  and (one.device_group <> other.device_group or one.device_group = 0);
comment on column avtryck.link_conflict.cap is 'Which cap: ids (20 in all), visitor, maid, device_id, or partner_uid of a partner; null for another reason.';

comment on function avtryck.owner_on is 'Who owned a device on a UTC day: of several, who was seen on it last. Of each owner the first day and, to a week, the last are known, so of two who take turns the days between are one''s.';
