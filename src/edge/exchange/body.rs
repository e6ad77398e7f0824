//! A request's body: read whole within its limits of size and time, unpacked, and read as text.

use std::error::Error;
use std::io::Read;

use bytes::{Bytes, BytesMut};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};

use crate::edge::Refusal;
use crate::endpoint::{BODY_BYTES_MAX, BODY_TIME_MAX, Endpoint};
use crate::refusal::Reason;

/// What a body packed with gzip begins with (RFC 1952, section 2.3.1).
const GZIP: &[u8] = &[0x1f, 0x8b];

/// Reads the body of a request for `endpoint`, up to what the endpoint accepts.
pub(crate) async fn read(endpoint: Endpoint, body: Incoming) -> Result<Bytes, Refusal> {
    let bytes_max = endpoint.spec().body_bytes_max;
    // A body that says how long it is need not be read to be too long.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Refusal(Reason::BodyTooLarge));
    }
    match tokio::time::timeout(BODY_TIME_MAX, copy(Limited::new(body, bytes_max))).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal(Reason::BodyTooLarge)),
        Ok(Err(_)) => Err(Refusal(Reason::BodyBroken)),
        Err(_) => Err(Refusal(Reason::BodySlow)),
    }
}

/// Copies a body's bytes. A piece as it arrived, even one byte, would keep the whole buffer that it
/// was read into.
async fn copy(mut body: Limited<Incoming>) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// Unpacks a body by its `Content-Encoding`, and turns UTF-16 into UTF-8. A body that begins as
/// gzip's do is unpacked whatever the header says, since a beacon cannot set it; JSON that is not
/// packed after all stays as it is. The unpacked body has the same limit as a body as sent.
pub(crate) fn unpack(encoding: &[u8], body: Bytes) -> Result<Bytes, Refusal> {
    let encoding = encoding.trim_ascii().to_ascii_lowercase();
    let body = match &*encoding {
        b"" | b"identity" if !body.starts_with(GZIP) => body,
        b"gzip" | b"x-gzip" if body.starts_with(b"{") || body.starts_with(b"[") => body,
        b"" | b"identity" | b"gzip" | b"x-gzip" => unpack_by(MultiGzDecoder::new(&*body))?,
        b"deflate" => unpack_by(ZlibDecoder::new(&*body))?,
        _ => return Err(Refusal(Reason::ContentType)),
    };
    Ok(read_utf16(&body).map_or(body, Bytes::from))
}

fn unpack_by(decoder: impl Read) -> Result<Bytes, Refusal> {
    let mut bytes = Vec::new();
    decoder
        .take(BODY_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|_| Refusal(Reason::BodyBroken))?;
    if bytes.len() > BODY_BYTES_MAX {
        return Err(Refusal(Reason::BodyTooLarge));
    }
    Ok(bytes.into())
}

/// Reads a text in UTF-16, which its byte order mark tells. What is no character becomes U+FFFD.
fn read_utf16(body: &[u8]) -> Option<String> {
    let (rest, read): (_, fn([u8; 2]) -> u16) = match body {
        [0xff, 0xfe, rest @ ..] => (rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => (rest, u16::from_be_bytes),
        _ => return None,
    };
    let units: Vec<u16> = rest
        .as_chunks::<2>()
        .0
        .iter()
        .map(|unit| read(*unit))
        .collect();
    Some(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    fn pack(bytes: &[u8]) -> Bytes {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(bytes).expect("a vector takes all");
        Bytes::from(packed.finish().expect("a vector takes all"))
    }

    #[test]
    fn a_body_has_its_limit_unpacked_too() {
        let fits = pack(&vec![b'a'; BODY_BYTES_MAX]);
        assert_eq!(
            unpack(b"gzip", fits.clone()).map(|body| body.len()),
            Ok(BODY_BYTES_MAX)
        );
        let too_large = pack(&vec![b'a'; BODY_BYTES_MAX + 1]);
        let refused = |reason| Err(Refusal(reason));
        assert_eq!(unpack(b"gzip", too_large), refused(Reason::BodyTooLarge));
        let cut = fits.slice(..fits.len() / 2);
        assert_eq!(unpack(b"x-gzip", cut), refused(Reason::BodyBroken));
        assert_eq!(unpack(b"br", fits), refused(Reason::ContentType));
    }

    #[test]
    fn a_body_is_unpacked_by_what_it_is() {
        let text = Bytes::from_static(b"{\"site\":\"a\"}");
        let mut deflated = ZlibEncoder::new(Vec::new(), Compression::default());
        deflated.write_all(&text).expect("a vector takes all");
        let deflated = Bytes::from(deflated.finish().expect("a vector takes all"));
        for (encoding, body) in [
            ("", text.clone()),
            ("identity", text.clone()),
            ("GZIP ", pack(&text)),
            ("", pack(&text)),
            ("gzip", text.clone()),
            ("deflate", deflated),
        ] {
            assert_eq!(
                unpack(encoding.as_bytes(), body),
                Ok(text.clone()),
                "{encoding}"
            );
        }
        let units = || "\u{feff}{\"site\":\"a\"}".encode_utf16();
        let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
        for body in [little, big] {
            assert_eq!(unpack(b"", body.into()), Ok(text.clone()));
        }
    }
}
