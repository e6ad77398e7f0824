//! Citus: rows on several servers behind one.
//!
//! One layout works. `hit` is distributed by `hit_id`, so a batch is spread over all servers; the
//! tables of dimensions, which each row of it points to, are reference tables, which every server
//! has whole; everything else stays on the coordinator. Any other layout is refused: where a
//! dimension is local, reports give wrong figures and no error.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use tokio_postgres::Client;

/// Shards of `hit` on each day. Each is a table with its own indexes, on 90 days or more, so they
/// are few.
const SHARDS: u8 = 6;

/// How a table lies.
#[derive(Clone, Debug, PartialEq, Eq)]
enum TableLayout {
    /// On the coordinator alone.
    Local,
    /// Whole on each server.
    Reference,
    /// In shards, by a column.
    Distributed(String),
}

/// Returns whether Postgres is a coordinator of Citus.
async fn has_citus(client: &Client) -> anyhow::Result<bool> {
    let sql = "select to_regclass('pg_catalog.pg_dist_partition') is not null";
    Ok(client.query_one(sql, &[]).await?.try_get(0)?)
}

/// Returns how `hit`, its dimensions and the other tables of the schema lie that Citus knows.
async fn read(client: &Client) -> anyhow::Result<BTreeMap<String, TableLayout>> {
    let rows = client.query(include_str!("distribute.sql"), &[]).await?;
    let mut found = BTreeMap::new();
    for row in &rows {
        let column: Option<String> = row.try_get(1)?;
        let layout = match (column, row.try_get(2)?) {
            (Some(column), _) => TableLayout::Distributed(column),
            (None, true) => TableLayout::Reference,
            (None, false) => TableLayout::Local,
        };
        found.insert(row.try_get(0)?, layout);
    }
    Ok(found)
}

/// Checks that tables lie on one server alone, or as they must on several.
///
/// # Errors
/// The table that lies otherwise.
pub(super) async fn check(client: &Client) -> anyhow::Result<()> {
    if !has_citus(client).await? {
        return Ok(());
    }
    check_found(&read(client).await?)
}

fn check_found(found: &BTreeMap<String, TableLayout>) -> anyhow::Result<()> {
    const RIGHT: &str = "`avtryck migrate --distribute` makes it right";
    let hit = found.get("hit");
    let is_distributed = matches!(hit, Some(TableLayout::Distributed(_)));
    for (table, layout) in found {
        match layout {
            TableLayout::Distributed(column) if table == "hit" => ensure!(
                column == "hit_id",
                "the table avtryck.hit is distributed by {column}, and must be by hit_id"
            ),
            TableLayout::Distributed(_) => bail!(
                "the table avtryck.{table} is distributed, and only avtryck.hit may be: \
                 select undistribute_table('avtryck.{table}')"
            ),
            TableLayout::Reference if !is_distributed => bail!(
                "the table avtryck.{table} is a reference table, and avtryck.hit is not distributed; \
                 {RIGHT}"
            ),
            TableLayout::Local if is_distributed => bail!(
                "the table avtryck.{table} is local, and avtryck.hit is distributed: reports would be \
                 wrong without an error; {RIGHT}"
            ),
            TableLayout::Reference | TableLayout::Local => {}
        }
    }
    Ok(())
}

