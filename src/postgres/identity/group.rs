//! Brings device groups into step with ties: [`settle_some`] takes a portion of what is new or
//! lost.
//!
//! A portion is one transaction under the lock of ties, so that two collectors take turns and find
//! what the other did. What a portion needs is small: the groups of the IDs that it is about, and
//! the groups beside them; [`settle`] decides over that, and only what changed is written.
//!
//! | step | why |
//! | --- | --- |
//! | count the ties of IDs with a new one, and the proved ones | an ID with too many becomes a hub, and leaves its group; with too many that are proved, its proved group |
//! | groups over all ties, then over proved ties | reports use the one, visitors are shown the other |
//! | owners of the groups that changed | they follow from ties to users |

use std::collections::{HashMap, HashSet};

use tokio_postgres::{Client, Error, GenericClient, Row, Transaction};
use uuid::Uuid;

use super::{Loss, lock};
use crate::identity::group::{Bond, GroupMember, OWNERS_MAX, degree_max, settle};
use crate::identity::{Node, NodeKind};

/// The most new ties, and the most groups that lost one, of a portion.
const PORTION: i64 = 1_000;

/// A portion is a small part of its tables, but Postgres expects more of it and would read them
/// whole: 1,000 of 200,000 ties took 0.82 s so, and 0.13 s by index.
const BY_INDEX: &str = "set local enable_seqscan = off; set local enable_hashjoin = off; \
     set local enable_mergejoin = off";

/// What a portion did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grouped {
    /// New ties that it took.
    pub ties: u64,
    /// Groups that had lost a tie, by the place of the reason in [`Loss::ALL`].
    pub loose: [u64; Loss::ALL.len()],
    /// IDs that came to another group by a new tie.
    pub merged: u64,
    /// IDs that came to another group because a tie is gone.
    pub split: u64,
    /// Ties that join nothing, because a group would become too large: new ones, and those of
    /// groups that had lost a tie.
    pub capped: u64,
    /// IDs that became hubs.
    pub hubs: u64,
}

