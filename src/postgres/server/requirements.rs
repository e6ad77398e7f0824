//! What a collector needs of the operator's Postgres, looked at whenever it connects, so that the
//! log says what is missing and how to provide it.

use std::sync::Once;

use anyhow::ensure;
use tokio_postgres::{Client, Error};

/// Connections over which the files are read that visitors download.
pub(crate) const FILE_CONNECTIONS: u8 = 2;

/// Connections that a loader has: one for its batches, one that adds up what they leave.
const LOADER_CONNECTIONS: u8 = 2;

/// Connections that a collector has besides: those of visitors' files, and one each for
/// instructions, jobs, households, evaluating segments, reading them, the visitor's own page, a
/// report and looking at a backend that is silent.
const OTHER_CONNECTIONS: usize = 8 + FILE_CONNECTIONS as usize;

/// Connections of `avtryck load`: those of a loader, and one each for instructions, the list of
/// suppression, jobs, households, evaluating segments, a report and looking at a backend that is
/// silent.
pub(crate) const LOAD_CONNECTIONS: i32 = 7 + LOADER_CONNECTIONS as i32;

/// Returns how many connections a collector has open at one time whose hits so many loaders load.
#[must_use]
pub(crate) fn needed_connections(loaders: usize) -> i32 {
    let needed = usize::from(LOADER_CONNECTIONS).saturating_mul(loaders.max(1));
    i32::try_from(needed.saturating_add(OTHER_CONNECTIONS)).unwrap_or(i32::MAX)
}

/// The oldest version that works: 14.
const VERSION_MIN: i32 = 140_000;

/// What the server, the database and the role are like.
#[derive(Debug)]
struct Found {
    version: i32,
    encoding: String,
    is_standby: bool,
    is_read_only: bool,
    database: String,
    role: String,
    /// Whether the schema exists.
    has_schema: bool,
    may_make_schema: bool,
    may_make_tables: bool,
    owns_tables: bool,
    /// Limits of the role, the database and the server; -1 for none.
    limits: [i32; 3],
    /// Settings that end a collector's work or weaken its commits, which its connections override.
    overridden: Vec<String>,
    /// Settings without which a server loses what it committed.
    unsafe_settings: Vec<String>,
    /// Whether a standby may lack what was committed last.
    has_late_standby: bool,
}

/// Checks what a collector needs that may have `connections` open at once.
///
/// # Errors
/// What is missing, and how to provide it.
pub(crate) async fn check(client: &Client, connections: i32) -> anyhow::Result<()> {
    let found = Found::read(client).await?;
    check_found(&found)?;
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        for warning in warn(&found, connections) {
            tracing::error!("{warning}");
        }
        if found.has_late_standby {
            tracing::warn!(
                "the standbys of this Postgres replicate asynchronously: one that is promoted lacks \
                 the last commits. spool.keep must be longer than it may be late, so that they are \
                 loaded again, or synchronous_standby_names must name one"
            );
        }
    });
    Ok(())
}

impl Found {
    async fn read(client: &Client) -> Result<Found, Error> {
        let row = client
            .query_one(include_str!("requirements.sql"), &[])
            .await?;
        Ok(Found {
            version: row.try_get(0)?,
            encoding: row.try_get(1)?,
            is_standby: row.try_get(2)?,
            is_read_only: row.try_get(3)?,
            database: row.try_get(4)?,
            role: row.try_get(5)?,
            has_schema: row.try_get(6)?,
            may_make_schema: row.try_get(7)?,
            may_make_tables: row.try_get(8)?,
            owns_tables: row.try_get(9)?,
            limits: [row.try_get(10)?, row.try_get(11)?, row.try_get(12)?],
            overridden: row.try_get(13)?,
            unsafe_settings: row.try_get(14)?,
            has_late_standby: row.try_get(15)?,
        })
    }
}

