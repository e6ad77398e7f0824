-- What unlinking does, in one place, and what export shows of ties.

create table avtryck.link_regroup (
    device_group bigint primary key
);
comment on table avtryck.link_regroup is 'Device groups that lost a tie and are not yet split.';
comment on column avtryck.link_regroup.device_group is 'As link_node.device_group, or link_node.proved_group.';

-- What suppression.key is, so that an ID of another is named in an export without being told.
create function avtryck.subject_key(node uuid, kind smallint) returns uuid language sql immutable parallel safe
    return case kind
        when 1 then encode(substring(sha256('avtryck subject 1visitor\000'::bytea || uuid_send(node))
                                     from 1 for 16), 'hex')::uuid
        else node end;
comment on function avtryck.subject_key is 'The key of an ID, as suppression.key; node is as link_node.node.';

create function avtryck.node_kind_name(kind smallint) returns text language sql immutable parallel safe
    return (array['visitor', 'maid', 'device_id', 'partner_uid', 'user'])[kind];
comment on function avtryck.node_kind_name is 'The word for link_node.kind.';

-- Deletes the ties of IDs that were last seen up to a day, and notes which groups they were in. Callers hold the lock
-- of ties. The day is infinity for an ID that is withdrawn or erased.
create function avtryck.unlink(nodes uuid[], until_days date[], reason text) returns bigint language plpgsql as $$
declare
    deleted bigint;
begin
    with gone as (select node, max(until) as until from unnest(nodes, until_days) as gone (node, until) group by node),
    tie as (
        select edge.a, edge.b from gone join avtryck.link_edge as edge on edge.a = gone.node where edge.last_day <= gone.until
        union
        select edge.a, edge.b from gone join avtryck.link_edge as edge on edge.b = gone.node where edge.last_day <= gone.until
    ),
    removed as (
        delete from avtryck.link_edge as edge using tie where edge.a = tie.a and edge.b = tie.b returning edge.a, edge.b
    ),
    ended as (select a as node from removed union select b from removed),
    affected as (
        select known.node, known.device_group, known.proved_group from avtryck.link_node as known
        where known.node in (select node from ended union select node from gone where until = 'infinity')
    ),
    noted as (
        insert into avtryck.link_regroup (device_group)
        select device_group from affected union select proved_group from affected
        on conflict do nothing
    ),
    told as (
        update avtryck.subject_permit as permit set changed_at = clock_timestamp()
        where permit.subject in (select node from ended)
    )
    select count(*) into deleted from removed;
    insert into avtryck.link_change (at, node, from_group, to_group, reason)
    select now(), case reason when 'erasure' then avtryck.subject_key(known.node, known.kind) else known.node end,
           nullif(known.device_group, 0), null, unlink.reason
    from avtryck.link_node as known
    where known.node = any(nodes)
      and not exists (select from avtryck.link_edge as edge where edge.a = known.node)
      and not exists (select from avtryck.link_edge as edge where edge.b = known.node);
    delete from avtryck.link_node as known
    where known.node = any(nodes)
      and not exists (select from avtryck.link_edge as edge where edge.a = known.node)
      and not exists (select from avtryck.link_edge as edge where edge.b = known.node);
    delete from avtryck.device_owner where owner = any(nodes)
      and not exists (select from avtryck.link_edge as edge where edge.a = owner)
      and not exists (select from avtryck.link_edge as edge where edge.b = owner);
    return deleted;
end
$$;
comment on function avtryck.unlink is 'Deletes the ties of IDs that were last seen up to the day of each; returns how many. What was in a group with them is split by the job link, which link_regroup tells.';

create view avtryck.link_edge_detail as
select a as node, avtryck.node_kind_name(a_kind) as kind, avtryck.node_kind_name(b_kind) as other_kind,
       avtryck.subject_key(b, b_kind) as other_key,
       first_day, last_day, proved_day, avtryck.permit_names(permit) as permit,
       avtryck.consent_source_name(consent_source) as consent_source
from avtryck.link_edge
union all
select b, avtryck.node_kind_name(b_kind), avtryck.node_kind_name(a_kind),
       avtryck.subject_key(a, a_kind),
       first_day, last_day, proved_day, avtryck.permit_names(permit), avtryck.consent_source_name(consent_source)
from avtryck.link_edge;
comment on view avtryck.link_edge_detail is 'Each tie from either end. The other end has its kind and its key, never the ID.';
comment on column avtryck.link_edge_detail.node is 'As link_node.node.';
comment on column avtryck.link_edge_detail.kind is 'The kind of this ID.';
comment on column avtryck.link_edge_detail.other_kind is 'The kind of the other ID.';
comment on column avtryck.link_edge_detail.other_key is 'The key of the other ID, as suppression.key.';
comment on column avtryck.link_edge_detail.first_day is 'As link_edge.first_day.';
comment on column avtryck.link_edge_detail.last_day is 'As link_edge.last_day.';
comment on column avtryck.link_edge_detail.proved_day is 'As link_edge.proved_day.';
comment on column avtryck.link_edge_detail.permit is 'As hit_detail.permit.';
comment on column avtryck.link_edge_detail.consent_source is 'As hit_detail.consent_source.';

