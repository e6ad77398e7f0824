//! The names of models: `device_model` and `device_alias`, and which devices were looked up.
//!
//! A device that was looked up bears the number of the list of names (`device.named_by`), whether a
//! name was found or not. So each run reads the rows of an index that are still to be done, and
//! with a new list all of them are.

use tokio_postgres::{Client, Transaction};

/// A device whose model is to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnnamedDevice {
    /// `device.key`.
    pub key: i64,
    /// `device.brand`, empty where that is null.
    pub brand: String,
    /// `device.model`.
    pub model: String,
}

/// A row of `device_model`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the columns")]
pub struct DeviceModelRow {
    pub brand: String,
    pub model: String,
    pub maker: String,
    pub name: String,
    pub family: String,
    pub released: Option<i16>,
    pub source: String,
    pub source_version: String,
}

/// A row of `device_alias`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the columns")]
pub struct DeviceAliasRow {
    pub maker: String,
    pub name: String,
    pub alias: String,
    pub kind: &'static str,
}

/// Returns devices that have not been looked up in the list with this number, and locks them. Those
/// that another transaction has locked are left for a later run, so nobody waits for a lock here.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn read_unnamed(
    transaction: &Transaction<'_>,
    named_by: i64,
    rows_max: i64,
) -> Result<Vec<UnnamedDevice>, tokio_postgres::Error> {
    // While nothing is to be done, the index tells so at once. The planner, which expects that much
    // is, would rather read the whole table.
    transaction
        .batch_execute("set local enable_seqscan = off")
        .await?;
    // An index finds what is null, less or more; it does not find what is not equal.
    let sql = "select key, coalesce(brand, ''), model from avtryck.device \
        where model is not null and (named_by is null or named_by < $1 or named_by > $1) \
        limit $2 for update skip locked";
    let rows = transaction.query(sql, &[&named_by, &rows_max]).await?;
    let device = |row: &tokio_postgres::Row| {
        Ok(UnnamedDevice {
            key: row.try_get(0)?,
            brand: row.try_get(1)?,
            model: row.try_get(2)?,
        })
    };
    rows.iter().map(device).collect()
}

/// Stores what these devices are called, in place of what an earlier list said, and that they were
/// looked up. Rows that are as they should be are not written again.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn store_names(
    transaction: &Transaction<'_>,
    named_by: i64,
    devices: &[UnnamedDevice],
    models: &[DeviceModelRow],
    aliases: &[DeviceAliasRow],
) -> Result<(), tokio_postgres::Error> {
    store_models(transaction, devices, models).await?;
    store_aliases(transaction, aliases).await?;
    let keys: Vec<i64> = devices.iter().map(|device| device.key).collect();
    let sql = "update avtryck.device set named_by = $1 where key = any($2)";
    transaction.execute(sql, &[&named_by, &keys]).await?;
    Ok(())
}

async fn store_models(
    transaction: &Transaction<'_>,
    devices: &[UnnamedDevice],
    models: &[DeviceModelRow],
) -> Result<(), tokio_postgres::Error> {
    fn texts<T>(rows: &[T], text: impl Fn(&T) -> &str) -> Vec<&str> {
        rows.iter().map(text).collect()
    }
    let [brands, names] = [
        texts(devices, |device| &device.brand),
        texts(devices, |device| &device.model),
    ];
    let [brand, model, maker] = [
        texts(models, |row| &row.brand),
        texts(models, |row| &row.model),
        texts(models, |row| &row.maker),
    ];
    let [name, family, source, version] = [
        texts(models, |row| &row.name),
        texts(models, |row| &row.family),
        texts(models, |row| &row.source),
        texts(models, |row| &row.source_version),
    ];
    let released: Vec<Option<i16>> = models.iter().map(|row| row.released).collect();
    let remove = "delete from avtryck.device_model as old \
        using (select distinct * from unnest($1::text[], $2::text[])) as pair (brand, model) \
        where old.brand = pair.brand and old.model = pair.model and not exists ( \
            select from unnest($3::text[], $4::text[], $5::text[]) as new (brand, model, source) \
            where new.brand = old.brand and new.model = old.model and new.source = old.source)";
    transaction
        .execute(remove, &[&brands, &names, &brand, &model, &source])
        .await?;
    let add = "insert into avtryck.device_model as old \
            (brand, model, maker, name, family, released, source, source_version) \
        select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], \
            $6::smallint[], $7::text[], $8::text[]) \
        order by 1, 2, 7 \
        on conflict (brand, model, source) do update set maker = excluded.maker, \
            name = excluded.name, family = excluded.family, released = excluded.released, \
            source_version = excluded.source_version \
        where (old.maker, old.name, old.family, old.released, old.source_version) is distinct from \
            (excluded.maker, excluded.name, excluded.family, excluded.released, excluded.source_version)";
    transaction
        .execute(
            add,
            &[
                &brand, &model, &maker, &name, &family, &released, &source, &version,
            ],
        )
        .await?;
    Ok(())
}

/// Stores the other names of models: all that each has, in their order.
async fn store_aliases(
    transaction: &Transaction<'_>,
    aliases: &[DeviceAliasRow],
) -> Result<(), tokio_postgres::Error> {
    let column =
        |text: fn(&DeviceAliasRow) -> &str| -> Vec<&str> { aliases.iter().map(text).collect() };
    let maker = column(|row| &row.maker);
    let name = column(|row| &row.name);
    let alias = column(|row| &row.alias);
    let kind = column(|row| row.kind);
    let remove = "delete from avtryck.device_alias as old \
        using (select distinct * from unnest($1::text[], $2::text[])) as named (maker, name) \
        where old.maker = named.maker and old.name = named.name and not exists ( \
            select from unnest($1::text[], $2::text[], $3::text[]) as new (maker, name, alias) \
            where new.maker = old.maker and new.name = old.name and new.alias = old.alias)";
    transaction
        .execute(remove, &[&maker, &name, &alias])
        .await?;
    let add = "insert into avtryck.device_alias as old (maker, name, alias, kind) \
        select * from unnest($1::text[], $2::text[], $3::text[], $4::text[]) order by 1, 2, 3 \
        on conflict (maker, name, alias) do update set kind = excluded.kind \
        where old.kind <> excluded.kind";
    transaction
        .execute(add, &[&maker, &name, &alias, &kind])
        .await?;
    Ok(())
}

/// Deletes the names of models that no device has any more, and the other names of those. Returns
/// how many rows went.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn remove_unused(client: &mut Client) -> Result<u64, tokio_postgres::Error> {
    let models = client
        .execute(
            "delete from avtryck.device_model where not exists ( \
                select from avtryck.device where device.model = device_model.model \
                and coalesce(device.brand, '') = device_model.brand)",
            &[],
        )
        .await?;
    let aliases = client
        .execute(
            "delete from avtryck.device_alias where not exists ( \
                select from avtryck.device_model where device_model.maker = device_alias.maker \
                and device_model.name = device_alias.name)",
            &[],
        )
        .await?;
    Ok(models + aliases)
}
