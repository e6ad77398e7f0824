//! Removal of what the permit does not allow.
//!
//! IDs and what identifies a person directly may stand anywhere: in a member of `params` at any
//! depth, in JSON text within a string, in the query of an address, in a value under a harmless
//! name. So [`params`] and [`url`] go through all of it, by one table of [`names`] with what each
//! name says; a value that holds an e-mail address goes whatever its name.
//!
//! | | without `store` | with `store` |
//! | --- | --- | --- |
//! | IDs, and what identifies directly | leave the hit | stay, but in traits what identifies directly leaves, unless `protocol.keep_traits` names it |
//! | positions | leave unless `locate` is permitted | the same, of trackers' hits |
//! | the sender's ID of the user | leaves wherever it stands | its hash stands in its place |
//! | a `user_sig`, which proves a user to whoever reads it | leaves wherever it stands | the same |
//!
//! A hit of our own protocol with `store` that names no user is not looked at, unless its site
//! signs users and it may hold a signature.

mod glance;
mod names;
mod params;
mod text;
mod url;

use std::borrow::Cow;

use crate::clock::UnixMicros;
use crate::hit::limits::TEXT_BYTES_MAX;
use crate::hit::{Flags, Hit, Kind, Permit, UserKey, whole};
pub(crate) use names::fold_name;
use params::Judged;
pub(crate) use text::holds_email;

/// What must be permitted for a hit to name a second visitor.
const TO_LINK: Permit = Permit::STORE.with(Permit::MEASURE).with(Permit::LINK);

/// What strips a hit besides its permit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Personal<'r> {
    /// Who is logged in, by the sender's ID; empty if nobody is.
    pub user: &'r str,
    /// What stands for that user.
    pub user_key: Option<UserKey>,
    /// The traits that may stay though they identify directly, in lower case, letters and digits
    /// alone (`protocol.keep_traits`).
    pub keep_traits: &'r [String],
    /// Whether the site's server signs users (`user_sig`).
    pub site_signs: bool,
}

/// Removes from the hit what its permit does not allow.
pub fn strip(hit: &mut Hit<'_>) {
    strip_personal(hit, &Personal::default());
}

/// Removes from the hit what its permit does not allow, and the sender's ID of the user, who may be
/// known by the hash alone.
pub fn strip_personal(hit: &mut Hit<'_>, personal: &Personal<'_>) {
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
            // Whose permit it is: what the visitor allowed before may be allowed no more.
            visitor: hit.visitor.filter(|_| hit.permit.allows(Permit::STORE)),
            flags: hit.flags.and(Flags::OF_COUNTS),
            partner: std::mem::take(&mut hit.partner),
            campaign: std::mem::take(&mut hit.campaign),
            creative: std::mem::take(&mut hit.creative),
            placement: std::mem::take(&mut hit.placement),
            publisher: std::mem::take(&mut hit.publisher),
            ..Hit::new(UnixMicros(minute), hit.kind, std::mem::take(&mut hit.site))
        };
    }
    let needed = match hit.linked_visitor() {
        Some(_) => TO_LINK,
        None => Permit::MATCH,
    };
    if hit.kind == Kind::Sync && !hit.permit.allows(needed) {
        hit.partner_uid = Cow::Borrowed("");
    }
    let may_store = hit.permit.allows(Permit::STORE);
    if !may_store {
        hit.clear_ids();
    } else if hit.protocol.is_native()
        && personal.user.is_empty()
        && !(personal.site_signs && may_hold_signature(hit))
    {
        return;
    }
    let hash = personal.user_key.filter(|_| may_store);
    let rules = Rules {
        may_store,
        may_locate: hit.permit.allows(Permit::LOCATE) || may_store && hit.protocol.is_native(),
        keep_traits: personal.keep_traits,
        user: personal.user,
        hash: hash.map(|hash| hash.to_string()).unwrap_or_default(),
    };
    rules.apply(hit);
}

/// Checks whether something like `user_sig` may stand in a hit: written plainly in letters of any
/// case, or behind an escape.
fn may_hold_signature(hit: &Hit<'_>) -> bool {
    let texts = [&hit.params, &hit.page_url, &hit.referrer];
    texts.iter().any(|text| {
        let mut parts = text.as_bytes().windows(3);
        text.contains(['%', '\\']) || parts.any(|part| part.eq_ignore_ascii_case(b"sig"))
    })
}

/// What may stay in a hit.
struct Rules<'r> {
    may_store: bool,
    may_locate: bool,
    keep_traits: &'r [String],
    /// The sender's ID of the user; empty if it names none.
    user: &'r str,
    /// What stands in its place; empty where it only leaves.
    hash: String,
}

impl Rules<'_> {
    fn apply(&self, hit: &mut Hit<'_>) {
        if let Some(params) = self.strip_params(&hit.params) {
            hit.params = Cow::Owned(params);
        }
        for url in [&mut hit.page_url, &mut hit.referrer] {
            if let Some(stripped) = self.strip_url(url) {
                *url = Cow::Owned(stripped);
            }
        }
        for text in [
            &mut hit.event_name,
            &mut hit.event_id,
            &mut hit.campaign,
            &mut hit.creative,
            &mut hit.placement,
            &mut hit.publisher,
            &mut hit.category,
            &mut hit.partner_uid,
            &mut hit.maid,
            &mut hit.device_id,
            &mut hit.click_id,
            &mut hit.session_id,
        ] {
            if self.is_user(text) {
                *text = Cow::Owned(self.hash.clone());
            } else if !self.may_store {
                match self.judge_text(text, 0) {
                    Judged::Stays => {}
                    Judged::Becomes(other) => *text = Cow::Owned(other),
                    Judged::Leaves => *text = Cow::Borrowed(""),
                }
            }
        }
        let hints = &mut hit.hints;
        for hint in [&mut hints.brands, &mut hints.platform, &mut hints.model] {
            if !self.may_store && holds_email(hint) {
                *hint = Cow::Borrowed("");
            }
        }
    }

    /// Checks whether a text is the sender's ID of the user. A long one is kept as hits keep IDs.
    fn is_user(&self, text: &str) -> bool {
        if self.user.is_empty() || text.len() <= TEXT_BYTES_MAX {
            return !self.user.is_empty() && text == self.user;
        }
        // Only where the ID itself was shortened is a digest of the text needed.
        text == self.user
            || whole::has_digest(self.user, TEXT_BYTES_MAX)
                && whole::shorten(text, TEXT_BYTES_MAX) == self.user
    }
}

#[cfg(test)]
mod tests;
