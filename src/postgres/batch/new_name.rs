//! How many names a batch may bring for the first time.
//!
//! Ads, categories, devices and domains of pages are named by senders, and a row of a dimension
//! stays for as long as hits do. So a site may get that many new rows of each in a day (ads and
//! domains: a site and partner), and a hit that brings one more points to the row of what is
//! "other" instead, with a flag. A name that is known already costs nothing.
//!
//! | step | where |
//! | --- | --- |
//! | the encoder notes each name that it does not know to be stored ([`NewNames::add`]) | first stage |
//! | [`limit`] finds which are new, and replaces what goes beyond the day's limit | beside the commit of the batch before |
//! | [`keep`] counts those that are left | in the batch's transaction |
//!
//! The count is in Postgres, so a restart does not begin it anew, and all loaders share it. Two
//! that work at the same moment may each let pass what is left of a limit, once.

use std::collections::{HashMap, HashSet};

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Transaction};

use super::load::Load;
use crate::hit::Flags;
use crate::row::dimension::DimensionRows;

/// A table, as its place among those of the dimensions, and the key of a row of it.
pub(crate) type TableKey = (usize, i64);

/// A table and whose names are counted together.
type Scope = (usize, String);

/// The names of a batch that may be new.
#[derive(Debug, Default)]
pub struct NewNames {
    names: Vec<NewName>,
    /// The rows of what is other.
    others: HashMap<TableKey, DimensionRows>,
    /// How many names are let pass.
    passed: HashMap<Scope, i64>,
}

#[derive(Debug)]
struct NewName {
    scope: Scope,
    key: i64,
    other_key: i64,
}

impl NewNames {
    /// Removes every name.
    pub(crate) fn clear(&mut self) {
        self.names.clear();
        self.others.clear();
        self.passed.clear();
    }

    /// Adds a name of a scope. `other` is the row that stands for it beyond the limit, and its key.
    pub fn add(&mut self, (table, key): TableKey, scope: String, other: (i64, DimensionRows)) {
        let (other_key, row) = other;
        if key == other_key {
            return;
        }
        self.others.entry((table, other_key)).or_insert(row);
        self.names.push(NewName {
            scope: (table, scope),
            key,
            other_key,
        });
    }
}

/// What is let pass on a day, in the whole and by one loader.
#[derive(Debug, Default)]
pub struct PassedToday {
    day: i32,
    /// For each scope as many as this loader knows of, those of a batch that is not committed yet
    /// included.
    passed: HashMap<Scope, i64>,
}

/// The names of each scope that a day may bring.
#[derive(Clone, Copy, Debug)]
pub struct NameLimit {
    /// Ads, categories and domains; `None` for no limit.
    pub names: Option<i64>,
    /// Devices, which agents and hints name.
    pub devices: Option<i64>,
    /// The table of devices.
    pub device_table: usize,
}

impl NameLimit {
    fn of(&self, table: usize) -> Option<i64> {
        match table == self.device_table {
            true => self.devices,
            false => self.names,
        }
    }
}

/// Replaces the names of a batch that are new and beyond the limit of the day, and returns them:
/// they are not stored.
///
/// # Errors
/// Where Postgres fails.
pub async fn limit(
    client: &Client,
    load: &mut Load,
    limit: &NameLimit,
    today: &mut PassedToday,
) -> Result<Vec<TableKey>, Error> {
    let tables = load.dimensions.tables();
    let Load { names, .. } = load;
    names.names.retain(|name| limit.of(name.scope.0).is_some());
    if names.names.is_empty() {
        return Ok(Vec::new());
    }
    let known = read_known(client, tables, &names.names).await?;
    let mut done = known;
    names
        .names
        .retain(|name| done.insert((name.scope.0, name.key)));
    read_passed(client, tables, &names.names, today).await?;
    let mut replaced: HashMap<TableKey, i64> = HashMap::new();
    for name in names.names.drain(..) {
        let (table, _) = name.scope;
        let passed = today.passed.entry(name.scope.clone()).or_default();
        if limit.of(table).is_none_or(|limit| *passed < limit) {
            *passed += 1;
            *names.passed.entry(name.scope).or_default() += 1;
        } else {
            replaced.insert((table, name.key), name.other_key);
        }
    }
    if !replaced.is_empty() {
        replace(load, &replaced);
    }
    Ok(replaced.into_keys().collect())
}

/// Returns the keys of names that are in their tables.
async fn read_known(
    client: &Client,
    tables: &[&str],
    names: &[NewName],
) -> Result<HashSet<TableKey>, Error> {
    let mut known = HashSet::new();
    for (place, table) in tables.iter().enumerate() {
        let of_table = names.iter().filter(|name| name.scope.0 == place);
        let keys: Vec<i64> = of_table.map(|name| name.key).collect();
        if keys.is_empty() {
            continue;
        }
        let sql = format!("select key from avtryck.{table} where key = any($1)");
        let rows = client
            .query_typed(&sql, &[(&keys, Type::INT8_ARRAY)])
            .await?;
        for row in rows {
            known.insert((place, row.try_get(0)?));
        }
    }
    Ok(known)
}

