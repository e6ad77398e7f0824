//! Attributes that callbacks bring: kept in the transaction of their hits, added up later.

use std::collections::HashMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Transaction};
use uuid::Uuid;

use super::{write_attributes, write_import, write_manifest};
use crate::hit::Flags;
use crate::import::{CheckedRow, Manifest, RowKey};
use crate::postgres::batch::load::Rows;
use crate::postgres::segment::part::ProfilePart;

/// Rows of `attribute_part` that are added in one transaction.
const PARTS_MAX: i32 = 20;

/// The flags that take what a callback says away, as they do with facts.
const WITHOUT: Flags = ProfilePart::WITHOUT;

/// Whose values: the import, the subject and its key.
type Whose = (i32, [u8; 16], [u8; 16]);

/// What the callbacks of a batch say of their subjects.
#[derive(Debug, Default)]
pub struct AttributePart {
    /// Each with the byte at which its row begins, and the number of its import.
    said: Vec<(usize, i32, CheckedRow)>,
}

impl AttributePart {
    /// Empties it.
    pub fn clear(&mut self) {
        self.said.clear();
    }

    /// Adds what the row says that begins at a byte.
    pub fn push(&mut self, start: usize, import: i32, row: CheckedRow) {
        self.said.push((start, import, row));
    }

    /// Stores what rows say that are stored, as one row of `attribute_part`.
    pub(crate) async fn keep(
        &self,
        transaction: &Transaction<'_>,
        rows: &Rows,
    ) -> Result<(), Error> {
        let mut flags_of = rows.flags_in_order();
        let mut is_kept = |start: usize| {
            let flags = flags_of(start);
            flags.is_some_and(|flags| !flags.has_any(WITHOUT))
        };
        // Of a subject that is there twice, later values take the place of earlier ones.
        let mut merged = HashMap::<Whose, Vec<Option<&str>>>::new();
        for (_, import, row) in self.said.iter().filter(|(start, ..)| is_kept(*start)) {
            let RowKey::Subject(subject, key) = row.key else {
                continue;
            };
            let values = row.values.iter().map(Option::as_deref);
            let held = merged
                .entry((*import, subject, key))
                .or_insert_with(|| vec![None; row.values.len()]);
            for (held, value) in held.iter_mut().zip(values) {
                *held = value.or(*held);
            }
        }
        if merged.is_empty() {
            return Ok(());
        }
        let (mut imports, mut subjects, mut keys, mut values) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((import, subject, key), said) in merged {
            imports.push(import);
            subjects.push(Uuid::from_bytes(subject));
            keys.push(Uuid::from_bytes(key));
            values.push(serde_json::Value::from(said).to_string());
        }
        transaction
            .execute_typed(
                "insert into avtryck.attribute_part (imports, subjects, keys, \"values\") values ($1, $2, $3, $4)",
                &[
                    (&imports, Type::INT4_ARRAY),
                    (&subjects, Type::UUID_ARRAY),
                    (&keys, Type::UUID_ARRAY),
                    (&values, Type::TEXT_ARRAY),
                ],
            )
            .await?;
        Ok(())
    }
}

/// Notes an import that has no file: what its manifest says holds from now on. Returns its number.
///
/// # Errors
/// Where Postgres fails, or the import was made with other columns or keys, or for less.
pub(crate) async fn declare(client: &Client, manifest: &Manifest) -> anyhow::Result<i32> {
    write_attributes(client).await?;
    let import = write_import(client, manifest, false).await?;
    write_manifest(client, import, manifest).await?;
    Ok(import)
}

/// Adds what batches brought to `attribute_value`, whichever collector loaded them.
///
/// # Errors
/// Where Postgres fails.
pub async fn fold(client: &Client) -> Result<(), Error> {
    let sql = "select exists (select from avtryck.attribute_part)";
    if !client.query_one(sql, &[]).await?.try_get(0)? {
        return Ok(());
    }
    let sql = "select avtryck.fold_attributes($1)";
    while client
        .query_one(sql, &[&PARTS_MAX])
        .await?
        .try_get::<_, bool>(0)?
    {}
    Ok(())
}
