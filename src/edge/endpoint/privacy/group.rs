//! The groups that a visitor is in and the imported data that is used of them, on their page, with
//! the forms by which they leave a group, leave all, and object to a supplier.
//!
//! It is shown only where the request itself permits `store`, `measure` and `profile`. A group's
//! reason is its condition in words, which speaks of the visitor and of households as such, never
//! of what somebody else does.

use super::time;
use crate::attribute::{ATTRIBUTES, AttributeKind};
use crate::clock::UnixMicros;
use crate::edge::text::{Language, fill};
use crate::hit::Permit;
use crate::hit::belief::{AttributeBelief, GROUPS_NEEDED, GroupBelief};
use crate::hit::subject::Held;

const DAY_MICROS: i64 = 86_400_000_000;

/// What is said of groups and of imported data, in one language.
pub(super) struct GroupText {
    /// The language.
    language: Language,
    /// Its tag of BCP 47.
    pub(super) code: &'static str,
    pub(super) groups: &'static str,
    pub(super) why: &'static str,
    pub(super) nothing: &'static str,
    pub(super) never: &'static str,
    /// `{}` is the day.
    since: &'static str,
    /// `{}` is the condition in words.
    because: &'static str,
    pub(super) leave: &'static str,
    pub(super) leave_all: &'static str,
    pub(super) buttons: &'static str,
    pub(super) sources: &'static str,
    pub(super) sources_why: &'static str,
    /// `{}` is the supplier.
    supplier: &'static str,
    /// `{}` are the day, the ground and the last day.
    dates: &'static str,
    hashed: &'static str,
    pub(super) object: &'static str,
    pub(super) object_why: &'static str,
    pub(super) done_left: &'static str,
    pub(super) done_objected: &'static str,
    /// The grounds by their names in manifests.
    grounds: [(&'static str, &'static str); 6],
}

static SWEDISH: GroupText = GroupText {
    language: Language::Swedish,
    code: "sv",
    groups: "Grupper som du är med i",
    why: "Efter grupperna kan sidor och annonser anpassas. Du kan lämna en grupp eller alla.",
    nothing: "Du är inte med i någon grupp.",
    never: "Du har sagt att du inte vill vara med i någon grupp. Därför är du inte det.",
    since: "Sedan {}.",
    because: "Med i gruppen är den för vilken detta gäller: {}.",
    leave: "Lämna gruppen",
    leave_all: "Lämna alla grupper",
    buttons: "Det gäller genast och tills vidare, även nya grupper om du lämnar alla.",
    sources: "Uppgifter om dig från andra",
    sources_why: "Uppgifter som vi har fått från register eller köpt. De används för grupperna.",
    supplier: "Från {}.",
    dates: "Hämtad {}. Grund: {}. Används till {}.",
    hashed: "sparas bara som kontrollsumma",
    object: "Invänd mot källan",
    object_why: "Allt som källan har sagt om dig raderas, och inget nytt därifrån tas emot.",
    done_left: "Det är noterat. Du är inte längre med i gruppen, eller i någon grupp om du lämnade alla.",
    done_objected: "Det är noterat. Källans uppgifter om dig är raderade och används inte mer.",
    grounds: [
        ("consent", "samtycke"),
        ("contract", "avtal"),
        ("legal_obligation", "rättslig förpliktelse"),
        ("vital_interests", "skydd för grundläggande intressen"),
        ("public_task", "uppgift av allmänt intresse"),
        ("legitimate_interest", "berättigat intresse"),
    ],
};

static ENGLISH: GroupText = GroupText {
    language: Language::English,
    code: "en",
    groups: "Groups that you are in",
    why: "Pages and ads can be adapted by the groups. You can leave one group, or all of them.",
    nothing: "You are in no group.",
    never: "You said that you do not want to be in any group, so you are in none.",
    since: "Since {}.",
    because: "This is true of everyone in the group: {}.",
    leave: "Leave this group",
    leave_all: "Leave all groups",
    buttons: "This takes effect at once and stays in force, also for new groups if you leave all.",
    sources: "What others told us about you",
    sources_why: "Data that we have from registers, or bought. It is used to form the groups.",
    supplier: "From {}.",
    dates: "Received on {}. Ground: {}. Used until {}.",
    hashed: "kept only as a checksum",
    object: "Object to this source",
    object_why: "All that the source said about you is deleted, and nothing more is taken from it.",
    done_left: "That is noted. You are no longer in the group, or in any group if you left all.",
    done_objected: "That is noted. What the source said about you is deleted and no longer used.",
    grounds: [
        ("consent", "consent"),
        ("contract", "contract"),
        ("legal_obligation", "legal obligation"),
        ("vital_interests", "vital interests"),
        ("public_task", "public task"),
        ("legitimate_interest", "legitimate interest"),
    ],
};

