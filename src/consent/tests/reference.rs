//! A naive reader of TC and GPP strings, bit by bit from a list of bits, straight from the formats'
//! tables: it says what a mutated string permits. It shares nothing with the code under test.

use super::{Kind, Permit};

/// A list of bits and the position in it.
struct List(Vec<bool>, usize);

impl List {
    fn of(text: &str) -> Option<List> {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut bits = Vec::new();
        for character in text.chars() {
            let value = alphabet.find(character)?;
            bits.extend((0..6).rev().map(|bit| value >> bit & 1 == 1));
        }
        (!bits.is_empty()).then_some(List(bits, 0))
    }

    fn take(&mut self, count: usize) -> Option<Vec<bool>> {
        let bits = self.0.get(self.1..self.1 + count)?.to_vec();
        self.1 += count;
        Some(bits)
    }

    fn number(&mut self, count: usize) -> Option<u64> {
        let bits = self.take(count)?;
        Some(
            bits.iter()
                .fold(0, |number, bit| number * 2 + u64::from(*bit)),
        )
    }

    /// Reads the numbers of the bits that are set; the first bit is 1.
    fn set(&mut self, count: usize) -> Option<Vec<u64>> {
        let bits = self.take(count)?;
        Some(
            (1..)
                .zip(bits)
                .filter(|(_, bit)| *bit)
                .map(|(number, _)| number)
                .collect(),
        )
    }

    fn ranges(&mut self) -> Option<Vec<(u64, u64)>> {
        let mut ranges = Vec::new();
        for _ in 0..self.number(12)? {
            let range = match self.number(1)? {
                0 => [self.number(16)?; 2],
                _ => [self.number(16)?, self.number(16)?],
            };
            let [first, last] = range;
            if first == 0 || last < first {
                return None;
            }
            ranges.push((first, last));
        }
        Some(ranges)
    }

    fn vendors(&mut self) -> Option<Vec<(u64, u64)>> {
        let greatest = self.number(16)?;
        if self.number(1)? == 0 {
            let set = self.set(usize::try_from(greatest).ok()?)?;
            return Some(set.into_iter().map(|vendor| (vendor, vendor)).collect());
        }
        let ranges = self.ranges()?;
        ranges
            .iter()
            .all(|(_, last)| *last <= greatest)
            .then_some(ranges)
    }

    fn only_zeros_left(&self) -> Option<()> {
        (!self.0[self.1..].contains(&true)).then_some(())
    }

    fn fibonacci(&mut self) -> Option<u64> {
        let mut bits = vec![];
        while bits.len() < 2 || bits[bits.len() - 2..] != [true, true] {
            bits.push(self.number(1)? == 1);
            if bits.len() > 24 {
                return None;
            }
        }
        bits.pop();
        let mut numbers = vec![1, 2];
        while numbers.len() < bits.len() {
            numbers.push(numbers[numbers.len() - 1] + numbers[numbers.len() - 2]);
        }
        Some(
            bits.iter()
                .zip(numbers)
                .filter(|(bit, _)| **bit)
                .map(|(_, number)| number)
                .sum(),
        )
    }
}

fn holds(ranges: &[(u64, u64)], vendor: u64) -> bool {
    ranges
        .iter()
        .any(|(first, last)| *first <= vendor && vendor <= *last)
}

/// Returns what a TC string permits.
pub(super) fn tcf(text: &str, vendor: u16, kind: Kind) -> Permit {
    read(text, u64::from(vendor), kind).unwrap_or(Permit::NONE)
}

