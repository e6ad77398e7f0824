//! The columns of the view `profile` that an expression may name: one table, and the attributes of
//! [`crate::attribute`], each of which is a column too.
//!
//! A hash is no column: nobody can write down what it is compared with.

use std::sync::LazyLock;

use super::ValueType;
use crate::attribute::{ATTRIBUTES, Attribute, AttributeClass, AttributeKind};

/// A column of the view `profile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileColumn {
    /// Its name in the view.
    pub name: &'static str,
    /// What it holds.
    pub holds: ValueType,
    /// The texts that it may hold; empty where they are many.
    pub values: &'static [&'static str],
    /// The attribute that it is.
    pub attribute: Option<&'static Attribute>,
    /// Whether it says nothing of any one member of a household.
    pub is_of_household: bool,
    /// What a visitor is told that it is, in Swedish.
    pub text_sv: &'static str,
    /// The same in English.
    pub text_en: &'static str,
}

/// The classes of devices that people use.
const DEVICE_CLASSES: &[&str] = &[
    "phone", "tablet", "desktop", "tv", "console", "car", "watch", "other",
];

const HOUSEHOLD_SIZES: &[&str] = &["2", "3 to 5", "6 or more"];

/// The attributes that say something of a household as such.
const OF_HOUSEHOLD: [&str; 2] = ["housing_type", "urbanisation"];

/// Every column.
static COLUMNS: LazyLock<Vec<ProfileColumn>> = LazyLock::new(|| {
    let is_column = |attribute: &&Attribute| attribute.kind != AttributeKind::Hash;
    let attributes = ATTRIBUTES.iter().filter(is_column).map(of_attribute);
    PROFILE.into_iter().chain(attributes).collect()
});

/// The columns that are no attributes.
const PROFILE: [ProfileColumn; 18] = [
    ProfileColumn {
        values: DEVICE_CLASSES,
        ..text("device_class", "typen av enhet", "the kind of device")
    },
    text("device_brand", "enhetens märke", "the maker of the device"),
    text("device_model", "enhetens modell", "the model of the device"),
    text("device_name", "enhetens namn", "the name of the device"),
    number(
        "device_age",
        "enhetens ålder i månader",
        "the age of the device in months",
    ),
    text("os", "operativsystemet", "the operating system"),
    text("browser", "webbläsaren", "the browser"),
    area("country", "landet", "the country"),
    area("region", "länet", "the region"),
    area("city", "orten", "the city"),
    area("postal_code", "postnumret", "the postal code"),
    number(
        "days_since_first",
        "dagar sedan ditt första besök",
        "days since your first visit",
    ),
    number(
        "days_since_last",
        "dagar sedan ditt senaste besök",
        "days since your last visit",
    ),
    number(
        "days_active",
        "dagar med besök av de senaste 30",
        "days with a visit of the last 30",
    ),
    truth(
        "permits_link",
        "du tillåter att enheter kopplas ihop",
        "you allow devices to be linked",
    ),
    truth(
        "permits_match",
        "du tillåter utbyte med partner",
        "you allow exchange with partners",
    ),
    truth(
        "permits_locate",
        "du tillåter platsuppgifter",
        "you allow your place to be known",
    ),
    ProfileColumn {
        values: HOUSEHOLD_SIZES,
        ..area(
            "household_size",
            "hushållets antal enheter",
            "the number of devices in the household",
        )
    },
];

const fn text(name: &'static str, text_sv: &'static str, text_en: &'static str) -> ProfileColumn {
    ProfileColumn {
        name,
        holds: ValueType::Text,
        values: &[],
        attribute: None,
        is_of_household: false,
        text_sv,
        text_en,
    }
}

const fn number(name: &'static str, text_sv: &'static str, text_en: &'static str) -> ProfileColumn {
    ProfileColumn {
        holds: ValueType::Number,
        ..text(name, text_sv, text_en)
    }
}

const fn truth(name: &'static str, text_sv: &'static str, text_en: &'static str) -> ProfileColumn {
    ProfileColumn {
        holds: ValueType::Truth,
        ..text(name, text_sv, text_en)
    }
}

/// Where somebody lives is the same for a whole household.
const fn area(name: &'static str, text_sv: &'static str, text_en: &'static str) -> ProfileColumn {
    ProfileColumn {
        is_of_household: true,
        ..text(name, text_sv, text_en)
    }
}

fn of_attribute(attribute: &'static Attribute) -> ProfileColumn {
    ProfileColumn {
        holds: match attribute.kind {
            AttributeKind::Number => ValueType::Number,
            _ => ValueType::Text,
        },
        attribute: Some(attribute),
        is_of_household: OF_HOUSEHOLD.contains(&attribute.key),
        ..text(attribute.key, attribute.text_sv, attribute.text_en)
    }
}

impl ProfileColumn {
    /// Returns the column of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<&'static ProfileColumn> {
        COLUMNS.iter().find(|column| column.name == name)
    }

    /// Returns the name of each column.
    pub fn names() -> impl Iterator<Item = &'static str> {
        COLUMNS.iter().map(|column| column.name)
    }

    /// Returns the texts that it may hold; none where they are many.
    #[must_use]
    pub fn texts(&self) -> Vec<&'static str> {
        let words = self.attribute.iter().flat_map(|attribute| attribute.words);
        let words = words.map(|word| word.word);
        self.values.iter().copied().chain(words).collect()
    }

    /// Returns whether each of its texts is more than the one before.
    #[must_use]
    pub(crate) fn has_order(&self) -> bool {
        let attribute = self.attribute;
        attribute.is_some_and(|attribute| attribute.kind == AttributeKind::Steps)
    }

    /// Returns how sensitive it is.
    #[must_use]
    pub fn class(&self) -> AttributeClass {
        let attribute = self.attribute;
        attribute.map_or(AttributeClass::Ordinary, |attribute| attribute.class)
    }

    /// Returns how sensitive it is to say that it is this text.
    #[must_use]
    pub(crate) fn class_of(&self, text: &str) -> AttributeClass {
        let attribute = self.attribute;
        attribute.map_or(AttributeClass::Ordinary, |attribute| {
            attribute.class_of(text)
        })
    }

    /// Returns the texts that say of somebody that they are a child.
    pub(crate) fn minors(&self) -> impl Iterator<Item = &'static str> {
        let texts = self.texts().into_iter();
        texts.filter(|text| self.class_of(text) == AttributeClass::Minor)
    }
}
