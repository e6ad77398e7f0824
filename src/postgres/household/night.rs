//! The nightly work on households.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row, Transaction};
use uuid::Uuid;

use crate::identity::household::{EPOCH_DAYS, Membership, PairScore, cluster, renumber};
use crate::postgres::identity;

/// The advisory lock: "househld" in ASCII.
const LOCK: i64 = 0x686f_7573_6568_6c64;

/// Rows of `sighting_part` in one transaction, which others wait for.
const PARTS: i32 = 64;

/// Rows of `household_member` that one statement writes. To encode all at once would hold up the
/// thread.
const MEMBERS: usize = 20_000;

/// What a night found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Night {
    /// Pairs of devices.
    pub pairs: u64,
    /// Devices in households.
    pub members: u64,
}

/// Works through the night of a UTC day since 1970, once; `None` where that is done, or where
/// another collector is at it. After an error it goes on where it was: each of its steps is a
/// transaction and may be done again.
///
/// # Errors
/// Where Postgres fails.
pub async fn night(client: &mut Client, day: i32) -> anyhow::Result<Option<Night>> {
    let sql = "select pg_try_advisory_lock($1)";
    if !client.query_one(sql, &[&LOCK]).await?.try_get(0)? {
        return Ok(None);
    }
    let night = work_through(client, day).await;
    // Where the connection is lost, the lock is gone.
    client
        .execute("select pg_advisory_unlock($1)", &[&LOCK])
        .await?;
    night
}

async fn work_through(client: &mut Client, day: i32) -> anyhow::Result<Option<Night>> {
    let epoch = day.div_euclid(i32::from(EPOCH_DAYS));
    let known = "insert into avtryck.household_night (night, folded_epoch) values ('-infinity', $1) \
                 on conflict do nothing";
    client.execute(known, &[&epoch.saturating_sub(2)]).await?;
    let sql = "select folded_epoch, night >= date '1970-01-01' + $1::integer from avtryck.household_night";
    let row = client.query_one(sql, &[&day]).await?;
    let (folded, is_done): (i32, bool) = (row.try_get(0)?, row.try_get(1)?);
    if is_done {
        return Ok(None);
    }
    fold(client).await?;
    let sql = "select distinct epoch from avtryck.sighting where epoch < $1 order by epoch";
    for row in client.query(sql, &[&epoch]).await? {
        end_epoch(client, row.try_get(0)?, folded).await?;
    }
    let passed = day - epoch * i32::from(EPOCH_DAYS) + 1;
    let row = client
        .query_one(
            "select avtryck.find_household_pairs($1, $2, false)",
            &[&epoch, &passed],
        )
        .await?;
    let pairs = row.try_get::<_, i64>(0)?.cast_unsigned();
    let members = find_members(client, day, passed).await?;
    Ok(Some(Night { pairs, members }))
}

/// Adds the sightings that batches stored to those of before, some batches at a time: others wait
/// for each of these steps.
///
/// # Errors
/// Where Postgres fails.
pub async fn fold(client: &Client) -> anyhow::Result<()> {
    let sql = "select avtryck.fold_sightings($1)";
    while client
        .query_one(sql, &[&PARTS])
        .await?
        .try_get::<_, i64>(0)?
        > 0
    {}
    Ok(())
}

/// Returns whether there is a sighting.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn has_sightings(client: &Client) -> anyhow::Result<bool> {
    let sql = "select exists (select from avtryck.sighting) or exists (select from avtryck.sighting_part)";
    Ok(client.query_one(sql, &[]).await?.try_get(0)?)
}

