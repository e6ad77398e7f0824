//! Reads who is in which segments, for the collector that answers pages from memory.
//!
//! A first refresh reads every part. Later ones read what changed since, which triggers note in
//! `segment_touched` with the transaction that changed it. They begin with the oldest transaction
//! that was under way when the refresh before began, so that none is missed, in whichever order
//! transactions commit. Every part is read again where notes may be gone or would not do: after
//! [`FULL_PERIOD`], where Postgres's clock says that half an hour went by, where another database
//! answers, and where more segments are exposed than before.

use std::collections::HashSet;
use std::time::Duration;

use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::clock::UnixMicros;
use crate::identity::Node;
use crate::postgres::timestamp::Timestamp;
use crate::segment::snapshot::{
    PARTS, SegmentNumber, ShownBySite, ShownSegments, SnapshotWriter, SubjectPrefix,
    SubjectSegments, nodes_of_part,
};

/// How often every part is read again.
pub(crate) const FULL_PERIOD: Duration = Duration::from_hours(24);
/// How long ago the refresh before may be. Notes are kept for twice as long, by the job
/// `segment_touched` ([`delete_old_notes`]).
const GAP_MAX: Duration = Duration::from_mins(30);
/// The most prefixes that one query asks for.
const PORTION: usize = 5000;
/// The most notes that one statement deletes.
const DELETE_ROWS_MAX: i64 = 10_000;
/// Beyond so many changes, every part is read again.
const CHANGES_MAX: usize = 500_000;

/// Which segments each site may be told, by the configuration: the site's key, and the segments'.
pub(crate) type ExposedSegments = Vec<(String, Vec<String>)>;

/// How far a snapshot is refreshed.
pub(crate) struct SnapshotReader {
    writer: SnapshotWriter,
    last: Option<Refresh>,
    forgotten: Mark,
}

/// A refresh that was made.
struct Refresh {
    /// The oldest transaction that was under way.
    xmin: u64,
    /// When it was by Postgres's clock.
    at: Mark,
    /// When every part was read.
    full_at: Mark,
    segments: HashSet<SegmentNumber>,
}

/// A time by Postgres's clock, in seconds since 1970.
type Mark = f64;

/// What is true of the database as a refresh begins.
struct Situation {
    xmin: u64,
    at: Mark,
    segments: HashSet<SegmentNumber>,
    shown: ShownBySite,
}

impl SnapshotReader {
    /// Begins to fill a snapshot.
    #[must_use]
    pub(crate) fn new(writer: SnapshotWriter) -> SnapshotReader {
        SnapshotReader {
            writer,
            last: None,
            forgotten: 0.0,
        }
    }

    /// Makes the snapshot what the database says now.
    ///
    /// # Errors
    /// Where Postgres fails. The snapshot is then partly newer than before, and the next refresh
    /// does all of this one's work.
    pub(crate) async fn refresh(
        &mut self,
        client: &Client,
        exposed: &ExposedSegments,
    ) -> anyhow::Result<()> {
        let situation = read_situation(client, exposed).await?;
        let changes = match &self.last {
            Some(last) if last.leads_to(&situation) => {
                let changes = read_changes(client, last.xmin).await?;
                changes.map(|changes| (changes, last.full_at))
            }
            _ => None,
        };
        let numbers: Vec<SegmentNumber> = situation.segments.iter().copied().collect();
        let full_at = match changes {
            Some((changes, full_at)) => {
                self.follow(client, &changes, &numbers).await?;
                full_at
            }
            None => {
                self.read_all(client, &numbers).await?;
                situation.at
            }
        };
        let Situation {
            xmin,
            at,
            segments,
            shown,
        } = situation;
        self.writer.snapshot().show(shown);
        self.last = Some(Refresh {
            xmin,
            at,
            full_at,
            segments,
        });
        if (at - self.forgotten).abs() > GAP_MAX.as_secs_f64() / 2.0 {
            self.forgotten = at;
            self.writer.snapshot().forget_denied();
        }
        Ok(())
    }

    async fn read_all(
        &mut self,
        client: &Client,
        segments: &[SegmentNumber],
    ) -> anyhow::Result<()> {
        self.writer.forget_sets();
        let sql = "select avtryck.subject_prefix(subject), array_agg(segment) from avtryck.segment_member \
                   where subject between $1 and $2 and segment = any($3) group by subject order by subject";
        let statement = client.prepare(sql).await?;
        for part in 0..PARTS {
            let [first, last] = nodes_of_part(u8::try_from(part)?).map(uuid);
            let rows = client
                .query(&statement, &[&first, &last, &segments])
                .await?;
            self.writer.replace(part, &read_members(&rows)?);
        }
        Ok(())
    }

