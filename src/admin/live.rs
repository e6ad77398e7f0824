//! What the edge shows to viewers of the live view: a sample of hits as the spool holds them, and
//! of refusals with their reason.
//!
//! Each viewer has a [`Filter`], which is applied here: a site with twenty hits is found among
//! thousands. Without a viewer it costs a hit one relaxed load. To each viewer at most
//! [`SAMPLES_PER_SECOND`] of the hits and refusals that fit are shown in a second; the others are
//! counted. A hit is encoded as in the spool, after everything that is not permitted has left it.
//! The queue is bounded and nobody waits for it: a sample that finds it full is counted with the
//! others. Of a refused request it passes on only which site and partner it named, which field is
//! to blame, its host, its page's origin and the path that it asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use hyper::StatusCode;
use tokio::sync::mpsc;

use crate::clock::UnixMicros;
use crate::endpoint::{EndpointSpec, Protocol};
use crate::hit::{Hit, Outcome};
use crate::metrics::shown::ShownHits;
use crate::protocol::native;
use crate::refusal::Reason;

/// The most hits and refusals shown to one viewer in a second: a few more than a person can follow.
pub(crate) const SAMPLES_PER_SECOND: u32 = 50;
/// The most samples that wait to be shown.
const QUEUE_MAX: usize = 256;
/// How many viewers there may be at one time: one for each bit.
const VIEWERS_MAX: usize = 8;
/// How much of a path is shown: enough for a mistyped endpoint, not for what may follow it.
const PATH_BYTES_MAX: usize = 32;

/// The edge's end.
pub struct Live {
    viewers: AtomicUsize,
    watching: ArcSwap<Vec<Arc<Viewer>>>,
    queue: mpsc::Sender<Offered>,
    shown: Arc<ShownHits>,
}

/// One who watches.
pub(crate) struct Viewer {
    /// Its bit among those of all viewers.
    bit: u8,
    filter: Filter,
    /// Samples left in this second.
    left: AtomicU32,
    /// How many samples that fit were not shown since the last time it was asked.
    passed_over: AtomicU64,
}

/// Which hits and refusals a viewer wants. An empty text fits everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The site's key.
    pub(crate) site: String,
    /// The partner's key.
    pub(crate) partner: String,
    /// The kind of hit, or `refused`.
    pub(crate) kind: String,
}

impl Filter {
    /// Reads the filter of a query string.
    pub(crate) fn read(query: &str) -> Filter {
        let mut filter = Filter::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "site" => filter.site = value.into_owned(),
                "partner" => filter.partner = value.into_owned(),
                "kind" => filter.kind = value.into_owned(),
                _ => {}
            }
        }
        filter
    }

    fn fits(&self, site: &str, partner: &str, kind: &str) -> bool {
        let fits = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
        fits(&self.site, site) && fits(&self.partner, partner) && fits(&self.kind, kind)
    }
}

/// A sample on its way, with the bits of the viewers that it is for.
pub struct Offered {
    pub(crate) viewers: u8,
    pub(crate) sample: Sample,
}

/// What became of one request, or of one event in it.
pub(crate) enum Sample {
    /// Recorded: the hit as the spool has it, and by what its outcome will be known.
    Hit(Vec<u8>, u64),
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
    /// Makes both ends: the edge's, and the one that [`super::board::show`] empties. The loader
    /// says in `shown` what becomes of hits.
    #[must_use]
    pub fn new(shown: Arc<ShownHits>) -> (Arc<Live>, mpsc::Receiver<Offered>) {
        let (queue, samples) = mpsc::channel(QUEUE_MAX);
        let live = Live {
            viewers: AtomicUsize::new(0),
            watching: ArcSwap::default(),
            queue,
            shown,
        };
        (Arc::new(live), samples)
    }

    /// Counts a viewer until the returned value is dropped; `None` where every place is taken.
    pub(crate) fn watch(self: &Arc<Live>, filter: Filter) -> Option<Watch> {
        let watching = self.watching.load();
        let taken = watching.iter().fold(0, |bits, viewer| bits | viewer.bit);
        let free = (0..VIEWERS_MAX).map(|at| 1 << at);
        let bit = free.into_iter().find(|bit: &u8| taken & bit == 0)?;
        let viewer = Arc::new(Viewer {
            bit,
            filter,
            left: AtomicU32::new(SAMPLES_PER_SECOND),
            passed_over: AtomicU64::new(0),
        });
        let mut all = (**watching).clone();
        all.push(Arc::clone(&viewer));
        self.set_watching(all);
        Some(Watch(Arc::clone(self), viewer))
    }

