//! New rows of the dimensions, inserted in the transaction whose rows point to them.
//!
//! Rows go in ordered by key, so that two loaders with the same new rows wait for each other
//! instead of deadlocking. NUL, which Postgres cannot store, becomes U+FFFD: the key still finds
//! the row, and every hit that points to it is kept.
//!
//! The content of a row that is there already is compared. Keys cannot be chosen, so it differs
//! only if somebody changed it or knows the secret. Then the key is refused: hits that have it are
//! stored with this dimension unknown ([`UNKNOWN_KEY`](crate::row::UNKNOWN_KEY)), so that no hit is
//! lost and none counts for what it was not about.

use std::borrow::Cow;

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row, Transaction};

use crate::row::dimension::{DimensionRows, Stored, Values};
use crate::row::{FormerKeys, Keyer, SECRET_BYTES, Site};

/// The most rows of one table whose former keys are kept in memory, 24 bytes each. Content beyond
/// them gets a new key beside its old one: reports join by content, but who has seen such an ad
/// begins to be counted anew.
const FORMER_KEYS_MAX: i64 = 1_000_000;

/// Dimension rows of a batch, by table: those that the loader does not know to be in Postgres once
/// the batches before this one are committed.
#[derive(Clone, Debug)]
pub struct Dimensions {
    tables: &'static [&'static str],
    rows: Vec<DimensionRows>,
    /// The last day of a hit that brings them.
    last_day: i32,
}

impl Dimensions {
    /// Holds no rows of these tables. A row of `hit` has a key for each, in the same order.
    #[must_use]
    pub fn new(tables: &'static [&'static str]) -> Dimensions {
        Dimensions {
            tables,
            rows: vec![DimensionRows::default(); tables.len()],
            last_day: 0,
        }
    }

    /// Returns the tables.
    #[must_use]
    pub fn tables(&self) -> &'static [&'static str] {
        self.tables
    }

    /// Returns the rows of the table with that index among the tables.
    pub fn of(&mut self, table: usize) -> Option<&mut DimensionRows> {
        self.rows.get_mut(table)
    }

    /// Removes every row.
    pub fn clear(&mut self) {
        self.rows.iter_mut().for_each(DimensionRows::clear);
        self.last_day = 0;
    }

    /// Notes the day of a hit that brings some of them.
    pub(crate) fn note_day(&mut self, day: i32) {
        self.last_day = self.last_day.max(day);
    }
}

/// Returns the key that a stored row would have if it were new.
pub(crate) type NewKeyOfRow = fn(&Keyer, &Row) -> Result<i64, Error>;

/// Reads the secret, and the rows of these tables that had a key before there was one.
///
/// # Errors
/// Where Postgres fails, or the secret may not be read.
pub async fn read_keyer(
    client: &Client,
    tables: impl Iterator<Item = (&str, NewKeyOfRow)>,
) -> anyhow::Result<Keyer> {
    let sql = "select value from avtryck.secret where name = 'key'";
    let row = client.query_one(sql, &[]).await;
    let secret: Vec<u8> = row
        .and_then(|row| row.try_get(0))
        .context("reading avtryck.secret")?;
    let secret = secret.try_into().ok();
    let secret: [u8; SECRET_BYTES] = secret.context("avtryck.secret does not hold 32 bytes")?;
    let keyer = Keyer::new(secret);
    let mut former = FormerKeys::default();
    for (table, new_key_of) in tables {
        // Of the ads first those by which exposures are counted.
        let first = match table {
            "ad" => "(placement is null and publisher is null) desc, key",
            _ => "key",
        };
        let sql = format!(
            "select * from avtryck.{table} where not is_keyed order by {first} limit {FORMER_KEYS_MAX}"
        );
        let no_parameters: [&str; 0] = [];
        let mut rows = std::pin::pin!(client.query_raw(&sql, no_parameters).await?);
        while let Some(row) = rows.try_next().await? {
            former.insert(new_key_of(&keyer, &row)?, row.try_get("key")?);
        }
    }
    Ok(keyer.with_former(former))
}

impl Stored for Row {
    type Error = Error;

    fn text(&self, column: &str) -> Result<Option<String>, Error> {
        self.try_get(column)
    }

    fn integer(&self, column: &str) -> Result<Option<i64>, Error> {
        self.try_get(column)
    }

    fn real(&self, column: &str) -> Result<Option<f64>, Error> {
        self.try_get(column)
    }

    fn boolean(&self, column: &str) -> Result<bool, Error> {
        self.try_get(column)
    }
}

/// What became of the rows of a batch.
#[derive(Debug, Default)]
pub(crate) struct Inserted {
    /// How many were not there.
    pub(crate) new: u64,
    /// The keys that belong to other content, each with the index of its table.
    pub(crate) refused: Vec<(usize, i64)>,
}

/// Inserts the rows that are not there, and compares those that are. All of them were seen today,
/// by the clock of Postgres, and on the last day of a hit: a row that retention keeps never points
/// to one that was seen before the first day that is kept.
pub(crate) async fn insert(
    transaction: &Transaction<'_>,
    new: &Dimensions,
) -> Result<Inserted, Error> {
    let mut inserted = Inserted::default();
    for (index, (table, rows)) in new.tables.iter().zip(&new.rows).enumerate() {
        if rows.keys().is_empty() {
            continue;
        }
        let made = insert_rows(transaction, table, rows, new.last_day).await?;
        inserted.new += made;
        if made < rows.keys().len() as u64 {
            let refused = find_other_content(transaction, table, rows).await?;
            for key in refused {
                tracing::error!(
                    table,
                    key,
                    "the key of a dimension row belongs to other content"
                );
                inserted.refused.push((index, key));
            }
        }
    }
    Ok(inserted)
}

