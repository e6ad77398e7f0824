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
pub use export::{Export, set_up};
pub use held::HeldReader;

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
    /// Whether it stays when the subject is erased, because it holds only hashes.
    is_kept: bool,
    /// The condition for a row by a visitor's ID, by a MAID, by a partner's ID, by a device ID, by
    /// a user: `$1` is the subject's key (uuid), `$2` the ID (text), `$3` the partner (text). Each
    /// has an index.
    by: [&'static str; Subject::KINDS],
}

/// The time of rows whose own may change.
const SAME_TIME: &str = "timestamptz 'epoch'";

/// Every table that holds IDs, except `rejected_hit`.
const TABLES: [Table; 5] = [
    Table {
        name: "hit",
        words: "avtryck.hit_detail",
        order: ("received_at", "hit_id::text"),
        joined: "left join avtryck.ad on ad.key = held.ad_key",
        is_kept: false,
        by: [
            "visitor_id = $2::uuid",
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
        is_kept: false,
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
        is_kept: false,
        by: [
            "visitor_id = $2::uuid",
            "false",
            "partner_uid = $2 and partner = $3",
            "false",
            "false",
        ],
    },
    Table {
        name: "suppression",
        words: "avtryck.suppression",
        order: (SAME_TIME, "key::text"),
        joined: "",
        is_kept: true,
        by: ["key = $1"; Subject::KINDS],
    },
    Table {
        name: "erasure",
        words: "avtryck.erasure",
        order: ("erased_at", "ctid::text"),
        joined: "",
        is_kept: true,
        by: ["key = $1"; Subject::KINDS],
    },
];

/// Turns off compiled plans and parallel workers, which Postgres would use because it expects far
/// more rows under one ID than there are: with both, exporting the rows under one MAID out of 10
/// million in 90 partitions took 1.0 s.
const PLAIN_PLANS: &str = "set jit = off; set max_parallel_workers_per_gather = 0";

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

    fn parameters(&self) -> [&(dyn ToSql + Sync); 3] {
        [&self.key, &self.id, &self.partner]
    }
}

#[cfg(test)]
mod tests;
