//! Device groups: which IDs are of one device, by the ties between them.
//!
//! A group is connected by ties and stays within its caps. [`settle`] brings groups into that state
//! after ties came or went, by three rules:
//!
//! 1. A group that lost a tie falls apart into what is still connected.
//! 2. Then each tie between two groups joins them, if the caps allow it: proved ties first, then
//!    the oldest.
//! 3. A number stays with the part that has the oldest visitor; where two groups join, the larger
//!    one's number stays.
//!
//! So where no cap is reached, groups are the connected components of the ties. Where one is, no
//! tie lies between two groups that could join: a group only ever becomes smaller by rule 1, which
//! rule 2 follows.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Node, NodeKind};

/// The most IDs of a group.
pub const GROUP_NODES_MAX: usize = 20;

/// The most IDs of each kind in a group, of a partner's IDs those of one partner: browsers lose
/// their cookies, people reset their MAID.
pub(crate) const KIND_NODES_MAX: [(NodeKind, usize); 4] = [
    (NodeKind::Visitor, 10),
    (NodeKind::Maid, 2),
    (NodeKind::DeviceId, 3),
    (NodeKind::PartnerUid, 3),
];

/// The most owners of a group within 90 days. With more it is a shared device, and no more is known
/// of whose.
pub(crate) const OWNERS_MAX: i64 = 6;

/// Returns how many ties an ID of one device may have. One with more is a hub: an ID that many
/// share, such as that of an emulator, and its ties count nowhere. Beside a visitor there may be
/// all other IDs of a device, beside another ID its visitors.
#[must_use]
pub(crate) fn degree_max(kind: NodeKind) -> usize {
    match kind {
        NodeKind::Visitor => GROUP_NODES_MAX,
        _ => 10,
    }
}

/// An ID that groups are made of. A user is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The ID.
    pub node: Node,
    /// Its kind.
    pub kind: NodeKind,
    /// The partner, of a partner's ID; else empty.
    pub partner: String,
    /// The first day of its ties.
    pub first_day: i32,
    /// The number of its group so far; `None` for a new ID.
    pub group: Option<i64>,
    /// Whether its group may have fallen apart. The others of it then are, too.
    pub is_loose: bool,
}

/// A tie between two members, as places in the list of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bond {
    /// One of them.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// The first day of the tie.
    pub first_day: i32,
    /// Whether it is proved.
    pub is_proved: bool,
}

/// A group as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceGroup {
    /// The number that it keeps; `None` if it needs a new one.
    pub number: Option<i64>,
    /// Its members, as places in the list of members, in order.
    pub members: Vec<usize>,
    /// Whether a tie to one of its members was left out.
    pub is_capped: bool,
}

/// What [`settle`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The groups: each member is in one.
    pub groups: Vec<DeviceGroup>,
    /// The bonds that were left out, as places in the list of bonds.
    pub left_out: Vec<usize>,
}

/// Finds the groups of members. All members of a group that takes part must be given, with all
/// bonds of those that are loose and all bonds between groups. `forbidden` are pairs that must not
/// be in one group.
#[must_use]
pub fn settle(members: &[GroupMember], bonds: &[Bond], forbidden: &[(usize, usize)]) -> Settled {
    let mut parts = Parts::new(members, forbidden);
    // Groups that nothing took from stay whole, whatever of their ties is given.
    let mut first_of: HashMap<i64, usize> = HashMap::new();
    for (at, member) in members.iter().enumerate() {
        if let Some(group) = member.group.filter(|_| !member.is_loose) {
            let first = *first_of.entry(group).or_insert(at);
            parts.join_as_before(first, at);
        }
    }
    let order = |at: &usize| {
        let bond = bonds.get(*at);
        bond.map(|bond| {
            let id = |at: usize| members.get(at).map(|member| member.node);
            let (a, b) = (id(bond.a), id(bond.b));
            (!bond.is_proved, bond.first_day, a.min(b), a.max(b))
        })
    };
    let mut sorted: Vec<usize> = (0..bonds.len()).collect();
    sorted.sort_by_key(order);
    // What was one group stays one as far as its own ties hold it together.
    let group_of = |at: usize| members.get(at).and_then(|member| member.group);
    let is_within =
        |bond: &Bond| group_of(bond.a).is_some() && group_of(bond.a) == group_of(bond.b);
    for within in [true, false] {
        for at in &sorted {
            if let Some(bond) = bonds.get(*at).filter(|bond| is_within(bond) == within) {
                parts.join(bond.a, bond.b);
            }
        }
    }
    let left_out: Vec<usize> = sorted
        .into_iter()
        .filter(|at| {
            let bond = bonds.get(*at);
            bond.is_some_and(|bond| parts.part_of(bond.a) != parts.part_of(bond.b))
        })
        .collect();
    let capped: HashSet<usize> = left_out
        .iter()
        .filter_map(|at| bonds.get(*at))
        .flat_map(|bond| [parts.part_of(bond.a), parts.part_of(bond.b)])
        .collect();
    let mut groups: Vec<(usize, DeviceGroup)> = parts
        .members
        .into_iter()
        .enumerate()
        .filter(|(_, members)| !members.is_empty())
        .map(|(at, mut members)| {
            members.sort_unstable();
            let group = DeviceGroup {
                number: None,
                members,
                is_capped: capped.contains(&at),
            };
            (at, group)
        })
        .collect();
    groups.sort_by(|(_, one), (_, other)| one.members.cmp(&other.members));
    let mut groups: Vec<DeviceGroup> = groups.into_iter().map(|(_, group)| group).collect();
    give_numbers(members, &mut groups);
    Settled { groups, left_out }
}

