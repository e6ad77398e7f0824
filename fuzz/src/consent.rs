//! Consent signals -> the permit, judged by a reader that shares nothing with the one under test.

use std::borrow::Cow;
use std::sync::OnceLock;

use avtryck::consent::{PermitRules, Signals, Strings, decide, parse_choice};
use avtryck::hit::limits::URI_BYTES_MAX;
use avtryck::hit::{Kind, Permit};

#[path = "../../src/consent/tests/reference.rs"]
mod reference;

const VENDOR: u16 = 2;
const SALE: Permit = Permit::PROFILE.with(Permit::MATCH).with(Permit::LINK);
const RULES: PermitRules = PermitRules {
    gvl_id: Some(VENDOR),
    default_permit: Permit::STORE.with(Permit::MEASURE),
    gdpr_0_permit: Permit::NONE,
};

/// `gdpr`, `gdpr_consent`, `gpp`, `gpp_sid` and the choice cookie, a line each; `-` for one that is
/// not there.
pub fn consent(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let mut next = || lines.next().filter(|line| *line != "-");
    let [gdpr, tcf, gpp, gpp_sid] = [next(), next(), next(), next()];
    let choice = next();
    let signals = Signals {
        is_unclear: false,
        gdpr: gdpr.map(Cow::Borrowed),
        tcf: tcf.map(Cow::Borrowed),
        gpp: gpp.map(Cow::Borrowed),
        gpp_sid: gpp_sid.map(Cow::Borrowed),
        gpc: false,
        choice: choice.map(|value| parse_choice(value.as_bytes())),
    };
    for kind in [Kind::PageView, Kind::Click] {
        by_reference(&signals, kind);
        narrows(&signals, choice, kind);
    }
}

fn permit(signals: &Signals<'_>, rules: &PermitRules, kind: Kind) -> Permit {
    // What was read before is remembered, and must be what it is when read anew.
    static STRINGS: OnceLock<Strings> = OnceLock::new();
    decide(signals, rules, kind, STRINGS.get_or_init(Strings::default)).0
}

/// A string permits just what the naive reader finds in it.
fn by_reference(signals: &Signals<'_>, kind: Kind) {
    let is_read = |text: &&str| !text.is_empty() && text.len() < URI_BYTES_MAX;
    if let Some(text) = signals.tcf.as_deref().filter(is_read) {
        let alone = Signals {
            tcf: Some(Cow::Borrowed(text)),
            ..Signals::default()
        };
        let expected = reference::tcf(text, VENDOR, kind);
        assert_eq!(permit(&alone, &RULES, kind), expected, "{text:?}");
    }
    if let Some(text) = signals.gpp.as_deref().filter(is_read) {
        let alone = Signals {
            gpp: Some(Cow::Borrowed(text)),
            ..Signals::default()
        };
        let expected = reference::gpp(text, VENDOR, kind);
        assert_eq!(permit(&alone, &RULES, kind), expected, "{text:?}");
    }
}

/// A choice, GPC and a sender who asks take away and never add.
fn narrows(signals: &Signals<'_>, choice: Option<&str>, kind: Kind) {
    let trusting = PermitRules {
        gdpr_0_permit: Permit::ALL.without(Permit::LOCATE),
        ..RULES
    };
    for rules in [&RULES, &trusting] {
        let told = permit(signals, rules, kind);
        let mut more = signals.clone();
        more.gpc = true;
        let objected = permit(&more, rules, kind);
        assert!(told.without(SALE).allows(objected), "{told} {objected}");
        if let Some(choice) = choice {
            let unnamed = Permit::NAMED
                .iter()
                .filter(|(name, _)| !choice.split('.').any(|word| word == *name));
            for (_, flag) in unnamed {
                assert!(!told.allows(*flag), "{choice:?} gave {told}");
            }
        }
        // Where a string belongs, nobody but a string permits anything.
        if signals.tcf.is_some() || signals.gpp.is_some() {
            let asked = Signals {
                gdpr: Some(Cow::Borrowed("1")),
                choice: None,
                ..signals.clone()
            };
            let unnamed = PermitRules {
                gvl_id: None,
                ..*rules
            };
            assert_eq!(permit(&asked, &unnamed, kind), Permit::NONE);
        }
    }
}
