//! What every request and every commit of the spool counts: on shards that threads do not share,
//! summed into the handles later.
//!
//! A thread keeps to one shard of [`SHARDS`], so that edge threads do not write to each other's
//! cache lines. A histogram is counted as a number and a sum for each bucket; summing up records
//! each bucket's mean as often as it was counted, which gives the exporter the same buckets, counts
//! and sums.

use std::array;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, Histogram};

use super::label::{self, OUTCOMES, STATUSES};
use super::register::Register;
use super::{RECORDS, SECONDS, gauge_value};
use crate::endpoint::{Endpoint, Protocol};
use crate::hit::{ConsentSource, Hit};

/// Shards: as many threads count without sharing a cache line.
const SHARDS: usize = 16;
const ENDPOINTS: usize = Endpoint::ALL.len();
const SOURCES: usize = ConsentSource::ALL.len();
/// One more for what is above the last bound.
const BUCKETS: usize = SECONDS.len() + 1;
const RECORD_BUCKETS: usize = RECORDS.len() + 1;
/// What one of a sum of times is worth, in seconds.
const NANO: f64 = 1e-9;

/// The metrics of requests and their hits.
pub(super) struct RequestMetrics {
    shards: [Shard; SHARDS],
    handles: Mutex<Handles>,
}

/// The counts of some threads since they were last summed up.
#[repr(align(128))]
struct Shard {
    replies: [[AtomicU64; STATUSES.len()]; ENDPOINTS],
    times: [[Bucket; BUCKETS]; ENDPOINTS],
    hits: [[AtomicU64; OUTCOMES.len()]; SOURCES],
    by_protocol: [AtomicU64; Protocol::ALL.len()],
    append_times: [Bucket; BUCKETS],
    sync_times: [Bucket; BUCKETS],
    group_records: [Bucket; RECORD_BUCKETS],
}

/// A bucket of a histogram.
#[derive(Default)]
struct Bucket {
    number: AtomicU64,
    /// Of times in nanoseconds.
    sum: AtomicU64,
}

struct Handles {
    replies: [[Counter; STATUSES.len()]; ENDPOINTS],
    seconds: [Histogram; ENDPOINTS],
    hits: [[Counter; OUTCOMES.len()]; SOURCES],
    by_protocol: [Counter; Protocol::ALL.len()],
    append_seconds: Histogram,
    sync_seconds: Histogram,
    group_records: Histogram,
}

impl Default for Shard {
    fn default() -> Shard {
        Shard {
            replies: array::from_fn(|_| array::from_fn(|_| AtomicU64::default())),
            times: array::from_fn(|_| array::from_fn(|_| Bucket::default())),
            hits: array::from_fn(|_| array::from_fn(|_| AtomicU64::default())),
            by_protocol: array::from_fn(|_| AtomicU64::default()),
            append_times: array::from_fn(|_| Bucket::default()),
            sync_times: array::from_fn(|_| Bucket::default()),
            group_records: array::from_fn(|_| Bucket::default()),
        }
    }
}

thread_local! {
    /// The shard of this thread.
    static SHARD: Cell<usize> = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS)
    };
}

impl RequestMetrics {
    pub(super) fn register(r: &Register) -> RequestMetrics {
        let endpoints = Endpoint::ALL.map(Endpoint::name);
        RequestMetrics {
            shards: array::from_fn(|_| Shard::default()),
            handles: Mutex::new(Handles {
                replies: r.grid(
                    "avtryck_http_requests_total",
                    "Requests answered.",
                    ("endpoint", endpoints),
                    ("status", STATUSES),
                ),
                seconds: r.histograms(
                    "avtryck_http_request_duration_seconds",
                    "From a request's header to its reply, including the arrival of its body and the wait for the disk.",
                    ("endpoint", endpoints),
                ),
                hits: r.grid(
                    "avtryck_hits_total",
                    "Hits recorded, by the signal that decided and by what becomes of them: a count, nothing, a row, or a row with the visitor's IDs.",
                    ("consent_source", ConsentSource::ALL.map(ConsentSource::name)),
                    ("outcome", OUTCOMES),
                ),
                by_protocol: r.counters(
                    "avtryck_hits_by_protocol_total",
                    "Hits recorded, by the protocol in which they arrived.",
                    ("protocol", Protocol::ALL.map(Protocol::name)),
                ),
                append_seconds: r.histogram(
                    "avtryck_spool_append_seconds",
                    "From a group's first append to its commit: the longest wait in it.",
                ),
                sync_seconds: r.histogram(
                    "avtryck_spool_sync_seconds",
                    "Write and fdatasync of a group; the rate of its sum is how busy the spool's writers are.",
                ),
                group_records: r.histogram(
                    "avtryck_spool_group_records",
                    "Records of a group commit.",
                ),
            }),
        }
    }

