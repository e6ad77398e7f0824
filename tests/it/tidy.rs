//! Keeps the tree as ARCHITECTURE.md describes it: which room imports which, one name for one type,
//! one place that reads the clock, sizes that a reader can take in.

mod modules;
mod pure;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::root;

/// Where Rust is written by hand.
const FOLDERS: [&str; 6] = ["src", "crates", "tests", "benches", "loadtest", "fuzz"];
const COMMENT_COLUMNS_MAX: usize = 100;
const FILE_LINES_MAX: usize = 600;
const ARCHITECTURE_LINES_MAX: usize = 150;

/// Every room of src/ with the rooms that it may import. An arrow that is not here points the wrong
/// way, or is a decision to write down in ARCHITECTURE.md.
const ARROWS: [(&str, &[&str]); 33] = [
    ("main", &["cli"]),
    ("lib", &[]),
    // Commands and what puts the parts together.
    (
        "cli",
        &[
            "callback", "click", "clock", "config", "edge", "endpoint", "enrich", "export", "hit",
            "identity", "import", "jobs", "keys", "postgres", "protocol", "report", "schema",
            "segment", "serve",
        ],
    ),
    (
        "serve",
        &[
            "admin", "click", "clock", "config", "consent", "edge", "enrich", "hit", "identity",
            "import", "inquiry", "jobs", "keys", "loader", "metrics", "postgres", "report",
            "segment", "visitor", "whole",
        ],
    ),
    // The two ends, which meet in the spool, and what looks after Postgres.
    (
        "edge",
        &[
            "admin",
            "attribute",
            "callback",
            "click",
            "clock",
            "config",
            "consent",
            "endpoint",
            "enrich",
            "hit",
            "identity",
            "import",
            "inquiry",
            "keys",
            "metrics",
            "protocol",
            "refusal",
            "request",
            "segment",
            "visitor",
        ],
    ),
    // What a command and the admin listener show of a campaign: it asks a connection that it is
    // given.
    ("report", &["clock"]),
    (
        "admin",
        &[
            "clock", "config", "consent", "endpoint", "enrich", "hit", "metrics", "protocol",
            "refusal", "request", "row",
        ],
    ),
    (
        "loader",
        &[
            "clock", "config", "enrich", "hit", "identity", "import", "keys", "metrics",
            "postgres", "row", "whole",
        ],
    ),
    (
        "jobs",
        &[
            "clock", "enrich", "hit", "identity", "metrics", "postgres", "visitor",
        ],
    ),
    (
        "postgres",
        &[
            "attribute",
            "clock",
            "config",
            "export",
            "hit",
            "identity",
            "import",
            "row",
            "segment",
            "whole",
        ],
    ),
    ("export", &["callback", "clock"]),
    ("metrics", &["clock", "endpoint", "hit", "refusal"]),
    (
        "config",
        &[
            "attribute",
            "callback",
            "click",
            "consent",
            "endpoint",
            "enrich",
            "export",
            "hit",
            "identity",
            "keys",
            "request",
            "row",
            "segment",
        ],
    ),
    // Pure rooms: no I/O, no clock.
    (
        "protocol",
        &[
            "callback", "clock", "consent", "endpoint", "hit", "refusal", "request",
        ],
    ),
    ("consent", &["clock", "hit", "request"]),
    ("visitor", &["clock", "hit", "keys", "request"]),
    ("enrich", &["clock", "endpoint", "hit", "row", "schema"]),
    ("keys", &["clock", "hit", "identity"]),
    ("click", &["clock", "hit", "keys", "request"]),
    ("callback", &["clock", "hit", "refusal"]),
    ("inquiry", &["hit"]),
    ("request", &["clock", "hit"]),
    ("row", &["clock", "hit"]),
    ("schema", &[]),
    ("segment", &["attribute", "identity"]),
    ("identity", &["clock", "hit", "row"]),
    ("hit", &["clock", "endpoint"]),
    ("import", &["attribute", "hit", "identity", "keys"]),
    // The ground floor.
    ("attribute", &[]),
    ("endpoint", &[]),
    ("refusal", &["endpoint", "hit"]),
    ("clock", &[]),
    ("whole", &[]),
];

