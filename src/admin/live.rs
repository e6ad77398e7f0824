//! What the edge shows to viewers of the live view: a sample of hits as the spool holds them, and
//! of refusals with their reason.
//!
//! Without a viewer it costs a hit one relaxed load. With viewers at most [`SAMPLES_PER_SECOND`]
//! hits and refusals a second are handed over; the others are counted. A hit is encoded as in the
//! spool, after everything that is not permitted has left it. The queue is bounded and nobody waits
//! for it: a sample that finds it full is counted with the others. Of a refused request it passes
//! on only which site and partner it named, which field is to blame, its host, its page's origin
//! and the path that it asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use hyper::StatusCode;
use tokio::sync::mpsc;

use crate::clock::UnixMicros;
use crate::endpoint::{EndpointSpec, Protocol};
use crate::hit::Hit;
use crate::protocol::native;
use crate::refusal::Reason;

/// The most hits and refusals shown in a second: a few more than a person can follow.
pub(crate) const SAMPLES_PER_SECOND: u32 = 50;
/// The most samples that wait to be shown.
const QUEUE_MAX: usize = 256;
/// How much of a path is shown: enough for a mistyped endpoint, not for what may follow it.
const PATH_BYTES_MAX: usize = 32;

/// The edge's end.
pub struct Live {
    viewers: AtomicUsize,
    /// Samples left in this second.
    left: AtomicU32,
    /// How many samples were not shown since the last time it was asked.
    passed_over: AtomicU64,
    queue: mpsc::Sender<Sample>,
}

/// What became of one request, or of one event in it.
pub enum Sample {
    /// Recorded: the hit as the spool has it.
    Hit(Vec<u8>),
    /// Not recorded.
    Refused(Box<Refused>),
}

/// A refused request, or a refused event of one, as the edge knows it.
#[derive(Clone, Copy)]
pub(crate) struct RefusedRequest<'r> {
    pub(crate) at: UnixMicros,
    pub(crate) spec: &'static EndpointSpec,
    pub(crate) reason: Reason,
    /// The status of the reply, if the request is refused as a whole.
    pub(crate) status: StatusCode,
    /// The field that is to blame, by the name that its tracker gives it; empty if no one is.
    pub(crate) field: &'r str,
    /// The site and the partner that the event names. Where they are empty, the query string
    /// tells.
    pub(crate) site: &'r str,
    pub(crate) partner: &'r str,
    pub(crate) host: &'r str,
    pub(crate) origin: &'r str,
    pub(crate) path: &'r str,
    pub(crate) query: &'r str,
}

/// A refused request, as far as it is shown.
pub struct Refused {
    pub(crate) at: UnixMicros,
    pub(crate) endpoint: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) reason: &'static str,
    pub(crate) field: String,
    pub(crate) status: u16,
    pub(crate) site: String,
    pub(crate) partner: String,
    pub(crate) host: String,
    pub(crate) origin: String,
    pub(crate) path: String,
}

impl Live {
    /// Makes both ends: the edge's, and the one that [`super::board::show`] empties.
    #[must_use]
    pub fn new() -> (Arc<Live>, mpsc::Receiver<Sample>) {
        let (queue, samples) = mpsc::channel(QUEUE_MAX);
        let live = Live {
            viewers: AtomicUsize::new(0),
            left: AtomicU32::new(0),
            passed_over: AtomicU64::new(0),
            queue,
        };
        (Arc::new(live), samples)
    }

    /// Counts a viewer until the returned value is dropped.
    pub(crate) fn watch(self: &Arc<Live>) -> Watch {
        self.viewers.fetch_add(1, Ordering::Relaxed);
        Watch(Arc::clone(self))
    }

