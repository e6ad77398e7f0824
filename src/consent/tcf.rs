//! TC strings (IAB Tech Lab, "Consent string and vendor list formats v2", TCF 2.2 and 2.3): what
//! one string says of one vendor, and the permit that follows.
//!
//! A string is read in place, without an allocation, and asked about one vendor only. That is why
//! there is a decoder here: the crate `iab_gpp` 0.1.2 never panicked, but it expands every range of
//! vendors into a set, so a hostile string of 1,148 bytes (200 ranges of 1 to 65,535) took it
//! 0.37 s and one of 7,748 bytes, which fits a parameter, 3.5 s. Here that takes microseconds.
//!
//! # What is not consent
//! Anything that breaks the format: a version other than 2, a character outside base64url, a
//! segment that ends early, has a bit other than zero after its end, is of an unknown type or
//! occurs twice, a range that runs backwards or beyond its greatest ID, a restriction of an unknown
//! type or purpose. Nor is
//!
//! | a string that | because |
//! | --- | --- |
//! | has a TCF policy version below 4 | it was made before TCF 2.2 |
//! | is not service-specific | such strings are invalid since global scope ended |
//! | has a Disclosed Vendors segment that leaves the vendor out | nobody told the visitor of this vendor |
//! | has none, with a policy version of 5 or more, or last updated in March 2026 or later | since TCF 2.3 it has to be there |
//!
//! # Purposes to permit
//! A purpose has consent with its consent bit and the vendor's, legitimate interest likewise;
//! publisher restrictions come first (0 not allowed: neither; 1 require consent: no legitimate
//! interest; 2 require legitimate interest: no consent). Without knowing what the vendor
//! registered, a restriction counts in its narrowest sense. "Some purpose" is any of 2 to 11, by
//! consent or, except for 3 to 6, legitimate interest.
//!
//! | permit | takes |
//! | --- | --- |
//! | `store` | consent to Purpose 1 |
//! | `measure` of an impression, click, callback or sync | Purpose 7, by consent or legitimate interest |
//! | `measure` of a page view or event | Purpose 8, by consent or legitimate interest |
//! | `profile` | consent to Purposes 3 and 4 |
//! | `match`, `link` | `store` and some purpose: Features 1 and 2 need no opt-in, but a feature serves a purpose, and both work on stored IDs |
//! | `locate` | opt-in to Special Feature 1, and some purpose |

use super::bits::Bits;
use crate::hit::{Kind, Permit};

/// The lowest policy version that counts: TCF 2.2.
const POLICY_MIN: u64 = 4;
/// The policy version from which the Disclosed Vendors segment is required: TCF 2.3.
const POLICY_DISCLOSED: u64 = 5;
/// 2026-03-01T00:00:00Z in tenths of a second: later strings must have that segment.
const DISCLOSED_SINCE: u64 = 17_723_232_000;
/// The number of purposes that a string has bits for.
const PURPOSES: u64 = 24;

/// What a valid TC string says of one vendor. Purposes are bits, the first the highest of 24.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VendorConsent {
    pub(super) consents: u32,
    pub(super) interests: u32,
    /// Bit 11 is Special Feature 1.
    pub(super) special_features: u16,
}

/// Returns the permit of a hit of `kind`.
pub(super) fn permit(vendor: VendorConsent, kind: Kind) -> Permit {
    let consents = |purpose| has(vendor.consents, purpose);
    let permits = |purpose| consents(purpose) || has(vendor.interests & !CONSENT_ONLY, purpose);
    let serves = vendor.consents & SERVING != 0 || vendor.interests & SERVING & !CONSENT_ONLY != 0;
    let measured = match kind {
        Kind::PageView | Kind::Event => 8,
        Kind::Impression | Kind::Click | Kind::Callback | Kind::Sync => 7,
        Kind::Withdrawal | Kind::Erasure => return Permit::NONE,
    };
    let mut permit = Permit::NONE;
    for (flag, holds) in [
        (Permit::STORE, consents(1)),
        (Permit::MEASURE, permits(measured)),
        (Permit::PROFILE, consents(3) && consents(4)),
        (Permit::MATCH, consents(1) && serves),
        (Permit::LINK, consents(1) && serves),
        (Permit::LOCATE, vendor.special_features >> 11 == 1 && serves),
    ] {
        if holds {
            permit = permit.with(flag);
        }
    }
    permit
}

/// The purposes that ads and measuring serve, as a string has them.
const SERVING: u32 = purposes_of(2, 11);
/// The purposes for which consent alone counts.
const CONSENT_ONLY: u32 = purposes_of(3, 6);

