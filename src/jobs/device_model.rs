//! Looks up what the models of new devices are called.
//!
//! A list that has changed is another list: then every device is looked up again, so many in a run.
//! Collectors of one database should have the same list, or each replaces what the other stored.
//! A collector without one stores nothing.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_postgres::Client;

use crate::enrich::{MakerAndName, ModelNames, Tables};
use crate::metrics::Metrics;
use crate::postgres::device_model::{
    self, DeviceAliasRow, DeviceModelRow, UnnamedDevice, read_unnamed, store_names,
};

/// The devices of one transaction: the loader waits no longer for their rows than one takes.
const DEVICES_AT_ONCE: usize = 500;
/// The transactions of one run.
const TRANSACTIONS_MAX: usize = 20;

/// Where the names are from, and where what was found is counted.
#[derive(Clone)]
pub struct Naming {
    /// The tables in force.
    pub tables: Arc<ArcSwap<Tables>>,
    /// The metrics of the collector.
    pub metrics: Arc<Metrics>,
}

impl fmt::Debug for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Naming").finish_non_exhaustive()
    }
}

/// Returns how many devices were looked up.
pub(super) async fn run(client: &mut Client, naming: Option<Naming>) -> anyhow::Result<u64> {
    let Some(naming) = naming else { return Ok(0) };
    let Some(names) = naming.tables.load().models().cloned() else {
        return Ok(0);
    };
    let mut looked_up = 0;
    for _ in 0..TRANSACTIONS_MAX {
        let found = name_some(client, &names, &naming.metrics).await?;
        looked_up += found as u64;
        if found < DEVICES_AT_ONCE {
            break;
        }
    }
    Ok(looked_up)
}

/// Deletes the names that no device has any more. Returns how many rows went.
pub(super) async fn remove_unused(client: &mut Client) -> anyhow::Result<u64> {
    Ok(device_model::remove_unused(client).await?)
}

async fn name_some(
    client: &mut Client,
    names: &ModelNames,
    metrics: &Metrics,
) -> anyhow::Result<usize> {
    let transaction = client.transaction().await?;
    let devices = read_unnamed(&transaction, names.digest(), DEVICES_AT_ONCE as i64).await?;
    if devices.is_empty() {
        return Ok(0);
    }
    let (models, unnamed) = look_up(names, &devices);
    let aliases = aliases(names, &models);
    store_names(&transaction, names.digest(), &devices, &models, &aliases).await?;
    transaction.commit().await?;
    let named = devices.len() - unnamed;
    metrics.devices_named.increment(named as u64);
    metrics.devices_unnamed.increment(unnamed as u64);
    Ok(devices.len())
}

/// Returns the rows of these devices' models, and how many devices have a model without a name.
fn look_up(names: &ModelNames, devices: &[UnnamedDevice]) -> (Vec<DeviceModelRow>, usize) {
    let mut pairs: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for device in devices {
        *pairs.entry((&device.brand, &device.model)).or_default() += 1;
    }
    let mut models = Vec::new();
    let mut unnamed = 0;
    for ((brand, model), count) in pairs {
        let before = models.len();
        let found = names.names(brand, model).into_iter();
        models.extend(found.map(|found| DeviceModelRow {
            brand: brand.to_owned(),
            model: model.to_owned(),
            maker: found.maker.to_owned(),
            name: found.name,
            family: found.family,
            released: found.released,
            source: found.source.to_owned(),
            source_version: found.source_version.to_owned(),
        }));
        if models.len() == before {
            unnamed += count;
        }
    }
    (models, unnamed)
}

/// Returns every other name of the models.
fn aliases(names: &ModelNames, models: &[DeviceModelRow]) -> Vec<DeviceAliasRow> {
    let model = |row: &DeviceModelRow| (row.maker.clone(), row.name.clone());
    let wanted: HashSet<MakerAndName> = models.iter().map(model).collect();
    let mut rows = Vec::new();
    for ((maker, name), aliases) in names.aliases(&wanted) {
        rows.extend(aliases.into_iter().map(|(alias, kind)| DeviceAliasRow {
            maker: maker.clone(),
            name: name.clone(),
            alias,
            kind: kind.name(),
        }));
    }
    rows
}
