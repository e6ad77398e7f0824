//! A request's body: read whole within its limits of size, time and memory, unpacked, and read as
//! text.

use std::error::Error;
use std::io::Read;
use std::ops::Deref;

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Frame, Incoming};

use super::Exchange;
use crate::edge::transport::memory::{MemoryClaim, Shortage};
use crate::edge::{Refusal, Worker};
use crate::endpoint::BODY_TIME_MAX;
use crate::refusal::Reason;

/// The memory that is in use while a body is read, beside its own: the header of its request, and
/// what hyper reads into.
const READING_BYTES: usize = 16 * 1024;
/// How many bodies give way to one, at most.
const GIVING_WAY_MAX: u32 = 3;
/// How many times as large as packed a body may be unpacked. Events that are alike come to 10 to 30
/// times.
const UNPACKED_TIMES_MAX: usize = 50;
/// How much is unpacked before other connections have their turn, in bytes.
const UNPACKING_BYTES: u64 = 64 * 1024;
/// The same for text in UTF-16, in characters.
const UTF16_UNITS: usize = 16 * 1024;

/// Why hyper gives no further piece of a body.
type BodyError = Box<dyn Error + Send + Sync>;

/// What a body packed with gzip begins with (RFC 1952, section 2.3.1).
const GZIP: &[u8] = &[0x1f, 0x8b];

/// A body, and the memory that it takes.
pub(crate) struct ReceivedBody {
    bytes: Vec<u8>,
    /// The most that it may have, packed or not.
    bytes_max: usize,
    claim: MemoryClaim,
}

impl Deref for ReceivedBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads the body of a request, up to what its endpoint accepts and the memory for bodies holds.
pub(crate) async fn read(exchange: &Exchange<'_>, body: Incoming) -> Result<ReceivedBody, Refusal> {
    let bytes_max = exchange.endpoint.spec().body_bytes_max;
    // A body that says how long it is need not be read to be too long.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Refusal(Reason::BodyTooLarge));
    }
    let worker = exchange.worker;
    let mut body = Arriving {
        worker,
        header_bytes: exchange.line.header_bytes,
        incoming: Limited::new(body, bytes_max),
        bytes_max,
        bytes: Vec::new(),
        claim: worker.memory.claim_body(exchange.client),
    };
    let copied = tokio::time::timeout(BODY_TIME_MAX, body.copy()).await;
    copied.map_err(|_| Refusal(Reason::BodySlow))??;
    Ok(ReceivedBody {
        bytes: body.bytes,
        bytes_max,
        claim: body.claim,
    })
}

/// A body that is being read.
struct Arriving<'w> {
    worker: &'w Worker,
    header_bytes: usize,
    incoming: Limited<Incoming>,
    bytes_max: usize,
    bytes: Vec<u8>,
    claim: MemoryClaim,
}

impl Arriving<'_> {
    /// Copies the body's bytes. A piece as it arrived, even one byte, would keep the whole buffer
    /// that it was read into.
    async fn copy(&mut self) -> Result<(), Refusal> {
        self.claim(READING_BYTES.max(self.header_bytes)).await?;
        while let Some(frame) = self.next_frame().await? {
            let frame = frame.map_err(|error| {
                let is_long = error.is::<LengthLimitError>();
                Refusal(if is_long {
                    Reason::BodyTooLarge
                } else {
                    Reason::BodyBroken
                })
            })?;
            if let Ok(data) = frame.into_data() {
                self.make_room(data.len()).await?;
                self.bytes.extend_from_slice(&data);
            }
        }
        Ok(())
    }

    /// Waits for the next piece; while it has not come, the body may have to give way.
    async fn next_frame(&mut self) -> Result<Option<Result<Frame<Bytes>, BodyError>>, Refusal> {
        if let Some(frame) = self.incoming.frame().now_or_never() {
            return Ok(frame);
        }
        let arrival = self.worker.arrivals.add();
        tokio::select! {
            biased;
            frame = self.incoming.frame() => Ok(frame),
            () = arrival.wait_to_give_way() => Err(Refusal(Reason::Crowded)),
        }
    }

    /// Makes room for more bytes, twice as much as there was if that is not too much.
    async fn make_room(&mut self, bytes: usize) -> Result<(), Refusal> {
        let (length, capacity) = (self.bytes.len(), self.bytes.capacity());
        let needed = length + bytes;
        if needed > capacity {
            let announced = self.incoming.size_hint().upper();
            let announced = announced.and_then(|left| usize::try_from(left).ok());
            let most = announced.map_or(self.bytes_max, |left| needed.saturating_add(left));
            let room = needed.max(2 * capacity).min(most.max(needed));
            self.claim(room - capacity).await?;
            self.bytes.reserve_exact(room - length);
        }
        Ok(())
    }

    /// Claims memory. Where all is in use, the bodies that have been arriving for the longest time
    /// give way.
    async fn claim(&mut self, bytes: usize) -> Result<(), Refusal> {
        let mut claimed = self.claim.grow(bytes);
        for _ in 0..GIVING_WAY_MAX {
            if claimed != Err(Shortage::OfAll) || !self.worker.arrivals.give_way() {
                break;
            }
            // Its own task lets go of it.
            tokio::task::yield_now().await;
            claimed = self.claim.grow(bytes);
        }
        claimed.map_err(|_| Refusal(Reason::Crowded))
    }
}

