//! Loads one batch: rows, dimensions, counts, rejected hits and the position of the spool, in one
//! transaction.
//!
//! | step | why there |
//! | --- | --- |
//! | the position of each spool moves from `from` to `to` | a second loader waits, then gets [`CommitError::Moved`] |
//! | each spool comes in one way ([`way`]): by its collector, or by Kafka | nothing is loaded twice |
//! | hits of suppressed IDs are left out | before anything of them is stored ([`suppression`]) |
//! | times are compared with Postgres's clock | [`WRONG_CLOCK`](crate::hit::Flags::WRONG_CLOCK) |
//! | partitions of the batch's days | under a lock, so that retention does not drop one now |
//! | dimensions, and how many of them are new | before the rows that point to them |
//! | event IDs | a hit whose event is stored already is left out as repeated, or stored as a replay or a conflict |
//! | clicks that conversions name | of the rows that are left: another visitor's is flagged |
//! | partners' IDs | of the rows that are left |
//! | rows by COPY, numbered | savepoints bisect refused data down to the bad rows |
//! | exposures | a hit that became no row does not count ([`exposure`]) |
//! | ties and permits | of the rows that are left; what their subjects permit, of all but suppressed hits |
//! | counts, rejected hits | only now it is known which they are |
//! | marks of what roll-ups lack ([`report`]) | of the rows and counts that are left |
//!
//! Postgres refuses a row with an SQLSTATE of class 22 (data), 23 (constraint) or 54 (limit): that
//! row alone becomes a rejected hit. Where `hit` is distributed, what another server refused
//! arrives as XX000 without more; a row that is refused so while others are not is set aside too.
//! Any other error fails the whole transaction, and so does 22P04 (the table's columns are not
//! those that this program writes): setting every hit aside for that would be wrong.

use std::collections::HashSet;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Transaction};
use uuid::Uuid;

use super::load::{self, Exposures, Load, Mark, Payloads, Rejected, Rows, SpoolSpan};
use super::{
    click, copy, dimension, event_key, exposure, new_name, partner_id, position, report, way,
};
use crate::postgres::subject::suppression;
use crate::postgres::{clock, partition};
use crate::row::Counts;
use crate::row::exposure::AdContact;

/// What became of the hits of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Rows stored.
    pub rows: u64,
    /// Hits added to counts.
    pub counted: u64,
    /// Hits set aside, those that the loader rejected among them.
    pub rejected: u64,
    /// Those of them that Postgres refused.
    pub refused: u64,
    /// Hits left out because their event ID was stored already.
    pub repeated: u64,
    /// Hits of visitors who withdrew, or of erased subjects: those that could have been rows are
    /// among the counted.
    pub suppressed: u64,
    /// Dimension rows that were new.
    pub new_dimensions: u64,
    /// Keys of dimension rows that were found to belong to other content.
    pub refused_dimensions: u64,
    /// Partitions that were missing.
    pub new_days: u64,
}

/// Why a batch was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A position was not `from`: another loader moved it, or an earlier commit went through and
    /// only its answer was lost. Read the position again.
    #[error("the position of the spool has moved")]
    Moved,
    /// These spools, known by the first halves of their IDs, take the other way into this database:
    /// by Kafka, or by their own collector.
    #[error("the hits of {0:x?} come into this database by another way as well")]
    Refused(Vec<i64>),
    /// Postgres failed. Drop the client (if a COPY is refused before it starts, tokio-postgres
    /// loses count of the answers), connect again, read the position, because the batch may be
    /// committed all the same, and then try again.
    #[error("loading a batch")]
    Postgres(#[from] Error),
    /// Every row was refused without a reason: it is not the rows. What the server said is not
    /// repeated, for it may hold their values.
    #[error("Postgres refuses every row of a batch with XX000; the logs of its servers say why")]
    Internal,
}

