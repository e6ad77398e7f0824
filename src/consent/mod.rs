//! Consent signals -> [`Permit`]; and what is not permitted leaves the hit here, before the spool.
//! Pure.
//!
//! # Signals to permit
//! The first row that applies decides.
//!
//! | signal | permit | source |
//! | --- | --- | --- |
//! | `gdpr_consent` is there, in whatever form | none: TC strings are not decoded yet, and one that nobody reads is no consent | `tcf` |
//! | `gpp` is there | none, for the same reason | `gpp` |
//! | `gdpr=1` without a string | none: a missing string is no consent | `tcf` |
//! | the choice cookie, and no `Sec-GPC` | exactly the flags that it names | `choice` |
//! | the choice cookie and `Sec-GPC: 1` | the same less `profile`, `match`, `link`: the choice was made here, but it sells nothing | `choice` |
//! | `Sec-GPC: 1` | none: no default outweighs a visitor's objection | `gpc` |
//! | nothing | the site's `default_permit` | `default` |
//!
//! `gdpr=0` changes nothing: a parameter can't take a visitor out of the law. A choice cookie with
//! an unknown flag keeps the flags that are known.
//!
//! # What a missing flag removes
//! | without | leaves the hit |
//! | --- | --- |
//! | `measure` | all but the time's minute, site, kind, partner, campaign, creative, placement and publisher: the hit becomes a count |
//! | `store` | the visitor cookie is neither read nor set; no visitor, partner or device ID |
//! | `locate` | place finer than the region (taken away after the lookup, [`crate::row::Place::coarse`]) |
//! | `profile`, `match`, `link` | nothing here; what does these things looks at the row's permit |

use std::borrow::Cow;

use crate::clock::UnixMicros;
use crate::hit::{ConsentSource, Hit, Permit};
use crate::request::Signals;

/// What Global Privacy Control takes from a choice that was made on the site itself.
const SALE: Permit = Permit::PROFILE.with(Permit::MATCH).with(Permit::LINK);

/// Decides what the signals of one request allow.
#[must_use]
pub fn decide(signals: &Signals<'_>, default: Permit) -> (Permit, ConsentSource) {
    if signals.tcf.is_some() {
        return (Permit::NONE, ConsentSource::Tcf);
    }
    if signals.gpp.is_some() {
        return (Permit::NONE, ConsentSource::Gpp);
    }
    if signals.gdpr.as_deref() == Some("1") {
        return (Permit::NONE, ConsentSource::Tcf);
    }
    match (signals.choice.map(choice), signals.gpc) {
        (Some(permit), false) => (permit, ConsentSource::Choice),
        (Some(permit), true) => (permit.without(SALE), ConsentSource::Choice),
        (None, true) => (Permit::NONE, ConsentSource::Gpc),
        (None, false) => (default, ConsentSource::Default),
    }
}

/// Reads the choice cookie's value: names of flags joined by dots, or `none`.
fn choice(value: &str) -> Permit {
    value
        .split('.')
        .filter_map(Permit::named)
        .fold(Permit::NONE, Permit::with)
}