impl ReceivedBody {
    /// Unpacks a body by its `Content-Encoding`, and turns UTF-16 into UTF-8. A body that begins as
    /// gzip's do is unpacked whatever the header says, since a beacon cannot set it; JSON that is
    /// not packed after all stays as it is. The unpacked body has the same limit as a body as sent,
    /// and at most [`UNPACKED_TIMES_MAX`] times its size.
    pub(crate) async fn unpack(self, encoding: &[u8]) -> Result<ReceivedBody, Refusal> {
        let encoding = encoding.trim_ascii().to_ascii_lowercase();
        let body = match &*encoding {
            b"" | b"identity" if !self.starts_with(GZIP) => self,
            b"gzip" | b"x-gzip" | b"deflate"
                if self.starts_with(b"{") || self.starts_with(b"[") =>
            {
                self
            }
            b"" | b"identity" | b"gzip" | b"x-gzip" => {
                let bytes_max = self.unpacked_bytes_max();
                self.replace(async |packed| unpack_by(MultiGzDecoder::new(packed), bytes_max).await)
                    .await?
            }
            b"deflate" if is_zlib(&self) => {
                let bytes_max = self.unpacked_bytes_max();
                self.replace(async |packed| unpack_by(ZlibDecoder::new(packed), bytes_max).await)
                    .await?
            }
            b"deflate" => {
                let bytes_max = self.unpacked_bytes_max();
                self.replace(async |packed| unpack_by(DeflateDecoder::new(packed), bytes_max).await)
                    .await?
            }
            _ => return Err(Refusal(Reason::ContentType)),
        };
        if !is_utf16(&body) {
            return Ok(body);
        }
        let bytes_max = body.bytes_max;
        body.replace(async |text| read_utf16(text, bytes_max).await)
            .await
    }

    fn unpacked_bytes_max(&self) -> usize {
        self.bytes_max
            .min(UNPACKED_TIMES_MAX.saturating_mul(self.len()))
    }

    /// Puts other bytes in the place of these, and claims the memory for them.
    async fn replace(
        mut self,
        make: impl AsyncFnOnce(&[u8]) -> Result<Vec<u8>, Refusal>,
    ) -> Result<ReceivedBody, Refusal> {
        let made = make(&self.bytes).await?;
        let more = made.len().saturating_sub(self.bytes.len());
        self.bytes = made;
        let claimed = self.claim.grow(more);
        claimed.map_err(|_| Refusal(Reason::Crowded))?;
        Ok(self)
    }
}

/// Returns whether packed bytes begin with the header of zlib (RFC 1950, section 2.2), which some
/// senders leave out.
fn is_zlib(packed: &[u8]) -> bool {
    let [method, check, ..] = *packed else {
        return false;
    };
    method & 0x0f == 8 && u16::from_be_bytes([method, check]) % 31 == 0
}

/// Unpacks a piece at a time; other connections have their turn in between.
async fn unpack_by(mut decoder: impl Read, bytes_max: usize) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = (&mut decoder).take(UNPACKING_BYTES);
        let read = piece.read_to_end(&mut bytes);
        let read = read.map_err(|_| Refusal(Reason::BodyBroken))?;
        if bytes.len() > bytes_max {
            return Err(Refusal(Reason::BodyTooLarge));
        }
        if read == 0 {
            return Ok(bytes);
        }
        tokio::task::yield_now().await;
    }
}

