//! What the edge lets a viewer of the live view see: a sample of hits as they went into the spool, and of
//! refusals with their reason.
//!
//! Without a viewer it costs a hit one relaxed load. With viewers at most [`SAMPLES_PER_SECOND`] hits and
//! refusals a second are handed over, encoded as in the spool, so after all that is not permitted has left
//! them; the others are counted. The queue is bounded and never waited for: what finds it full is one of
//! the others. Nothing that a refused request said is passed on but which site and partner it named, its host
//! and page's origin, and which path it asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::mpsc;

use crate::clock::UnixMicros;
use crate::consent::Signals;
use crate::edge::Refusal;
use crate::edge::exchange::admit::Request;
use crate::endpoint::Endpoint;
use crate::hit::{Hit, Kind};
use crate::protocol::native;

/// Hits and refusals that are shown in a second: as many as a person can follow, and then some.
pub(crate) const SAMPLES_PER_SECOND: u32 = 50;
/// Samples that wait to be shown.
const QUEUE_MAX: usize = 256;
/// How much of an unknown path is shown: a mistyped endpoint, not what may stand behind it.
const PATH_BYTES_MAX: usize = 32;

/// The edge's end.
pub struct Live {
    viewers: AtomicUsize,
    /// Samples left in this second.
    left: AtomicU32,
    /// What was not shown since it was last asked for.
    passed_over: AtomicU64,
    queue: mpsc::Sender<Sample>,
}

/// What one request, or one event of it, came to.
pub enum Sample {
    /// Recorded: the hit as the spool has it.
    Hit(Vec<u8>),
    /// Not recorded.
    Refused(Box<Refused>),
}

/// A refused request, as far as it is shown.
pub struct Refused {
    pub(crate) at: UnixMicros,
    pub(crate) endpoint: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) status: u16,
    pub(crate) site: String,
    pub(crate) partner: String,
    pub(crate) host: String,
    pub(crate) origin: String,
    pub(crate) path: String,
}

impl Live {
    /// Both ends: the edge's, and the one that [`super::board::show`] empties.
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

    /// Counts a viewer in, until what is returned is dropped.
    pub(crate) fn watch(self: &Arc<Live>) -> Watch {
        self.viewers.fetch_add(1, Ordering::Relaxed);
        Watch(Arc::clone(self))
    }

    pub(crate) fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }

    /// Begins a second; how many samples were passed over in the one before.
    pub(crate) fn begin_second(&self) -> u64 {
        self.left.store(SAMPLES_PER_SECOND, Ordering::Relaxed);
        self.passed_over.swap(0, Ordering::Relaxed)
    }

    /// Shows hits that the spool has taken.
    pub(crate) fn hits(&self, hits: &[Hit<'_>]) {
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

    /// Shows a refusal of a request, or of an event that it brought for `site` and `partner`; where these
    /// are empty, the query names them.
    pub(crate) fn refused(
        &self,
        request: &Request<'_>,
        target: (Endpoint, &str, &str),
        named: (&str, &str),
        refusal: Refusal,
    ) {
        if self.viewers() == 0 {
            return;
        }
        self.offer(|| Sample::Refused(Box::new(refused(request, target, named, refusal))));
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

fn refused(
    request: &Request<'_>,
    (endpoint, path, query): (Endpoint, &str, &str),
    (site, partner): (&str, &str),
    refusal: Refusal,
) -> Refused {
    let mut asked = Hit::new(request.now, Kind::PageView, "");
    native::query(query, &mut asked, &mut Signals::default());
    let or_asked =
        |named: &str, asked: &str| if named.is_empty() { asked } else { named }.to_owned();
    Refused {
        at: request.now,
        endpoint: endpoint.name(),
        reason: refusal.0.name(),
        status: refusal.status().as_u16(),
        site: or_asked(site, &asked.site),
        partner: or_asked(partner, &asked.partner),
        host: request.headers.host.unwrap_or_default().to_owned(),
        origin: request.headers.origin.unwrap_or_default().to_owned(),
        path: shown_path(path),
    }
}

/// The first part of a path, without what no endpoint's name would hold.
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

    fn hit() -> Hit<'static> {
        Hit::new(UnixMicros(1), Kind::PageView, "shop")
    }

    #[test]
    fn nothing_is_handed_over_without_a_viewer_and_no_more_than_a_second_may_with_one() {
        let (live, mut samples) = Live::new();
        live.begin_second();
        live.hits(&[hit()]);
        assert!(samples.try_recv().is_err());
        let watch = live.watch();
        let hits = vec![hit(); 1000];
        live.hits(&hits);
        let shown = std::iter::from_fn(|| samples.try_recv().ok()).count();
        assert_eq!(shown, SAMPLES_PER_SECOND as usize);
        assert_eq!(live.begin_second(), 1000 - shown as u64);
        assert_eq!(live.begin_second(), 0);
        drop(watch);
        live.hits(&hits);
        assert!(samples.try_recv().is_err());
    }

    #[test]
    fn what_finds_the_queue_full_is_passed_over() {
        let (live, samples) = Live::new();
        let watch = live.watch();
        let mut passed_over = 0;
        for _ in 0..10 {
            passed_over += live.begin_second();
            live.hits(&vec![hit(); 50]);
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
