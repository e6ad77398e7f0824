//! Connects to a server, with the settings that every connection relies on.

use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls};

/// What every connection relies on, whatever the server, the database or the role say otherwise. A
/// chunk of the spool is deleted after a commit, so a commit is durable. The locks of a batch are
/// taken statement by statement. And a session that is cut off in a transaction does not hold its
/// locks for hours.
const SESSION: &str = "select set_config('synchronous_commit', 'on', false) \
     where current_setting('synchronous_commit') = 'off'; \
     set default_transaction_isolation = 'read committed'; \
     set idle_in_transaction_session_timeout = '150s'";
/// How long a connection may be silent before it counts as dead.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Connects, and drives the connection on a task of the current runtime until the client is
/// dropped.
///
/// # Errors
/// Where Postgres cannot be reached or refuses.
pub async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let mut config = config.clone();
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE_MAX);
    }
    // The default of two hours is the operating system's.
    if config.get_keepalives_idle() > SILENCE_MAX {
        config.keepalives_idle(SILENCE_MAX);
    }
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // The caller that waits for an answer gets this error too, and handles it.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to Postgres ended");
        }
    });
    client.batch_execute(SESSION).await?;
    Ok(client)
}
