//! The live view: `GET /` and `GET /live` of the admin listener, a page and the stream of
//! server-sent events (WHATWG HTML, section 9.2) that it shows.
//!
//! | event | data |
//! | --- | --- |
//! | `hit` | a recorded hit, with place and device, and its outcome: `row`, `count` or `nothing` |
//! | `refused` | a refused request, or a refused event of a request, with the reason |
//! | `outcome` | what became of a hit that was shown: `stored`, `repeated` or `rejected` |
//! | `second` | how many hits and refusals were not shown, because there were too many |
//!
//! `?site=`, `?partner=` and `?kind=` choose what a stream has; [`Filter`] applies them where hits
//! are recorded.
//!
//! A hit is shown as the spool has it, that is, without anything that is not permitted, and without
//! any ID or address. Of an event it has the fields that may be kept without the permit `store`. A
//! viewer that does not keep up misses events; it delays nothing. What it missed is in the next
//! `second`, with the outcomes, so that the number is never too small. A stream ends after
//! [`STREAM_TIME_MAX`] and the page opens a new one, so that a viewer that has left does not keep
//! its place.
//!
//! Pages elsewhere can neither read it nor take its places: there is no CORS here, and
//! [`guard`](super::guard) says whom the admin listener answers.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{Stream, stream};
use hyper::body::Frame;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::{broadcast, mpsc};

use super::guard::AdminNames;
use super::live::{Filter, Live, Offered, Refused, Sample, Watch};
use crate::clock::{self, UnixMicros};
use crate::consent;
use crate::enrich::Tables;
use crate::hit::{Flags, Hit, Kind, Outcome, Permit};
use crate::metrics::shown::ShownHits;
use crate::refusal::Reason;

/// Age at which a stream ends; the page then opens a new one.
const STREAM_TIME_MAX: Duration = Duration::from_secs(600);
/// How many events may wait for a viewer before it misses some.
const WAITING_EVENTS_MAX: usize = 256;
/// The most fields of an event that are shown, and the most characters of each.
const FIELDS_SHOWN_MAX: usize = 20;
const FIELD_SHOWN_MAX: usize = 100;

/// Makes the page of tags for a query string.
pub(crate) type MakeTagPage = Box<dyn Fn(&str) -> String + Send + Sync>;

/// What is shown to viewers.
pub struct Board {
    live: Arc<Live>,
    events: broadcast::Sender<Told>,
    names: AdminNames,
    page: Bytes,
    policy: String,
    /// Makes the page of tags for a query.
    tag_page: OnceLock<MakeTagPage>,
}

/// What viewers are told.
#[derive(Clone)]
enum Told {
    /// An event, and the bits of the viewers that it is for.
    Event(u8, Bytes),
    /// A second has begun. What a viewer missed is counted when it hears of that, so that no count
    /// is missed.
    Second,
}

impl Told {
    /// Returns the event that it is for a viewer; `None` if it is for others.
    fn of(self, watch: &Watch) -> Option<Bytes> {
        match self {
            Told::Event(viewers, event) => (viewers & watch.bit() != 0).then_some(event),
            Told::Second => {
                let passed_over = watch.take_passed_over();
                Some(event("second", &json!({ "passed_over": passed_over })))
            }
        }
    }
}

