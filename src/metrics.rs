//! Every metric, named once. Handles are made at the start; the edge only adds to them.
//!
//! Label values come from the enums here and from nothing that a request says, so no sender can
//! make the set of series grow.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "docs/parameters.md describes each endpoint")]
pub enum Endpoint {
    Pixel,
    Event,
    Id,
    Impression,
    Click,
    Callback,
    Sync,
    SetUid,
    Consent,
    Privacy,
    PrivacyForm,
    Tag,
    Demo,
    Unknown,
}

impl Endpoint {
    const ALL: [(Endpoint, &'static str); 14] = [
        (Endpoint::Pixel, "pixel"),
        (Endpoint::Event, "event"),
        (Endpoint::Id, "id"),
        (Endpoint::Impression, "impression"),
        (Endpoint::Click, "click"),
        (Endpoint::Callback, "callback"),
        (Endpoint::Sync, "sync"),
        (Endpoint::SetUid, "setuid"),
        (Endpoint::Consent, "consent"),
        (Endpoint::Privacy, "privacy"),
        (Endpoint::PrivacyForm, "privacy_form"),
        (Endpoint::Tag, "tag"),
        (Endpoint::Demo, "demo"),
        (Endpoint::Unknown, "unknown"),
    ];

    /// The word in the label.
    #[must_use]
    pub fn name(self) -> &'static str {
        Endpoint::ALL
            .iter()
            .find(|(known, _)| *known == self)
            .map_or("unknown", |(_, name)| name)
    }
}

/// Why a request, or one event of it, was not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No endpoint has this path.
    UnknownPath,
    /// The endpoint does not take this method.
    Method,
    /// The request target is longer than its limit.
    UriTooLong,
    /// What was sent is no request; hyper answers it and closes.
    Malformed,
    /// There is not exactly one valid `Host`.
    Host,
    /// A body where none may be.
    UnexpectedBody,
    /// A `Transfer-Encoding` other than `chunked`.
    TransferEncoding,
    /// The client sends more hits than its limit.
    OverLimit,
    /// No `site`, and no single site has this host.
    SiteMissing,
    /// The configuration has no such site.
    SiteUnknown,
    /// The configuration has no such partner.
    PartnerUnknown,
    /// The content type is neither JSON nor plain text.
    ContentType,
    /// The body is larger than its limit.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodySlow,
    /// The body broke off.
    BodyBroken,
    /// The body, or an event in it, is not the JSON that is asked for.
    Json,
    /// The page's origin is not one of the site's, or it is not told where it has to be.
    Origin,
    /// A click names no target, or one that nobody may be sent to.
    ClickTarget,
    /// A click's target is not signed, and its host is not on the site's list.
    ClickHost,
    /// A click's signature is not one of ours, and the target's host is not on the site's list.
    ClickSignature,
    /// A click's signature has ended, and the target's host is not on the site's list.
    ClickExpired,
    /// A form's body is not one of this page's.
    Form,
    /// A form was made for another visitor.
    Token,
    /// The privacy page was asked for by a frame or a script.
    Framed,
    /// Too many ask for what is held.
    Busy,
    /// Postgres does not tell what is held.
    DatabaseAway,
    /// The configuration gives the partner nothing to prove a callback with.
    CallbackClosed,
    /// A callback has neither signature nor token.
    CallbackUnproved,
    /// A callback's signature is not the partner's.
    CallbackSignature,
    /// A callback was signed too long ago, or is yet to be.
    CallbackTimestamp,
    /// A callback's token is not the partner's.
    CallbackToken,
    /// The spool has no room.
    SpoolFull,
    /// The spool could not be written.
    SpoolFailed,
    /// The hit is larger than a record may be.
    HitTooLarge,
    /// The collector is stopping.
    Stopping,
}

