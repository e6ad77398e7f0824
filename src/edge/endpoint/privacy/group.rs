//! The groups that a visitor is in and the imported data that is used of them, on their page, with
//! the forms by which they leave a group, leave all, and object to a supplier.
//!
//! It is shown only where the request itself permits `store`, `measure` and `profile`. A group's
//! reason is its condition in words, which speaks of the visitor and of households as such, never
//! of what somebody else does.

use super::time;
use crate::attribute::{ATTRIBUTES, AttributeKind, LEGAL_BASES};
use crate::clock::UnixMicros;
use crate::edge::text::{Language, fill};
use crate::hit::Permit;
use crate::hit::belief::{AttributeBelief, GROUPS_NEEDED, GroupBelief, ObjectionBelief};
use crate::hit::subject::Held;

const DAY_MICROS: i64 = 86_400_000_000;

/// What the page shows of groups and of imported data.
pub(super) struct ShownGroups {
    /// The language of the names and reasons of groups and of the names of attributes, which are
    /// written in Swedish and English alone.
    pub(super) code: &'static str,
    pub(super) groups: Vec<ShownGroup>,
    pub(super) is_never: bool,
    pub(super) attributes: Vec<ShownAttribute>,
    pub(super) objections: Vec<ShownObjection>,
}

pub(super) struct ShownObjection {
    pub(super) number: i32,
    pub(super) text: String,
    /// The value of the button that takes it back.
    pub(super) wish: &'static str,
    pub(super) is_source: bool,
}

pub(super) struct ShownGroup {
    pub(super) number: i32,
    pub(super) name: String,
    /// Why somebody is in it, and what is said around that.
    pub(super) reason: String,
    pub(super) around: (&'static str, &'static str),
    pub(super) since: String,
}

pub(super) struct ShownAttribute {
    pub(super) import: i32,
    pub(super) name: &'static str,
    pub(super) value: String,
    /// The language of the value.
    pub(super) value_code: &'static str,
    pub(super) supplier: String,
    pub(super) dates: String,
}

/// Returns the language in which names are read that are written in Swedish and English alone.
fn language_of_names(language: Language) -> Language {
    match language {
        Language::Swedish => Language::Swedish,
        _ => Language::English,
    }
}

/// Returns what is shown; `None` where the request does not permit it, or where nothing is known of
/// this browser.
pub(super) fn show(permit: Permit, held: &[Held], language: Language) -> Option<ShownGroups> {
    if held.is_empty() || !permit.allows(GROUPS_NEEDED) {
        return None;
    }
    let mut shown = ShownGroups {
        code: language_of_names(language).code(),
        groups: Vec::new(),
        is_never: false,
        attributes: Vec::new(),
        objections: Vec::new(),
    };
    let mut known: Vec<&AttributeBelief> = Vec::new();
    for beliefs in held.iter().map(|held| &held.beliefs.groups) {
        shown.is_never |= beliefs.is_never;
        for group in &beliefs.groups {
            if shown
                .groups
                .iter()
                .all(|other| other.number != group.number)
            {
                shown.groups.push(show_group(group, language));
            }
        }
        for objection in &beliefs.objections {
            let objection = show_objection(objection, language);
            let mut others = shown.objections.iter();
            if others.all(|other| other.text != objection.text) {
                shown.objections.push(objection);
            }
        }
        for attribute in &beliefs.attributes {
            if !known.contains(&attribute) {
                known.push(attribute);
                shown.attributes.extend(show_attribute(attribute, language));
            }
        }
    }
    Some(shown)
}

fn show_objection(objection: &ObjectionBelief, language: Language) -> ShownObjection {
    let t = language.text();
    match objection {
        ObjectionBelief::Group { number, names } => {
            let [sv, en] = names;
            let name = match language_of_names(language) {
                Language::Swedish => sv,
                _ => en,
            };
            ShownObjection {
                number: *number,
                text: fill(t.group_left, name),
                wish: "take_back_group",
                is_source: false,
            }
        }
        ObjectionBelief::Supplier { import, supplier } => ShownObjection {
            number: *import,
            text: fill(t.source_objected, supplier),
            wish: "take_back_object",
            is_source: true,
        },
    }
}

