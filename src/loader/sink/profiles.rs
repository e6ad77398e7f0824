//! What hits say of their subjects, for segments.
//!
//! | hit | is a fact about |
//! | --- | --- |
//! | of a browser or an app | its visitor, whose cookie our signature proves; without one, nobody |
//! | of a system, or a callback, that has shown who it is | the first of its IDs: visitor, MAID, device ID, partner's ID, user |
//!
//! So nobody gives another a profile by naming their MAID or their user.

use crate::enrich::{DimensionTable, Facts};
use crate::hit::{Flags, Hit, Kind};
use crate::identity::{Ids, Node, NodeKind, TieRules};
use crate::postgres::Load;
use crate::postgres::segment::part::{FactKind, ProfileFact, ProfilePart};

/// The categories of a page that are counted: what joins them is the list's.
const CATEGORIES_MAX: usize = 4;

/// Adds the facts that a hit makes to a batch of which the hit's row is the last one, with these
/// keys of dimensions.
pub(super) fn find(
    hit: &Hit<'_>,
    flags: Flags,
    (facts, is_sensitive_page, keys): (&Facts<'_>, bool, &[Option<i64>]),
    (rules, takes_users): (&TieRules, bool),
    load: &mut Load,
) {
    let flags = flags.with(hit.flags);
    if !hit.permit.allows(ProfilePart::NEEDED) || flags.has_any(ProfilePart::WITHOUT) {
        return;
    }
    let kind = match hit.kind {
        Kind::PageView => FactKind::Page,
        Kind::Event | Kind::Callback if !hit.event_name.is_empty() => FactKind::Event,
        Kind::Impression => FactKind::Ad,
        _ => return,
    };
    let Some(subject) = subject_of(hit, flags, rules, takes_users) else {
        return;
    };
    let key = |table: DimensionTable| keys.get(table as usize).copied().flatten();
    let (device, place) = (key(DimensionTable::Device), key(DimensionTable::Place));
    let mut add = |name: &str| {
        load.profile_fact(&ProfileFact {
            subject,
            site: &hit.site,
            partner: &hit.partner,
            kind,
            name,
            permit: hit.permit,
            at: hit.received_at,
            device,
            place,
        });
    };
    match kind {
        FactKind::Event => add(&hit.event_name),
        FactKind::Ad => add(&hit.campaign),
        FactKind::Page if is_sensitive_page => add(""),
        FactKind::Page => {
            let of_list = || {
                facts
                    .page_domain
                    .as_ref()
                    .map(|found| &*found.value.category)
            };
            let category = Some(&*hit.category).filter(|category| !category.is_empty());
            let categories = category.or_else(of_list).unwrap_or_default();
            for name in categories.split(';').take(CATEGORIES_MAX) {
                add(name.trim());
            }
        }
    }
}

/// Returns whom a hit is about.
fn subject_of(hit: &Hit<'_>, flags: Flags, rules: &TieRules, takes_users: bool) -> Option<Node> {
    if !flags.has(Flags::SYSTEM) && hit.kind != Kind::Callback {
        return hit.visitor.map(|visitor| Node(visitor.0));
    }
    if !flags.has(Flags::PROVED) {
        return None;
    }
    let mut ids = Ids::of(hit, rules);
    if !takes_users {
        ids.remove(NodeKind::User);
    }
    ids.each().next().map(|(_, node)| node)
}