    fn shard(&self) -> Option<&Shard> {
        self.shards.get(SHARD.get())
    }

    /// Counts a reply and the time that it took.
    pub(super) fn reply(&self, endpoint: Endpoint, status: &str, took: Duration) {
        let Some(shard) = self.shard() else { return };
        let at = STATUSES
            .iter()
            .position(|known| *known == status)
            .unwrap_or(STATUSES.len() - 1);
        let by_status = shard.replies.get(endpoint as usize);
        add(by_status.and_then(|counts| counts.get(at)), 1);
        if let Some(buckets) = shard.times.get(endpoint as usize) {
            add_time(buckets, took);
        }
    }

    /// Counts a commit of the spool.
    pub(super) fn commit(&self, records: u64, append_wait: Duration, sync: Duration) {
        let Some(shard) = self.shard() else { return };
        add_time(&shard.append_times, append_wait);
        add_time(&shard.sync_times, sync);
        add_to(
            &shard.group_records,
            &RECORDS,
            gauge_value(records),
            records,
        );
    }

    /// Counts a hit that the spool holds.
    pub(super) fn hit(&self, hit: &Hit<'_>) {
        let Some(shard) = self.shard() else { return };
        let source = ConsentSource::ALL
            .iter()
            .position(|known| *known == hit.consent_source);
        let by_outcome = source.and_then(|at| shard.hits.get(at));
        let at = label::outcome_at(hit);
        add(by_outcome.and_then(|counts| counts.get(at)), 1);
        add(shard.by_protocol.get(hit.protocol as usize), 1);
    }

    /// Moves what was counted into the handles.
    pub(super) fn sum_up(&self) {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        for shard in &self.shards {
            move_counts(shard.replies.iter().zip(&handles.replies));
            move_counts(shard.hits.iter().zip(&handles.hits));
            move_counts([(&shard.by_protocol, &handles.by_protocol)].into_iter());
            for (buckets, histogram) in shard.times.iter().zip(&handles.seconds) {
                move_buckets(buckets, histogram, &SECONDS, NANO);
            }
            move_buckets(&shard.append_times, &handles.append_seconds, &SECONDS, NANO);
            move_buckets(&shard.sync_times, &handles.sync_seconds, &SECONDS, NANO);
            move_buckets(&shard.group_records, &handles.group_records, &RECORDS, 1.0);
        }
    }
}

fn add_time(buckets: &[Bucket], time: Duration) {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    add_to(buckets, &SECONDS, time.as_secs_f64(), nanos);
}

/// Counts a value, which is `units` of its sum.
fn add_to(buckets: &[Bucket], bounds: &[f64], value: f64, units: u64) {
    let at = bounds.partition_point(|bound| *bound < value);
    if let Some(bucket) = buckets.get(at) {
        add(Some(&bucket.number), 1);
        add(Some(&bucket.sum), units);
    }
}

/// Moves counts into a histogram. A value that is counted meanwhile may have its number and its sum
/// moved by different calls; the mean is kept within the bucket's bounds, so that the number is
/// always right and the sum at most the bucket's width off.
fn move_buckets(buckets: &[Bucket], histogram: &Histogram, bounds: &[f64], unit: f64) {
    for (at, bucket) in buckets.iter().enumerate() {
        let number = bucket.number.swap(0, Ordering::Relaxed);
        if number == 0 {
            continue;
        }
        let sum = gauge_value(bucket.sum.swap(0, Ordering::Relaxed)) * unit;
        let below = at.checked_sub(1).and_then(|at| bounds.get(at));
        let low = below.map_or(0.0, |bound| bound.next_up());
        let high = bounds.get(at).copied().unwrap_or(f64::INFINITY);
        let mean = (sum / gauge_value(number)).clamp(low, high);
        histogram.record_many(mean, usize::try_from(number).unwrap_or(usize::MAX));
    }
}

fn move_counts<'a, const N: usize>(
    rows: impl Iterator<Item = (&'a [AtomicU64; N], &'a [Counter; N])>,
) {
    for (counts, counters) in rows {
        for (count, counter) in counts.iter().zip(counters) {
            counter.increment(count.swap(0, Ordering::Relaxed));
        }
    }
}

fn add(count: Option<&AtomicU64>, number: u64) {
    if let Some(count) = count {
        count.fetch_add(number, Ordering::Relaxed);
    }
}
