use std::collections::BTreeMap;

use super::*;

const SITE: &str = "shop";

fn shown(segments: impl IntoIterator<Item = SegmentNumber>) -> ShownBySite {
    let segments = segments.into_iter();
    let segments = segments
        .map(|number| (number, format!("s{number}")))
        .collect();
    HashMap::from([(SITE.to_owned(), ShownSegments { segments })])
}

fn node(random: &mut fastrand::Rng) -> Node {
    Node(random.u128(..).to_be_bytes())
}

/// What a snapshot is to hold, computed without one.
#[derive(Default)]
struct Oracle(BTreeMap<Node, Vec<SegmentNumber>>);

impl Oracle {
    /// Returns all subjects whose prefix is one of those wanted.
    fn members(&self, is_wanted: impl Fn(SubjectPrefix) -> bool) -> Vec<SubjectSegments> {
        let known = self
            .0
            .iter()
            .map(|(node, has)| (SubjectPrefix::of(*node), has.clone()));
        known.filter(|(prefix, _)| is_wanted(*prefix)).collect()
    }

    fn keys(&self, node: Node) -> Vec<String> {
        let shares = |other: &&Node| SubjectPrefix::of(**other) == SubjectPrefix::of(node);
        let segments = match self.0.keys().filter(shares).count() {
            1 => self.0.get(&node),
            _ => None,
        };
        let mut segments = segments.cloned().unwrap_or_default();
        segments.sort_unstable();
        segments.iter().map(|number| format!("s{number}")).collect()
    }
}

fn check(snapshot: &Snapshot, oracle: &Oracle, asked: &[Node]) {
    let is_member = |node: &&Node| oracle.0.contains_key(*node);
    let has_namesake = |node: &&Node| {
        !oracle
            .members(|prefix| prefix == SubjectPrefix::of(**node))
            .is_empty()
    };
    // One who is no member but is known by the same prefix cannot be told apart.
    for node in asked
        .iter()
        .filter(|node| is_member(node) || !has_namesake(node))
    {
        let keys = snapshot.answer(SITE, [*node]).keys;
        assert_eq!(keys, oracle.keys(*node), "{node:?}");
    }
}

#[test]
fn a_snapshot_tells_what_a_map_tells_after_any_history_of_changes() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut oracle = Oracle::default();
        let snapshot = Arc::new(Snapshot::default());
        snapshot.show(shown(-3..30));
        let mut writer = SnapshotWriter::new(Arc::clone(&snapshot));
        // Few prefixes, so that subjects come and go, and some share theirs.
        let mut nodes: Vec<Node> = (0..300).map(|_| node(&mut random)).collect();
        for at in 0..20 {
            nodes.push(Node((u128::from_be_bytes(nodes[at].0) ^ 1).to_be_bytes()));
        }
        for _ in 0..60 {
            let mut touched: Vec<SubjectPrefix> = Vec::new();
            for _ in 0..random.usize(0..40) {
                let node = nodes[random.usize(..nodes.len())];
                let segments = (0..random.usize(0..4)).map(|_| random.i16(-3..30));
                let segments: HashSet<_> = segments.collect();
                match segments.is_empty() {
                    true => oracle.0.remove(&node),
                    false => oracle.0.insert(node, segments.into_iter().collect()),
                };
                touched.push(SubjectPrefix::of(node));
            }
            touched.sort_unstable();
            touched.dedup();
            if random.u8(..) < 40 {
                writer.forget_sets();
            }
            for part in 0..PARTS {
                let here: Vec<SubjectPrefix> = touched
                    .iter()
                    .copied()
                    .filter(|p| p.part() == part)
                    .collect();
                if random.u8(..) < 20 {
                    writer.replace(part, &oracle.members(|prefix| prefix.part() == part));
                } else if !here.is_empty() {
                    writer.change(
                        part,
                        &here,
                        &oracle.members(|prefix| here.contains(&prefix)),
                    );
                }
            }
            check(&snapshot, &oracle, &nodes);
        }
    }
}

#[test]
fn a_site_is_told_the_segments_that_it_may_be_told_and_no_others() {
    let snapshot = Arc::new(Snapshot::default());
    let (one, other) = (Node([7; 16]), Node([8; 16]));
    let mut writer = SnapshotWriter::new(Arc::clone(&snapshot));
    writer.replace(7, &[(SubjectPrefix::of(one), vec![1, 2, 3])]);
    writer.replace(8, &[(SubjectPrefix::of(other), vec![4])]);
    assert_eq!(snapshot.answer(SITE, [one]), Answer::default());
    snapshot.show(shown([2, 4, 5]));
    assert_eq!(snapshot.answer(SITE, [one]).keys, ["s2"]);
    assert_eq!(snapshot.answer(SITE, [one, other]).keys, ["s2", "s4"]);
    assert_eq!(snapshot.answer(SITE, [Node([9; 16])]).keys, [""; 0]);
    assert_eq!(snapshot.answer(SITE, []).all, ["s2", "s4", "s5"]);
    assert_eq!(snapshot.answer("other", [one]), Answer::default());
}

