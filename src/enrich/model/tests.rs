use super::*;
use crate::enrich::Problem;

/// Makes names of lines, of a list `a` unless they say otherwise.
fn names_of(lines: &[&str]) -> (ModelNames, Option<Problem>) {
    let head = ["{\"format\":1}", "{\"source\":\"a\",\"version\":\"1\"}"];
    let lines: Vec<&str> = head.iter().chain(lines).copied().collect();
    ModelNames::parse(lines.join("\n").as_bytes()).unwrap()
}

fn sound(lines: &[&str]) -> ModelNames {
    let (names, problem) = names_of(lines);
    assert!(problem.is_none(), "{problem:?}");
    names
}

/// Returns what each list calls a model, as "maker name".
fn called(names: &ModelNames, brand: &str, model: &str) -> Vec<String> {
    let found = names.names(brand, model).into_iter();
    found
        .map(|name| format!("{} {}", name.maker, name.name))
        .collect()
}

const PHONES: &[&str] = &[
    r#"{"maker":"Samsung","name":"Galaxy S23 Ultra","released":2023,"codes":["SM-S918","SC-52D"],"codenames":["dm3q"]}"#,
    r#"{"maker":"Samsung","name":"Galaxy S23","codes":["SM-S91"]}"#,
    r#"{"maker":"Xiaomi","name":"Redmi Note 9","codes":["Redmi Note 9"]}"#,
    r#"{"maker":"Xiaomi","name":"Redmi Note 9 Pro","codes":["Redmi Note 9 Pro"]}"#,
    r#"{"maker":"Google","name":"Pixel","whole":["Pixel"]}"#,
    r#"{"maker":"Philips","name":"Google TV","codes":["google"]}"#,
    r#"{"maker":"Lenovo","name":"Tab A1","codes":["A1"]}"#,
    r#"{"maker":"Oppo","name":"A1","whole":["A1"]}"#,
    r#"{"maker":"Oppo","name":"F1s","whole":["A1601"]}"#,
    r#"{"maker":"Apple","name":"iPad mini","whole":["iPad14,1"],"numbers":["A1601"]}"#,
    r#"{"maker":"Cherry","name":"Flare J2","codes":["Flare J2"]}"#,
    r#"{"maker":"Cherry","name":"Flare ${1} Mini","pattern":"Flare[_ ]([A-Z]\\d+)[_ ]Mini"}"#,
    r#"{"maker":"Motorola","name":"Moto G Power (2022)","whole":["moto g power (2022)"]}"#,
    r#"{"maker":"LG","name":"Optimus G","codes":["LG-F180"]}"#,
];

#[test]
fn the_longest_text_that_a_model_begins_with_names_it() {
    let names = sound(PHONES);
    for (brand, model, name) in [
        ("Samsung", "SM-S918B", "Samsung Galaxy S23 Ultra"),
        ("Samsung", "sm-s918b/ds", "Samsung Galaxy S23 Ultra"),
        ("Samsung", "SM-S9180", "Samsung Galaxy S23 Ultra"),
        ("Samsung", "SAMSUNG SM-S918U", "Samsung Galaxy S23 Ultra"),
        ("Samsung", "SAMSUNG-SM-S918U", "Samsung Galaxy S23 Ultra"),
        ("Samsung", "SM-S91X", "Samsung Galaxy S23"),
        ("", "SC-52D", "Samsung Galaxy S23 Ultra"),
        ("XiaoMi", "Redmi Note 9 Pro", "Xiaomi Redmi Note 9 Pro"),
        ("XiaoMi", "Redmi_Note_9", "Xiaomi Redmi Note 9"),
        ("XiaoMi", "Note 9", "Xiaomi Redmi Note 9"),
        ("Google", "Pixel", "Google Pixel"),
        ("", "Cherry Flare J2", "Cherry Flare J2"),
        ("", "Flare J2 Mini", "Cherry Flare J2 Mini"),
        ("Motorola", "g power (2022)", "Motorola Moto G Power (2022)"),
        ("LG", "F180S", "LG Optimus G"),
    ] {
        assert_eq!(called(&names, brand, model), [name], "{brand} {model}");
    }
}

#[test]
fn a_text_that_is_too_short_or_ends_in_the_middle_of_a_number_names_nothing() {
    let names = sound(PHONES);
    for (brand, model) in [
        ("", ""),
        ("Samsung", ""),
        ("Samsung", "SM-S91855"),
        ("XiaoMi", "Redmi Note 91"),
        ("XiaoMi", "Redmi Note 90"),
        ("Google", "google home"),
        ("Google", "Pixel 12"),
        ("", "A1 Plus"),
        ("Sony", "A1"),
        ("", "Flare"),
        ("Sony", "Flare J2 Mini Pro Max of somebody else"),
        ("Samsung", "ü"),
        ("", "åäö-1234567"),
    ] {
        let found = called(&names, brand, model);
        let is_other = found.iter().all(|name| name == "Cherry Flare J2");
        assert!(is_other, "{brand} {model}: {found:?}");
    }
    let long = "SM-S918B".repeat(9);
    assert_eq!(called(&names, "Samsung", &long), [""; 0]);
}

#[test]
fn makers_with_the_same_code_are_told_apart_by_the_brand() {
    let names = sound(PHONES);
    assert_eq!(called(&names, "Oppo", "A1"), ["Oppo A1"]);
    assert_eq!(called(&names, "Lenovo", "A1"), ["Lenovo Tab A1"]);
    // A number that people read on the back is in no user agent.
    assert_eq!(called(&names, "", "A1601"), ["Oppo F1s"]);
    assert_eq!(called(&names, "Apple", "A1601"), ["Oppo F1s"]);
}

