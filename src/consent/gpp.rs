//! GPP strings (IAB Tech Lab, "Global Privacy Platform", version 1): the one section that matters
//! here, number 2, TCF for the EU. Its text is a TC string.
//!
//! A header names the sections, which follow it, separated by `~`. Other sections (of a state of
//! the USA, of Canada) give no permit, and a string without section 2 is not consent.

use super::bits::Bits;

/// The section of the EU's TCF.
const EU: u64 = 2;
/// The bits of the longest Fibonacci number that is read: section numbers are far smaller.
const FIBONACCI_BITS_MAX: u32 = 24;

/// Returns the text of section 2; `None` where there is none, where `sections_in_force` (`gpp_sid`)
/// does not name it, or where the string breaks the format.
pub(super) fn eu_section<'t>(text: &'t str, sections_in_force: &str) -> Option<&'t str> {
    // JSON may give a list; an absent value leaves the section in force, as a missing `gdpr` does.
    let in_force = sections_in_force.trim_matches(['[', ']']);
    if !in_force.is_empty() && !in_force.split(',').any(|id| id.trim() == "2") {
        return None;
    }
    let mut parts = text.split('~');
    let (before, count) = header(Bits::new(parts.next()?)?)?;
    let sections = parts.clone().count();
    (sections as u64 == count).then_some(())?;
    parts.nth(before)
}

/// Returns whether `gpp_sid` names sections of which none is the EU's. What is no list of numbers
/// is not understood, and may have meant that one.
pub(super) fn names_others_alone(sections_in_force: &str) -> bool {
    let is_other = |id: &str| {
        let id = id.trim().parse::<i32>();
        id.is_ok_and(|id| u64::try_from(id) != Ok(EU))
    };
    let sections = sections_in_force.trim_matches(['[', ']']);
    sections.split(',').all(is_other)
}

/// Reads how many sections come before number 2, and how many there are in all.
fn header(mut bits: Bits<'_>) -> Option<(usize, u64)> {
    if bits.number(6)? != 3 || bits.number(6)? != 1 {
        return None;
    }
    let mut place = None;
    let mut count = 0_u64;
    let mut last = 0_u64;
    for _ in 0..bits.number(12)? {
        let is_group = bits.flag()?;
        let first = last + fibonacci(&mut bits)?;
        last = first;
        if is_group {
            last += fibonacci(&mut bits)?;
        }
        if (first..=last).contains(&EU) {
            place = Some(count + EU - first);
        }
        count += last - first + 1;
    }
    bits.ends()?;
    Some((place?.try_into().ok()?, count))
}

/// Reads a number that is a sum of Fibonacci numbers (1, 2, 3, 5, …), the smallest first; two ones
/// end it.
fn fibonacci(bits: &mut Bits<'_>) -> Option<u64> {
    let (mut here, mut next) = (1, 2);
    let mut number = 0;
    let mut was_one = false;
    for _ in 0..FIBONACCI_BITS_MAX {
        let is_one = bits.flag()?;
        if is_one && was_one {
            return Some(number);
        }
        if is_one {
            number += here;
        }
        was_one = is_one;
        (here, next) = (next, here + next);
    }
    None
}
