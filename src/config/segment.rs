//! `[[segment]]`: groups of subjects.

use jiff::civil::Date;

use super::keys::NAME;
use super::table::keys;
use super::value;

keys! {
    /// `[[segment]]`: a group of subjects, by what a rule says of them.
    #[derive(Clone, Debug)]
    pub struct SegmentConfig in [segment] {
        /// What sites and partners know it by.
        reload key: String = required(NAME, value::name);
        /// Its name on the visitor's own page, in Swedish; the key if there is none.
        reload name_sv: String = one("", "text of at most 4000 bytes", value::text);
        /// The same in English.
        reload name_en: String = one("", "text of at most 4000 bytes", value::text);
        /// Who is in it: an SQL condition over the columns and functions of docs/segments.md.
        reload rule as "where": String = required("an SQL condition of at most 4000 bytes", value::some_text);
        /// Whose facts count: those of a device, of who is logged in there, or of a household.
        reload scope: SegmentScope = one("device", "device, owner or household", value::segment_scope);
        /// The sites whose pages may ask whether a visitor is in it.
        reload expose: Vec<String> = list("keys of sites", value::name);
        /// The partners that are told who is in it.
        reload partners: Vec<String> = list("keys of partners", value::name);
        /// Nobody is told of a segment that has fewer subjects; at least 50.
        reload min_size: u32 = one("100", "a number, at least 50", value::whole(50..=u32::MAX));
        /// The day after which nobody is told of it; empty: none.
        reload until: Option<Date> = optional("a day such as 2027-06-01", value::date);
        /// What allows a rule over sensitive facts: explicit_consent; empty: nothing does.
        reload has_explicit_consent as "basis": bool =
            one("", "explicit_consent or nothing", value::segment_basis);
    }
}

/// Whose facts decide whether a subject is in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentScope {
    /// Those of its device group.
    Device,
    /// Those of who is logged in there.
    Owner,
    /// Those that are known of its household.
    Household,
}
