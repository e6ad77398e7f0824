//! What the edge takes for what trackers send.

use super::Table;
use crate::cost::median;
use crate::figures::Tracked;

/// The load that events of batches are compared with.
const PIXEL: &str = "pixel";

/// Adds the goals.
pub(super) fn wanted(loads: &[Tracked], table: &mut Table) {
    for load in loads {
        if let Some(beside) = find(loads, load.beside) {
            let name = format!("CPU a request: {} / {}", load.name, beside.name);
            table.at_most(&name, ratio(load, beside), 1.4, "");
        } else if load.events > 1
            && let Some(pixel) = find(loads, Some(PIXEL))
        {
            let name = format!("CPU an event: {} / {}", load.name, pixel.name);
            table.at_most(&name, ratio(load, pixel), 1.0, "");
        }
    }
}

/// Returns the costs of each load, by request and by event, and what of the pixel's that is.
pub(super) fn table(loads: &[Tracked]) -> Table {
    let mut table = Table::new(
        "Trackers of other makers: CPU of the edge",
        [
            "load",
            "events",
            "µs a request",
            "µs an event",
            "an event / the pixel",
            "a request / its own event",
        ],
    );
    for load in loads {
        let micros = median(load.micros.iter().copied());
        let beside = |other: Option<&Tracked>| {
            other.map_or_else(String::new, |other| format!("{:.2}", ratio(load, other)))
        };
        table.row([
            load.name.to_owned(),
            load.events.to_string(),
            format!("{micros:.2}"),
            format!("{:.2}", micros / load.events_as_float()),
            beside(find(loads, Some(PIXEL))),
            beside(find(loads, load.beside)),
        ]);
    }
    table
}

fn find<'l>(loads: &'l [Tracked], name: Option<&str>) -> Option<&'l Tracked> {
    loads.iter().find(|load| Some(load.name) == name)
}

/// The median of the rounds' ratios of what an event costs.
fn ratio(load: &Tracked, other: &Tracked) -> f64 {
    let events = load.events_as_float() / other.events_as_float();
    let rounds = load.micros.iter().zip(&other.micros);
    median(rounds.map(|(load, other)| load / other / events))
}
