//! Every metric: its name, help text and label values stand in [`Metrics::register`] and nowhere
//! else. `docs/metrics.md` is generated from what is registered (`make metrics-docs`).
//!
//! Handles of the `metrics` crate are registered once, at the start. Label values come from enums
//! and never from a request, so no sender can make the set of series grow. Names end in their unit,
//! those of counters in `_total`.
//!
//! What every request counts is counted on its thread ([`request`]) and summed into the handles at
//! a scrape and each second ([`Metrics::keep_up`]), because the handles are atomics that all
//! threads share and the exporter keeps each sample of a histogram until then.

pub mod graph;
mod label;
mod process;
mod register;
mod request;
pub mod shown;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::BuildError;

use crate::clock::UnixMicros;
use crate::endpoint::Endpoint;
use crate::hit::{Flags, Hit};
use crate::refusal::Reason;
use graph::GraphMetrics;
pub(crate) use label::HandshakeFailure;
use process::Process;
use register::Register;
use request::RequestMetrics;
use shown::ShownHits;

/// The handles of all metrics.
#[expect(missing_docs, reason = "each metric's help text stands in `register`")]
pub struct Metrics {
    /// The hits that the live view shows.
    pub shown: Arc<ShownHits>,
    register: Register,
    process: Process,
    by_request: RequestMetrics,
    refusals: [Counter; Reason::ALL.len()],
    pub over_limit: Counter,
    pub threads: Gauge,
    pub connections: Gauge,
    pub connections_max: Gauge,
    pub connections_refused: Counter,
    pub accept_errors: Counter,
    pub proxy_errors: Counter,
    handshakes: [Counter; 2],
    handshake_failures: [Counter; HandshakeFailure::ALL.len()],
    pub certificate_reload_failures: Counter,
    pub spool_bytes: Gauge,
    pub spool_bytes_max: Gauge,
    pub spool_backlog_bytes: Gauge,
    pub spool_oldest_seconds: Gauge,
    pub spool_io_errors: Counter,
    pub spool_damage_bytes: Counter,
    pub spool_lost_records: Counter,
    pub instructions: Counter,
    pub instructions_unrecorded: Counter,
    pub instruction_backlog_bytes: Gauge,
    pub loader_connected: Gauge,
    pub batch_rows: Histogram,
    pub batch_seconds: Histogram,
    pub rows: Counter,
    pub counted: Counter,
    pub repeated: Counter,
    pub suppressed: Counter,
    pub other_names: Counter,
    pub users_refused: Counter,
    /// Documents of Snowplow's events whose schema is in no folder.
    pub schemas_unknown: Counter,
    pub rejected_by_loader: Counter,
    pub rejected_by_postgres: Counter,
    flagged: [Counter; Flags::NAMED.len()],
    pub place_misses: Counter,
    pub network_misses: Counter,
    pub device_misses: Counter,
    pub category_misses: Counter,
    pub dimension_hits: Counter,
    pub dimension_misses: Counter,
    pub dimensions_refused: Counter,
    pub postgres_connects: Counter,
    pub postgres_errors: Counter,
    pub kafka_messages: Counter,
    pub kafka_transactions: Counter,
    pub kafka_errors: Counter,
    pub kafka_connected: Gauge,
    pub kafka_backlog_bytes: Gauge,
    pub kafka_oldest_seconds: Gauge,
    pub kafka_fenced: Gauge,
    pub load_messages: Counter,
    pub load_refused: Counter,
    pub load_lost: Counter,
    pub(crate) load_running: Gauge,
    pub load_connected: Gauge,
    pub load_partitions: Gauge,
    pub load_backlog: Gauge,
    pub load_oldest_seconds: Gauge,
    pub places_built: Gauge,
    pub networks_built: Gauge,
    pub listed_domains: Gauge,
    pub lists_written: Gauge,
    pub reload_errors: Counter,
    pub reloads_applied: Counter,
    pub reloads_refused: Counter,
    pub config_timestamp: Gauge,
    pub devices_named: Counter,
    pub devices_unnamed: Counter,
    pub graph: GraphMetrics,
    pub job_errors: Counter,
    pub segment_subjects: Gauge,
    pub segment_bytes: Gauge,
    pub segment_age_seconds: Gauge,
    pub attributes_rejected: Counter,
    pub export_removals: Gauge,
    pub export_removal_seconds: Gauge,
    pub report_differences: Counter,
    pub clock_difference: Gauge,
    pub jobs_suspended: Gauge,
    pub jobs_held_back: Gauge,
}

