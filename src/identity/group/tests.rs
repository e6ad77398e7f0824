//! Groups over random histories: after each step they are what the stored ties say.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod devices;

use std::collections::{BTreeSet, VecDeque};

use super::*;

/// A tie with what it says, by its two IDs.
type Ties = BTreeMap<(Node, Node), (i32, bool)>;

/// All IDs and ties that there are, as a database has them.
#[derive(Default)]
struct World {
    /// Of each ID: kind, partner, first day, group.
    nodes: BTreeMap<Node, (NodeKind, &'static str, i32, Option<i64>)>,
    ties: Ties,
    forbidden: BTreeSet<(Node, Node)>,
    next_number: i64,
}

impl World {
    /// Returns an ID by its number: a quarter are visitors, the others of the other kinds.
    fn node(&mut self, number: u64, day: i32) -> Node {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        let kinds = [
            (NodeKind::Visitor, ""),
            (NodeKind::Visitor, ""),
            (NodeKind::Maid, ""),
            (NodeKind::DeviceId, ""),
            (NodeKind::PartnerUid, "one"),
            (NodeKind::PartnerUid, "other"),
        ];
        let (kind, partner) = kinds[usize::try_from(number % 6).unwrap()];
        let node = Node(bytes);
        self.nodes.entry(node).or_insert((kind, partner, day, None));
        node
    }

    /// Settles the groups of some IDs, with their neighbours; `loose` are those that lost a tie.
    fn settle(&mut self, seeds: &BTreeSet<Node>, loose: &BTreeSet<i64>) {
        let group_of =
            |nodes: &BTreeMap<Node, (NodeKind, &str, i32, Option<i64>)>, node: &Node| nodes[node].3;
        let with_groups = |some: &BTreeSet<Node>| -> BTreeSet<Node> {
            let groups: BTreeSet<i64> = some
                .iter()
                .filter_map(|node| group_of(&self.nodes, node))
                .chain(loose.iter().copied())
                .collect();
            let of_groups = self.nodes.iter();
            let of_groups =
                of_groups.filter(|(_, row)| row.3.is_some_and(|of| groups.contains(&of)));
            some.iter()
                .copied()
                .chain(of_groups.map(|(node, _)| *node))
                .collect()
        };
        let core = with_groups(seeds);
        let mut ring = core.clone();
        for (a, b) in self.ties.keys() {
            if core.contains(a) || core.contains(b) {
                ring.extend([*a, *b]);
            }
        }
        let all: Vec<Node> = with_groups(&ring).into_iter().collect();
        let members: Vec<GroupMember> = all
            .iter()
            .map(|node| {
                let (kind, partner, first_day, group) = self.nodes[node];
                GroupMember {
                    node: *node,
                    kind,
                    partner: partner.to_owned(),
                    first_day,
                    group,
                    is_loose: group.is_some_and(|group| loose.contains(&group)),
                }
            })
            .collect();
        let place: BTreeMap<Node, usize> = all
            .iter()
            .enumerate()
            .map(|(at, node)| (*node, at))
            .collect();
        let pair = |a: &Node, b: &Node| Some((*place.get(a)?, *place.get(b)?));
        let bonds: Vec<Bond> = self
            .ties
            .iter()
            .filter_map(|((a, b), (first_day, is_proved))| {
                let (a, b) = pair(a, b)?;
                Some(Bond {
                    a,
                    b,
                    first_day: *first_day,
                    is_proved: *is_proved,
                })
            })
            .collect();
        let forbidden: Vec<(usize, usize)> = self
            .forbidden
            .iter()
            .filter_map(|(a, b)| pair(a, b))
            .collect();
        for group in settle(&members, &bonds, &forbidden).groups {
            let number = group.number.unwrap_or_else(|| {
                self.next_number += 1;
                self.next_number
            });
            for member in group.members {
                self.nodes.get_mut(&all[member]).unwrap().3 = Some(number);
            }
        }
    }

    fn groups(&self) -> BTreeMap<i64, BTreeSet<Node>> {
        let mut groups: BTreeMap<i64, BTreeSet<Node>> = BTreeMap::new();
        for (node, row) in &self.nodes {
            if let Some(group) = row.3 {
                groups.entry(group).or_default().insert(*node);
            }
        }
        groups
    }