/// Distributes the tables of a schema that is up to date. What is done already is left, so it can
/// be repeated after an error.
///
/// # Errors
/// Where Postgres has no Citus, or fails.
pub async fn distribute(client: &Client) -> anyhow::Result<()> {
    ensure!(
        has_citus(client).await?,
        "this Postgres has no Citus, or it is not the coordinator: create extension citus"
    );
    let settings = format!(
        "set citus.shard_count = {SHARDS}; set citus.multi_shard_modify_mode = 'sequential'"
    );
    client.batch_execute(&settings).await?;
    // For every other connection: a batch writes to reference tables and to shards in turn.
    let lasting = "do $$ begin execute format( \
         'alter role %I in database %I set citus.multi_shard_modify_mode = ''sequential''', \
         current_user, current_database()); end $$";
    client.batch_execute(lasting).await?;
    let found = read(client).await?;
    let (hit, dimensions): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|(table, _)| table == "hit");
    // The dimensions first: rows that point to nothing would be wrong.
    for (table, layout) in dimensions.into_iter().chain(hit) {
        if layout != TableLayout::Local {
            continue;
        }
        let name = format!("avtryck.{table}");
        let make = match table.as_str() {
            "hit" => "select create_distributed_table($1::text::regclass, 'hit_id')",
            _ => "select create_reference_table($1::text::regclass)",
        };
        client
            .execute(make, &[&name])
            .await
            .with_context(|| format!("distributing {name}"))?;
        // Its rows were copied, and those that they were copied of stay behind.
        let forget = "select truncate_local_data_after_distributing_table($1::text::regclass)";
        client
            .execute(forget, &[&name])
            .await
            .with_context(|| format!("removing what is left here of {name}"))?;
        tracing::info!(table = name, "distributed");
    }
    check_found(&read(client).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::DIMENSIONS;
    use crate::postgres::server::embedded::testing::TestDatabase;

    /// What of Citus's catalog and functions is used, on a Postgres without it: they only note what
    /// they are asked for.
    const STAND_IN: &str = "set allow_system_table_mods = on; \
         create table pg_catalog.pg_dist_partition \
             (logicalrelid regclass, partmethod \"char\", partkey text, repmodel \"char\"); \
         create table public.called (at serial, what text); \
         create function pg_catalog.column_to_column_name(regclass, text) returns text \
             language sql as 'select $2'; \
         create function pg_catalog.create_distributed_table(regclass, text) returns void language sql as \
             'insert into pg_catalog.pg_dist_partition values ($1, ''h'', $2, ''s''); \
              insert into public.called (what) values (''distribute '' || $1)'; \
         create function pg_catalog.create_reference_table(regclass) returns void language sql as \
             'insert into pg_catalog.pg_dist_partition values ($1, ''n'', null, ''t''); \
              insert into public.called (what) values (''copy '' || $1)'; \
         create function pg_catalog.truncate_local_data_after_distributing_table(regclass) returns void \
             language sql as 'insert into public.called (what) values (''truncate '' || $1)'; \
         set allow_system_table_mods = off";

    fn layout(tables: &[(&str, TableLayout)]) -> BTreeMap<String, TableLayout> {
        let named = tables.iter();
        named
            .map(|(table, layout)| ((*table).to_owned(), layout.clone()))
            .collect()
    }

    #[test]
    fn one_layout_is_taken_and_each_other_is_named() {
        use TableLayout::{Distributed, Local, Reference};
        let by = |column: &str| Distributed(column.to_owned());
        for (tables, error) in [
            (vec![("hit", Local), ("site", Local)], ""),
            (vec![("hit", by("hit_id")), ("site", Reference)], ""),
            (
                vec![("hit", by("site_key")), ("site", Reference)],
                "by site_key",
            ),
            (
                vec![("hit", by("hit_id")), ("ad", Local), ("site", Reference)],
                "avtryck.ad is local",
            ),
            (
                vec![("hit", Local), ("site", Reference)],
                "hit is not distributed",
            ),
            (
                vec![("exposure", by("subject")), ("hit", by("hit_id"))],
                "avtryck.exposure is distributed",
            ),
        ] {
            let said = check_found(&layout(&tables)).map_err(|error| error.to_string());
            match (error, said) {
                ("", Ok(())) => {}
                (why, Err(said)) if !why.is_empty() && said.contains(why) => {}
                (_, said) => panic!("{tables:?}: {said:?}"),
            }
        }
    }

    #[tokio::test]
    async fn what_distributes_is_sql_that_postgres_takes_and_is_done_once() {
        let database = TestDatabase::migrated().await;
        let client = &database.client;
        check(client).await.expect("a Postgres without Citus");
        let error = distribute(client).await.expect_err("no Citus").to_string();
        assert!(error.contains("create extension citus"), "{error}");
        client.batch_execute(STAND_IN).await.expect("a stand-in");
        check(client).await.expect("everything is local");
        for _ in 0..2 {
            distribute(client).await.expect("distributed");
        }
        let called = client.query("select what from public.called order by at", &[]);
        let called = called.await.expect("what was called");
        let called: Vec<String> = called.iter().map(|row| row.get(0)).collect();
        let mut expected = Vec::new();
        let mut tables = DIMENSIONS;
        tables.sort_unstable();
        for table in tables {
            expected.push(format!("copy avtryck.{table}"));
            expected.push(format!("truncate avtryck.{table}"));
        }
        expected.push("distribute avtryck.hit".to_owned());
        expected.push("truncate avtryck.hit".to_owned());
        assert_eq!(called, expected);
        // A new connection has what it needs.
        let other = database.connect().await;
        let mode = other.query_one("show citus.multi_shard_modify_mode", &[]);
        let mode: String = mode.await.expect("a setting").get(0);
        assert_eq!(mode, "sequential");
        let local = "set allow_system_table_mods = on; \
             delete from pg_catalog.pg_dist_partition where logicalrelid = 'avtryck.ad'::regclass";
        client.batch_execute(local).await.expect("a local table");
        let error = check(client).await.expect_err("a mixture").to_string();
        assert!(error.contains("avtryck.ad is local"), "{error}");
    }

    /// What is asked of clicks, in an order of its own.
    async fn known_clicks(client: &Client) -> Vec<String> {
        let sql = "select known::text from avtryck.known_clicks(array( \
                       select 'click-' || number from generate_series(0, 60) as number)) as known order by 1";
        let rows = client.query(sql, &[]).await.expect("known clicks");
        rows.iter().map(|row| row.get(0)).collect()
    }

    #[tokio::test]
    async fn what_a_batch_asks_of_clicks_has_one_answer_with_citus_and_without() {
        let database = TestDatabase::migrated().await;
        let client = &database.client;
        // Flag 8 is a prefetch, 64 a third party, and 2^24 a click of somebody else.
        let sql = "select setseed(0.5); \
             select avtryck.make_hit_day(current_date - day) from generate_series(0, 40) as day; \
             insert into avtryck.hit (received_at, site_key, flags, kind, permit, consent_source, hit_id, visitor_id, \
                                      click_id, event_name) \
             select now() - random() * interval '40 days', 1, (array[0, 0, 64, 8, 16777216])[1 + number % 5], \
                    2 * (1 + number % 2), 3, 1, gen_random_uuid(), \
                    case when random() < 0.8 then gen_random_uuid() end, 'click-' || (random() * 50)::integer, \
                    case when number % 3 > 0 then 'conversion' end \
             from generate_series(1, 500) as number";
        client.batch_execute(sql).await.expect("hits");
        let found = known_clicks(client).await;
        let followed = found.iter().filter(|row| !row.ends_with(",)")).count();
        assert!(found.len() > 30 && found.len() < 60, "{found:?}");
        assert!(followed > 10 && followed < found.len(), "{found:?}");
        client.batch_execute(STAND_IN).await.expect("a stand-in");
        assert_eq!(known_clicks(client).await, found);
    }

    #[tokio::test]
    async fn no_function_has_a_subquery_that_citus_refuses() {
        let database = TestDatabase::migrated().await;
        let sql = "select proc.oid::regprocedure::text from pg_proc as proc \
             where proc.pronamespace = 'avtryck'::regnamespace and proc.prokind in ('f', 'p') \
               and pg_get_functiondef(proc.oid) ~* 'exists\\s*\\(\\s*select\\s+from\\s'";
        let found = database.client.query(sql, &[]).await.expect("functions");
        let found: Vec<String> = found.iter().map(|row| row.get(0)).collect();
        assert!(
            found.is_empty(),
            "{found:?}: `exists (select 1 from` is right"
        );
    }
}
