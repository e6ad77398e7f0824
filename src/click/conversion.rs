//! Pixels of conversions that a site's own server signed. Pure.
//!
//! `/p.gif?k=1&exp=1800000000&site=shop&e=conversion&id=order-4711&value=899&sig=…&avclid=…`
//!
//! A pixel is public, so anyone can send a conversion. A signature says that it is the site's own
//! word. It is made as that of a click URL ([`crate::click`]), over `avtryck conversion 1`, a line
//! feed and the query string before `&sig=`, and covers at least
//!
//! - `site`, `e=conversion` and `id`, as plain text: what follows the signature can add to a
//!   conversion and replaces nothing of it, because the first of a repeated parameter counts;
//! - `exp`, the second since 1970 from which it no longer holds, at most [`VALID_SECONDS_MAX`] from
//!   now: an event ID is remembered for as long, so that a signed conversion counts once, whoever
//!   sends it again.

use super::split_signature;
use crate::clock::UnixMicros;
use crate::hit::CONVERSION;
use crate::keys::{ClickKeyring, Purpose};
use crate::request::{raw_value, unescape_separators};

/// How far the end of a signature may be from now, in seconds: seven days.
pub const VALID_SECONDS_MAX: i64 = 7 * 86_400;

/// Checks whether the address of a conversion's pixel is signed for that site.
#[must_use]
pub(crate) fn is_signed_conversion(
    query: &str,
    keyring: &ClickKeyring,
    site: &str,
    now: UnixMicros,
) -> bool {
    let query = unescape_separators(query);
    let Some(parts @ (signed, _)) = split_signature(&query) else {
        return false;
    };
    let value = |name| raw_value(signed, name);
    let end: Option<i64> = value("exp").and_then(|text| text.parse().ok());
    let seconds_left = end.and_then(|end| end.checked_sub(now.seconds()));
    seconds_left.is_some_and(|seconds| (1..=VALID_SECONDS_MAX).contains(&seconds))
        && value("site") == Some(site)
        && value("e") == Some(CONVERSION)
        && value("id").is_some_and(|id| !id.is_empty())
        && keyring.verifies(Purpose::Conversion, parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);
    const WHOLE: &str = "exp=1800086400&site=shop&e=conversion&id=order-1&value=899";

    fn keyring() -> ClickKeyring {
        ClickKeyring::new([(3, [3; 32].as_slice())])
    }

    fn sign(purpose: Purpose, rest: &str) -> String {
        keyring().sign_for(purpose, rest).expect("a key")
    }

    fn holds(query: &str) -> bool {
        is_signed_conversion(query, &keyring(), "shop", NOW)
    }

    #[test]
    fn a_signature_covers_the_conversion_and_what_follows_only_adds() {
        let signed = sign(Purpose::Conversion, WHOLE);
        assert!(holds(&signed));
        assert!(holds(&format!("{signed}&avclid=k1&id=order-2&site=other")));
        assert!(holds(&signed.replace('&', "&amp;")));
        for (from, to) in [
            ("order-1", "order-2"),
            ("value=899", "value=9999"),
            ("site=shop", "site=other"),
            ("k=3", "k=4"),
            ("exp=1800086400", "exp=1800086401"),
            ("&sig=", "&sigh="),
            ("k=3&", "avclid=k1&k=3&"),
        ] {
            assert!(!holds(&signed.replacen(from, to, 1)), "{to}");
        }
        assert!(!holds("") && !holds("&sig=") && !holds(WHOLE));
    }

    #[test]
    fn a_signature_without_what_it_must_cover_is_none() {
        for rest in [
            "exp=1800086400&e=conversion&id=order-1",
            "exp=1800086400&site=other&e=conversion&id=order-1",
            "exp=1800086400&site=shop&id=order-1",
            "exp=1800086400&site=shop&e=refund&id=order-1",
            "exp=1800086400&site=shop&e=conversion",
            "exp=1800086400&site=shop&e=conversion&id=",
            "site=shop&e=conversion&id=order-1",
            // It is over, or holds for longer than an event ID is remembered.
            "exp=1800000000&site=shop&e=conversion&id=order-1",
            "exp=1800604801&site=shop&e=conversion&id=order-1",
            "exp=9223372036854775807&site=shop&e=conversion&id=order-1",
            "exp=-9223372036854775808&site=shop&e=conversion&id=order-1",
            "exp=never&site=shop&e=conversion&id=order-1",
        ] {
            let signed = sign(Purpose::Conversion, rest);
            assert!(!holds(&signed), "{rest}");
            assert!(!holds(&format!(
                "{signed}&site=shop&e=conversion&id=1&exp=1800086400"
            )));
        }
        assert!(holds(&sign(
            Purpose::Conversion,
            "exp=1800604800&site=shop&e=conversion&id=order-1"
        )));
    }

    #[test]
    fn the_signature_of_a_click_is_not_that_of_a_conversion() {
        assert!(!holds(&sign(Purpose::Click, WHOLE)));
        let target = format!("{WHOLE}&to=https%3A%2F%2Fshop.example%2F");
        let click = |purpose| {
            let query = sign(purpose, &target);
            crate::click::target(&query, &keyring(), &[], NOW).is_ok()
        };
        assert!(click(Purpose::Click) && !click(Purpose::Conversion));
    }

    #[test]
    fn the_signature_is_the_one_that_the_documentation_tells_to_make() {
        // printf 'avtryck conversion 1\n%s' "k=3&$WHOLE" | openssl dgst -sha256 -mac HMAC \
        //   -macopt "hexkey:$(printf '03%.0s' $(seq 32))" -binary | basenc --base64url
        let signed = sign(Purpose::Conversion, WHOLE);
        assert_eq!(
            signed,
            format!("k=3&{WHOLE}&sig=msqj6eXCJiW-RshNDlchTcikBbqDoHvN32929fMZNko")
        );
    }
}
