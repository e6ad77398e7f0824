//! What is told of the metrics is what the code has.

use std::fmt::Write as _;

use prometheus::proto::{MetricFamily, MetricType};

use super::*;
use crate::hit::Permit;

const DOCS: &str = "docs/metrics.md";

/// The page in the operator's hands, made of what is registered.
fn docs() -> String {
    let metrics = Metrics::new().expect("each name stands once");
    metrics.certificate_expiry(Path::new("any"), UnixMicros::default());
    let mut page = String::from(
        "# Metrics\n\n\
         Made by `make metrics-docs` from `src/metrics.rs`; a test compares them.\n\n\
         `GET /metrics` on `admin.listen` gives them in Prometheus's text form. Every series is there from the start, with 0 \
         where nothing happened, and no request can make another one. The unit is the end of the name. What to make of \
         them is in [`ops/prometheus`](../ops/prometheus), [`ops/grafana`](../ops/grafana) and the [runbook](runbook.md).\n\n\
         | metric | type | labels | what it tells |\n| --- | --- | --- | --- |\n",
    );
    let mut values = String::new();
    for family in metrics.registry.gather() {
        let name = family.name();
        let labels = labels(&family);
        let names: Vec<String> = labels.iter().map(|(name, _)| format!("`{name}`")).collect();
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::HISTOGRAM => "histogram",
            _ => "gauge",
        };
        writeln!(
            page,
            "| `{name}` | {kind} | {} | {} |",
            names.join(", "),
            family.help()
        )
        .expect("a string takes all");
        // The version is another one with each release, and certificates are the operator's.
        let is_known = |label: &str| label != "version" && label != "certificate";
        for (label, known) in labels.iter().filter(|(label, _)| is_known(label)) {
            writeln!(values, "- `{label}` of `{name}`: {}.", known.join(", "))
                .expect("a string takes all");
        }
    }
    let buckets = |buckets: &[f64]| {
        let shown: Vec<String> = buckets.iter().map(ToString::to_string).collect();
        shown.join(", ")
    };
    page + "\n## Values of labels\n\n"
        + &values
        + &format!(
            "- `le` of what ends in `_seconds`: {}; of what ends in `_records` or `_rows`: {}.\n",
            buckets(&SECONDS),
            buckets(&RECORDS),
        )
}

/// The labels of a metric with their values, in their order.
fn labels(family: &MetricFamily) -> Vec<(String, Vec<String>)> {
    let mut labels: Vec<(String, Vec<String>)> = Vec::new();
    for pair in family
        .get_metric()
        .iter()
        .flat_map(|metric| metric.get_label())
    {
        let value = format!("`{}`", pair.value());
        match labels.iter_mut().find(|(name, _)| name == pair.name()) {
            Some((_, values)) if values.contains(&value) => {}
            Some((_, values)) => values.push(value),
            None => labels.push((pair.name().to_owned(), vec![value])),
        }
    }
    labels
}

#[test]
fn the_page_of_metrics_says_what_is_registered() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let made = docs();
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(path, &made).expect("docs/ can be written");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == made, "{DOCS} is old: make metrics-docs");
}

#[test]
fn a_label_stands_for_the_value_that_was_counted() {
    let metrics = Metrics::new().expect("each name stands once");
    for (endpoint, name) in Endpoint::ALL {
        assert_eq!(endpoint.name(), name);
        metrics.request(endpoint, "204", Duration::from_millis(3));
        let line = format!("avtryck_http_requests_total{{endpoint=\"{name}\",status=\"204\"}} 1\n");
        assert!(metrics.render().contains(&line), "{line}");
    }
    for reason in Reason::ALL {
        metrics.refusal(reason);
        let line = format!("avtryck_refusals_total{{reason=\"{}\"}} 1\n", reason.name());
        assert!(metrics.render().contains(&line), "{line}");
    }
    let mut hit = Hit::new(crate::clock::UnixMicros(0), crate::hit::Kind::Event, "shop");
    hit.consent_source = ConsentSource::Gpp;
    for (permit, outcome) in [
        (Permit::NONE, "count"),
        (Permit::STORE, "count"),
        (Permit::MEASURE, "row"),
        (Permit::ALL, "visitor"),
    ] {
        hit.permit = permit;
        metrics.hit(&hit);
        let line = format!("consent_source=\"gpp\",outcome=\"{outcome}\"}} ");
        assert!(metrics.render().contains(&line), "{line}");
    }
    metrics.flags(
        [
            Flags::BOT.with(Flags::CLEANED),
            Flags::default(),
            Flags::BOT,
        ]
        .into_iter(),
    );
    let text = metrics.render();
    for line in [
        "outcome=\"count\"} 2\n",
        "avtryck_loader_flagged_total{flag=\"bot\"} 2\n",
        "avtryck_loader_flagged_total{flag=\"cleaned\"} 1\n",
        "avtryck_loader_flagged_total{flag=\"replayed\"} 0\n",
    ] {
        assert!(text.contains(line), "{line}");
    }
}

#[test]
fn a_reply_with_an_unknown_status_counts_under_0_and_makes_no_series() {
    let metrics = Metrics::new().expect("each name stands once");
    let before = metrics.render().lines().count();
    metrics.request(Endpoint::Unknown, "418", Duration::ZERO);
    let text = metrics.render();
    assert_eq!(text.lines().count(), before);
    assert!(text.contains("avtryck_http_requests_total{endpoint=\"unknown\",status=\"0\"} 1\n"));
}

#[test]
fn the_process_is_told_of_in_base_units() {
    let metrics = Metrics::new().expect("each name stands once");
    let text = metrics.render();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().parse::<f64>().ok())
            .expect(name)
    };
    let resident = value("process_resident_memory_bytes ");
    assert!((1e6..1e11).contains(&resident), "{resident}");
    assert!(value("process_virtual_memory_bytes ") >= resident);
    assert!(value("process_cpu_seconds_total ") > 0.0);
    assert!((3.0..=value("process_max_fds ")).contains(&value("process_open_fds ")));
    assert!(value("process_threads ") >= 1.0);
    let now = crate::clock::now().seconds() as f64;
    assert!((now - value("process_start_time_seconds ")).abs() < 60.0);
}
