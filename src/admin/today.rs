//! The totals of today, for the live view: what the counters have grown by since midnight, UTC, or
//! since the start.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Status;
use crate::clock::{self, UnixMicros};

const DAY_MICROS: i64 = 86_400_000_000;

/// Where today's counts began.
#[derive(Clone)]
pub(super) struct Today(Rc<RefCell<Baseline>>);

struct Baseline {
    since: UnixMicros,
    totals: Totals,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Totals {
    recorded: f64,
    counted: f64,
    refused: f64,
}

impl Totals {
    /// Adds up the counters in Prometheus's text.
    fn read(metrics: &str) -> Totals {
        let mut totals = Totals::default();
        for line in metrics.lines() {
            let value = || line.rsplit(' ').next().and_then(|text| text.parse().ok());
            let value: f64 = match line.split('{').next() {
                Some("avtryck_hits_total" | "avtryck_refusals_total") => value().unwrap_or(0.0),
                _ => continue,
            };
            if line.starts_with("avtryck_refusals_total") {
                totals.refused += value;
            } else if line.contains("outcome=\"count\"") {
                totals.counted += value;
            } else if !line.contains("outcome=\"nothing\"") {
                totals.recorded += value;
            }
        }
        totals
    }
}

impl Today {
    /// Begins now, when every counter is at zero.
    pub(super) fn begin() -> Today {
        Today(Rc::new(RefCell::new(Baseline {
            since: clock::now(),
            totals: Totals::default(),
        })))
    }

    /// Returns what the page shows.
    pub(super) fn report(&self, metrics: &str) -> Value {
        let now = Totals::read(metrics);
        let began = self.0.borrow();
        json!({
            "since": began.since.0.div_euclid(1000),
            "recorded": now.recorded - began.totals.recorded,
            "counted": now.counted - began.totals.counted,
            "refused": now.refused - began.totals.refused,
        })
    }

    /// Begins anew at each midnight. Never returns.
    pub(super) async fn turn_days(self, status: Arc<impl Status>) {
        loop {
            tokio::time::sleep(until_midnight(clock::now())).await;
            let totals = Totals::read(&status.metrics());
            let since = clock::now();
            *self.0.borrow_mut() = Baseline { since, totals };
        }
    }
}

/// Returns how long it is until the next midnight: never nothing, so that a clock that stands still
/// keeps nobody busy.
fn until_midnight(now: UnixMicros) -> Duration {
    let left = DAY_MICROS - now.0.rem_euclid(DAY_MICROS);
    Duration::from_micros(left.unsigned_abs()).max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "# TYPE avtryck_hits_total counter\n\
        avtryck_hits_total{consent_source=\"default\",outcome=\"row\"} 5\n\
        avtryck_hits_total{consent_source=\"default\",outcome=\"visitor\"} 20\n\
        avtryck_hits_total{consent_source=\"gpc\",outcome=\"count\"} 3\n\
        avtryck_hits_total{consent_source=\"gpc\",outcome=\"nothing\"} 100\n\
        avtryck_refusals_total{reason=\"form\"} 1\n\
        avtryck_refusals_total{reason=\"token\"} 2\n\
        avtryck_hits_total_other{outcome=\"row\"} 9\n";

    #[test]
    fn totals_are_those_since_the_day_began() {
        let today = Today::begin();
        let report = today.report(METRICS);
        let of =
            |report: &Value| ["recorded", "counted", "refused"].map(|name| report[name].clone());
        assert_eq!(of(&report), [25.0, 3.0, 3.0].map(Value::from));
        today.0.borrow_mut().totals = Totals::read(METRICS);
        assert_eq!(of(&today.report(METRICS)), [0.0; 3].map(Value::from));
    }

    #[test]
    fn a_day_lasts_until_midnight() {
        let at = |micros| until_midnight(UnixMicros(micros));
        assert_eq!(at(0), Duration::from_secs(86_400));
        assert_eq!(at(DAY_MICROS - 5_000_000), Duration::from_secs(5));
        assert_eq!(at(DAY_MICROS - 1), Duration::from_secs(1));
        assert_eq!(at(-5_000_000), Duration::from_secs(5));
    }
}