    fn is_within_caps(&self, group: &BTreeSet<Node>) -> bool {
        let mut counts: BTreeMap<(NodeKind, &str), usize> = BTreeMap::new();
        for node in group {
            *counts
                .entry((self.nodes[node].0, self.nodes[node].1))
                .or_default() += 1;
        }
        let caps: BTreeMap<NodeKind, usize> = KIND_NODES_MAX.into_iter().collect();
        group.len() <= GROUP_NODES_MAX
            && counts.iter().all(|((kind, _), count)| *count <= caps[kind])
            && !self
                .forbidden
                .iter()
                .any(|(a, b)| group.contains(a) && group.contains(b))
    }

    /// The connected components, the simple way.
    fn components(&self) -> BTreeSet<BTreeSet<Node>> {
        let mut left: BTreeSet<Node> = self.nodes.keys().copied().collect();
        let mut components = BTreeSet::new();
        while let Some(first) = left.pop_first() {
            let mut component = BTreeSet::from([first]);
            let mut queue = VecDeque::from([first]);
            while let Some(node) = queue.pop_front() {
                for (a, b) in self.ties.keys() {
                    let next = if *a == node {
                        b
                    } else if *b == node {
                        a
                    } else {
                        continue;
                    };
                    if component.insert(*next) {
                        left.remove(next);
                        queue.push_back(*next);
                    }
                }
            }
            components.insert(component);
        }
        components
    }

