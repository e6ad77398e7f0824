//! The parts, each over the same requests. What a part is given is made beforehand and never freed.

use std::hint::black_box;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use avtryck::clock::UnixMicros;
use avtryck::consent::{self, PermitRules, Personal, Strings};
use avtryck::endpoint::Endpoint;
use avtryck::enrich::{self, TableFiles, Tables};
use avtryck::hit::{Flags, Hit, Kind, Permit, VisitorId};
use avtryck::keys::{CookieKeyring, UserKeyring};
use avtryck::postgres::batch::copy;
use avtryck::protocol::{self, Arrival, Draft, Drafts};
use avtryck::request::Headers;
use avtryck::row::{Derived, Row};
use avtryck::visitor::{COOKIE_AGE_SECONDS, Party, set_cookie};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use loadtest::corpus::{Corpus, Request, Source};
use loadtest::trackers;

use super::whole;

/// Hits of one run of a part.
pub(crate) const HITS: usize = 2_000;
/// Requests of a load that differ.
const LENDERS: usize = 100;
pub(crate) const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);
const COOKIE: &str = "avid";
pub(crate) const CHOICE: &str = "avchoice";

/// What one run of a part does, over [`HITS`] hits.
pub(crate) type Work = Box<dyn FnMut()>;

/// Makes what a part is given, and its work.
type Make = fn() -> Work;

/// The parts in the order of a hit's way, each with what makes its work.
pub(crate) const ALL: [(&str, Make); 21] = [
    ("request", request_work),
    ("permit", permit_work),
    ("cookie", cookie_work),
    ("encode", encode_work),
    ("decode", decode_work),
    ("place", place_work),
    ("device_known", known_device_work),
    ("device_new", new_device_work),
    ("row", row_work),
    ("load_rows", whole::load_rows_work),
    ("load", whole::load_work),
    ("hit", whole::hit_work),
    ("segments", whole::segments_work),
    ("pixel", || load_work("pixel")),
    ("event_as_get", || load_work("event_as_get")),
    ("snowplow_get", || load_work("snowplow_get")),
    ("event_as_post", || load_work("event_as_post")),
    ("snowplow_post", || load_work("snowplow_post")),
    ("snowplow_ten", || load_work("snowplow_ten")),
    ("segment_twenty", || load_work("segment_twenty")),
    ("matomo_ten", || load_work("matomo_ten")),
];

/// A request as hyper gives it to the edge.
pub(crate) struct Received {
    pub headers: HeaderMap,
    query: String,
    endpoint: Endpoint,
    pub client_ip: IpAddr,
    path: String,
    /// Of a POST.
    body: Option<String>,
}

pub(crate) fn work<T>(given: &'static [T], mut one: impl FnMut(&'static T) + 'static) -> Work {
    Box::new(move || given.iter().for_each(&mut one))
}

fn request_work() -> Work {
    work(received(), |received| {
        black_box(request(received));
    })
}

/// Request -> draft.
pub(crate) fn request(received: &Received) -> Draft<'_> {
    let headers = Headers::read(&received.headers);
    let arrival = Arrival {
        endpoint: received.endpoint,
        at: NOW,
        headers: &headers,
        path: "",
        query: &received.query,
        choice_cookie: CHOICE.into(),
        meta_names: &[],
    };
    let mut draft = Draft::new(NOW, Kind::PageView);
    let read = protocol::read_into(&arrival, &mut draft);
    read.expect("our own protocol reads every query");
    draft
}

