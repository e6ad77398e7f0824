//! Brings device groups into step with ties: [`settle_some`] takes a portion of what is new or
//! lost.
//!
//! A portion is one transaction under the lock of ties, so that two collectors take turns and find
//! what the other did. What a portion needs is small: the groups of the IDs that it is about, and
//! the groups beside them; [`settle`] decides over that, and only what changed is written.
//!
//! | step | why |
//! | --- | --- |
//! | count the ties of IDs with a new one | an ID with too many becomes a hub, and leaves its group |
//! | groups over all ties, then over proved ties | reports use the one, visitors are shown the other |
//! | owners of the groups that changed | they follow from ties to users |

use std::collections::{HashMap, HashSet};

use tokio_postgres::{Client, Error, Transaction};
use uuid::Uuid;

use super::lock;
use crate::identity::group::{Bond, GroupMember, degree_max, settle};
use crate::identity::{Node, NodeKind};

/// The most new ties, and the most groups that lost one, of a portion.
const PORTION: i64 = 1_000;

/// A portion is a small part of its tables, but Postgres expects more of it and would read them
/// whole: 1,000 of 200,000 ties took 0.82 s so, and 0.13 s by index.
const BY_INDEX: &str = "set local enable_seqscan = off; set local enable_hashjoin = off; \
     set local enable_mergejoin = off; set local jit = off";

/// What a portion did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grouped {
    /// New ties that it took.
    pub ties: u64,
    /// Groups that had lost a tie.
    pub loose: u64,
    /// IDs that came to another group by a new tie.
    pub merged: u64,
    /// IDs that came to another group because a tie is gone.
    pub split: u64,
    /// New ties that join nothing, because a group would become too large.
    pub capped: u64,
    /// IDs that became hubs.
    pub hubs: u64,
}

impl Grouped {
    /// Returns whether there may be more to do.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ties + self.loose > 0
    }

    /// Adds what another portion did.
    pub fn add(&mut self, other: Grouped) {
        self.ties += other.ties;
        self.loose += other.loose;
        self.merged += other.merged;
        self.split += other.split;
        self.capped += other.capped;
        self.hubs += other.hubs;
    }
}

/// Takes a portion of the ties that are new, and of the groups that lost one.
///
/// # Errors
/// Where Postgres fails; nothing is changed then.
pub async fn settle_some(client: &mut Client) -> Result<Grouped, Error> {
    let transaction = client.transaction().await?;
    // Most of the time there is nothing to do, and then nobody waits.
    let sql = "select exists (select from avtryck.link_edge where is_new) \
               or exists (select from avtryck.link_regroup)";
    let has_any: bool = transaction.query_one(sql, &[]).await?.try_get(0)?;
    if !has_any {
        return Ok(Grouped::default());
    }
    let grouped = settle_within(&transaction).await?;
    transaction.commit().await?;
    Ok(grouped)
}

/// Does the same within a transaction, which may be rolled back.
///
/// # Errors
/// Where Postgres fails.
pub async fn settle_within(transaction: &Transaction<'_>) -> Result<Grouped, Error> {
    lock(transaction).await?;
    transaction.batch_execute(BY_INDEX).await?;
    let new = NewTies::take(transaction).await?;
    let mut loose = take_loose(transaction).await?;
    let mut grouped = Grouped {
        ties: new.a.len() as u64,
        loose: loose.len() as u64,
        ..Grouped::default()
    };
    let sql = include_str!("group/count_ties.sql");
    transaction.execute(sql, &[&new.a, &new.b]).await?;
    let hubs = find_hubs(transaction, &new).await?;
    grouped.hubs = hubs.len() as u64;
    let left = transaction
        .query(include_str!("group/leave_hubs.sql"), &[&hubs])
        .await?;
    for row in left {
        loose.insert(row.try_get(0)?);
    }
    let loose: Vec<i64> = loose.into_iter().filter(|number| *number != 0).collect();
    transaction
        .execute(include_str!("group/forget_lone.sql"), &[&loose])
        .await?;
    let mut changed = HashSet::new();
    for over in [Over::All, Over::Proved] {
        let slice = Slice::read(transaction, &new, &loose, over).await?;
        let settled = slice.settle(transaction, &new).await?;
        if over == Over::All {
            grouped.merged = settled.merged;
            grouped.split = settled.split;
            grouped.capped = settled.capped;
            changed = settled.groups;
        }
    }
    // A group that lost a tie may have lost an owner and no ID.
    let changed: Vec<i64> = changed.into_iter().chain(loose).collect();
    transaction
        .execute(include_str!("group/own.sql"), &[&changed, &new.a, &new.b])
        .await?;
    transaction
        .execute(include_str!("group/share.sql"), &[&changed, &new.a, &new.b])
        .await?;
    let sql = "update avtryck.link_edge as edge set is_new = false \
               from unnest($1::uuid[], $2::uuid[]) as new (a, b) where edge.a = new.a and edge.b = new.b";
    transaction.execute(sql, &[&new.a, &new.b]).await?;
    Ok(grouped)
}

