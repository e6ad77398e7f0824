//! `avtryck link`.

use std::process::ExitCode;

use super::migrate::with_database;
use super::print;
use crate::config::Config;
use crate::postgres::identity::check::{Rebuilt, rebuild};

#[derive(clap::Subcommand)]
pub(super) enum LinkCommand {
    /// Print what finding all device groups anew would change, by the rules and the configuration
    /// of today. Changes nothing.
    Check,
    /// Find all device groups anew: after a partner's `id_type` has changed, or an upgrade that
    /// says so. Works in ranges of 500 groups, beside collectors that run.
    Rebuild {
        /// The number of the group to begin with: the one that an interrupted run printed last.
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        from: i64,
    },
}

impl LinkCommand {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let uniting: Vec<String> = config
            .partners
            .iter()
            .filter(|partner| partner.id_type.unites())
            .map(|partner| partner.key.clone())
            .collect();
        let (from, is_trial) = match self {
            LinkCommand::Check => (0, true),
            LinkCommand::Rebuild { from } => (from, false),
        };
        with_database(config, async |client| {
            let rebuilt = rebuild(client, &uniting, (from, is_trial), |next| {
                if !is_trial {
                    print(&format!("done up to group {}\n", next - 1));
                }
            });
            print(&describe(&rebuilt.await?, is_trial));
            Ok(())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn describe(rebuilt: &Rebuilt, is_trial: bool) -> String {
    let Rebuilt {
        groups,
        stale,
        freed,
        grouped,
    } = rebuilt;
    let verb = if is_trial { "would be" } else { "were" };
    format!(
        "{groups} device groups\n\
         {stale} ties to IDs of partners that do not unite devices {verb} deleted\n\
         {} IDs {verb} split off\n\
         {} IDs {verb} joined to another group\n\
         {} ties {verb} left out because of a cap\n\
         {} IDs {verb} found to be hubs\n\
         {freed} ties of hubs {verb} counted again\n",
        grouped.split, grouped.merged, grouped.capped, grouped.hubs
    )
}