/// Reads how many names of these scopes have come today.
async fn read_passed(
    client: &Client,
    tables: &[&str],
    names: &[NewName],
    today: &mut PassedToday,
) -> Result<(), Error> {
    let scopes: HashSet<&Scope> = names.iter().map(|name| &name.scope).collect();
    let scopes: Vec<&Scope> = scopes.into_iter().collect();
    let dimensions: Vec<&str> = scopes
        .iter()
        .filter_map(|(table, _)| tables.get(*table).copied())
        .collect();
    let names: Vec<&str> = scopes.iter().map(|(_, scope)| scope.as_str()).collect();
    let rows = client
        .query_typed(
            "select today - date '1970-01-01', dimension, scope, coalesce(rows, 0) \
             from unnest($1, $2) as asked (dimension, scope) \
             cross join (select (now() at time zone 'UTC')::date) as now (today) \
             left join lateral ( \
                 select rows from avtryck.new_name \
                 where day = today and new_name.dimension = asked.dimension and new_name.scope = asked.scope \
             ) as known on true",
            &[(&dimensions, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)],
        )
        .await?;
    for row in rows {
        let day: i32 = row.try_get(0)?;
        if day != today.day {
            *today = PassedToday {
                day,
                ..PassedToday::default()
            };
        }
        let dimension: &str = row.try_get(1)?;
        let Some(table) = tables.iter().position(|table| *table == dimension) else {
            continue;
        };
        let passed = today.passed.entry((table, row.try_get(2)?)).or_default();
        *passed = row.try_get::<_, i64>(3)?.max(*passed);
    }
    Ok(())
}

/// Points everything in a batch that points to a replaced row to what is other.
fn replace(load: &mut Load, replaced: &HashMap<TableKey, i64>) {
    for (table, other_key) in replaced.iter().map(|((table, _), other)| (*table, *other)) {
        let other = load.names.others.remove(&(table, other_key));
        let rows = load.dimensions.of(table);
        if let (Some(rows), Some(other)) = (rows, other)
            && !rows.keys().contains(&other_key)
        {
            rows.append(other);
        }
    }
    for table in 0..load.dimensions.tables().len() {
        if let Some(rows) = load.dimensions.of(table) {
            rows.retain(|key| !replaced.contains_key(&(table, key)));
        }
    }
    load.replace_keys(replaced, Flags::OTHER_AD);
}

/// Counts the names that a batch brings.
pub(crate) async fn keep(
    transaction: &Transaction<'_>,
    tables: &[&str],
    names: &NewNames,
) -> Result<(), Error> {
    if names.passed.is_empty() {
        return Ok(());
    }
    let mut passed: Vec<(&Scope, &i64)> = names.passed.iter().collect();
    passed.sort_unstable();
    let dimensions: Vec<&str> = passed
        .iter()
        .filter_map(|((table, _), _)| tables.get(*table).copied())
        .collect();
    let scopes: Vec<&str> = passed
        .iter()
        .map(|((_, scope), _)| scope.as_str())
        .collect();
    let rows: Vec<i64> = passed.iter().map(|(_, rows)| **rows).collect();
    transaction
        .execute_typed(
            "insert into avtryck.new_name (day, dimension, scope, rows) \
             select (now() at time zone 'UTC')::date, dimension, scope, rows \
             from unnest($1, $2, $3) as new (dimension, scope, rows) \
             on conflict (day, dimension, scope) do update set rows = new_name.rows + excluded.rows",
            &[
                (&dimensions, Type::TEXT_ARRAY),
                (&scopes, Type::TEXT_ARRAY),
                (&rows, Type::INT8_ARRAY),
            ],
        )
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::server::embedded::testing::TestDatabase;

    #[tokio::test]
    async fn a_new_day_begins_anew_though_the_day_before_is_kept() {
        let database = TestDatabase::migrated().await;
        let sql = "insert into avtryck.new_name \
            select (now() at time zone 'UTC')::date - 1, 'ad', 'demo', 10000 \
            returning day - date '1970-01-01'";
        let yesterday: i32 = database.client.query_one(sql, &[]).await.unwrap().get(0);
        let scope = (0, "demo".to_owned());
        let mut today = PassedToday {
            day: yesterday,
            passed: HashMap::from([(scope.clone(), 10_000)]),
        };
        let name = NewName {
            scope: scope.clone(),
            key: 1,
            other_key: 2,
        };
        read_passed(&database.client, &["ad"], &[name], &mut today)
            .await
            .unwrap();
        assert_eq!(today.day, yesterday + 1);
        assert_eq!(today.passed.get(&scope), Some(&0));
    }
}
