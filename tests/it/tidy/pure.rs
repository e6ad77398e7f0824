//! One place reads the clocks, and the pure rooms neither ask it nor do I/O.

use super::{is_test, product_text, room, rust_files, shown};

/// The ways to read a clock: any function `now` (of `Instant`, `SystemTime`, `Timestamp`, `Zoned`,
/// `Utc`, `Local`, …), also where only its path is written, the time since a moment, the calls of
/// the system, and IDs that are made of the time.
const READ_CLOCK: [&str; 9] = [
    "::now(",
    "::now)",
    "::now_",
    "::now,",
    ".elapsed(",
    "::elapsed",
    "clock_gettime",
    "gettimeofday",
    "::now;",
];

/// The files that read the clocks for all others.
const CLOCKS: [&str; 2] = ["src/clock.rs", "crates/spool/src/clock.rs"];

/// What reads one of our clocks: allowed everywhere but in the pure rooms.
const ASK_CLOCK: [&str; 3] = ["clock::now", "clock::monotonic", "clock::time_since"];

/// What does I/O, waits, or brings chance in.
const DO_IO: [&str; 15] = [
    "fs::",
    "File::open",
    "OpenOptions",
    "tokio::",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "env::",
    "process::",
    "thread::",
    "stdin()",
    "println!",
    "rand::",
    "getrandom",
    "OsRng",
];

/// The rooms that are given time, entropy and tables as values.
const PURE_ROOMS: [&str; 16] = [
    "attribute",
    "callback",
    "click",
    "consent",
    "endpoint",
    "enrich",
    "hit",
    "identity",
    "keys",
    "protocol",
    "refusal",
    "request",
    "row",
    "schema",
    "segment",
    "visitor",
];

/// Files of pure rooms that do I/O, with the reason.
const DOES_IO: [(&str, &str); 8] = [
    ("src/enrich/bot.rs", "loads the names of crawlers"),
    ("src/enrich/category/list.rs", "loads lists of domains"),
    (
        "src/enrich/category/taxonomy.rs",
        "loads names of categories",
    ),
    (
        "src/enrich/device/recognise.rs",
        "loads the rules of devices",
    ),
    ("src/enrich/geo.rs", "loads a file of places or networks"),
    ("src/enrich/model/file.rs", "loads the names of models"),
    ("src/enrich/schema.rs", "loads schemas"),
    (
        "src/protocol/mutations.rs",
        "is a test, whose length an operator sets",
    ),
];

fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

fn reads_clock(line: &str) -> bool {
    // Our own clocks are asked by these names.
    let line = ["clock::now()", "clock::now)", "clock::now,"]
        .iter()
        .fold(line.to_owned(), |line, own| line.replace(own, ""));
    READ_CLOCK.iter().any(|way| line.contains(way))
}

#[test]
fn only_the_clock_reads_time() {
    let mut found = Vec::new();
    let mut wrong = Vec::new();
    for folder in ["src", "crates"] {
        for path in rust_files(folder).iter().filter(|path| !is_test(path)) {
            let text = product_text(path);
            let lines = code(&text).filter(|line| reads_clock(line));
            let lines: Vec<String> = lines
                .map(|line| format!("{}: {}", shown(path), line.trim()))
                .collect();
            let shown = shown(path);
            match CLOCKS.iter().find(|clock| **clock == shown) {
                Some(clock) if !lines.is_empty() => found.push(*clock),
                _ => wrong.extend(lines),
            }
        }
    }
    found.sort_unstable();
    let mut clocks = CLOCKS;
    clocks.sort_unstable();
    assert_eq!(found, clocks, "the search for clocks does not find ours");
    assert!(wrong.is_empty(), "clocks are read:\n{}", wrong.join("\n"));
    for line in [
        "let now = Instant::now();",
        "let at = at.unwrap_or_else(SystemTime::now);",
        "if begun.elapsed() > TIME_MAX {",
        "let today = jiff::Zoned::now().date();",
        "let now = Utc::now();",
        "let id = Uuid::now_v7();",
    ] {
        assert!(reads_clock(line), "{line}");
    }
    assert!(!reads_clock("let now = clock::now();"));
}

#[test]
fn pure_rooms_ask_no_clock_and_do_no_io() {
    let mut excused = Vec::new();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in rust_files("src").iter().filter(|path| !is_test(path)) {
        if !PURE_ROOMS.contains(&room(path).as_str()) {
            continue;
        }
        seen += 1;
        let shown = shown(path);
        let is_excused = DOES_IO.iter().any(|(file, _)| *file == shown);
        for line in code(&product_text(path)) {
            if ASK_CLOCK.iter().any(|way| line.contains(way)) {
                wrong.push(format!("{shown}: {}", line.trim()));
            }
            // `Refs::` is a type, and no `fs::`.
            let does_io = DO_IO.iter().any(|way| {
                line.match_indices(way).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
                })
            });
            if does_io && is_excused {
                excused.push(shown.clone());
            } else if does_io {
                wrong.push(format!("{shown}: {}", line.trim()));
            }
        }
    }
    assert!(
        seen > 100,
        "the search for pure files finds too few: {seen}"
    );
    excused.dedup();
    let listed = DOES_IO.map(|(file, _)| file);
    assert_eq!(excused, listed, "DOES_IO lists what does no I/O");
    assert!(wrong.is_empty(), "not pure:\n{}", wrong.join("\n"));
}
