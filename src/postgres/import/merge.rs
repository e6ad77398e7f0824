//! Rows of a file into the table of values: COPY into a temporary table, and one statement for each
//! of what may become of them.

use std::collections::{HashMap, HashSet};

use anyhow::Context as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::SinkExt as _;
use tokio_postgres::Transaction;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{ImportCounts, ImportFile, table};
use crate::import::{CheckedRow, RowKey};

impl ImportFile {
    /// Merges rows.
    pub(super) async fn merge_all(
        &self,
        transaction: &Transaction<'_>,
        rows: &[CheckedRow],
        has_listed: bool,
    ) -> anyhow::Result<ImportCounts> {
        let refused = self.find_refused_before(transaction, rows).await?;
        let mut counts = ImportCounts {
            read: refused.len() as u64,
            suppressed: refused.len() as u64,
            ..ImportCounts::default()
        };
        let taken = rows.iter().enumerate();
        let taken = taken.filter(|(place, _)| !refused.contains(place));
        for round in rounds(taken.map(|(_, row)| row)) {
            counts.add(&self.merge(transaction, &round, has_listed).await?);
        }
        Ok(counts)
    }

    /// Merges rows of different subjects.
    async fn merge(
        &self,
        transaction: &Transaction<'_>,
        rows: &[&CheckedRow],
        has_listed: bool,
    ) -> anyhow::Result<ImportCounts> {
        let (table, subject, keys) = table(self.is_area);
        transaction.batch_execute(&format!(
            "create temporary table if not exists row_of_{table} ({columns}, \"values\" text[] not null) on commit delete rows; \
             delete from row_of_{table}; \
             set local enable_hashjoin = off; set local enable_mergejoin = off",
            columns = match self.is_area {
                true => "area text not null",
                false => "subject uuid not null, key uuid not null",
            }
        ))
        .await?;
        let copy = format!("copy row_of_{table} ({keys}, \"values\") from stdin (format binary)");
        let sink = transaction.copy_in::<_, Bytes>(&copy).await?;
        let mut sink = std::pin::pin!(sink);
        sink.send(encode(rows)?).await?;
        sink.finish().await?;
        let suppressed = match has_listed && !self.is_area {
            true => transaction
                .execute("delete from row_of_attribute_value as row using avtryck.suppression as listed where listed.key = row.key", &[])
                .await?,
            false => 0,
        };
        let suppressed = suppressed + self.drop_refused(transaction).await?;
        self.prolong(transaction).await?;
        // An upsert writes to each row that it finds, if only to lock it. Most of a file that comes
        // again is as it was.
        let sql = format!(
            "delete from row_of_{table} as row where \"values\" = ( \
                 select held.\"values\" from avtryck.{table} as held where {of_row})",
            of_row = self.held_of_row(),
        );
        transaction.execute(&sql, &[&self.import]).await?;
        let sql = format!(
            "with merged as ( \
                 insert into avtryck.{table} as held (import, {keys}, \"values\", changed_at, valid_until) \
                 select $1, {keys}, \"values\", now(), $2::text::date from row_of_{table} \
                 on conflict ({subject}, import) do update set \"values\" = excluded.\"values\", changed_at = now(), \
                     ended_at = null, valid_until = excluded.valid_until{no_untils} \
                 where held.\"values\" is distinct from excluded.\"values\" or held.ended_at is not null \
                 returning held.xmax = 0 as is_new) \
             select count(*) filter (where is_new), count(*) filter (where not is_new) from merged",
            no_untils = self.no_untils(),
        );
        let row = transaction
            .query_one(&sql, &[&self.import, &self.valid_until])
            .await?;
        let (new, changed): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let (new, changed) = (new.cast_unsigned(), changed.cast_unsigned());
        let read = rows.len() as u64;
        Ok(ImportCounts {
            read,
            new,
            changed,
            unchanged: read - new - changed - suppressed,
            rejected: 0,
            suppressed,
        })
    }