#[test]
fn lists_that_disagree_are_all_kept_with_their_source() {
    let names = sound(&[
        r#"{"maker":"Honor","name":"Magic4 Lite","codes":["ANY-NX1"]}"#,
        r#"{"source":"b","version":"2"}"#,
        r#"{"maker":"Honor","name":"X9","released":2022,"whole":["ANY-NX1"]}"#,
    ]);
    let found = names.names("Huawei", "ANY-NX1");
    let shown: Vec<String> = found
        .iter()
        .map(|it| {
            format!(
                "{} {} {} {:?}",
                it.source, it.source_version, it.name, it.released
            )
        })
        .collect();
    assert_eq!(shown, ["a 1 Magic4 Lite None", "b 2 X9 Some(2022)"]);
}

#[test]
fn people_find_a_model_by_code_name_codename_and_number_in_any_case() {
    let names = sound(PHONES);
    let ultra = "Galaxy S23 Ultra";
    for (text, expect) in [
        ("SM-S918B", vec![ultra]),
        ("sm-s918b", vec![ultra]),
        ("galaxy s23 ultra", vec![ultra]),
        ("SAMSUNG Galaxy-S23 ULTRA", vec![ultra]),
        ("DM3Q", vec![ultra]),
        ("Galaxy S23", vec!["Galaxy S23"]),
        ("iPad14,1", vec!["iPad mini"]),
        ("a1601", vec!["F1s", "iPad mini"]),
        ("A1", vec!["Tab A1", "A1"]),
        ("Nokia 3310", vec![]),
        ("", vec![]),
        ("---", vec![]),
    ] {
        let found = names.find(text);
        let found: Vec<&str> = found.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(found, expect, "{text}");
    }
    let wanted = HashSet::from([("Samsung".to_owned(), ultra.to_owned())]);
    let aliases = names.aliases(&wanted).into_values().next().unwrap();
    let shown: Vec<String> = aliases
        .iter()
        .map(|(alias, kind)| format!("{alias} {}", kind.name()))
        .collect();
    let expect = [
        "Galaxy S23 Ultra name",
        "SC-52D code",
        "SM-S918 code",
        "dm3q codename",
    ];
    assert_eq!(shown, expect);
}

#[test]
fn a_family_is_the_name_without_its_variants_and_never_empty() {
    for (name, expect) in [
        ("Galaxy S23 Ultra", "Galaxy S23"),
        ("Galaxy S24+", "Galaxy S24"),
        ("iPhone 14 Pro Max", "iPhone 14"),
        ("Redmi Note 10 Pro 5G", "Redmi Note 10"),
        ("Moto G Power (2022)", "Moto G Power"),
        ("iPad Pro (11-inch) (M4)", "iPad"),
        ("Pixel 9", "Pixel 9"),
        ("Max", "Max"),
        ("Pro Max", "Pro"),
        ("", ""),
    ] {
        assert_eq!(family(name), expect);
    }
    assert_eq!(year("Moto G Power (2022)"), Some(2022));
    for none in [
        "Galaxy S20",
        "X (20",
        "X (202)",
        "X (20ab)",
        "X (2022",
        "(20é)",
    ] {
        assert_eq!(year(none), None, "{none}");
    }
}

#[test]
fn a_line_that_is_wrong_costs_itself_alone_and_another_file_is_refused() {
    let good = r#"{"maker":"Samsung","name":"Galaxy S23 Ultra","codes":["SM-S918"]}"#;
    for wrong in [
        "{",
        "[]",
        "\u{fffd}",
        "{}",
        r#"{"maker":"X"}"#,
        r#"{"maker":"","name":"Y","codes":["ABC-12"]}"#,
        r#"{"maker":"X","name":"","codes":["ABC-12"]}"#,
        r#"{"maker":"X","name":"Y","codes":[""]}"#,
        r#"{"maker":"X","name":"Y","codes":"ABC-12"}"#,
        r#"{"maker":"X","name":"Y","released":99999}"#,
        r#"{"maker":"X","name":"Y","unknown":1}"#,
        r#"{"maker":"X","name":"Y","pattern":"("}"#,
        r#"{"maker":"X","name":"Y","pattern":"a(?!b)"}"#,
        &format!(r#"{{"maker":"X","name":"{}"}}"#, "n".repeat(200)),
    ] {
        let (names, problem) = names_of(&[wrong, good]);
        assert_eq!(called(&names, "", "SM-S918B"), ["Samsung Galaxy S23 Ultra"]);
        let text = problem.unwrap().to_string();
        let expect = "1 of 3 lines skipped, the first is line 3: ";
        assert!(text.starts_with(expect), "{wrong}: {text}");
    }
    for other in ["", "{", "[]", "{\"format\":2}\n", "<html>", "\0\0\0"] {
        let problem = ModelNames::parse(other.as_bytes()).map(|_| ()).unwrap_err();
        assert!(matches!(problem, Problem::Models { format: 1 }), "{other}");
    }
    // Names before the first list are nobody's.
    let early = format!("{{\"format\":1}}\n{good}\n");
    let problem = ModelNames::parse(early.as_bytes()).map(|_| ()).unwrap_err();
    let expect = "1 of 1 lines skipped, the first is line 2: it stands before the first list";
    assert_eq!(problem.to_string(), expect);
}

#[test]
fn the_digest_changes_with_the_file() {
    let (one, other) = (sound(PHONES), sound(&PHONES[1..]));
    assert_eq!(one.digest(), sound(PHONES).digest());
    assert_ne!(one.digest(), other.digest());
}
