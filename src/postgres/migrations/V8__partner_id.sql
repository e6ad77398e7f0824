-- Which ID a partner has for a visitor: from /sync and /setuid, where the visitor permits it.

create table avtryck.partner_id (
    visitor_id uuid not null,
    first_seen timestamptz not null,
    last_seen timestamptz not null,
    partner text not null,
    partner_uid text not null,
    primary key (visitor_id, partner, partner_uid)
);
-- Subject access by the partner's ID, and joins from what the partner reports.
create index partner_id_partner_uid on avtryck.partner_id (partner_uid, partner);
comment on table avtryck.partner_id is 'IDs that partners have for visitors, exchanged with the permits store, measure and match. Gone once not seen for privacy.retention.';
comment on column avtryck.partner_id.visitor_id is 'The visitor.';
comment on column avtryck.partner_id.first_seen is 'When the pair was exchanged first.';
comment on column avtryck.partner_id.last_seen is 'When it was exchanged last.';
comment on column avtryck.partner_id.partner is 'The partner''s key in the configuration.';
comment on column avtryck.partner_id.partner_uid is 'The partner''s ID for the visitor.';