impl Reason {
    /// Every reason, in the order of the enum.
    pub const ALL: [Reason; 35] = [
        Reason::UnknownPath,
        Reason::Method,
        Reason::UriTooLong,
        Reason::Malformed,
        Reason::Host,
        Reason::UnexpectedBody,
        Reason::TransferEncoding,
        Reason::OverLimit,
        Reason::SiteMissing,
        Reason::SiteUnknown,
        Reason::PartnerUnknown,
        Reason::ContentType,
        Reason::BodyTooLarge,
        Reason::BodySlow,
        Reason::BodyBroken,
        Reason::Json,
        Reason::Origin,
        Reason::ClickTarget,
        Reason::ClickHost,
        Reason::ClickSignature,
        Reason::ClickExpired,
        Reason::Form,
        Reason::Token,
        Reason::Framed,
        Reason::Busy,
        Reason::DatabaseAway,
        Reason::CallbackClosed,
        Reason::CallbackUnproved,
        Reason::CallbackSignature,
        Reason::CallbackTimestamp,
        Reason::CallbackToken,
        Reason::SpoolFull,
        Reason::SpoolFailed,
        Reason::HitTooLarge,
        Reason::Stopping,
    ];

    /// The word in the header `Avtryck-Refusal` and in the label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reason::UnknownPath => "unknown_path",
            Reason::Method => "method",
            Reason::UriTooLong => "uri_too_long",
            Reason::Malformed => "malformed",
            Reason::Host => "host",
            Reason::UnexpectedBody => "unexpected_body",
            Reason::TransferEncoding => "transfer_encoding",
            Reason::OverLimit => "over_limit",
            Reason::SiteMissing => "site_missing",
            Reason::SiteUnknown => "site_unknown",
            Reason::PartnerUnknown => "partner_unknown",
            Reason::ContentType => "content_type",
            Reason::BodyTooLarge => "body_too_large",
            Reason::BodySlow => "body_slow",
            Reason::BodyBroken => "body_broken",
            Reason::Json => "json",
            Reason::Origin => "origin",
            Reason::ClickTarget => "click_target",
            Reason::ClickHost => "click_host",
            Reason::ClickSignature => "click_signature",
            Reason::ClickExpired => "click_expired",
            Reason::Form => "form",
            Reason::Token => "token",
            Reason::Framed => "framed",
            Reason::Busy => "busy",
            Reason::DatabaseAway => "database_away",
            Reason::CallbackClosed => "callback_closed",
            Reason::CallbackUnproved => "callback_unproved",
            Reason::CallbackSignature => "callback_signature",
            Reason::CallbackTimestamp => "callback_timestamp",
            Reason::CallbackToken => "callback_token",
            Reason::SpoolFull => "spool_full",
            Reason::SpoolFailed => "spool_failed",
            Reason::HitTooLarge => "hit_too_large",
            Reason::Stopping => "stopping",
        }
    }

    /// What would be right, for the live view: one line to whoever pasted the tag.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Reason::UnknownPath => {
                "no endpoint has that path: compare it with the tag, and with [path] in the configuration"
            }
            Reason::Method => "that endpoint does not take this method",
            Reason::UriTooLong => "the address is longer than 8 KiB: send less, or a POST",
            Reason::Host => {
                "the Host header is missing, doubled or malformed: look at the proxy in front"
            }
            Reason::Malformed => "what was sent is no HTTP request",
            Reason::UnexpectedBody => "a GET with a body: no browser sends that",
            Reason::TransferEncoding => {
                "the body is coded in another way than chunked: send it plain"
            }
            Reason::OverLimit => {
                "the client sends more hits than [limit] allows: name the proxies in front in http.trusted_proxies, or raise the limit"
            }
            Reason::SiteMissing => {
                "it names no site, and no [[site]] has this host: add site= to the tag, or the host to hosts"
            }
            Reason::SiteUnknown => {
                "no [[site]] has that key: compare its spelling with the configuration"
            }
            Reason::PartnerUnknown => {
                "no [[partner]] has that key: compare its spelling with the configuration"
            }
            Reason::ContentType => "the content type must be application/json or text/plain",
            Reason::BodyTooLarge => "the body is larger than 1 MiB: send fewer events at once",
            Reason::BodySlow => "the body did not arrive within 10 seconds",
            Reason::BodyBroken => "the body broke off",
            Reason::Json => "the body is no JSON object, nor an array of objects",
            Reason::Origin => "the page is not one of the origins of this [[site]]",
            Reason::ClickTarget => {
                "the target is no http or https address that can be followed safely: write it whole, percent-encoded, in to="
            }
            Reason::ClickHost => {
                "the target is neither signed nor on the click_hosts of this [[site]]: sign it with avtryck click-url, or list its host"
            }
            Reason::ClickSignature => {
                "the signature does not fit: sign the query as it is sent, up to &sig=, with a key of click.keys"
            }
            Reason::ClickExpired => "the signed click URL has expired: sign a new one",
            Reason::CallbackClosed => {
                "this [[partner]] has neither a secret nor a token: give it one of them"
            }
            Reason::CallbackUnproved => {
                "the callback has neither Avtryck-Signature nor a token: see docs/ads.md"
            }
            Reason::CallbackSignature => {
                "the signature does not fit: it covers timestamp, method, target and the body as sent, with this partner's secret"
            }
            Reason::CallbackTimestamp => {
                "the callback was signed outside timestamp_window: look at the sender's clock, and sign each attempt anew"
            }
            Reason::CallbackToken => "the token is not this partner's",
            Reason::Form => "a form of the privacy page that is not as the page made it",
            Reason::Token => "a form of the privacy page for another visitor: load the page again",
            Reason::Framed => "the privacy page is shown in no frame and to no script: link to it",
            Reason::Busy => "too many ask the privacy page what is held",
            Reason::DatabaseAway => {
                "Postgres does not tell the privacy page what is held: look at the log"
            }
            Reason::SpoolFull => {
                "the spool is full: Postgres has been away for long, or spool.max_bytes is small"
            }
            Reason::SpoolFailed => "the disk of the spool fails: look at the log",
            Reason::HitTooLarge => "the hit is larger than a record may be",
            Reason::Stopping => "the collector was stopping",
        }
    }
}

