//! The dimensions that a hit names itself.

use super::{DeviceBudget, Find, NameScope, OTHER, Tables};
use crate::hit::Hit;
use crate::row::dimension::{Keyed, StandIn};
use crate::row::{Ad, Keyer, Site};

impl Find for Site {
    const NAMES_NOBODY: &'static str = "names of sites";
    // Counts point to sites forever.
    const DELETED: &'static str = "category is not null";

    type Found<'h> = Keyed<Site<&'h str>>;

    fn find<'h>(_: &Tables, hit: &'h Hit<'_>, _: &mut DeviceBudget) -> Option<Self::Found<'h>> {
        Some(Keyed::new(Site::of(hit)))
    }

    fn stand_in(named: &NameScope<'_>, keyer: &Keyer) -> Option<StandIn> {
        // The configuration has the sites, and senders the categories.
        let other = Site {
            site: named.site,
            category: OTHER,
        };
        let has_category = !named.category.is_empty();
        has_category.then(|| StandIn::new(named.site.to_owned(), keyer, &other))
    }
}

impl Find for Ad {
    const NAMES_NOBODY: &'static str = "names of ads";

    type Found<'h> = Keyed<Ad<&'h str>>;

    fn find<'h>(_: &Tables, hit: &'h Hit<'_>, _: &mut DeviceBudget) -> Option<Self::Found<'h>> {
        Ad::of(hit).map(Keyed::new)
    }

    fn stand_in(named: &NameScope<'_>, keyer: &Keyer) -> Option<StandIn> {
        let other = Ad {
            partner: named.partner,
            campaign: OTHER,
            ..Ad::default()
        };
        Some(StandIn::new(named.site_and_partner(), keyer, &other))
    }
}