async fn insert_rows(
    transaction: &Transaction<'_>,
    table: &str,
    rows: &DimensionRows,
    last_day: i32,
) -> Result<u64, Error> {
    let names = names_of(rows, "");
    let mut parameters = parameters(rows);
    parameters.push((Box::new(last_day), Type::INT4));
    let sql = format!(
        "with stored as ( \
             insert into avtryck.{table} (key, is_keyed, last_seen, {names}) \
             select distinct on (key) key, true, \
                 greatest((now() at time zone 'UTC')::date, date '1970-01-01' + ${}), {names} \
             from {} order by key \
             on conflict (key) do update set last_seen = excluded.last_seen \
                 where {table}.last_seen < excluded.last_seen \
             returning xmax = 0 as is_new) \
         select count(*) filter (where is_new) from stored",
        parameters.len(),
        unnest_rows(rows)
    );
    let stored = transaction
        .query_typed(&sql, &borrow_parameters(&parameters))
        .await?;
    let inserted = stored.first().map(|row| row.try_get::<_, i64>(0));
    Ok(inserted.transpose()?.unwrap_or(0).cast_unsigned())
}

/// Adds the row without category of each site that has only rows with one.
///
/// # Errors
/// Where Postgres fails, or the secret may not be read.
pub(crate) async fn add_bare_sites(client: &Client) -> anyhow::Result<()> {
    let rows = client
        .query(
            "select site from avtryck.site group by site \
             having count(*) filter (where category is null) = 0",
            &[],
        )
        .await?;
    if rows.is_empty() {
        return Ok(());
    }
    let keyer = read_keyer(client, std::iter::empty()).await?;
    for row in rows {
        let site: &str = row.try_get(0)?;
        let key = keyer.key(&Site { site, category: "" });
        let insert = "insert into avtryck.site (key, is_keyed, site) values ($1, true, $2) \
            on conflict do nothing";
        client.execute(insert, &[&key, &site]).await?;
    }
    Ok(())
}

/// Returns the keys whose stored rows hold something else.
async fn find_other_content(
    transaction: &Transaction<'_>,
    table: &str,
    rows: &DimensionRows,
) -> Result<Vec<i64>, Error> {
    let sql = format!(
        "select distinct new.key from {} join avtryck.{table} as stored using (key) \
         where row({}) is distinct from row({})",
        unnest_rows(rows),
        names_of(rows, "new."),
        names_of(rows, "stored."),
    );
    let columns = parameters(rows);
    let found = transaction
        .query_typed(&sql, &borrow_parameters(&columns))
        .await?;
    found.iter().map(|row| row.try_get(0)).collect()
}

/// Returns the names of the columns but the key, each with a prefix.
fn names_of(rows: &DimensionRows, prefix: &str) -> String {
    let names = rows.columns().iter();
    let names: Vec<String> = names.map(|(name, _)| format!("{prefix}{name}")).collect();
    names.join(", ")
}

/// Returns the rows as a table in SQL, made of parameters.
fn unnest_rows(rows: &DimensionRows) -> String {
    let numbers: Vec<String> = (1..=rows.columns().len() + 1)
        .map(|n| format!("${n}"))
        .collect();
    let names = names_of(rows, "");
    format!("unnest({}) as new (key, {names})", numbers.join(", "))
}

type Parameter<'r> = (Box<dyn ToSql + Sync + Send + 'r>, Type);

/// Returns the parameters that [`unnest_rows`] names.
fn parameters(rows: &DimensionRows) -> Vec<Parameter<'_>> {
    let key: Parameter<'_> = (Box::new(rows.keys()), Type::INT8_ARRAY);
    let columns = rows.columns().iter().map(|(_, values)| parameter(values));
    std::iter::once(key).chain(columns).collect()
}

fn borrow_parameters<'p>(parameters: &'p [Parameter<'_>]) -> Vec<(&'p (dyn ToSql + Sync), Type)> {
    let borrow = |(value, kind): &'p Parameter<'_>| (&**value as &(dyn ToSql + Sync), kind.clone());
    parameters.iter().map(borrow).collect()
}

/// Returns a column as an array parameter.
fn parameter(values: &Values) -> Parameter<'_> {
    match values {
        Values::Texts(texts) => {
            let texts: Vec<Option<Cow<'_, str>>> = texts
                .iter()
                .map(|text| text.as_deref().map(storable))
                .collect();
            (Box::new(texts), Type::TEXT_ARRAY)
        }
        Values::Integers(numbers) => (Box::new(numbers), Type::INT8_ARRAY),
        Values::Reals(numbers) => (Box::new(numbers), Type::FLOAT8_ARRAY),
        Values::Booleans(are_so) => (Box::new(are_so), Type::BOOL_ARRAY),
    }
}

fn storable(text: &str) -> Cow<'_, str> {
    match text.contains('\0') {
        true => Cow::Owned(text.replace('\0', "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}