/// Statuses that replies have; another one counts under 0.
const STATUSES: [u16; 17] = [
    200, 204, 302, 303, 304, 400, 401, 403, 404, 405, 408, 413, 414, 415, 429, 503, 0,
];

/// The handles of all metrics.
#[expect(missing_docs, reason = "each metric's help text stands in `describe`")]
pub struct Metrics {
    requests: Vec<Vec<Counter>>,
    refusals: Vec<Counter>,
    pub connections: Gauge,
    pub connections_refused: Counter,
    pub accept_errors: Counter,
    pub over_limit: Counter,
    pub append_seconds: Histogram,
    pub sync_seconds: Histogram,
    pub group_records: Histogram,
    pub spool_bytes: Gauge,
    pub spool_backlog_bytes: Gauge,
    pub spool_oldest_seconds: Gauge,
    pub instruction_backlog_bytes: Gauge,
    pub spool_io_errors: Counter,
    pub spool_damage_bytes: Counter,
    pub spool_lost_records: Counter,
    pub instructions: Counter,
    pub batch_rows: Histogram,
    pub batch_seconds: Histogram,
    pub rows: Counter,
    pub counted: Counter,
    pub repeated: Counter,
    pub suppressed: Counter,
    pub rejected: Counter,
    pub place_misses: Counter,
    pub network_misses: Counter,
    pub device_misses: Counter,
    pub dimension_hits: Counter,
    pub dimension_misses: Counter,
    pub postgres_connects: Counter,
    pub postgres_errors: Counter,
    pub reload_errors: Counter,
    pub job_errors: Counter,
    handle: PrometheusHandle,
}

const SECONDS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];
const RECORDS: [f64; 12] = [
    1.0, 4.0, 16.0, 64.0, 256.0, 1000.0, 4000.0, 10_000.0, 20_000.0, 40_000.0, 80_000.0, 200_000.0,
];

