//! The list of IDs whose hits no longer become rows: of visitors who withdrew, and of erased
//! subjects.
//!
//! A batch takes [`LOCK`] in shared mode before it reads the list, and keeps it until it commits;
//! an entry is added under the lock in exclusive mode. So when [`add`] returns, every batch in
//! progress knows the entry, whichever collector loads it: what is deleted after that stays
//! deleted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::SystemTime;

use tokio_postgres::{Client, Error, Row, Transaction};

use super::{Conditions, End, PARAMETERS, Removed, TABLES};
use crate::hit::subject::Subject;
use crate::hit::{self, Hit, Outcome, VisitorId};
use crate::identity::Node;
use crate::postgres::batch::load::{Load, Payloads};
use crate::postgres::identity;
use crate::row::{Count, Counts, Keyer};
use uuid::Uuid;

/// The advisory lock: "suppress" in ASCII.
const LOCK: i64 = 0x7375_7070_7265_7373;

/// For how many days a visitor's entry stays on the list at least: as long as a cookie with the ID
/// may live.
pub(crate) const VISITOR_DAYS_MIN: u16 = 396;

/// Why an ID is on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its visitor withdrew: rows from before stay.
    Withdrawal,
    /// What was held under it was deleted.
    Erasure,
}

impl Reason {
    /// Returns the word in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reason::Withdrawal => "withdrawal",
            Reason::Erasure => "erasure",
        }
    }
}

/// An ID on the list, which knows it by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// [`Subject::key`].
    pub key: [u8; 16],
    /// The kind of ID, in SQL.
    pub id_kind: &'static str,
    /// Why it is there.
    pub reason: Reason,
    /// The visitor, where it is one who is known.
    pub visitor: Option<VisitorId>,
}

impl Listed {
    /// Returns the entry of a subject.
    #[must_use]
    pub(crate) fn of(subject: &Subject<'_>, reason: Reason) -> Listed {
        Listed {
            key: subject.key(),
            id_kind: subject.id_kind(),
            reason,
            visitor: match subject {
                Subject::Visitor(visitor) => Some(*visitor),
                _ => None,
            },
        }
    }

    /// Returns the ID among ties. That of a visitor who is not known is tied to nothing.
    fn node(&self) -> Node {
        Node(self.visitor.map_or(self.key, |visitor| visitor.0))
    }
}

/// Puts IDs on the list, or renews since when and why they are there, in a transaction of its own.
///
/// # Errors
/// Where Postgres fails.
pub async fn add(client: &mut Client, entries: &[(Subject<'_>, Reason)]) -> Result<(), Error> {
    let entries: Vec<Listed> = entries
        .iter()
        .map(|(subject, reason)| Listed::of(subject, *reason))
        .collect();
    Box::pin(add_listed(client, &entries)).await
}

/// Does the same for IDs whose keys are known.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn add_listed(client: &mut Client, entries: &[Listed]) -> Result<(), Error> {
    if entries.is_empty() {
        return Ok(());
    }
    let transaction = put_on_list(client, entries).await?;
    Box::pin(unlink(&transaction, entries)).await?;
    transaction.commit().await
}

/// Puts a subject that is to be erased on the list, and returns how many of its rows went with
/// that, by table.
///
/// # Errors
/// Where Postgres fails.
pub(super) async fn add_erased(
    client: &mut Client,
    subject: &Subject<'_>,
) -> Result<Removed, Error> {
    let entries = [Listed::of(subject, Reason::Erasure)];
    let transaction = put_on_list(client, &entries).await?;
    // What waits is added first, so that it is counted too.
    identity::fold(&transaction).await?;
    let before = count_gone(&transaction, subject).await?;
    Box::pin(unlink(&transaction, &entries)).await?;
    let after = count_gone(&transaction, subject).await?;
    transaction.commit().await?;
    let mut removed = Removed::default();
    for (table, rows) in before {
        // That a tie is gone is noted in `link_change`, where other notes go.
        let left = after.get(table).copied().unwrap_or_default();
        if rows > left {
            removed.0.insert(table, rows - left);
        }
    }
    Ok(removed)
}

/// Counts the rows under a subject's ID that go when it gets on the list, by table.
async fn count_gone(
    transaction: &Transaction<'_>,
    subject: &Subject<'_>,
) -> Result<BTreeMap<&'static str, u64>, Error> {
    let conditions = Conditions::new(subject);
    let mut counts = BTreeMap::new();
    for table in TABLES.iter().filter(|table| table.end == End::GoneWithList) {
        let (source, condition) = conditions.find_counted(table);
        let sql = format!("select count(*) from {source} as held where {condition}");
        let count = transaction.prepare_typed(&sql, &PARAMETERS).await?;
        let row = transaction
            .query_one(&count, &conditions.parameters())
            .await?;
        counts.insert(table.name, row.try_get(0).map(i64::cast_unsigned)?);
    }
    Ok(counts)
}

