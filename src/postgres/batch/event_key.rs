//! Event IDs that were seen before: a hit of a batch that says the same as the event is left out,
//! and one that says something else is flagged.
//!
//! | a hit's ID | the hit |
//! | --- | --- |
//! | is new | is stored, and the ID is its own |
//! | is new, and the hit may use up none ([`Flags::WITHOUT_ID`]) | goes by a key of its own |
//! | belongs to an event that says the same | is left out; on a URL for one use it is stored, as a replay if a person sent it |
//! | belongs to an event that says something else | is flagged `id_conflict`, and goes by a key of its own |
//!
//! A key of its own is looked up like that of an ID, so such a hit, too, is stored once. Nearly all
//! batches take one statement. Another reads what known events say, and each key of its own adds
//! one round of both, of which there are at most four.
//!
//! A key is kept for [`EVENT_KEY_DAYS`]; one that begins with the time at which its sender made the
//! event for [`TIMED_KEY_DAYS`], because trackers try for that long. That needs no column: such a
//! key counts as seen that many days later.
//!
//! Keys had other forms before ([`former_event_keys`]), and nothing is known of what those events
//! say. They are looked up as well until they are deleted, so that an event that was counted before
//! the upgrade is not counted again after it.

use std::collections::{HashMap, HashSet};

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Transaction};
use uuid::Uuid;

use super::load::{self, Known, Load, Mark, Payloads};
use crate::clock::UnixMicros;
use crate::hit::{Flags, Hit};
use crate::postgres::timestamp::Timestamp;
use crate::row::exposure::Act;
use crate::row::{Apart, EventKey, FORMER_FORMS, Said, SenderClass, former_event_keys};

/// The days for which a sender's event ID is kept. Networks repeat a callback within hours; a
/// browser sends what it kept offline within days.
pub const EVENT_KEY_DAYS: i32 = 7;
/// The same where the sender says when it made the event: trackers in phones keep events for a
/// month.
pub const TIMED_KEY_DAYS: i32 = 30;
/// How much later than it was such a key counts as seen.
pub(crate) const TIMED_KEY_LATER_DAYS: i32 = TIMED_KEY_DAYS - EVENT_KEY_DAYS;

/// How long after the upgrade a former key may be there: a key is deleted once it is older than
/// seven days, by a job that runs every hour.
const FORMER_KEY_DAYS: i32 = 8;

/// Reads which former keys there may be.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn read_known(client: &Client) -> Result<Known, Error> {
    let sql = "select max(last_made_on) filter (where form = 1) - date '1970-01-01' + $1::int, \
                      max(last_made_on) filter (where form = 2) - date '1970-01-01' + $1::int, \
                      max(ended_at) \
               from avtryck.event_key_form";
    let row = client.query_one(sql, &[&FORMER_KEY_DAYS]).await?;
    let ended_at: Option<Timestamp> = row.try_get(2)?;
    Ok(Known {
        former_keys_until: [row.try_get(0)?, row.try_get(1)?],
        said_counts_from: ended_at.map_or(UnixMicros(i64::MIN), |at| at.0),
        ..Known::default()
    })
}

/// A row whose key is looked up.
struct Asked {
    /// Its place among the marks.
    mark: usize,
    event: EventKey,
    /// Whether the key becomes its own if it is new.
    takes: bool,
    /// How often the key belonged to something else.
    conflicts: u8,
}

/// Leaves out the rows whose event is in Postgres already or earlier in the batch, and flags those
/// whose ID belongs to another event.
pub(crate) async fn leave_out_repeated(
    transaction: &Transaction<'_>,
    load: &mut Load,
    payloads: Payloads<'_>,
) -> Result<(), Error> {
    let former = find_former(transaction, load, payloads).await?;
    let marks = load.rows.marks.iter().enumerate();
    let mut asked: Vec<Asked> = marks
        .filter_map(|(index, mark)| {
            Some(Asked {
                mark: index,
                event: mark.event?,
                takes: !mark.flags.has_any(Flags::WITHOUT_ID),
                conflicts: 0,
            })
        })
        .collect();
    let mut repeated = Vec::new();
    while !asked.is_empty() {
        let mut known = KnownEvents::ask(transaction, &asked, &former).await?;
        let Some(known) = &mut known else {
            break;
        };
        asked = judge(load, asked, known, &mut repeated);
    }
    if repeated.is_empty() {
        return Ok(());
    }
    repeated.sort_unstable();
    let mut index = 0..;
    load.rows.marks.retain(|_| {
        let index = index.next();
        index.is_none_or(|index: usize| repeated.binary_search(&index).is_err())
    });
    Ok(())
}