#[test]
fn whoever_is_denied_is_told_nothing_until_two_generations_later() {
    let snapshot = Arc::new(Snapshot::default());
    let node = Node([1; 16]);
    snapshot.show(shown([1]));
    let mut writer = SnapshotWriter::new(Arc::clone(&snapshot));
    let members = [(SubjectPrefix::of(node), vec![1])];
    writer.replace(1, &members);
    snapshot.deny(node);
    // A refresh that began before the withdrawal brings the subject back.
    writer.replace(1, &members);
    assert_eq!(snapshot.answer(SITE, [node]).keys, [""; 0]);
    snapshot.forget_denied();
    assert_eq!(snapshot.answer(SITE, [node]).keys, [""; 0]);
    snapshot.forget_denied();
    assert_eq!(snapshot.answer(SITE, [node]).keys, ["s1"]);
}

#[test]
fn no_number_of_withdrawals_makes_the_memory_of_them_grow() {
    let snapshot = Snapshot::default();
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..DENIED_MAX + 10 {
        snapshot.deny(node(&mut random));
    }
    assert_eq!(snapshot.denied.count.load(Ordering::Relaxed), DENIED_MAX);
}

#[test]
fn more_sets_than_16_bits_can_number_are_all_told_apart() {
    let snapshot = Arc::new(Snapshot::default());
    snapshot.show(shown(0..300));
    let mut random = fastrand::Rng::with_seed(2);
    let mut oracle = Oracle::default();
    for set in 0..70_000_i32 {
        let segments = (0..17).filter(|bit| (set + 1) & 1 << bit != 0);
        oracle.0.insert(node(&mut random), segments.collect());
    }
    let mut writer = SnapshotWriter::new(Arc::clone(&snapshot));
    for part in 0..PARTS {
        writer.replace(part, &oracle.members(|prefix| prefix.part() == part));
    }
    let asked: Vec<Node> = oracle.0.keys().copied().step_by(97).collect();
    check(&snapshot, &oracle, &asked);
    assert_eq!(snapshot.members(), 70_000);
}

#[test]
fn the_nodes_of_all_parts_are_all_nodes() {
    let [first, last] = nodes_of_part(0x7f);
    assert_eq!(first.0, (0x7f_u128 << 120).to_be_bytes());
    assert_eq!(last.0, ((0x80_u128 << 120) - 1).to_be_bytes());
    assert_eq!(nodes_of_part(255)[1].0, [255; 16]);
    let prefix = SubjectPrefix::of(last);
    assert_eq!((prefix.part(), prefix.nodes()[1]), (0x7f, last));
    assert_eq!(SubjectPrefix::from_bits(-1).nodes()[1].0, [255; 16]);
}

/// `SEGMENT_MEMBERS=10000000` measures the goal: 110 MB for 10 million visitors.
#[test]
fn a_visitor_takes_ten_bytes_whatever_the_segments_are() {
    let members = std::env::var("SEGMENT_MEMBERS").ok();
    let members = members.and_then(|members| members.parse().ok());
    let members: usize = members.unwrap_or(300_000);
    let mut writer = SnapshotWriter::new(Arc::default());
    let mut random = fastrand::Rng::with_seed(4);
    for part in 0..256 {
        let mut prefixes: Vec<u64> = (0..members / 256).map(|_| random.u64(..) >> 8).collect();
        prefixes.sort_unstable();
        let subjects = prefixes.iter().map(|rest| {
            // Up to 4,096 sets of 12 segments.
            let segments = (0..12).filter(|_| random.u8(..5) == 0);
            (SubjectPrefix(part << 56 | rest), segments.collect())
        });
        let subjects: Vec<SubjectSegments> = subjects.collect();
        writer.replace(usize::try_from(part).unwrap_or(0), &subjects);
    }
    let (bytes, held) = (writer.snapshot().bytes(), writer.snapshot().members());
    eprintln!("{held} members take {bytes} bytes");
    assert!(held > members / 2);
    assert!(bytes < 10 * held + 6_000_000, "{held} take {bytes}");
}
