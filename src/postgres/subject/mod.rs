//! What is held about a subject, under one of its IDs: shown, exported, erased.
//!
//! [`TABLES`] is the one list of the tables that hold IDs; `rejected_hit`, whose payloads must be
//! decoded, is handled besides. A table with an ID needs a line there, so that export and erasure
//! cover it.
//!
//! The IDs on one row belong together: with a visitor's rows the partner's IDs on them go, but the
//! same partner's ID on other rows is another subject, which is asked for by itself. `event_key` is
//! left alone: it holds keyed hashes of the senders' event IDs and, of anybody's ID, 16 bits of
//! one, for a week. It keeps an erased event from being recorded again when its sender repeats it.

mod erase;
mod export;
mod held;
mod rejected;
pub mod suppression;

use tokio_postgres::types::{ToSql, Type};

pub use erase::{AskedBy, Removed, erase, finish, remove};
pub(crate) use export::Export;
pub use export::set_up;
pub(crate) use held::HeldReader;

use crate::hit::subject::Subject;
use uuid::Uuid;

/// A table that holds IDs, or hashes of them.
struct Table {
    name: &'static str,
    /// What is exported: the table, or the view of it that has words in place of numbers.
    words: &'static str,
    /// What a row is exported in the order of, and never changes: a time, and a text that tells
    /// apart those of the same time. Where the time may change, all rows have the same.
    order: (&'static str, &'static str),
    /// What the conditions need joined to the table, which is named `held`, where only the view
    /// has it.
    joined: &'static str,
    /// What becomes of its rows when the subject is erased.
    end: End,
    /// The condition for a row by a visitor's ID, by a MAID, by a partner's ID, by a device ID, by
    /// a user: `$1` is the subject's key (uuid), `$2` the ID (text), `$3` the partner (text). Each
    /// has an index.
    by: [&'static str; Subject::KINDS],
}

/// What becomes of the rows of a table when their subject is erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// They are deleted, by the same condition.
    Deleted,
    /// They go when the ID gets on the list of suppression ([`crate::postgres::identity::remove`]).
    GoneWithList,
    /// They stay, because they hold only hashes, or until others have been told.
    Kept,
}

/// The time of rows whose own may change.
const SAME_TIME: &str = "timestamptz 'epoch'";

/// Every table that holds IDs, except `rejected_hit`.
const TABLES: [Table; 28] = [
    Table {
        name: "hit",
        words: "avtryck.hit_detail",
        order: ("received_at", "hit_id::text"),
        joined: "left join avtryck.ad on ad.key = held.ad_key",
        end: End::Deleted,
        by: [
            // A sync without a partner names a second visitor where a partner's ID would be. In any
            // other hit the ID of a visitor may be anybody's invention. The table has a number for
            // its kind, the view a word.
            "(visitor_id = $2::uuid or partner_uid collate \"C\" = $2) \
             and (visitor_id = $2::uuid or kind::text in ('6', 'sync') and coalesce(partner, '') = '')",
            "lower(maid collate \"C\") = $2",
            "partner_uid collate \"C\" = $2 and coalesce(partner, '') = $3",
            "device_id collate \"C\" = $2",
            "user_key = $2::uuid",
        ],
    },
    Table {
        name: "exposure",
        words: "avtryck.exposure_detail",
        order: (SAME_TIME, "row(partner, campaign, creative)::text"),
        joined: "",
        end: End::Deleted,
        by: [
            "subject = $2::uuid",
            "subject = $1",
            "subject = $1",
            "false",
            "false",
        ],
    },
    Table {
        name: "partner_id",
        words: "avtryck.partner_id",
        order: (SAME_TIME, "row(partner, partner_uid)::text"),
        joined: "",
        end: End::Deleted,
        by: [
            "visitor_id = $2::uuid",
            "false",
            "partner_uid = $2 and partner = $3",
            "false",
            "false",
        ],
    },
    of_node(
        "subject_permit",
        "avtryck.subject_permit_detail",
        "row(site, partner)::text",
        BY_SUBJECT,
    ),
    of_node(
        "link_edge",
        "avtryck.link_edge_detail",
        "other_key::text",
        BY_NODE,
    ),
    of_node(
        "link_node",
        "avtryck.link_node_detail",
        "node::text",
        BY_NODE,
    ),
    of_node(
        "device_owner",
        "avtryck.device_owner_detail",
        "row(device_group, owner_key)::text",
        BY_NODE,
    ),
    of_node(
        "link_forbidden",
        "avtryck.link_forbidden_detail",
        "other_hash",
        BY_NODE,
    ),
    Table {
        order: ("at", "ctid::text"),
        ..of_node("link_change", "avtryck.link_change", "", BY_NODE_OR_KEY)
    },
    of_node(
        "sighting",
        "avtryck.sighting_detail",
        "row(day, hours)::text",
        BY_NODE,
    ),
    of_node(
        "household_pair",
        "avtryck.household_pair_detail",
        "row(is_open, score)::text",
        BY_NODE,
    ),
    of_node(
        "household_member",
        "avtryck.household_member",
        "node::text",
        BY_NODE,
    ),
    of_node(
        "household_shown",
        "avtryck.household_shown",
        "node::text",
        BY_NODE,
    ),
    of_node(
        "household_apart",
        "avtryck.household_apart_detail",
        "other_hash",
        BY_NODE,
    ),
    of_node(
        "household_never",
        "avtryck.household_never",
        "key::text",
        BY_HASH,
    ),
    of_node(
        "subject_day",
        "avtryck.subject_day",
        "row(day, site, partner, kind, name)::text",
        BY_SUBJECT,
    ),
    of_node(
        "subject_seen",
        "avtryck.subject_seen_detail",
        "subject::text",
        BY_SUBJECT,
    ),
    of_node(
        "segment_member",
        "avtryck.segment_member_detail",
        "segment",
        BY_SUBJECT,
    ),
    Table {
        order: ("at", "row(segment, is_entry, reason)::text"),
        ..of_node(
            "segment_change",
            "avtryck.segment_change_detail",
            "",
            BY_SUBJECT,
        )
    },
    Table {
        name: "attribute_value",
        words: "avtryck.attribute_detail",
        order: (SAME_TIME, "import"),
        joined: "",
        end: End::Deleted,
        by: BY_SUBJECT,
    },
    Table {
        end: End::Deleted,
        ..of_node(
            "objection",
            "avtryck.objection",
            "row(kind, name)::text",
            BY_SUBJECT,
        )
    },
    of_node(
        "subject_id",
        "avtryck.subject_id",
        "subject::text",
        BY_SUBJECT,
    ),
    of_node(
        "export_told",
        "avtryck.export_told_detail",
        "row(partner, segment, id)::text",
        BY_KEYS,
    ),
    // Until its partner is told to forget it.
    Table {
        end: End::Kept,
        ..of_node(
            "export_outbox",
            "avtryck.export_outbox_detail",
            "removal::text",
            BY_KEYS,
        )
    },
    Table {
        order: ("ended_at", "row(partner, segment, number)::text"),
        end: End::Kept,
        ..of_node("export_past", "avtryck.export_past_detail", "", BY_KEYS)
    },
    // Until its webhook is told that the subject has left.
    Table {
        end: End::Kept,
        ..of_node(
            "webhook_outbox",
            "avtryck.webhook_outbox_detail",
            "event::text",
            BY_SUBJECT,
        )
    },
    Table {
        name: "suppression",
        words: "avtryck.suppression",
        order: (SAME_TIME, "key::text"),
        joined: "",
        end: End::Kept,
        by: ["key = $1"; Subject::KINDS],
    },
    Table {
        name: "erasure",
        words: "avtryck.erasure",
        order: ("erased_at", "ctid::text"),
        joined: "",
        end: End::Kept,
        by: ["key = $1"; Subject::KINDS],
    },
];

