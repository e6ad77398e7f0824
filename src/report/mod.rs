//! The report of a campaign: what it reached, what came of it, and what does not count. It is read
//! from Postgres and written as a page, for spreadsheets, or as JSON.

mod chapter;
mod csv;
mod html;

use anyhow::Context as _;
use jiff::civil::Date;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::clock;
use chapter::{CHAPTERS, ChapterRows};

/// The form of a report.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum ReportForm {
    /// One page that needs nothing else.
    Html,
    /// For spreadsheets.
    Csv,
    /// For programs.
    Json,
}

/// What was read.
pub(crate) struct Contents<'a> {
    campaign: &'a str,
    first: Date,
    last: Date,
    /// When, in UTC.
    read_at: String,
    /// The rows of each of [`CHAPTERS`].
    rows: Vec<ChapterRows>,
}

/// Returns the time now, such as `2026-11-24 12:34`.
fn utc_minute() -> String {
    let second = clock::now().seconds();
    let now = jiff::Timestamp::from_second(second).unwrap_or_default();
    now.strftime("%Y-%m-%d %H:%M").to_string()
}

impl Contents<'_> {
    /// Reads what the hits of a campaign tell, from the first of these days to the last.
    ///
    /// # Errors
    /// Where Postgres fails.
    pub(crate) async fn read<'a>(
        client: &Client,
        campaign: &'a str,
        days: (Date, Date),
    ) -> anyhow::Result<Contents<'a>> {
        let mut rows = Vec::with_capacity(CHAPTERS.len());
        for chapter in &CHAPTERS {
            rows.push(chapter::read(client, chapter, campaign, days).await?);
        }
        Ok(Contents {
            campaign,
            first: days.0,
            last: days.1,
            read_at: utc_minute(),
            rows,
        })
    }

    /// Returns the report; an empty text where there is nothing to report.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn write(&self, format: ReportForm) -> anyhow::Result<String> {
        let is_zero = |value: &Value| value.is_null() || value.as_f64() == Some(0.0);
        let mut totals = self.rows.iter().take(1).flatten().flatten();
        if totals.all(is_zero) {
            return Ok(String::new());
        }
        match format {
            ReportForm::Html => html::write(self),
            ReportForm::Csv => Ok(csv::write(self)),
            ReportForm::Json => self.write_json(),
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
