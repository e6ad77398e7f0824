//! Connects to a server, with the settings that every connection relies on.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio_postgres::{Client, Config, SimpleQueryMessage};

use super::cluster::ClusterState;
use super::servers::{OneServer, Servers};
use super::silence::{Pulse, SILENCE_MAX};

/// What every connection relies on, whatever the server, the database or the role say otherwise. A
/// name without a schema means what Postgres itself has under it, before anything else is read: a
/// function of the same name in another schema, which may be anybody's, would run as this role
/// wherever it fits the types better. A chunk of the spool is deleted after a commit, so a commit
/// is durable: here, and on the standbys that the server waits for. The locks of a batch are taken
/// statement by statement. No limit ends a statement, transaction or session that is at work: who
/// waits for it has a limit that knows whether it advances. And a session that is cut off in a
/// transaction does not hold its locks for hours. Plans are not compiled, which Postgres would do
/// because it expects far more rows of many partitions than there are.
///
/// The first statement tells whether the session is another's, as that of a pool may be.
const SESSION: &str = "select current_setting('avtryck.session', true); \
     set avtryck.session = 'taken'; \
     set search_path = pg_catalog, pg_temp; \
     select set_config('synchronous_commit', 'on', false) \
     where current_setting('synchronous_commit') not in ('on', 'remote_apply'); \
     set default_transaction_isolation = 'read committed'; \
     select set_config(name, '0', false) from pg_settings \
     where name in ('statement_timeout', 'lock_timeout', 'transaction_timeout', 'idle_session_timeout') \
     and setting <> '0'; \
     set idle_in_transaction_session_timeout = '150s'; \
     set jit = off";

/// How much longer than for a bare connection a server may take until it can be used, if another
/// one could be tried instead. A machine that stands still takes connections and says nothing.
const ANSWER_FACTOR: u32 = 2;

/// How long a bare connection may take, where the URL does not say.
pub(super) const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// A connection that is ready.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) pulse: Pulse,
    /// The server at its other end.
    pub(super) server: OneServer,
}

/// Connects, and drives the connection on a task of the current runtime until the client is
/// dropped.
///
/// # Errors
/// Where Postgres cannot be reached, refuses or does not answer.
pub async fn connect(config: &Config) -> anyhow::Result<Client> {
    let connected = connect_watched(&Servers::from(config.clone())).await?;
    Ok(connected.client)
}

/// Connects in the same way to one of several servers, and returns when something moves on the
/// connection.
pub(super) async fn connect_watched(servers: &Servers) -> anyhow::Result<Connected> {
    connect_within(SILENCE_MAX, servers).await
}

async fn connect_within(time_max: Duration, servers: &Servers) -> anyhow::Result<Connected> {
    let resolved = tokio::time::timeout(time_max, servers.resolve());
    let resolved = resolved
        .await
        .context("the names of database.url are not resolved")??;
    ensure!(!resolved.is_empty(), "its name has no address");
    let is_alone = resolved.len() == 1;
    let mut errors = Vec::new();
    for server in resolved {
        let limit = server.config.get_connect_timeout();
        let limit = match is_alone {
            true => time_max,
            false => time_max.min(ANSWER_FACTOR * *limit.unwrap_or(&CONNECT_TIME_MAX)),
        };
        let name = server.name.clone();
        let error = match tokio::time::timeout(limit, establish(servers, server)).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => error,
            Err(_) => anyhow::anyhow!(
                "no answer within {} s; does a pool in front of Postgres have fewer connections \
                 free than the {} that this collector needs?",
                limit.as_secs_f64(),
                servers.connections
            ),
        };
        if is_alone {
            return Err(error);
        }
        errors.push(format!("{name}: {error:#}"));
    }
    Err(anyhow::anyhow!(
        "no server can be used: {}",
        errors.join("; ")
    ))
}

async fn establish(servers: &Servers, server: OneServer) -> anyhow::Result<Connected> {
    let (client, pulse) = open(&server).await?;
    if let Some(state) = ClusterState::read(&client).await? {
        servers.memory.accept(state)?;
    }
    servers.note(&server);
    Ok(Connected {
        client,
        pulse,
        server,
    })
}

/// Opens a connection to one server.
pub(super) async fn open(server: &OneServer) -> anyhow::Result<(Client, Pulse)> {
    let mut config = server.config.clone();
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIME_MAX);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE_MAX);
    }
    // The default of two hours is the operating system's.
    if config.get_keepalives_idle() > SILENCE_MAX {
        config.keepalives_idle(SILENCE_MAX);
    }
    let (client, connection) = config.connect(server.wrap.clone()).await?;
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
    let answers = client.simple_query(SESSION).await?;
    let before = answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default()),
        _ => None,
    });
    ensure!(
        before.is_none_or(str::is_empty),
        "a pool in front of Postgres handed out a session that another connection has set up: it \
         must be in session mode, with server_reset_query = DISCARD ALL"
    );
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
        let connected = connect_within(Duration::from_millis(100), &Servers::from(config)).await;
        let Err(error) = connected else {
            panic!("nobody answers");
        };
        let error = format!("{error:#}");
        let hint = "no answer within 0.1 s; does a pool in front of Postgres have fewer connections free than the 12 ";
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
