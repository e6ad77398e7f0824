//! Every metric: name, help and the values of its labels stand in [`Metrics::register`], and nowhere else.
//! `docs/metrics.md` is made of what is registered (`make metrics-docs`).
//!
//! A metric is a plain atomic, or a few of them, made at the start; whoever counts only adds to it. Label
//! values come from enums and from nothing that a request says, so no sender can make the set of series
//! grow. Names end in their unit, those of counters in `_total`.

mod label;
mod process;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, Result, TextEncoder,
};

use crate::clock::UnixMicros;
use crate::hit::{ConsentSource, Flags, Hit};
use label::STATUSES;
pub use label::{HandshakeFailure, Outcome};

use crate::endpoint::Endpoint;
use crate::refusal::Reason;
use process::Process;

/// The handles of all metrics.
#[expect(missing_docs, reason = "each metric's help text stands in `register`")]
pub struct Metrics {
    registry: Registry,
    process: Process,
    requests: [[IntCounter; STATUSES.len()]; Endpoint::ALL.len()],
    request_seconds: [Histogram; Endpoint::ALL.len()],
    refusals: [IntCounter; Reason::ALL.len()],
    hits: [[IntCounter; Outcome::ALL.len()]; ConsentSource::ALL.len()],
    pub over_limit: IntCounter,
    pub threads: IntGauge,
    pub connections: IntGauge,
    pub connections_max: IntGauge,
    pub connections_refused: IntCounter,
    pub accept_errors: IntCounter,
    pub proxy_errors: IntCounter,
    handshakes: [IntCounter; 2],
    handshake_failures: [IntCounter; HandshakeFailure::ALL.len()],
    certificate_expiry: IntGaugeVec,
    pub certificate_reload_failures: IntCounter,
    append_seconds: Histogram,
    sync_seconds: Histogram,
    group_records: Histogram,
    pub spool_bytes: IntGauge,
    pub spool_bytes_max: IntGauge,
    pub spool_backlog_bytes: IntGauge,
    pub spool_oldest_seconds: Gauge,
    pub spool_io_errors: IntCounter,
    pub spool_damage_bytes: IntCounter,
    pub spool_lost_records: IntCounter,
    pub instructions: IntCounter,
    pub instruction_backlog_bytes: IntGauge,
    pub loader_connected: IntGauge,
    pub batch_rows: Histogram,
    pub batch_seconds: Histogram,
    pub rows: IntCounter,
    pub counted: IntCounter,
    pub repeated: IntCounter,
    pub suppressed: IntCounter,
    pub rejected_by_loader: IntCounter,
    pub rejected_by_postgres: IntCounter,
    flagged: [IntCounter; Flags::NAMED.len()],
    pub place_misses: IntCounter,
    pub network_misses: IntCounter,
    pub device_misses: IntCounter,
    pub dimension_hits: IntCounter,
    pub dimension_misses: IntCounter,
    pub postgres_connects: IntCounter,
    pub postgres_errors: IntCounter,
    pub places_built: IntGauge,
    pub networks_built: IntGauge,
    pub reload_errors: IntCounter,
    pub reloads_applied: IntCounter,
    pub reloads_refused: IntCounter,
    pub config_timestamp: IntGauge,
    pub job_errors: IntCounter,
}

/// Buckets of times, in seconds.
const SECONDS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];
/// Buckets of numbers of hits.
const RECORDS: [f64; 12] = [
    1.0, 4.0, 16.0, 64.0, 256.0, 1000.0, 4000.0, 10_000.0, 20_000.0, 40_000.0, 80_000.0, 200_000.0,
];

