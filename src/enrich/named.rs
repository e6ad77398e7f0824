//! The dimensions that a hit names itself.

use super::{DeviceBudget, Find, Tables};
use crate::hit::Hit;
use crate::row::dimension::Keyed;
use crate::row::{Ad, Site};

impl Find for Site {
    type Found<'h> = Keyed<Site<&'h str>>;

    fn find<'h>(_: &Tables, hit: &'h Hit<'_>, _: &mut DeviceBudget) -> Option<Self::Found<'h>> {
        Some(Keyed::new(Site::of(hit)))
    }
}

impl Find for Ad {
    type Found<'h> = Keyed<Ad<&'h str>>;

    fn find<'h>(_: &Tables, hit: &'h Hit<'_>, _: &mut DeviceBudget) -> Option<Self::Found<'h>> {
        Ad::of(hit).map(Keyed::new)
    }
}