    async fn follow(
        &mut self,
        client: &Client,
        changes: &[SubjectPrefix],
        segments: &[SegmentNumber],
    ) -> anyhow::Result<()> {
        let sql = "select avtryck.subject_prefix(found.subject), found.segments \
                   from unnest($1::uuid[], $2::uuid[]) as touched (first, last) cross join lateral ( \
                       select subject, array_agg(segment) as segments from avtryck.segment_member \
                       where subject between first and last and segment = any($3) group by subject \
                   ) as found order by found.subject";
        let statement = client.prepare(sql).await?;
        for portion in changes.chunk_by(|one, next| one.part() == next.part()) {
            let part = portion.first().map_or(0, |prefix| prefix.part());
            for portion in portion.chunks(PORTION) {
                let ends = portion.iter().map(|prefix| prefix.nodes().map(uuid));
                let (first, last): (Vec<_>, Vec<_>) =
                    ends.map(|[first, last]| (first, last)).unzip();
                let rows = client
                    .query(&statement, &[&first, &last, &segments])
                    .await?;
                self.writer.change(part, portion, &read_members(&rows)?);
            }
        }
        Ok(())
    }
}

/// Deletes notes that no refresh reads any more, whether or not a collector of this database shows
/// segments to pages. Returns how many.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn delete_old_notes(client: &Client, as_of: UnixMicros) -> anyhow::Result<u64> {
    let sql = "delete from avtryck.segment_touched where ctid = any(array( \
                   select ctid from avtryck.segment_touched where at < $1::timestamptz - make_interval(secs => $2) limit $3))";
    let age = 2.0 * GAP_MAX.as_secs_f64();
    let mut deleted = 0;
    loop {
        let rows = client
            .execute(sql, &[&Timestamp(as_of), &age, &DELETE_ROWS_MAX])
            .await?;
        deleted += rows;
        if rows < DELETE_ROWS_MAX.unsigned_abs() {
            return Ok(deleted);
        }
    }
}

impl Refresh {
    /// Checks whether the changes since are all that is to be read.
    fn leads_to(&self, next: &Situation) -> bool {
        let within =
            |since: Mark, max: Duration| (0.0..max.as_secs_f64()).contains(&(next.at - since));
        within(self.at, GAP_MAX)
            && within(self.full_at, FULL_PERIOD)
            && next.xmin >= self.xmin
            && next.segments.is_subset(&self.segments)
    }
}

fn uuid(node: Node) -> Uuid {
    Uuid::from_bytes(node.0)
}

async fn read_situation(client: &Client, exposed: &ExposedSegments) -> anyhow::Result<Situation> {
    let sql = "select pg_snapshot_xmin(pg_current_snapshot())::text, extract(epoch from clock_timestamp())::float8";
    let row = client.query_one(sql, &[]).await?;
    let xmin: &str = row.try_get(0)?;
    let (xmin, at) = (xmin.parse()?, row.try_get(1)?);
    let sql = "select segment, key from avtryck.segment where is_exposed";
    let mut known: Vec<(SegmentNumber, String)> = Vec::new();
    for row in client.query(sql, &[]).await? {
        known.push((row.try_get(0)?, row.try_get(1)?));
    }
    let of_site = |keys: &Vec<String>| {
        let found = keys
            .iter()
            .filter_map(|key| known.iter().find(|(_, known)| known == key));
        ShownSegments {
            segments: found.cloned().collect(),
        }
    };
    let shown: ShownBySite = exposed
        .iter()
        .map(|(site, keys)| (site.clone(), of_site(keys)))
        .collect();
    let numbers = shown.values().flat_map(|shown| &shown.segments);
    Ok(Situation {
        xmin,
        at,
        segments: numbers.map(|(number, _)| *number).collect(),
        shown,
    })
}

/// Returns whose segments transactions changed from this one on, sorted; `None` where they are too
/// many.
async fn read_changes(client: &Client, xmin: u64) -> anyhow::Result<Option<Vec<SubjectPrefix>>> {
    let sql =
        "select distinct prefix from avtryck.segment_touched where xid >= $1::text::xid8 limit $2";
    let limit = i64::try_from(CHANGES_MAX)? + 1;
    let rows = client.query(sql, &[&xmin.to_string(), &limit]).await?;
    let prefixes = rows
        .iter()
        .map(|row| row.try_get(0).map(SubjectPrefix::from_bits));
    let mut prefixes = prefixes.collect::<Result<Vec<_>, _>>()?;
    prefixes.sort_unstable();
    Ok((prefixes.len() <= CHANGES_MAX).then_some(prefixes))
}

fn read_members(rows: &[Row]) -> Result<Vec<SubjectSegments>, tokio_postgres::Error> {
    let member = |row: &Row| Ok((SubjectPrefix::from_bits(row.try_get(0)?), row.try_get(1)?));
    rows.iter().map(member).collect()
}

#[cfg(test)]
mod tests;