/// Names of functions that say what was done instead of what they do.
const PARTICIPLES: &[&str] = &[
    "told",
    "posted",
    "said",
    "asked",
    "given",
    "taken",
    "recorded",
    "decided",
    "answered",
    "announced",
    "counted",
    "moved",
    "chose",
    "chosen",
    "stored",
    "reached",
    "removed",
    "placed",
    "made",
    "kept",
    "sent",
    "read_back",
    "submitted",
    "accepted",
    "authenticated",
    "borrowed",
    "built",
    "bound",
    "delivered",
    "encrypted",
    "fenced",
    "installed",
    "joined",
    "loaded",
    "named",
    "nested",
    "packaged",
    "refused",
    "retained",
    "shown",
    "spaced",
    "stopping",
    "reloading",
    "translated",
    "unnested",
    "unquoted",
    "unsaid",
    "wanted",
    "written",
    "happened",
    "uniting",
    "waiting",
    "renaming",
];

/// Types that may bear a name twice, with the reason.
const SHARED_NAMES: [&str; 0] = [];

/// Returns every Rust file below a folder of the tree, but for what is built or fetched.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && !["target", "data", "work", "corpus"].contains(&name.as_str()) {
                folders.push(path);
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| {
        let part = part.as_os_str().to_str().unwrap();
        matches!(part, "tests" | "tests.rs" | "testing.rs" | "examples")
    })
}

