//! The decision table: signals -> permit.

use super::{Signals, Strings, gpp, tcf};
use crate::hit::limits::URI_BYTES_MAX;
use crate::hit::{ConsentSource, Kind, Permit};

/// What Global Privacy Control takes from a consent that was given to the site itself.
pub(super) const SALE: Permit = Permit::PROFILE.with(Permit::MATCH).with(Permit::LINK);

/// What a site or partner says of the consent of its hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PermitRules {
    /// The vendor of the Global Vendor List that strings are asked about.
    pub gvl_id: Option<u16>,
    /// What is allowed where the visitor said nothing.
    pub default_permit: Permit,
    /// What is allowed with `gdpr=0`; where empty, `gdpr=0` changes nothing.
    pub gdpr_0_permit: Permit,
}

/// Decides what the signals of one request allow to a hit of `kind`, and which signal decided.
#[must_use]
pub fn decide(
    signals: &Signals<'_>,
    rules: &PermitRules,
    kind: Kind,
    strings: &Strings,
) -> (Permit, ConsentSource) {
    if signals.is_unclear {
        return (Permit::NONE, ConsentSource::Unclear);
    }
    let sale = if signals.gpc { SALE } else { Permit::NONE };
    let choice = signals.choice;
    let outside = rules.gdpr_0_permit != Permit::NONE && signals.gdpr.as_deref() == Some("0");
    let by_string = if outside {
        None
    } else {
        permit_by_string(signals, rules, kind, strings)
    };
    match (by_string, choice) {
        (Some((permit, source)), None) => (permit.without(sale), source),
        (Some((permit, source)), Some(choice)) => {
            let both = permit.and(choice);
            let source = if both == permit {
                source
            } else {
                ConsentSource::Choice
            };
            (both.without(sale), source)
        }
        (None, Some(choice)) => (choice.without(sale), ConsentSource::Choice),
        (None, None) if signals.gpc => (Permit::NONE, ConsentSource::Gpc),
        (None, None) if outside => (rules.gdpr_0_permit, ConsentSource::Gdpr0),
        (None, None) => (rules.default_permit, ConsentSource::Default),
    }
}

/// Decides what both the rules of a site and those of a partner allow. The signal is the one that
/// decided by the narrower rules.
#[must_use]
pub(crate) fn decide_by_both(
    signals: &Signals<'_>,
    (site, partner): (&PermitRules, &PermitRules),
    kind: Kind,
    strings: &Strings,
) -> (Permit, ConsentSource) {
    let (of_site, site_source) = decide(signals, site, kind, strings);
    let (of_partner, partner_source) = decide(signals, partner, kind, strings);
    let both = of_site.and(of_partner);
    let source = if both == of_partner {
        partner_source
    } else {
        site_source
    };
    (both, source)
}

/// Decides rows 2 to 4: what a string permits, where there is one or ought to be.
fn permit_by_string(
    signals: &Signals<'_>,
    rules: &PermitRules,
    kind: Kind,
    strings: &Strings,
) -> Option<(Permit, ConsentSource)> {
    let permit = |tc_string: Option<&str>| {
        // A string that fills the parameter may have been cut.
        let whole = tc_string.filter(|text| text.len() < URI_BYTES_MAX);
        whole
            .zip(rules.gvl_id)
            .and_then(|(text, vendor)| strings.read(text, vendor))
            .map_or(Permit::NONE, |vendor| tcf::permit(vendor, kind))
    };
    let tcf = signals.tcf.as_deref();
    let gpp = signals.gpp.as_deref();
    if let Some(text) = tcf.filter(|text| !text.is_empty()) {
        return Some((permit(Some(text)), ConsentSource::Tcf));
    }
    if let Some(text) = gpp.filter(|text| !text.is_empty()) {
        let in_force = signals.gpp_sid.as_deref().unwrap_or_default();
        let section = gpp::eu_section(text, in_force);
        return Some((permit(section), ConsentSource::Gpp));
    }
    let asks = signals.gdpr.as_deref().is_some_and(|gdpr| gdpr != "0");
    if tcf.is_some() || asks {
        return Some((Permit::NONE, ConsentSource::Tcf));
    }
    // The section in force without its string says that there is one.
    let in_force = signals.gpp_sid.as_deref();
    let is_other = in_force.is_none_or(gpp::names_others_alone);
    (gpp.is_some() || !is_other).then_some((Permit::NONE, ConsentSource::Gpp))
}