create view avtryck.link_node_detail as
select known.node, avtryck.node_kind_name(known.kind) as kind, nullif(known.partner, '') as partner,
       nullif(known.device_group, 0) as device_group, known.degree, known.first_day, known.last_day,
       (select jsonb_agg(jsonb_build_object('kind', avtryck.node_kind_name(other.kind),
                                            'key', avtryck.subject_key(other.node, other.kind)) order by other.node)
        from avtryck.link_node as other
        where other.proved_group = known.proved_group and other.proved_group <> 0 and other.node <> known.node
       ) as others
from avtryck.link_node as known;
comment on view avtryck.link_node_detail is 'Each ID that has ties, with the other IDs of its device as far as proved ties lead.';
comment on column avtryck.link_node_detail.node is 'As link_node.node.';
comment on column avtryck.link_node_detail.kind is 'The kind of the ID.';
comment on column avtryck.link_node_detail.partner is 'The partner''s key, of a partner''s ID.';
comment on column avtryck.link_node_detail.device_group is 'As link_node.device_group; null where it has none.';
comment on column avtryck.link_node_detail.degree is 'As link_node.degree.';
comment on column avtryck.link_node_detail.first_day is 'As link_node.first_day.';
comment on column avtryck.link_node_detail.last_day is 'As link_node.last_day.';
comment on column avtryck.link_node_detail.others is 'The other IDs of its device by kind and key (suppression.key), over proved ties alone; null where there are none.';

create view avtryck.device_owner_detail as
select owner as node, device_group, null::uuid as owner_key, first_day, last_day, days,
       avtryck.permit_names(permit) as permit, is_proved
from avtryck.device_owner
union all
select known.node, owner.device_group, owner.owner, owner.first_day, owner.last_day, owner.days,
       avtryck.permit_names(owner.permit), owner.is_proved
from avtryck.link_node as known
join avtryck.device_owner as owner on owner.device_group = known.device_group
where known.device_group <> 0 and owner.is_proved;
comment on view avtryck.device_owner_detail is 'Who owns which device: for a user its devices, and for an ID of a device the owners that are proved.';
comment on column avtryck.device_owner_detail.node is 'A user, or an ID of the device, as link_node.node.';
comment on column avtryck.device_owner_detail.device_group is 'As device_owner.device_group.';
comment on column avtryck.device_owner_detail.owner_key is 'The user, as suppression.key; null in the row of the user.';
comment on column avtryck.device_owner_detail.first_day is 'As device_owner.first_day.';
comment on column avtryck.device_owner_detail.last_day is 'As device_owner.last_day.';
comment on column avtryck.device_owner_detail.days is 'As device_owner.days.';
comment on column avtryck.device_owner_detail.permit is 'As hit_detail.permit.';
comment on column avtryck.device_owner_detail.is_proved is 'As device_owner.is_proved.';

create view avtryck.link_forbidden_detail as
select a as node, md5(b::text) as other_hash, since from avtryck.link_forbidden
union all
select b, md5(a::text), since from avtryck.link_forbidden;
comment on view avtryck.link_forbidden_detail is 'Each pair of link_forbidden from either end.';
comment on column avtryck.link_forbidden_detail.node is 'As link_node.node.';
comment on column avtryck.link_forbidden_detail.other_hash is 'A hash of the other.';
comment on column avtryck.link_forbidden_detail.since is 'As link_forbidden.since.';

create view avtryck.subject_permit_detail as
select subject, site, nullif(partner, '') as partner, avtryck.permit_names(permit) as permit,
       avtryck.consent_source_name(consent_source) as consent_source, at
from avtryck.subject_permit;
comment on view avtryck.subject_permit_detail is 'What subjects permit now, in words.';
comment on column avtryck.subject_permit_detail.subject is 'As subject_permit.subject.';
comment on column avtryck.subject_permit_detail.site is 'As subject_permit.site.';
comment on column avtryck.subject_permit_detail.partner is 'As subject_permit.partner; null where the site''s own rules decided.';
comment on column avtryck.subject_permit_detail.permit is 'As hit_detail.permit.';
comment on column avtryck.subject_permit_detail.consent_source is 'As hit_detail.consent_source.';
comment on column avtryck.subject_permit_detail.at is 'As subject_permit.at.';
