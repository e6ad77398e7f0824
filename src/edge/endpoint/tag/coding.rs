//! Content codings: which one a client gets (RFC 9110, section 12.5.3), and the compression.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Less than the least weight that a client can give a coding.
const LEAST_WEIGHT: f32 = 0.0001;

/// The form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Brotli,
    Gzip,
    Identity,
}

impl Coding {
    /// Every coding, the smallest result first.
    pub(super) const ALL: [Coding; 3] = [Coding::Brotli, Coding::Gzip, Coding::Identity];

    fn name(self) -> &'static str {
        match self {
            Coding::Brotli => "br",
            Coding::Gzip => "gzip",
            Coding::Identity => "identity",
        }
    }

    /// Returns what `Content-Encoding` says, if anything.
    pub(super) fn header(self) -> Option<HeaderValue> {
        (self != Coding::Identity).then(|| HeaderValue::from_static(self.name()))
    }

    /// Returns whether this is the coding that a client calls `name`.
    fn has_name(self, name: &str) -> bool {
        let is_alias = self == Coding::Gzip && name.eq_ignore_ascii_case("x-gzip");
        is_alias || name.eq_ignore_ascii_case(self.name())
    }

    /// Encodes a body. The same bytes always give the same result: no coding has a time in it.
    pub(super) fn encode(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Coding::Identity => bytes.to_vec(),
            Coding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
                encoder
                    .write_all(bytes)
                    .and_then(|()| encoder.finish())
                    .expect("a vector takes every byte")
            }
            Coding::Brotli => {
                let params = brotli::enc::BrotliEncoderParams {
                    size_hint: bytes.len(),
                    ..Default::default()
                };
                let mut packed = Vec::new();
                brotli::BrotliCompress(&mut &*bytes, &mut packed, &params)
                    .expect("a vector takes every byte");
                packed
            }
        }
    }

    /// Returns the coding that the client prefers; among equals, the smallest. A client that names
    /// none gets the plain form. One that refuses them all gets gzip, which everybody reads.
    pub(super) fn choose_for(headers: &HeaderMap) -> Coding {
        let weights = Coding::ALL.map(|coding| (coding, coding.weight(headers)));
        let acceptable = weights.into_iter().filter(|(_, weight)| *weight > 0.0);
        // Of equals the last one counts as the largest.
        acceptable
            .rev()
            .max_by(|(_, one), (_, other)| one.total_cmp(other))
            .map_or(Coding::Gzip, |(coding, _)| coding)
    }

    /// Returns how much the client wants the coding; 0 if not at all. The plain form is acceptable
    /// unless the client refuses it.
    fn weight(self, headers: &HeaderMap) -> f32 {
        let mut by_wildcard = None;
        for element in elements(headers, header::ACCEPT_ENCODING) {
            let (name, parameter) = element.split_once(';').unwrap_or((element, "q=1"));
            let name = name.trim();
            if self.has_name(name) {
                return parse_weight(parameter);
            }
            if name == "*" {
                by_wildcard = Some(parse_weight(parameter));
            }
        }
        match by_wildcard {
            Some(weight) => weight,
            None if self == Coding::Identity => LEAST_WEIGHT,
            None => 0.0,
        }
    }
}

/// Parses `q=0.5`. A weight that cannot be read counts as 0.
fn parse_weight(parameter: &str) -> f32 {
    let parameter = parameter.trim().to_ascii_lowercase();
    let weight = parameter.strip_prefix("q=").map(str::parse);
    match weight {
        Some(Ok(weight)) if (0.0..=1.0).contains(&weight) => weight,
        _ => 0.0,
    }
}

/// Splits the values of a header that is a list. Our own entity tags have no comma.
pub(super) fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_smallest_coding_that_the_client_wants_most_is_chosen() {
        use Coding::{Brotli, Gzip, Identity};
        for (accept, expected) in [
            ("gzip, deflate, br, zstd", Brotli),
            ("gzip", Gzip),
            ("x-gzip", Gzip),
            ("deflate, GZIP;q=0.5", Gzip),
            ("BR", Brotli),
            ("br;q=0.5, gzip;q=0.8", Gzip),
            ("br;q=0.8, gzip;q=0.8", Brotli),
            ("br ; q=1.0, gzip ; Q=0.8, *;q=0", Brotli),
            ("*", Brotli),
            ("*;q=0.1, identity", Identity),
            ("*;q=0.5, identity;q=0.4", Brotli),
            ("gzip;q=0.001", Gzip),
            ("gzip;q=0, *", Brotli),
            ("br;q=0, gzip;q=0, *", Identity),
            ("*, gzip;q=0.000, br;q=0", Identity),
            ("gzip;q=nan", Identity),
            ("gzip;q=2", Identity),
            ("gzip;q=-1", Identity),
            ("gzip;level=9", Identity),
            ("identity", Identity),
            ("identity;q=1, gzip;q=0.5", Identity),
            ("identity;q=0, gzip", Gzip),
            ("identity;q=0, br;q=0.1", Brotli),
            ("identity;q=0", Gzip),
            ("*;q=0", Gzip),
            ("*;q=0, br", Brotli),
            ("deflate, zstd", Identity),
            ("", Identity),
        ] {
            let value = HeaderValue::from_static(accept);
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]);
            assert_eq!(Coding::choose_for(&headers), expected, "{accept:?}");
        }
        assert_eq!(Coding::choose_for(&HeaderMap::new()), Identity);
    }

    #[test]
    fn a_header_that_is_sent_twice_counts_as_one_list() {
        let values = ["deflate", "br;q=0.1", "gzip"].map(HeaderValue::from_static);
        let headers = values.map(|value| (header::ACCEPT_ENCODING, value));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        assert_eq!(Coding::choose_for(&map), Coding::Gzip);
    }

    #[test]
    fn what_is_encoded_is_decoded_to_the_same() {
        let text = b"a text that is a text that is a text".repeat(20);
        let mut read = Vec::new();
        let packed = Coding::Gzip.encode(&text);
        flate2::read::GzDecoder::new(&*packed)
            .read_to_end(&mut read)
            .expect("gzip");
        assert_eq!(read, text);
        read.clear();
        let packed = Coding::Brotli.encode(&text);
        brotli::BrotliDecompress(&mut &*packed, &mut read).expect("brotli");
        assert_eq!(read, text);
        assert_eq!(Coding::Identity.encode(&text), text);
    }
}
