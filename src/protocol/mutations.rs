//! Lists that trackers sent, with one item damaged: the others are read as before. For tests.
//!
//! `AVTRYCK_MUTATIONS` is how many times each list is damaged.

#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

use super::recorded::Recorded;
use crate::endpoint::Endpoint;
use crate::hit::Hit;

/// How many times each list is damaged without that variable.
const MUTATIONS: usize = 1_000;

/// A recording, the endpoint that it was sent to, and the member that has the list.
const LISTS: [(&str, Endpoint, &str); 3] = [
    (
        include_str!("../../tests/recorded/matomo-js-5.2.0-b5-beacon.jsdom.json"),
        Endpoint::Matomo,
        "requests",
    ),
    (
        include_str!("../../tests/recorded/segment-node-3.1.0.json"),
        Endpoint::Segment,
        "batch",
    ),
    (
        include_str!("../../tests/recorded/snowplow-node-4.8.0-post.json"),
        Endpoint::Snowplow,
        "data",
    ),
];

/// Numbers from a seed: SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit.max(1) as u64).unwrap_or_default()
    }
}

/// Changes one to four bytes of an item.
fn damage(item: &[u8], random: &mut Random) -> Vec<u8> {
    const BYTES: &[u8] = b"\"\\{}[],:\n\x00\xffa0";
    let mut bytes = item.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let byte = BYTES.get(random.below(BYTES.len())).copied();
        match (random.below(3), byte) {
            (0, Some(byte)) => bytes.insert(at, byte),
            (1, Some(byte)) => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|old| *old = byte),
            _ if at < bytes.len() => drop(bytes.remove(at)),
            _ => {}
        }
    }
    bytes
}

/// Returns the hits of a request whose body is replaced, without what is not its own.
fn hits(request: &Recorded, endpoint: Endpoint, body: Vec<u8>) -> Vec<Vec<u8>> {
    let request = request.with_body(body);
    let encode = |hit: &Hit<'_>| {
        let mut bytes = Vec::new();
        hit.encode(&mut bytes);
        bytes
    };
    let hits = request.drafts(endpoint, |draft| draft.ok().map(|draft| encode(&draft.hit)));
    hits.into_iter().flatten().collect()
}

#[test]
fn a_damaged_item_of_a_list_costs_none_of_the_others() {
    let asked = std::env::var("AVTRYCK_MUTATIONS").ok();
    let mutations = asked
        .and_then(|text| text.parse().ok())
        .unwrap_or(MUTATIONS);
    for (json, endpoint, list) in LISTS {
        let requests = Recorded::all(json);
        let request = requests
            .iter()
            .find(|request| request.items(list).len() > 2)
            .expect("a list");
        let items = request.items(list);
        let (head, tail) = request.around(list);
        let body_of = |items: &[Vec<u8>]| {
            let items = items.join(&b","[..]);
            [head.as_bytes(), &items, tail.as_bytes()].concat()
        };
        let whole: Vec<Vec<u8>> = items.iter().map(|item| item.clone().into_bytes()).collect();
        let expected: Vec<_> = (0..items.len())
            .map(|at| {
                let others = [&whole[..at], &whole[at + 1..]].concat();
                hits(request, endpoint, body_of(&others))
            })
            .collect();
        let mut random = Random(7);
        for _ in 0..mutations {
            let at = random.below(items.len());
            let mut items = whole.clone();
            items[at] = damage(&items[at], &mut random);
            let body = body_of(&items);
            assert_eq!(expected[at].len(), items.len() - 1);
            let read = hits(request, endpoint, body.clone());
            let mut left = read.iter();
            let is_kept = expected[at].iter().all(|hit| left.any(|own| own == hit));
            assert!(is_kept, "{endpoint:?}: {}", body.escape_ascii());
        }
    }
}