/// Takes from the hit what its permit does not allow.
pub fn strip(hit: &mut Hit<'_>) {
    if !hit.permit.allows(Permit::MEASURE) {
        let minute = hit.received_at.seconds().div_euclid(60) * 60_000_000;
        *hit = Hit {
            permit: hit.permit,
            consent_source: hit.consent_source,
            partner: std::mem::take(&mut hit.partner),
            campaign: std::mem::take(&mut hit.campaign),
            creative: std::mem::take(&mut hit.creative),
            placement: std::mem::take(&mut hit.placement),
            publisher: std::mem::take(&mut hit.publisher),
            ..Hit::new(UnixMicros(minute), hit.kind, std::mem::take(&mut hit.site))
        };
    }
    if !hit.permit.allows(Permit::STORE) {
        hit.visitor = None;
        hit.partner_uid = Cow::Borrowed("");
        hit.maid = Cow::Borrowed("");
        hit.device_id = Cow::Borrowed("");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hit::{Flags, Kind, VisitorId};

    fn full() -> Hit<'static> {
        let mut hit = Hit::new(UnixMicros(1_700_000_012_345_678), Kind::Impression, "site");
        for text in [
            &mut hit.user_agent,
            &mut hit.page_url,
            &mut hit.referrer,
            &mut hit.event_name,
            &mut hit.event_id,
            &mut hit.partner_uid,
            &mut hit.maid,
            &mut hit.device_id,
            &mut hit.category,
            &mut hit.params,
            &mut hit.hints.model,
            &mut hit.hints.brands,
        ] {
            *text = Cow::Borrowed("telltale");
        }
        hit.partner = Cow::Borrowed("network");
        hit.campaign = Cow::Borrowed("spring");
        hit.client_ip = Some([192, 0, 2, 1].into());
        hit.visitor = Some(VisitorId(*b"telltaletelltale"));
        hit.flags = Flags::NEW_VISITOR;
        hit.permit = Permit::ALL;
        hit
    }

    #[test]
    fn each_row_of_the_decision_table_holds() {
        let default = Permit::STORE.with(Permit::MEASURE);
        let all = "store.measure.profile.match.link.locate";
        let of = |gdpr: Option<&'static str>, tcf: Option<&'static str>, gpp, choice, gpc| {
            let signals = Signals {
                gdpr: gdpr.map(Cow::Borrowed),
                tcf: tcf.map(Cow::Borrowed),
                gpp: Option::<&str>::map(gpp, Cow::Borrowed),
                gpc,
                choice,
            };
            decide(&signals, default)
        };
        use ConsentSource::{Choice, Default, Gpc, Gpp, Tcf};
        for (got, permit, source) in [
            (of(None, None, None, None, false), default, Default),
            (of(Some("0"), None, None, None, false), default, Default),
            (of(Some("0"), None, None, None, true), Permit::NONE, Gpc),
            (of(Some("1"), None, None, None, false), Permit::NONE, Tcf),
            (
                of(Some("1"), None, None, Some(all), false),
                Permit::NONE,
                Tcf,
            ),
            (
                of(None, Some("CPx"), None, Some(all), false),
                Permit::NONE,
                Tcf,
            ),
            (of(None, Some(""), None, None, false), Permit::NONE, Tcf),
            (
                of(None, None, Some("DBABMA"), Some(all), false),
                Permit::NONE,
                Gpp,
            ),
            (of(None, None, None, None, true), Permit::NONE, Gpc),
            (of(None, None, None, Some(all), false), Permit::ALL, Choice),
            (
                of(None, None, None, Some(all), true),
                Permit::ALL.without(SALE),
                Choice,
            ),
            (
                of(None, None, None, Some("none"), false),
                Permit::NONE,
                Choice,
            ),
            (of(None, None, None, Some(""), false), Permit::NONE, Choice),
            (
                of(None, None, None, Some("none"), true),
                Permit::NONE,
                Choice,
            ),
            (
                of(None, None, None, Some("measure.everything"), false),
                Permit::MEASURE,
                Choice,
            ),
        ] {
            assert_eq!(got, (permit, source));
        }
    }

    #[test]
    fn without_measure_only_what_a_count_holds_is_left() {
        let mut hit = full();
        hit.permit = Permit::ALL.without(Permit::MEASURE);
        strip(&mut hit);
        let mut bytes = Vec::new();
        hit.encode(&mut bytes);
        assert!(!String::from_utf8_lossy(&bytes).contains("telltale"));
        assert_eq!(hit.client_ip, None);
        assert_eq!(hit.flags, Flags::default());
        assert_eq!(hit.received_at, UnixMicros(1_699_999_980_000_000));
        assert_eq!((&*hit.partner, &*hit.campaign), ("network", "spring"));
    }

    #[test]
    fn without_store_the_ids_are_gone_and_the_rest_stays() {
        let mut hit = full();
        hit.permit = Permit::MEASURE;
        strip(&mut hit);
        assert_eq!(hit.visitor, None);
        assert_eq!(
            (&*hit.partner_uid, &*hit.maid, &*hit.device_id),
            ("", "", "")
        );
        assert_eq!(&*hit.page_url, "telltale");
    }
}
