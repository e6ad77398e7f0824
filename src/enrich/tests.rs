use std::fs;

use maxminddb_writer::Database;
use maxminddb_writer::metadata::IpVersion;
use maxminddb_writer::paths::IpAddrWithMask;
use serde_json::{Value, json};

use super::*;
use crate::row::DeviceClass;

mod devices;
mod geodata;

/// A file that `script/fetch` gets.
fn fetched(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    assert!(
        path.exists(),
        "{} is missing: run script/fetch geodata rules test (make test does)",
        path.display()
    );
    path
}

fn rule_sources() -> Sources {
    Sources {
        rules: fetched("assets/data/rules/regexes.json"),
        crawlers: fetched("assets/data/rules/crawlers.json"),
        ..Sources::default()
    }
}

fn problems(errors: &[LoadError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_device_is_remembered_by_each_of_its_texts_and_by_where_it_stands() {
    let hinted = |brands: &'static str, mobile, model: &'static str| Hints {
        brands: brands.into(),
        mobile,
        model: model.into(),
        ..Hints::default()
    };
    let all = [
        ("ab", hinted("", None, "")),
        ("a", hinted("b", None, "")),
        ("a", hinted("", None, "b")),
        ("", hinted("ab", None, "")),
        ("ab", hinted("", Some(false), "")),
        ("ab", hinted("", Some(true), "")),
    ];
    let keys: HashSet<u128> = all
        .iter()
        .map(|(agent, hints)| seen(agent, hints, 1))
        .collect();
    assert_eq!(keys.len(), all.len());
    let (agent, hints) = &all[0];
    assert!(keys.contains(&seen(agent, hints, 1)) && !keys.contains(&seen(agent, hints, 2)));
}