fn check_found(found: &Found) -> anyhow::Result<()> {
    let Found { database, role, .. } = found;
    ensure!(
        found.version >= VERSION_MIN,
        "Postgres {} is too old; 14 or newer is needed",
        found.version / 10_000
    );
    ensure!(
        !found.is_standby,
        "this Postgres is a standby, which can only be read; database.url must lead to the primary \
         (with several hosts, add target_session_attrs=read-write)"
    );
    ensure!(
        found.encoding == "UTF8",
        "the database {database} has the encoding {}, and hits hold any text; it must be UTF8: \
         create database {database} encoding 'UTF8' template template0",
        found.encoding
    );
    ensure!(
        !found.is_read_only,
        "transactions of {role} in {database} are read-only: \
         alter role {role} in database {database} set default_transaction_read_only = off"
    );
    if !found.has_schema {
        ensure!(
            found.may_make_schema,
            "the role {role} may not make the schema avtryck: \
             grant create on database {database} to {role}"
        );
        return Ok(());
    }
    ensure!(
        found.may_make_tables,
        "the role {role} may not make tables in the schema avtryck, and each day is one: \
         grant usage, create on schema avtryck to {role}"
    );
    ensure!(
        found.owns_tables,
        "the table avtryck.hit belongs to another role than {role}, and only its owner adds days to \
         it: grant that role to {role}"
    );
    Ok(())
}

/// Names what a collector can work with and should not have to.
fn warn(found: &Found, connections: i32) -> Vec<String> {
    let mut warnings = Vec::from_iter(warn_of_limit(found, connections));
    let Found { database, role, .. } = found;
    for setting in &found.overridden {
        warnings.push(format!(
            "{setting} would end the work of {role} in {database} or lose what it committed; the \
             collector's own connections override it, and nothing else does"
        ));
    }
    for setting in &found.unsafe_settings {
        warnings.push(format!(
            "Postgres runs with {setting} = off: a crash of its machine can lose hits that the spool \
             no longer has"
        ));
    }
    warnings
}

