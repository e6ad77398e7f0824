//! The visitor's own choice, as its cookie has it.

use crate::hit::Permit;

/// Reads the value of a choice cookie: names of flags joined by dots, or `none`.
///
/// A name that is not a flag permits nothing, and the flags beside it count: a later version may
/// know it. A value that is anything but such names was not written by us and is not understood;
/// it permits nothing at all, as `none` does.
#[must_use]
pub fn parse_choice(value: &[u8]) -> Permit {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let mut permit = Permit::NONE;
    for word in value.split(|byte| *byte == b'.') {
        let word = str::from_utf8(word).unwrap_or_default();
        if word.is_empty() || word == "none" || !word.as_bytes().iter().all(is_letter) {
            return Permit::NONE;
        }
        permit = Permit::from_name(word).map_or(permit, |flag| permit.with(flag));
    }
    permit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_that_is_not_understood_permits_nothing() {
        let both = Permit::STORE.with(Permit::MEASURE);
        for (value, permit) in [
            (&b"store.measure"[..], both),
            (b"measure.store.store", both),
            (b"store.measure.fly-to_mars2", both),
            (b"none", Permit::NONE),
            (b"analytics", Permit::NONE),
            (b"", Permit::NONE),
            (b"store.none", Permit::NONE),
            (b"store.measure.", Permit::NONE),
            (b"store..measure", Permit::NONE),
            (b"store measure", Permit::NONE),
            (b"store%2Emeasure", Permit::NONE),
            (b"store.measure\xff", Permit::NONE),
            (b"\"store.measure", Permit::NONE),
            (b"[store.measure]", Permit::NONE),
            (b"STORE", Permit::NONE),
        ] {
            let text = String::from_utf8_lossy(value);
            assert_eq!(parse_choice(value), permit, "{text}");
        }
    }
}