/// Returns the text of a file without the tests at its end.
fn product_text(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let tests = text.find("#[cfg(test)]\nmod tests {");
    text[..tests.unwrap_or(text.len())].to_owned()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// Returns the room of a file of src/: the first name of its path.
fn room(path: &Path) -> String {
    let path = path.strip_prefix(root().join("src")).unwrap();
    let first = path
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// Returns the rooms that a text names as `crate::room`, or `avtryck::room` in the binary.
fn imported_rooms(text: &str) -> BTreeSet<String> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let mut rooms = BTreeSet::new();
    for line in code {
        for marker in ["crate::", "avtryck::"] {
            for rest in line.split(marker).skip(1) {
                let name: String = rest
                    .chars()
                    .take_while(|letter| letter.is_ascii_lowercase() || *letter == '_')
                    .collect();
                rooms.insert(name);
            }
        }
    }
    rooms.remove("");
    rooms
}

#[test]
fn rooms_import_only_what_lies_below_them() {
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut wrong = Vec::new();
    for path in rust_files("src").iter().filter(|path| !is_test(path)) {
        let room = room(path);
        let Some(allowed) = arrows.get(room.as_str()) else {
            wrong.push(format!("{}: no line of ARROWS names its room", shown(path)));
            continue;
        };
        for imported in imported_rooms(&product_text(path)) {
            if imported != room && !allowed.contains(&imported.as_str()) {
                wrong.push(format!("{}: {room} -> {imported}", shown(path)));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "arrows that ARROWS does not have:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_edge_knows_no_postgres_and_the_spool_no_product() {
    for (room, allowed) in ARROWS {
        let reaches_postgres = ["cli", "serve", "loader", "jobs"].contains(&room);
        assert_eq!(allowed.contains(&"postgres"), reaches_postgres, "{room}");
    }
    for path in rust_files("crates/spool") {
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            !text.contains("avtryck"),
            "{} names the product",
            shown(&path)
        );
    }
}

#[test]
fn each_type_has_a_name_of_its_own() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for folder in ["src", "crates"] {
        for path in rust_files(folder).iter().filter(|path| !is_test(path)) {
            for line in product_text(path).lines() {
                let Some(rest) = line.strip_prefix("pub") else {
                    continue;
                };
                let rest = rest.trim_start_matches(|letter| "(crate)super".contains(letter));
                let mut words = rest.split_whitespace();
                if !matches!(
                    words.next(),
                    Some("struct" | "enum" | "trait" | "type" | "union")
                ) {
                    continue;
                }
                let name: String = words
                    .next()
                    .unwrap_or_default()
                    .chars()
                    .take_while(|letter| letter.is_ascii_alphanumeric())
                    .collect();
                places.entry(name).or_default().push(shown(path));
            }
        }
    }
    assert!(
        places.len() > 100,
        "the search for types finds too few: {}",
        places.len()
    );
    places.retain(|name, places| places.len() > 1 && !SHARED_NAMES.contains(&name.as_str()));
    assert!(places.is_empty(), "one name for two types: {places:#?}");
}

#[test]
fn functions_are_verbs() {
    let mut wrong = Vec::new();
    for folder in ["src", "crates"] {
        for path in rust_files(folder).iter().filter(|path| !is_test(path)) {
            for name in product_text(path).split("fn ").skip(1) {
                let name = name.split(['(', '<']).next().unwrap();
                if PARTICIPLES.contains(&name) {
                    wrong.push(format!("{}: fn {name}", shown(path)));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "names that are no verbs:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn lines_of_comments_and_files_are_short_enough() {
    let mut wrong = Vec::new();
    for path in FOLDERS.into_iter().flat_map(rust_files) {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{}: {lines} lines", shown(&path)));
        }
        for (number, line) in text.lines().enumerate() {
            // A row of a table and a link cannot be wrapped.
            let is_comment = line.trim_start().starts_with("//");
            let is_whole = line.contains("// |")
                || line.contains("//! |")
                || line.contains("/// |")
                || line.contains("://");
            if is_comment && !is_whole && line.chars().count() > COMMENT_COLUMNS_MAX {
                wrong.push(format!("{}:{}", shown(&path), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "too long:\n{}", wrong.join("\n"));
}

/// Where an error is printed, its causes follow it. One that prints its cause itself would say that
/// twice.
#[test]
fn an_error_names_its_cause_or_prints_it_but_not_both() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for folder in ["src", "crates", "loadtest"] {
        for path in rust_files(folder) {
            let text = fs::read_to_string(&path).unwrap();
            for variant in text.split("#[error(").skip(1) {
                seen += 1;
                let end = variant.find("\n}").unwrap_or(variant.len());
                let (message, rest) = variant[..end].split_once(")]").unwrap();
                let has_cause = rest.contains("#[from]")
                    || rest.contains("#[source]")
                    || rest.contains("source:");
                let prints_it = message.contains("{0") || message.contains("{source");
                if has_cause && prints_it {
                    wrong.push(format!("{}: {message}", shown(&path)));
                }
            }
        }
    }
    assert!(seen > 15, "the search for errors finds too few: {seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn architecture_is_short_and_each_path_in_it_exists() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    assert!(text.lines().count() <= ARCHITECTURE_LINES_MAX);
    let mut seen = 0;
    for word in text.split(|letter: char| letter.is_whitespace() || "`(),;|".contains(letter)) {
        let word = word.trim_end_matches(['.', ':']);
        let is_path = [
            "src/",
            "crates/",
            "tests/",
            "docs/",
            "script/",
            "ops/",
            "proto/",
            "assets/",
            "fuzz/",
            "loadtest/",
            "benches/",
        ]
        .iter()
        .any(|folder| word.starts_with(folder));
        if !is_path || word.contains('<') {
            continue;
        }
        seen += 1;
        let exists = if let Some((folder, _)) = word.split_once('*') {
            root().join(folder.rsplit_once('/').unwrap().0).is_dir()
        } else {
            root().join(word).exists()
        };
        assert!(exists, "ARCHITECTURE.md names {word}");
    }
    assert!(seen > 20, "the search for paths finds too few: {seen}");
}

#[test]
fn every_metric_is_recorded_somewhere() {
    let register = root().join("src/metrics/mod.rs");
    let text = fs::read_to_string(&register).unwrap();
    let elsewhere: Vec<String> = rust_files("src")
        .into_iter()
        .filter(|path| *path != register)
        .map(|path| product_text(&path))
        .collect();
    let fields = text.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("    pub ")?.split_once(": ")?;
        ["Counter,", "Gauge,", "Histogram,"]
            .contains(&kind)
            .then_some(name)
    });
    let mut seen = 0;
    for name in fields {
        seen += 1;
        let used = format!(".{name}");
        let is_recorded = elsewhere.iter().any(|text| {
            text.match_indices(&used).any(|(at, _)| {
                let rest = &text[at + used.len()..];
                !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_')
            })
        });
        assert!(is_recorded, "{name} is registered, and nothing records it");
    }
    assert!(seen > 20, "{seen} metrics");
}

/// Each broken build is a row of docs/durability.md, and each row is one.
#[test]
fn the_documentation_lists_each_broken_build() {
    let page = fs::read_to_string(root().join("docs/durability.md")).unwrap();
    let (_, table) = page.split_once("| broken build |").unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with("| "));
    let rows: BTreeSet<String> = rows
        .map(|row| row[2..].split(" | ").next().unwrap().to_owned())
        .collect();
    let patches = fs::read_dir(root().join("script/broken.d")).unwrap();
    let titles: BTreeSet<String> = patches
        .map(|patch| fs::read_to_string(patch.unwrap().path()).unwrap())
        .map(|text| text.lines().next().unwrap().to_owned())
        .collect();
    assert!(
        titles.len() > 20,
        "the search for broken builds finds too few"
    );
    assert_eq!(rows, titles);
}