/// A hit as the spool has it, if everything is permitted.
fn hit(received: &'static Received) -> Hit<'static> {
    let mut hit = request(received).hit;
    hit.permit = Permit::ALL;
    hit.visitor = Some(VisitorId([9; 16]));
    hit.client_ip = Some(received.client_ip);
    hit
}

/// Signals -> permit, with strings that are known.
fn permit_work() -> Work {
    let asked: Vec<_> = received().iter().map(request).collect();
    let rules = permit_rules();
    let strings = Strings::default();
    work(asked.leak(), move |draft| {
        let kind = draft.hit.kind;
        black_box(consent::decide(&draft.signals, &rules, kind, &strings));
    })
}

pub(crate) fn permit_rules() -> PermitRules {
    PermitRules {
        gvl_id: Some(2),
        default_permit: Permit::ALL,
        gdpr_0_permit: Permit::NONE,
    }
}

fn cookie_work() -> Work {
    let keyring = keyring();
    work(received(), move |received| {
        let headers = Headers::read(&received.headers);
        black_box(identify(&keyring, &headers, VisitorId([9; 16])));
    })
}

/// Verifies the cookie or, where there is none to be believed, makes one.
pub(crate) fn identify(
    keyring: &CookieKeyring,
    headers: &Headers<'_>,
    new: VisitorId,
) -> VisitorId {
    let keyring = keyring.at("px.shop.example");
    let known = keyring.choose(headers.find_cookies(COOKIE.into()), NOW);
    if let Some(known) = known {
        return known.proved.visitor;
    }
    let domain = Some("shop.example");
    let value = keyring.sign(new, domain, NOW).unwrap();
    let party = Party::First { domain };
    black_box(set_cookie(COOKIE, &value, party, true, COOKIE_AGE_SECONDS));
    new
}

fn encode_work() -> Work {
    let mut bytes = Vec::with_capacity(64 * 1024);
    work(hits(), move |hit| {
        bytes.clear();
        hit.encode(&mut bytes);
        black_box(&bytes);
    })
}

fn decode_work() -> Work {
    let encode = |hit: &Hit<'_>| {
        let mut bytes = Vec::new();
        hit.encode(&mut bytes);
        bytes
    };
    let encoded: Vec<Vec<u8>> = hits().iter().map(encode).collect();
    work(encoded.leak(), |bytes| {
        black_box(Hit::decode(bytes).unwrap());
    })
}

fn place_work() -> Work {
    let tables = tables();
    work(received(), move |received| {
        black_box(tables.place(received.client_ip));
    })
}

fn known_device_work() -> Work {
    let tables = tables();
    work(hits(), move |hit| {
        black_box(tables.device(&hit.user_agent, &hit.hints));
    })
}

/// Devices that no hit had before: each agent with an end of its own.
fn new_device_work() -> Work {
    let tables = tables();
    let mut number = 0_u64;
    work(hits(), move |hit| {
        number += 1;
        let agent = format!("{} Build/{number}", hit.user_agent);
        black_box(tables.device(&agent, &hit.hints));
    })
}

fn row_work() -> Work {
    let rows: Vec<Row<'_>> = hits().iter().map(row).collect();
    let mut bytes = Vec::with_capacity(64 * 1024);
    work(rows.leak(), move |row| {
        bytes.clear();
        copy::encode(row, false, &mut bytes);
        black_box(&bytes);
    })
}

fn row(hit: &'static Hit<'static>) -> Row<'static> {
    let derived = Derived {
        hit_id: [6; 16],
        keys: &[Some(1), Some(2), Some(3), Some(4), Some(5)],
        flags: Flags::default(),
        client_ip: hit.client_ip.map(Into::into),
    };
    Row::new(hit, derived)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn keyring() -> CookieKeyring {
    CookieKeyring::new([(1, [7; 32].as_slice())], COOKIE_AGE_SECONDS)
}

fn hits() -> &'static [Hit<'static>] {
    received().iter().map(hit).collect::<Vec<_>>().leak()
}

pub(crate) fn received() -> &'static [Received] {
    parse_all(&corpus(HITS))
}

pub(crate) fn corpus(count: usize) -> Corpus {
    let source = Source {
        agents: &root().join("assets/data/test/user-agents.json"),
        keyring: &keyring(),
        now: NOW,
        seed: 1,
    };
    Corpus::make(&source, count).unwrap()
}

fn parse_all(corpus: &Corpus) -> &'static [Received] {
    corpus.requests.iter().map(parse).collect::<Vec<_>>().leak()
}

