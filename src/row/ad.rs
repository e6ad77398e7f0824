//! The dimension `ad`: which ad a hit is about.

use super::dimension::{Columns, Dimension};
use crate::hit::Hit;

/// Which ad a hit is about. Empty texts mean unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields are the columns of `avtryck.ad`")]
pub struct Ad<Text = String> {
    pub partner: Text,
    pub campaign: Text,
    pub creative: Text,
    pub placement: Text,
    pub publisher: Text,
}

impl<'h> Ad<&'h str> {
    /// Returns the ad of a hit; `None` where the hit names none.
    #[must_use]
    pub fn of(hit: &'h Hit<'_>) -> Option<Ad<&'h str>> {
        let ad = Ad {
            partner: &*hit.partner,
            campaign: &*hit.campaign,
            creative: &*hit.creative,
            placement: &*hit.placement,
            publisher: &*hit.publisher,
        };
        (ad != Ad::default()).then_some(ad)
    }

    /// Returns the creative of a hit without where it was placed; `None` where the hit names
    /// neither campaign nor creative. Exposures are counted by it.
    #[must_use]
    pub(crate) fn creative_of(hit: &'h Hit<'_>) -> Option<Ad<&'h str>> {
        if hit.campaign.is_empty() && hit.creative.is_empty() {
            return None;
        }
        Some(Ad {
            partner: &*hit.partner,
            campaign: &*hit.campaign,
            creative: &*hit.creative,
            ..Ad::default()
        })
    }
}

impl<Text: AsRef<str>> Dimension for Ad<Text> {
    const TABLE: &'static str = "ad";

    fn columns(&self, to: &mut impl Columns) {
        to.text("partner", self.partner.as_ref());
        to.text("campaign", self.campaign.as_ref());
        to.text("creative", self.creative.as_ref());
        to.text("placement", self.placement.as_ref());
        to.text("publisher", self.publisher.as_ref());
    }
}