impl Metrics {
    /// Makes every metric.
    ///
    /// # Errors
    /// Where a name or label is none, or stands here twice: a mistake in this file.
    pub fn new() -> Result<Metrics> {
        Metrics::register(&Register(Registry::new()))
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    fn register(r: &Register) -> Result<Metrics> {
        let [build_info] = r.gauges(
            "avtryck_build_info",
            "The version that runs; always 1.",
            ("version", [env!("CARGO_PKG_VERSION")]),
        )?;
        build_info.set(1);
        let endpoints = Endpoint::ALL.map(|(_, name)| name);
        let [dimension_hits, dimension_misses] = r.counters(
            "avtryck_loader_dimension_lookups_total",
            "Dimension keys that the loader looked up in its cache.",
            ("result", ["hit", "miss"]),
        )?;
        let [place_misses, network_misses, device_misses] = r.counters(
            "avtryck_enrich_misses_total",
            "Rows for which geodata or device rules had no answer.",
            ("table", ["place", "network", "device"]),
        )?;
        let [rejected_by_loader, rejected_by_postgres] = r.counters(
            "avtryck_loader_rejected_total",
            "Recorded hits set aside in rejected_hit, by who would not take them.",
            ("by", ["loader", "postgres"]),
        )?;
        let [places_built, networks_built] = r.gauges(
            "avtryck_geodata_build_timestamp_seconds",
            "When the oldest geodata file in use was built, since 1970; 0 without one.",
            ("table", ["place", "network"]),
        )?;
        let [reloads_applied, reloads_refused] = r.counters(
            "avtryck_config_reloads_total",
            "Reloads of the configuration; a refused one changed nothing.",
            ("outcome", ["applied", "refused"]),
        )?;
        Ok(Metrics {
            registry: r.0.clone(),
            process: Process::register(r)?,
            requests: r.grid(
                "avtryck_http_requests_total",
                "Requests answered.",
                ("endpoint", endpoints),
                ("status", STATUSES),
            )?,
            request_seconds: r.histograms(
                "avtryck_http_request_duration_seconds",
                "From a request's header to its reply, with the arrival of its body and the wait for the disk.",
                ("endpoint", endpoints),
            )?,
            refusals: r.counters(
                "avtryck_refusals_total",
                "Requests, or events of a request, that were not recorded.",
                ("reason", Reason::ALL.map(Reason::name)),
            )?,
            hits: r.grid(
                "avtryck_hits_total",
                "Hits recorded, by the signal that decided and by what its permit makes of them: a count, a row, or a row with the visitor's IDs.",
                ("consent_source", ConsentSource::ALL.map(ConsentSource::name)),
                ("outcome", Outcome::ALL.map(|(_, name)| name)),
            )?,
            over_limit: r.counter(
                "avtryck_hits_over_limit_total",
                "Hits of clients that send more than their limit, flagged or refused.",
            )?,
            threads: r.gauge("avtryck_http_threads", "Edge threads.")?,
            connections: r.gauge("avtryck_http_connections", "Open connections.")?,
            connections_max: r.gauge(
                "avtryck_http_max_connections",
                "Connections that may be open, as the limit of open files allows.",
            )?,
            connections_refused: r.counter(
                "avtryck_http_connections_refused_total",
                "Connections closed at once: their address had as many as it may.",
            )?,
            accept_errors: r.counter(
                "avtryck_http_accept_errors_total",
                "Failed attempts to accept a connection, such as too many open files.",
            )?,
            proxy_errors: r.counter(
                "avtryck_proxy_protocol_errors_total",
                "Connections that had to begin with the PROXY protocol of a trusted proxy, and did not.",
            )?,
            handshakes: r.counters(
                "avtryck_tls_handshakes_total",
                "Handshakes that made a connection, by whether a ticket shortened them.",
                ("resumed", ["false", "true"]),
            )?,
            handshake_failures: r.counters(
                "avtryck_tls_handshake_failures_total",
                "Handshakes that made no connection.",
                ("reason", HandshakeFailure::ALL.map(|(_, name)| name)),
            )?,
            // The configuration names the files, and no request another one.
            certificate_expiry: r.add(IntGaugeVec::new(
                Opts::new(
                    "avtryck_certificate_expiry_timestamp_seconds",
                    "When the first certificate of a chain ends, since 1970, by the file; no series without tls.listen.",
                ),
                &["certificate"],
            )?)?,
            certificate_reload_failures: r.counter(
                "avtryck_certificate_reload_failures_total",
                "Certificates that changed and could not be read: the ones before stay in use.",
            )?,
            append_seconds: r.histogram(
                "avtryck_spool_append_seconds",
                "From a group's first append to its commit: the longest wait in it.",
                &SECONDS,
            )?,
            sync_seconds: r.histogram(
                "avtryck_spool_sync_seconds",
                "Write and fdatasync of a group; the rate of its sum is how busy the spool's writer is.",
                &SECONDS,
            )?,
            group_records: r.histogram(
                "avtryck_spool_group_records",
                "Records of a group commit.",
                &RECORDS,
            )?,
            spool_bytes: r.gauge("avtryck_spool_bytes", "Disk space that the chunks of the spool take.")?,
            spool_bytes_max: r.gauge("avtryck_spool_max_bytes", "Disk space that they may take (spool.max_bytes).")?,
            spool_backlog_bytes: r.gauge("avtryck_spool_backlog_bytes", "Bytes in the spool that are not loaded.")?,
            spool_oldest_seconds: r.add(Gauge::new(
                "avtryck_spool_oldest_unloaded_seconds",
                "Age of the oldest hit that is not loaded.",
            )?)?,
            spool_io_errors: r.counter("avtryck_spool_io_errors_total", "Groups that the disk did not take.")?,
            spool_damage_bytes: r.counter(
                "avtryck_spool_damage_bytes_total",
                "Bytes of the spool that were no valid record.",
            )?,
            spool_lost_records: r.counter(
                "avtryck_spool_lost_records_total",
                "Records that the spool had taken and could not give out: damaged, or in chunks that are gone.",
            )?,
            instructions: r.counter(
                "avtryck_instructions_total",
                "Withdrawals and erasures that visitors asked for.",
            )?,
            instruction_backlog_bytes: r.gauge(
                "avtryck_instruction_backlog_bytes",
                "Bytes of withdrawals and erasures that are not carried out.",
            )?,
            loader_connected: r.gauge("avtryck_loader_connected", "1 if Postgres took the last batch, else 0.")?,
            batch_rows: r.histogram("avtryck_loader_batch_rows", "Hits of a batch.", &RECORDS)?,
            batch_seconds: r.histogram(
                "avtryck_loader_batch_seconds",
                "From reading a batch to its commit.",
                &SECONDS,
            )?,
            rows: r.counter("avtryck_loader_rows_total", "Hits that became rows.")?,
            counted: r.counter(
                "avtryck_loader_counted_total",
                "Hits without the permit to measure, added to hit_count.",
            )?,
            repeated: r.counter(
                "avtryck_loader_repeated_total",
                "Hits left out because their event ID was stored before.",
            )?,
            suppressed: r.counter(
                "avtryck_loader_suppressed_total",
                "Hits of visitors who withdrew or were erased, made counts.",
            )?,
            rejected_by_loader,
            rejected_by_postgres,
            flagged: r.counters(
                "avtryck_loader_flagged_total",
                "Rows with a flag; one row may have several.",
                ("flag", Flags::NAMED.map(|(name, _)| name)),
            )?,
            place_misses,
            network_misses,
            device_misses,
            dimension_hits,
            dimension_misses,
            postgres_connects: r.counter("avtryck_postgres_connects_total", "Connections made to Postgres.")?,
            postgres_errors: r.counter("avtryck_postgres_errors_total", "Failed connections and transactions.")?,
            places_built,
            networks_built,
            reload_errors: r.counter(
                "avtryck_reload_errors_total",
                "Files of geodata or rules that could not be loaded.",
            )?,
            reloads_applied,
            reloads_refused,
            config_timestamp: r.gauge(
                "avtryck_config_timestamp_seconds",
                "When the configuration in force was read, since 1970.",
            )?,
            job_errors: r.counter("avtryck_job_errors_total", "Runs of jobs that failed.")?,
        })
    }

    /// Counts one reply, and how long it took to make.
    pub fn request(&self, endpoint: Endpoint, status: &str, took: Duration) {
        let at = STATUSES
            .iter()
            .position(|known| *known == status)
            .unwrap_or(STATUSES.len() - 1);
        let by_status = self.requests.get(endpoint as usize);
        count(by_status.and_then(|counters| counters.get(at)));
        if let Some(seconds) = self.request_seconds.get(endpoint as usize) {
            seconds.observe(took.as_secs_f64());
        }
    }

    /// Counts one refusal.
    pub fn refusal(&self, reason: Reason) {
        count(self.refusals.get(reason as usize));
    }

    /// Counts a handshake that made a connection.
    pub fn handshake(&self, is_resumed: bool) {
        count(self.handshakes.get(usize::from(is_resumed)));
    }

    /// Counts one that made none.
    pub fn handshake_failure(&self, failure: HandshakeFailure) {
        count(self.handshake_failures.get(failure as usize));
    }

    /// Tells when the first certificate of a file ends.
    pub fn certificate_expiry(&self, chain: &Path, at: UnixMicros) {
        let file = chain.display().to_string();
        let gauge = self.certificate_expiry.with_label_values(&[&file]);
        gauge.set(at.seconds());
    }

    /// Counts a hit that the spool holds.
    pub fn hit(&self, hit: &Hit<'_>) {
        let source = ConsentSource::ALL
            .iter()
            .position(|known| *known == hit.consent_source);
        let by_outcome = source.and_then(|at| self.hits.get(at));
        count(by_outcome.and_then(|counters| counters.get(Outcome::from(hit.permit) as usize)));
    }

    /// Counts the flags of rows that were stored.
    pub fn flags(&self, rows: impl Iterator<Item = Flags>) {
        for flags in rows.filter(|flags| *flags != Flags::default()) {
            for ((_, flag), counter) in Flags::NAMED.iter().zip(&self.flagged) {
                counter.inc_by(u64::from(flags.has(*flag)));
            }
        }
    }

    /// Records how a commit of the spool went.
    pub fn spool_commit(&self, records: u64, append_wait: Duration, sync: Duration) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a group holds far fewer than 2^52 records"
        )]
        self.group_records.observe(records as f64);
        self.append_seconds.observe(append_wait.as_secs_f64());
        self.sync_seconds.observe(sync.as_secs_f64());
    }

    /// Everything in Prometheus's text form.
    #[must_use]
    pub fn render(&self) -> String {
        self.process.read();
        // Only a metric without a series is no text, and none is registered so.
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }
}