const BY_NODE: [&str; Subject::KINDS] = [
    "node = $2::uuid",
    "node = $1",
    "node = $1",
    "node = $1",
    "node = $1",
];
const BY_NODE_OR_KEY: [&str; Subject::KINDS] = [
    "node in ($1, $2::uuid)",
    "node = $1",
    "node = $1",
    "node = $1",
    "node = $1",
];
const BY_HASH: [&str; Subject::KINDS] = [
    "key = avtryck.household_gone_key($2::uuid)",
    "key = avtryck.household_gone_key($1)",
    "key = avtryck.household_gone_key($1)",
    "key = avtryck.household_gone_key($1)",
    "key = avtryck.household_gone_key($1)",
];
const BY_SUBJECT: [&str; Subject::KINDS] = [
    "subject = $2::uuid",
    "subject = $1",
    "subject = $1",
    "subject = $1",
    "subject = $1",
];

const BY_KEYS: [&str; Subject::KINDS] = ["(subject_key = $1 or id_key = $1)"; Subject::KINDS];

/// A table of ties, whose rows go when their ID gets on the list of suppression.
const fn of_node(
    name: &'static str,
    words: &'static str,
    tie: &'static str,
    by: [&'static str; Subject::KINDS],
) -> Table {
    Table {
        name,
        words,
        order: (SAME_TIME, tie),
        joined: "",
        end: End::GoneWithList,
        by,
    }
}

/// Turns off parallel workers, which Postgres would use because it expects far more rows under one
/// ID than there are: with them and compiled plans, exporting the rows under one MAID out of 10
/// million in 90 partitions took 1.0 s.
const PLAIN_PLANS: &str = "set max_parallel_workers_per_gather = 0";

const PARAMETERS: [Type; 3] = [Type::UUID, Type::TEXT, Type::TEXT];

/// A subject as the parameters of a condition.
struct Conditions<'s> {
    key: Uuid,
    id: String,
    partner: &'s str,
    by: usize,
}

impl<'s> Conditions<'s> {
    fn new(subject: &'s Subject<'_>) -> Conditions<'s> {
        Conditions {
            key: Uuid::from_bytes(subject.key()),
            id: subject.id(),
            partner: subject.partner(),
            by: match subject {
                Subject::Visitor(_) => 0,
                Subject::Maid(_) => 1,
                Subject::PartnerUid { .. } => 2,
                Subject::DeviceId(_) => 3,
                Subject::User(_) => 4,
            },
        }
    }

    fn condition(&self, table: &Table) -> &'static str {
        table.by.get(self.by).copied().unwrap_or("false")
    }

    /// Returns where those rows of a table are counted that go with the list, and their condition.
    fn find_counted(&self, table: &Table) -> (&'static str, &'static str) {
        let of_node = BY_NODE.get(self.by).copied().unwrap_or("false");
        match table.name {
            // The view shows a device's owner under each ID of the device. It goes with the owner.
            "device_owner" => ("avtryck.device_owner", "held.owner = $1"),
            // What is noted of an erasure stays, under the visitor's key.
            "link_change" => (table.words, of_node),
            _ => (table.words, self.condition(table)),
        }
    }

    fn parameters(&self) -> [&(dyn ToSql + Sync); 3] {
        [&self.key, &self.id, &self.partner]
    }
}

#[cfg(test)]
mod tests;