impl Metrics {
    /// Registers every metric with a recorder of this process's own.
    ///
    /// # Errors
    /// Where the histogram buckets are refused, which is a mistake in this file.
    pub fn new() -> Result<Metrics, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
            .set_buckets_for_metric(Matcher::Suffix("_records".into()), &RECORDS)?
            .set_buckets_for_metric(Matcher::Suffix("_rows".into()), &RECORDS)?
            .build_recorder();
        let handle = recorder.handle();
        Ok(metrics::with_local_recorder(&recorder, || {
            Metrics::register(handle)
        }))
    }

    fn register(handle: PrometheusHandle) -> Metrics {
        describe();
        let requests = |(_, endpoint): &(Endpoint, &'static str)| {
            STATUSES
                .iter()
                .map(|status| {
                    counter!("avtryck_http_requests_total", "endpoint" => *endpoint, "status" => status.to_string())
                })
                .collect()
        };
        gauge!("avtryck_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        let misses =
            |table: &'static str| counter!("avtryck_enrich_misses_total", "table" => table);
        Metrics {
            requests: Endpoint::ALL.iter().map(requests).collect(),
            refusals: Reason::ALL
                .iter()
                .map(|reason| counter!("avtryck_refusals_total", "reason" => reason.name()))
                .collect(),
            connections: gauge!("avtryck_http_connections"),
            connections_refused: counter!("avtryck_http_connections_refused_total"),
            accept_errors: counter!("avtryck_http_accept_errors_total"),
            over_limit: counter!("avtryck_hits_over_limit_total"),
            append_seconds: histogram!("avtryck_spool_append_seconds"),
            sync_seconds: histogram!("avtryck_spool_sync_seconds"),
            group_records: histogram!("avtryck_spool_group_records"),
            spool_bytes: gauge!("avtryck_spool_bytes"),
            spool_backlog_bytes: gauge!("avtryck_spool_backlog_bytes"),
            spool_oldest_seconds: gauge!("avtryck_spool_oldest_unloaded_seconds"),
            instruction_backlog_bytes: gauge!("avtryck_instruction_backlog_bytes"),
            spool_io_errors: counter!("avtryck_spool_io_errors_total"),
            spool_damage_bytes: counter!("avtryck_spool_damage_bytes_total"),
            spool_lost_records: counter!("avtryck_spool_lost_records_total"),
            instructions: counter!("avtryck_instructions_total"),
            batch_rows: histogram!("avtryck_loader_batch_rows"),
            batch_seconds: histogram!("avtryck_loader_batch_seconds"),
            rows: counter!("avtryck_loader_rows_total"),
            counted: counter!("avtryck_loader_counted_total"),
            repeated: counter!("avtryck_loader_repeated_total"),
            suppressed: counter!("avtryck_loader_suppressed_total"),
            rejected: counter!("avtryck_loader_rejected_total"),
            place_misses: misses("place"),
            network_misses: misses("network"),
            device_misses: misses("device"),
            dimension_hits: counter!("avtryck_dimension_cache_total", "result" => "hit"),
            dimension_misses: counter!("avtryck_dimension_cache_total", "result" => "miss"),
            postgres_connects: counter!("avtryck_postgres_connects_total"),
            postgres_errors: counter!("avtryck_postgres_errors_total"),
            reload_errors: counter!("avtryck_reload_errors_total"),
            job_errors: counter!("avtryck_job_errors_total"),
            handle,
        }
    }

    /// Counts one reply.
    pub fn request(&self, endpoint: Endpoint, status: u16) {
        let by_status = Endpoint::ALL
            .iter()
            .position(|(known, _)| *known == endpoint)
            .and_then(|at| self.requests.get(at));
        let at = STATUSES
            .iter()
            .position(|known| *known == status)
            .unwrap_or(STATUSES.len() - 1);
        if let Some(counter) = by_status.and_then(|counters| counters.get(at)) {
            counter.increment(1);
        }
    }

    /// Counts one refusal.
    pub fn refusal(&self, reason: Reason) {
        let at = Reason::ALL.iter().position(|known| *known == reason);
        if let Some(counter) = at.and_then(|at| self.refusals.get(at)) {
            counter.increment(1);
        }
    }

    /// Everything in Prometheus's text form. Idle histograms are folded first, so that they take no
    /// memory between scrapes.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }

    /// Folds what histograms gathered; to be called now and then even when nobody scrapes.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// Records how a commit of the spool went.
    pub fn spool_commit(&self, records: u64, append_wait: Duration, sync: Duration) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a group holds far fewer than 2^52 records"
        )]
        self.group_records.record(records as f64);
        self.append_seconds.record(append_wait);
        self.sync_seconds.record(sync);
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn describe() {
    for (name, help) in [
        (
            "avtryck_http_requests_total",
            "Requests answered, by endpoint and status.",
        ),
        (
            "avtryck_refusals_total",
            "Requests, or events of a request, that were not recorded, by reason.",
        ),
        (
            "avtryck_http_connections_refused_total",
            "Connections closed at once: their address had as many as it may.",
        ),
        (
            "avtryck_http_accept_errors_total",
            "Failed attempts to accept a connection, such as too many open files.",
        ),
        (
            "avtryck_hits_over_limit_total",
            "Hits of clients that send more than their limit, flagged or refused.",
        ),
        (
            "avtryck_spool_io_errors_total",
            "Groups of hits that the disk did not take.",
        ),
        (
            "avtryck_spool_damage_bytes_total",
            "Bytes of the spool that were no valid record.",
        ),
        (
            "avtryck_spool_lost_records_total",
            "Records that the spool had taken and could not give out: damaged, or in chunks that are gone.",
        ),
        (
            "avtryck_instructions_total",
            "Withdrawals and erasures that visitors asked for.",
        ),
        ("avtryck_loader_rows_total", "Hits that became rows."),
        (
            "avtryck_loader_counted_total",
            "Hits without the permit to measure, added to hit_count.",
        ),
        (
            "avtryck_loader_repeated_total",
            "Hits left out because their event ID was stored before.",
        ),
        (
            "avtryck_loader_suppressed_total",
            "Hits of visitors who withdrew or were erased, made counts.",
        ),
        (
            "avtryck_loader_rejected_total",
            "Recorded hits set aside in rejected_hit.",
        ),
        (
            "avtryck_enrich_misses_total",
            "Rows for which a table had no answer.",
        ),
        (
            "avtryck_dimension_cache_total",
            "Dimension keys looked up in the loader's cache.",
        ),
        (
            "avtryck_postgres_connects_total",
            "Connections made to Postgres.",
        ),
        (
            "avtryck_postgres_errors_total",
            "Failed connections and transactions.",
        ),
        (
            "avtryck_reload_errors_total",
            "Files of geodata or rules that could not be loaded.",
        ),
        ("avtryck_job_errors_total", "Runs of jobs that failed."),
    ] {
        describe_counter!(name, help);
    }
    for (name, unit, help) in [
        ("avtryck_build_info", Unit::Count, "The version that runs."),
        ("avtryck_http_connections", Unit::Count, "Open connections."),
        (
            "avtryck_spool_bytes",
            Unit::Bytes,
            "Disk space that the chunks of the spool take.",
        ),
        (
            "avtryck_spool_backlog_bytes",
            Unit::Bytes,
            "Bytes in the spool that are not loaded.",
        ),
        (
            "avtryck_instruction_backlog_bytes",
            Unit::Bytes,
            "Bytes of withdrawals and erasures that are not carried out.",
        ),
        (
            "avtryck_spool_oldest_unloaded_seconds",
            Unit::Seconds,
            "Age of the oldest hit that is not loaded.",
        ),
    ] {
        describe_gauge!(name, unit, help);
    }
    for (name, unit, help) in [
        (
            "avtryck_spool_append_seconds",
            Unit::Seconds,
            "From a group's first append to its commit: the longest wait in it.",
        ),
        (
            "avtryck_spool_sync_seconds",
            Unit::Seconds,
            "Write and fdatasync of a group.",
        ),
        (
            "avtryck_spool_group_records",
            Unit::Count,
            "Records of a group commit.",
        ),
        ("avtryck_loader_batch_rows", Unit::Count, "Hits of a batch."),
        (
            "avtryck_loader_batch_seconds",
            Unit::Seconds,
            "From reading a batch to its commit.",
        ),
    ] {
        describe_histogram!(name, unit, help);
    }
}
