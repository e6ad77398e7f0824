//! The dimension `page_domain`: on whose domain a hit was made, and what that is about.

use super::dimension::{ColumnValues, Columns, Dimension, ReadColumns};

/// The registrable domain of a page, with the categories that a list gives it. Empty texts mean
/// unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields are the columns of `avtryck.page_domain`"
)]
pub struct PageDomain {
    pub domain: String,
    pub category: String,
    pub source: String,
    pub is_sensitive: bool,
}

impl Dimension for PageDomain {
    const TABLE: &'static str = "page_domain";

    fn columns(&self, to: &mut impl Columns) {
        to.name("domain", &self.domain);
        to.text("category", &self.category);
        to.text("source", &self.source);
        to.boolean("is_sensitive", self.is_sensitive);
    }
}

impl ReadColumns for PageDomain {
    fn read(from: &mut impl ColumnValues) -> PageDomain {
        PageDomain {
            domain: from.text(),
            category: from.text(),
            source: from.text(),
            is_sensitive: from.boolean(),
        }
    }
}