    /// Viewers come and go on one thread, so nothing is lost between a load and this.
    fn set_watching(&self, viewers: Vec<Arc<Viewer>>) {
        let count = viewers.len();
        self.watching.store(Arc::new(viewers));
        self.viewers.store(count, Ordering::Relaxed);
        if count == 0 {
            self.shown.forget();
        }
    }

    pub(crate) fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }

    /// Begins a second, in which each viewer may have as many samples as in any other.
    pub(crate) fn begin_second(&self) {
        self.shown.begin_second();
        for viewer in self.watching.load().iter() {
            viewer.left.store(SAMPLES_PER_SECOND, Ordering::Relaxed);
        }
    }

    /// Chooses which of the hits that are about to be recorded are shown, and notes them before
    /// the loader can have them.
    pub(crate) fn choose<'h>(&self, hits: impl Iterator<Item = &'h Hit<'h>>) -> ChosenHits<'_> {
        let mut samples = Vec::new();
        if self.viewers() == 0 {
            return ChosenHits(self, samples);
        }
        for hit in hits {
            let viewers = self.viewers_for(&hit.site, &hit.partner, hit.kind.name());
            if viewers == 0 {
                continue;
            }
            let mut encoded = Vec::new();
            hit.encode(&mut encoded);
            let number = self.shown.number(&encoded);
            if hit.outcome() == Outcome::Row {
                self.shown.note(number);
            }
            let sample = Sample::Hit(encoded, number);
            samples.push(Offered { viewers, sample });
        }
        ChosenHits(self, samples)
    }

    /// Shows a refusal.
    pub(crate) fn show_refusal(&self, request: &RefusedRequest<'_>) {
        if self.viewers() > 0 {
            let refused = Box::new(Refused::from(request));
            let (site, partner) = (refused.site.clone(), refused.partner.clone());
            let viewers = self.viewers_for(&site, &partner, "refused");
            if viewers != 0 {
                let sample = Sample::Refused(refused);
                self.offer(Offered { viewers, sample });
            }
        }
    }

    /// Returns the bits of the viewers that want what is of a site, a partner and a kind, and have
    /// a sample left in this second.
    fn viewers_for(&self, site: &str, partner: &str, kind: &str) -> u8 {
        let watching = self.watching.load();
        let mut viewers = 0;
        let fitting = watching
            .iter()
            .filter(|viewer| viewer.filter.fits(site, partner, kind));
        for viewer in fitting {
            match viewer.spend() {
                true => viewers |= viewer.bit,
                false => viewer.pass_over(1),
            }
        }
        viewers
    }

    fn offer(&self, offered: Offered) {
        let viewers = offered.viewers;
        if let Err(error) = self.queue.try_send(offered) {
            let watching = self.watching.load();
            let missed = watching.iter().filter(|viewer| viewers & viewer.bit != 0);
            missed.for_each(|viewer| viewer.pass_over(1));
            self.drop_sample(&error.into_inner().sample);
        }
    }

    /// Forgets what is not shown.
    fn drop_sample(&self, sample: &Sample) {
        if let Sample::Hit(_, number) = sample {
            self.shown.drop_hit(*number);
        }
    }
}

/// Hits that are shown once the spool holds them, and forgotten if it never does.
#[must_use]
pub(crate) struct ChosenHits<'l>(&'l Live, Vec<Offered>);

impl ChosenHits<'_> {
    /// Shows the hits, which the spool holds.
    pub(crate) fn show(mut self) {
        let ChosenHits(live, samples) = &mut self;
        samples.drain(..).for_each(|sample| live.offer(sample));
    }
}

impl Drop for ChosenHits<'_> {
    fn drop(&mut self) {
        let ChosenHits(live, samples) = self;
        samples.iter().for_each(|one| live.drop_sample(&one.sample));
    }
}

impl Viewer {
    fn spend(&self) -> bool {
        let left = |left: u32| left.checked_sub(1);
        let spent = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        spent.is_ok()
    }

    fn pass_over(&self, samples: u64) {
        self.passed_over.fetch_add(samples, Ordering::Relaxed);
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
            path: cut_path(request.path),
        }
    }
}

