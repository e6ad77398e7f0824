//! New rows of the dimensions, inserted in the transaction whose rows point to them.
//!
//! Rows go in ordered by key, so that two loaders with the same new rows wait for each other
//! instead of deadlocking. NUL, which Postgres cannot store, becomes U+FFFD: the key still finds
//! the row, and every hit that points to it is kept.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Transaction};

use crate::row::{Ad, Device, Network, Place, Site};

/// Dimension rows with their keys, as the batch found them: those that the loader does not know to
/// be in Postgres once the batches before this one are committed.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the tables of schema avtryck")]
pub struct Dimensions {
    pub places: Vec<(i64, Place)>,
    pub networks: Vec<(i64, Network)>,
    pub devices: Vec<(i64, Device)>,
    pub ads: Vec<(i64, Ad)>,
    pub sites: Vec<(i64, Site)>,
}

/// Inserts those that are not there; how many were new.
pub(crate) async fn insert(transaction: &Transaction<'_>, new: &Dimensions) -> Result<u64, Error> {
    Ok(insert_places(transaction, &new.places).await?
        + insert_networks(transaction, &new.networks).await?
        + insert_devices(transaction, &new.devices).await?
        + insert_ads(transaction, &new.ads).await?
        + insert_sites(transaction, &new.sites).await?)
}

/// One column of the rows, as an array parameter.
type Column = (Box<dyn ToSql + Sync + Send>, Type);

/// Inserts columns, of which the first is the key.
async fn insert_columns(
    transaction: &Transaction<'_>,
    table: &str,
    names: &str,
    columns: &[Column],
) -> Result<u64, Error> {
    let parameters: Vec<String> = (1..=columns.len()).map(|n| format!("${n}")).collect();
    let sql = format!(
        "insert into avtryck.{table} (key, {names}) \
         select * from unnest({}) as new (key, {names}) order by key on conflict do nothing",
        parameters.join(", ")
    );
    let typed: Vec<(&(dyn ToSql + Sync), Type)> = columns
        .iter()
        .map(|(values, kind)| (&**values as &(dyn ToSql + Sync), kind.clone()))
        .collect();
    transaction.execute_typed(&sql, &typed).await
}

fn keys<T>(rows: &[(i64, T)]) -> Column {
    let keys: Vec<i64> = rows.iter().map(|(key, _)| *key).collect();
    (Box::new(keys), Type::INT8_ARRAY)
}

/// A column of texts; an empty one is NULL.
fn texts<T>(rows: &[(i64, T)], text: impl Fn(&T) -> &str) -> Column {
    let texts: Vec<Option<String>> = rows
        .iter()
        .map(|(_, row)| text(row))
        .map(|text| (!text.is_empty()).then(|| storable(text)))
        .collect();
    (Box::new(texts), Type::TEXT_ARRAY)
}

fn numbers<T>(rows: &[(i64, T)], number: impl Fn(&T) -> Option<f64>) -> Column {
    let numbers: Vec<Option<f64>> = rows.iter().map(|(_, row)| number(row)).collect();
    (Box::new(numbers), Type::FLOAT8_ARRAY)
}

fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

async fn insert_places(transaction: &Transaction<'_>, rows: &[(i64, Place)]) -> Result<u64, Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    let columns = [
        keys(rows),
        texts(rows, |place| &place.country),
        texts(rows, |place| &place.region),
        texts(rows, |place| &place.city),
        texts(rows, |place| &place.postal_code),
        numbers(rows, |place| place.latitude),
        numbers(rows, |place| place.longitude),
        texts(rows, |place| &place.time_zone),
    ];
    let names = "country, region, city, postal_code, latitude, longitude, time_zone";
    insert_columns(transaction, "place", names, &columns).await
}

async fn insert_networks(
    transaction: &Transaction<'_>,
    rows: &[(i64, Network)],
) -> Result<u64, Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    let asns: Vec<Option<i64>> = rows
        .iter()
        .map(|(_, network)| network.asn.map(i64::from))
        .collect();
    let columns = [
        keys(rows),
        (Box::new(asns) as Box<_>, Type::INT8_ARRAY),
        texts(rows, |network| &network.name),
    ];
    insert_columns(transaction, "network", "asn, name", &columns).await
}

async fn insert_devices(
    transaction: &Transaction<'_>,
    rows: &[(i64, Device)],
) -> Result<u64, Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    let bots: Vec<bool> = rows.iter().map(|(_, device)| device.is_bot).collect();
    let columns = [
        keys(rows),
        texts(rows, |device| device.class.name()),
        texts(rows, |device| &device.brand),
        texts(rows, |device| &device.model),
        texts(rows, |device| &device.os),
        texts(rows, |device| &device.os_version),
        texts(rows, |device| &device.browser),
        texts(rows, |device| &device.browser_version),
        (Box::new(bots) as Box<_>, Type::BOOL_ARRAY),
    ];
    let names = "class, brand, model, os, os_version, browser, browser_version, is_bot";
    insert_columns(transaction, "device", names, &columns).await
}

async fn insert_ads(transaction: &Transaction<'_>, rows: &[(i64, Ad)]) -> Result<u64, Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    let columns = [
        keys(rows),
        texts(rows, |ad| &ad.partner),
        texts(rows, |ad| &ad.campaign),
        texts(rows, |ad| &ad.creative),
        texts(rows, |ad| &ad.placement),
        texts(rows, |ad| &ad.publisher),
    ];
    let names = "partner, campaign, creative, placement, publisher";
    insert_columns(transaction, "ad", names, &columns).await
}

async fn insert_sites(transaction: &Transaction<'_>, rows: &[(i64, Site)]) -> Result<u64, Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    let sites: Vec<String> = rows.iter().map(|(_, row)| storable(&row.site)).collect();
    let columns = [
        keys(rows),
        (Box::new(sites) as Box<_>, Type::TEXT_ARRAY),
        texts(rows, |site| &site.category),
    ];
    insert_columns(transaction, "site", "site, category", &columns).await
}