    pub(crate) fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }

    /// Begins a second. Returns how many samples were passed over in the one before.
    pub(crate) fn begin_second(&self) -> u64 {
        self.left.store(SAMPLES_PER_SECOND, Ordering::Relaxed);
        self.passed_over.swap(0, Ordering::Relaxed)
    }

    /// Shows hits that the spool holds.
    pub(crate) fn show_hits<'h>(&self, hits: impl Iterator<Item = &'h Hit<'h>>) {
        if self.viewers() == 0 {
            return;
        }
        for hit in hits {
            self.offer(|| {
                let mut encoded = Vec::new();
                hit.encode(&mut encoded);
                Sample::Hit(encoded)
            });
        }
    }

    /// Shows a refusal.
    pub(crate) fn show_refusal(&self, request: &RefusedRequest<'_>) {
        if self.viewers() > 0 {
            self.offer(|| Sample::Refused(Box::new(Refused::from(request))));
        }
    }

    fn offer(&self, sample: impl FnOnce() -> Sample) {
        let left = |left: u32| left.checked_sub(1);
        let is_shown = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .is_ok()
            && self.queue.try_send(sample()).is_ok();
        if !is_shown {
            self.passed_over.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl From<&RefusedRequest<'_>> for Refused {
    fn from(request: &RefusedRequest<'_>) -> Refused {
        let in_query = native::read_names(request.query);
        let either =
            |event: &str, query: &str| if event.is_empty() { query } else { event }.to_owned();
        Refused {
            at: request.at,
            endpoint: request.spec.name,
            protocol: request.spec.protocol,
            reason: request.reason.name(),
            field: request.field.to_owned(),
            status: request.status.as_u16(),
            site: either(request.site, &in_query.site),
            partner: either(request.partner, &in_query.partner),
            host: request.host.to_owned(),
            origin: request.origin.to_owned(),
            path: shown_path(request.path),
        }
    }
}

/// Returns the first part of a path, without characters that no endpoint's name has.
fn shown_path(path: &str) -> String {
    let first = path
        .trim_start_matches('/')
        .split('/')
        .next()
        .unwrap_or_default();
    let plain = |character: &char| character.is_ascii_alphanumeric() || "._-".contains(*character);
    let name: String = first.chars().filter(plain).take(PATH_BYTES_MAX).collect();
    format!("/{name}")
}

/// A viewer that is counted.
pub(crate) struct Watch(Arc<Live>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hit::Kind;

    fn hit() -> Hit<'static> {
        Hit::new(UnixMicros(1), Kind::PageView, "shop")
    }

    #[test]
    fn nothing_is_handed_over_without_a_viewer_and_no_more_than_a_second_may_with_one() {
        let (live, mut samples) = Live::new();
        live.begin_second();
        live.show_hits([hit()].iter());
        assert!(samples.try_recv().is_err());
        let watch = live.watch();
        let hits = vec![hit(); 1000];
        live.show_hits(hits.iter());
        let shown = std::iter::from_fn(|| samples.try_recv().ok()).count();
        assert_eq!(shown, SAMPLES_PER_SECOND as usize);
        assert_eq!(live.begin_second(), 1000 - shown as u64);
        assert_eq!(live.begin_second(), 0);
        drop(watch);
        live.show_hits(hits.iter());
        assert!(samples.try_recv().is_err());
    }

    #[test]
    fn what_finds_the_queue_full_is_passed_over() {
        let (live, samples) = Live::new();
        let watch = live.watch();
        let mut passed_over = 0;
        for _ in 0..10 {
            passed_over += live.begin_second();
            live.show_hits(vec![hit(); 50].iter());
        }
        passed_over += live.begin_second();
        assert_eq!(passed_over, 500 - QUEUE_MAX as u64);
        drop((watch, samples));
    }

    #[test]
    fn a_path_shows_its_first_name_only() {
        for (path, shown) in [
            ("/pixel.gif", "/pixel.gif"),
            ("/", "/"),
            ("/user/4711/x", "/user"),
            ("/<b>\u{1b}[1m&", "/b1m"),
            ("//x", "/x"),
        ] {
            assert_eq!(shown_path(path), shown, "{path}");
        }
        assert_eq!(shown_path(&"/a".repeat(100)), "/a");
        assert_eq!(shown_path(&"a".repeat(100)).len(), 1 + PATH_BYTES_MAX);
    }
}
