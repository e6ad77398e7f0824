//! The attributes that a subject can have: one table, which imports, segments and the visitor's
//! page read.
//!
//! An attribute is a fact that comes from outside, of a register or a supplier. Its class says how
//! it may be used. What is not [`AttributeClass::Ordinary`] or [`AttributeClass::Financial`] is
//! refused until the configuration names the class (`import.classes`): credit data may not be used
//! for marketing without further grounds (kreditupplysningslagen), special categories need an
//! explicit consent (GDPR, article 9), and minors get no profile (DSA, article 28).

/// The grounds on which personal data may be used (GDPR, article 6), by their names in manifests.
pub(crate) const LEGAL_BASES: [&str; 6] = [
    "consent",
    "contract",
    "legal_obligation",
    "vital_interests",
    "public_task",
    "legitimate_interest",
];

/// How sensitive an attribute, or one of its values, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttributeClass {
    /// Needs nothing further.
    Ordinary,
    /// Says what somebody earns or can spend.
    Financial,
    /// Says how creditworthy somebody is.
    Credit,
    /// Belongs to a special category.
    Special,
    /// Says that somebody is a child.
    Minor,
}

impl AttributeClass {
    /// Every class.
    pub const ALL: [AttributeClass; 5] = [
        AttributeClass::Ordinary,
        AttributeClass::Financial,
        AttributeClass::Credit,
        AttributeClass::Special,
        AttributeClass::Minor,
    ];

    /// Returns the word in SQL and in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            AttributeClass::Ordinary => "ordinary",
            AttributeClass::Financial => "financial",
            AttributeClass::Credit => "credit",
            AttributeClass::Special => "special",
            AttributeClass::Minor => "minor",
        }
    }

    /// Returns whether it is refused until the configuration names it.
    #[must_use]
    pub(crate) fn is_off_by_default(self) -> bool {
        !matches!(self, AttributeClass::Ordinary | AttributeClass::Financial)
    }
}

/// What the values of an attribute are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeKind {
    /// One of its words, in no order.
    Words,
    /// One of its words, of which each is more than the one before.
    Steps,
    /// A number.
    Number,
    /// Any text, of which only a keyed hash is stored: two subjects with the same have the same.
    Hash,
}

/// One of the words that an attribute can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributeWord {
    /// As it is stored, and as segments name it.
    pub word: &'static str,
    /// For a visitor, in Swedish.
    pub text_sv: &'static str,
    /// The same in English.
    pub text_en: &'static str,
}

/// What the table says of one attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its number in SQL, which never changes.
    pub number: i16,
    /// Its name in manifests and in segments.
    pub key: &'static str,
    /// What its values are.
    pub kind: AttributeKind,
    /// How sensitive it is.
    pub class: AttributeClass,
    /// Its name for a visitor, in Swedish.
    pub text_sv: &'static str,
    /// The same in English.
    pub text_en: &'static str,
    /// What it can be; empty for a number and for a hash.
    pub words: &'static [AttributeWord],
    /// The least number of subjects of a group that uses it.
    pub min_group: u32,
}

/// The word that says that somebody is a child.
const MINOR: &str = "under_18";

impl Attribute {
    /// Finds the attribute of a name.
    #[must_use]
    pub fn from_name(key: &str) -> Option<&'static Attribute> {
        ATTRIBUTES.iter().find(|attribute| attribute.key == key)
    }

    /// Returns how sensitive it is to say that a subject has that value.
    #[must_use]
    pub(crate) fn class_of(&self, value: &str) -> AttributeClass {
        match value {
            MINOR => AttributeClass::Minor,
            _ => self.class,
        }
    }
}

/// Makes an [`AttributeWord`] short to write.
const fn word(word: &'static str, text_sv: &'static str, text_en: &'static str) -> AttributeWord {
    AttributeWord {
        word,
        text_sv,
        text_en,
    }
}

