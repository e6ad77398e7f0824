//! Callbacks of partners' servers, under the partner's own names.
//!
//! One callback comes as a query, a form or a JSON object; up to 1,000 come as a JSON array. The
//! body may be packed with gzip. The sender is a server: its address, agent and cookies say nothing
//! about the visitor. What it says itself about the visitor's address and agent counts only if the
//! partner is trusted to say it.
//!
//! Whether the partner sent a callback is decided before ([`crate::callback`]).

use std::io::Read as _;

use bytes::Bytes;

use super::native::{self, Reading};
use super::{Arrival, Draft, Drafts};
use crate::callback::names::Fields;
use crate::consent::Signals;
use crate::endpoint::BODY_BYTES_MAX;
use crate::hit::{Hit, Kind};
use crate::refusal::Reason;

/// What the configuration says about the partner that sends.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'p> {
    /// The partner's key.
    pub key: &'p str,
    /// The site of callbacks that name none.
    pub site: &'p str,
    /// What the partner calls things.
    pub fields: Fields<'p>,
    /// Whether the partner may say the visitor's address and agent.
    pub trusts_client: bool,
}

/// Unpacks a body by its `Content-Encoding`. The unpacked body has the same limit as a body as
/// sent.
///
/// # Errors
/// If the encoding is unknown, the body is broken, or it is too large.
pub fn unpack(encoding: Option<&[u8]>, body: Bytes) -> Result<Bytes, Reason> {
    match encoding {
        None | Some(b"identity") => Ok(body),
        Some(b"gzip" | b"x-gzip") => {
            let mut bytes = Vec::new();
            flate2::read::MultiGzDecoder::new(&*body)
                .take(BODY_BYTES_MAX as u64 + 1)
                .read_to_end(&mut bytes)
                .map_err(|_| Reason::BodyBroken)?;
            if bytes.len() > BODY_BYTES_MAX {
                return Err(Reason::BodyTooLarge);
            }
            Ok(bytes.into())
        }
        Some(_) => Err(Reason::ContentType),
    }
}

/// Reads a callback's query and its unpacked body.
///
/// # Errors
/// If the body is of no known type, or neither a form nor JSON.
pub fn read<'r>(
    arrival: &Arrival<'_, 'r>,
    sender: Sender<'r>,
    body: &'r [u8],
) -> Result<Drafts<'r>, Reason> {
    let reading = Reading {
        fields: Some(sender.fields),
        trusts_client: sender.trusts_client,
    };
    let begin = || Draft {
        hit: Hit::new(arrival.at, Kind::Callback, ""),
        signals: Signals::default(),
    };
    match format_of(arrival.headers.content_type, body)? {
        Format::Form(form) => {
            let mut draft = begin();
            native::read_query_and_form(arrival.query, form, reading, &mut draft);
            Ok(Drafts::One(name_sender(draft, sender)))
        }
        Format::Json => {
            let events = native::split_events(body).ok_or(Reason::Json)?;
            let read = events.into_iter().map(|event| {
                let mut draft = begin();
                native::read_query(arrival.query, reading, &mut draft);
                if native::read_event(event, reading, &mut draft) {
                    Ok(name_sender(draft, sender))
                } else {
                    Err(Reason::Json)
                }
            });
            Ok(Drafts::Each(read.collect()))
        }
    }
}

/// Puts the partner into a draft, and its site where the callback names none.
fn name_sender<'r>(mut draft: Draft<'r>, sender: Sender<'r>) -> Draft<'r> {
    draft.hit.partner = sender.key.into();
    if draft.hit.site.is_empty() {
        draft.hit.site = sender.site.into();
    }
    draft
}

enum Format<'b> {
    Json,
    Form(&'b str),
}

/// Tells a body's format by its type or, where there is none, by how the body begins. An empty body
/// is an empty form.
fn format_of<'b>(content_type: Option<&str>, body: &'b [u8]) -> Result<Format<'b>, Reason> {
    let form = || {
        str::from_utf8(body)
            .map(Format::Form)
            .map_err(|_| Reason::BodyBroken)
    };
    let media_type = content_type.unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let is = |known: &str| media_type.eq_ignore_ascii_case(known);
    if body.is_empty() {
        return Ok(Format::Form(""));
    }
    if is("application/json") || is("text/json") {
        return Ok(Format::Json);
    }
    if is("application/x-www-form-urlencoded") {
        return form();
    }
    if !media_type.is_empty() && !is("text/plain") {
        return Err(Reason::ContentType);
    }
    if matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
        return Ok(Format::Json);
    }
    form()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_what_its_type_says_and_without_one_what_it_begins_with() {
        let format = |content_type, body| {
            format_of(content_type, body).map(|format| matches!(format, Format::Json))
        };
        for (content_type, body, is_json) in [
            (None, &b""[..], Ok(false)),
            (Some("application/json"), b"", Ok(false)),
            (Some("application/json"), b"a=1", Ok(true)),
            (Some("text/JSON; charset=utf-8"), b"a=1", Ok(true)),
            (Some("application/x-www-form-urlencoded"), b"{}", Ok(false)),
            (None, b" [", Ok(true)),
            (Some("text/plain"), b"{}", Ok(true)),
            (Some("text/plain"), b"ev=win", Ok(false)),
            (Some("text/html"), b"{}", Err(Reason::ContentType)),
            (None, b"ev=\xff", Err(Reason::BodyBroken)),
        ] {
            assert_eq!(format(content_type, body), is_json, "{content_type:?}");
        }
    }

    #[test]
    fn a_body_has_its_limit_unpacked_too() {
        use std::io::Write as _;
        let pack = |bytes: &[u8]| {
            let mut packed =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            packed.write_all(bytes).expect("a vector takes all");
            Bytes::from(packed.finish().expect("a vector takes all"))
        };
        let fits = pack(&vec![b'a'; BODY_BYTES_MAX]);
        assert_eq!(
            unpack(Some(b"gzip"), fits.clone()).map(|body| body.len()),
            Ok(BODY_BYTES_MAX)
        );
        let too_large = pack(&vec![b'a'; BODY_BYTES_MAX + 1]);
        assert_eq!(unpack(Some(b"gzip"), too_large), Err(Reason::BodyTooLarge));
        let cut = fits.slice(..fits.len() / 2);
        assert_eq!(unpack(Some(b"x-gzip"), cut), Err(Reason::BodyBroken));
        assert_eq!(unpack(Some(b"br"), fits), Err(Reason::ContentType));
    }
}