/// Decides about rows, in their order. Returns those that go by another key; `repeated` gets the
/// places of those that are left out.
fn judge(
    load: &mut Load,
    asked: Vec<Asked>,
    known: &mut KnownEvents,
    repeated: &mut Vec<usize>,
) -> Vec<Asked> {
    let mut apart = Vec::new();
    let (rows, keyer) = (&mut load.rows, &load.keyer);
    for mut row in asked {
        let Some(mark) = rows.marks.get_mut(row.mark) else {
            continue;
        };
        let is_one_time = mark.flags.has(Flags::ONE_TIME);
        let is_cut = mark.flags.has(Flags::TRUNCATED);
        let says_nothing = mark.received_at < load.known.said_counts_from;
        let is_same = |said: Said| says_nothing || said.is_of_retry(row.event.said, is_cut);
        let why = match known.find(&row) {
            Event::New => continue,
            Event::Free => Apart::WithoutId,
            Event::Known(_) if is_one_time => {
                if mark.class == SenderClass::Person {
                    load::set_flags(&mut rows.bytes, mark, Flags::REPLAYED);
                }
                // The ID belongs to another row.
                mark.event = None;
                continue;
            }
            Event::Known(said) if said.is_none_or(is_same) => {
                repeated.push(row.mark);
                continue;
            }
            Event::Known(_) => {
                flag_conflict(&mut rows.bytes, mark);
                row.conflicts += 1;
                match row.conflicts {
                    1 => Apart::OtherContent,
                    _ => Apart::OtherSubject,
                }
            }
        };
        row.event = row.event.separate(why, keyer);
        row.takes = true;
        mark.event = Some(row.event);
        apart.push(row);
    }
    apart
}

/// Flags a row whose ID belongs to another event. It does not count as an exposure.
fn flag_conflict(bytes: &mut [u8], mark: &mut Mark) {
    load::set_flags(bytes, mark, Flags::ID_CONFLICT);
    if let Some(contact) = &mut mark.contact {
        contact.act = Act::Uncounted;
    }
}

/// What is known of a key when its row's turn comes.
enum Event {
    /// Nothing: it is now the row's own.
    New,
    /// Nothing, and the row may not take it.
    Free,
    /// It belongs to an event that said this, if that is known.
    Known(Option<Said>),
}

/// The events that a batch's keys belong to.
struct KnownEvents {
    /// Keys that are new with this batch, and whose row has not come yet.
    made: HashSet<[u8; 16]>,
    known: HashMap<[u8; 16], Option<Said>>,
}

impl KnownEvents {
    /// Inserts the keys of rows that take them, and reads what the others belong to. Returns `None`
    /// if each row has a key that is new, and takes it.
    async fn ask(
        transaction: &Transaction<'_>,
        asked: &[Asked],
        former: &HashSet<[u8; 16]>,
    ) -> Result<Option<KnownEvents>, Error> {
        let mut new: HashMap<[u8; 16], EventKey> = HashMap::with_capacity(asked.len());
        for row in asked {
            let key = row.event.key;
            if row.takes && !former.contains(&key) {
                new.entry(key).or_insert(row.event);
            }
        }
        let made = insert(transaction, &new).await?;
        if made.len() == asked.len() {
            return Ok(None);
        }
        let others = asked.iter().map(|row| row.event.key);
        let others: HashSet<[u8; 16]> = others.filter(|key| !made.contains(key)).collect();
        let mut known = read(transaction, &others).await?;
        known.extend(former.iter().map(|key| (*key, None)));
        Ok(Some(KnownEvents { made, known }))
    }

    fn find(&mut self, row: &Asked) -> Event {
        let key = row.event.key;
        if let Some(said) = self.known.get(&key) {
            return Event::Known(*said);
        }
        if row.takes && self.made.remove(&key) {
            self.known.insert(key, Some(row.event.said));
            return Event::New;
        }
        Event::Free
    }
}

