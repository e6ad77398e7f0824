//! Values that are no ID of one device, though their form is right.
//!
//! What programs write where they know no ID never gets into a hit (`protocol::absent` has the
//! tables). What is left here looks like an ID, and would make one device of many: a text of one
//! character, one that is too short to be anybody's alone, and a MAID that is no UUID.

use uuid::Uuid;

/// The fewest characters of a device's ID or a partner's: of shorter ones there are too few.
const CHARACTERS_MIN: usize = 8;

/// Checks whether a text may be a mobile advertising ID.
pub(super) fn may_be_maid(maid: &str) -> bool {
    maid.len() == uuid::fmt::Hyphenated::LENGTH
        && Uuid::try_parse(maid).is_ok()
        && !is_uniform(maid)
}

/// Checks whether a text may be a device's ID, or a partner's.
pub(super) fn may_be_device(id: &str) -> bool {
    let is_long = id.len() >= CHARACTERS_MIN && id.chars().nth(CHARACTERS_MIN - 1).is_some();
    is_long && !is_uniform(id)
}

/// Checks whether a text is one character again and again, in either case, whatever separates it.
fn is_uniform(id: &str) -> bool {
    let mut letters = id.bytes().filter(u8::is_ascii_alphanumeric);
    let Some(first) = letters.next() else {
        return id.is_ascii();
    };
    letters.all(|letter| letter.eq_ignore_ascii_case(&first)) && id.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maid_is_a_uuid_that_is_not_one_digit_again_and_again() {
        for (maid, is_one) in [
            ("38400000-8cf0-11bd-b23e-10b96e40000d", true),
            ("38400000-8CF0-11BD-B23E-10B96E40000D", true),
            ("384000008cf011bdb23e10b96e40000d", false),
            ("{38400000-8cf0-11bd-b23e-10b96e40000d}", false),
            ("38400000-8cf0-11bd-b23e-10b96e40000g", false),
            ("11111111-1111-1111-1111-111111111111", false),
            ("aaaaaaaa-AAAA-aaaa-AAAA-aaaaaaaaaaaa", false),
            ("", false),
            ("device-1", false),
        ] {
            assert_eq!(may_be_maid(maid), is_one, "{maid}");
        }
    }

    #[test]
    fn an_id_of_a_device_has_eight_characters_and_two_that_differ() {
        for (id, is_one) in [
            ("a1b2c3d4", true),
            ("a1b2c3d", false),
            // Characters count, and not bytes.
            ("ååååååå", false),
            ("åäöåäöåä", true),
            ("77777777", false),
            ("7777-7777-7777", false),
            ("xX:xX:xX:xX", false),
            ("--------", false),
            ("77777778", true),
            ("", false),
        ] {
            assert_eq!(may_be_device(id), is_one, "{id}");
        }
    }
}
