//! Exports what is held under an ID, a page at a time.
//!
//! Whoever takes the lines may be slow, so between two pages nothing is locked and no snapshot is
//! held: each page is one statement outside of a transaction. A statement is short whatever is
//! held: it is cancelled after [`STATEMENT_TIME_MAX`], and asks for a narrower stretch of time
//! then. So neither retention, which drops days, nor a loader that waits behind it waits long for
//! an export.
//!
//! A row that is there from the beginning to the end is exported once. One that is loaded or erased
//! meanwhile may be among the lines or not.

use std::time::Duration;

use anyhow::Context as _;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::rejected::RejectedHits;
use super::{Conditions, PARAMETERS, PLAIN_PLANS, TABLES, Table};
use crate::clock::UnixMicros;
use crate::hit::subject::Subject;
use crate::postgres::timestamp::Timestamp;

/// How long one statement may take.
const STATEMENT_TIME_MAX: Duration = Duration::from_millis(500);
/// The most rows of a page.
const PAGE_ROWS_MAX: i64 = 1_000;
/// About how many bytes a page has at most: the row with which it exceeds them is its last.
pub(super) const PAGE_BYTES_MAX: i64 = 512 * 1024;

/// By how much a stretch becomes narrower when a statement took too long.
const NARROWER: i64 = 16;
/// The narrowest stretch of time.
const WIDTH_MIN: i64 = 1_000_000;
/// The width at which what is read is found by its time, because it is too much under the ID.
const BY_TIME_WIDTH: i64 = 3_600_000_000;
const DAY: i64 = 86_400_000_000;
/// Every time that Postgres may hold: the years 1 to 9999.
const ALL_TIME: (i64, i64) = (-62_135_596_800_000_000, 253_402_300_800_000_000);

/// Prepares a connection for exports.
///
/// # Errors
/// Where Postgres fails.
pub async fn set_up(client: &Client) -> Result<(), Error> {
    let limit = STATEMENT_TIME_MAX.as_millis();
    let sql = format!("set time zone 'UTC'; set statement_timeout = {limit}; {PLAIN_PLANS}");
    client.batch_execute(&sql).await
}

/// What is held under an ID, as lines: a JSON object for each row, without a newline, with the name
/// of the table in `table` and the columns in words.
pub(crate) struct Export<'s> {
    subject: Subject<'s>,
    tables: std::slice::Iter<'static, Table>,
    /// The table that is being read.
    table: Option<(&'static Table, Stretch)>,
    /// What is read last.
    rejected: RejectedHits,
}

/// What of a table is read next: rows from a time on, until the end or for a width of time.
struct Stretch {
    from: i64,
    /// Of the rows of that time, those after this text; all of them where it is none.
    after: Option<String>,
    width: i64,
    /// Until then rows are found by their time and then by the ID, which pays where one ID has most
    /// of the rows of a day.
    by_time_until: i64,
    end: i64,
}

/// A page of a table.
#[derive(Default)]
struct ExportPage {
    lines: Vec<String>,
    /// Where the last row is, if there are more in the stretch.
    last: Option<(i64, String)>,
}

impl<'s> Export<'s> {
    /// Begins an export.
    #[must_use]
    pub(crate) fn new(subject: Subject<'s>) -> Export<'s> {
        Export {
            subject,
            tables: TABLES.iter(),
            table: None,
            rejected: RejectedHits::default(),
        }
    }

    /// Returns the next lines, of which there may be none yet; `None` at the end. The connection
    /// may be another one each time, and must be [`set_up`].
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(crate) async fn next(&mut self, client: &Client) -> anyhow::Result<Option<Vec<String>>> {
        let Some((table, stretch)) = &mut self.table else {
            let Some(table) = self.tables.next() else {
                return self.next_rejected(client).await;
            };
            let begun = Stretch::begin(client, table).await?;
            self.table = begun.map(|stretch| (table, stretch));
            return Ok(Some(Vec::new()));
        };
        let page = read_page(client, table, &self.subject, stretch).await;
        if is_too_slow(&page) && stretch.narrow() {
            return Ok(Some(Vec::new()));
        }
        let page = page.with_context(|| format!("reading avtryck.{}", table.name))?;
        if stretch.advance(page.last) {
            self.table = None;
        }
        Ok(Some(page.lines))
    }

    async fn next_rejected(&mut self, client: &Client) -> anyhow::Result<Option<Vec<String>>> {
        let hits = self.rejected.next(client, &self.subject).await;
        let hits = hits.context("reading avtryck.rejected_hit")?;
        let lines = hits.map(|hits| hits.iter().map(|hit| hit.to_line()).collect());
        lines.transpose()
    }
}

/// Checks whether a statement was cancelled because it took too long.
pub(super) fn is_too_slow<T>(done: &Result<T, Error>) -> bool {
    let error = done.as_ref().err();
    error.is_some_and(|error| error.code() == Some(&SqlState::QUERY_CANCELED))
}

impl Stretch {
    /// Begins with the whole table; `None` if it is empty.
    async fn begin(client: &Client, table: &Table) -> Result<Option<Stretch>, Error> {
        let (from, end) = if table.name == "hit" {
            let sql = "select min(day) - date '1970-01-01', max(day) + 1 - date '1970-01-01' \
                       from avtryck.hit_day";
            let row = client.query_one(sql, &[]).await?;
            let [from, end]: [Option<i32>; 2] = [row.try_get(0)?, row.try_get(1)?];
            let Some((from, end)) = from.zip(end) else {
                return Ok(None);
            };
            let micros = |day: i32| i64::from(day) * DAY;
            (micros(from), micros(end))
        } else {
            ALL_TIME
        };
        Ok(Some(Stretch {
            from,
            after: None,
            width: end - from,
            by_time_until: i64::MIN,
            end,
        }))
    }

