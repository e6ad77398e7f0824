//! `avtryck report`.

use std::process::ExitCode;

use jiff::civil::Date;

use super::migrate::with_database;
use super::{UsageError, print};
use crate::config::Config;
use crate::report::{Contents, ReportForm};

/// The days of a report: more would be read for minutes.
const DAYS_MAX: i32 = 366;

/// Print a report of a campaign: what it reached, what came of it, and what does not count.
#[derive(clap::Args)]
pub(super) struct ReportCommand {
    /// The campaign, as tags name it.
    #[arg(long, value_name = "NAME")]
    campaign: String,
    /// The first and the last day, in the time zone of each site, such as 2026-11-01..2026-11-30.
    #[arg(long, value_name = "FIRST..LAST", value_parser = parse_days)]
    days: (Date, Date),
    /// html is one page that needs nothing else, csv is for spreadsheets.
    #[arg(long, value_enum, default_value_t = ReportForm::Html)]
    format: ReportForm,
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
            let contents = Contents::read(client, &self.campaign, self.days).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_two_dates_in_their_order() {
        assert!(parse_days("2026-11-24..2026-11-24").is_ok());
        assert!(parse_days("2026-01-01..2026-12-31").is_ok());
        for wrong in [
            "",
            "2026-11-24",
            "2026-11-24..",
            "2026-11-24..2026-11-23",
            "2026-11-31..2026-12-01",
            "2025-11-24..2026-11-25",
            "2026-11-24...2026-11-25",
        ] {
            assert!(parse_days(wrong).is_err(), "{wrong}");
        }
    }
}