/// Ties that are not yet grouped.
struct NewTies {
    a: Vec<Uuid>,
    b: Vec<Uuid>,
}

impl NewTies {
    async fn take(transaction: &Transaction<'_>) -> Result<NewTies, Error> {
        let sql = "select a, b from avtryck.link_edge where is_new order by a, b limit $1";
        let mut new = NewTies {
            a: Vec::new(),
            b: Vec::new(),
        };
        for row in transaction.query(sql, &[&PORTION]).await? {
            new.a.push(row.try_get(0)?);
            new.b.push(row.try_get(1)?);
        }
        Ok(new)
    }

    fn ends(&self) -> Vec<Uuid> {
        self.a.iter().chain(&self.b).copied().collect()
    }
}

async fn take_loose(transaction: &Transaction<'_>) -> Result<HashSet<i64>, Error> {
    let sql = "delete from avtryck.link_regroup where device_group in \
               (select device_group from avtryck.link_regroup order by device_group limit $1) \
               returning device_group";
    let rows = transaction.query(sql, &[&PORTION]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Returns the ends of new ties that have more ties than an ID of one device has.
async fn find_hubs(transaction: &Transaction<'_>, new: &NewTies) -> Result<Vec<Uuid>, Error> {
    let sql = "select node, kind, degree from avtryck.link_node \
               where node = any($1) and state = 0 and kind <> 5";
    let mut hubs = Vec::new();
    for row in transaction.query(sql, &[&new.ends()]).await? {
        let degree = usize::try_from(row.try_get::<_, i32>(2)?).unwrap_or(0);
        if degree > degree_max(kind(row.try_get(1)?)) {
            hubs.push(row.try_get(0)?);
        }
    }
    Ok(hubs)
}

fn kind(number: i16) -> NodeKind {
    let mut kinds = NodeKind::ALL.into_iter();
    kinds
        .find(|kind| *kind as i16 == number)
        .unwrap_or(NodeKind::User)
}

/// Which ties groups are made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    All,
    Proved,
}

/// The groups that a portion is about, and those beside them.
struct Slice {
    over: Over,
    members: Vec<GroupMember>,
    bonds: Vec<Bond>,
    forbidden: Vec<(usize, usize)>,
    loose: HashSet<i64>,
}

/// What was written of a slice.
#[derive(Default)]
struct Written {
    merged: u64,
    split: u64,
    capped: u64,
    /// The groups that changed.
    groups: HashSet<i64>,
}

impl Slice {
    async fn read(
        transaction: &Transaction<'_>,
        new: &NewTies,
        loose: &[i64],
        over: Over,
    ) -> Result<Slice, Error> {
        let [members_sql, bonds_sql] = match over {
            Over::All => [
                include_str!("group/members.sql"),
                include_str!("group/bonds.sql"),
            ]
            .map(str::to_owned),
            Over::Proved => [
                include_str!("group/members.sql"),
                include_str!("group/bonds.sql"),
            ]
            .map(|sql| {
                sql.replace("device_group", "proved_group")
                    .replace("/* proved */", "and edge.proved_day is not null")
            }),
        };
        let seeds = new.ends();
        let mut slice = Slice {
            over,
            members: Vec::new(),
            bonds: Vec::new(),
            forbidden: Vec::new(),
            loose: loose.iter().copied().collect(),
        };
        let mut place: HashMap<Uuid, usize> = HashMap::new();
        for row in transaction.query(&members_sql, &[&seeds, &loose]).await? {
            let node: Uuid = row.try_get(0)?;
            let group = Some(row.try_get::<_, i64>(4)?).filter(|group| *group != 0);
            place.insert(node, slice.members.len());
            slice.members.push(GroupMember {
                node: Node(node.into_bytes()),
                kind: kind(row.try_get(1)?),
                partner: row.try_get(2)?,
                first_day: row.try_get(3)?,
                group,
                is_loose: group.is_some_and(|group| slice.loose.contains(&group)),
            });
        }
        let both = |a: Uuid, b: Uuid| Some((*place.get(&a)?, *place.get(&b)?));
        for row in transaction.query(&bonds_sql, &[&seeds, &loose]).await? {
            if let Some((a, b)) = both(row.try_get(0)?, row.try_get(1)?) {
                slice.bonds.push(Bond {
                    a,
                    b,
                    first_day: row.try_get(2)?,
                    is_proved: row.try_get(3)?,
                });
            }
        }
        let nodes: Vec<Uuid> = place.keys().copied().collect();
        let sql = "select a, b from avtryck.link_forbidden where a = any($1) and b = any($1)";
        for row in transaction.query(sql, &[&nodes]).await? {
            slice
                .forbidden
                .extend(both(row.try_get(0)?, row.try_get(1)?));
        }
        Ok(slice)
    }

    async fn settle(&self, transaction: &Transaction<'_>, new: &NewTies) -> Result<Written, Error> {
        let settled = settle(&self.members, &self.bonds, &self.forbidden);
        let mut numbers = Numbers::reserve(transaction, settled.groups.len()).await?;
        let mut written = Written::default();
        let mut moves = Moves::default();
        let (mut kept, mut sizes, mut are_capped) = (Vec::new(), Vec::new(), Vec::new());
        for group in &settled.groups {
            // Alone over proved ties, an ID has no group.
            let is_none = self.over == Over::Proved && group.members.len() == 1;
            let number = match (is_none, group.number) {
                (true, _) => 0,
                (false, Some(number)) => number,
                (false, None) => numbers.next(),
            };
            if !is_none {
                kept.push(number);
                sizes.push(i16::try_from(group.members.len()).unwrap_or(i16::MAX));
                are_capped.push(group.is_capped);
            }
            for member in group.members.iter().filter_map(|at| self.members.get(*at)) {
                if member.group.unwrap_or(0) != number {
                    moves.add(member, number);
                }
            }
        }
        let former: HashSet<i64> = self
            .members
            .iter()
            .filter_map(|member| member.group)
            .chain(self.loose.iter().copied())
            .collect();
        let kept_set: HashSet<i64> = kept.iter().copied().collect();
        let ended: Vec<i64> = former.difference(&kept_set).copied().collect();
        moves.write(transaction, self.over).await?;
        if self.over == Over::Proved {
            return Ok(written);
        }
        transaction
            .execute(
                include_str!("group/groups.sql"),
                &[&kept, &sizes, &are_capped, &ended],
            )
            .await?;
        written.capped = self
            .note_capped(transaction, &settled.left_out, new)
            .await?;
        (written.merged, written.split) = (moves.merged, moves.split);
        written.groups = moves.groups;
        Ok(written)
    }

    /// Notes the new ties that were left out, and returns how many there were.
    async fn note_capped(
        &self,
        transaction: &Transaction<'_>,
        left_out: &[usize],
        new: &NewTies,
    ) -> Result<u64, Error> {
        let fresh: HashSet<(Uuid, Uuid)> =
            new.a.iter().copied().zip(new.b.iter().copied()).collect();
        let uuid = |at: usize| {
            let member = self.members.get(at);
            member.map_or(Uuid::nil(), |member| Uuid::from_bytes(member.node.0))
        };
        let ends = left_out.iter().filter_map(|at| self.bonds.get(*at));
        let ends = ends.map(|bond| (uuid(bond.a), uuid(bond.b)));
        let capped: Vec<Uuid> = ends
            .filter(|ends| fresh.contains(ends))
            .map(|(_, b)| b)
            .collect();
        let sql = "insert into avtryck.link_change (at, node, from_group, to_group, reason) \
                   select now(), node, device_group, device_group, 'cap' from avtryck.link_node where node = any($1)";
        transaction.execute(sql, &[&capped]).await?;
        Ok(capped.len() as u64)
    }
}

/// Numbers for new groups.
struct Numbers(Vec<i64>);

impl Numbers {
    async fn reserve(transaction: &Transaction<'_>, most: usize) -> Result<Numbers, Error> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let sql =
            "select nextval('avtryck.device_group_number') from generate_series(1, $1::bigint)";
        let rows = transaction.query(sql, &[&most]).await?;
        let numbers: Result<Vec<i64>, Error> = rows.iter().map(|row| row.try_get(0)).collect();
        Ok(Numbers(numbers?))
    }

    fn next(&mut self) -> i64 {
        self.0.pop().unwrap_or(0)
    }
}

/// The IDs that come to another group.
#[derive(Default)]
struct Moves {
    nodes: Vec<Uuid>,
    from: Vec<Option<i64>>,
    to: Vec<i64>,
    reasons: Vec<&'static str>,
    merged: u64,
    split: u64,
    groups: HashSet<i64>,
}

impl Moves {
    fn add(&mut self, member: &GroupMember, number: i64) {
        let count = match member.is_loose {
            true => &mut self.split,
            false => &mut self.merged,
        };
        *count += 1;
        self.nodes.push(Uuid::from_bytes(member.node.0));
        self.from.push(member.group);
        self.to.push(number);
        self.reasons.push(match member.is_loose {
            true => "split",
            false => "merge",
        });
        self.groups.insert(number);
        self.groups.extend(member.group);
    }

    async fn write(&self, transaction: &Transaction<'_>, over: Over) -> Result<(), Error> {
        if over == Over::Proved {
            let sql = "update avtryck.link_node as known set proved_group = moved.number \
                       from unnest($1::uuid[], $2::bigint[]) as moved (node, number) where known.node = moved.node";
            transaction.execute(sql, &[&self.nodes, &self.to]).await?;
            return Ok(());
        }
        let sql = include_str!("group/move.sql");
        transaction
            .execute(sql, &[&self.nodes, &self.from, &self.to, &self.reasons])
            .await?;
        Ok(())
    }
}

/// Loosens the groups from a number on, at most that many, so that [`settle_within`] finds them
/// anew. Returns the last number; `None` if there was none.
///
/// # Errors
/// Where Postgres fails.
pub async fn loosen(
    transaction: &Transaction<'_>,
    from: i64,
    most: i64,
) -> Result<Option<i64>, Error> {
    lock(transaction).await?;
    let sql = "with portion as (select device_group from avtryck.device_group where device_group >= $1 \
                                order by device_group limit $2), \
               proved as (select distinct proved_group from avtryck.link_node join portion using (device_group) \
                          where proved_group <> 0), \
               noted as (insert into avtryck.link_regroup (device_group) \
                         select device_group from portion union select proved_group from proved \
                         on conflict do nothing) \
               select max(device_group) from portion";
    transaction
        .query_one(sql, &[&from, &most])
        .await?
        .try_get(0)
}

/// Lets hubs back that were not more than half of one for 30 days. Returns how many there were.
///
/// # Errors
/// Where Postgres fails.
pub async fn free_hubs(client: &Client, today: i32) -> Result<u64, Error> {
    client
        .execute(include_str!("group/free_hubs.sql"), &[&today])
        .await
}

#[cfg(test)]
mod tests;
