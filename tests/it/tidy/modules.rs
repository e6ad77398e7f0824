//! Within a room imports go one way too: modules of one folder make no circle, but for those that
//! are listed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{is_test, product_text, root, rust_files};

/// The circles that there are, by folder, with the reason. A part of one may end.
const CIRCLES: [(&str, &[&str], &str); 17] = [
    (
        "edge",
        &["endpoint", "exchange", "router"],
        "an exchange answers with the pages of endpoints, and asks the router what its path says",
    ),
    (
        "enrich",
        &["category", "geo", "network", "place", "schema", "source"],
        "`source` loads each of them, and has the problems that they report",
    ),
    (
        "hit",
        &["fields", "wire"],
        "the table of fields is made of encodings, which know two numbers",
    ),
    (
        "loader",
        &["prepare", "source"],
        "`source` fills what `prepare` hands on",
    ),
    (
        "loader/sink",
        &["load_encoder", "postgres"],
        "both convert positions",
    ),
    (
        "postgres",
        &[
            "batch",
            "household",
            "identity",
            "import",
            "segment",
            "subject",
        ],
        "a batch carries a part of each of them, and each looks after its own tables",
    ),
    (
        "postgres/batch",
        &["event_key", "load", "new_name", "position"],
        "a load holds what each of them finds, and each goes through the load",
    ),
    (
        "postgres/batch",
        &["commit", "way"],
        "they fail with the same error",
    ),
    (
        "postgres/server",
        &["clear_text", "tls"],
        "a stream of TLS may turn out to be clear text",
    ),
    (
        "postgres/server",
        &["connect", "database", "embedded", "silence"],
        "a connection is watched, and its watch opens another one",
    ),
    (
        "postgres/subject",
        &["export", "rejected"],
        "rejected hits are exported in pages too",
    ),
    (
        "protocol",
        &["native", "tracker"],
        "what a tracker says is told in our words, and read as ours",
    ),
    (
        "protocol/native",
        &["json", "page"],
        "hints are members, and members may be hints",
    ),
    (
        "protocol/snowplow",
        &["document", "event", "webhook"],
        "an event holds documents, which say things of the event",
    ),
    (
        "row",
        &["dimension", "keyer"],
        "a key is made of a dimension's columns",
    ),
    (
        "segment",
        &["book", "guard"],
        "a guard judges a definition of the book",
    ),
    (
        "serve",
        &["check", "kafka", "loading", "reload"],
        "a reload starts what it has read, and what is started is read anew",
    ),
];

type Names = Vec<String>;

fn names(path: &str) -> Names {
    let names = path.split("::").map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Adds each path of the tree of a `use`.
fn flatten(before: &[String], tree: &str, found: &mut Vec<Names>) {
    let path = |text: &str| [before, &names(text)].concat();
    let Some((start, inner)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap().trim();
        if !name.is_empty() {
            found.push(path(name));
        }
        return;
    };
    let inner = &inner[..inner.rfind('}').unwrap_or_default()];
    let (mut depth, mut from) = (0, 0);
    for (at, letter) in inner.char_indices().chain([(inner.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                flatten(&path(start), &inner[from..at], found);
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// Returns every path that a text names: those of its imports, and those that begin with `crate`,
/// `super` or `self`.
fn paths_in(text: &str) -> Vec<Names> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let code: String = code.flat_map(|line| [line, "\n"]).collect();
    let mut found = Vec::new();
    for statement in code.split(';') {
        let last = statement.rsplit("\n\n").next().unwrap().trim();
        let uses = last.split_once("use ").filter(|(before, _)| {
            let before = before.trim();
            before.is_empty() || before.starts_with("pub") || before.ends_with(']')
        });
        if let Some((_, tree)) = uses {
            flatten(&[], tree, &mut found);
        }
    }
    for word in code.split(|letter: char| !letter.is_alphanumeric() && !"_:".contains(letter)) {
        if ["crate::", "super::", "self::"]
            .iter()
            .any(|start| word.starts_with(start))
        {
            found.push(names(word));
        }
    }
    found
}

fn module_of(path: &Path) -> Names {
    let path = path
        .strip_prefix(root().join("src"))
        .unwrap()
        .with_extension("");
    let parts = path.iter().map(|part| part.to_str().unwrap().to_owned());
    let mut parts: Names = parts.collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// Returns the module that a path of a module leads to.
fn resolve(module: &[String], path: &[String], modules: &BTreeSet<Names>) -> Option<Names> {
    let above = path.iter().take_while(|name| *name == "super").count();
    let whole = match path.first()?.as_str() {
        "crate" => path[1..].to_vec(),
        "super" => [&module[..module.len().checked_sub(above)?], &path[above..]].concat(),
        "self" => [module, &path[1..]].concat(),
        _ => [module, path].concat(),
    };
    (1..=whole.len())
        .rev()
        .map(|length| whole[..length].to_vec())
        .find(|start| modules.contains(start))
}

/// Returns which modules of a folder lead to which, directly and by way of others.
fn reach(edges: &BTreeSet<(String, String)>) -> BTreeSet<(String, String)> {
    let mut all = edges.clone();
    loop {
        let further = all.iter().flat_map(|(from, by)| {
            let next = edges.iter().filter(move |(start, _)| start == by);
            next.map(move |(_, to)| (from.clone(), to.clone()))
        });
        let further: Vec<_> = further.filter(|edge| !all.contains(edge)).collect();
        if further.is_empty() {
            return all;
        }
        all.extend(further);
    }
}

#[test]
fn modules_of_one_folder_make_no_circles() {
    let files = rust_files("src");
    let files: Vec<_> = files.iter().filter(|path| !is_test(path)).collect();
    let modules: BTreeSet<Names> = files.iter().map(|path| module_of(path)).collect();
    let mut edges: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    for path in files {
        let from = module_of(path);
        for path in paths_in(&product_text(path)) {
            let Some(to) = resolve(&from, &path, &modules) else {
                continue;
            };
            let same = from.iter().zip(&to).take_while(|(one, other)| one == other);
            let same = same.count();
            if same > 0 && same < from.len().min(to.len()) {
                let edge = (from[same].clone(), to[same].clone());
                edges
                    .entry(from[..same].join("/"))
                    .or_default()
                    .insert(edge);
            }
        }
    }
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    let arrows: usize = edges.values().map(BTreeSet::len).sum();
    assert!(
        arrows > 200,
        "the search for imports finds too few: {arrows}"
    );
    for (folder, edges) in &edges {
        let reached = reach(edges);
        for (from, to) in edges {
            if !reached.contains(&(to.clone(), from.clone())) {
                continue;
            }
            let known = CIRCLES.iter().position(|(of, circle, _)| {
                of == folder && circle.contains(&&**from) && circle.contains(&&**to)
            });
            match known {
                Some(known) => _ = seen.insert(known),
                None => wrong.push(format!("{folder}: {from} <-> {to}")),
            }
        }
    }
    assert!(wrong.is_empty(), "circles:\n{}", wrong.join("\n"));
    let ended = (0..CIRCLES.len()).filter(|circle| !seen.contains(circle));
    let ended: Vec<_> = ended.map(|circle| CIRCLES[circle]).collect();
    assert!(ended.is_empty(), "circles that have ended: {ended:?}");
}