fn warn_of_limit(found: &Found, needed: i32) -> Option<String> {
    let Found { database, role, .. } = found;
    let places = [
        format!("the role {role}"),
        format!("the database {database}"),
        "the server (max_connections)".to_owned(),
    ];
    let limits = found.limits.iter().zip(places);
    let mut tight = limits.filter(|(limit, _)| (0..needed).contains(*limit));
    let (limit, place) = tight.next()?;
    Some(format!(
        "{place} allows {limit} connections to Postgres, and this collector needs {needed}: some of \
         its work will wait or never be done"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::server::embedded::testing::TestDatabase;

    #[test]
    fn the_docs_say_how_many_connections_are_needed() {
        let kafka = include_str!("../../../docs/kafka.md");
        let said = format!("A process of `avtryck load` needs {LOAD_CONNECTIONS} connections");
        assert!(kafka.contains(&said), "{said}");
    }

    fn sound() -> Found {
        Found {
            version: 150_000,
            encoding: "UTF8".to_owned(),
            is_standby: false,
            is_read_only: false,
            database: "d".to_owned(),
            role: "r".to_owned(),
            has_schema: true,
            may_make_schema: false,
            may_make_tables: true,
            owns_tables: true,
            limits: [-1, -1, 97],
            overridden: Vec::new(),
            unsafe_settings: Vec::new(),
            has_late_standby: false,
        }
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        assert!(check_found(&sound()).is_ok());
        type Break = fn(&mut Found);
        let cases: [(Break, &str); 7] = [
            (|found| found.version = 130_013, "14 or newer"),
            (|found| found.is_standby = true, "primary"),
            (
                |found| found.encoding = "SQL_ASCII".to_owned(),
                "encoding 'UTF8'",
            ),
            (|found| found.is_read_only = true, "read-only"),
            (
                |found| found.has_schema = false,
                "grant create on database d to r",
            ),
            (
                |found| found.may_make_tables = false,
                "create on schema avtryck to r",
            ),
            (|found| found.owns_tables = false, "grant that role to r"),
        ];
        for (break_it, word) in cases {
            let mut found = sound();
            break_it(&mut found);
            let error = check_found(&found).expect_err(word).to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_limit_of_connections_below_what_is_needed_is_named() {
        let limited = |limits| warn_of_limit(&Found { limits, ..sound() }, 12);
        assert_eq!(limited([-1, -1, 97]), None);
        assert_eq!(limited([12, -1, 12]), None);
        for (limits, word) in [
            ([11, -1, 97], "this collector needs 12: "),
            ([2, -1, 97], "the role r allows 2 "),
            ([-1, 5, 97], "the database d allows 5 "),
            ([-1, -1, 3], "the server (max_connections) allows 3 "),
        ] {
            let warning = limited(limits).expect("a warning");
            assert!(warning.contains(word), "{warning}");
        }
        // As docs/deployment.md says: two for each loader, and ten.
        for (loaders, needed) in [(0, 12), (1, 12), (2, 14), (64, 138)] {
            assert_eq!(needed_connections(loaders), needed, "{loaders}");
        }
    }

    #[tokio::test]
    async fn what_a_role_says_against_the_promise_is_named_and_overridden() {
        let database = TestDatabase::migrated().await;
        let name = database.config.get_dbname().unwrap_or_default();
        let mut wanted = vec![
            ("idle_session_timeout", "5s", "5000", "0"),
            ("lock_timeout", "2s", "2000", "0"),
            ("statement_timeout", "3s", "3000", "0"),
            ("synchronous_commit", "local", "local", "on"),
        ];
        let found = Found::read(&database.client).await.expect("an answer");
        // Postgres 17 brought it.
        if found.version >= 170_000 {
            wanted.push(("transaction_timeout", "4s", "4000", "0"));
        }
        for (setting, value, _, _) in &wanted {
            let sql = format!("alter database {name} set {setting} = '{value}'");
            let altered = database.client.batch_execute(&sql).await;
            altered.expect("a setting");
        }
        let client = database.connect().await;
        let found = Found::read(&client).await.expect("an answer");
        let warnings = warn(&found, 12).join("\n");
        for (setting, _, shown, used) in &wanted {
            assert!(
                warnings.contains(&format!("{setting} = {shown} ")),
                "{warnings}"
            );
            let row = client.query_one(&format!("show {setting}"), &[]).await;
            assert_eq!(
                &row.expect("a setting").get::<_, String>(0),
                used,
                "{setting}"
            );
        }
        // The server that tests share is not durable.
        assert!(warnings.contains("fsync = off"), "{warnings}");
        assert!(warn(&sound(), 12).is_empty());
    }

    #[tokio::test]
    async fn each_lack_of_a_real_server_is_found() {
        let database = TestDatabase::migrated().await;
        let client = &database.client;
        check(client, 12).await.expect("a sound database");
        let name = database.config.get_dbname().unwrap_or_default().to_owned();
        let role = format!("role_of_{name}");
        let sql = format!("create role {role}; set role {role}");
        client.batch_execute(&sql).await.expect("a role");
        let expect = async |word: &str| {
            let error = check(client, 12).await.expect_err(word).to_string();
            assert!(error.contains(word), "{error}");
        };
        expect("may not make tables").await;
        let grant =
            format!("reset role; grant usage, create on schema avtryck to {role}; set role {role}");
        client.batch_execute(&grant).await.expect("a grant");
        expect("belongs to another role").await;
        let sql = "reset role; set default_transaction_read_only = on";
        client.batch_execute(sql).await.expect("a setting");
        expect("read-only").await;

        let empty = TestDatabase::empty().await;
        let sql = format!("set role {role}");
        empty.client.batch_execute(&sql).await.expect("a role");
        let error = check(&empty.client, 12).await.expect_err("no schema");
        assert!(
            error.to_string().contains("may not make the schema"),
            "{error}"
        );
    }
}
