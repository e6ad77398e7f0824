//! Which household a device is in, the same from night to night.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::HOUSEHOLD_DEVICES_MAX;

/// After how many days without support a device leaves.
const UNSUPPORTED_DAYS_MAX: i32 = 45;

/// A device and its household, after a night.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Membership {
    /// The device.
    pub device: i64,
    /// Its household; `None` until two nights in a row have found the same.
    pub household: Option<i64>,
    /// Another household that the last night found.
    pub proposed: Option<i64>,
    /// The sum of its scores with the others.
    pub score: f64,
    /// The night since which it is a member, as a day since 1970.
    pub since: i32,
    /// The last night that found it where it is.
    pub supported_on: i32,
}

/// Returns the memberships after a night, in the order of their devices.
///
/// `clusters` are what the night found, `score_of` the sum of a device's scores with the others of
/// its cluster, and `before` the memberships after the night before. A cluster keeps the number
/// with which it shares most score, and gets one of `new_number` if it shares none.
#[must_use]
pub(crate) fn renumber(
    clusters: &[Vec<i64>],
    score_of: &HashMap<i64, f64>,
    before: &[Membership],
    night: i32,
    mut new_number: impl FnMut() -> i64,
) -> Vec<Membership> {
    let known: BTreeMap<i64, Membership> = before
        .iter()
        .map(|member| (member.device, *member))
        .collect();
    let score = |device: &i64| score_of.get(device).copied().unwrap_or(0.0);
    let mut shared: BTreeMap<(usize, i64), f64> = BTreeMap::new();
    for (at, cluster) in clusters.iter().enumerate() {
        for device in cluster {
            let member = known.get(device);
            if let Some(number) = member.and_then(|member| member.household.or(member.proposed)) {
                *shared.entry((at, number)).or_default() += score(device);
            }
        }
    }
    let mut shared: Vec<((usize, i64), f64)> = shared.into_iter().collect();
    shared.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let mut number_of: BTreeMap<usize, i64> = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for ((at, number), _) in shared {
        if !number_of.contains_key(&at) && taken.insert(number) {
            number_of.insert(at, number);
        }
    }
    let mut after: BTreeMap<i64, Membership> = BTreeMap::new();
    for (at, cluster) in clusters.iter().enumerate() {
        let number = *number_of.entry(at).or_insert_with(&mut new_number);
        for device in cluster {
            let found = find_again(known.get(device), *device, number, night);
            let score = score(device);
            after.insert(*device, Membership { score, ..found });
        }
    }
    for member in before {
        let is_kept = night.saturating_sub(member.supported_on) < UNSUPPORTED_DAYS_MAX;
        if is_kept && member.household.is_some() {
            let proposed = None;
            let kept = Membership {
                proposed,
                ..*member
            };
            after.entry(member.device).or_insert(kept);
        }
    }
    remove_surplus(after, night)
}

/// Returns what a device is that a night found in a household.
fn find_again(known: Option<&Membership>, device: i64, number: i64, night: i32) -> Membership {
    let new = Membership {
        device,
        household: None,
        proposed: Some(number),
        score: 0.0,
        since: night,
        supported_on: night,
    };
    let Some(known) = known else {
        return new;
    };
    if known.household == Some(number) {
        return Membership {
            proposed: None,
            supported_on: night,
            ..*known
        };
    }
    if known.proposed == Some(number) {
        return Membership {
            household: Some(number),
            proposed: None,
            ..new
        };
    }
    Membership {
        proposed: Some(number),
        ..known.household.map_or(new, |_| *known)
    }
}