/// Request -> bytes for the spool, with everything permitted, of each event of a load of
/// [`loadtest::trackers`].
fn load_work(name: &str) -> Work {
    let loads = trackers::loads(&corpus(LENDERS), &root().join("tests/recorded")).unwrap();
    let load = loads.iter().find(|load| load.name == name).unwrap();
    let requests = parse_all(&load.corpus);
    let count = HITS / load.events;
    let users = UserKeyring::new(&[(1, vec![5; 32])]);
    let mut bytes = Vec::with_capacity(64 * 1024);
    Box::new(move || {
        let mut events = 0;
        for received in requests.iter().cycle().take(count) {
            events += record(received, &users, &mut bytes);
        }
        assert_eq!(events, HITS);
    })
}

/// Reads a request's events, strips and encodes each. Returns how many there were.
fn record(received: &Received, users: &UserKeyring, bytes: &mut Vec<u8>) -> usize {
    let headers = Headers::read(&received.headers);
    let arrival = Arrival {
        endpoint: received.endpoint,
        at: NOW,
        headers: &headers,
        path: &received.path,
        query: &received.query,
        choice_cookie: CHOICE.into(),
        meta_names: &[],
    };
    let mut record_one = |draft: &mut Draft<'_>| {
        let hit = &mut draft.hit;
        hit.protocol = received.endpoint.spec().protocol;
        hit.permit = Permit::ALL;
        hit.visitor = Some(VisitorId([9; 16]));
        hit.client_ip = Some(received.client_ip);
        hit.user_key = match &*draft.user {
            "" => None,
            user => users.hash(user),
        };
        let personal = Personal {
            site_signs: false,
            user: &draft.user,
            user_key: hit.user_key,
            keep_traits: &[],
        };
        consent::strip_personal(hit, &personal);
        bytes.clear();
        hit.encode(bytes);
        black_box(&*bytes);
    };
    let Some(body) = &received.body else {
        let mut draft = Draft::new(NOW, Kind::PageView);
        protocol::read_into(&arrival, &mut draft).unwrap();
        record_one(&mut draft);
        return 1;
    };
    match protocol::read_body(&arrival, body.as_bytes()).unwrap() {
        Drafts::One(mut draft) => {
            record_one(&mut draft);
            1
        }
        Drafts::Each(events) => events
            .iter()
            .map(|draft| record_one(&mut draft.unwrap()))
            .count(),
    }
}

fn parse(request: &Request) -> Received {
    let (head, body) = request.text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let mut line = lines.next().unwrap().split(' ');
    let (method, target) = (line.next().unwrap(), line.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    });
    Received {
        headers: headers.collect(),
        query: query.to_owned(),
        endpoint: match path {
            "/i.gif" => Endpoint::Impression,
            "/p.gif" => Endpoint::Pixel,
            "/e" => Endpoint::Event,
            "/i" | "/com.snowplowanalytics.snowplow/tp2" => Endpoint::Snowplow,
            "/v1/batch" => Endpoint::Segment,
            "/matomo.php" => Endpoint::Matomo,
            path => panic!("{path} is no endpoint of a load"),
        },
        client_ip: request.client_ip,
        path: path.to_owned(),
        body: (method == "POST").then(|| body.to_owned()),
    }
}

pub(crate) fn tables() -> Tables {
    let rules = |name: &str| root().join("assets/data/rules").join(name);
    let city =
        |family: &str| -> PathBuf { root().join(format!("geoip/data/dbip-city-{family}.mmdb")) };
    let sources = TableFiles {
        city: vec![city("ipv4"), city("ipv6")],
        rules: rules("regexes.json"),
        crawlers: rules("crawlers.json"),
        ..TableFiles::default()
    };
    let (tables, errors) = enrich::load(&sources);
    let missing = errors.iter().find(|error| !error.is_partial());
    assert!(missing.is_none(), "{missing:?}: `make fetch` gets it");
    tables
}