/// Inserts keys as seen on this day by Postgres's clock, by which they are deleted. Returns those
/// that were not there.
async fn insert(
    transaction: &Transaction<'_>,
    new: &HashMap<[u8; 16], EventKey>,
) -> Result<HashSet<[u8; 16]>, Error> {
    if new.is_empty() {
        return Ok(HashSet::new());
    }
    let keys: Vec<Uuid> = new.keys().map(|key| Uuid::from_bytes(*key)).collect();
    let columns = new.values().map(|event| event.said.to_columns());
    let (said, about): (Vec<i32>, Vec<i64>) = columns.unzip();
    let later = new.values().map(|event| match event.is_timed {
        true => TIMED_KEY_LATER_DAYS,
        false => 0,
    });
    let later: Vec<i32> = later.collect();
    // In the order of the keys: two loaders with the same IDs wait for each other and do not
    // deadlock.
    let rows = transaction
        .query_typed(
            "insert into avtryck.event_key (key, seen_on, said, about) \
             select key, (now() at time zone 'UTC')::date + later, said, about \
             from unnest($1, $2, $3, $4) as new (key, said, about, later) \
             order by key on conflict do nothing returning key",
            &[
                (&keys, Type::UUID_ARRAY),
                (&said, Type::INT4_ARRAY),
                (&about, Type::INT8_ARRAY),
                (&later, Type::INT4_ARRAY),
            ],
        )
        .await?;
    rows.iter().map(read_key).collect()
}

/// Reads what the events of these keys said, of those that are there.
async fn read(
    transaction: &Transaction<'_>,
    keys: &HashSet<[u8; 16]>,
) -> Result<HashMap<[u8; 16], Option<Said>>, Error> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let keys: Vec<Uuid> = keys.iter().map(|key| Uuid::from_bytes(*key)).collect();
    let sql = "select key, said, about from avtryck.event_key where key = any($1)";
    let rows = transaction
        .query_typed(sql, &[(&keys, Type::UUID_ARRAY)])
        .await?;
    let read = |row| {
        let said: Option<i32> = tokio_postgres::Row::try_get(row, 1)?;
        let about: Option<i64> = row.try_get(2)?;
        let said = said.zip(about);
        let said = said.map(|(said, about)| Said::from_columns(said, about));
        Ok((read_key(row)?, said))
    };
    rows.iter().map(read).collect()
}

/// Returns the keys of the events whose former key is in Postgres.
async fn find_former(
    transaction: &Transaction<'_>,
    load: &Load,
    payloads: Payloads<'_>,
) -> Result<HashSet<[u8; 16]>, Error> {
    let until = load.known.former_keys_until;
    let mut keys: HashMap<[u8; 16], HashSet<[u8; 16]>> = HashMap::new();
    if until != [None; FORMER_FORMS] {
        for mark in &load.rows.marks {
            let day = load::day(mark.received_at);
            let may_be_known = until.map(|until| until.is_some_and(|until| day <= until));
            let Some(event) = mark.event.filter(|_| may_be_known.contains(&true)) else {
                continue;
            };
            let hit = Hit::decode(payloads.of(&mark.record)).ok();
            let former = hit.and_then(|hit| former_event_keys(&hit, mark.flags));
            let former = former.into_iter().flatten().zip(may_be_known);
            for (former, _) in former.filter(|(_, may_be)| *may_be) {
                keys.entry(former).or_default().insert(event.key);
            }
        }
    }
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let former: Vec<Uuid> = keys.keys().copied().map(Uuid::from_bytes).collect();
    let sql = "select key from avtryck.event_key where key = any($1)";
    let rows = transaction.query(sql, &[&former]).await?;
    let mut found = HashSet::new();
    for row in &rows {
        found.extend(keys.remove(&read_key(row)?).unwrap_or_default());
    }
    Ok(found)
}

fn read_key(row: &tokio_postgres::Row) -> Result<[u8; 16], Error> {
    row.try_get::<_, Uuid>(0).map(Uuid::into_bytes)
}

/// Deletes the event keys of refused hits: they must not stand in the way of a hit that becomes a
/// row.
pub(crate) async fn forget(
    transaction: &Transaction<'_>,
    refused: &[(Mark, String)],
) -> Result<(), Error> {
    let keys: Vec<Uuid> = refused
        .iter()
        .filter_map(|(mark, _)| mark.event.map(|event| Uuid::from_bytes(event.key)))
        .collect();
    if !keys.is_empty() {
        transaction
            .execute(
                "delete from avtryck.event_key where key = any($1)",
                &[&keys],
            )
            .await?;
    }
    Ok(())
}