impl Grouped {
    /// Returns whether there may be more to do.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ties + self.loose.iter().sum::<u64>() > 0
    }

    /// Adds what another portion did.
    pub fn add(&mut self, other: Grouped) {
        self.ties += other.ties;
        for (sum, more) in self.loose.iter_mut().zip(other.loose) {
            *sum += more;
        }
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
pub(crate) async fn settle_within(transaction: &Transaction<'_>) -> Result<Grouped, Error> {
    lock(transaction).await?;
    transaction.batch_execute(BY_INDEX).await?;
    let new = NewTies::take(transaction).await?;
    let mut loose = take_loose(transaction).await?;
    loose.remove(&0);
    let mut grouped = Grouped {
        ties: new.a.len() as u64,
        ..Grouped::default()
    };
    for loss in loose.values() {
        if let Some(count) = grouped.loose.get_mut(*loss as usize) {
            *count += 1;
        }
    }
    let sql = include_str!("group/count_ties.sql");
    transaction.execute(sql, &[&new.a, &new.b]).await?;
    let (hubs, proved_hubs) = find_hubs(transaction, &new).await?;
    grouped.hubs = hubs.len() as u64;
    let sql = include_str!("group/leave_hubs.sql");
    for row in transaction.query(sql, &[&hubs, &proved_hubs]).await? {
        loose.entry(row.try_get(0)?).or_insert(Loss::Hub);
    }
    let users = forget_lone(transaction, &loose).await?;
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
    let changed: Vec<i64> = changed.into_iter().chain(loose.into_keys()).collect();
    let sql = include_str!("group/own.sql");
    transaction
        .execute(sql, &[&changed, &new.a, &new.b, &OWNERS_MAX])
        .await?;
    transaction
        .execute(include_str!("group/share.sql"), &[&changed, &new.a, &new.b])
        .await?;
    let sql = "update avtryck.link_edge as edge set is_new = false \
               from unnest($1::uuid[], $2::uuid[]) as new (a, b) where edge.a = new.a and edge.b = new.b";
    transaction.execute(sql, &[&new.a, &new.b]).await?;
    let sql = include_str!("group/forget_users.sql");
    transaction.execute(sql, &[&users]).await?;
    Ok(grouped)
}

/// Deletes the IDs of groups that lost a tie which have none left. Returns the users who own one of
/// the groups.
async fn forget_lone(
    transaction: &Transaction<'_>,
    loose: &HashMap<i64, Loss>,
) -> Result<Vec<Uuid>, Error> {
    let numbers: Vec<i64> = loose.keys().copied().collect();
    let reasons: Vec<&str> = loose.values().map(|loss| loss.change()).collect();
    let sql = "select distinct owner from avtryck.device_owner where device_group = any($1)";
    let rows = transaction.query(sql, &[&numbers]).await?;
    let sql = include_str!("group/forget_lone.sql");
    transaction.execute(sql, &[&numbers, &reasons]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
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

async fn take_loose(transaction: &Transaction<'_>) -> Result<HashMap<i64, Loss>, Error> {
    let sql = "delete from avtryck.link_regroup where device_group in \
               (select device_group from avtryck.link_regroup order by device_group limit $1) \
               returning device_group, reason";
    let rows = transaction.query(sql, &[&PORTION]).await?;
    let lost = |row: &Row| Ok((row.try_get(0)?, Loss::from_name(row.try_get(1)?)));
    rows.iter().map(lost).collect()
}

/// Returns the ends of new ties that have more ties than an ID of one device has, and those that
/// have more proved ones.
async fn find_hubs(
    transaction: &Transaction<'_>,
    new: &NewTies,
) -> Result<(Vec<Uuid>, Vec<Uuid>), Error> {
    let sql = "select node, kind, degree, proved_degree, state = 0, proved_hub_since is null \
               from avtryck.link_node where node = any($1) and kind <> 5";
    let (mut hubs, mut proved_hubs) = (Vec::new(), Vec::new());
    for row in transaction.query(sql, &[&new.ends()]).await? {
        let node = row.try_get(0)?;
        let max = degree_max(kind(row.try_get(1)?));
        let is_more = |column| {
            let degree = row.try_get::<_, i32>(column)?;
            Ok::<bool, Error>(usize::try_from(degree).unwrap_or(0) > max)
        };
        if is_more(2)? && row.try_get(4)? {
            hubs.push(node);
        }
        if is_more(3)? && row.try_get(5)? {
            proved_hubs.push(node);
        }
    }
    Ok((hubs, proved_hubs))
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
    loose: HashMap<i64, Loss>,
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
        loose: &HashMap<i64, Loss>,
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
                    .replace("state = 0", "proved_hub_since is null")
                    .replace("/* proved */", "and edge.proved_day is not null")
            }),
        };
        let seeds = new.ends();
        let mut slice = Slice {
            over,
            members: Vec::new(),
            bonds: Vec::new(),
            forbidden: Vec::new(),
            loose: loose.clone(),
        };
        let loose: Vec<i64> = loose.keys().copied().collect();
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
                is_loose: group.is_some_and(|group| slice.loose.contains_key(&group)),
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
                    let loss = member.group.and_then(|group| self.loose.get(&group));
                    moves.add(member, number, loss.copied());
                }
            }
        }
        let former: HashSet<i64> = self
            .members
            .iter()
            .filter_map(|member| member.group)
            .chain(self.loose.keys().copied())
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

    /// Notes the new ties that were left out. Returns how many of them there were, and of those of
    /// groups that lost a tie: each counts with its smaller ID, so once where groups go in ranges.
    async fn note_capped(
        &self,
        transaction: &Transaction<'_>,
        left_out: &[usize],
        new: &NewTies,
    ) -> Result<u64, Error> {
        let fresh: HashSet<(Uuid, Uuid)> =
            new.a.iter().copied().zip(new.b.iter().copied()).collect();
        let uuid = |member: &GroupMember| Uuid::from_bytes(member.node.0);
        let (mut capped, mut count) = (Vec::new(), 0);
        for bond in left_out.iter().filter_map(|at| self.bonds.get(*at)) {
            let ends = (self.members.get(bond.a), self.members.get(bond.b));
            let (Some(a), Some(b)) = ends else { continue };
            let is_fresh = fresh.contains(&(uuid(a), uuid(b)));
            if is_fresh {
                capped.push(uuid(b));
            }
            count += u64::from(is_fresh || a.is_loose);
        }
        let sql = "insert into avtryck.link_change (at, node, from_group, to_group, reason) \
                   select now(), node, device_group, device_group, 'cap' from avtryck.link_node where node = any($1)";
        transaction.execute(sql, &[&capped]).await?;
        Ok(count)
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
    /// Adds an ID that comes to a group, out of one that lost a tie if `loss` says why.
    fn add(&mut self, member: &GroupMember, number: i64, loss: Option<Loss>) {
        match loss {
            Some(_) => self.split += 1,
            None => self.merged += 1,
        }
        self.nodes.push(Uuid::from_bytes(member.node.0));
        self.from.push(member.group);
        self.to.push(number);
        self.reasons.push(loss.map_or("merge", Loss::change));
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
pub(crate) async fn loosen(
    transaction: &Transaction<'_>,
    from: i64,
    most: i64,
) -> Result<Option<i64>, Error> {
    lock(transaction).await?;
    Loss::Rule.note(transaction).await?;
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

/// Which hubs come back: those that have been hubs for that many days, and have fewer ties.
struct Return {
    days: i32,
    /// Of a visitor, and of another ID.
    degrees: [usize; 2],
}

/// Lets hubs back that were not more than half of one for 30 days, and deletes those without ties.
/// Returns how many ties are to be grouped again.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn free_hubs(client: &impl GenericClient, today: i32) -> Result<u64, Error> {
    let half = |kind| degree_max(kind) / 2;
    let rule = Return {
        days: 30,
        degrees: [half(NodeKind::Visitor), half(NodeKind::Maid)],
    };
    free(client, today, rule).await
}

/// Lets all hubs back that the rules of today would not find. Returns the same.
///
/// # Errors
/// Where Postgres fails.
pub(crate) async fn recount_hubs(transaction: &Transaction<'_>) -> Result<u64, Error> {
    lock(transaction).await?;
    let first = |kind| degree_max(kind) + 1;
    let rule = Return {
        days: 0,
        degrees: [first(NodeKind::Visitor), first(NodeKind::Maid)],
    };
    // Later than any day on which it became one.
    free(transaction, i32::MAX / 1_000, rule).await
}

async fn free(client: &impl GenericClient, today: i32, rule: Return) -> Result<u64, Error> {
    let degrees = rule
        .degrees
        .map(|degree| i32::try_from(degree).unwrap_or(i32::MAX));
    let sql = include_str!("group/free_hubs.sql");
    client
        .execute(sql, &[&today, &rule.days, &&degrees[..]])
        .await
}

#[cfg(test)]
mod tests;