/// Loads a batch in one transaction. Afterwards `load.rows` are the rows that were stored; the rest
/// of `load` may only be cleared.
///
/// # Errors
/// [`CommitError`]; nothing is stored then, but see [`CommitError::Postgres`].
pub async fn commit(
    client: &mut Client,
    load: &mut Load,
    payloads: Payloads<'_>,
) -> Result<Loaded, CommitError> {
    let mut transaction = client.transaction().await?;
    let Some(now) = position::advance(&transaction, &load.spools).await? else {
        return Err(CommitError::Moved);
    };
    way::claim(&transaction, load).await?;
    let suppressed = suppression::leave_out(&transaction, load, payloads).await?;
    let wrong_days = load.flag_wrong_clock(now);
    let days = days(&load.rows.marks);
    let days = partition::make_days(&transaction, &days, load::day(now.at)).await?;
    load.reject_days(&days.refused);
    clock::note_wrong_days(&transaction, &wrong_days).await?;
    let dimensions = dimension::insert(&transaction, &load.dimensions).await?;
    let mut loaded = Loaded {
        suppressed,
        new_days: days.made,
        new_dimensions: dimensions.new,
        refused_dimensions: dimensions.refused.len() as u64,
        ..Loaded::default()
    };
    load.known.refused_keys.extend(dimensions.refused);
    load.forget_refused_keys();
    new_name::keep(&transaction, load.dimensions.tables(), &load.names).await?;
    let before = load.rows.marks.len();
    event_key::leave_out_repeated(&transaction, load, payloads).await?;
    loaded.repeated = (before - load.rows.marks.len()) as u64;

    click::flag_foreign(&transaction, load).await?;
    partner_id::upsert(&transaction, &load.links, &load.rows.marks).await?;
    let statement = copy::statement("hit", load.dimensions.tables());
    let (rows, exposures) = (&mut load.rows, &mut load.exposures);
    let refused = number_and_load(&mut transaction, &statement, rows, exposures).await?;
    exposure::keep(&transaction, &load.exposures.added).await?;
    let times = (now, load.read_at);
    Box::pin(load.identity.keep(&transaction, &load.rows, times)).await?;
    load.sightings.keep(&transaction, &load.rows).await?;
    Box::pin(load.profiles.keep(&transaction, &load.rows)).await?;
    Box::pin(load.attributes.keep(&transaction, &load.rows)).await?;
    loaded.rows = load.rows.marks.len() as u64;
    loaded.refused = refused.len() as u64;
    event_key::forget(&transaction, &refused).await?;
    let refused = refused.into_iter().map(|(mark, reason)| Rejected {
        record: mark.record,
        reason,
    });
    load.rejected.extend(refused);
    loaded.counted = add_counts(&transaction, &load.counts).await?;
    report::mark(&transaction, load, now.at).await?;
    loaded.rejected = set_aside(&transaction, &load.spools, &load.rejected, payloads).await?;
    transaction.commit().await?;
    Ok(loaded)
}

fn days(marks: &[Mark]) -> Vec<i32> {
    let mut days: Vec<i32> = Vec::new();
    for mark in marks {
        let day = load::day(mark.received_at);
        if !days.contains(&day) {
            days.push(day);
        }
    }
    days.sort_unstable();
    days
}

/// Numbers and loads the rows. Returns those that Postgres refused, with its message, and removes
/// their marks. A hit that becomes no row must not raise the numbers after it: then everything is
/// numbered and loaded again without it.
async fn number_and_load(
    transaction: &mut Transaction<'_>,
    statement: &str,
    rows: &mut Rows,
    exposures: &mut Exposures,
) -> Result<Vec<(Mark, String)>, CommitError> {
    let mut all_refused = Vec::new();
    loop {
        let marks = rows.marks.iter();
        let contacts: Vec<AdContact> = marks.filter_map(|mark| mark.contact).collect();
        let (numbered, added) = exposures.earlier.number(&contacts);
        exposures.added = added;
        let marks = rows.marks.iter().filter(|mark| mark.contact.is_some());
        for (mark, exposure) in marks.zip(numbered) {
            load::write_exposure(&mut rows.bytes, mark, exposure);
        }
        let mut savepoint = transaction.savepoint("numbered").await?;
        let refused = load_rows(&mut savepoint, statement, rows).await?;
        let is_settled = refused.iter().all(|(mark, _)| mark.contact.is_none());
        let starts: HashSet<usize> = refused.iter().map(|(mark, _)| mark.row.start).collect();
        rows.marks.retain(|mark| !starts.contains(&mark.row.start));
        all_refused.extend(refused);
        if is_settled {
            savepoint.commit().await?;
            return Ok(all_refused);
        }
        savepoint.rollback().await?;
    }
}

