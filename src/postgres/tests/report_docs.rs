//! The queries in the documentation print what is said there.

use std::fmt::Write as _;
use std::process::Command;

use super::report::filled;
use super::*;

/// A page, and how many queries on it show what they print.
const PAGES: [(&str, &str, usize); 2] = [
    ("docs/sql.md", include_str!("../../../docs/sql.md"), 10),
    (
        "docs/reports.md",
        include_str!("../../../docs/reports.md"),
        5,
    ),
];

/// Returns the queries of a page that are followed by a block of what they print.
fn queries(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let mut text = String::new();
        let mut end = 0;
        for (number, line) in lines.by_ref() {
            end = number;
            if line == "```" {
                break;
            }
            writeln!(text, "{line}").unwrap();
        }
        let lines_of_text = text.lines().count();
        blocks.push((end - lines_of_text - 1, end, language, text));
    }
    let pairs = blocks.windows(2).filter_map(|pair| match pair {
        [(_, end, "sql", query), (begin, _, "", printed)] if end + 1 == *begin => {
            Some((query.clone(), printed.clone()))
        }
        _ => None,
    });
    pairs.collect()
}

/// Returns what is printed without the spaces at the ends of lines and the number of rows.
fn bare(printed: &str) -> String {
    let lines = printed.lines().map(str::trim_end);
    let lines = lines.filter(|line| !line.is_empty() && !line.ends_with("row)"));
    lines
        .filter(|line| !line.ends_with("rows)"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Returns what psql prints.
fn print(database: &TestDatabase, query: &str) -> String {
    let config = &database.config;
    let [tokio_postgres::config::Host::Unix(socket)] = config.get_hosts() else {
        panic!("{config:?}")
    };
    let output = Command::new("psql")
        .arg("--no-psqlrc")
        .arg("--host")
        .arg(socket)
        .args(["--username", config.get_user().unwrap()])
        .args(["--dbname", config.get_dbname().unwrap()])
        .args(["--set", "ON_ERROR_STOP=1", "--quiet", "--command", query])
        .env("PGTZ", "UTC")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{query}\n{error}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_queries_in_the_documentation_print_what_it_shows() {
    let database = filled().await;
    let later = UnixMicros(NOON.0 + 20 * 86_400_000_000);
    for is_rolled_up in [false, true] {
        if is_rolled_up {
            while super::super::report::build_next(&database.client, later)
                .await
                .unwrap()
            {}
        }
        for (name, page, count) in PAGES {
            let queries = queries(page);
            assert_eq!(queries.len(), count, "{name}: {queries:#?}");
            for (query, expected) in queries {
                let printed = print(&database, &query);
                assert_eq!(
                    bare(&printed),
                    bare(&expected),
                    "{name}, {query}, rolled up: {is_rolled_up}"
                );
            }
        }
    }
}
