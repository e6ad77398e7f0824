//! Instructions and allocations of each part, counted by callgrind, against those that are
//! committed.
//!
//! The counts are those of the toolchain in rust-toolchain.toml and of our code at `opt-level = 3`,
//! without link-time optimisation, so that the dependencies are as the tests have them built.
//! Valgrind shows the program a processor of its own, with AVX2 and without AVX-512 and SHA
//! instructions, so that they are the same on any that has AVX2. Where it matters is the cookie's
//! MAC, which an ordinary run computes by the SHA instructions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::parts::{self, HITS, Work};

/// What a count may be above the committed one.
const TOLERANCE: f64 = 1.05;
/// Tells the process that is counted its part, and how often to run it.
const COUNTED: &str = "AVTRYCK_BENCH_COUNTED";
/// The function whose instructions count.
const MEASURED: &str = "pure::instructions::measured";

/// What a hit costs in one part.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Cost {
    instructions: f64,
    allocations: f64,
}

/// The part that this process is to run, and how often, where it is one that is counted.
pub(crate) fn counted() -> Option<(String, usize)> {
    let told = std::env::var(COUNTED).ok()?;
    let (part, runs) = told.split_once(' ')?;
    Some((part.to_owned(), runs.parse().ok()?))
}

/// Runs a part. What is remembered is remembered by the runs that count.
pub(crate) fn run(part: &str, runs: usize) {
    let (_, make) = parts::ALL.iter().find(|(name, _)| *name == part).unwrap();
    let mut work = make();
    work();
    assert!((0..runs).all(|_| measured(&mut work)));
}

/// Returns something, so that the work is called and not jumped to.
#[inline(never)]
fn measured(work: &mut Work) -> bool {
    work();
    black_box(true)
}

/// Counts, says what it found, and whether nothing has become dearer than it may.
pub(crate) fn check() -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let known: BTreeMap<String, Cost> = toml::from_str(&text).unwrap();
    let counted = parts::ALL.map(|(name, _)| (name, count(name)));
    let mut all_hold = true;
    println!(
        "{:14} {:>12} {:>9} {:>11} {:>9}",
        "a hit", "instructions", "committed", "allocations", "committed"
    );
    for (name, cost) in &counted {
        let before = known.get(*name);
        let holds = before.is_some_and(|before| {
            cost.instructions <= before.instructions * TOLERANCE
                && cost.allocations <= before.allocations * TOLERANCE
        });
        all_hold &= holds;
        let [instructions, allocations] = [
            before.map(|cost| cost.instructions),
            before.map(|cost| cost.allocations),
        ]
        .map(|cost| cost.unwrap_or(f64::NAN));
        println!(
            "{name:14} {:12.0} {instructions:9.0} {:11.2} {allocations:9.2}{}",
            cost.instructions,
            cost.allocations,
            if holds { "" } else { "  dearer" }
        );
    }
    if std::env::var_os("BENCH_WRITE").is_some() {
        write(&path, &text, &counted);
        return true;
    }
    all_hold
}

/// Writes the counts below the comment that the file begins with.
fn write(path: &Path, before: &str, counted: &[(&str, Cost)]) {
    let mut text: String = before
        .split_inclusive('\n')
        .take_while(|line| line.starts_with('#'))
        .collect();
    for (name, cost) in counted {
        let Cost {
            instructions,
            allocations,
        } = cost;
        write!(
            text,
            "\n[{name}]\ninstructions = {instructions:.1}\nallocations = {allocations:.3}\n"
        )
        .unwrap();
    }
    std::fs::write(path, text).unwrap();
}

/// What a part costs a hit. Callgrind counts the instructions of [`measured`] alone, but every
/// call, so that it takes a second process to tell what one run asks of the allocator.
fn count(part: &str) -> Cost {
    let (instructions, once) = run_counted(part, 1);
    let (_, twice) = run_counted(part, 2);
    Cost {
        instructions: instructions / HITS as f64,
        allocations: (twice - once) / HITS as f64,
    }
}

/// Runs this program once more, below callgrind, for one part: its instructions, and how often
/// anything called the allocator for memory.
fn run_counted(part: &str, runs: usize) -> (f64, f64) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("counts");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--compress-strings=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(format!("--toggle-collect={MEASURED}"))
        .arg(std::env::current_exe().unwrap())
        .env(COUNTED, format!("{part} {runs}"))
        .output()
        .expect("valgrind: `script/setup bench` installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{part}: {said}");
    let (mut instructions, mut allocations) = (0.0, 0.0);
    let (mut caller, mut callee) = ("", "");
    let text = std::fs::read_to_string(out).unwrap();
    for line in text.lines() {
        if let Some(total) = line.strip_prefix("totals: ") {
            instructions = total.parse().unwrap();
        } else if let Some(name) = line.strip_prefix("fn=") {
            caller = name;
        } else if let Some(name) = line.strip_prefix("cfn=") {
            callee = name;
        } else if let Some(calls) = line.strip_prefix("calls=") {
            let gives = callee.starts_with("mi_") && callee.contains("alloc");
            if gives && !caller.starts_with("mi_") && !caller.starts_with("_mi_") {
                allocations += calls.split(' ').next().unwrap().parse::<f64>().unwrap();
            }
        }
    }
    (instructions, allocations)
}
