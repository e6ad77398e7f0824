#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

const SOUND: &str = r#"
name = "register-2026"
supplier = "a register"
legal_basis = "consent"
purpose = ["profile"]
key = { kind = "user", column = "kundnr" }
valid_until = "2027-11-01"
delimiter = ";"
encoding = "windows-1252"
[column.boendeform]
attribute = "housing_type"
values = { "1" = "house", "2" = "flat" }
[column.inkomst]
attribute = "income"
"#;

fn today() -> Date {
    "2026-11-27".parse().unwrap()
}

fn parse(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(text, today(), &[])
}

#[test]
fn a_manifest_says_what_a_file_is_and_its_attributes_have_the_order_of_their_numbers() {
    let manifest = parse(SOUND).unwrap();
    assert_eq!(manifest.format, Format::Csv(b';'));
    assert_eq!(manifest.encoding, WINDOWS_1252);
    assert_eq!(manifest.valid_from, today());
    let columns: Vec<&str> = manifest
        .columns
        .iter()
        .map(|column| &*column.name)
        .collect();
    assert_eq!(columns, ["boendeform", "inkomst"]);
    assert!(manifest.attributes().is_sorted());
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_mistake_is_named_with_what_would_be_right() {
    for (from, to, said) in [
        ("\"register-2026\"", "\"a b\"", "name: \"a b\" is no name"),
        ("\"register-2026\"", "\"\"", "name:"),
        ("\"a register\"", "\" \"", "supplier: is empty"),
        (
            "\"consent\"",
            "\"because\"",
            "legal_basis: because is not a ground; one of consent",
        ),
        (
            "[\"profile\"]",
            "[\"spam\"]",
            "purpose: spam is not a purpose; profile, export, measure",
        ),
        ("[\"profile\"]", "[]", "purpose: is empty"),
        (
            "kind = \"user\"",
            "kind = \"name\"",
            "key.kind: name is no kind of key",
        ),
        (
            "kind = \"user\"",
            "kind = \"partner_uid\"",
            "key.partner: is missing",
        ),
        (
            "kind = \"user\"",
            "kind = \"user\", partner = \"x\"",
            "key.partner: a user has no partner",
        ),
        (
            "valid_until = \"2027-11-01\"",
            "",
            "valid_until: is missing; a day such as",
        ),
        (
            "\"2027-11-01\"",
            "2027-11-01T00:00:00",
            "is no day; one such as 2027-11-01 would be right",
        ),
        (
            "\"2027-11-01\"",
            "2027",
            "valid_until: a value of the type integer is no day",
        ),
        (
            "valid_until = \"2027-11-01\"",
            "valid_from = \"2090-01-01\"\nvalid_until = \"2091-12-31\"",
            "valid_until: 2091-12-31 is too far; a day up to 2028-11-27",
        ),
        (
            "valid_until = \"2027-11-01\"",
            "valid_from = \"2027-11-02\"\nvalid_until = \"2027-11-01\"",
            "valid_from: 2027-11-02 is not before valid_until; a day before 2027-11-01",
        ),
        (
            "\"a register\"",
            "\"a\\u0000b\"",
            "supplier: has control characters",
        ),
        ("supplier = \"a register\"", "", "supplier: is missing"),
        (
            "\"register-2026\"",
            "7",
            "name: is of the type integer; a text such as",
        ),
        (
            "kind = \"user\", ",
            "",
            "key.kind: is missing; a text such as \"user\"",
        ),
        (
            "attribute = \"income\"",
            "",
            "column.inkomst.attribute: is missing",
        ),
        (
            "kind = \"user\"",
            "kind = \"partner_uid\", partner = \"\\u0007\"",
            "key.partner: has control characters",
        ),
        (
            "\"1\" =",
            "\" 1\" =",
            "column.boendeform.values: \" 1\" is empty or",
        ),
        (
            "\"1\" =",
            "\"\" =",
            "column.boendeform.values: \"\" is empty or",
        ),
        (
            "2027-11-01",
            "2026-11-27",
            "valid_until: 2026-11-27 is past",
        ),
        (
            "2027-11-01",
            "2028-11-28",
            "valid_until: 2028-11-28 is too far; a day up to 2028-11-27",
        ),
        ("2027-11-01", "20271101", "valid_until: 20271101 is no day"),
        ("\";\"", "\";;\"", "delimiter: \";;\" is not one"),
        (
            "delimiter = \";\"",
            "format = \"ndjson\"",
            "encoding: windows-1252 is not read",
        ),
        ("windows-1252", "latin1", "encoding: latin1 is not read"),
        (
            "\"house\"",
            "\"castle\"",
            "column.boendeform.values: castle is not a word of it; house, townhouse",
        ),
        (
            "\"housing_type\"",
            "\"shoe_size\"",
            "column.boendeform.attribute: shoe_size is not an attribute",
        ),
        ("\"income\"", "\"housing_type\"", "has a column already"),
        (
            "\"income\"",
            "\"credit_band\"",
            "of the class credit, which import.classes does not allow",
        ),
        (
            "[column.inkomst]",
            "[column.kundnr]",
            "column.kundnr: is the key",
        ),
        ("supplier =", "sender =", "unknown field `sender`"),
    ] {
        assert!(SOUND.contains(from), "{from}");
        let error = parse(&SOUND.replacen(from, to, 1)).unwrap_err();
        assert!(error.0.contains(said), "{to}: {error}");
    }
}

#[test]
fn a_class_that_is_off_by_default_is_taken_once_the_configuration_names_it() {
    let text = SOUND.replace("\"income\"", "\"credit_band\"");
    assert!(Manifest::parse(&text, today(), &[AttributeClass::Credit]).is_ok());
    assert!(Manifest::parse(&text, today(), &[AttributeClass::Minor]).is_err());
}

#[test]
fn a_day_may_be_written_as_a_date_and_a_supplier_has_a_length() {
    let date = SOUND.replace("\"2027-11-01\"", "2027-11-01");
    let manifest = parse(&date).unwrap();
    assert_eq!(manifest.valid_until.to_string(), "2027-11-01");
    let supplier = |length: usize| SOUND.replace("a register", &"x".repeat(length));
    assert!(parse(&supplier(200)).is_ok());
    let error = parse(&supplier(201)).unwrap_err();
    assert!(
        error.0.contains("supplier: has more than 200 bytes"),
        "{error}"
    );
}

#[test]
fn what_a_manifest_makes_of_a_file_is_known_and_how_it_is_written_is_not() {
    let mapping = |text: &str| parse(text).unwrap().mapping().unwrap();
    let sound = mapping(SOUND);
    for (from, to) in [
        ("a register", "another"),
        ("2027-11-01", "2027-12-01"),
        (
            "\"1\" = \"house\", \"2\" = \"flat\"",
            "\"2\" = \"flat\", \"1\" = \"house\"",
        ),
        (
            "delimiter = \";\"",
            "delimiter = \";\"\nformat = \"csv\"\ndecimal = \".\"",
        ),
    ] {
        assert_eq!(mapping(&SOUND.replace(from, to)), sound, "{to}");
    }
    for (from, to) in [
        ("\"1\" = \"house\"", "\"1\" = \"farm\""),
        ("\"1\" =", "\"3\" ="),
        ("delimiter = \";\"", "delimiter = \"|\""),
        ("delimiter = \";\"", "delimiter = \";\"\ndecimal = \",\""),
        ("windows-1252", "utf-8"),
        ("kundnr", "nr"),
        ("column.inkomst", "column.kr"),
        ("\"income\"", "\"income_band\""),
        ("valid_until", "valid_from = \"2026-11-27\"\nvalid_until"),
    ] {
        assert!(SOUND.contains(from), "{from}");
        assert_ne!(mapping(&SOUND.replacen(from, to, 1)), sound, "{to}");
    }
}