fn show_group(group: &GroupBelief, language: Language) -> ShownGroup {
    let t = language.text();
    let (name, reason) = match (language_of_names(language), &group.names, &group.reasons) {
        (Language::Swedish, [name, _], [reason, _]) | (_, [_, name], [_, reason]) => (name, reason),
    };
    ShownGroup {
        number: group.number,
        name: name.clone(),
        reason: reason.clone(),
        around: t.group_because.split_once("{}").unwrap_or_default(),
        since: fill(t.group_since, &time::day(group.since, language)),
    }
}

/// Returns an attribute in words; `None` of one that this version does not know.
fn show_attribute(held: &AttributeBelief, language: Language) -> Option<ShownAttribute> {
    let t = language.text();
    let known = ATTRIBUTES
        .iter()
        .find(|known| known.number == held.attribute)?;
    let of = |sv: &'static str, en: &'static str| match language {
        Language::Swedish => sv,
        _ => en,
    };
    let code = language_of_names(language).code();
    let word = known.words.iter().find(|word| word.word == held.value);
    let (value, value_code) = match (known.kind, word) {
        (AttributeKind::Hash, _) => (t.source_hashed.to_owned(), language.code()),
        (_, Some(word)) => (of(word.text_sv, word.text_en).to_owned(), code),
        (_, None) => (held.value.clone(), code),
    };
    let mut bases = LEGAL_BASES.iter().zip(t.legal_bases);
    let base = bases.find(|(name, _)| **name == held.legal_basis);
    // The last day on which it is used; midnight UTC is the same day in Sweden.
    let until = UnixMicros((i64::from(held.valid_until) - 1) * DAY_MICROS);
    let dates = [
        time::day(held.changed_at, language),
        base.map_or("", |(_, base)| base).to_owned(),
        time::day(until, language),
    ];
    let dates = dates
        .iter()
        .fold(t.source_dates.to_owned(), |text, part| fill(&text, part));
    Some(ShownAttribute {
        import: held.import,
        name: of(known.text_sv, known.text_en),
        value,
        value_code,
        supplier: fill(t.source_supplier, &held.supplier),
        dates,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_imported_data_are_told_in_each_language_and_only_to_a_request_that_permits_it() {
        let mut held = Held::default();
        held.beliefs.groups.groups.push(GroupBelief {
            number: 7,
            names: ["Ny telefon".to_owned(), "New phone".to_owned()],
            reasons: ["sv".to_owned(), "en".to_owned()],
            since: UnixMicros(1_790_000_000_000_000),
        });
        let attribute = AttributeBelief {
            import: 3,
            supplier: "Register AB".to_owned(),
            legal_basis: "legitimate_interest".to_owned(),
            attribute: 1,
            value: "flat".to_owned(),
            changed_at: UnixMicros(1_790_000_000_000_000),
            valid_until: 20_820,
        };
        let unknown = AttributeBelief {
            attribute: 999,
            ..attribute.clone()
        };
        held.beliefs.groups.attributes = vec![attribute, unknown];
        for (language, name, value, ground) in [
            (
                Language::Swedish,
                "Ny telefon",
                "lägenhet",
                "berättigat intresse",
            ),
            (
                Language::English,
                "New phone",
                "flat",
                "legitimate interest",
            ),
            (Language::Danish, "New phone", "flat", "legitim interesse"),
            (
                Language::Norwegian,
                "New phone",
                "flat",
                "berettiget interesse",
            ),
            (Language::Finnish, "New phone", "flat", "oikeutettu etu"),
        ] {
            // A browser with two cookies shows a group once.
            let both = [held.clone(), held.clone()];
            let shown = show(GROUPS_NEEDED, &both, language).expect("it is permitted");
            let [group] = &*shown.groups else {
                panic!("one group");
            };
            assert_eq!((group.number, &*group.name), (7, name));
            assert_eq!(group.reason, shown.code);
            let (before, after) = group.around;
            assert_eq!(
                format!("{before}{{}}{after}"),
                language.text().group_because
            );
            assert!(group.since.contains("2026"), "{}", group.since);
            let [shown] = &*shown.attributes else {
                panic!("one attribute");
            };
            assert_eq!((shown.import, &*shown.value), (3, value));
            assert!(shown.supplier.contains("Register AB"));
            assert!(shown.dates.contains(ground) && !shown.dates.contains("{}"));
            assert!(shown.dates.contains("2026"), "{}", shown.dates);
        }
        for permit in [Permit::NONE, Permit::STORE.with(Permit::MEASURE)] {
            assert!(show(permit, std::slice::from_ref(&held), Language::English).is_none());
        }
        assert!(show(GROUPS_NEEDED, &[], Language::English).is_none());
    }
}
