//! The nightly work on households.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::identity::household::{EPOCH_DAYS, Membership, PairScore, cluster, renumber};
use crate::postgres::identity;

/// Rows of `sighting_part` in one transaction, which others wait for.
const PARTS: i32 = 64;

/// What a night found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Night {
    /// Pairs of devices.
    pub pairs: u64,
    /// Devices in households.
    pub members: u64,
}

/// Works through the night of a UTC day since 1970, once; `None` where that is done. After an
/// error it goes on where it was: each of its steps is a transaction and may be done again.
///
/// # Errors
/// Where Postgres fails.
pub async fn night(client: &mut Client, day: i32) -> anyhow::Result<Option<Night>> {
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
    let fold = "select avtryck.fold_sightings($1)";
    while client
        .query_one(fold, &[&PARTS])
        .await?
        .try_get::<_, i64>(0)?
        > 0
    {}
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

async fn find_members(client: &mut Client, day: i32, passed: i32) -> anyhow::Result<u64> {
    let transaction = client.transaction().await?;
    identity::lock(&transaction).await?;
    let is_gone = "in (select key from avtryck.household_gone)";
    let sql = format!(
        "delete from avtryck.household_pair \
         where avtryck.household_gone_key(a) {is_gone} or avtryck.household_gone_key(b) {is_gone}"
    );
    transaction.execute(&sql, &[]).await?;
    let sql = "select a, b, score, days, addresses from avtryck.household_scores($1)";
    let scores = transaction.query(sql, &[&passed]).await?;
    let sql = "select coalesce(known.device, member.node), household, proposed, score, \
                      since - date '1970-01-01', supported_on - date '1970-01-01', days, addresses \
               from avtryck.household_member as member \
               left join avtryck.household_device as known using (node)";
    let members = transaction.query(sql, &[]).await?;
    let mut devices = Devices::default();
    for row in &scores {
        devices
            .nodes
            .extend([row.try_get::<_, Uuid>(0)?, row.try_get(1)?]);
    }
    for row in &members {
        devices.nodes.push(row.try_get(0)?);
    }
    devices.nodes.sort_unstable();
    devices.nodes.dedup();
    let mut pairs = Vec::with_capacity(scores.len());
    let mut evidence: HashMap<(i64, i64), Evidence> = HashMap::new();
    for row in &scores {
        let (a, b) = (
            devices.number(row.try_get(0)?),
            devices.number(row.try_get(1)?),
        );
        let score = row.try_get(2)?;
        pairs.push(PairScore { a, b, score });
        let (days, addresses) = (row.try_get(3)?, row.try_get(4)?);
        evidence.insert((a, b), Evidence { days, addresses });
    }
    let mut before: BTreeMap<i64, (Membership, Evidence)> = BTreeMap::new();
    for row in &members {
        let device = devices.number(row.try_get(0)?);
        let member = Membership {
            device,
            household: row.try_get(1)?,
            proposed: row.try_get(2)?,
            score: row.try_get(3)?,
            since: row.try_get(4)?,
            supported_on: row.try_get(5)?,
        };
        let days = row.try_get::<_, i32>(6)?.into();
        let addresses = row.try_get::<_, i32>(7)?.into();
        let is_stronger = before
            .get(&device)
            .is_none_or(|(known, _)| known.score < member.score);
        if is_stronger {
            before.insert(device, (member, Evidence { days, addresses }));
        }
    }
    let clusters = cluster(&pairs);
    let mut score_of: HashMap<i64, f64> = HashMap::new();
    let mut best: HashMap<i64, Evidence> = HashMap::new();
    let at: HashMap<i64, usize> = clusters
        .iter()
        .enumerate()
        .flat_map(|(at, cluster)| cluster.iter().map(move |device| (*device, at)))
        .collect();
    for PairScore { a, b, score } in &pairs {
        if at.get(a).is_none_or(|cluster| at.get(b) != Some(cluster)) {
            continue;
        }
        let found = evidence.get(&(*a, *b)).copied().unwrap_or_default();
        for device in [a, b] {
            *score_of.entry(*device).or_default() += score;
            let best = best.entry(*device).or_default();
            if found.days > best.days {
                *best = found;
            }
        }
    }
    let known: Vec<Membership> = before.values().map(|(member, _)| *member).collect();
    let first: i64 = transaction
        .query_one(
            "select coalesce(max(greatest(household, proposed)), 0) from avtryck.household_member",
            &[],
        )
        .await?
        .try_get(0)?;
    let sequence: i64 = transaction
        .query_one("select nextval('avtryck.household_number')", &[])
        .await?
        .try_get(0)?;
    let mut next = first.max(sequence);
    let after = renumber(&clusters, &score_of, &known, day, || {
        next += 1;
        next
    });
    transaction
        .execute(
            "select setval('avtryck.household_number', $1)",
            &[&next.max(1)],
        )
        .await?;
    let evidence_of = |device: &i64| {
        let found = best.get(device).copied();
        found
            .or_else(|| before.get(device).map(|(_, evidence)| *evidence))
            .unwrap_or_default()
    };
    transaction
        .execute("delete from avtryck.household_member", &[])
        .await?;
    let count = |number: i64| i32::try_from(number).unwrap_or(i32::MAX);
    let kept: Vec<(Uuid, &Membership)> = after
        .iter()
        .filter_map(|member| Some((devices.node(member.device)?, member)))
        .collect();
    let nodes: Vec<Uuid> = kept.iter().map(|(node, _)| *node).collect();
    let column = |of: fn(&Membership) -> Option<i64>| {
        kept.iter()
            .map(|(_, member)| of(member))
            .collect::<Vec<_>>()
    };
    let (households, proposed) = (
        column(|member| member.household),
        column(|member| member.proposed),
    );
    let scores: Vec<f64> = kept.iter().map(|(_, member)| member.score).collect();
    let days: Vec<i32> = kept
        .iter()
        .map(|(_, member)| count(evidence_of(&member.device).days))
        .collect();
    let addresses: Vec<i32> = kept
        .iter()
        .map(|(_, member)| count(evidence_of(&member.device).addresses))
        .collect();
    let since: Vec<i32> = kept.iter().map(|(_, member)| member.since).collect();
    let supported: Vec<i32> = kept.iter().map(|(_, member)| member.supported_on).collect();
    let stored = transaction
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
        .await?;
    let end = [
        "select avtryck.dissolve_households()",
        "delete from avtryck.household_gone",
    ];
    for sql in end {
        transaction.execute(sql, &[]).await?;
    }
    let sql = "update avtryck.household_night set night = date '1970-01-01' + $1::integer";
    transaction.execute(sql, &[&day]).await?;
    transaction.commit().await?;
    Ok(stored)
}
