//! Every key with values that are wrong for it: a message names the key, and none is about what
//! stands in for the value.

use toml::{Table as Toml, Value};

use super::super::EXAMPLE_TABLES;
use super::super::in_force::Setting;
use super::*;

/// Returns every key, as the example has it.
fn all_settings() -> Vec<Setting> {
    let config = Config::parse(EXAMPLE_TABLES, []).expect("the example is valid");
    config.in_force.0
}

/// Returns the mistakes of the example with another value of one key, or without the key.
fn errors_with(setting: &Setting, value: Option<Value>) -> Vec<String> {
    let mut document: Toml = EXAMPLE_TABLES.parse().expect("the example is TOML");
    let (name, is_of_list) = setting.table();
    let table = match is_of_list {
        true => &mut document[name][0],
        false => document
            .entry(name)
            .or_insert_with(|| Value::Table(Toml::new())),
    };
    let table = table.as_table_mut().expect("a table");
    match value {
        Some(value) => drop(table.insert(setting.key.to_owned(), value)),
        None => drop(table.remove(setting.key)),
    }
    let lines = document
        .iter()
        .map(|(name, value)| format!("{name} = {value}\n"));
    errors(&lines.collect::<String>(), &[])
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn table() -> Value {
    Value::Table(Toml::from_iter([("x".to_owned(), Value::Integer(1))]))
}

fn list() -> Value {
    Value::Array(vec![Value::Integer(1)])
}

/// Checks that each message is about the key itself.
fn assert_named(errors: &[String], setting: &Setting, value: &str) {
    let name = setting.name();
    assert!(!errors.is_empty(), "{name} = {value} is no mistake");
    for error in errors {
        let is_named = error.contains(&format!("{name}: ")) || error.contains(&format!("{name}."));
        assert!(is_named, "{name} = {value}: {errors:?}");
    }
}

#[test]
fn a_value_of_another_kind_is_one_mistake_that_names_the_key() {
    for setting in all_settings() {
        let scalars = [text("?"), Value::Integer(7), Value::Boolean(true)];
        let wrong = match setting.shown.chars().next() {
            Some('[') => scalars.into_iter().chain([table()]).collect::<Vec<_>>(),
            Some('{') => scalars.into_iter().chain([list(), table()]).collect(),
            _ => vec![list(), table()],
        };
        for value in wrong {
            let shown = value.to_string();
            assert_named(&errors_with(&setting, Some(value)), &setting, &shown);
        }
    }
}

#[test]
fn no_value_of_any_key_makes_the_reading_panic_and_what_is_wrong_is_named() {
    for setting in all_settings() {
        for value in [
            text(""),
            text("\u{7}\0?\u{7f}"),
            text(&"?[]{}.é".repeat(1_000)),
            Value::Integer(-1),
            Value::Integer(i64::MAX),
            Value::Float(f64::NAN),
            Value::Boolean(true),
            Value::Boolean(false),
        ] {
            let shown = value.to_string();
            let errors = errors_with(&setting, Some(value));
            let is_wrong = |error: &String| error.contains(&format!("{}: ", setting.name()));
            if errors.iter().any(is_wrong) {
                assert_named(&errors, &setting, &shown);
            }
        }
    }
}

#[test]
fn a_required_key_that_is_missing_or_wrong_is_the_only_mistake() {
    let mut required = Vec::new();
    for setting in all_settings() {
        let errors = errors_with(&setting, None);
        if !errors.iter().any(|error| error.contains("is missing")) {
            continue;
        }
        for errors in [errors, errors_with(&setting, Some(text("")))] {
            assert_eq!(errors.len(), 1, "{}: {errors:?}", setting.name());
            assert_named(&errors, &setting, "\"\"");
        }
        required.push(setting.name());
    }
    assert_eq!(
        required,
        [
            "certificate[0].chain",
            "certificate[0].key",
            "site[0].key",
            "partner[0].key",
            "system[0].key",
            "segment[0].key",
            "segment[0].where",
            "webhook[0].key",
            "webhook[0].url",
        ]
    );
}

#[test]
fn nothing_is_said_of_what_refers_to_a_key_that_is_wrong() {
    let sound = "secret = \"0123456789abcdef\"\nurl = \"https://a.example/\"\n";
    for (text, expected) in [
        (
            "[[site]]\nkey = \"Shop\"\n[[partner]]\nkey = \"a\"\nsite = \"shop\"\n".to_owned(),
            "line 2: site[0].key: \"Shop\" is wrong",
        ),
        (
            "[[site]]\n[[site]]\n[[site]]\nkey = \"b\"\n".to_owned(),
            "line 1: site[0].key: is missing",
        ),
        (
            "site = 1\n".to_owned(),
            "line 1: site: is no list of tables",
        ),
        (
            format!(
                "{SITE}[[segment]]\nwhere = \"true\"\n[[webhook]]\nkey = \"a\"\nsegments = [\"b\"]\n{sound}"
            ),
            "line 3: segment[0].key: is missing",
        ),
        (
            format!(
                "{SITE}[[segment]]\nkey = \"b\"\n[[segment]]\nkey = \"c\"\nwhere = \"in_segment('b')\"\n"
            ),
            "line 3: segment[0].where: is missing",
        ),
        (
            format!(
                "{SITE}[[webhook]]\nkey = \"a\"\nurl = \"https://a.example/\"\nsecret = \"short\"\n"
            ),
            "line 6: webhook[0].secret: \"(not shown)\" is wrong",
        ),
        (
            format!("{SITE}[http]\nlisten = \"x\"\n[admin]\nlisten = \"127.0.0.1:8080\"\n"),
            "line 4: http.listen: \"x\" is wrong",
        ),
        (
            format!("{SITE}[[system]]\nkey = \"a\"\ntokens = [\"short\"]\n"),
            "line 5: system[0].tokens: \"(not shown)\" is wrong",
        ),
    ] {
        let errors = errors(&text, &[]);
        assert!(errors[0].starts_with(expected), "{text}: {errors:?}");
        let count = text.matches("[[site]]\n[[site]]").count() + 1;
        assert_eq!(errors.len(), count, "{text}: {errors:?}");
    }
    // What is really missing is said, by the place of a table whose key is not known.
    let nameless = errors(&format!("{SITE}[[system]]\n"), &[]);
    assert!(
        nameless[1].contains(": system[0]: has nothing to prove"),
        "{nameless:?}"
    );
}

#[test]
fn a_variable_may_hold_a_table_and_the_keys_of_lists_have_none() {
    let client = |text: &str| {
        let variable = [("AVTRYCK_KAFKA_CLIENT".into(), text.into())];
        Config::parse(SITE, variable).map(|config| config.kafka.client)
    };
    assert_eq!(client("{}").unwrap(), []);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    for form in ["{ \"linger.ms\" = \"5\" }", " {\"linger.ms\"=\"5\"}\n"] {
        assert_eq!(client(form).unwrap(), [pair("linger.ms", "5")], "{form}");
    }
    for wrong in [
        "",
        "linger.ms=5",
        "5",
        "[]",
        "{}\nx = 1",
        "{ \"linger.ms\" = 5 }",
    ] {
        let errors = client(wrong).unwrap_err().0;
        assert_eq!(errors.len(), 1, "{wrong}: {errors:?}");
        let is_named = errors[0].starts_with("AVTRYCK_KAFKA_CLIENT");
        assert!(
            is_named && errors[0].contains("{ \"linger.ms\" = \"5\" }"),
            "{errors:?}"
        );
    }
    for (variable, list) in [
        ("AVTRYCK_SITE_KEY", "[[site]]"),
        ("AVTRYCK_WEBHOOK_URL", "[[webhook]]"),
    ] {
        let expected = format!(
            "{variable}: names no key; the keys of {list} and of other lists have no variable; the file has them"
        );
        assert_eq!(errors(SITE, &[(variable, "x")]), [expected]);
    }
}