/// Begins a transaction that puts entries on the list: when it commits, every batch in progress
/// knows them.
async fn put_on_list<'c>(
    client: &'c mut Client,
    entries: &[Listed],
) -> Result<Transaction<'c>, Error> {
    let keys: Vec<Uuid> = entries
        .iter()
        .map(|entry| Uuid::from_bytes(entry.key))
        .collect();
    let kinds: Vec<&str> = entries.iter().map(|entry| entry.id_kind).collect();
    let reasons: Vec<&str> = entries.iter().map(|entry| entry.reason.name()).collect();
    let transaction = client.transaction().await?;
    transaction
        .execute("select pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    transaction
        .execute(include_str!("add.sql"), &[&keys, &kinds, &reasons])
        .await?;
    Ok(transaction)
}

/// Returns those entries that the list does not have, or only as withdrawals where they are
/// erasures, and erasures of visitors who are known of which there is no record.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn find_missing(
    client: &Client,
    entries: &[Listed],
) -> Result<Vec<Listed>, Error> {
    let keys: Vec<Uuid> = entries
        .iter()
        .map(|entry| Uuid::from_bytes(entry.key))
        .collect();
    let read = "select key, reason = 'erasure', \
                exists (select from avtryck.erasure where erasure.key = suppression.key) \
                from avtryck.suppression where key = any($1)";
    let rows = client.query(read, &[&keys]).await?;
    let known = |row: &Row| {
        let key = row.try_get::<_, Uuid>(0)?.into_bytes();
        Ok((key, (row.try_get(1)?, row.try_get(2)?)))
    };
    let known: HashMap<[u8; 16], (bool, bool)> =
        rows.iter().map(known).collect::<Result<_, Error>>()?;
    let is_missing = |entry: &&Listed| match (known.get(&entry.key), entry.reason) {
        (None, _) => true,
        (Some(_), Reason::Withdrawal) => false,
        (Some((is_erasure, is_done)), Reason::Erasure) => {
            !is_erasure || (entry.visitor.is_some() && !is_done)
        }
    };
    Ok(entries.iter().filter(is_missing).cloned().collect())
}

/// Takes the ties, the owners and the permits of IDs away. No batch is in progress, so what batches
/// saw of these IDs is there to be folded, and none brings them back.
async fn unlink(transaction: &Transaction<'_>, entries: &[Listed]) -> Result<(), Error> {
    identity::fold(transaction).await?;
    for (listed, reason) in [
        (Reason::Withdrawal, identity::Removal::Withdrawal),
        (Reason::Erasure, identity::Removal::Erasure),
    ] {
        let of_reason = entries.iter().filter(|entry| entry.reason == listed);
        let nodes: Vec<Uuid> = of_reason
            .map(|entry| Uuid::from_bytes(entry.node().0))
            .collect();
        identity::remove(transaction, &nodes, reason).await?;
    }
    Ok(())
}

