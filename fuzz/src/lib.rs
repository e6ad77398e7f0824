//! What bytes from outside may do: one function for each place where they come in. Each takes any
//! bytes and panics where a promise does not hold, not only where the code under it panics.
//!
//! `make fuzz` gives them to libFuzzer. The integration tests compile this file too, and feed each
//! target its corpus and mutations of it.

mod address;
mod chunk;
mod click;
mod consent;
mod cookie;
mod mmdb;
mod plain;
mod request;
mod sound;
mod tracker;

pub use address::address;
pub use chunk::chunk;
pub use click::click;
pub use consent::consent;
pub use cookie::cookie;
pub use mmdb::mmdb;
pub use plain::plain;
pub use request::{event, headers, hit, query, system};
pub use tracker::{matomo, segment, snowplow, tracker};

/// Takes any bytes; panics where a promise does not hold.
pub type Target = fn(&[u8]);

/// Each target under the name of its corpus.
pub const TARGETS: [(&str, Target); 16] = [
    ("address", address),
    ("chunk", chunk),
    ("click", click),
    ("consent", consent),
    ("cookie", cookie),
    ("event", event),
    ("headers", headers),
    ("hit", hit),
    ("matomo", matomo),
    ("mmdb", mmdb),
    ("plain", plain),
    ("query", query),
    ("segment", segment),
    ("snowplow", snowplow),
    ("system", system),
    ("tracker", tracker),
];

/// Headers as a client may send them: one a line, `name: value`. What is no header is left out, for
/// the HTTP parser does not let it through.
fn header_map(lines: &[u8]) -> hyper::HeaderMap {
    use hyper::header::{HeaderMap, HeaderName, HeaderValue};
    let mut map = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n').take(100) {
        let colon = line.iter().position(|byte| *byte == b':');
        let Some((name, value)) = colon.and_then(|at| line.split_at_checked(at)) else {
            continue;
        };
        let name = HeaderName::from_bytes(name);
        let value = HeaderValue::from_bytes(value[1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            map.append(name, value);
        }
    }
    map
}
