//! `avtryck household`.

use std::process::ExitCode;

use super::migrate::with_database;
use super::{exit_code, print};
use crate::config::Config;
use crate::identity::household::{Agreement, CASES_MIN};
use crate::postgres::household::check::{Truth, check};

#[derive(clap::Subcommand)]
pub(super) enum HouseholdCommand {
    /// Compare households with proved logins: print recall and precision with their confidence
    /// intervals, or that there is too little truth. Changes nothing. Exit status 1 if somebody
    /// who refuses to be in a household is in one.
    Check,
}

impl HouseholdCommand {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let HouseholdCommand::Check = self;
        let mut truth = Truth::default();
        with_database(config, async |client| {
            truth = check(client).await?;
            Ok(())
        })?;
        print(&describe(&truth));
        Ok(exit_code(truth.refusing == 0))
    }
}

fn describe(truth: &Truth) -> String {
    let mut text = String::from(
        "Two devices on which one user is proved to have logged in are taken for devices of one home.\n",
    );
    for (name, agreement, cases, meaning) in [
        (
            "recall",
            truth.recall,
            "users",
            "of the pairs of one user's devices, those in one household",
        ),
        (
            "unity",
            truth.unity,
            "users",
            "of such pairs with both in a household, those in the same",
        ),
        (
            "precision",
            truth.precision,
            "households",
            "of the pairs in one household that have a user each, those with one in common; \
             at least, because the others may be members of one family",
        ),
    ] {
        text.push_str(&format!("{name}: {}\n  {meaning}\n", say(agreement, cases)));
    }
    text.push_str(
        "Intervals are Wilson's at 95 %, over users or households, because pairs of one are not independent.\n",
    );
    if truth.left_out > 0 {
        text.push_str(&format!(
            "{} users were left out: each has more devices than a household\n",
            truth.left_out
        ));
    }
    text.push_str(&format!(
        "{} members of households refuse to be in one\n",
        truth.refusing
    ));
    text
}

fn say(agreement: Agreement, cases: &str) -> String {
    let Agreement {
        right,
        pairs,
        cases: number,
    } = agreement;
    match agreement.estimate() {
        Some(found) => format!(
            "{:.3} ({:.3} to {:.3}): {right} of {pairs} pairs, {number} {cases}",
            found.share, found.low, found.high
        ),
        None => format!(
            "too little truth: {number} {cases} with {pairs} pairs; {CASES_MIN} {cases} are needed"
        ),
    }
}
