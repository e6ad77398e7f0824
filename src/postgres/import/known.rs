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
    // One that was cut off and that another file or manifest came after is not continued.
    let sql = "select name, supplier, legal_basis, purposes, key_kind || coalesce(' of ' || nullif(partner, ''), ''), \
                   array(select key from unnest(columns) as attribute join avtryck.attribute as known using (attribute)), \
                   valid_from::text, valid_until::text, \
                   case when ended_at is not null then 'ended' \
                        when valid_until <= (now() at time zone 'UTC')::date then 'expired' \
                        when valid_from > (now() at time zone 'UTC')::date then 'waiting' \
                        when (select held.done_at is null from avtryck.import_file as held where held.import = import.import \
                              order by held.began_at desc, held.file desc limit 1) then 'begun' else 'in force' end, \
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
    delete_values(client, import, "infinity").await.map(Some)
}

/// Returns the first day since 1970 on which something expired that is still there: an import, what
/// a file or a callback said of somebody, or one value of that.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn read_first_expired(client: &Client, today: i32) -> anyhow::Result<Option<i32>> {
    let of = |table| {
        format!(
            "select case when min(held.valid_until) is not null \
                 then least(min(held.valid_until), used.valid_until, (used.ended_at at time zone 'UTC')::date) end \
             from avtryck.{table} as held where held.import = used.import"
        )
    };
    let sql = format!(
        "select min(day) - date '1970-01-01' from avtryck.import as used cross join lateral ( \
             {} union all {} union all \
             select min(until) from avtryck.attribute_value as held, \
                 unnest(held.\"values\", held.untils) as each (value, until) \
             where held.import = used.import and held.untils is not null and value is not null \
         ) as first (day) where day <= date '1970-01-01' + $1::int",
        of("attribute_value"),
        of("attribute_area")
    );
    Ok(client.query_one(&sql, &[&today]).await?.try_get(0)?)
}

/// Deletes the values that had expired by a day, which is counted from 1970-01-01, and what is left
/// of imports that were ended.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn delete_expired(client: &mut Client, day: i32) -> anyhow::Result<u64> {
    let sql = "select import, (date '1970-01-01' + $1::int)::text, \
                   ended_at is not null or valid_until <= date '1970-01-01' + $1::int from avtryck.import order by import";
    let mut deleted = 0;
    for row in client.query(sql, &[&day]).await? {
        let (import, day, is_over): (i32, String, bool) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let until = if is_over { "infinity" } else { &day };
        deleted += delete_values(client, import, until).await?;
        if !is_over {
            empty_values(client, import, &day).await?;
        }
    }
    Ok(deleted)
}

/// Deletes the values of an import that end on a day or before, a portion at a time.
async fn delete_values(client: &mut Client, import: i32, until: &str) -> anyhow::Result<u64> {
    let mut deleted = 0;
    for table in ["attribute_value", "attribute_area"] {
        loop {
            let sql = format!(
                "delete from avtryck.{table} where ctid = any(array( \
                     select ctid from avtryck.{table} where import = $1 and valid_until <= $2::text::date \
                     limit {PORTION_ROWS}))"
            );
            let rows = client.execute(&sql, &[&import, &until]).await?;
            deleted += rows;
            if rows < PORTION_ROWS as u64 {
                break;
            }
        }
    }
    Ok(deleted)
}

/// Takes values away that end on a day or before, of subjects of whom others hold longer.
async fn empty_values(client: &mut Client, import: i32, today: &str) -> anyhow::Result<()> {
    let sql = format!(
        "update avtryck.attribute_value as held \
         set \"values\" = array(select case when until > $2::text::date then value end \
                                from unnest(held.\"values\", held.untils) with ordinality as each (value, until, place) \
                                order by place) \
         where ctid = any(array( \
             select other.ctid from avtryck.attribute_value as other \
             where other.import = $1 and other.untils is not null and exists ( \
                 select from unnest(other.\"values\", other.untils) as each (value, until) \
                 where value is not null and until <= $2::text::date) \
             limit {PORTION_ROWS}))"
    );
    while client.execute(&sql, &[&import, &today]).await? == PORTION_ROWS as u64 {}
    Ok(())
}
