//! What was imported: listed, ended, and deleted once it has expired.

use tokio_postgres::Client;

use super::PORTION_ROWS;

/// What is known of an import.
#[derive(Debug, serde::Serialize)]
#[expect(missing_docs, reason = "the fields are columns of `import`, and sums")]
pub struct ImportSummary {
    pub name: String,
    pub supplier: String,
    pub legal_basis: String,
    pub purposes: Vec<String>,
    pub key: String,
    pub attributes: Vec<String>,
    pub valid_from: String,
    pub valid_until: String,
    pub state: String,
    pub subjects: i64,
    pub files: i64,
}

/// Returns every import, or the one of a name.
///
/// # Errors
/// Where Postgres fails.
pub async fn list(client: &Client, name: Option<&str>) -> anyhow::Result<Vec<ImportSummary>> {
    let sql = "select name, supplier, legal_basis, purposes, key_kind || coalesce(' of ' || nullif(partner, ''), ''), \
                   array(select key from unnest(columns) as attribute join avtryck.attribute as known using (attribute)), \
                   valid_from::text, valid_until::text, \
                   case when ended_at is not null then 'ended' \
                        when valid_until <= (now() at time zone 'UTC')::date then 'expired' \
                        when valid_from > (now() at time zone 'UTC')::date then 'waiting' \
                        when exists (select from avtryck.import_file as file where file.import = import.import and done_at is null) \
                            then 'begun' else 'in force' end, \
                   (select count(*) from avtryck.attribute_value as held where held.import = import.import and held.ended_at is null) \
                   + (select count(*) from avtryck.attribute_area as held where held.import = import.import and held.ended_at is null), \
                   (select count(*) from avtryck.import_file as file where file.import = import.import) \
               from avtryck.import where $1::text is null or name = $1 order by name";
    let rows = client.query(sql, &[&name]).await?;
    let read = |row: &tokio_postgres::Row| {
        Ok(ImportSummary {
            name: row.try_get(0)?,
            supplier: row.try_get(1)?,
            legal_basis: row.try_get(2)?,
            purposes: row.try_get(3)?,
            key: row.try_get(4)?,
            attributes: row.try_get(5)?,
            valid_from: row.try_get(6)?,
            valid_until: row.try_get(7)?,
            state: row.try_get(8)?,
            subjects: row.try_get(9)?,
            files: row.try_get(10)?,
        })
    };
    rows.iter().map(read).collect()
}

/// Ends an import: its values are used no more, and are deleted. Returns how many; `None` where
/// there is none of that name.
///
/// # Errors
/// Where Postgres fails.
pub async fn end(client: &mut Client, name: &str) -> anyhow::Result<Option<u64>> {
    let sql = "update avtryck.import set ended_at = coalesce(ended_at, now()) where name = $1 returning import";
    let Some(row) = client.query_opt(sql, &[&name]).await? else {
        return Ok(None);
    };
    let import: i32 = row.try_get(0)?;
    delete_values(client, import).await.map(Some)
}

/// Whether an import has values.
const HAS_VALUES: &str = "(exists (select from avtryck.attribute_value as held where held.import = import.import) \
                           or exists (select from avtryck.attribute_area as held where held.import = import.import))";

/// Returns the first day since 1970 on which an import expired whose values are still there.
///
/// # Errors
/// Where Postgres fails.
pub async fn read_first_expired(client: &Client, today: i32) -> anyhow::Result<Option<i32>> {
    let sql = format!(
        "select min(valid_until) - date '1970-01-01' from avtryck.import \
         where valid_until <= date '1970-01-01' + $1::int and {HAS_VALUES}"
    );
    Ok(client.query_one(&sql, &[&today]).await?.try_get(0)?)
}

/// Deletes the values of imports that expired by a day, which is counted from 1970-01-01.
///
/// # Errors
/// Where Postgres fails.
pub async fn delete_expired(client: &mut Client, day: i32) -> anyhow::Result<u64> {
    let sql = format!(
        "select import from avtryck.import \
         where valid_until <= date '1970-01-01' + $1::int and {HAS_VALUES}"
    );
    let mut deleted = 0;
    for row in client.query(&sql, &[&day]).await? {
        deleted += delete_values(client, row.try_get(0)?).await?;
    }
    Ok(deleted)
}

/// Deletes the values of an import, a portion at a time.
async fn delete_values(client: &mut Client, import: i32) -> anyhow::Result<u64> {
    let mut deleted = 0;
    for table in ["attribute_value", "attribute_area"] {
        loop {
            let sql = format!(
                "delete from avtryck.{table} where ctid = any(array( \
                     select ctid from avtryck.{table} where import = $1 limit {PORTION_ROWS}))"
            );
            let rows = client.execute(&sql, &[&import]).await?;
            deleted += rows;
            if rows < PORTION_ROWS as u64 {
                break;
            }
        }
    }
    Ok(deleted)
}
