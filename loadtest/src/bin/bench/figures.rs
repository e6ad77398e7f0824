//! What the rounds found.

use std::time::Duration;

use crate::cost::Cost;
use crate::open_loop;
use crate::tables::Size;
use loadtest::rig::collector::{Counters, Started};

/// Everything that was measured, a value for each round.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) edge: Vec<Closed>,
    /// With `http.plain = false`: hyper reads every request.
    pub(crate) edge_by_hyper: Vec<Closed>,
    pub(crate) floor: Vec<Closed>,
    pub(crate) nginx: Vec<Closed>,
    pub(crate) collector: Vec<EndToEnd>,
    pub(crate) floor_copy: Vec<Cost>,
    pub(crate) nginx_copy: Vec<EndToEnd>,
    pub(crate) nginx_rsyslog: Vec<EndToEnd>,
    /// With one connection for each request.
    pub(crate) edge_close: Vec<Closed>,
    pub(crate) floor_close: Vec<Closed>,
    pub(crate) nginx_close: Vec<Closed>,
    pub(crate) tls: Vec<Handshakes>,
    /// What other makers' trackers send, beside our own, by load.
    pub(crate) trackers: Vec<Tracked>,
    /// At a fixed rate, by contender.
    pub(crate) open: Vec<Open>,
    pub(crate) drain: Drain,
    pub(crate) started: Vec<Started>,
    /// The most memory of the collector and of the edge alone, less the geodata, in bytes.
    pub(crate) memory_bytes: Vec<(&'static str, i64)>,
    pub(crate) geodata_bytes: u64,
    pub(crate) spool_bytes: f64,
    pub(crate) size: Size,
    pub(crate) device: Device,
    /// How the collector's end-to-end rounds went.
    pub(crate) course: Course,
}

/// A closed loop at saturation.
pub(crate) struct Closed {
    pub(crate) rate: f64,
    pub(crate) cost: Cost,
}

/// A load of [`loadtest::trackers`], and its rounds.
pub(crate) struct Tracked {
    pub(crate) name: &'static str,
    pub(crate) events: usize,
    pub(crate) beside: Option<&'static str>,
    /// What the edge takes for a request, in microseconds.
    pub(crate) micros: Vec<f64>,
}

impl Tracked {
    pub(crate) fn events_as_float(&self) -> f64 {
        f64::from(u32::try_from(self.events).unwrap_or(u32::MAX))
    }
}

/// New connections with TLS in one round.
pub(crate) struct Handshakes {
    /// Whether a ticket shortened them.
    pub(crate) by_ticket: bool,
    pub(crate) edge: Closed,
    pub(crate) nginx: Closed,
}

/// The same until the last row was committed.
pub(crate) struct EndToEnd {
    /// Replies a second while requests were sent.
    pub(crate) answered_rate: f64,
    /// Hits from the first request to the last commit, a second.
    pub(crate) rate: f64,
    /// Hits that were answered and never came to Postgres.
    pub(crate) lost: u64,
    pub(crate) cost: Cost,
}

/// An open loop.
pub(crate) struct Open {
    pub(crate) name: &'static str,
    pub(crate) rate: u32,
    pub(crate) outcome: open_loop::Outcome,
    pub(crate) cost: Cost,
}

/// A backlog, drained while more arrives.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drain {
    pub(crate) backlog: u64,
    pub(crate) arriving_rate: u32,
    /// Hits loaded a second meanwhile.
    pub(crate) rate: f64,
}

/// A parse of a user agent, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Device {
    pub(crate) cached: f64,
    pub(crate) new: f64,
}

/// Counters at points in time.
#[derive(Default)]
pub(crate) struct Course(pub(crate) Vec<(Duration, Counters)>);