    /// Returns where the stretch that is read next ends.
    fn to(&self) -> i64 {
        let end = match self.is_by_time() {
            true => self.by_time_until.min(self.end),
            false => self.end,
        };
        self.from.saturating_add(self.width).min(end)
    }

    fn is_by_time(&self) -> bool {
        self.from < self.by_time_until
    }

    /// Makes the stretch narrower; false if it is as narrow as can be.
    fn narrow(&mut self) -> bool {
        let before = self.width;
        self.width = (before / NARROWER).max(WIDTH_MIN);
        if self.width < BY_TIME_WIDTH && !self.is_by_time() {
            self.by_time_until = (self.from.div_euclid(DAY) + 1) * DAY;
            return true;
        }
        self.width < before
    }

    /// Goes on after a page; true at the end. What lies behind a page is read again with each page
    /// of its stretch, so the next stretch is not much wider than what one page held.
    fn advance(&mut self, last: Option<(i64, String)>) -> bool {
        let begun = self.from;
        if let Some((at, after)) = last {
            self.width = ((at - begun) * 2).clamp(WIDTH_MIN, self.width.max(WIDTH_MIN));
            (self.from, self.after) = (at, Some(after));
            return false;
        }
        (self.from, self.after) = (self.to(), None);
        self.width = self.width.saturating_mul(4);
        self.from >= self.end
    }
}

async fn read_page(
    client: &Client,
    table: &Table,
    subject: &Subject<'_>,
    stretch: &Stretch,
) -> Result<ExportPage, Error> {
    let conditions = Conditions::new(subject);
    let is_by_time = table.name == "hit" && stretch.is_by_time();
    let sql = page_sql(table, conditions.condition(table), is_by_time);
    let micros = |micros| Timestamp(UnixMicros(micros));
    let (from, to) = (micros(stretch.from), micros(stretch.to()));
    let own: [(&(dyn ToSql + Sync), Type); 3] = [
        (&from, Type::TIMESTAMPTZ),
        (&to, Type::TIMESTAMPTZ),
        (&stretch.after, Type::TEXT),
    ];
    let subject = conditions.parameters().into_iter().zip(PARAMETERS);
    let parameters: Vec<_> = subject.chain(own).collect();
    let rows = client.query_typed(&sql, &parameters).await?;
    let mut page = ExportPage::default();
    if let Some(last) = rows.last() {
        let found: i64 = last.try_get("found")?;
        if found == PAGE_ROWS_MAX || usize::try_from(found) != Ok(rows.len()) {
            let at: Timestamp = last.try_get("at")?;
            page.last = Some((at.0.0, last.try_get("tie")?));
        }
    }
    let line = |row: &Row| row.try_get("line");
    page.lines = rows.iter().map(line).collect::<Result<_, _>>()?;
    Ok(page)
}

/// Returns the query for a page of a table: `$1` to `$3` are the subject's, `$4` and `$5` the ends
/// of the stretch, `$6` the text after which the rows of its first moment begin.
fn page_sql(table: &Table, condition: &str, is_by_time: bool) -> String {
    let Table {
        name,
        words,
        order: (at, tie),
        ..
    } = table;
    let within = format!("{at} >= $4 and {at} < $5");
    // `offset 0` keeps the planner from looking for the ID first.
    let source = match is_by_time {
        true => format!("(select * from {words} where {within} offset 0)"),
        false => (*words).to_owned(),
    };
    format!(
        "select line, at, tie, found from ( \
             select line, at, tie, count(*) over () as found, \
                    sum(octet_length(line)) over (order by at, tie rows between unbounded preceding \
                                                                   and 1 preceding) as bytes_before \
             from (select (select row_to_json(line) from (select '{name}' as \"table\", held.*) as line)::text as line, \
                          {at} as at, {tie} collate \"C\" as tie \
                   from {source} as held \
                   where {condition} and {within} \
                     and ({at} > $4 or $6 is null or {tie} collate \"C\" > $6) \
                   order by 2, 3 limit {PAGE_ROWS_MAX}) as page \
         ) as page \
         where bytes_before is null or bytes_before < {PAGE_BYTES_MAX} order by at, tie"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_narrows_where_it_is_slow_and_widens_where_it_is_not_and_covers_everything() {
        let mut stretch = Stretch {
            from: 0,
            after: None,
            width: 256_000_000,
            by_time_until: i64::MIN,
            end: 3 * DAY,
        };
        assert!(stretch.narrow() && stretch.is_by_time());
        assert_eq!(stretch.to(), 16_000_000);
        assert!(stretch.narrow() && !stretch.narrow());
        assert_eq!(stretch.to(), WIDTH_MIN);
        assert!(!stretch.advance(None));
        assert_eq!((stretch.from, stretch.to()), (1_000_000, 5_000_000));
        assert!(!stretch.advance(Some((1_500_000, "x".to_owned()))));
        assert_eq!((stretch.from, stretch.to()), (1_500_000, 2_500_000));
        assert_eq!(stretch.after.as_deref(), Some("x"));
        // The next day is found by the ID again.
        while stretch.from < DAY {
            assert!(stretch.is_by_time() && stretch.to() <= DAY);
            assert!(!stretch.advance(None) && stretch.after.is_none());
        }
        assert!(!stretch.is_by_time());
        assert!(stretch.narrow() && !stretch.is_by_time(), "a wide one");
        while !stretch.advance(None) {}
        assert_eq!(stretch.from, stretch.end);
    }
}