/// Returns the bits of consecutive purposes.
const fn purposes_of(first: u32, last: u32) -> u32 {
    let (mut all, mut purpose) = (0, first);
    while purpose <= last {
        all |= 1 << (24 - purpose);
        purpose += 1;
    }
    all
}

fn has(purposes: u32, purpose: u32) -> bool {
    purposes >> (24 - purpose) & 1 == 1
}

/// Reads a TC string for one vendor; `None` where it is not consent, for whatever reason.
pub(super) fn read(text: &str, vendor: u16) -> Option<VendorConsent> {
    let mut segments = text.split('.');
    let core = core(Bits::new(segments.next()?)?, vendor)?;
    let mut seen = 0_u8;
    let mut disclosed = None;
    for segment in segments {
        let mut bits = Bits::new(segment)?;
        let kind = bits.number(3)?;
        if seen & 1 << kind != 0 {
            return None;
        }
        seen |= 1 << kind;
        match kind {
            1 => disclosed = Some(vendors(&mut bits, vendor)?),
            2 => drop(vendors(&mut bits, vendor)?),
            3 => publisher(&mut bits)?,
            _ => return None,
        }
        bits.ends()?;
    }
    disclosed
        .unwrap_or(!core.needs_disclosed)
        .then_some(core.vendor)
}

struct Core {
    vendor: VendorConsent,
    needs_disclosed: bool,
}

fn core(mut bits: Bits<'_>, vendor: u16) -> Option<Core> {
    if bits.number(6)? != 2 {
        return None;
    }
    let _created = bits.number(36)?;
    let updated = bits.number(36)?;
    // The consent platform with its version and screen, the language, the vendor list's version.
    bits.skip(12 + 12 + 6 + 12 + 12)?;
    let policy = bits.number(6)?;
    let service_specific = bits.flag()?;
    let _non_standard_texts = bits.flag()?;
    if policy < POLICY_MIN || !service_specific {
        return None;
    }
    let special_features = bits.short(12)?;
    let mut consents = purposes(&mut bits)?;
    let mut interests = purposes(&mut bits)?;
    // Purpose 1 treatment and the publisher's country.
    bits.skip(1 + 12)?;
    if !vendors(&mut bits, vendor)? {
        consents = 0;
    }
    if !vendors(&mut bits, vendor)? {
        interests = 0;
    }
    for _ in 0..bits.number(12)? {
        let purpose = bits.number(6)?;
        let kind = bits.number(2)?;
        if !(1..=PURPOSES).contains(&purpose) {
            return None;
        }
        let others = !(1 << (PURPOSES - purpose));
        let restricted = ranges(&mut bits, vendor, u16::MAX)?;
        let (keeps_consent, keeps_interest) = match kind {
            0 => (false, false),
            1 => (true, false),
            2 => (false, true),
            _ => return None,
        };
        if restricted && !keeps_consent {
            consents &= others;
        }
        if restricted && !keeps_interest {
            interests &= others;
        }
    }
    bits.ends()?;
    Some(Core {
        vendor: VendorConsent {
            consents,
            interests,
            special_features,
        },
        needs_disclosed: policy >= POLICY_DISCLOSED || updated >= DISCLOSED_SINCE,
    })
}

fn purposes(bits: &mut Bits<'_>) -> Option<u32> {
    bits.number(24)?.try_into().ok()
}

/// Reads a set of vendors, a field of bits or ranges, and checks whether `vendor` is in it.
fn vendors(bits: &mut Bits<'_>, vendor: u16) -> Option<bool> {
    let greatest = bits.short(16)?;
    if bits.flag()? {
        return ranges(bits, vendor, greatest);
    }
    if vendor == 0 || vendor > greatest {
        bits.skip(greatest.into())?;
        return Some(false);
    }
    bits.skip(usize::from(vendor) - 1)?;
    let named = bits.flag()?;
    bits.skip(usize::from(greatest - vendor))?;
    Some(named)
}

fn ranges(bits: &mut Bits<'_>, vendor: u16, greatest: u16) -> Option<bool> {
    let mut named = false;
    for _ in 0..bits.number(12)? {
        let is_range = bits.flag()?;
        let start = bits.short(16)?;
        let end = if is_range { bits.short(16)? } else { start };
        if start == 0 || end < start || end > greatest {
            return None;
        }
        named |= (start..=end).contains(&vendor);
    }
    Some(named)
}

/// Reads the publisher's own purposes, which do not concern us, to check that they are complete.
fn publisher(bits: &mut Bits<'_>) -> Option<()> {
    bits.skip(24 + 24)?;
    let custom = usize::from(bits.short(6)?);
    bits.skip(2 * custom)
}
