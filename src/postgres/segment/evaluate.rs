//! Who is in which segment.
//!
//! | part | takes | leaves |
//! | --- | --- | --- |
//! | each minute | the subjects of whom something changed (`segment_due`), and those for whom they count | a history with the reason `rule`, `split` or `withdrawal` |
//! | each night, and once for a new definition | everybody, by 256 ranges of subjects | `expiry` or `definition` |
//!
//! Both go by at most [`SUBJECTS_MAX`] subjects, one segment and one short transaction at a time,
//! so nobody waits long, and what is left undone is done next time: a row of `segment_due` goes
//! when all segments have seen it, and `segment.next_range` says where the night goes on. A segment
//! whose condition Postgres cannot evaluate keeps its members and is `failed`; it is tried again
//! with everybody, from the first range on.
//!
//! An evaluation holds the lock under which ties and permits change
//! ([`identity::LOCK`]), so a withdrawal comes before it, or after
//! it and takes the members away again. One collector evaluates at a time.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use crate::postgres::identity;
use crate::segment::{Book, Segment};

/// The advisory lock: "segments" in ASCII.
const LOCK: i64 = 0x7365_676d_656e_7473;
/// Subjects that are evaluated in one transaction.
pub(super) const SUBJECTS_MAX: usize = 5_000;
/// Members that leave a segment that ended, in one transaction.
const ENDED_MAX: i64 = 10_000;
/// The ranges of subjects: by their first byte.
const RANGES: i16 = 256;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evaluated {
    /// Subjects that were looked at, once for each segment.
    pub subjects: u64,
    /// Those that came in or left.
    pub changes: u64,
}

/// A segment with its number in the database.
struct Numbered<'b> {
    number: i16,
    segment: &'b Segment,
}

/// Brings the segments up to date, as far as time allows. `today` is a day since 1970, `may_end`
/// whether the clock can be believed so far that segments end by it, and `is_over` tells that it is
/// time to stop. `None` where another collector is at it.
///
/// # Errors
/// Where Postgres fails.
pub async fn evaluate(
    client: &mut Client,
    book: &Book,
    (today, may_end): (i32, bool),
    is_over: &dyn Fn() -> bool,
) -> Result<Option<Evaluated>, Error> {
    let sql = "select pg_try_advisory_lock($1)";
    if !client.query_one(sql, &[&LOCK]).await?.try_get(0)? {
        return Ok(None);
    }
    let evaluated = evaluate_locked(client, book, (today, may_end), is_over).await;
    // Where the connection is lost, the lock is gone.
    client
        .execute("select pg_advisory_unlock($1)", &[&LOCK])
        .await?;
    evaluated.map(Some)
}

async fn evaluate_locked(
    client: &mut Client,
    book: &Book,
    (today, may_end): (i32, bool),
    is_over: &dyn Fn() -> bool,
) -> Result<Evaluated, Error> {
    super::fold(client).await?;
    let is_used = |segment: &&Segment| segment.last_day.is_none_or(|last| last >= today);
    let used: Vec<&Segment> = book.segments.iter().filter(is_used).collect();
    let numbered = claim(client, &used).await?;
    if may_end {
        end_others(client, book, &used, is_over).await?;
    }
    let mut done = Evaluated::default();
    let is_drained = evaluate_touched(client, &numbered, is_over, &mut done).await?;
    begin_night(client).await?;
    evaluate_everybody(client, &numbered, is_over, &mut done).await?;
    let sql = "update avtryck.segment set \
               state = case when $1 and full_at > now() - interval '2 days' then 'fresh' else 'behind' end \
               where ended_at is null and state <> 'failed'";
    client.execute(sql, &[&is_drained]).await?;
    Ok(done)
}

