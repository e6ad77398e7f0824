//! Registers metrics with the recorder, and keeps a description of each for the documentation.

use std::sync::{Mutex, PoisonError};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use super::{RECORDS, SECONDS};

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

/// What the documentation says of a metric.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the test that writes docs/metrics.md reads it")
)]
pub(super) struct Description {
    pub(super) name: &'static str,
    pub(super) kind: MetricKind,
    pub(super) help: &'static str,
    /// The labels with their values; none for a label whose values the operator names.
    pub(super) labels: Vec<(&'static str, Vec<&'static str>)>,
}

/// Registers handles, each once.
pub(super) struct Register {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    descriptions: Mutex<Vec<Description>>,
}

const METADATA: Metadata<'static> = Metadata::new("avtryck", Level::INFO, None);

impl Register {
    pub(super) fn new() -> Result<Register, BuildError> {
        let suffix = |end: &str| Matcher::Suffix(end.to_owned());
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(suffix("_seconds"), &SECONDS)?
            .set_buckets_for_metric(suffix("_records"), &RECORDS)?
            .set_buckets_for_metric(suffix("_rows"), &RECORDS)?
            .build_recorder();
        Ok(Register {
            handle: recorder.handle(),
            recorder,
            descriptions: Mutex::default(),
        })
    }

    /// Returns what was registered so far.
    #[cfg(test)]
    pub(super) fn descriptions(&self) -> Vec<Description> {
        self.descriptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }

    pub(super) fn render(&self) -> String {
        self.handle.render()
    }

    pub(super) fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        self.describe(MetricKind::Counter, name, help, Vec::new());
        self.recorder
            .register_counter(&Key::from_static_name(name), &METADATA)
    }

    pub(super) fn gauge(&self, name: &'static str, help: &'static str) -> Gauge {
        self.describe(MetricKind::Gauge, name, help, Vec::new());
        self.recorder
            .register_gauge(&Key::from_static_name(name), &METADATA)
    }

    pub(super) fn histogram(&self, name: &'static str, help: &'static str) -> Histogram {
        self.describe(MetricKind::Histogram, name, help, Vec::new());
        self.recorder
            .register_histogram(&Key::from_static_name(name), &METADATA)
    }

    /// Registers a counter for each value of a label.
    pub(super) fn counters<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        (label, values): (&'static str, [&'static str; N]),
    ) -> [Counter; N] {
        self.describe(
            MetricKind::Counter,
            name,
            help,
            vec![(label, values.to_vec())],
        );
        values.map(|value| {
            let key = Key::from_parts(name, vec![Label::new(label, value)]);
            self.recorder.register_counter(&key, &METADATA)
        })
    }

    /// Registers a gauge for each value of a label.
    pub(super) fn gauges<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        (label, values): (&'static str, [&'static str; N]),
    ) -> [Gauge; N] {
        self.describe(
            MetricKind::Gauge,
            name,
            help,
            vec![(label, values.to_vec())],
        );
        values.map(|value| {
            let key = Key::from_parts(name, vec![Label::new(label, value)]);
            self.recorder.register_gauge(&key, &METADATA)
        })
    }

    /// Registers a histogram for each value of a label.
    pub(super) fn histograms<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        (label, values): (&'static str, [&'static str; N]),
    ) -> [Histogram; N] {
        self.describe(
            MetricKind::Histogram,
            name,
            help,
            vec![(label, values.to_vec())],
        );
        values.map(|value| {
            let key = Key::from_parts(name, vec![Label::new(label, value)]);
            self.recorder.register_histogram(&key, &METADATA)
        })
    }

    /// Registers a counter for each value of one label with each value of another.
    pub(super) fn grid<const N: usize, const M: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        (row, rows): (&'static str, [&'static str; N]),
        (column, columns): (&'static str, [&'static str; M]),
    ) -> [[Counter; M]; N] {
        let labels = vec![(row, rows.to_vec()), (column, columns.to_vec())];
        self.describe(MetricKind::Counter, name, help, labels);
        rows.map(|of_row| {
            columns.map(|of_column| {
                let labels = vec![Label::new(row, of_row), Label::new(column, of_column)];
                let key = Key::from_parts(name, labels);
                self.recorder.register_counter(&key, &METADATA)
            })
        })
    }

    /// Describes a gauge whose series are registered later ([`Register::labelled_gauge`]).
    pub(super) fn describe_labelled_gauge(
        &self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
    ) {
        self.describe(MetricKind::Gauge, name, help, vec![(label, Vec::new())]);
    }

    /// Returns the gauge with a value of a label that only the operator chooses.
    pub(super) fn labelled_gauge(
        &self,
        name: &'static str,
        label: &'static str,
        value: String,
    ) -> Gauge {
        let key = Key::from_parts(name, vec![Label::new(label, value)]);
        self.recorder.register_gauge(&key, &METADATA)
    }

    /// Adds a description of a metric that is rendered without the recorder.
    pub(super) fn describe(
        &self,
        kind: MetricKind,
        name: &'static str,
        help: &'static str,
        labels: Vec<(&'static str, Vec<&'static str>)>,
    ) {
        let (key, text) = (KeyName::from_const_str(name), help.into());
        match kind {
            MetricKind::Counter => self.recorder.describe_counter(key, None, text),
            MetricKind::Gauge => self.recorder.describe_gauge(key, None, text),
            MetricKind::Histogram => self.recorder.describe_histogram(key, None, text),
        }
        let description = Description {
            name,
            kind,
            help,
            labels,
        };
        self.descriptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(description);
    }
}