    /// Returns what has all values of a row end on one day.
    fn no_untils(&self) -> &'static str {
        match self.is_area {
            true => "",
            false => ", untils = null",
        }
    }

    /// Returns what finds the values of a row that hold now. The sum keeps Postgres from the index
    /// by import: until the table is analysed it believes that a new import has no rows, and reads
    /// all of them for each row of the file.
    fn held_of_row(&self) -> String {
        let (_, subject, _) = table(self.is_area);
        format!("held.{subject} = row.{subject} and held.import + 0 = $1 and held.ended_at is null")
    }

    /// Has values that are said again end by this manifest, where an earlier one said another day.
    /// Rows are found by those of the file, whatever Postgres believes of how many there are.
    async fn prolong(&self, transaction: &Transaction<'_>) -> anyhow::Result<()> {
        if !self.is_renewed {
            return Ok(());
        }
        let (table, ..) = table(self.is_area);
        let is_other = match self.is_area {
            true => "held.valid_until <> $2::text::date",
            false => "(held.valid_until <> $2::text::date or held.untils is not null)",
        };
        let sql = format!(
            "update avtryck.{table} as held set valid_until = $2::text::date{no_untils} \
             where ctid = any(array( \
                 select (select held.ctid from avtryck.{table} as held \
                         where {of_row} and held.\"values\" = row.\"values\" and {is_other}) \
                 from row_of_{table} as row))",
            of_row = self.held_of_row(),
            no_untils = self.no_untils(),
        );
        transaction
            .execute(&sql, &[&self.import, &self.valid_until])
            .await?;
        Ok(())
    }

    /// Returns the places of the rows whose user was erased, or objected to the supplier, while an
    /// older key made the hashes of users.
    async fn find_refused_before(
        &self,
        transaction: &Transaction<'_>,
        rows: &[CheckedRow],
    ) -> anyhow::Result<HashSet<usize>> {
        let (mut places, mut nodes, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for (place, row) in rows.iter().enumerate() {
            for older in &row.older_keys {
                if let RowKey::Subject(node, key) = older {
                    places.push(i64::try_from(place)?);
                    nodes.push(Uuid::from_bytes(*node));
                    keys.push(Uuid::from_bytes(*key));
                }
            }
        }
        if places.is_empty() {
            return Ok(HashSet::new());
        }
        let sql = "select distinct older.place \
                   from unnest($2::bigint[], $3::uuid[], $4::uuid[]) as older (place, subject, key) \
                   where exists (select 1 from avtryck.suppression as listed where listed.key = older.key) \
                      or exists (select 1 from avtryck.objection as said join avtryck.import as used on used.import = $1 \
                                 where said.kind = 'supplier' and said.name = used.supplier and said.subject = older.subject)";
        let parameters: [&(dyn ToSql + Sync); 4] = [&self.import, &places, &nodes, &keys];
        let refused = transaction.query(sql, &parameters).await?;
        refused
            .iter()
            .map(|row| Ok(usize::try_from(row.try_get::<_, i64>(0)?)?))
            .collect()
    }

    /// Drops the rows of those who object to the supplier. Returns how many there were.
    async fn drop_refused(&self, transaction: &Transaction<'_>) -> anyhow::Result<u64> {
        if self.is_area {
            return Ok(0);
        }
        let sql = "delete from row_of_attribute_value as row using avtryck.objection as said, avtryck.import as used \
                   where used.import = $1 and said.kind = 'supplier' and said.name = used.supplier \
                     and said.subject = row.subject";
        Ok(transaction.execute(sql, &[&self.import]).await?)
    }
}

/// Splits rows so that those of one list name different subjects: rows of a subject hold in their
/// order, so its second is in the second list.
pub(super) fn rounds<'r>(rows: impl Iterator<Item = &'r CheckedRow>) -> Vec<Vec<&'r CheckedRow>> {
    let mut seen = HashMap::<&RowKey, usize>::new();
    let mut rounds: Vec<Vec<&CheckedRow>> = Vec::new();
    for row in rows {
        let times = seen.entry(&row.key).or_default();
        match rounds.get_mut(*times) {
            Some(round) => round.push(row),
            None => rounds.push(vec![row]),
        }
        *times += 1;
    }
    rounds
}

/// Encodes rows for a binary COPY.
fn encode(rows: &[&CheckedRow]) -> anyhow::Result<Bytes> {
    let mut out = BytesMut::with_capacity(rows.len() * 200);
    out.put_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    let put = |out: &mut BytesMut, bytes: &[u8]| -> anyhow::Result<()> {
        out.put_i32(i32::try_from(bytes.len()).context("a value is too long")?);
        out.put_slice(bytes);
        Ok(())
    };
    for row in rows {
        match &row.key {
            RowKey::Subject(node, key) => {
                out.put_i16(3);
                put(&mut out, node)?;
                put(&mut out, key)?;
            }
            RowKey::Area(area) => {
                out.put_i16(2);
                put(&mut out, area.as_bytes())?;
            }
        }
        let mut list = BytesMut::new();
        // One dimension, which may have nulls, of text (25), from 1.
        for header in [1, 1, 25, i32::try_from(row.values.len())?, 1] {
            list.put_i32(header);
        }
        for value in &row.values {
            match value {
                Some(value) => put(&mut list, value.as_bytes())?,
                None => list.put_i32(-1),
            }
        }
        put(&mut out, &list)?;
    }
    out.put_i16(-1);
    Ok(out.freeze())
}
