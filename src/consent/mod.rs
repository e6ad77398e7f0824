//! Consent signals -> [`Permit`]; and what is not permitted leaves the hit here, before the spool.
//! Pure; strings that were read are remembered ([`Strings`]).
//!
//! # Signals to permit
//! The row is the first that applies, the column what else came with it. `GPC` is the header
//! `Sec-GPC: 1`, the choice is the cookie that `/consent` or the tag sets.
//!
//! | | what is said of the visitor | alone | with GPC | with a choice | with both |
//! | --- | --- | --- | --- | --- | --- |
//! | 1 | `gdpr=0`, where `gdpr_0_permit` is not empty | `gdpr_0_permit` (`gdpr_0`) | none (`gpc`) | the choice (`choice`) | the choice less the sale (`choice`) |
//! | 2 | `gdpr_consent` | what the TC string permits (`tcf`) | that less the sale (`tcf`) | what string and choice both permit | that less the sale |
//! | 3 | `gpp` | what the TC string of its section 2 permits (`gpp`) | that less the sale (`gpp`) | what string and choice both permit | that less the sale |
//! | 4 | one of the two without a value, or any `gdpr` but 0 without a string | none (`tcf`; `gpp` where only that came) | none | none | none |
//! | 5 | nothing, or `gdpr=0` that does not count | `default_permit` (`default`) | none (`gpc`) | the choice (`choice`) | the choice less the sale (`choice`) |
//!
//! - In brackets stands the signal that the row in Postgres names as `consent_source`. In rows 2 and 3 it
//!   is `choice` where the choice took away something that the string permits.
//! - **The sale** is `profile`, `match` and `link`. A consent or a choice was given to this site,
//!   which GPC does not revoke; but GPC says that nothing may be sold or shared. Where nobody asked the
//!   visitor (rows 1 and 5), GPC is an objection and outweighs any default.
//! - **A choice beside a string narrows it**: who withdrew on this site stays out whatever a consent
//!   platform, which has not heard of it, still sends.
//! - **`gdpr=0`** is the sender's word, and a parameter cannot take a visitor out of the law. It counts
//!   where the configuration says what such a hit may do; then strings beside it are not read. Else it
//!   is as if it were not there.
//! - **Whose rules**: a hit that names a partner is judged by the `[[partner]]`, any other by its `[[site]]`:
//!   `gvl_id`, `default_permit`, `gdpr_0_permit`. Without a `gvl_id` no string permits anything.
//! - **A string** that is missing, malformed, an unexpanded macro (row 4), made for another vendor or for an
//!   older policy is no consent; [`tcf`] says which are, and maps purposes to the permit.
//!   `gpp` counts if `gpp_sid` names section 2 or is absent; it is read only where `gdpr_consent` is not there.
//! - A choice cookie with an unknown flag keeps the flags that are known.
//!
//! # What a missing flag removes
//! | without | leaves the hit, before the spool |
//! | --- | --- |
//! | `measure` | all but the time's minute, site, kind, partner, campaign, creative, placement and publisher: the hit becomes a count in `hit_count`, and the address, agent, URLs, IDs and parameters are gone (of the flags those stay that say it counts nowhere) |
//! | `store` | the visitor cookie is neither read nor set; no visitor, partner or device ID (`uid`, `maid`, `did`), and no click ID, also not in the page's or the referrer's address |
//! | `locate` | nothing here; after the lookup all of the place but country and region ([`crate::row::Place::coarse`]) |
//! | `profile` | nothing here; segments take only rows whose permit has it |
//! | `match` | of a `sync`, the partner's ID; else nothing here: IDs are exchanged and sources combined only for rows whose permit has it |
//! | `link` | nothing here; aliases and households see only rows whose permit has it: the permit in the row is the flag |
//!
//! A [`Kind::Withdrawal`] or [`Kind::Erasure`] is the visitor's own instruction: it keeps site, time
//! and visitor, and nothing else, under no permit at all.

mod bits;
mod gpp;
mod signals;
mod strings;
mod tcf;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

pub use signals::Signals;
pub use strings::Strings;

use crate::clock::UnixMicros;
use crate::config::{Partner, Site};
use crate::hit::limits::URI_BYTES_MAX;
use crate::hit::{ConsentSource, Flags, Hit, Kind, Permit};

/// The parameters of a page's address that hold a click's ID.
const CLICK_ID_NAMES: [&str; 2] = ["avclid", "click_id"];
/// What Global Privacy Control takes from a consent that was given to the site itself.
const SALE: Permit = Permit::PROFILE.with(Permit::MATCH).with(Permit::LINK);

