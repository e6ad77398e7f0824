//! What senders name, of which a site may have so many new ones in a day.

use crate::enrich::{Device, DimensionTable, Facts};
use crate::row::dimension::{Dimension, DimensionRows};
use crate::row::{Ad, Keyer, PageDomain, Site};

/// What a name beyond the limit becomes.
const OTHER: &str = "other";

/// What a hit names, by which new names are counted.
pub(super) struct NameScope<'a> {
    site: &'a str,
    category: &'a str,
    partner: &'a str,
}

impl<'a> NameScope<'a> {
    pub(super) fn of(facts: &Facts<'a>) -> NameScope<'a> {
        let site = facts.site.as_ref().map(|site| site.value);
        let site = site.unwrap_or_default();
        NameScope {
            site: site.site,
            category: site.category,
            partner: facts.ad.as_ref().map_or("", |ad| ad.value.partner),
        }
    }

    /// Returns the scope in which new rows of a dimension are counted, and the row that stands for
    /// those beyond the limit, with its key; `None` where there is no limit.
    pub(super) fn limit_of(
        &self,
        dimension: DimensionTable,
        keyer: &Keyer,
    ) -> Option<(String, (i64, DimensionRows))> {
        match dimension {
            DimensionTable::Ad => {
                let other = Ad {
                    partner: self.partner,
                    campaign: OTHER,
                    ..Ad::default()
                };
                Some((
                    format!("{}/{}", self.site, self.partner),
                    row_of(keyer, &other),
                ))
            }
            DimensionTable::Site if !self.category.is_empty() => {
                let other = Site {
                    site: self.site,
                    category: OTHER,
                };
                Some((self.site.to_owned(), row_of(keyer, &other)))
            }
            DimensionTable::Device => {
                Some((self.site.to_owned(), row_of(keyer, &Device::default())))
            }
            DimensionTable::PageDomain => {
                let other = PageDomain {
                    domain: OTHER.to_owned(),
                    ..PageDomain::default()
                };
                Some((
                    format!("{}/{}", self.site, self.partner),
                    row_of(keyer, &other),
                ))
            }
            DimensionTable::Site | DimensionTable::Place | DimensionTable::Network => None,
        }
    }
}

fn row_of(keyer: &Keyer, value: &impl Dimension) -> (i64, DimensionRows) {
    let key = keyer.key(value);
    let mut rows = DimensionRows::default();
    rows.push(key, value);
    (key, rows)
}