fn count(counter: Option<&IntCounter>) {
    if let Some(counter) = counter {
        counter.inc();
    }
}

/// Makes metrics, and has each told to whoever scrapes.
struct Register(Registry);

impl Register {
    fn add<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        self.add(IntCounter::new(name, help)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        self.add(IntGauge::new(name, help)?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add(Histogram::with_opts(options)?)
    }

    /// A counter for each value of a label.
    fn counters<const N: usize>(
        &self,
        name: &str,
        help: &str,
        (label, values): (&str, [&str; N]),
    ) -> Result<[IntCounter; N]> {
        let all = self.add(IntCounterVec::new(Opts::new(name, help), &[label])?)?;
        Ok(values.map(|value| all.with_label_values(&[value])))
    }

    /// A gauge for each value of a label.
    fn gauges<const N: usize>(
        &self,
        name: &str,
        help: &str,
        (label, values): (&str, [&str; N]),
    ) -> Result<[IntGauge; N]> {
        let all = self.add(IntGaugeVec::new(Opts::new(name, help), &[label])?)?;
        Ok(values.map(|value| all.with_label_values(&[value])))
    }

    /// A histogram of times for each value of a label.
    fn histograms<const N: usize>(
        &self,
        name: &str,
        help: &str,
        (label, values): (&str, [&str; N]),
    ) -> Result<[Histogram; N]> {
        let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        let all = self.add(HistogramVec::new(options, &[label])?)?;
        Ok(values.map(|value| all.with_label_values(&[value])))
    }

    /// A counter for each value of one label with each of another.
    fn grid<const N: usize, const M: usize>(
        &self,
        name: &str,
        help: &str,
        (row, rows): (&str, [&str; N]),
        (column, columns): (&str, [&str; M]),
    ) -> Result<[[IntCounter; M]; N]> {
        let all = self.add(IntCounterVec::new(Opts::new(name, help), &[row, column])?)?;
        Ok(rows.map(|row| columns.map(|column| all.with_label_values(&[row, column]))))
    }
}