/// Returns what a GPP string permits.
pub(super) fn gpp(text: &str, vendor: u16, kind: Kind) -> Permit {
    let section = || {
        let parts: Vec<&str> = text.split('~').collect();
        let mut header = List::of(parts[0])?;
        if header.number(6)? != 3 || header.number(6)? != 1 {
            return None;
        }
        let mut sections = Vec::new();
        let mut last = 0;
        for _ in 0..header.number(12)? {
            let is_group = header.number(1)? == 1;
            let first = last + header.fibonacci()?;
            last = first + if is_group { header.fibonacci()? } else { 0 };
            if sections.len() < parts.len() {
                sections.extend((first..=last).take(parts.len()));
            }
        }
        header.only_zeros_left()?;
        if sections.len() + 1 != parts.len() {
            return None;
        }
        let at = sections.iter().position(|section| *section == 2)?;
        Some(parts[at + 1])
    };
    section().map_or(Permit::NONE, |section| tcf(section, vendor, kind))
}

fn read(text: &str, vendor: u64, kind: Kind) -> Option<Permit> {
    let mut segments = text.split('.');
    let mut core = List::of(segments.next()?)?;
    let version = core.number(6)?;
    core.take(36)?;
    let updated = core.number(36)?;
    core.take(12 + 12 + 6 + 12 + 12)?;
    let policy = core.number(6)?;
    let service_specific = core.number(1)?;
    core.take(1)?;
    let special = core.set(12)?;
    let consents = core.set(24)?;
    let interests = core.set(24)?;
    core.take(13)?;
    let consent_vendors = core.vendors()?;
    let interest_vendors = core.vendors()?;
    let mut restrictions = Vec::new();
    for _ in 0..core.number(12)? {
        let (purpose, restriction) = (core.number(6)?, core.number(2)?);
        if purpose == 0 || purpose > 24 || restriction == 3 {
            return None;
        }
        restrictions.push((purpose, restriction, core.ranges()?));
    }
    core.only_zeros_left()?;
    let mut others = [None, None, None];
    for segment in segments {
        let mut bits = List::of(segment)?;
        let number = bits.number(3)?;
        let slot = others.get_mut(usize::try_from(number).ok()?.checked_sub(1)?)?;
        if slot.is_some() {
            return None;
        }
        *slot = Some(if number == 3 {
            bits.take(48)?;
            let custom = bits.number(6)?;
            bits.take(usize::try_from(2 * custom).ok()?)?;
            vec![]
        } else {
            bits.vendors()?
        });
        bits.only_zeros_left()?;
    }
    if version != 2 || policy < 4 || service_specific == 0 {
        return None;
    }
    // `updated` is in tenths of a second; the date is in seconds.
    let is_due = policy >= 5 || updated / 10 >= 1_772_323_200;
    match &others[0] {
        Some(disclosed) if !holds(disclosed, vendor) => return None,
        None if is_due => return None,
        _ => {}
    }
    let restricted = |purpose: u64, kinds: [u64; 2]| {
        restrictions.iter().any(|(restricted, kind, vendors)| {
            *restricted == purpose && kinds.contains(kind) && holds(vendors, vendor)
        })
    };
    let consent = |purpose: u64| {
        consents.contains(&purpose)
            && holds(&consent_vendors, vendor)
            && !restricted(purpose, [0, 2])
    };
    let interest = |purpose: u64| {
        interests.contains(&purpose)
            && holds(&interest_vendors, vendor)
            && !restricted(purpose, [0, 1])
    };
    let either = |purpose| {
        consent(purpose) || ([2, 7, 8, 9, 10, 11].contains(&purpose) && interest(purpose))
    };
    let some = (2..12).any(either);
    let measured = if matches!(kind, Kind::PageView | Kind::Event) {
        8
    } else {
        7
    };
    let mut permit = Permit::NONE;
    for (holds, flags) in [
        (consent(1), Permit::STORE),
        (either(measured), Permit::MEASURE),
        (consent(3) && consent(4), Permit::PROFILE),
        (consent(1) && some, Permit::MATCH.with(Permit::LINK)),
        (special.contains(&1) && some, Permit::LOCATE),
    ] {
        permit = permit.with(if holds { flags } else { Permit::NONE });
    }
    Some(permit)
}
