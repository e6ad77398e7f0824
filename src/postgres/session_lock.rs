//! Locks of a name, which a session holds until it ends, so that one process at a time works at
//! what has that name.

use std::time::Duration;

use tokio_postgres::{Client, Error};

/// How often a lock is tried that another session has, and the pause in between.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_millis(100);

/// Takes a lock of a kind for this session. Returns whether it was free, or became free in time:
/// Postgres needs a moment to notice that the process before has ended.
///
/// # Errors
/// Where Postgres fails.
pub(super) async fn lock(client: &Client, kind: i32, name: &str) -> Result<bool, Error> {
    let sql = "select pg_try_advisory_lock($1, hashtext($2))";
    for left in (0..TRIES).rev() {
        if client.query_one(sql, &[&kind, &name]).await?.try_get(0)? {
            return Ok(true);
        }
        if left > 0 {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(false)
}
