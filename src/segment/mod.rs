//! Segments: groups of subjects, by what is known of them.
//!
//! A segment is defined by one condition in SQL. We parse it ([`parse()`]) into a small tree of our
//! own ([`tree`]), of which everything else is made: the SQL that Postgres runs ([`sql`]), what a
//! visitor is told ([`explain`]), and what the definition may use ([`guard`]).
//!
//! | an expression has | for example |
//! | --- | --- |
//! | columns of the view `profile` ([`mod@column`]) | `device_class = 'phone'` |
//! | comparison, `and`, `or`, `not`, `in`, `between`, `is null` | `device_age between 24 and 60` |
//! | `coalesce`, `case` | `coalesce(household_size, 'none') <> 'none'` |
//! | `events(name, span)`: how often an event happened | `events('view_phone', '14 days') >= 3` |
//! | `pages(category, span)`: how many pages of a category were viewed | `pages('news', '4 weeks') > 0` |
//! | `seen(campaign, span)`: how many impressions of a campaign there were | `seen('spring', '7 days') = 0` |
//! | `in_segment(key)`: whether the subject is in another segment | `not in_segment('loyal')` |
//!
//! Everything else is a mistake, which names its line and column and what would be right. Text is
//! never compared with a number. `in_segment` stands for the other segment's condition, with the
//! other's scope, so what a definition uses is all in its own tree: no class, category or purpose
//! comes in by another segment.
//!
//! It does no I/O and reads no clock.

pub mod book;
pub mod column;
pub(crate) mod explain;
pub mod guard;
pub mod parse;
pub mod size;
pub mod snapshot;
pub mod sql;
pub mod tree;

#[cfg(test)]
mod tests;

pub use book::{Book, Definition, Segment};
pub use explain::Words;
pub use guard::Guards;
pub use parse::{Mistake, Parsed, parse};
pub use tree::Expr;

/// The longest expression, in bytes.
pub const TEXT_BYTES_MAX: usize = 4_096;

/// What an expression holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// A text.
    Text,
    /// A number.
    Number,
    /// True or false.
    Truth,
}

impl ValueType {
    /// Returns what messages call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ValueType::Text => "a text",
            ValueType::Number => "a number",
            ValueType::Truth => "a condition",
        }
    }
}

/// Whose facts count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentScope {
    /// Those of one device.
    Device,
    /// Those of a user, and of the devices that they alone own.
    Owner,
    /// What is known of a household as such, and never what its members do.
    Household,
}

impl SegmentScope {
    /// Every scope with its name in the configuration.
    pub const NAMED: [(&'static str, SegmentScope); 3] = [
        ("device", SegmentScope::Device),
        ("owner", SegmentScope::Owner),
        ("household", SegmentScope::Household),
    ];

    /// Returns the scope with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<SegmentScope> {
        let mut named = SegmentScope::NAMED.into_iter();
        named
            .find(|(known, _)| *known == name)
            .map(|(_, scope)| scope)
    }

    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let mut named = SegmentScope::NAMED.into_iter();
        named
            .find(|(_, known)| *known == self)
            .map_or("", |(name, _)| name)
    }
}