/// Notes that these segments are in use, and how they are defined. A new definition means a new
/// evaluation of everybody.
async fn claim<'b>(client: &Client, used: &[&'b Segment]) -> Result<Vec<Numbered<'b>>, Error> {
    let mut numbered = Vec::new();
    for segment in used {
        let min_size = i64::try_from(segment.min_size).unwrap_or(i64::MAX);
        let row = client
            .query_one(
                include_str!("claim.sql"),
                &[
                    &segment.key,
                    &segment.digest,
                    &min_size,
                    &segment.names[0],
                    &segment.names[1],
                    &segment.words.sv,
                    &segment.words.en,
                ],
            )
            .await?;
        numbered.push(Numbered {
            number: row.try_get(0)?,
            segment,
        });
    }
    Ok(numbered)
}

/// Ends the segments that this configuration has for past days only, and those that no collector
/// has had for an hour, and empties what ended.
async fn end_others(
    client: &mut Client,
    book: &Book,
    used: &[&Segment],
    is_over: &dyn Fn() -> bool,
) -> Result<(), Error> {
    let is_past = |segment: &&Segment| !used.iter().any(|other| other.key == segment.key);
    let past = book.segments.iter().filter(is_past);
    let past: Vec<&str> = past.map(|segment| &*segment.key).collect();
    let sql = "update avtryck.segment set ended_at = now(), is_exposed = false, next_range = null \
               where ended_at is null and (key = any($1) or claimed_at < now() - interval '1 hour')";
    client.execute(sql, &[&past]).await?;
    let sql = "with gone as ( \
                   delete from avtryck.segment_member where (segment, subject) in ( \
                       select member.segment, member.subject from avtryck.segment_member as member \
                       join avtryck.segment using (segment) where ended_at is not null limit $1) \
                   returning segment, subject) \
               insert into avtryck.segment_change (at, segment, subject, is_entry, reason) \
               select now(), segment, subject, false, 'end' from gone";
    while !is_over() && client.execute(sql, &[&ENDED_MAX]).await? > 0 {}
    Ok(())
}

/// Evaluates the subjects of whom something changed; returns whether there is nobody left of whom
/// something had changed at the beginning.
async fn evaluate_touched(
    client: &mut Client,
    numbered: &[Numbered<'_>],
    is_over: &dyn Fn() -> bool,
    done: &mut Evaluated,
) -> Result<bool, Error> {
    let row = client
        .query_one(
            "select coalesce(max(due), 0), now()::text from avtryck.segment_due",
            &[],
        )
        .await?;
    let (until, began): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    let numbers: Vec<i16> = numbered.iter().map(|one| one.number).collect();
    loop {
        let (touches, subjects) = read_touched(client, until).await?;
        if touches.is_empty() {
            break;
        }
        if is_over() {
            return Ok(false);
        }
        let sql = "select avtryck.subjects_touched_with($1)";
        let rows = client.query(sql, &[&subjects]).await?;
        let subjects = rows.iter().map(|row| row.try_get(0));
        let subjects = subjects.collect::<Result<Vec<Uuid>, _>>()?;
        for some in subjects.chunks(SUBJECTS_MAX) {
            for one in numbered {
                if !is_failed(client, one.number).await? {
                    evaluate_some(client, one, some, "rule", done).await?;
                }
            }
        }
        let sql = "delete from avtryck.segment_due where due = any($1)";
        client.execute(sql, &[&touches]).await?;
    }
    let sql = "update avtryck.segment set evaluated_at = $2::text::timestamptz \
               where segment = any($1) and state <> 'failed'";
    client.execute(sql, &[&numbers, &began]).await?;
    Ok(true)
}

/// Reads the first of the rows of subjects that were touched.
async fn read_touched(client: &Client, until: i64) -> Result<(Vec<i64>, Vec<Uuid>), Error> {
    /// Rows that are read at once. One may have as many subjects as are evaluated at once.
    const ROWS_MAX: i64 = 16;
    let sql = "select due, subjects from avtryck.segment_due where due <= $1 order by due limit $2";
    let (mut touches, mut subjects) = (Vec::new(), Vec::new());
    for row in client.query(sql, &[&until, &ROWS_MAX]).await? {
        if subjects.len() >= SUBJECTS_MAX {
            break;
        }
        touches.push(row.try_get(0)?);
        subjects.extend(row.try_get::<_, Vec<Uuid>>(1)?);
    }
    subjects.sort_unstable();
    subjects.dedup();
    Ok((touches, subjects))
}

async fn is_failed(client: &Client, number: i16) -> Result<bool, Error> {
    let sql = "select state = 'failed' from avtryck.segment where segment = $1";
    client.query_one(sql, &[&number]).await?.try_get(0)
}

/// Begins the evaluation of everybody once a day, from three o'clock UTC: when households have been
/// computed. Areas are counted then.
async fn begin_night(client: &mut Client) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    let begun = transaction
        .execute(include_str!("begin_night.sql"), &[])
        .await?;
    // A definition that is new does not wait for the night.
    let sql = "select not exists (select from avtryck.area_size) \
               and exists (select from avtryck.segment where next_range = 0)";
    let has_none: bool = transaction.query_one(sql, &[]).await?.try_get(0)?;
    if begun > 0 || has_none {
        transaction
            .batch_execute(include_str!("count_areas.sql"))
            .await?;
    }
    transaction.commit().await
}