/// Writes an event as viewers read it.
fn event(name: &str, data: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

impl Board {
    /// Begins without events. `demo_port` is that of the public listener, if it has the demo page.
    #[must_use]
    pub fn new(live: Arc<Live>, hosts: Vec<String>, demo_port: Option<u16>) -> Board {
        let page = page(demo_port);
        Board {
            live,
            events: broadcast::channel(WAITING_EVENTS_MAX).0,
            names: AdminNames::new(hosts),
            policy: policy(&page),
            page: Bytes::from(page),
            tag_page: OnceLock::new(),
        }
    }

    /// Returns the names under which the admin listener may be opened in a browser.
    pub(crate) fn names(&self) -> &AdminNames {
        &self.names
    }

    /// Has the form of tags answered by `page`, from now on.
    pub(crate) fn answer_tags(&self, page: MakeTagPage) {
        // It is set once, at the start.
        drop(self.tag_page.set(page));
    }

    /// Returns the page of tags for a query and its Content-Security-Policy; empty before the start
    /// is done.
    pub(crate) fn tag_page(&self, query: &str) -> (Bytes, String) {
        let page = self.tag_page.get().map(|make| make(query));
        let page = page.unwrap_or_default();
        let policy = policy(&page).replace("form-action 'none'", "form-action 'self'");
        (Bytes::from(page), policy)
    }

    /// Returns the page and its Content-Security-Policy.
    pub(crate) fn page(&self) -> (Bytes, &str) {
        (self.page.clone(), &self.policy)
    }

    /// Returns the stream of events for one more viewer; `None` if there are too many already.
    pub(crate) fn stream(
        &self,
        filter: Filter,
    ) -> Option<impl Stream<Item = Result<Frame<Bytes>, Infallible>> + use<>> {
        let events = self.events.subscribe();
        let state = (self.live.watch(filter)?, events, clock::monotonic());
        Some(stream::unfold(
            state,
            |(watch, mut events, began)| async move {
                loop {
                    let rest = STREAM_TIME_MAX.checked_sub(clock::time_since(began))?;
                    match tokio::time::timeout(rest, events.recv()).await {
                        Ok(Ok(told)) => {
                            if let Some(event) = told.of(&watch) {
                                return Some((Ok(Frame::data(event)), (watch, events, began)));
                            }
                        }
                        Ok(Err(broadcast::error::RecvError::Lagged(missed))) => watch.miss(missed),
                        Ok(Err(broadcast::error::RecvError::Closed)) | Err(_) => return None,
                    }
                }
            },
        ))
    }

    /// Sends an event to viewers, by their bits.
    fn send(&self, viewers: u8, name: &str, data: &Value) {
        self.tell(Told::Event(viewers, event(name, data)));
    }

    fn tell(&self, told: Told) {
        // The only error is that there is no viewer.
        drop(self.events.send(told));
    }
}

/// Shows samples with what `tables` tell of them. Never returns.
pub(crate) async fn show(
    board: Arc<Board>,
    mut samples: mpsc::Receiver<Offered>,
    tables: Arc<ArcSwap<Tables>>,
    shown_hits: Arc<ShownHits>,
) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut fates = shown_hits.listen();
    loop {
        tokio::select! {
            Some(Offered { viewers, sample }) = samples.recv() => match sample {
                Sample::Hit(encoded, number) => if let Ok(hit) = Hit::decode(&encoded) {
                    let mut shown = describe_hit(&hit, &tables.load());
                    if let Some(fields) = shown.as_object_mut() {
                        fields.insert("id".to_owned(), json!(write_number(number)));
                    }
                    board.send(viewers, "hit", &shown);
                    shown_hits.set_shown(number);
                },
                Sample::Refused(refused) => {
                    board.send(viewers, "refused", &describe_refusal(&refused));
                }
            },
            fate = fates.recv() => if let Ok((number, fate)) = fate {
                let outcome = json!({ "id": write_number(number), "outcome": fate.name() });
                board.send(u8::MAX, "outcome", &outcome);
            },
            _ = second.tick() => {
                board.live.begin_second();
                board.tell(Told::Second);
            }
        }
    }
}

/// Writes a hit's number for the page, whose own numbers are not precise enough.
fn write_number(number: u64) -> String {
    format!("{number:016x}")
}

/// Returns the fields of an event that becomes a row, as they may be kept of somebody who permits
/// no ID: without anything that names a person.
fn fields(hit: &Hit<'_>) -> Value {
    if hit.kind != Kind::Event || hit.outcome() != Outcome::Row {
        return Value::Null;
    }
    let mut nobody = hit.clone();
    nobody.permit = hit.permit.and(Permit::MEASURE);
    consent::strip(&mut nobody);
    let read: serde_json::Map<String, Value> =
        serde_json::from_str(&nobody.params).unwrap_or_default();
    let cut = |value: Value| {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        Value::from(text.chars().take(FIELD_SHOWN_MAX).collect::<String>())
    };
    let fields = read.into_iter().take(FIELDS_SHOWN_MAX);
    Value::Object(fields.map(|(name, value)| (name, cut(value))).collect())
}

fn describe_hit(hit: &Hit<'_>, tables: &Tables) -> Value {
    let outcome = hit.outcome();
    let measured = outcome == Outcome::Row;
    let ip = hit.client_ip.filter(|_| measured);
    let place = ip.and_then(|ip| tables.place(ip));
    let place = place.map(|place| {
        let place = &place.value;
        let city = hit.permit.allows(Permit::LOCATE).then_some(&place.city);
        join_texts([
            city.unwrap_or(&String::new()),
            &place.region,
            &place.country,
        ])
    });
    let network = ip.and_then(|ip| tables.network(ip));
    let device = measured.then(|| tables.device(&hit.user_agent, &hit.hints));
    let device = device.as_ref().map(|device| &device.value);
    let visitor = match (hit.visitor, hit.flags.has(Flags::NEW_VISITOR)) {
        (None, _) => "none",
        (Some(_), true) => "new",
        (Some(_), false) => "known",
    };
    json!({
        "at": millis(hit.received_at),
        "kind": hit.kind.name(),
        "protocol": hit.protocol.name(),
        "becomes": outcome.name(),
        "site": hit.site,
        "event": hit.event_name,
        "fields": fields(hit),
        // The query may contain anybody's IDs.
        "page": hit.page_url.split(['?', '#']).next(),
        "partner": hit.partner,
        "ad": join_texts([&hit.campaign, &hit.creative, &hit.placement, &hit.publisher]),
        "place": place,
        "network": network.map(|network| network.value.name.clone()),
        "class": device.map(|device| device.class.name()),
        "device": device.map(|device| join_texts([&device.brand, &device.model, &device.os, &device.browser])),
        "visitor": visitor,
        "permit": hit.permit.to_string(),
        "source": hit.consent_source.name(),
        "flags": hit.flags.to_string(),
    })
}