/// Deletes what is known of households, once no site has them and no sighting is left: no further
/// night would let it fade. What visitors said stays.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn clear(client: &mut Client) -> anyhow::Result<()> {
    let transaction = client.transaction().await?;
    identity::lock(&transaction).await?;
    for table in [
        "household_pair",
        "household_member",
        "household_shown",
        "household_gone",
        "address_kind",
    ] {
        let sql = format!("delete from avtryck.{table}");
        transaction.execute(&sql, &[]).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Adds the pairs of an epoch up, and drops all that was known of its addresses.
async fn end_epoch(client: &mut Client, epoch: i32, folded: i32) -> anyhow::Result<()> {
    let transaction = client.transaction().await?;
    if epoch > folded {
        let last = i32::from(EPOCH_DAYS);
        let sql = "select avtryck.find_household_pairs($1, $2, true)";
        transaction.execute(sql, &[&epoch, &last]).await?;
        let sql = "update avtryck.household_night set folded_epoch = $1";
        transaction.execute(sql, &[&epoch]).await?;
    }
    for table in ["sighting", "address_kind"] {
        let sql = format!("delete from avtryck.{table} where epoch = $1");
        transaction.execute(&sql, &[&epoch]).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// What speaks for a device, of the pairs that it is in.
#[derive(Clone, Copy, Default)]
struct Evidence {
    days: i64,
    addresses: i64,
}

/// Devices as numbers in the order of their IDs, because that is what the pure functions take.
#[derive(Default)]
struct Devices {
    nodes: Vec<Uuid>,
}

impl Devices {
    fn number(&self, node: Uuid) -> i64 {
        let at = self.nodes.binary_search(&node).unwrap_or(usize::MAX);
        i64::try_from(at).unwrap_or(-1)
    }

    fn node(&self, number: i64) -> Option<Uuid> {
        self.nodes.get(usize::try_from(number).ok()?).copied()
    }
}

/// A device's membership, and what it rests on.
type FoundMember = (Uuid, Membership, Evidence);

/// What a night begins with, as Postgres returned it.
struct KnownRows {
    scores: Vec<Row>,
    members: Vec<Row>,
}

/// What a night begins with.
#[derive(Default)]
struct Known {
    devices: Devices,
    pairs: Vec<PairScore>,
    /// What each of the pairs rests on.
    evidence: HashMap<(i64, i64), Evidence>,
    /// The memberships of the night before.
    members: BTreeMap<i64, (Membership, Evidence)>,
}

async fn find_members(client: &mut Client, day: i32, passed: i32) -> anyhow::Result<u64> {
    let transaction = client.transaction().await?;
    identity::lock(&transaction).await?;
    let sql = "select avtryck.leave_refused_households()";
    transaction.execute(sql, &[]).await?;
    let is_gone = "in (select key from avtryck.household_gone)";
    let sql = format!(
        "delete from avtryck.household_pair \
         where avtryck.household_gone_key(a) {is_gone} or avtryck.household_gone_key(b) {is_gone}"
    );
    transaction.execute(&sql, &[]).await?;
    let rows = query_known(&transaction, passed).await?;
    let last = last_number(&transaction).await?;
    // With a million pairs it takes seconds, in which this thread could load no hit.
    let join = move || join_devices(&rows, day, last);
    let (members, last) = tokio::task::spawn_blocking(join).await??;
    let sql = "select setval('avtryck.household_number', $1)";
    transaction.execute(sql, &[&last.max(1)]).await?;
    let stored = replace_members(&transaction, &members).await?;
    for sql in [
        "select avtryck.keep_households_apart()",
        "select avtryck.dissolve_households()",
        "delete from avtryck.household_gone",
    ] {
        transaction.execute(sql, &[]).await?;
    }
    for sql in [
        "select avtryck.show_households(date '1970-01-01' + $1::integer)",
        "update avtryck.household_night set night = date '1970-01-01' + $1::integer",
    ] {
        transaction.execute(sql, &[&day]).await?;
    }
    transaction.commit().await?;
    Ok(stored)
}

/// Joins devices to households, of which the last that there was has that number. Returns all
/// memberships, and the number of the last household that there is then.
fn join_devices(
    rows: &KnownRows,
    day: i32,
    mut last: i64,
) -> Result<(Vec<FoundMember>, i64), Error> {
    let known = read_known(rows)?;
    let clusters = cluster(&known.pairs);
    let (scores, evidence) = support(&known, &clusters);
    let before: Vec<Membership> = known.members.values().map(|(member, _)| *member).collect();
    let after = renumber(&clusters, &scores, &before, day, || {
        last += 1;
        last
    });
    let after = after.into_iter().filter_map(|member| {
        let found = evidence.get(&member.device);
        let before = known.members.get(&member.device).map(|(_, before)| before);
        let evidence = found.or(before).copied().unwrap_or_default();
        Some((known.devices.node(member.device)?, member, evidence))
    });
    Ok((after.collect(), last))
}

async fn query_known(transaction: &Transaction<'_>, passed: i32) -> Result<KnownRows, Error> {
    let sql = "select a, b, score, days, addresses from avtryck.household_scores($1)";
    let scores = transaction.query(sql, &[&passed]).await?;
    let sql = "select coalesce(known.device, member.node), household, proposed, score, \
                      since - date '1970-01-01', supported_on - date '1970-01-01', \
                      days::bigint, addresses::bigint \
               from avtryck.household_member as member \
               left join avtryck.household_device as known using (node)";
    let members = transaction.query(sql, &[]).await?;
    Ok(KnownRows { scores, members })
}

fn read_known(KnownRows { scores, members }: &KnownRows) -> Result<Known, Error> {
    let mut known = Known::default();
    let nodes = &mut known.devices.nodes;
    for row in scores {
        nodes.extend([row.try_get::<_, Uuid>(0)?, row.try_get(1)?]);
    }
    for row in members {
        nodes.push(row.try_get(0)?);
    }
    nodes.sort_unstable();
    nodes.dedup();
    for row in scores {
        let a = known.devices.number(row.try_get(0)?);
        let b = known.devices.number(row.try_get(1)?);
        let score = row.try_get(2)?;
        known.pairs.push(PairScore { a, b, score });
        let (days, addresses) = (row.try_get(3)?, row.try_get(4)?);
        known.evidence.insert((a, b), Evidence { days, addresses });
    }
    for row in members {
        let device = known.devices.number(row.try_get(0)?);
        let member = Membership {
            device,
            household: row.try_get(1)?,
            proposed: row.try_get(2)?,
            score: row.try_get(3)?,
            since: row.try_get(4)?,
            supported_on: row.try_get(5)?,
        };
        let (days, addresses) = (row.try_get(6)?, row.try_get(7)?);
        // Two devices may have become one.
        let other = known.members.get(&device);
        if other.is_none_or(|(other, _)| other.score < member.score) {
            let evidence = Evidence { days, addresses };
            known.members.insert(device, (member, evidence));
        }
    }
    Ok(known)
}

/// Returns for each device in a cluster the sum of its scores with the others, and what the pair of
/// most days rests on.
fn support(known: &Known, clusters: &[Vec<i64>]) -> (HashMap<i64, f64>, HashMap<i64, Evidence>) {
    let places = clusters.iter().enumerate();
    let places = places.flat_map(|(at, cluster)| cluster.iter().map(move |device| (*device, at)));
    let places: HashMap<i64, usize> = places.collect();
    let mut scores: HashMap<i64, f64> = HashMap::new();
    let mut best: HashMap<i64, Evidence> = HashMap::new();
    for PairScore { a, b, score } in &known.pairs {
        let place = places.get(a);
        if place.is_none() || place != places.get(b) {
            continue;
        }
        let found = known.evidence.get(&(*a, *b)).copied().unwrap_or_default();
        for device in [a, b] {
            *scores.entry(*device).or_default() += score;
            let best = best.entry(*device).or_default();
            if found.days > best.days {
                *best = found;
            }
        }
    }
    (scores, best)
}

/// Returns the highest number that a household has had.
async fn last_number(transaction: &Transaction<'_>) -> anyhow::Result<i64> {
    let sql = "select greatest((select max(greatest(household, proposed)) from avtryck.household_member), \
                               (select last_value from avtryck.household_number))";
    Ok(transaction.query_one(sql, &[]).await?.try_get(0)?)
}

/// Replaces the memberships, and leaves out whoever left meanwhile. Returns how many there are.
async fn replace_members(
    transaction: &Transaction<'_>,
    members: &[FoundMember],
) -> Result<u64, Error> {
    let sql = "delete from avtryck.household_member";
    transaction.execute(sql, &[]).await?;
    let mut stored = 0;
    for members in members.chunks(MEMBERS) {
        stored += write_members(transaction, members).await?;
    }
    Ok(stored)
}

async fn write_members(
    transaction: &Transaction<'_>,
    members: &[FoundMember],
) -> Result<u64, Error> {
    let count = |number: i64| i32::try_from(number).unwrap_or(i32::MAX);
    let each = || members.iter();
    let nodes: Vec<Uuid> = each().map(|(node, ..)| *node).collect();
    let households: Vec<Option<i64>> = each().map(|(_, member, _)| member.household).collect();
    let proposed: Vec<Option<i64>> = each().map(|(_, member, _)| member.proposed).collect();
    let scores: Vec<f64> = each().map(|(_, member, _)| member.score).collect();
    let days: Vec<i32> = each().map(|(.., found)| count(found.days)).collect();
    let addresses: Vec<i32> = each().map(|(.., found)| count(found.addresses)).collect();
    let since: Vec<i32> = each().map(|(_, member, _)| member.since).collect();
    let supported: Vec<i32> = each().map(|(_, member, _)| member.supported_on).collect();
    transaction
        .execute_typed(
            "insert into avtryck.household_member \
             (node, household, proposed, score, days, addresses, since, supported_on) \
             select node, household, proposed, score, days, addresses, \
                    date '1970-01-01' + since, date '1970-01-01' + supported_on \
             from unnest($1, $2, $3, $4, $5, $6, $7, $8) as found \
                  (node, household, proposed, score, days, addresses, since, supported_on) \
             where avtryck.household_gone_key(node) not in (select key from avtryck.household_gone)",
            &[
                (&nodes, Type::UUID_ARRAY),
                (&households, Type::INT8_ARRAY),
                (&proposed, Type::INT8_ARRAY),
                (&scores, Type::FLOAT8_ARRAY),
                (&days, Type::INT4_ARRAY),
                (&addresses, Type::INT4_ARRAY),
                (&since, Type::INT4_ARRAY),
                (&supported, Type::INT4_ARRAY),
            ],
        )
        .await
}