/// How often counts are summed up without a scrape.
const UPKEEP_PERIOD: Duration = Duration::from_secs(1);
/// Buckets of times, in seconds.
const SECONDS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];
/// Buckets of numbers of hits.
const RECORDS: [f64; 12] = [
    1.0, 4.0, 16.0, 64.0, 256.0, 1000.0, 4000.0, 10_000.0, 20_000.0, 40_000.0, 80_000.0, 200_000.0,
];

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// If the exporter refuses the buckets of a histogram: a mistake in this file.
    pub fn new() -> Result<Metrics, BuildError> {
        Ok(Metrics::register(Register::new()?))
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    fn register(r: Register) -> Metrics {
        let [build_info] = r.gauges(
            "avtryck_build_info",
            "The version that runs; always 1.",
            ("version", [env!("CARGO_PKG_VERSION")]),
        );
        build_info.set(1);
        r.describe_labelled_gauge(CERTIFICATE_EXPIRY, CERTIFICATE_EXPIRY_HELP, CERTIFICATE);
        for (name, help) in SEGMENT_GAUGES {
            r.describe_labelled_gauge(name, help, SEGMENT);
        }
        let [dimension_hits, dimension_misses] = r.counters(
            "avtryck_loader_dimension_lookups_total",
            "Dimension keys that the loader looked up in its cache.",
            ("result", ["hit", "miss"]),
        );
        let [place_misses, network_misses, device_misses, category_misses] = r.counters(
            "avtryck_enrich_misses_total",
            "Rows for which geodata, device rules or lists of categories had no answer.",
            ("table", ["place", "network", "device", "category"]),
        );
        let [rejected_by_loader, rejected_by_postgres] = r.counters(
            "avtryck_loader_rejected_total",
            "Recorded hits set aside in rejected_hit, by who would not take them.",
            ("by", ["loader", "postgres"]),
        );
        let [places_built, networks_built] = r.gauges(
            "avtryck_geodata_build_timestamp_seconds",
            "When the oldest geodata file in use was built, since 1970; 0 without one.",
            ("table", ["place", "network"]),
        );
        let [reloads_applied, reloads_refused] = r.counters(
            "avtryck_config_reloads_total",
            "Reloads of the configuration; a refused one changed nothing.",
            ("outcome", ["applied", "refused"]),
        );
        let [devices_named, devices_unnamed] = r.counters(
            "avtryck_device_models_total",
            "Devices whose model the job looked up in the names of models, by whether it has a name.",
            ("result", ["named", "unnamed"]),
        );
        Metrics {
            shown: Arc::default(),
            process: Process::register(&r),
            by_request: RequestMetrics::register(&r),
            refusals: r.counters(
                "avtryck_refusals_total",
                "Requests, or events of a request, that were not recorded.",
                ("reason", Reason::ALL.map(Reason::name)),
            ),
            over_limit: r.counter(
                "avtryck_hits_over_limit_total",
                "Hits of clients that send more than their limit, flagged or refused.",
            ),
            threads: r.gauge("avtryck_http_threads", "Edge threads."),
            connections: r.gauge("avtryck_http_connections", "Open connections."),
            connections_max: r.gauge(
                "avtryck_http_max_connections",
                "Connections that may be open, as the limit of open files allows.",
            ),
            connections_refused: r.counter(
                "avtryck_http_connections_refused_total",
                "Connections closed at once: their address had as many as it may.",
            ),
            accept_errors: r.counter(
                "avtryck_http_accept_errors_total",
                "Failed attempts to accept a connection, such as too many open files.",
            ),
            proxy_errors: r.counter(
                "avtryck_proxy_protocol_errors_total",
                "Connections that had to begin with the PROXY protocol of a trusted proxy, and did not.",
            ),
            handshakes: r.counters(
                "avtryck_tls_handshakes_total",
                "Handshakes that made a connection, by whether a ticket shortened them.",
                ("resumed", ["false", "true"]),
            ),
            handshake_failures: r.counters(
                "avtryck_tls_handshake_failures_total",
                "Handshakes that made no connection.",
                ("reason", HandshakeFailure::ALL.map(|(_, name)| name)),
            ),
            certificate_reload_failures: r.counter(
                "avtryck_certificate_reload_failures_total",
                "Certificates that changed and could not be read: the ones before stay in use.",
            ),
            spool_bytes: r.gauge("avtryck_spool_bytes", "Disk space that the chunks of the spool take."),
            spool_bytes_max: r.gauge("avtryck_spool_max_bytes", "Disk space that they may take (spool.max_bytes)."),
            spool_backlog_bytes: r.gauge("avtryck_spool_backlog_bytes", "Bytes in the spool that are not loaded."),
            spool_oldest_seconds: r.gauge(
                "avtryck_spool_oldest_unloaded_seconds",
                "Age of the oldest hit that is not loaded; until Postgres is first reached, of the oldest in the spool.",
            ),
            spool_io_errors: r.counter("avtryck_spool_io_errors_total", "Groups that the disk did not take."),
            spool_damage_bytes: r.counter(
                "avtryck_spool_damage_bytes_total",
                "Bytes of the spool that were no valid record.",
            ),
            spool_lost_records: r.counter(
                "avtryck_spool_lost_records_total",
                "Records that the spool had taken and could not give out: damaged, or in chunks that are gone.",
            ),
            instructions: r.counter(
                "avtryck_instructions_total",
                "Withdrawals and erasures that visitors asked for.",
            ),
            instructions_unrecorded: r.counter(
                "avtryck_instructions_unrecorded_total",
                "Requests whose withdrawal or erasure was not recorded: over the limit, or the spool of instructions is full or failed.",
            ),
            instruction_backlog_bytes: r.gauge(
                "avtryck_instruction_backlog_bytes",
                "Bytes of withdrawals and erasures that are not carried out.",
            ),
            loader_connected: r.gauge("avtryck_loader_connected", "1 if Postgres took the last batch, else 0; of Kafka where hits go there alone."),
            batch_rows: r.histogram("avtryck_loader_batch_rows", "Hits of a batch."),
            batch_seconds: r.histogram(
                "avtryck_loader_batch_seconds",
                "From reading a batch to its commit.",
            ),
            rows: r.counter("avtryck_loader_rows_total", "Hits that became rows."),
            counted: r.counter(
                "avtryck_loader_counted_total",
                "Hits without the permit to measure, added to hit_count.",
            ),
            repeated: r.counter(
                "avtryck_loader_repeated_total",
                "Hits left out because their event ID was stored before.",
            ),
            dimensions_refused: r.counter(
                "avtryck_loader_dimensions_refused_total",
                "Keys of dimension rows found to belong to other content; hits that have them are stored with the dimension unknown.",
            ),
            suppressed: r.counter(
                "avtryck_loader_suppressed_total",
                "Hits of visitors who withdrew or were erased, made counts.",
            ),
            other_names: r.counter(
                "avtryck_loader_other_names_total",
                "New ads, categories, domains and devices beyond loader.new_names_per_day, as often as a batch brought one; their hits are flagged other_ad.",
            ),
            users_refused: r.counter(
                "avtryck_loader_users_refused_total",
                "Rows stored without user_key: the first of user.keys is not the one that the database knows.",
            ),
            schemas_unknown: r.counter(
                "avtryck_loader_schemas_unknown_total",
                "Documents of Snowplow's events, in rows, whose schema is in no folder of schema.folders.",
            ),
            rejected_by_loader,
            rejected_by_postgres,
            flagged: r.counters(
                "avtryck_loader_flagged_total",
                "Rows with a flag; one row may have several.",
                ("flag", Flags::NAMED.map(|(name, _)| name)),
            ),
            place_misses,
            network_misses,
            device_misses,
            category_misses,
            dimension_hits,
            dimension_misses,
            postgres_connects: r.counter("avtryck_postgres_connects_total", "Connections made to Postgres."),
            postgres_errors: r.counter("avtryck_postgres_errors_total", "Failed connections and transactions."),
            kafka_messages: r.counter(
                "avtryck_kafka_messages_total",
                "Messages of hits and of counts that Kafka has committed.",
            ),
            kafka_transactions: r.counter(
                "avtryck_kafka_transactions_total",
                "Transactions that Kafka has committed.",
            ),
            kafka_errors: r.counter("avtryck_kafka_errors_total", "Failed connections and transactions of Kafka."),
            kafka_connected: r.gauge(
                "avtryck_kafka_connected",
                "1 if Kafka took the last batch of each spool, else 0; 0 without [kafka].",
            ),
            kafka_backlog_bytes: r.gauge(
                "avtryck_kafka_backlog_bytes",
                "Bytes in the spool that Kafka does not have; 0 without [kafka].",
            ),
            kafka_oldest_seconds: r.gauge(
                "avtryck_kafka_oldest_unproduced_seconds",
                "Age of the oldest hit that Kafka does not have; 0 if it has all, and without [kafka].",
            ),
            kafka_fenced: r.gauge(
                "avtryck_kafka_fenced",
                "1 if another process produces what is in a spool of this one, which has ended its producer.",
            ),
            load_messages: r.counter(
                "avtryck_load_messages_total",
                "Messages that avtryck load has read and committed.",
            ),
            load_refused: r.counter(
                "avtryck_load_refused_total",
                "Messages that avtryck load left out, because their collector loads them into this database itself.",
            ),
            load_lost: r.counter(
                "avtryck_load_lost_total",
                "Messages that Kafka deleted before avtryck load had them, at most: the ends of transactions count too.",
            ),
            load_running: r.gauge(
                "avtryck_load_running",
                "1 in a process of avtryck load, else 0.",
            ),
            load_connected: r.gauge(
                "avtryck_load_connected",
                "1 if Kafka answers avtryck load, else 0.",
            ),
            load_partitions: r.gauge(
                "avtryck_load_partitions",
                "Partitions that the group has assigned to this process of avtryck load.",
            ),
            load_backlog: r.gauge(
                "avtryck_load_backlog_messages",
                "Messages in these partitions that are not loaded.",
            ),
            load_oldest_seconds: r.gauge(
                "avtryck_load_oldest_unloaded_seconds",
                "Age of the oldest hit of the batch that avtryck load read last; 0 if nothing waits.",
            ),
            places_built,
            networks_built,
            listed_domains: r.gauge(
                "avtryck_category_domains",
                "Domains that the lists of categories have.",
            ),
            lists_written: r.gauge(
                "avtryck_category_list_timestamp_seconds",
                "When the oldest list of categories in use was written, since 1970; 0 without one.",
            ),
            reload_errors: r.counter(
                "avtryck_reload_errors_total",
                "Files of geodata, rules or lists of categories that could not be loaded.",
            ),
            reloads_applied,
            reloads_refused,
            config_timestamp: r.gauge(
                "avtryck_config_timestamp_seconds",
                "When the configuration in force was read, since 1970.",
            ),
            devices_named,
            devices_unnamed,
            graph: GraphMetrics::register(&r),
            job_errors: r.counter("avtryck_job_errors_total", "Runs of jobs that failed."),
            segment_subjects: r.gauge(
                "avtryck_segment_snapshot_subjects",
                "Subjects whose segments pages can be told.",
            ),
            segment_bytes: r.gauge("avtryck_segment_snapshot_bytes", "Memory that they take."),
            segment_age_seconds: r.gauge(
                "avtryck_segment_snapshot_age_seconds",
                "Time since they were last read from Postgres; 0 while no segment is exposed to a site.",
            ),
            attributes_rejected: r.counter(
                "avtryck_callback_attributes_rejected_total",
                "Callbacks whose attributes are not as the partner's manifest says, or whose manifest is wrong or has expired; the rest of them is stored.",
            ),
            export_removals: r.gauge(
                "avtryck_export_removals_waiting",
                "Removals from segments that partners are still to be told of; at most 100000.",
            ),
            export_removal_seconds: r.gauge(
                "avtryck_export_removal_age_seconds",
                "How old the oldest of them is; 0 without any.",
            ),
            report_differences: r.counter(
                "avtryck_report_differences_total",
                "Figures of roll-ups that differed from the hits when they were compared.",
            ),
            clock_difference: r.gauge(
                "avtryck_clock_difference_seconds",
                "How far the collector's clock is ahead of Postgres's.",
            ),
            jobs_suspended: r.gauge(
                "avtryck_jobs_suspended",
                "1 while jobs delete nothing, because a clock was wrong within the last 24 hours; else 0.",
            ),
            jobs_held_back: r.gauge(
                "avtryck_jobs_held_back",
                "Days that are due for deletion beyond the one that a run deletes.",
            ),
            register: r,
        }
    }

    /// Counts one reply and the time that it took.
    pub fn request(&self, endpoint: Endpoint, status: &str, took: Duration) {
        self.by_request.reply(endpoint, status, took);
    }

    /// Counts one refusal.
    pub fn refusal(&self, reason: Reason) {
        increment(self.refusals.get(reason as usize));
    }

    /// Counts a handshake that made a connection.
    pub fn handshake(&self, is_resumed: bool) {
        increment(self.handshakes.get(usize::from(is_resumed)));
    }

    /// Counts a handshake that failed.
    pub(crate) fn handshake_failure(&self, failure: HandshakeFailure) {
        increment(self.handshake_failures.get(failure as usize));
    }

    /// Sets when the first certificate of a file expires. The configuration names the files; no
    /// request adds one.
    pub(crate) fn certificate_expiry(&self, chain: &Path, at: UnixMicros) {
        let file = chain.display().to_string();
        let gauge = self
            .register
            .labelled_gauge(CERTIFICATE_EXPIRY, CERTIFICATE, file);
        gauge.set(timestamp(at));
    }

    /// Sets how a segment stands. The configuration names the segments; no request adds one.
    pub fn segment(&self, key: &str, values: [f64; SEGMENT_GAUGES.len()]) {
        for ((name, _), value) in SEGMENT_GAUGES.into_iter().zip(values) {
            let gauge = self.register.labelled_gauge(name, SEGMENT, key.to_owned());
            gauge.set(value);
        }
    }

    /// Counts a hit that the spool holds.
    pub fn hit(&self, hit: &Hit<'_>) {
        self.by_request.hit(hit);
    }

    /// Counts the flags of rows that were stored.
    pub fn flags(&self, rows: impl Iterator<Item = Flags>) {
        for flags in rows.filter(|flags| *flags != Flags::default()) {
            for ((_, flag), counter) in Flags::NAMED.iter().zip(&self.flagged) {
                counter.increment(u64::from(flags.has(*flag)));
            }
        }
    }

    /// Records how a commit of the spool went.
    pub(crate) fn spool_commit(&self, records: u64, append_wait: Duration, sync: Duration) {
        self.by_request.commit(records, append_wait, sync);
    }

    /// Sums what threads have counted into the handles and drains the exporter's samples each
    /// second; never returns. Without it both would grow with the number of requests until a
    /// scrape.
    pub(crate) async fn keep_up(&self) {
        let mut ticks = tokio::time::interval(UPKEEP_PERIOD);
        loop {
            ticks.tick().await;
            self.by_request.sum_up();
            self.register.run_upkeep();
        }
    }

    /// Returns every metric in Prometheus's text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.by_request.sum_up();
        self.process.read();
        let mut text = self.register.render();
        Process::append_cpu_seconds(&mut text);
        text
    }
}

