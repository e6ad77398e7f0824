//! What a hit costs the loader, and in all: from the bytes of its request to those for Postgres.
//! What the system does is not among it: to read a socket, to write and read a spool.

use std::hint::black_box;
use std::sync::Arc;

use avtryck::config::Config;
use avtryck::consent::{self, Personal, Strings};
use avtryck::edge::plain::Plain;
use avtryck::hit::{Kind, Permit, VisitorId};
use avtryck::identity::Node;
use avtryck::loader::OfflineLoader;
use avtryck::protocol::{self, Draft};
use avtryck::request::Headers;
use avtryck::segment::snapshot::{
    ShownBySite, ShownSegments, Snapshot, SnapshotWriter, SubjectPrefix, SubjectSegments,
};
use loadtest::corpus::SITE;

use super::parts::{
    CHOICE, HITS, NOW, Received, Work, corpus, identify, keyring, permit_rules, received, request,
    tables, work,
};

/// What is permitted of a hit whose IDs are not tied together and whose visitor is in no segment.
const MEASURED: Permit = Permit::STORE.with(Permit::MEASURE).with(Permit::LOCATE);
/// Batches that differ by their new visitors: as many as a part is run.
const BATCHES: u64 = 3;
/// Visitors who are in segments, and the segments that a page may be told of.
const MEMBERS: u64 = 100_000;
const SEGMENTS: i16 = 12;

/// Payloads -> a batch, with everything permitted, so that ties, sightings and facts for segments
/// are found as well.
pub(crate) fn load_work() -> Work {
    load_with(Permit::ALL)
}

/// Payloads -> a batch of rows alone.
pub(crate) fn load_rows_work() -> Work {
    load_with(MEASURED)
}

fn load_with(permit: Permit) -> Work {
    let batches: Vec<Vec<Vec<u8>>> = (0..BATCHES).map(|batch| payloads(permit, batch)).collect();
    let mut turns = (0..batches.len()).cycle();
    let mut loader = loader();
    Box::new(move || {
        for payload in &batches[turns.next().unwrap()] {
            loader.push(payload);
        }
        assert_eq!(loader.make().unwrap(), (HITS, 0));
    })
}

fn payloads(permit: Permit, batch: u64) -> Vec<Vec<u8>> {
    let keyring = keyring();
    let payload = |(number, received): (u64, &'static Received)| {
        let mut hit = request(received).hit;
        hit.permit = permit;
        hit.client_ip = Some(received.client_ip);
        let headers = Headers::read(&received.headers);
        hit.visitor = Some(identify(&keyring, &headers, new_visitor(batch, number)));
        let mut bytes = Vec::new();
        hit.encode(&mut bytes);
        bytes
    };
    (0..).zip(received()).map(payload).collect()
}

fn loader() -> OfflineLoader {
    OfflineLoader::new(tables(), &[SITE], NOW).unwrap()
}

/// A visitor that the others do not resemble.
fn new_visitor(batch: u64, number: u64) -> VisitorId {
    let half = |number: u64| number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let high = half(batch << 32 | number);
    VisitorId((u128::from(high) << 64 | u128::from(half(high))).to_be_bytes())
}

/// The bytes of a request -> a batch: what a hit costs the edge and the loader together, but for
/// what the system does.
pub(crate) fn hit_work() -> Work {
    let config = Config::parse("[[site]]\nkey = \"shop\"\n", []).unwrap();
    let (keyring, rules, strings) = (keyring(), permit_rules(), Strings::default());
    let requests = corpus(HITS).requests;
    let mut loader = loader();
    let mut bytes = Vec::with_capacity(64 * 1024);
    let mut run = 0;
    Box::new(move || {
        run += 1;
        for (number, request) in (0..).zip(&requests) {
            let (plain, _) = Plain::read(&config, request.text.as_bytes()).unwrap();
            let arrival = plain.arrival(NOW, CHOICE);
            let mut draft = Draft::new(NOW, Kind::PageView);
            protocol::read_into(&arrival, &mut draft).unwrap();
            let hit = &mut draft.hit;
            (hit.permit, hit.consent_source) =
                consent::decide(&draft.signals, &rules, hit.kind, &strings);
            if hit.permit.allows(Permit::STORE) {
                let new = new_visitor(run, number);
                hit.visitor = Some(identify(&keyring, arrival.headers, new));
            }
            hit.client_ip = Some(request.client_ip);
            consent::strip_personal(hit, &Personal::default());
            bytes.clear();
            hit.encode(&mut bytes);
            loader.push(&bytes);
        }
        let (rows, rejected) = loader.make().unwrap();
        assert!(rows > HITS / 2 && rejected == 0, "{rows} rows");
    })
}

/// Visitor -> the segments that a page is told of. Every second visitor is in some.
pub(crate) fn segments_work() -> Work {
    let mut members: Vec<SubjectSegments> = (0..MEMBERS)
        .map(|number| {
            let prefix = SubjectPrefix::of(Node(new_visitor(0, number).0));
            let segments = (0..SEGMENTS).filter(|segment| number >> segment & 1 == 1);
            (prefix, segments.collect())
        })
        .collect();
    members.sort();
    let mut writer = SnapshotWriter::new(Arc::<Snapshot>::default());
    for of_part in members.chunk_by(|(one, _), (next, _)| one.part() == next.part()) {
        writer.replace(of_part[0].0.part(), of_part);
    }
    let segments = (0..SEGMENTS).map(|number| (number, format!("segment-{number}")));
    let shown = ShownSegments {
        segments: segments.collect(),
    };
    let snapshot = Arc::clone(writer.snapshot());
    snapshot.show(ShownBySite::from([(SITE.to_owned(), shown)]));
    let nodes = (0..HITS as u64).map(|number| Node(new_visitor(number % 2, number).0));
    work(nodes.collect::<Vec<_>>().leak(), move |node| {
        black_box(snapshot.answer(SITE, [*node]));
    })
}
