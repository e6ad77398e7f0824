//! `avtryck segment`: groups of subjects. Segment.com's protocol has nothing to do with it.

use std::path::PathBuf;
use std::process::ExitCode;

use super::migrate::with_database;
use super::print;
use crate::clock::UnixMicros;
use crate::config::{Config, ConfigErrors};
use crate::postgres::segment::preview::{Preview, preview};
use crate::postgres::segment::status::{self, SegmentStatus};
use crate::segment::{Segment, size};

#[derive(clap::Subcommand)]
pub(super) enum SegmentCommand {
    /// Print each segment with its state, its size, and how old what it knows is. Exit status 1 if
    /// one has failed.
    List,
    /// Estimate how many members the segments of a file would have, from 6 of 256 ranges of
    /// subjects, and print what they are in words. Changes nothing.
    Preview {
        /// A file in TOML with one table `segment` or several.
        file: PathBuf,
    },
}

impl SegmentCommand {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let file = match self {
            SegmentCommand::List => return list(config),
            SegmentCommand::Preview { file } => file,
        };
        let (wanted, count) = config.with_segments_of(&file)?;
        let book = wanted.book().map_err(|mistakes| {
            let mistakes = mistakes.into_iter().map(|(_, mistake)| mistake.to_string());
            ConfigErrors(mistakes.collect())
        })?;
        with_database(config, async |client| {
            for segment in book.segments.iter().take(count) {
                let found = preview(client, segment, six_ranges()?).await?;
                print(&describe_preview(segment, &found));
            }
            Ok(())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns six ranges by chance, none of them twice.
fn six_ranges() -> anyhow::Result<[u8; 6]> {
    let mut bytes = [0; 6];
    getrandom::fill(&mut bytes)?;
    let [first, step, ..] = bytes;
    // An odd step visits all of 256 before it comes back.
    let at = |number: u8| first.wrapping_add((step | 1).wrapping_mul(number));
    Ok([0, 1, 2, 3, 4, 5].map(at))
}

fn list(config: &Config) -> anyhow::Result<ExitCode> {
    let mut has_failed = false;
    with_database(config, async |client| {
        let (found, now) = status::read(client).await?;
        has_failed = found.iter().any(|one| one.state == "failed");
        print(&describe_all(&found, now));
        Ok(())
    })?;
    Ok(super::exit_code(!has_failed))
}

fn describe_all(found: &[SegmentStatus], now: UnixMicros) -> String {
    if found.is_empty() {
        return "no segment has been evaluated".to_owned();
    }
    let head = ["segment", "state", "members", "told", "up to", "everybody"].map(str::to_owned);
    let mut rows = vec![head];
    rows.extend(found.iter().map(|one| describe(one, now)));
    let mut text = align(&rows);
    for one in found {
        if let Some(error) = &one.error {
            let key = &one.key;
            text.push_str(&format!("{key} keeps the members of before: {error}\n"));
        }
    }
    text
}

fn describe(one: &SegmentStatus, now: UnixMicros) -> [String; 6] {
    let ago = |at: Option<UnixMicros>| match at {
        Some(at) => format!("{} ago", age(now, at)),
        None => "never".to_owned(),
    };
    let full = match one.ranges_done {
        Some(done) => format!("{}, now {done} of 256", ago(one.full_at)),
        None => ago(one.full_at),
    };
    [
        one.key.clone(),
        one.state.clone(),
        one.size.map_or_else(
            || "unknown".to_owned(),
            |known| size::show(known, one.min_size),
        ),
        if one.is_exposed { "yes" } else { "no" }.to_owned(),
        ago(one.evaluated_at),
        full,
    ]
}

/// Returns rows as columns.
fn align(rows: &[[String; 6]]) -> String {
    let mut widths = [0; 6];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths);
        let cells = cells.map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Returns how long ago something was, in its largest unit.
fn age(now: UnixMicros, at: UnixMicros) -> String {
    let seconds = now.0.saturating_sub(at.0).max(0) / 1_000_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of members are small and not negative"
)]
fn describe_preview(segment: &Segment, found: &Preview) -> String {
    let [members, low, high] = found.members.map(|number| number.round() as u64);
    let shown = |number| size::show(number, segment.min_size);
    let mut text = format!(
        "{}\n  who: {}\n  vem: {}\n  members: {} (95 %: {} to {}), from {} subjects\n",
        segment.key,
        segment.words.en,
        segment.words.sv,
        shown(members),
        shown(low),
        shown(high),
        found.subjects
    );
    if members < segment.min_size {
        text.push_str("  nobody would be told of it, and the rest is not shown\n");
        return text;
    }
    for (what, counts) in [
        ("also in", &found.overlaps),
        ("device", &found.classes),
        ("region", &found.regions),
    ] {
        for (name, n) in counts {
            let percent = 100 * n / found.sampled.max(1);
            if percent > 0 {
                text.push_str(&format!("  {what} {name}: {percent} %\n"));
            }
        }
    }
    text
}
