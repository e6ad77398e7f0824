//! Connects to a server, with the settings that every connection relies on.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use tokio_postgres::{Client, Config};

use super::clear_text;
use super::requirements::CONNECTIONS;
use super::silence::{Pulse, SILENCE_MAX};

/// What every connection relies on, whatever the server, the database or the role say otherwise. A
/// name without a schema means what Postgres itself has under it, before anything else is read: a
/// function of the same name in another schema, which may be anybody's, would run as this role
/// wherever it fits the types better. A chunk of the spool is deleted after a commit, so a commit
/// is durable. The locks of a batch are taken statement by statement. And a session that is cut off
/// in a transaction does not hold its locks for hours. Plans are not compiled: to read 40 days of a
/// partitioned table looks dear enough for it, and compiling took 1.3 s where reading took 0.08.
const SESSION: &str = "set search_path = pg_catalog, pg_temp; \
     select set_config('synchronous_commit', 'on', false) \
     where current_setting('synchronous_commit') = 'off'; \
     set default_transaction_isolation = 'read committed'; \
     set idle_in_transaction_session_timeout = '150s'; \
     set jit = off";

/// Connects, and drives the connection on a task of the current runtime until the client is
/// dropped.
///
/// # Errors
/// Where Postgres cannot be reached, refuses or does not answer.
pub async fn connect(config: &Config) -> anyhow::Result<Client> {
    let (client, _) = connect_watched(config).await?;
    Ok(client)
}

/// Connects in the same way, and returns when something moves on the connection.
pub(super) async fn connect_watched(config: &Config) -> anyhow::Result<(Client, Pulse)> {
    connect_within(SILENCE_MAX, config).await
}

async fn connect_within(time_max: Duration, config: &Config) -> anyhow::Result<(Client, Pulse)> {
    tokio::time::timeout(time_max, establish(config))
        .await
        .with_context(|| {
            format!(
                "no answer within {} s; does a pool in front of Postgres have fewer connections \
                 free than the {CONNECTIONS} that a collector needs?",
                time_max.as_secs_f64()
            )
        })?
}

async fn establish(config: &Config) -> anyhow::Result<(Client, Pulse)> {
    let mut config = config.clone();
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE_MAX);
    }
    // The default of two hours is the operating system's.
    if config.get_keepalives_idle() > SILENCE_MAX {
        config.keepalives_idle(SILENCE_MAX);
    }
    let (client, connection) = clear_text::connect(&config).await?;
    let pulse = Pulse::new();
    let beating = pulse.clone();
    tokio::spawn(async move {
        let mut connection = pin!(connection);
        // The socket or a request wakes this task, and nothing else does.
        let driven = poll_fn(|context| {
            beating.beat();
            connection.as_mut().poll(context)
        });
        // The caller that waits for an answer gets this error too, and handles it.
        if let Err(error) = driven.await {
            tracing::debug!(%error, "the connection to Postgres ended");
        }
    });
    client.batch_execute(SESSION).await?;
    Ok((client, pulse))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::server::embedded::testing::TestDatabase;

    #[tokio::test]
    async fn a_pool_without_a_free_connection_is_named_as_what_it_may_be() {
        // A pool takes the connection and keeps the client waiting.
        let pool = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let pool = pool.expect("a listener");
        let mut config = Config::new();
        config.user("me").host("127.0.0.1");
        config.port(pool.local_addr().expect("an address").port());
        let connected = connect_within(Duration::from_millis(100), &config).await;
        let Err(error) = connected else {
            panic!("nobody answers");
        };
        let error = format!("{error:#}");
        let hint = "no answer within 0.1 s; does a pool in front of Postgres have fewer connections free than the 8 ";
        assert!(error.starts_with(hint), "{error}");
    }

    #[tokio::test]
    async fn each_connection_looks_names_up_in_postgres_alone_whatever_its_url_says() {
        let database = TestDatabase::empty().await;
        let mut config = database.config.clone();
        config.options("-c search_path=public,pg_catalog");
        let client = connect(&config).await.expect("a connection");
        let row = client.query_one("show search_path", &[]).await;
        let path: String = row.expect("a setting").get(0);
        assert_eq!(path, "pg_catalog, pg_temp");
    }
}