    fn check(&self, case: &str) {
        let groups = self.groups();
        let components = self.components();
        for component in &components {
            if self.is_within_caps(component) {
                let found: BTreeSet<i64> = component
                    .iter()
                    .filter_map(|node| self.nodes[node].3)
                    .collect();
                assert_eq!(
                    found.len(),
                    1,
                    "{case}: a component without a cap is one group"
                );
            }
        }
        let mut of: BTreeMap<Node, i64> = BTreeMap::new();
        for (number, group) in &groups {
            assert!(self.is_within_caps(group), "{case}: {group:?}");
            let own = World {
                nodes: group.iter().map(|node| (*node, self.nodes[node])).collect(),
                ties: self
                    .ties
                    .iter()
                    .filter(|((a, b), _)| group.contains(a) && group.contains(b))
                    .map(|(ends, said)| (*ends, *said))
                    .collect(),
                ..World::default()
            };
            assert_eq!(own.components().len(), 1, "{case}: connected: {group:?}");
            of.extend(group.iter().map(|node| (*node, *number)));
        }
        for (a, b) in self.ties.keys() {
            let (one, other) = (of[a], of[b]);
            if one != other {
                let both = groups[&one].union(&groups[&other]).copied().collect();
                assert!(
                    !self.is_within_caps(&both),
                    "{case}: {a:?} and {b:?} could be one group"
                );
            }
        }
    }
}

fn run_history(seed: u64, ids: u64, steps: u64) -> World {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::default();
    for step in 0..steps {
        let day = i32::try_from(step).unwrap();
        let ties: Vec<(Node, Node)> = world.ties.keys().copied().collect();
        match random.u8(0..10) {
            0..7 => {
                // Most IDs meet neighbours, a few meet anybody.
                let one = random.u64(0..ids);
                let other = if random.bool() {
                    random.u64(0..ids)
                } else {
                    (one + random.u64(1..6)) % ids
                };
                let (one, other) = (world.node(one, day), world.node(other, day));
                if one != other {
                    let tie = (one.min(other), one.max(other));
                    world.ties.entry(tie).or_insert((day, random.bool()));
                }
                world.settle(&BTreeSet::from([one, other]), &BTreeSet::new());
            }
            7 if !ties.is_empty() => {
                let tie = ties[random.usize(0..ties.len())];
                world.ties.remove(&tie);
                let loose = [tie.0, tie.1]
                    .iter()
                    .filter_map(|node| world.nodes[node].3)
                    .collect();
                world.settle(&BTreeSet::new(), &loose);
            }
            8 if !world.nodes.is_empty() => {
                // A whole ID goes.
                let node = *world
                    .nodes
                    .keys()
                    .nth(random.usize(0..world.nodes.len()))
                    .unwrap();
                let loose: BTreeSet<i64> = world.nodes[&node].3.into_iter().collect();
                let near: BTreeSet<Node> = ties
                    .iter()
                    .filter(|(a, b)| *a == node || *b == node)
                    .flat_map(|(a, b)| [*a, *b])
                    .filter(|other| *other != node)
                    .collect();
                world.ties.retain(|(a, b), _| *a != node && *b != node);
                world.forbidden.retain(|(a, b)| *a != node && *b != node);
                world.nodes.remove(&node);
                world.settle(&near, &loose);
            }
            9 if !ties.is_empty() && ids <= 80 => {
                let (a, b) = ties[random.usize(0..ties.len())];
                world.forbidden.insert((a, b));
                let loose = [a, b]
                    .iter()
                    .filter_map(|node| world.nodes[node].3)
                    .collect();
                world.settle(&BTreeSet::new(), &loose);
            }
            _ => continue,
        }
        if step % 5 == 0 || step + 1 == steps {
            world.check(&format!("seed {seed}, step {step}"));
        }
    }
    world
}

#[test]
fn after_any_history_groups_are_what_the_stored_ties_say() {
    let mut capped = 0;
    for seed in 0..1_000 {
        // Few IDs make groups that reach their caps, many make those that do not.
        let ids = [12, 80, 1_000, 100_000][usize::try_from(seed % 4).unwrap()];
        let world = run_history(seed, ids, 60);
        let components = world.components();
        capped += u32::from(
            components
                .iter()
                .any(|component| !world.is_within_caps(component)),
        );
    }
    assert!(
        (100..900).contains(&capped),
        "{capped} histories reached a cap"
    );
}

fn member(number: u8, kind: NodeKind, group: Option<i64>) -> GroupMember {
    GroupMember {
        node: Node([number; 16]),
        kind,
        partner: String::new(),
        first_day: number.into(),
        group,
        is_loose: group.is_some(),
    }
}

fn bond(a: usize, b: usize) -> Bond {
    Bond {
        a,
        b,
        first_day: 0,
        is_proved: false,
    }
}

#[test]
fn a_number_stays_with_the_oldest_visitor_and_the_larger_group() {
    let members = [
        member(1, NodeKind::Maid, Some(7)),
        member(2, NodeKind::Visitor, Some(7)),
        member(3, NodeKind::Visitor, Some(7)),
        member(4, NodeKind::DeviceId, Some(7)),
    ];
    // The MAID is older, but no visitor.
    let split = settle(&members, &[bond(0, 2), bond(1, 3)], &[]);
    let numbers: Vec<_> = split
        .groups
        .iter()
        .map(|group| (group.members.clone(), group.number))
        .collect();
    assert_eq!(numbers, [(vec![0, 2], None), (vec![1, 3], Some(7))]);

    let kept = |number, group| GroupMember {
        is_loose: false,
        ..member(number, NodeKind::Visitor, Some(group))
    };
    let members = [kept(1, 5), kept(2, 9), kept(3, 9)];
    let joined = settle(&members, &[bond(0, 1)], &[]);
    assert_eq!(joined.groups.len(), 1);
    assert_eq!(joined.groups[0].number, Some(9));
}

#[test]
fn a_proved_tie_comes_before_an_older_one_where_a_cap_allows_one_of_them() {
    let visitors = (1..=10).map(|number| member(number, NodeKind::Visitor, None));
    let members: Vec<GroupMember> = visitors
        .chain([member(11, NodeKind::Maid, None)])
        .chain((12..=13).map(|number| member(number, NodeKind::Visitor, None)))
        .collect();
    let mut bonds: Vec<Bond> = (0..9).map(|at| bond(at, at + 1)).collect();
    bonds.push(bond(0, 10));
    bonds.push(bond(10, 11));
    bonds.push(Bond {
        first_day: 99,
        is_proved: true,
        ..bond(10, 12)
    });
    let settled = settle(&members, &bonds, &[]);
    let with_maid = settled
        .groups
        .iter()
        .find(|group| group.members.contains(&10))
        .unwrap();
    assert!(with_maid.members.contains(&12) && with_maid.is_capped);
    assert_eq!(settled.left_out.len(), 2, "{settled:?}");
}