/// Goes on with the evaluation of everybody, in the order of the ranges.
async fn evaluate_everybody(
    client: &mut Client,
    numbered: &[Numbered<'_>],
    is_over: &dyn Fn() -> bool,
    done: &mut Evaluated,
) -> Result<(), Error> {
    let sql = "select segment, next_range, full_at is not null from avtryck.segment \
               where segment = any($1) and next_range is not null order by next_range, segment limit 1";
    let mut left: Vec<i16> = numbered.iter().map(|one| one.number).collect();
    while !is_over() {
        let Some(row) = client.query_opt(sql, &[&left]).await? else {
            return Ok(());
        };
        let (number, range): (i16, i16) = (row.try_get(0)?, row.try_get(1)?);
        let Some(one) = numbered.iter().find(|one| one.number == number) else {
            return Ok(());
        };
        let is_whole: bool = row.try_get(2)?;
        let reason = if is_whole { "expiry" } else { "definition" };
        let (subjects, next) = read_ranges(client, number, range).await?;
        let (is_well, last) = match next == range {
            true => (
                evaluate_range(client, one, range, reason, done).await?,
                range,
            ),
            false => {
                let is_well = subjects.is_empty()
                    || evaluate_some(client, one, &subjects, reason, done).await?;
                (is_well, next - 1)
            }
        };
        if is_well {
            finish_range(client, number, last).await?;
        }
        if !is_well {
            left.retain(|other| *other != number);
        }
    }
    Ok(())
}

/// The first subjects after one, or from it on where `$4` says so, and members who are no subjects
/// any more.
const SUBJECTS: &str = "select subject from ( \
        select subject from avtryck.subject_permit where subject >= $1 and subject <= $2 \
        union \
        select subject from avtryck.segment_member where segment = $3 and subject >= $1 and subject <= $2 \
    ) as known where subject > $1 or $4 order by subject limit $5";

/// Reads the subjects of as many whole ranges as are evaluated at once, from one range on. Returns
/// them and the first range that is left: the same where it has too many on its own.
async fn read_ranges(client: &Client, number: i16, range: i16) -> Result<(Vec<Uuid>, i16), Error> {
    let ((first, _), (_, last)) = (bounds(range), bounds(RANGES - 1));
    let limit = i64::try_from(SUBJECTS_MAX + 1).unwrap_or(i64::MAX);
    let rows = client
        .query(SUBJECTS, &[&first, &last, &number, &true, &limit])
        .await?;
    let subjects = rows.iter().map(|row| row.try_get(0));
    let mut subjects = subjects.collect::<Result<Vec<Uuid>, _>>()?;
    let Some(beyond) = subjects.get(SUBJECTS_MAX) else {
        return Ok((subjects, RANGES));
    };
    let next = range_of(beyond);
    subjects.retain(|subject| range_of(subject) < next);
    Ok((subjects, next))
}

fn range_of(subject: &Uuid) -> i16 {
    let [first, ..] = subject.into_bytes();
    i16::from(first)
}

/// Evaluates the subjects of a range, and its members who are no subjects any more. Returns whether
/// that went well.
async fn evaluate_range(
    client: &mut Client,
    one: &Numbered<'_>,
    range: i16,
    reason: &str,
    done: &mut Evaluated,
) -> Result<bool, Error> {
    let (mut from, last) = bounds(range);
    let mut is_first = true;
    loop {
        let limit = i64::try_from(SUBJECTS_MAX).unwrap_or(i64::MAX);
        let rows = client
            .query(SUBJECTS, &[&from, &last, &one.number, &is_first, &limit])
            .await?;
        let subjects = rows.iter().map(|row| row.try_get(0));
        let subjects = subjects.collect::<Result<Vec<Uuid>, _>>()?;
        let Some(end) = subjects.last() else {
            return Ok(true);
        };
        (from, is_first) = (*end, false);
        if !evaluate_some(client, one, &subjects, reason, done).await? {
            return Ok(false);
        }
    }
}

/// Returns the first and the last subject of a range.
pub(super) fn bounds(range: i16) -> (Uuid, Uuid) {
    let byte = u8::try_from(range).unwrap_or(u8::MAX);
    let bound = |others: u8| {
        let mut bytes = [others; 16];
        bytes[0] = byte;
        Uuid::from_bytes(bytes)
    };
    (bound(0), bound(u8::MAX))
}

/// Notes that a range is done; after the last one the segment is sized.
async fn finish_range(client: &Client, number: i16, range: i16) -> Result<(), Error> {
    let next = range + 1;
    if next < RANGES {
        let sql = "update avtryck.segment set next_range = $2, \
                   state = case state when 'failed' then 'behind' else state end where segment = $1";
        client.execute(sql, &[&number, &next]).await?;
    } else {
        client
            .execute(include_str!("finish.sql"), &[&number])
            .await?;
    }
    Ok(())
}

/// Evaluates some subjects for one segment, in a transaction of its own. Returns whether Postgres
/// could; otherwise the segment is failed, and everything of it stays.
async fn evaluate_some(
    client: &mut Client,
    one: &Numbered<'_>,
    subjects: &[Uuid],
    reason: &str,
    done: &mut Evaluated,
) -> Result<bool, Error> {
    let subjects = subjects.to_vec();
    let sql = one.segment.fill(include_str!("evaluate.sql"), "$1");
    let transaction = client.transaction().await?;
    identity::lock(&transaction).await?;
    let settings = "set local statement_timeout = '60s'";
    transaction.batch_execute(settings).await?;
    let evaluated = transaction
        .query_typed(
            &sql,
            &[
                (&subjects, Type::UUID_ARRAY),
                (&one.number, Type::INT2),
                (&reason, Type::TEXT),
            ],
        )
        .await;
    match evaluated {
        Ok(rows) => {
            let changes: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
            transaction.commit().await?;
            done.subjects += subjects.len() as u64;
            done.changes += changes.cast_unsigned();
            Ok(true)
        }
        Err(error) => {
            let Some(text) = error.as_db_error().map(|error| error.message().to_owned()) else {
                return Err(error);
            };
            transaction.rollback().await?;
            let sql = "update avtryck.segment set state = 'failed', error = $2, failed_at = now(), \
                       full_at = null, full_began_at = now(), next_range = 0 where segment = $1";
            client.execute(sql, &[&one.number, &text]).await?;
            Ok(false)
        }
    }
}
