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
