//! Connects to a server, with the settings that every connection relies on.

use std::future::poll_fn;
use std::pin::pin;

use anyhow::Context as _;
use tokio_postgres::{Client, Config, NoTls};

use super::requirements::CONNECTIONS;
use super::silence::{Pulse, SILENCE_MAX};

/// What every connection relies on, whatever the server, the database or the role say otherwise. A
/// chunk of the spool is deleted after a commit, so a commit is durable. The locks of a batch are
/// taken statement by statement. And a session that is cut off in a transaction does not hold its
/// locks for hours.
const SESSION: &str = "select set_config('synchronous_commit', 'on', false) \
     where current_setting('synchronous_commit') = 'off'; \
     set default_transaction_isolation = 'read committed'; \
     set idle_in_transaction_session_timeout = '150s'";

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
    tokio::time::timeout(SILENCE_MAX, establish(config))
        .await
        .with_context(|| {
            format!(
                "no answer within {} s; does a pool in front of Postgres have fewer connections \
                 free than the {CONNECTIONS} that a collector needs?",
                SILENCE_MAX.as_secs()
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
    let (client, connection) = config.connect(NoTls).await?;
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
