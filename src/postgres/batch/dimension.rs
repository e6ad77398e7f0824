//! New rows of the dimensions, inserted in the transaction whose rows point to them.
//!
//! Rows go in ordered by key, so that two loaders with the same new rows wait for each other
//! instead of deadlocking. NUL, which Postgres cannot store, becomes U+FFFD: the key still finds
//! the row, and every hit that points to it is kept.

use std::borrow::Cow;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Transaction};

use crate::row::dimension::{DimensionRows, Values};

/// Dimension rows of a batch, by table: those that the loader does not know to be in Postgres once
/// the batches before this one are committed.
#[derive(Clone, Debug)]
pub struct Dimensions {
    tables: &'static [&'static str],
    rows: Vec<DimensionRows>,
}

impl Dimensions {
    /// Holds no rows of these tables. A row of `hit` has a key for each, in the same order.
    #[must_use]
    pub fn new(tables: &'static [&'static str]) -> Dimensions {
        Dimensions {
            tables,
            rows: vec![DimensionRows::default(); tables.len()],
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
    }
}

/// Inserts the rows that are not there, and returns how many those were.
pub(crate) async fn insert(transaction: &Transaction<'_>, new: &Dimensions) -> Result<u64, Error> {
    let mut inserted = 0;
    for (table, rows) in new.tables.iter().zip(&new.rows) {
        if !rows.keys().is_empty() {
            inserted += insert_rows(transaction, table, rows).await?;
        }
    }
    Ok(inserted)
}

async fn insert_rows(
    transaction: &Transaction<'_>,
    table: &str,
    rows: &DimensionRows,
) -> Result<u64, Error> {
    let names: Vec<&str> = rows.columns().iter().map(|(name, _)| *name).collect();
    let names = names.join(", ");
    let parameters: Vec<String> = (1..=rows.columns().len() + 1)
        .map(|n| format!("${n}"))
        .collect();
    let sql = format!(
        "insert into avtryck.{table} (key, {names}) \
         select * from unnest({}) as new (key, {names}) order by key on conflict do nothing",
        parameters.join(", ")
    );
    let keys = rows.keys();
    let columns: Vec<(Box<dyn ToSql + Sync + Send + '_>, Type)> = rows
        .columns()
        .iter()
        .map(|(_, values)| parameter(values))
        .collect();
    let mut typed: Vec<(&(dyn ToSql + Sync), Type)> = vec![(&keys, Type::INT8_ARRAY)];
    for (values, kind) in &columns {
        typed.push((&**values, kind.clone()));
    }
    transaction.execute_typed(&sql, &typed).await
}

/// Returns a column as an array parameter.
fn parameter(values: &Values) -> (Box<dyn ToSql + Sync + Send + '_>, Type) {
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