impl Language {
    /// Returns what is said in this language, or else in English: names and reasons of groups, and
    /// attributes, are written in Swedish and English alone.
    pub(super) fn groups(self) -> &'static GroupText {
        match self {
            Language::Swedish => &SWEDISH,
            _ => &ENGLISH,
        }
    }
}

/// What the page shows of groups and of imported data.
pub(super) struct ShownGroups {
    pub(super) t: &'static GroupText,
    pub(super) groups: Vec<ShownGroup>,
    pub(super) is_never: bool,
    pub(super) attributes: Vec<ShownAttribute>,
}

pub(super) struct ShownGroup {
    pub(super) number: i32,
    pub(super) name: String,
    pub(super) why: String,
    pub(super) since: String,
}

pub(super) struct ShownAttribute {
    pub(super) import: i32,
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) supplier: String,
    pub(super) dates: String,
}

/// Returns what is shown; `None` where the request does not permit it, or where nothing is known of
/// this browser.
pub(super) fn show(permit: Permit, held: &[Held], language: Language) -> Option<ShownGroups> {
    if held.is_empty() || !permit.allows(GROUPS_NEEDED) {
        return None;
    }
    let t = language.groups();
    let language = t.language;
    let mut shown = ShownGroups {
        t,
        groups: Vec::new(),
        is_never: false,
        attributes: Vec::new(),
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
        for attribute in &beliefs.attributes {
            if !known.contains(&attribute) {
                known.push(attribute);
                shown.attributes.extend(show_attribute(attribute, language));
            }
        }
    }
    Some(shown)
}

fn show_group(group: &GroupBelief, language: Language) -> ShownGroup {
    let t = language.groups();
    let (name, reason) = match (language, &group.names, &group.reasons) {
        (Language::Swedish, [name, _], [reason, _]) | (_, [_, name], [_, reason]) => (name, reason),
    };
    ShownGroup {
        number: group.number,
        name: name.clone(),
        why: fill(t.because, reason),
        since: fill(t.since, &time::day(group.since, language)),
    }
}

/// Returns an attribute in words; `None` of one that this version does not know.
fn show_attribute(held: &AttributeBelief, language: Language) -> Option<ShownAttribute> {
    let t = language.groups();
    let known = ATTRIBUTES
        .iter()
        .find(|known| known.number == held.attribute)?;
    let of = |sv: &'static str, en: &'static str| match language {
        Language::Swedish => sv,
        _ => en,
    };
    let word = known.words.iter().find(|word| word.word == held.value);
    let value = match (known.kind, word) {
        (AttributeKind::Hash, _) => t.hashed.to_owned(),
        (_, Some(word)) => of(word.text_sv, word.text_en).to_owned(),
        (_, None) => held.value.clone(),
    };
    let ground = t.grounds.iter().find(|(name, _)| *name == held.legal_basis);
    // The first day on which it is not used; midnight UTC is the same day in Sweden.
    let until = UnixMicros((i64::from(held.valid_until) - 1) * DAY_MICROS);
    let dates = [
        time::day(held.changed_at, language),
        ground.map_or("", |(_, ground)| *ground).to_owned(),
        time::day(until, language),
    ];
    let dates = dates
        .iter()
        .fold(t.dates.to_owned(), |text, part| fill(&text, part));
    Some(ShownAttribute {
        import: held.import,
        name: of(known.text_sv, known.text_en),
        value,
        supplier: fill(t.supplier, &held.supplier),
        dates,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_imported_data_are_told_in_both_languages_and_only_to_a_request_that_permits_it() {
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
            (
                Language::Finnish,
                "New phone",
                "flat",
                "legitimate interest",
            ),
        ] {
            // A browser with two cookies shows a group once.
            let both = [held.clone(), held.clone()];
            let shown = show(GROUPS_NEEDED, &both, language).expect("it is permitted");
            let [group] = &*shown.groups else {
                panic!("one group");
            };
            assert_eq!((group.number, &*group.name), (7, name));
            assert!(group.why.contains(language.groups().code), "{}", group.why);
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