/// Loads the rows, a list at a time, of which all are loaded or none. Returns those that Postgres
/// refused, with its message.
///
/// They go in the order of their IDs: neighbours in an index follow each other, and the pages that
/// the one needed are at hand for the next (docs/performance.md).
async fn load_rows(
    transaction: &mut Transaction<'_>,
    statement: &str,
    rows: &Rows,
) -> Result<Vec<(Mark, String)>, CommitError> {
    let mut marks: Vec<&Mark> = rows.marks.iter().collect();
    marks.sort_unstable_by_key(|mark| (mark.neighbourhood, mark.row.start));
    let mut refused = Vec::new();
    let mut is_doubtful = false;
    let mut lists = Vec::from([&*marks]);
    while let Some(list) = lists.pop() {
        let Some((first, rest)) = list.split_first() else {
            continue;
        };
        let savepoint = transaction.savepoint("rows").await?;
        let encoded = list
            .iter()
            .filter_map(|mark| rows.bytes.get(mark.row.clone()));
        match copy::load(&savepoint, statement, encoded).await {
            Ok(_) => savepoint.commit().await?,
            Err(error) => {
                let Some(reason) = describe_refused_data(&error) else {
                    return Err(error.into());
                };
                savepoint.rollback().await?;
                if rest.is_empty() {
                    refused.push(((*first).clone(), reason));
                    is_doubtful |= is_internal(&error);
                } else {
                    let (one, other) = list.split_at(list.len() / 2);
                    lists.extend([other, one]);
                }
            }
        }
    }
    match is_doubtful && refused.len() == marks.len() {
        true => Err(CommitError::Internal),
        false => Ok(refused),
    }
}

/// Checks for an error that does not say whether a row or a server is to blame.
fn is_internal(error: &Error) -> bool {
    error.code() == Some(&SqlState::INTERNAL_ERROR)
}

/// Returns the server's message if it refused the data of a row, without its detail, which may
/// repeat values.
fn describe_refused_data(error: &Error) -> Option<String> {
    if is_internal(error) {
        return Some(format!(
            "{}: refused without a reason",
            SqlState::INTERNAL_ERROR.code()
        ));
    }
    let error = error.as_db_error()?;
    let code = error.code();
    let data = ["22", "23", "54"]
        .iter()
        .any(|class| code.code().starts_with(class));
    (data && *code != SqlState::BAD_COPY_FILE_FORMAT)
        .then(|| format!("{}: {}", code.code(), error.message()))
}

/// Adds to the counts, in the order of their key, and returns the number of hits.
async fn add_counts(transaction: &Transaction<'_>, counts: &Counts) -> Result<u64, Error> {
    let counts = &counts.0;
    if counts.is_empty() {
        return Ok(0);
    }
    let minutes: Vec<i64> = counts.keys().map(|count| count.minute).collect();
    let sites: Vec<i64> = counts.keys().map(|count| count.site_key).collect();
    let ads: Vec<i64> = counts.keys().map(|count| count.ad_key).collect();
    let kinds: Vec<i16> = counts
        .keys()
        .map(|count| count.kind.number().into())
        .collect();
    let hits: Vec<i64> = counts.values().copied().collect();
    transaction
        .execute(
            "insert into avtryck.hit_count (minute, site_key, ad_key, kind, hits) \
             select to_timestamp(minute * 60), site_key, ad_key, kind, hits \
             from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::bigint[]) \
                  as new (minute, site_key, ad_key, kind, hits) \
             order by 1, 2, 3, 4 \
             on conflict (minute, site_key, ad_key, kind) \
             do update set hits = hit_count.hits + excluded.hits",
            &[&minutes, &sites, &ads, &kinds, &hits],
        )
        .await?;
    Ok(hits.iter().sum::<i64>().cast_unsigned())
}

/// Stores the rejected hits and returns how many there were.
async fn set_aside(
    transaction: &Transaction<'_>,
    spools: &[SpoolSpan],
    rejected: &[Rejected],
    payloads: Payloads<'_>,
) -> Result<u64, Error> {
    /// Rejected hits in one statement: limits how much memory they take at once.
    const REJECTED_MAX: usize = 1_000;
    for some in rejected.chunks(REJECTED_MAX) {
        let records = || some.iter().map(|hit| &hit.record);
        let spool_ids: Vec<Uuid> = records()
            .map(|record| {
                spools
                    .get(record.spool)
                    .map_or([0; 16], |span| span.spool_id)
            })
            .map(Uuid::from_bytes)
            .collect();
        let chunks: Vec<i64> = records()
            .map(|record| record.position.0.cast_signed())
            .collect();
        let offsets: Vec<i64> = records()
            .map(|record| record.position.1.cast_signed())
            .collect();
        let payloads: Vec<Vec<u8>> = records()
            .map(|record| (payloads.keep)(payloads.of(record)))
            .collect();
        let reasons: Vec<String> = some
            .iter()
            .map(|hit| hit.reason.replace('\0', "\u{fffd}"))
            .collect();
        transaction
            .execute(
                "insert into avtryck.rejected_hit \
                 (rejected_at, spool_id, chunk, byte_offset, reason, payload) \
                 select now(), spool_id, chunk, byte_offset, reason, payload \
                 from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::bytea[]) \
                      as new (spool_id, chunk, byte_offset, reason, payload)",
                &[&spool_ids, &chunks, &offsets, &reasons, &payloads],
            )
            .await?;
    }
    Ok(rejected.len() as u64)
}