/// What the configuration says of the consent of a site's or partner's hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The vendor of the Global Vendor List that strings are asked about.
    pub gvl_id: Option<u16>,
    /// What is allowed where the visitor said nothing.
    pub default_permit: Permit,
    /// What is allowed with `gdpr=0`; where empty, that changes nothing.
    pub gdpr_0_permit: Permit,
}

impl From<&Site> for Rules {
    fn from(site: &Site) -> Rules {
        Rules {
            gvl_id: site.gvl_id,
            default_permit: site.default_permit,
            gdpr_0_permit: site.gdpr_0_permit,
        }
    }
}

impl From<&Partner> for Rules {
    fn from(partner: &Partner) -> Rules {
        Rules {
            gvl_id: partner.gvl_id,
            default_permit: partner.default_permit,
            gdpr_0_permit: partner.gdpr_0_permit,
        }
    }
}

/// Decides what the signals of one request allow to a hit of `kind`, and which signal decided.
#[must_use]
pub fn decide(
    signals: &Signals<'_>,
    rules: &Rules,
    kind: Kind,
    strings: &Strings,
) -> (Permit, ConsentSource) {
    let sale = if signals.gpc { SALE } else { Permit::NONE };
    let choice = signals.choice.map(choice);
    let outside = signals.gdpr.as_deref() == Some("0") && rules.gdpr_0_permit != Permit::NONE;
    let said = if outside {
        None
    } else {
        said(signals, rules, kind, strings)
    };
    match (said, choice) {
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

/// Rows 2 to 4: what strings permit, where there are any or ought to be.
fn said(
    signals: &Signals<'_>,
    rules: &Rules,
    kind: Kind,
    strings: &Strings,
) -> Option<(Permit, ConsentSource)> {
    let permit = |tc_string: Option<&str>| {
        // One that fills the parameter may have been cut.
        let whole = tc_string.filter(|text| text.len() < URI_BYTES_MAX);
        whole
            .zip(rules.gvl_id)
            .and_then(|(text, vendor)| strings.read(text, vendor))
            .map_or(Permit::NONE, |says| tcf::permit(says, kind))
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
    gpp.map(|_| (Permit::NONE, ConsentSource::Gpp))
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
    if hit.kind.is_instruction() {
        *hit = Hit {
            visitor: hit.visitor,
            ..Hit::new(hit.received_at, hit.kind, std::mem::take(&mut hit.site))
        };
        return;
    }
    if !hit.permit.allows(Permit::MEASURE) {
        let minute = hit.received_at.seconds().div_euclid(60) * 60_000_000;
        *hit = Hit {
            permit: hit.permit,
            consent_source: hit.consent_source,
            flags: hit.flags.and(Flags::UNCOUNTED),
            partner: std::mem::take(&mut hit.partner),
            campaign: std::mem::take(&mut hit.campaign),
            creative: std::mem::take(&mut hit.creative),
            placement: std::mem::take(&mut hit.placement),
            publisher: std::mem::take(&mut hit.publisher),
            ..Hit::new(UnixMicros(minute), hit.kind, std::mem::take(&mut hit.site))
        };
    }
    if hit.kind == Kind::Sync && !hit.permit.allows(Permit::MATCH) {
        hit.partner_uid = Cow::Borrowed("");
    }
    if !hit.permit.allows(Permit::STORE) {
        hit.visitor = None;
        hit.partner_uid = Cow::Borrowed("");
        hit.maid = Cow::Borrowed("");
        hit.device_id = Cow::Borrowed("");
        hit.click_id = Cow::Borrowed("");
        for url in [&mut hit.page_url, &mut hit.referrer] {
            forget_click(url);
        }
    }
}

/// Takes the click ID out of the address of a page that a click led to.
fn forget_click(url: &mut Cow<'_, str>) {
    let (address, fragment) = url.split_once('#').unwrap_or((&**url, ""));
    let Some((page, query)) = address.split_once('?') else {
        return;
    };
    let names_click = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        CLICK_ID_NAMES.contains(&&*percent_decode_str(name).decode_utf8_lossy())
    };
    if !query.split('&').any(|pair| names_click(&pair)) {
        return;
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !names_click(pair)).collect();
    let mut clean = page.to_owned();
    for (mark, rest) in [('?', kept.join("&").as_str()), ('#', fragment)] {
        if !rest.is_empty() {
            clean.push(mark);
            clean.push_str(rest);
        }
    }
    *url = Cow::Owned(clean);
}
