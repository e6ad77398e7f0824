//! The names of models that `script/fetch models` makes, for real agents.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::*;

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let (tables, errors) = load(&TableFiles {
        models: fetched("assets/data/models/models.ndjson"),
        ..rule_sources()
    });
    assert_eq!(problems(&errors), [""; 0]);
    tables
});

fn names() -> &'static ModelNames {
    TABLES.models().unwrap()
}

/// Returns what an agent's device is called: "source: maker name".
fn called(user_agent: &str, model: &str) -> Vec<String> {
    let hints = Hints {
        model: model.into(),
        ..Hints::default()
    };
    let device = &TABLES.device(user_agent, &hints).value;
    let found = names().names(&device.brand, &device.model).into_iter();
    found
        .map(|name| format!("{}: {} {}", name.source, name.maker, name.name))
        .collect()
}

const REDUCED: &str = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Mobile Safari/537.36";

#[test]
fn phones_of_today_have_the_names_that_people_know() {
    for (user_agent, hint, expect) in [
        (
            "Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Mobile Safari/537.36",
            "",
            "device-detector: Samsung Galaxy S23 Ultra",
        ),
        (
            REDUCED,
            "\"SM-S938B\"",
            "device-detector: Samsung Galaxy S25 Ultra",
        ),
        (
            REDUCED,
            "\"SM-S9180\"",
            "device-detector: Samsung Galaxy S23 Ultra",
        ),
        (
            "Mozilla/5.0 (Linux; Android 15; Pixel 9 Pro XL) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Mobile Safari/537.36",
            "",
            "device-detector: Google Pixel 9 Pro XL",
        ),
        (REDUCED, "\"23127PN0CC\"", "device-detector: Xiaomi 14"),
        (REDUCED, "\"CPH2653\"", "device-detector: OnePlus 13"),
        (
            "Shop/7.1 (iPhone15,3; iOS 17.5.1; Scale/3.00)",
            "",
            "device-detector: Apple iPhone 14 Pro Max",
        ),
        (
            "Shop/7.1 (iPhone15,3; iOS 17.5.1; Scale/3.00)",
            "",
            "ios-device-list: Apple iPhone 14 Pro Max",
        ),
        (
            "Shop/7.1 (iPhone18,2; iOS 26.1; Scale/3.00)",
            "",
            "avtryck: Apple iPhone 17 Pro Max",
        ),
    ] {
        let found = called(user_agent, hint);
        assert!(
            found.iter().any(|name| name == expect),
            "{user_agent} {hint}: {found:?}"
        );
    }
}

#[test]
fn nineteen_in_twenty_phones_of_the_corpus_with_a_model_have_a_name() {
    let visitors = fs::read(fetched("assets/data/test/user-agents.json")).unwrap();
    let visitors: Vec<Value> = serde_json::from_slice(&visitors).unwrap();
    let mut pairs: BTreeMap<(String, String), u32> = BTreeMap::new();
    for visitor in &visitors {
        let user_agent = visitor["userAgent"].as_str().unwrap();
        let device = &TABLES.device(user_agent, &Hints::default()).value;
        if device.class == DeviceClass::Phone && !device.model.is_empty() {
            let pair = (device.brand.clone(), device.model.clone());
            *pairs.entry(pair).or_default() += 1;
        }
    }
    let rows: u32 = pairs.values().sum();
    let has_name = |pair: &(String, String)| !names().names(&pair.0, &pair.1).is_empty();
    let named: u32 = pairs
        .iter()
        .filter(|(pair, _)| has_name(pair))
        .map(|(_, count)| count)
        .sum();
    eprintln!(
        "{named} of {rows} phones have a name, of {} models",
        pairs.len()
    );
    assert!(rows > 4_000, "{rows}");
    assert!(named * 100 >= rows * 95, "{named} of {rows}");
}