/// Gives each former number to one of the groups that have members of it.
fn give_numbers(members: &[GroupMember], groups: &mut [DeviceGroup]) {
    // Of each former number: the part with the oldest visitor, and how many members it has there.
    let mut heirs: BTreeMap<i64, ((bool, i32, Node), usize)> = BTreeMap::new();
    let mut shares: HashMap<(usize, i64), usize> = HashMap::new();
    for (at, group) in groups.iter().enumerate() {
        for member in group.members.iter().filter_map(|at| members.get(*at)) {
            let Some(number) = member.group else {
                continue;
            };
            *shares.entry((at, number)).or_default() += 1;
            let age = (
                member.kind != NodeKind::Visitor,
                member.first_day,
                member.node,
            );
            let heir = heirs.entry(number).or_insert((age, at));
            if age < heir.0 {
                *heir = (age, at);
            }
        }
    }
    let mut claims: HashMap<usize, (usize, std::cmp::Reverse<i64>)> = HashMap::new();
    for (number, (_, at)) in heirs {
        let share = shares.get(&(at, number)).copied().unwrap_or(0);
        let claim = (share, std::cmp::Reverse(number));
        let known = claims.entry(at).or_insert(claim);
        *known = claim.max(*known);
    }
    for (at, (_, number)) in claims {
        if let Some(group) = groups.get_mut(at) {
            group.number = Some(number.0);
        }
    }
}

/// Parts that grow together.
struct Parts<'m> {
    all: &'m [GroupMember],
    part_of: Vec<usize>,
    members: Vec<Vec<usize>>,
    /// By member, whom it must not be with.
    apart: HashMap<usize, Vec<usize>>,
}

impl<'m> Parts<'m> {
    fn new(all: &'m [GroupMember], forbidden: &[(usize, usize)]) -> Parts<'m> {
        let mut apart: HashMap<usize, Vec<usize>> = HashMap::new();
        for (one, other) in forbidden {
            apart.entry(*one).or_default().push(*other);
            apart.entry(*other).or_default().push(*one);
        }
        Parts {
            all,
            part_of: (0..all.len()).collect(),
            members: (0..all.len()).map(|at| vec![at]).collect(),
            apart,
        }
    }

    fn part_of(&self, member: usize) -> usize {
        self.part_of.get(member).copied().unwrap_or(member)
    }

    fn of(&self, part: usize) -> &[usize] {
        self.members.get(part).map_or(&[], Vec::as_slice)
    }

    /// Joins the parts of two members, if the caps allow it.
    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.part_of(one), self.part_of(other));
        if one != other && self.may_join(one, other) {
            self.merge(one, other);
        }
    }

    /// Joins the parts of two members that are in one group and stay there.
    fn join_as_before(&mut self, one: usize, other: usize) {
        let (one, other) = (self.part_of(one), self.part_of(other));
        if one != other {
            self.merge(one, other);
        }
    }

    fn merge(&mut self, one: usize, other: usize) {
        let moved = self.members.get_mut(other).map(std::mem::take);
        for member in moved.into_iter().flatten() {
            if let Some(part) = self.part_of.get_mut(member) {
                *part = one;
            }
            if let Some(members) = self.members.get_mut(one) {
                members.push(member);
            }
        }
    }

    fn may_join(&self, one: usize, other: usize) -> bool {
        let (ours, theirs) = (self.of(one), self.of(other));
        if ours.len() + theirs.len() > GROUP_NODES_MAX {
            return false;
        }
        let mut counts: HashMap<(NodeKind, &str), usize> = HashMap::new();
        for member in ours.iter().chain(theirs).filter_map(|at| self.all.get(*at)) {
            *counts.entry((member.kind, &member.partner)).or_default() += 1;
        }
        let is_within = |((kind, _), count): (&(NodeKind, &str), &usize)| {
            let mut caps = KIND_NODES_MAX.iter();
            caps.find(|(capped, _)| capped == kind)
                .is_none_or(|(_, max)| count <= max)
        };
        counts.iter().all(is_within)
            && !ours.iter().any(|member| {
                let apart = self.apart.get(member);
                apart.is_some_and(|apart| {
                    apart
                        .iter()
                        .any(|stranger| self.part_of(*stranger) == other)
                })
            })
    }
}

#[cfg(test)]
mod tests;
