//! Segments together: what they may be made of, what they become, and what visitors are told.

use super::super::*;
use crate::attribute::AttributeClass;

fn definition<'c>(key: &'c str, expression: &'c str) -> Definition<'c> {
    Definition {
        key,
        names: [key, key],
        expression,
        scope: SegmentScope::Device,
        is_consented: false,
        min_size: 100,
        is_exported: false,
        last_day: None,
    }
}

fn read(definitions: &[Definition<'_>]) -> Result<Book, Vec<String>> {
    let guards = Guards {
        classes: &[AttributeClass::Credit],
        is_sensitive: &|category| category.starts_with("health"),
    };
    Book::read(definitions, &guards).map_err(|mistakes| {
        let shown = mistakes
            .iter()
            .map(|(at, mistake)| format!("{at}: {mistake}"));
        shown.collect()
    })
}

#[test]
fn a_segment_by_way_of_itself_or_of_an_unknown_one_is_refused() {
    let book = read(&[
        definition("a", "os = 'x' and in_segment('b')"),
        definition("b", "in_segment('c')"),
        definition("c", "true or in_segment('a')"),
        definition("d", "in_segment('e')"),
        definition("f", "in_segment('broken')"),
        definition("broken", "1"),
    ]);
    assert_eq!(
        book.unwrap_err(),
        [
            "0: line 1, column 14: a segment by way of itself (a -> b -> c -> a); none would be right",
            "1: line 1, column 1: a segment by way of itself (b -> c -> a -> b); none would be right",
            "2: line 1, column 9: a segment by way of itself (c -> a -> b -> c); none would be right",
            "3: line 1, column 1: e is no segment; the key of one would be right",
            "5: line 1, column 1: 1 is a number; a condition would be right",
        ]
    );
}

#[test]
fn a_segment_stands_for_the_condition_of_another_with_its_scope() {
    let owner = |definition| Definition {
        scope: SegmentScope::Owner,
        ..definition
    };
    let book = read(&[
        definition("base", "events('a', '3 days') > 1"),
        owner(definition(
            "wide",
            "in_segment('base') and events('b', '3 days') > 1",
        )),
    ]);
    let sql = &book.unwrap().segments[1].sql;
    assert!(
        sql.starts_with(
            "(coalesce(((select coalesce(sum(fact.n), 0) from avtryck.device_fact as fact"
        ),
        "{sql}"
    );
    assert!(sql.contains("fact.subject = any(kin.ids)"), "{sql}");
}

#[test]
fn a_chain_of_segments_that_doubles_at_each_step_is_refused() {
    let keys: Vec<String> = (0..12).map(|at| format!("s{at}")).collect();
    let texts: Vec<String> = keys
        .iter()
        .map(|key| format!("in_segment('{key}') or in_segment('{key}')"))
        .collect();
    let mut definitions = vec![definition("s0", "os = 'a'")];
    definitions.extend((1..12).map(|at| definition(&keys[at], &texts[at - 1])));
    let mistakes = read(&definitions).unwrap_err();
    assert!(
        mistakes
            .iter()
            .any(|mistake| mistake.contains("more than 1000 parts")),
        "{mistakes:?}"
    );
}

#[test]
fn sensitive_categories_are_refused_whatever_the_basis_and_by_way_of_others() {
    let consented = |definition| Definition {
        is_consented: true,
        ..definition
    };
    let mistakes = read(&[
        definition("a", "pages('health/diabetes', '9 days') > 0"),
        consented(definition("b", "os = 'x' or pages('health', '9 days') > 0")),
        definition("c", "os = 'x' and not in_segment('b')"),
        definition("d", "events('health', '9 days') > 0"),
    ]);
    assert_eq!(
        mistakes.unwrap_err(),
        [
            "0: line 1, column 1: health/diabetes: a sensitive category, which is never counted; another would be right",
            "1: line 1, column 13: health: a sensitive category, which is never counted; another would be right",
            "2: line 1, column 18: health, by way of b: a sensitive category, which is never counted; another would be right",
        ]
    );
}

#[test]
fn a_household_is_known_by_attributes_of_its_own_and_by_way_of_such_alone() {
    let household = |definition| Definition {
        scope: SegmentScope::Household,
        ..definition
    };
    let mistakes = read(&[
        household(definition("a", "household_size = '2' and region = 'Skåne'")),
        household(definition("b", "events('cancel', '9 days') > 0")),
        household(definition("c", "region = 'Skåne' and device_class = 'tv'")),
        definition("d", "days_active > 3"),
        household(definition("e", "in_segment('d')")),
        definition("f", "in_segment('a')"),
    ]);
    assert_eq!(
        mistakes.unwrap_err(),
        [
            "1: line 1, column 1: cancel: what one member did (events); an attribute of the household would be right",
            "2: line 1, column 22: device_class: it is of one member of the household; an attribute of the household would be right",
            "4: line 1, column 1: days_active, by way of d: it is of one member of the household; an attribute of the household would be right",
        ]
    );
}

#[test]
fn a_device_is_told_nothing_that_its_owner_did_elsewhere() {
    let owner = |definition| Definition {
        scope: SegmentScope::Owner,
        ..definition
    };
    let mistakes = read(&[
        owner(definition("wide", "events('a', '3 days') > 1")),
        definition("narrow", "in_segment('wide')"),
    ]);
    assert_eq!(
        mistakes.unwrap_err(),
        [
            "1: line 1, column 1: wide: a segment of scope owner in one of scope device; the same scope would be right"
        ]
    );
}

#[test]
fn visitors_are_told_in_both_languages_who_is_in_a_segment() {
    for (text, sv, en) in [
        (
            "events('view_phone', '14 days') >= 3 and device_age >= 24",
            "”view_phone” registrerades de senaste 14 dagarna, minst 3 gånger och enhetens ålder i månader är minst 24",
            "“view_phone” was recorded in the last 14 days, at least 3 times and the age of the device in months is at least 24",
        ),
        (
            "not (seen('spring', '1 day') > 0 or permits_link)",
            "det stämmer inte att (du såg annonser i ”spring” i dag, minst en gång eller du tillåter att enheter kopplas ihop)",
            "it is not so that (you saw ads of “spring” today, at least once or you allow devices to be linked)",
        ),
        (
            "pages('news', '7 days') = 0",
            "det har inte hänt att du läste om ”news” de senaste 7 dagarna",
            "it has not happened that you read about “news” in the last 7 days",
        ),
        (
            "coalesce(city, 'x') in ('Lund', 'x') or in_segment('loyal')",
            "orten eller, om det är okänt, ”x” är något av ”Lund”, ”x” eller du är i gruppen ”Trogen”",
            "the city or, if that is unknown, “x” is one of “Lund”, “x” or you are in the group “Loyal”",
        ),
    ] {
        let loyal = Definition {
            names: ["Trogen", "Loyal"],
            ..definition("loyal", "true")
        };
        let book = read(&[loyal, definition("a", text)]).unwrap();
        let words = &book.segments[1].words;
        assert_eq!((&*words.sv, &*words.en), (sv, en));
    }
}

#[test]
fn a_digest_changes_with_what_decides_and_with_nothing_else() {
    let digest = |definition| read(&[definition]).unwrap().segments[0].digest.clone();
    let one = definition("a", "os = 'x'");
    let same = Definition {
        key: "b",
        min_size: 50,
        ..definition("a", "(os)   =  'x'")
    };
    let wide = definition("a", "events('e', '1 day') > 0");
    let owner = Definition {
        scope: SegmentScope::Owner,
        ..wide
    };
    assert_eq!(digest(one), digest(same));
    assert_ne!(digest(one), digest(wide));
    assert_ne!(digest(wide), digest(owner));
}

#[test]
fn sensitive_attributes_take_explicit_consent_and_a_class_that_is_allowed_also_by_way_of_others() {
    let consented = |definition| Definition {
        is_consented: true,
        ..definition
    };
    let mistakes = read(&[
        definition("a", "credit_band = 'low'"),
        consented(definition("b", "credit_band < 'middle'")),
        definition("c", "in_segment('b') or true"),
        consented(definition("d", "in_segment('c')")),
        consented(definition("e", "age_band = 'under_18'")),
        definition("f", "age_band not in ('25_34', 'under_18')"),
        definition("g", "coalesce(age_band, 'none') <> 'under_18'"),
        definition("h", "income_band >= 'middle' and education = 'higher'"),
    ]);
    let credit = "a credit attribute; basis = \"explicit_consent\" and credit in import.classes would be right";
    let minor = "a minor attribute; basis = \"explicit_consent\" and minor in import.classes would be right";
    assert_eq!(
        mistakes.unwrap_err(),
        [
            format!("0: line 1, column 1: credit_band: {credit}"),
            format!("2: line 1, column 1: credit_band, by way of b: {credit}"),
            format!("4: line 1, column 1: age_band: {minor}"),
            format!("5: line 1, column 1: age_band: {minor}"),
            format!("6: line 1, column 10: age_band: {minor}"),
        ]
    );
}

#[test]
fn whoever_may_not_know_children_cannot_tell_them_from_those_of_unknown_age() {
    let book = read(&[definition("a", "not (age_band >= '18_24')")]).unwrap();
    assert!(
        book.segments[0]
            .sql
            .contains("nullif(held.value, 'under_18')")
    );
}

#[test]
fn bands_have_the_order_of_their_words_and_partners_get_what_is_imported_for_export() {
    let exported = |definition| Definition {
        is_exported: true,
        ..definition
    };
    let text = "income_band >= 'middle'";
    let book = read(&[definition("a", text), exported(definition("b", text))]).unwrap();
    let [page, partner] = &*book.segments else {
        panic!("{book:?}")
    };
    let order = "array_position(array['low', 'middle', 'high'], 'middle')";
    assert!(page.sql.contains(&format!(">= {order}")), "{}", page.sql);
    assert!(
        !page.sql.contains("'export'") && partner.sql.contains("'export' = any(held.purposes)")
    );
    assert_eq!(page.min_size, 500, "the least group of that attribute");
    assert_eq!(page.words.en, "Level of income is at least middle");
    assert_eq!(page.words.sv, "Inkomstnivå är minst medel");
}