/// What the tests of device-detector expect of agents is an oracle for our way to look a model up:
/// here the model is what our rules for user agents take from the agent.
#[test]
fn what_is_named_is_named_as_by_device_detector_itself() {
    let agents = fs::read_to_string(fetched("assets/data/model_agents/agents.tsv")).unwrap();
    let flat = |text: &str| -> String {
        let letters = text.chars().filter(|letter| letter.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    let (mut all, mut right, mut wrong) = (0_u32, 0_u32, 0_u32);
    for line in agents.lines() {
        let [user_agent, _, expect] = *line.split('\t').collect::<Vec<_>>() else {
            panic!("{line}");
        };
        let device = &TABLES.device(user_agent, &Hints::default()).value;
        // An agent that tells no more than that it is an iPhone is named by nobody.
        if device.model.is_empty() || ["iPhone", "iPad", "iPod"].contains(&device.model.as_str()) {
            continue;
        }
        all += 1;
        let found = names().names(&device.brand, &device.model);
        match found.iter().find(|name| name.source == "device-detector") {
            Some(name) if flat(&name.name) == flat(expect) => right += 1,
            Some(_) => wrong += 1,
            None => {}
        }
    }
    eprintln!(
        "of {all} agents with a model, {right} have device-detector's name and {wrong} another"
    );
    assert!(all > 25_000, "{all}");
    assert!(right * 100 >= all * 80, "{right} of {all}");
    assert!(wrong * 100 <= (right + wrong) * 2, "{wrong} beside {right}");
}

#[test]
fn the_file_is_read_quickly_and_a_model_is_looked_up_in_less_than_a_millisecond() {
    let path = fetched("assets/data/models/models.ndjson");
    let begun = clock::monotonic();
    let (names, problem) = open_models(&path).unwrap();
    let took = begun.elapsed();
    assert!(problem.is_none(), "{problem:?}");
    assert!(names.len() > 30_000, "{}", names.len());
    let begun = clock::monotonic();
    for number in 0..1_000 {
        drop(names.names("", &format!("XX-Y{number}Z")));
        drop(names.names("Samsung", &format!("SM-{number}Z")));
    }
    let looked_up = begun.elapsed() / 2_000;
    eprintln!("read in {took:?}, a model is looked up in {looked_up:?}");
    assert!(took.as_secs() < 10, "{took:?}");
    assert!(looked_up.as_millis() < 5, "{looked_up:?}");
}

#[test]
fn a_file_that_is_missing_broken_or_becomes_unreadable_costs_its_part_only() {
    let dir = tempfile::tempdir().unwrap();
    let sources = TableFiles {
        models: dir.path().join("models.ndjson"),
        ..rule_sources()
    };
    let (tables, errors) = load(&sources);
    let [missing] = errors.as_slice() else {
        panic!("{:?}", problems(&errors));
    };
    assert!(missing.is_partial() && tables.models().is_none());
    assert!(missing.to_string().contains("No such file"), "{missing}");

    let good = "{\"format\":1}\n{\"source\":\"a\",\"version\":\"1\"}\n{\"maker\":\"M\",\"name\":\"N\",\"codes\":[\"ABC-1\"]}\n";
    fs::write(&sources.models, format!("{good}{{\n")).unwrap();
    let (tables, errors) = reload(&sources, &tables);
    let text = problems(&errors);
    assert!(errors[0].is_partial(), "{text:?}");
    assert!(
        text[0].contains("models.ndjson: 1 of 3 lines skipped, the first is line 4: "),
        "{text:?}"
    );
    assert_eq!(tables.models().unwrap().names("", "ABC-1").len(), 1);

    fs::write(&sources.models, "no names").unwrap();
    let (tables, errors) = reload(&sources, &tables);
    let text = problems(&errors);
    assert!(!errors[0].is_partial(), "{text:?}");
    assert!(
        text[0].contains("no names of models; a file whose first line is"),
        "{text:?}"
    );
    assert_eq!(
        tables.models().unwrap().names("", "ABC-1").len(),
        1,
        "the old one stays"
    );
    let device = tables.device("curl/8.5.0", &Hints::default());
    assert!(device.value.is_bot, "the rules are in use");
}
