//! Which categories are sensitive.

use std::collections::HashSet;

/// The 64 categories that IAB Tech Lab's Content Taxonomy 2.2 flags as sensitive ("SCD" in its
/// column *Extension*), by name. Source: `Content Taxonomies/Content Taxonomy 2.2.tsv` of
/// `InteractiveAdvertisingBureau/Taxonomies` on GitHub, CC BY 3.0. The flags of 3.0 and 3.1 stand
/// in the wrong rows: they flag Reptiles and not Judaism.
const FLAGGED: [&str; 64] = [
    "special education",
    "dating",
    "divorce",
    "special needs kids",
    "single life",
    "alcoholic beverages",
    "world cuisines",
    "children's health",
    "weight loss",
    "smoking cessation",
    "diseases and conditions",
    "allergies",
    "ear, nose and throat conditions",
    "endocrine and metabolic diseases",
    "hormonal disorders",
    "menopause",
    "thyroid disorders",
    "eye and vision conditions",
    "foot health",
    "heart and cardiovascular diseases",
    "infectious diseases",
    "injuries",
    "first aid",
    "lung and respiratory health",
    "mental health",
    "reproductive health",
    "birth control",
    "infertility",
    "pregnancy",
    "blood disorders",
    "sexual health",
    "sexual conditions",
    "skin and dermatology",
    "sleep disorders",
    "substance abuse",
    "bone and joint conditions",
    "brain and nervous system disorders",
    "cancer",
    "cold and flu",
    "dental health",
    "diabetes",
    "digestive disorders",
    "medical tests",
    "pharmaceutical drugs",
    "surgery",
    "vaccines",
    "cosmetic medical services",
    "elections",
    "political issues",
    "personal investing",
    "religion & spirituality",
    "agnosticism",
    "spirituality",
    "astrology",
    "atheism",
    "buddhism",
    "christianity",
    "hinduism",
    "islam",
    "judaism",
    "sikhism",
    "biological sciences",
    "genetics",
    "bodybuilding",
];

/// What else is sensitive: categories of 3.1 that are wider than a flagged one or were renamed, and
/// the names that lists use. They follow Article 9 of the GDPR (health, sex life, religion,
/// politics, unions, origin), and what people are preyed upon by: gambling, drugs, debt.
const USUAL: &[&str] = &[
    // Content Taxonomy 3.1.
    "medical health",
    "politics",
    "political issues & policy",
    "civic affairs",
    "casinos & gambling",
    "poker and professional gambling",
    "lotteries and scratchcards",
    "religious events",
    "political event",
    "health insurance",
    "personal debt",
    "bankruptcy",
    "sensitive topics",
    "adult & explicit sexual content",
    "debated sensitive social issues",
    "illegal drugs, tobacco, ecigarettes, vaping, alcohol",
    // Lists of domains: UT1, squidGuard, hosts files.
    "abortion",
    "addiction",
    "adult",
    "alcohol",
    "arjel",
    "betting",
    "cannabis",
    "casino",
    "casinos",
    "church",
    "cult",
    "debt",
    "disease",
    "diseases",
    "drogue",
    "drug",
    "drugs",
    "escort",
    "ethnicity",
    "faith",
    "gamble",
    "gambling",
    "gay",
    "health",
    "healthcare",
    "hospital",
    "lgbt",
    "lgbtq",
    "lingerie",
    "loans",
    "lottery",
    "medical",
    "medicine",
    "mixed adult",
    "nudity",
    "payday loans",
    "pharmacy",
    "poker",
    "political",
    "porn",
    "porno",
    "pornography",
    "race",
    "religion",
    "religions",
    "religious",
    "sect",
    "self harm",
    "sex",
    "sex education",
    "sexual education",
    "sexuality",
    "suicide",
    "tobacco",
    "trade union",
    "trade unions",
    "unions",
];

/// The names of sensitive categories.
pub(crate) struct Sensitive(HashSet<String>);

impl Sensitive {
    /// Takes the tables, and what the configuration adds.
    #[must_use]
    pub(crate) fn new(further: &[String]) -> Sensitive {
        let known = FLAGGED.iter().chain(USUAL).copied();
        let further = further.iter().map(String::as_str);
        Sensitive(known.chain(further).map(fold).collect())
    }

    /// Returns whether a category is sensitive: its name, or a part of one that is a path such as
    /// `sex/lingerie`.
    #[must_use]
    pub(crate) fn has(&self, category: &str) -> bool {
        let name = fold(category);
        self.0.contains(&name) || name.split('/').any(|part| self.0.contains(part))
    }
}

/// Returns a name as names are compared: in lower case, with spaces for `_` and `-`.
fn fold(name: &str) -> String {
    name.trim().replace(['_', '-'], " ").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_are_sensitive_by_name_in_any_spelling_and_as_part_of_a_path() {
        let sensitive = Sensitive::new(&["Barn_och-familj".to_owned()]);
        for name in [
            "Judaism",
            "DATING",
            "Special Needs Kids",
            "Ear, Nose and Throat Conditions",
            "adult",
            "mixed_adult",
            "Porn",
            "sex/lingerie",
            "BL/gamble",
            "Politics",
            "trade-unions",
            "barn och familj",
            "BARN-OCH-FAMILJ",
            "Illegal Drugs, Tobacco, eCigarettes, Vaping, Alcohol",
        ] {
            assert!(sensitive.has(name), "{name}");
        }
        for name in [
            "Reptiles",
            "Western",
            "news",
            "Adult Education",
            "sports",
            "",
            "adulteration",
        ] {
            assert!(!sensitive.has(name), "{name}");
        }
    }

    #[test]
    fn no_name_is_there_twice_and_each_is_as_it_is_compared() {
        let names: Vec<&str> = FLAGGED.iter().chain(USUAL).copied().collect();
        let distinct: HashSet<&str> = names.iter().copied().collect();
        assert_eq!(distinct.len(), names.len());
        for name in names {
            assert_eq!(fold(name), name);
        }
    }
}
