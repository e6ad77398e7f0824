//! Whose click a conversion names.
//!
//! A click's ID is in the address of the page that it led to, so it spreads with every copy of that
//! address, and whoever makes a click knows its ID. A conversion follows a click only if it is the
//! same visitor's. Where one of the two has a third party's cookie they cannot have the same
//! visitor: then the first visitor who follows the click is its own, and no other. A conversion
//! that follows no click of its own is flagged [`Flags::FOREIGN_CLICK`]. A server that reports a
//! conversion is believed.

use std::collections::HashMap;

use crate::hit::{Flags, Hit, Kind, VisitorId};

/// A click, or a conversion that names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClickMention {
    /// The click's ID.
    pub click_id: String,
    /// Whose hit it is.
    pub visitor: Option<VisitorId>,
    /// Whether the visitor's cookie is a third party's.
    pub is_third_party: bool,
    /// Whether it is the click itself.
    pub is_click: bool,
}

impl ClickMention {
    /// Returns what a hit says of a click; `None` where it names none, counts nowhere, or is a
    /// server's word.
    #[must_use]
    pub fn of(hit: &Hit<'_>) -> Option<ClickMention> {
        let is_click = hit.kind == Kind::Click;
        let names_click = is_click || (hit.kind == Kind::Event && hit.is_conversion());
        let not_asked = Flags::UNCOUNTED.with(Flags::SYSTEM);
        if !names_click || hit.click_id.is_empty() || hit.flags.has_any(not_asked) {
            return None;
        }
        Some(ClickMention {
            click_id: hit.click_id.to_string(),
            visitor: hit.visitor,
            is_third_party: hit.flags.has(Flags::THIRD_PARTY),
            is_click,
        })
    }
}

/// What is known of a click.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownClick {
    /// Whose it is.
    pub visitor: Option<VisitorId>,
    /// Whether the visitor's cookie is a third party's.
    pub is_third_party: bool,
    /// The first visitor who followed it.
    pub follower: Option<VisitorId>,
}

/// Clicks by their IDs.
#[derive(Debug, Default)]
pub(crate) struct KnownClicks(HashMap<String, KnownClick>);

impl KnownClicks {
    /// Adds a click that came before all that are passed to [`KnownClicks::is_foreign`].
    pub(crate) fn add(&mut self, click_id: String, click: KnownClick) {
        self.0.entry(click_id).or_insert(click);
    }

    /// Takes the mentions of a batch in their order, and returns whether this one is of another
    /// visitor's click. A sender may choose the ID of a click that was tracked elsewhere; the first
    /// click of an ID counts.
    pub(crate) fn is_foreign(&mut self, mention: &ClickMention) -> bool {
        if mention.is_click {
            let click = KnownClick {
                visitor: mention.visitor,
                is_third_party: mention.is_third_party,
                follower: None,
            };
            self.add(mention.click_id.clone(), click);
            return false;
        }
        let Some(click) = self.0.get_mut(&mention.click_id) else {
            return false;
        };
        let is_own = mention.visitor.is_some() && mention.visitor == click.visitor;
        let may_differ = click.is_third_party || mention.is_third_party;
        let is_first = click.follower.is_none() || click.follower == mention.visitor;
        if is_own || (may_differ && is_first) {
            click.follower = click.follower.or(mention.visitor);
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMicros;

    fn mention(is_click: bool, visitor: u8, is_third_party: bool) -> ClickMention {
        ClickMention {
            click_id: "k1".to_owned(),
            visitor: Some(VisitorId([visitor; 16])),
            is_third_party,
            is_click,
        }
    }

    /// Whether each conversion, given by visitor and party, is foreign after a click by visitor 1.
    fn foreign(click_is_third_party: bool, conversions: &[(u8, bool)]) -> Vec<bool> {
        let mut known = KnownClicks::default();
        assert!(!known.is_foreign(&mention(true, 1, click_is_third_party)));
        // A later click of the same ID takes nothing over.
        assert!(!known.is_foreign(&mention(true, 9, true)));
        let foreign = conversions
            .iter()
            .map(|(visitor, third)| known.is_foreign(&mention(false, *visitor, *third)));
        foreign.collect()
    }

    #[test]
    fn a_conversion_follows_its_own_visitors_click() {
        let own_and_others = [(1, false), (2, false), (1, false), (9, false)];
        assert_eq!(foreign(false, &own_and_others), [false, true, false, true]);
    }

    #[test]
    fn of_visitors_that_cannot_be_compared_the_first_is_the_clicks_own() {
        let strangers = [(2, false), (3, false), (2, true), (3, true), (1, false)];
        let expected = [false, true, false, true, false];
        assert_eq!(foreign(true, &strangers), expected);
        // The cookie of the conversion may be the third party's.
        assert_eq!(
            foreign(false, &[(2, true), (3, true), (2, true)]),
            [false, true, false]
        );
        // Where the click's own visitor has followed it, nobody else can.
        assert_eq!(foreign(false, &[(1, false), (2, true)]), [false, true]);
    }

    #[test]
    fn a_click_that_was_followed_before_the_batch_has_its_visitor() {
        let mut known = KnownClicks::default();
        let click = KnownClick {
            visitor: Some(VisitorId([1; 16])),
            is_third_party: true,
            follower: Some(VisitorId([2; 16])),
        };
        known.add("k1".to_owned(), click);
        assert!(!known.is_foreign(&mention(false, 2, false)));
        assert!(known.is_foreign(&mention(false, 3, false)));
    }

    #[test]
    fn only_clicks_and_browsers_conversions_are_looked_at() {
        let mentions = |kind, name: &'static str, id: &'static str, flags| {
            let mut hit = Hit::new(UnixMicros(1), kind, "shop");
            (hit.event_name, hit.click_id, hit.flags) = (name.into(), id.into(), flags);
            ClickMention::of(&hit).map(|mention| mention.is_click)
        };
        let none = Flags::default();
        for (kind, name, id, flags, expected) in [
            (Kind::Click, "", "k1", none, Some(true)),
            (Kind::Click, "", "", none, None),
            (Kind::Click, "", "k1", Flags::PREVIEW, None),
            (Kind::Event, "conversion", "k1", none, Some(false)),
            (Kind::Event, "conversion", "", none, None),
            (Kind::Event, "conversion", "k1", Flags::PREFETCH, None),
            (Kind::Event, "refund", "k1", none, None),
            (Kind::PageView, "", "k1", none, None),
            (Kind::Callback, "conversion", "k1", none, None),
        ] {
            let found = mentions(kind, name, id, flags);
            assert_eq!(found, expected, "{kind:?} {name} {id} {flags}");
        }
    }
}
