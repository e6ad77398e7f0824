//! `avtryck report`.

mod chapter;
mod csv;
mod html;

use std::process::ExitCode;

use anyhow::Context as _;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::migrate::with_database;
use super::{UsageError, print};
use crate::clock;
use crate::config::Config;
use chapter::{CHAPTERS, ChapterRows};

/// The days of a report: more would be read for minutes.
const DAYS_MAX: i32 = 366;

/// Print a report of a campaign: what it reached, what came of it, and what does not count.
#[derive(clap::Args)]
pub(super) struct ReportCommand {
    /// The campaign, as tags name it.
    #[arg(long, value_name = "NAME")]
    campaign: String,
    /// The first and the last UTC day, such as 2026-11-01..2026-11-30.
    #[arg(long, value_name = "FIRST..LAST", value_parser = parse_days)]
    days: (Date, Date),
    /// html is one page that needs nothing else, csv is for spreadsheets.
    #[arg(long, value_enum, default_value_t = Format::Html)]
    format: Format,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Html,
    Csv,
    Json,
}

/// What was read.
struct Contents<'a> {
    campaign: &'a str,
    first: Date,
    last: Date,
    /// When, in UTC.
    read_at: String,
    /// The rows of each of [`CHAPTERS`].
    rows: Vec<ChapterRows>,
}

fn parse_days(text: &str) -> Result<(Date, Date), String> {
    let (first, last) = text
        .split_once("..")
        .ok_or("two days with .. between them, such as 2026-11-01..2026-11-30")?;
    let parse = |day: &str| day.parse::<Date>().map_err(|error| error.to_string());
    let (first, last) = (parse(first)?, parse(last)?);
    let days = last
        .since(first)
        .map_err(|error| error.to_string())?
        .get_days();
    if last < first {
        return Err("the last day comes before the first".to_owned());
    }
    if days >= DAYS_MAX {
        return Err(format!("at most {DAYS_MAX} days"));
    }
    Ok((first, last))
}

impl ReportCommand {
    /// Prints the report.
    ///
    /// # Errors
    /// If Postgres cannot be reached, or has no hits of the campaign on these days.
    pub(super) fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let mut text = String::new();
        with_database(config, async |client| {
            let (first, last) = self.days;
            let mut rows = Vec::with_capacity(CHAPTERS.len());
            for chapter in &CHAPTERS {
                let read = chapter::read(client, chapter, &self.campaign, self.days).await;
                rows.push(read?);
            }
            let contents = Contents {
                campaign: &self.campaign,
                first,
                last,
                read_at: utc_minute(),
                rows,
            };
            text = contents.write(self.format)?;
            Ok(())
        })?;
        if text.is_empty() {
            let (first, last) = self.days;
            let campaign = &self.campaign;
            let mistake = format!("no hit names the campaign {campaign} from {first} to {last}");
            return Err(UsageError(mistake).into());
        }
        print(&text);
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns the time now, such as `2026-11-24 12:34`.
fn utc_minute() -> String {
    let second = clock::now().seconds();
    let now = jiff::Timestamp::from_second(second).unwrap_or_default();
    now.strftime("%Y-%m-%d %H:%M").to_string()
}

impl Contents<'_> {
    /// Returns the report; an empty text where there is nothing to report.
    fn write(&self, format: Format) -> anyhow::Result<String> {
        let is_zero = |value: &Value| value.is_null() || value.as_f64() == Some(0.0);
        let mut totals = self.rows.iter().take(1).flatten().flatten();
        if totals.all(is_zero) {
            return Ok(String::new());
        }
        match format {
            Format::Html => html::write(self),
            Format::Csv => Ok(csv::write(self)),
            Format::Json => self.write_json(),
        }
    }

    fn write_json(&self) -> anyhow::Result<String> {
        let chapters = CHAPTERS.iter().zip(&self.rows).map(|(chapter, rows)| {
            let columns = chapter.columns.iter();
            let columns: Vec<Value> = columns
                .map(|(name, meaning)| json!({"name": name, "meaning": meaning}))
                .collect();
            json!({
                "key": chapter.key,
                "title": chapter.title,
                "about": chapter.about,
                "columns": columns,
                "rows": rows,
            })
        });
        let report = json!({
            "campaign": self.campaign,
            "first_day": self.first.to_string(),
            "last_day": self.last.to_string(),
            "read_at": format!("{}Z", self.read_at.replace(' ', "T")),
            "chapters": chapters.collect::<Vec<Value>>(),
        });
        serde_json::to_string_pretty(&report).context("writing JSON")
    }
}

/// Returns a value as people read it.
fn show(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
