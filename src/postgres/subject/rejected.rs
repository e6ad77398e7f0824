//! Rejected hits that name a subject. The whole table is read, a stretch of its pages at a time: it
//! has no index for what is in payloads, and seldom many rows.

use serde_json::Value;
use tokio_postgres::{Client, Error, Row};

use super::export::{PAGE_BYTES_MAX, is_too_slow};
use crate::hit::subject::Subject;
use crate::hit::{self, Hit};

/// Pages of the table that one statement looks at, at first.
const STRETCH_MAX: i64 = 4_096;
/// By how many times fewer it looks at when that took too long.
const NARROWER: i64 = 16;
/// The most rows that it returns.
const ROWS_MAX: i64 = 1_000;

/// A rejected hit that names the subject.
pub(super) struct RejectedHit {
    /// Its columns, as one JSON object.
    columns: String,
    pub(super) payload: Vec<u8>,
    /// Where the row is.
    pub(super) place: String,
}

impl RejectedHit {
    /// Returns the columns, with the hit where the payload decodes.
    pub(super) fn to_line(&self) -> anyhow::Result<String> {
        let mut line: serde_json::Map<String, Value> = serde_json::from_str(&self.columns)?;
        let hit = Hit::decode(&self.payload).map_or(Value::Null, |hit| hit.export().into());
        line.insert("hit".to_owned(), hit);
        Ok(Value::Object(line).to_string())
    }
}

/// How far the table is read.
#[derive(Default)]
pub(super) struct RejectedHits {
    scan: Option<TableScan>,
}

struct TableScan {
    /// The row after which the next statement begins, and its page.
    after: String,
    from: i64,
    /// The page before which its stretch ends.
    to: i64,
    /// How many pages a stretch has.
    stretch: i64,
    /// How many the table has.
    pages: i64,
}

impl RejectedHits {
    /// Returns the next hits that name the subject, of which there may be none yet; `None` at the
    /// end.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(super) async fn next(
        &mut self,
        client: &Client,
        subject: &Subject<'_>,
    ) -> Result<Option<Vec<RejectedHit>>, Error> {
        let scan = match &mut self.scan {
            Some(scan) => scan,
            none => none.insert(TableScan::begin(client).await?),
        };
        if scan.is_done() {
            return Ok(None);
        }
        let page = scan.read(client, subject).await;
        if is_too_slow(&page) && scan.narrow() {
            return Ok(Some(Vec::new()));
        }
        let rows = page?;
        scan.advance(&rows)?;
        let mut found = Vec::new();
        for row in &rows {
            let payload: Vec<u8> = row.try_get("payload")?;
            let named = hit::subjects(&payload);
            if named.iter().flatten().any(|named| named.is(subject)) {
                found.push(RejectedHit {
                    columns: row.try_get("columns")?,
                    place: row.try_get("place")?,
                    payload,
                });
            }
        }
        Ok(Some(found))
    }
}

/// Returns the place before the first row of a page.
fn before_page(page: i64) -> String {
    format!("({page},0)")
}

/// Returns the page of a place, such as `(page,row)`.
fn page_of(place: &str) -> i64 {
    let page = place.trim_start_matches('(').split(',').next();
    page.and_then(|page| page.parse().ok()).unwrap_or(i64::MAX)
}

impl TableScan {
    async fn begin(client: &Client) -> Result<TableScan, Error> {
        let sql = "select pg_relation_size('avtryck.rejected_hit') / current_setting('block_size')::bigint";
        let pages = client.query_one(sql, &[]).await?.try_get(0)?;
        Ok(TableScan {
            after: before_page(0),
            from: 0,
            to: STRETCH_MAX.min(pages),
            stretch: STRETCH_MAX,
            pages,
        })
    }

    fn is_done(&self) -> bool {
        self.from >= self.pages
    }

    /// Makes the stretch shorter; false if it is as short as can be.
    fn narrow(&mut self) -> bool {
        let before = self.stretch;
        self.stretch = (before / NARROWER).max(1);
        self.to = (self.from + self.stretch).min(self.pages);
        self.stretch < before
    }

    /// Goes on after what was read: at the last row, if there are more in the stretch.
    fn advance(&mut self, rows: &[Row]) -> Result<(), Error> {
        if let Some(last) = rows.last() {
            let found: i64 = last.try_get("found")?;
            if found == ROWS_MAX || usize::try_from(found) != Ok(rows.len()) {
                self.after = last.try_get("place")?;
                self.from = page_of(&self.after);
                return Ok(());
            }
        }
        (self.after, self.from) = (before_page(self.to), self.to);
        self.to = (self.to + self.stretch).min(self.pages);
        Ok(())
    }

    async fn read(&self, client: &Client, subject: &Subject<'_>) -> Result<Vec<Row>, Error> {
        // Any encoding that names the subject has it; bytes, because a payload need not be text.
        let needle = match subject {
            Subject::Visitor(visitor) => visitor.0.to_vec(),
            Subject::User(user) => user.0.to_vec(),
            _ => subject.id().into_bytes(),
        };
        let has_needle = match subject {
            // Its case may differ. In the text form of the payload other bytes are escaped, so that
            // lowering it is safe.
            Subject::Maid(_) => {
                "position(lower(encode($1::bytea, 'escape') collate \"C\") \
                          in lower(encode(payload, 'escape') collate \"C\")) > 0"
            }
            _ => "position($1::bytea in payload) > 0",
        };
        let sql = format!(
            "select payload, columns, place::text as place, found from ( \
                 select payload, place, count(*) over () as found, \
                        (select row_to_json(line) from (select 'rejected_hit' as \"table\", (held).*) as line)::text as columns, \
                        sum(octet_length(payload)) over (order by place rows between unbounded preceding \
                                                                         and 1 preceding) as bytes_before \
                 from (select held, payload, held.ctid as place from avtryck.rejected_hit as held \
                       where held.ctid > $2::text::tid and held.ctid < $3::text::tid and {has_needle} \
                       order by held.ctid limit {ROWS_MAX}) as page \
             ) as page \
             where bytes_before is null or bytes_before < {PAGE_BYTES_MAX} order by page.place"
        );
        client
            .query(&sql, &[&needle, &self.after, &before_page(self.to)])
            .await
    }
}
