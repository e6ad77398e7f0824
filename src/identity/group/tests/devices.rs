//! A hundred thousand simulated devices, with the truth.

use super::*;
use crate::clock::UnixMicros;
use crate::hit::{Hit, Kind, Permit, UserKey, VisitorId};
use crate::identity::{IdType, Ids, Tie, TieRules};

/// What apps send where they know no ID.
const JUNK: [&str; 8] = [
    "",
    "null",
    "0",
    "00000000",
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "unknown",
    "XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX",
];

/// Devices with the truth: each visitor, MAID and device ID is of one device.
struct Devices {
    /// Of each ID: kind, device.
    ids: Vec<(NodeKind, usize)>,
    ties: BTreeSet<(usize, usize)>,
}

impl Devices {
    fn new(count: usize, random: &mut fastrand::Rng) -> Devices {
        let mut devices = Devices {
            ids: Vec::new(),
            ties: BTreeSet::new(),
        };
        for device in 0..count {
            // Browsers lose their cookies: mostly once or never, a few of them every week.
            let visitors = 1 + (0..9).take_while(|_| random.f64() < 0.35).count();
            let visitors: Vec<usize> = (0..visitors)
                .map(|_| devices.add(NodeKind::Visitor, device))
                .collect();
            let maids = usize::from(random.f64() < 0.5) + usize::from(random.f64() < 0.05);
            let mut lasting: Vec<usize> = (0..maids)
                .map(|_| devices.add(NodeKind::Maid, device))
                .collect();
            if random.f64() < 0.3 {
                lasting.push(devices.add(NodeKind::DeviceId, device));
            }
            for visitor in visitors {
                for id in &lasting {
                    if random.f64() < 0.8 {
                        devices.tie(visitor, *id);
                    }
                }
            }
        }
        devices
    }

    fn add(&mut self, kind: NodeKind, device: usize) -> usize {
        self.ids.push((kind, device));
        self.ids.len() - 1
    }

    fn tie(&mut self, one: usize, other: usize) {
        self.ties.insert((one.min(other), one.max(other)));
    }

    /// Ties that nobody's device has: cookies that are copied to a new computer, MAIDs that a
    /// thousand visitors name, emulators with one device ID for a dozen visitors.
    fn disturb(&mut self, random: &mut fastrand::Rng) {
        let honest = self.ids.len();
        for _ in 0..honest / 2_000 {
            self.tie(random.usize(0..honest), random.usize(0..honest));
        }
        let visitors: Vec<usize> = (0..honest)
            .filter(|id| self.ids[*id].0 == NodeKind::Visitor)
            .collect();
        for (hubs, users) in [(1, 10_000), (20, 200), (50, 12)] {
            for _ in 0..hubs {
                let hub = self.add(NodeKind::Maid, usize::MAX);
                for _ in 0..users {
                    self.tie(hub, visitors[random.usize(0..visitors.len())]);
                }
            }
        }
    }

    /// Hears hits of each eighth visitor: families log in on each other's devices, one
    /// account is everybody's, and apps send what stands for no ID. Returns how many logins tie a
    /// user to a device.
    fn hear_logins_and_junk(&self, random: &mut fastrand::Rng) -> usize {
        let visitors: Vec<usize> = (0..self.ids.len())
            .filter(|id| self.ids[*id].0 == NodeKind::Visitor)
            .step_by(8)
            .collect();
        let rules = TieRules::new([("net".to_owned(), IdType::Browser)], &[], []);
        let mut logins = 0;
        for visitor in visitors {
            let mut hit = Hit::new(UnixMicros(0), Kind::Event, "shop");
            hit.permit = Permit::ALL;
            hit.visitor = Some(VisitorId((visitor as u128).to_be_bytes()));
            let user = match random.u8(0..20) {
                0 => 0,
                _ => (visitor / 40 + random.usize(0..2)) as u128,
            };
            hit.user_key = Some(UserKey(user.to_be_bytes()));
            hit.partner = "net".into();
            // What is absent in any case never gets into a hit: protocol::absent has it.
            hit.maid = JUNK[random.usize(0..JUNK.len())].into();
            hit.device_id = JUNK[random.usize(0..JUNK.len())].into();
            hit.partner_uid = JUNK[random.usize(0..JUNK.len())].into();
            let ids = Ids::of(&hit, &rules);
            for tie in Tie::of(&hit, hit.flags, &ids, &rules).iter().flatten() {
                let kinds = [tie.a_kind, tie.b_kind];
                if kinds.contains(&NodeKind::User) {
                    logins += 1;
                    continue;
                }
                panic!(
                    "{kinds:?} of {:?} are tied",
                    (hit.maid, hit.device_id, hit.partner_uid)
                );
            }
        }
        logins
    }

    /// Returns the groups that are found, after hubs are left out.
    fn group(&self) -> Vec<Vec<usize>> {
        let mut degrees = vec![0; self.ids.len()];
        for (a, b) in &self.ties {
            degrees[*a] += 1;
            degrees[*b] += 1;
        }
        let members: Vec<GroupMember> = self
            .ids
            .iter()
            .enumerate()
            .map(|(id, (kind, _))| GroupMember {
                node: Node((id as u128).to_be_bytes()),
                kind: *kind,
                partner: String::new(),
                first_day: 0,
                group: None,
                is_loose: false,
            })
            .collect();
        let used = self.ties.iter().filter(|(a, b)| {
            [*a, *b]
                .iter()
                .all(|id| degrees[*id] <= degree_max(self.ids[*id].0))
        });
        let bonds: Vec<Bond> = used.map(|(a, b)| bond(*a, *b)).collect();
        settle(&members, &bonds, &[])
            .groups
            .into_iter()
            .map(|group| group.members)
            .collect()
    }
}

#[test]
fn of_a_hundred_thousand_devices_with_churn_and_hostile_ids_groups_are_the_devices() {
    let mut random = fastrand::Rng::with_seed(17);
    let mut devices = Devices::new(100_000, &mut random);
    // What can be known: the IDs of one device that were seen together, over others.
    let known: usize = devices
        .group()
        .iter()
        .map(|group| group.len() * (group.len() - 1) / 2)
        .sum();
    devices.disturb(&mut random);
    // A login is no tie of a device, and neither is what stands for no ID.
    let logins = devices.hear_logins_and_junk(&mut random);
    assert!(logins > 10_000, "{logins}");
    let groups = devices.group();
    let (mut found, mut right) = (0_usize, 0_usize);
    for group in &groups {
        assert!(group.len() <= GROUP_NODES_MAX);
        for (at, one) in group.iter().enumerate() {
            for other in &group[at + 1..] {
                found += 1;
                right += usize::from(devices.ids[*one].1 == devices.ids[*other].1);
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let share = |part: usize, of: usize| part as f64 / of as f64;
    let (precision, recall) = (share(right, found), share(right, known));
    eprintln!("precision {precision:.4}, recall {recall:.4} over {known} pairs");
    assert!(precision >= 0.995 && recall >= 0.95, "{precision} {recall}");
}