/// Takes out whoever is one too many, those who were supported least lately first, and whoever is
/// alone.
fn remove_surplus(after: BTreeMap<i64, Membership>, night: i32) -> Vec<Membership> {
    let mut households: BTreeMap<i64, Vec<Membership>> = BTreeMap::new();
    for member in after.values() {
        if let Some(number) = member.household {
            households.entry(number).or_default().push(*member);
        }
    }
    let mut out = BTreeSet::new();
    for members in households.values_mut() {
        members.sort_by(|one, other| {
            let order = other.supported_on.cmp(&one.supported_on);
            order.then(other.score.total_cmp(&one.score))
        });
        let is_alone = members.len() < 2;
        let too_many = members.iter().skip(HOUSEHOLD_DEVICES_MAX);
        out.extend(too_many.map(|member| member.device));
        out.extend(
            members
                .iter()
                .filter(|_| is_alone)
                .map(|member| member.device),
        );
    }
    let members = after.into_values().filter_map(|member| {
        if !out.contains(&member.device) {
            return Some(member);
        }
        // It is in none any more, and may be on its way into another.
        member.proposed.map(|_| Membership {
            household: None,
            since: night,
            ..member
        })
    });
    members.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nights(found: &[&[&[i64]]]) -> Vec<Membership> {
        let mut members = Vec::new();
        let mut number = 0;
        for (night, clusters) in (0..).zip(found) {
            let clusters: Vec<Vec<i64>> = clusters.iter().map(|of| of.to_vec()).collect();
            let scores = clusters.iter().flatten().map(|device| (*device, 1.0));
            members = renumber(&clusters, &scores.collect(), &members, night, || {
                number += 1;
                number
            });
        }
        members
    }

    fn households(members: &[Membership]) -> BTreeMap<i64, Vec<i64>> {
        let mut found: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for member in members {
            if let Some(number) = member.household {
                found.entry(number).or_default().push(member.device);
            }
        }
        found
    }

    #[test]
    fn a_household_is_one_once_two_nights_in_a_row_have_found_it() {
        assert_eq!(households(&nights(&[&[&[1, 2]]])), [].into());
        let two = nights(&[&[&[1, 2]], &[&[1, 2]]]);
        assert_eq!(households(&two), [(1, vec![1, 2])].into());
        // A night that found something else begins the two nights again.
        let apart = nights(&[&[&[1, 2]], &[], &[&[1, 2]]]);
        assert_eq!(households(&apart), [].into());
    }

    #[test]
    fn a_household_keeps_its_number_whoever_comes_and_goes() {
        let found = nights(&[
            &[&[1, 2, 3], &[7, 8]],
            &[&[1, 2, 3], &[7, 8]],
            &[&[2, 3, 4], &[1, 7, 8]],
        ]);
        // One night is not enough for anybody to move.
        assert_eq!(
            households(&found),
            [(1, vec![1, 2, 3]), (2, vec![7, 8])].into()
        );
        let found = nights(&[
            &[&[1, 2, 3], &[7, 8]],
            &[&[1, 2, 3], &[7, 8]],
            &[&[2, 3, 4], &[1, 7, 8]],
            &[&[2, 3, 4], &[1, 7, 8]],
        ]);
        assert_eq!(
            households(&found),
            [(1, vec![2, 3, 4]), (2, vec![1, 7, 8])].into()
        );
    }

    #[test]
    fn a_device_leaves_45_days_after_its_last_support_and_then_the_other_is_alone() {
        let both: &[&[i64]] = &[&[1, 2]];
        let none: &[&[i64]] = &[];
        let mut found = vec![both, both];
        found.extend(std::iter::repeat_n(none, 44));
        assert_eq!(households(&nights(&found)), [(1, vec![1, 2])].into());
        found.push(none);
        assert!(nights(&found).is_empty());
    }

    #[test]
    fn a_household_never_has_more_than_15_devices() {
        let first: Vec<i64> = (0..15).collect();
        let later: Vec<i64> = (8..23).collect();
        let (first, later): (&[&[i64]], &[&[i64]]) = (&[&first], &[&later]);
        let found = households(&nights(&[first, first, later, later]));
        assert_eq!(found, [(1, (8..23).collect())].into());
    }
}