/// The table.
pub(crate) const ATTRIBUTES: [Attribute; 13] = [
    Attribute {
        number: 1,
        key: "housing_type",
        kind: AttributeKind::Words,
        class: AttributeClass::Ordinary,
        text_sv: "Bostadstyp",
        text_en: "Type of housing",
        words: &[
            word("house", "villa", "house"),
            word("townhouse", "radhus", "terraced house"),
            word("flat", "lägenhet", "flat"),
            word("farm", "lantbruk", "farm"),
            word("other", "annat", "other"),
        ],
        min_group: 100,
    },
    Attribute {
        number: 2,
        key: "housing_id",
        kind: AttributeKind::Hash,
        class: AttributeClass::Ordinary,
        text_sv: "Bostad (kod)",
        text_en: "Home (code)",
        words: &[],
        min_group: 100,
    },
    Attribute {
        number: 3,
        key: "civil_status",
        kind: AttributeKind::Words,
        class: AttributeClass::Ordinary,
        text_sv: "Civilstånd",
        text_en: "Civil status",
        words: &[
            word("single", "ogift", "single"),
            word("married", "gift", "married"),
            word("partner", "registrerad partner", "registered partner"),
            word("divorced", "skild", "divorced"),
            word("widowed", "änka eller änkling", "widowed"),
        ],
        min_group: 100,
    },
    Attribute {
        number: 4,
        key: "family_type",
        kind: AttributeKind::Words,
        class: AttributeClass::Ordinary,
        text_sv: "Hushållstyp",
        text_en: "Type of household",
        words: &[
            word("alone", "ensam", "alone"),
            word("couple", "par", "couple"),
            word(
                "alone_with_children",
                "ensam med barn",
                "alone with children",
            ),
            word(
                "couple_with_children",
                "par med barn",
                "couple with children",
            ),
            word("other", "annan", "other"),
        ],
        min_group: 100,
    },
    Attribute {
        number: 5,
        key: "income",
        kind: AttributeKind::Number,
        class: AttributeClass::Financial,
        text_sv: "Inkomst, kr per år",
        text_en: "Income, SEK a year",
        words: &[],
        min_group: 500,
    },
    Attribute {
        number: 6,
        key: "income_band",
        kind: AttributeKind::Steps,
        class: AttributeClass::Financial,
        text_sv: "Inkomstnivå",
        text_en: "Level of income",
        words: &[
            word("low", "låg", "low"),
            word("middle", "medel", "middle"),
            word("high", "hög", "high"),
        ],
        min_group: 500,
    },
    Attribute {
        number: 7,
        key: "credit_band",
        kind: AttributeKind::Steps,
        class: AttributeClass::Credit,
        text_sv: "Kreditvärdighet",
        text_en: "Creditworthiness",
        words: &[
            word("low", "låg", "low"),
            word("middle", "medel", "middle"),
            word("high", "hög", "high"),
        ],
        min_group: 500,
    },
    Attribute {
        number: 8,
        key: "purchasing_power",
        kind: AttributeKind::Steps,
        class: AttributeClass::Financial,
        text_sv: "Köpkraft",
        text_en: "Purchasing power",
        words: &[
            word("low", "låg", "low"),
            word("middle", "medel", "middle"),
            word("high", "hög", "high"),
        ],
        min_group: 500,
    },
    Attribute {
        number: 9,
        key: "life_phase",
        kind: AttributeKind::Words,
        class: AttributeClass::Ordinary,
        text_sv: "Livsfas",
        text_en: "Phase of life",
        words: &[
            word("young_adult", "ung vuxen", "young adult"),
            word("settling", "etablering", "settling down"),
            word("family", "familj", "family"),
            word("empty_nest", "utflugna barn", "children have left"),
            word("retired", "pensionär", "retired"),
        ],
        min_group: 100,
    },
    Attribute {
        number: 10,
        key: "urbanisation",
        kind: AttributeKind::Steps,
        class: AttributeClass::Ordinary,
        text_sv: "Ort",
        text_en: "Urbanisation",
        words: &[
            word("rural", "landsbygd", "countryside"),
            word("small_town", "mindre ort", "small town"),
            word("town", "stad", "town"),
            word("city", "storstad", "city"),
        ],
        min_group: 100,
    },
    Attribute {
        number: 11,
        key: "education",
        kind: AttributeKind::Steps,
        class: AttributeClass::Ordinary,
        text_sv: "Utbildning",
        text_en: "Education",
        words: &[
            word("primary", "grundskola", "primary"),
            word("secondary", "gymnasium", "secondary"),
            word("higher", "högskola", "higher"),
        ],
        min_group: 100,
    },
    Attribute {
        number: 12,
        key: "age_band",
        kind: AttributeKind::Steps,
        class: AttributeClass::Ordinary,
        text_sv: "Ålder",
        text_en: "Age",
        words: &[
            word("under_18", "under 18", "under 18"),
            word("18_24", "18–24", "18–24"),
            word("25_34", "25–34", "25–34"),
            word("35_44", "35–44", "35–44"),
            word("45_54", "45–54", "45–54"),
            word("55_64", "55–64", "55–64"),
            word("65_74", "65–74", "65–74"),
            word("75_up", "75 och äldre", "75 and older"),
        ],
        min_group: 100,
    },
    Attribute {
        number: 13,
        key: "gender",
        kind: AttributeKind::Words,
        class: AttributeClass::Ordinary,
        text_sv: "Kön",
        text_en: "Gender",
        words: &[
            word("female", "kvinna", "female"),
            word("male", "man", "male"),
            word("other", "annat", "other"),
        ],
        min_group: 100,
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_keys_and_words_are_given_once_and_each_has_texts() {
        let numbers: HashSet<_> = ATTRIBUTES
            .iter()
            .map(|attribute| attribute.number)
            .collect();
        let keys: HashSet<_> = ATTRIBUTES.iter().map(|attribute| attribute.key).collect();
        assert_eq!(
            (numbers.len(), keys.len()),
            (ATTRIBUTES.len(), ATTRIBUTES.len())
        );
        for attribute in &ATTRIBUTES {
            let words: HashSet<_> = attribute.words.iter().map(|word| word.word).collect();
            assert_eq!(words.len(), attribute.words.len(), "{attribute:?}");
            let has_words = matches!(attribute.kind, AttributeKind::Words | AttributeKind::Steps);
            assert_eq!(has_words, !words.is_empty(), "{attribute:?}");
            let texts = attribute
                .words
                .iter()
                .flat_map(|word| [word.text_sv, word.text_en]);
            let mut texts = texts.chain([attribute.text_sv, attribute.text_en]);
            assert!(texts.all(|text| !text.is_empty()), "{attribute:?}");
            assert_eq!(Attribute::from_name(attribute.key), Some(attribute));
        }
    }

    #[test]
    fn to_say_that_somebody_is_a_child_is_of_the_class_of_minors() {
        let age = Attribute::from_name("age_band").unwrap();
        assert_eq!(age.class_of("under_18"), AttributeClass::Minor);
        assert_eq!(age.class_of("25_34"), AttributeClass::Ordinary);
    }
}