fn describe_refusal(refused: &Refused) -> Value {
    json!({
        "at": millis(refused.at),
        "kind": refused.endpoint,
        "protocol": refused.protocol.name(),
        "reason": refused.reason,
        "field": refused.field,
        "status": refused.status,
        "site": refused.site,
        "partner": refused.partner,
        "host": refused.host,
        "origin": refused.origin,
        "path": refused.path,
    })
}

fn millis(at: UnixMicros) -> i64 {
    at.0.div_euclid(1000)
}

/// Joins the texts that are not empty, each once.
fn join_texts<const N: usize>(texts: [&str; N]) -> String {
    let mut known: Vec<&str> = Vec::with_capacity(N);
    for text in texts {
        if !text.is_empty() && !known.contains(&text) {
            known.push(text);
        }
    }
    known.join(" · ")
}

/// The page. The `json` filter writes `<`, `>`, `&` and `'` as escapes, so that no advice ends the
/// script that it stands in.
#[derive(Template)]
#[template(path = "live.html")]
struct Page {
    /// The advice for each reason of refusal, by its name.
    advice: BTreeMap<&'static str, String>,
    demo_port: Option<u16>,
}

fn page(demo_port: Option<u16>) -> String {
    let reasons = Reason::ALL.iter();
    let page = Page {
        advice: reasons
            .map(|reason| (reason.name(), reason.advice().to_string()))
            .collect(),
        demo_port,
    };
    page.render()
        .expect("a template of texts can always be written to a string")
}

/// Returns the policy that lets the page's own script and style run, each named by its digest, and
/// nothing else.
fn policy(page: &str) -> String {
    let digest = |element: &str| {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let content = page
            .split_once(&open)
            .and_then(|(_, rest)| rest.split_once(&close))
            .map_or("", |(content, _)| content);
        format!("'sha256-{}'", STANDARD.encode(Sha256::digest(content)))
    };
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        digest("script"),
        digest("style"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_script_and_style_and_nothing_from_elsewhere() {
        let page = page(Some(8080));
        assert!(page.contains("\"unknown_path\":\"no endpoint has that path"));
        for element in ["<script>", "</script>", "<style>", "</style>"] {
            assert_eq!(page.matches(element).count(), 1, "{element}");
        }
        for forbidden in [
            "advice|",
            "style=",
            "onclick=",
            "innerHTML",
            "http://",
            "https://",
        ] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn a_hit_shows_no_id_and_no_address() {
        let mut hit = Hit::new(UnixMicros(5_000), crate::hit::Kind::Impression, "shop");
        hit.permit = Permit::ALL;
        hit.visitor = Some(crate::hit::VisitorId(*b"telltaletelltale"));
        hit.client_ip = Some([192, 0, 2, 77].into());
        hit.partner_uid = "telltale".into();
        hit.maid = "telltale".into();
        hit.device_id = "telltale".into();
        hit.event_id = "telltale".into();
        hit.click_id = "telltale".into();
        let text = describe_hit(&hit, &Tables::default()).to_string();
        for hidden in ["telltale", "74656c6c", "192.0.2"] {
            assert!(!text.contains(hidden), "{text}");
        }
        assert!(text.contains("\"visitor\":\"known\""), "{text}");
    }

    #[test]
    fn a_hit_shows_what_becomes_of_it_and_that_it_is_over_the_limit() {
        let mut hit = Hit::new(UnixMicros(5_000), crate::hit::Kind::Impression, "shop");
        for (permit, flags, becomes) in [
            (Permit::ALL, Flags::PREFETCH, "row"),
            (Permit::NONE, Flags::default(), "count"),
            (Permit::NONE, Flags::PREFETCH, "nothing"),
        ] {
            hit.permit = permit;
            hit.flags = flags.with(Flags::OVER_LIMIT);
            let shown = describe_hit(&hit, &Tables::default());
            assert_eq!(shown["becomes"], becomes);
            let flags = shown["flags"].as_str();
            assert!(
                flags.is_some_and(|flags| flags.ends_with("over_limit")),
                "{shown}"
            );
        }
    }
}
