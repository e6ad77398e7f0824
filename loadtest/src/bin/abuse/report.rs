//! The table of what the honest noticed.

use std::time::Duration;

use crate::stage::{Figures, Round};

/// Writes the table in Markdown: of each attack the median of its rounds.
pub(crate) fn table(all: &[Figures<'_>]) -> String {
    let mut text = String::from(
        "| attack | aims at | requests/s | MB sent | honest p99 ms | honest lost | \
         oldest hit s | loaded after s | memory MB | spool MB | database MB | query s |\n\
         | --- | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |\n",
    );
    for figures in all {
        let of = |value: &dyn Fn(&Round) -> f64| median(figures.rounds.iter().map(value));
        let seconds = |time: Option<Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64());
        let name = figures.attack.name;
        let aim = figures.attack.aim;
        text.push_str(&format!("| {name} | {aim} |"));
        let requests = of(&|round| whole(round.attacker.requests) / round.lasted.as_secs_f64());
        for (value, digits) in [
            (requests, 0),
            (of(&|round| whole(round.attacker.bytes) / 1e6), 1),
            (of(&|round| whole(round.p99_micros) / 1e3), 1),
            (of(&|round| whole(round.failed)), 0),
            (of(&|round| round.oldest_seconds), 1),
            (of(&|round| round.loaded_after.as_secs_f64()), 1),
            (of(&|round| whole(round.memory_bytes) / 1e6), 0),
            (of(&|round| whole(round.spool_bytes) / 1e6), 0),
            (of(&|round| whole(round.database_bytes) / 1e6), 0),
            (of(&|round| seconds(round.query)), 2),
        ] {
            text.push_str(&match value {
                value if value.is_nan() => "  |".to_owned(),
                value => format!(" {value:.digits$} |"),
            });
        }
        text.push('\n');
    }
    text
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn whole(number: u64) -> f64 {
    number as f64
}
