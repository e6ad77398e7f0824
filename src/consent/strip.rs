//! Removal of what the permit does not allow.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::clock::UnixMicros;
use crate::hit::{Flags, Hit, Kind, Permit};

/// The parameters of a page's address that hold a click's ID.
const CLICK_ID_NAMES: [&str; 2] = ["avclid", "click_id"];

/// Removes from the hit what its permit does not allow.
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
            flags: hit.flags.and(Flags::OF_COUNTS),
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
        hit.clear_ids();
        for url in [&mut hit.page_url, &mut hit.referrer] {
            remove_click_id(url);
        }
    }
}

/// Removes the click ID from the address of a page that a click led to.
fn remove_click_id(url: &mut Cow<'_, str>) {
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
