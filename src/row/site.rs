//! The dimension `site`: on which site a hit was made.

use super::dimension::{Columns, Dimension};
use crate::hit::Hit;

/// The site that a hit was made on, with the category of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields are the columns of `avtryck.site`")]
pub struct Site<Text = String> {
    pub site: Text,
    pub category: Text,
}

impl<'h> Site<&'h str> {
    /// Returns the site of a hit.
    #[must_use]
    pub fn of(hit: &'h Hit<'_>) -> Site<&'h str> {
        Site {
            site: &*hit.site,
            category: &*hit.category,
        }
    }
}

impl<Text: AsRef<str>> Dimension for Site<Text> {
    const TABLE: &'static str = "site";

    fn columns(&self, to: &mut impl Columns) {
        to.name("site", self.site.as_ref());
        to.text("category", self.category.as_ref());
    }
}