/// Returns the first part of a path, without characters that no endpoint's name has.
fn cut_path(path: &str) -> String {
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
pub(crate) struct Watch(Arc<Live>, Arc<Viewer>);

impl Watch {
    /// Returns the viewer's bit.
    pub(crate) fn bit(&self) -> u8 {
        self.1.bit
    }

    /// Counts events that the viewer was too slow for, as if each were a sample.
    pub(crate) fn miss(&self, events: u64) {
        self.1.pass_over(events);
    }

    /// Returns how many samples were passed over since it was asked last.
    pub(crate) fn take_passed_over(&self) -> u64 {
        self.1.passed_over.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let watching = self.0.watching.load();
        let others = watching.iter().filter(|viewer| viewer.bit != self.bit());
        self.0.set_watching(others.map(Arc::clone).collect());
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
        let (live, mut samples) = Live::new(Arc::default());
        live.choose([hit()].iter()).show();
        assert!(samples.try_recv().is_err());
        let watch = live.watch(Filter::default()).expect("a place");
        let hits = vec![hit(); 1000];
        live.choose(hits.iter()).show();
        let shown = std::iter::from_fn(|| samples.try_recv().ok()).count();
        assert_eq!(shown, SAMPLES_PER_SECOND as usize);
        assert_eq!(watch.take_passed_over(), 1000 - shown as u64);
        assert_eq!(watch.take_passed_over(), 0);
        live.begin_second();
        drop(watch);
        live.choose(hits.iter()).show();
        assert!(samples.try_recv().is_err());
    }

    #[test]
    fn a_filter_finds_twenty_hits_of_a_site_among_thousands_and_each_viewer_has_its_own() {
        let (live, mut samples) = Live::new(Arc::default());
        let of = |query: &str| live.watch(Filter::read(query)).expect("a place");
        let (small, all) = (of("site=small"), of(""));
        let refused = of("kind=refused");
        let small_hit = Hit::new(UnixMicros(1), Kind::PageView, "small");
        for _ in 0..20 {
            live.choose(vec![hit(); 115].iter()).show();
            live.choose([small_hit.clone()].iter()).show();
        }
        let mut counts = [0; 3];
        while let Ok(Offered { viewers, .. }) = samples.try_recv() {
            for (count, watch) in counts.iter_mut().zip([&small, &all, &refused]) {
                *count += u32::from(viewers & watch.bit() != 0);
            }
        }
        assert_eq!(counts, [20, SAMPLES_PER_SECOND, 0]);
        let missed = [&small, &all, &refused].map(Watch::take_passed_over);
        assert_eq!(missed, [0, 20 * 116 - 50, 0]);
        drop(small);
        assert_eq!(of("site=other").bit(), 1, "the place is free again");
        let more: Vec<_> = (0..8)
            .filter_map(|_| live.watch(Filter::default()))
            .collect();
        assert_eq!(live.viewers(), VIEWERS_MAX);
        assert_eq!(more.len(), VIEWERS_MAX - 2);
    }

    #[test]
    fn a_filter_is_read_from_a_query_and_fits_exactly() {
        let filter = Filter::read("site=sh%6Fp&partner=&kind=click&more=1&site");
        let named = Filter::read("site=shop&kind=click");
        assert_ne!(filter, named, "the last word counts");
        assert!(named.fits("shop", "any", "click"));
        for (site, kind) in [
            ("shop2", "click"),
            ("sho", "click"),
            ("shop", "event"),
            ("", ""),
        ] {
            assert!(!named.fits(site, "any", kind), "{site} {kind}");
        }
    }

    #[test]
    fn what_finds_the_queue_full_is_passed_over() {
        let (live, samples) = Live::new(Arc::default());
        let watch = live.watch(Filter::default()).expect("a place");
        for _ in 0..10 {
            live.begin_second();
            live.choose(vec![hit(); 50].iter()).show();
        }
        assert_eq!(watch.take_passed_over(), 500 - QUEUE_MAX as u64);
        drop((watch, samples));
    }

    #[test]
    fn a_hit_that_the_spool_does_not_take_or_nobody_shows_waits_for_no_outcome() {
        let shown = Arc::<ShownHits>::default();
        let (live, samples) = Live::new(Arc::clone(&shown));
        let watch = live.watch(Filter::default()).expect("a place");
        let mut hit = hit();
        hit.permit = crate::hit::Permit::MEASURE;
        assert_eq!(hit.outcome(), Outcome::Row);
        let chosen = live.choose([hit.clone()].iter());
        assert!(shown.is_awaited());
        drop(chosen);
        assert!(!shown.is_awaited());
        drop(samples);
        live.choose([hit.clone()].iter()).show();
        assert!(!shown.is_awaited());
        drop(watch);
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
            assert_eq!(cut_path(path), shown, "{path}");
        }
        assert_eq!(cut_path(&"/a".repeat(100)), "/a");
        assert_eq!(cut_path(&"a".repeat(100)).len(), 1 + PATH_BYTES_MAX);
    }
}
