//! Which key makes `hit.user_key`: all collectors of a database must make the same hash of a user,
//! or one person would be two.

use tokio_postgres::{Error, GenericClient};
use uuid::Uuid;

/// Claims that a process's first key makes `user_key`; its keys are given by their fingerprints.
/// Returns whether it may: whether it is the last one that the database knows. It becomes that
/// where the database knows none, and where the last one is among the others, because then somebody
/// has replaced the key on purpose. One that was replaced never comes back.
///
/// # Errors
/// Where Postgres fails.
pub async fn claim(client: &impl GenericClient, fingerprints: &[[u8; 16]]) -> Result<bool, Error> {
    let Some((first, others)) = fingerprints.split_first() else {
        return Ok(false);
    };
    let first = Uuid::from_bytes(*first);
    let others: Vec<Uuid> = others.iter().copied().map(Uuid::from_bytes).collect();
    // Of several that come at once one counts; what they are is read afterwards.
    client
        .execute(
            "with last as (select fingerprint, number from avtryck.user_key_maker order by number desc limit 1) \
             insert into avtryck.user_key_maker (fingerprint, since, number) \
             select $1, now(), coalesce((select number from last), 0) + 1 \
             where not exists (select from last where fingerprint <> all($2)) \
             on conflict do nothing",
            &[&first, &others],
        )
        .await?;
    let sql = "select fingerprint = $1 from avtryck.user_key_maker order by number desc limit 1";
    let row = client.query_one(sql, &[&first]).await?;
    row.try_get(0)
}

/// What a command says that [`knows`] refuses.
pub const OTHER_KEY: &str = "user.keys: the database has hashes of another key, so nobody would be \
                             found; the keys of the collectors would be right";

/// Returns whether a process with these keys, given by their fingerprints, finds the users whose
/// hashes are made now: the last key that the database knows is among them, or it knows none and
/// has no hash. Only reads: the database knows no other key afterwards.
///
/// # Errors
/// Where Postgres fails.
pub async fn knows(client: &impl GenericClient, fingerprints: &[[u8; 16]]) -> Result<bool, Error> {
    let keys: Vec<Uuid> = fingerprints.iter().copied().map(Uuid::from_bytes).collect();
    let sql =
        "select fingerprint = any($1) from avtryck.user_key_maker order by number desc limit 1";
    let row = client.query_opt(sql, &[&keys]).await?;
    row.map_or(Ok(true), |row| row.try_get(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::postgres::server::embedded::testing::TestDatabase;

    #[tokio::test]
    async fn a_key_is_replaced_by_one_that_knows_it_and_never_comes_back() {
        let database = TestDatabase::migrated().await;
        for (keys, may) in [
            (&[][..], false),
            (&[1][..], true),
            (&[1], true),
            // Another process has another key.
            (&[2], false),
            (&[2, 3], false),
            (&[1, 2], true),
            // It was replaced after a leak.
            (&[2, 1], true),
            (&[1], false),
            (&[1, 2], false),
            (&[2], true),
            (&[3, 1], false),
            (&[3, 1, 2], true),
        ] {
            let fingerprints: Vec<[u8; 16]> = keys.iter().map(|key| [*key; 16]).collect();
            let claimed = claim(&database.client, &fingerprints).await.unwrap();
            assert_eq!(claimed, may, "{keys:?}");
        }
    }

    #[tokio::test]
    async fn a_question_whether_a_key_is_known_makes_none_that_of_the_database() {
        let database = TestDatabase::migrated().await;
        let client = &database.client;
        let [one, two, three] = [1, 2, 3].map(|key| [key; 16]);
        for keys in [&[][..], &[one], &[two]] {
            assert!(knows(client, keys).await.unwrap(), "nobody has a hash");
        }
        assert!(claim(client, &[one]).await.unwrap());
        for (keys, expected) in [
            (&[][..], false),
            (&[two], false),
            (&[one], true),
            // Whoever has a newer key finds what the former one has made.
            (&[two, one], true),
            (&[two, three], false),
        ] {
            assert_eq!(knows(client, keys).await.unwrap(), expected, "{keys:?}");
        }
        let sql = "select count(*) from avtryck.user_key_maker";
        let makers: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!(makers, 1);
    }
}