const CERTIFICATE: &str = "certificate";
/// The label of the gauges of a segment.
const SEGMENT: &str = "segment";
/// The gauges of a segment, with their help texts.
const SEGMENT_GAUGES: [(&str, &str); 4] = [
    (
        "avtryck_segment_failed",
        "1 where Postgres could not evaluate the segment last time, and its members are those of before.",
    ),
    (
        "avtryck_segment_behind_seconds",
        "Of what age the last news is that is in the segment's members, a minute or two as a rule; -1 where it was never evaluated.",
    ),
    (
        "avtryck_segment_full_age_seconds",
        "How long ago everybody was evaluated last for the segment; -1 where nobody was since it was defined, or since it failed.",
    ),
    (
        "avtryck_segment_members",
        "How many members the segment had then, to two digits; 0 where they were fewer than its min_size.",
    ),
];
const CERTIFICATE_EXPIRY: &str = "avtryck_certificate_expiry_timestamp_seconds";
const CERTIFICATE_EXPIRY_HELP: &str = "When the first certificate of a chain expires, in seconds since 1970, by file; no series without tls.listen.";

/// Returns a number as the value of a gauge or of a sample; exact up to 2^53.
#[expect(
    clippy::cast_precision_loss,
    reason = "no count, size or timestamp here comes near 2^53"
)]
#[must_use]
pub(crate) fn gauge_value(number: u64) -> f64 {
    number as f64
}

/// Returns a time in seconds since 1970.
#[must_use]
pub fn timestamp(at: UnixMicros) -> f64 {
    gauge_value(u64::try_from(at.seconds()).unwrap_or(0))
}

fn increment(counter: Option<&Counter>) {
    if let Some(counter) = counter {
        counter.increment(1);
    }
}