/// Leaves out the hits of the IDs on the list: what would be a row becomes a count, as without the
/// permit to measure, and what would be set aside is dropped. Returns how many there were. While
/// the list is empty, no ID is looked at.
pub(crate) async fn leave_out(
    transaction: &Transaction<'_>,
    load: &mut Load,
    payloads: Payloads<'_>,
) -> Result<u64, Error> {
    if !lock_list(transaction).await? {
        return Ok(0);
    }
    let keys = |record| hit::subjects(payloads.of(record)).map(|id| id.map(|id| id.key()));
    let marks = &mut load.rows.marks;
    let of_marks: Vec<Keys> = marks.iter().map(|mark| keys(&mark.record)).collect();
    let of_rejected: Vec<Keys> = load.rejected.iter().map(|hit| keys(&hit.record)).collect();
    let all = of_marks.iter().chain(&of_rejected);
    let distinct = all.flatten().flatten().copied();
    let distinct: HashSet<[u8; 16]> = distinct.chain(load.identity.keys()).collect();
    let listed = read_listed(transaction, distinct).await?;
    if listed.is_empty() {
        return Ok(0);
    }
    let is_listed = |keys: &Keys| keys.iter().flatten().any(|key| listed.contains(key));
    let before = marks.len() + load.rejected.len();
    let mut of_marks = of_marks.iter();
    let mut left_out = HashSet::new();
    marks.retain(|mark| {
        let leaves = of_marks.next().is_some_and(is_listed);
        if leaves {
            left_out.insert(mark.row.start);
        }
        if leaves && let Ok(hit) = Hit::decode(payloads.of(&mark.record)) {
            count(&mut load.counts, &hit, &load.keyer);
        }
        !leaves
    });
    load.identity
        .leave_out(&left_out, |key| listed.contains(key));
    let mut of_rejected = of_rejected.iter();
    load.rejected
        .retain(|_| !of_rejected.next().is_some_and(is_listed));
    Ok((before - marks.len() - load.rejected.len()) as u64)
}

/// The keys of the IDs that a hit names.
type Keys = [Option<[u8; 16]>; Subject::NAMED_MAX];

fn count(counts: &mut Counts, hit: &Hit<'_>, keyer: &Keyer) {
    if hit.outcome_if_suppressed() == Outcome::Count {
        counts.add(Count::of(hit, keyer));
    }
}

/// Keeps the list as it is until the transaction ends; returns whether anything is on it.
pub(crate) async fn lock_list(transaction: &Transaction<'_>) -> Result<bool, Error> {
    // Two statements: the second sees what was committed while the first waited.
    transaction
        .execute("select pg_advisory_xact_lock_shared($1)", &[&LOCK])
        .await?;
    let row = transaction
        .query_one("select exists (select 1 from avtryck.suppression)", &[])
        .await?;
    row.try_get(0)
}

/// Reads which of the keys are on the list.
async fn read_listed(
    transaction: &Transaction<'_>,
    keys: HashSet<[u8; 16]>,
) -> Result<HashSet<[u8; 16]>, Error> {
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let keys: Vec<Uuid> = keys.into_iter().map(Uuid::from_bytes).collect();
    let rows = transaction
        .query(
            "select key from avtryck.suppression where key = any($1)",
            &[&keys],
        )
        .await?;
    rows.iter()
        .map(|row| Ok(row.try_get::<_, Uuid>(0)?.into_bytes()))
        .collect()
}

/// Reads the list, or what came onto it since an earlier call, and until when it was read. An entry
/// may come twice: what was added by a transaction that had not ended is looked for once more.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn read_since(
    client: &Client,
    since: Option<SystemTime>,
) -> Result<(Vec<Listed>, SystemTime), Error> {
    let now: SystemTime = client.query_one("select now()", &[]).await?.try_get(0)?;
    let rows = client
        .query(
            "select key, reason = 'erasure', id_kind from avtryck.suppression \
             where $1::timestamptz is null or since >= $1 - interval '15 minutes'",
            &[&since],
        )
        .await?;
    let entry = |row: &Row| {
        let reason = match row.try_get(1)? {
            true => Reason::Erasure,
            false => Reason::Withdrawal,
        };
        Ok(Listed {
            key: row.try_get::<_, Uuid>(0)?.into_bytes(),
            id_kind: Subject::kind_named(row.try_get(2)?),
            reason,
            visitor: None,
        })
    };
    let entries = rows.iter().map(entry).collect::<Result<_, Error>>()?;
    Ok((entries, now))
}

#[cfg(test)]
mod tests;