/// Returns whether a text is in UTF-16, which its byte order mark tells.
fn is_utf16(body: &[u8]) -> bool {
    body.starts_with(&[0xff, 0xfe]) || body.starts_with(&[0xfe, 0xff])
}

/// Reads a text in UTF-16. What is no character becomes U+FFFD.
async fn read_utf16(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, Refusal> {
    let (mark, rest) = body.split_at_checked(2).unwrap_or((body, b""));
    let read = match mark {
        [0xff, _] => u16::from_le_bytes,
        _ => u16::from_be_bytes,
    };
    let units = rest.as_chunks::<2>().0.iter().map(|unit| read(*unit));
    let mut text = String::new();
    for (at, character) in char::decode_utf16(units).enumerate() {
        text.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
        if at % UTF16_UNITS == UTF16_UNITS - 1 {
            if text.len() > bytes_max {
                return Err(Refusal(Reason::BodyTooLarge));
            }
            tokio::task::yield_now().await;
        }
    }
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;
    use crate::edge::transport::memory::Memory;
    use crate::endpoint::BODY_BYTES_MAX;

    fn pack(bytes: &[u8]) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(bytes).expect("a vector takes all");
        packed.finish().expect("a vector takes all")
    }

    async fn unpack(encoding: &str, bytes: &[u8]) -> Result<Vec<u8>, Reason> {
        let memory = Arc::new(Memory::new(64 << 20));
        let body = ReceivedBody {
            bytes: bytes.to_vec(),
            bytes_max: BODY_BYTES_MAX,
            claim: memory.claim_body(Ipv4Addr::LOCALHOST.into()),
        };
        let unpacked = body.unpack(encoding.as_bytes()).await;
        unpacked
            .map(|body| body.to_vec())
            .map_err(|Refusal(reason)| reason)
    }

    /// Returns bytes that gzip makes about a third of.
    fn hex(bytes: usize) -> Vec<u8> {
        let mut random = 1_u64;
        let digits = (0..bytes).map(|_| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            b"0123"[usize::try_from(random >> 62).expect("two bits")]
        });
        digits.collect()
    }

    #[tokio::test]
    async fn a_body_has_its_limit_unpacked_too() {
        let fits = pack(&hex(BODY_BYTES_MAX));
        let length = unpack("gzip", &fits).await.map(|body| body.len());
        assert_eq!(length, Ok(BODY_BYTES_MAX));
        let too_large = pack(&hex(BODY_BYTES_MAX + 1));
        assert_eq!(unpack("gzip", &too_large).await, Err(Reason::BodyTooLarge));
        let cut = &fits[..fits.len() / 2];
        assert_eq!(unpack("x-gzip", cut).await, Err(Reason::BodyBroken));
        assert_eq!(unpack("br", &fits).await, Err(Reason::ContentType));
    }

    #[tokio::test]
    async fn a_body_that_grows_more_than_fifty_times_is_refused() {
        let bomb = pack(&vec![b'a'; 400 * 1024]);
        assert!(bomb.len() < 1024, "{}", bomb.len());
        assert_eq!(unpack("gzip", &bomb).await, Err(Reason::BodyTooLarge));
        let events = (0..1000).map(|number| format!("{{\"site\":\"a\",\"price\":{number}}}"));
        let events = events.collect::<Vec<_>>().join(",");
        assert!(unpack("gzip", &pack(events.as_bytes())).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_is_unpacked_by_what_it_is() {
        let text = b"{\"site\":\"a\"}".to_vec();
        let mut deflated = ZlibEncoder::new(Vec::new(), Compression::default());
        deflated.write_all(&text).expect("a vector takes all");
        let deflated = deflated.finish().expect("a vector takes all");
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
        raw.write_all(&text).expect("a vector takes all");
        let raw = raw.finish().expect("a vector takes all");
        for (encoding, body) in [
            ("", text.clone()),
            ("identity", text.clone()),
            ("GZIP ", pack(&text)),
            ("", pack(&text)),
            ("gzip", text.clone()),
            ("deflate", deflated),
            ("deflate", raw),
            ("deflate", text.clone()),
        ] {
            assert_eq!(
                unpack(encoding, &body).await,
                Ok(text.clone()),
                "{encoding}"
            );
        }
        let units = || "\u{feff}{\"site\":\"a\"}".encode_utf16();
        let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
        for body in [little, big] {
            assert_eq!(unpack("", &body).await, Ok(text.clone()));
        }
    }
}
