//! The calls of the SDKs of Segment and RudderStack.
//!
//! A call has its path (`/v1/track`) or is one of a batch, and is refused alone if it has no type
//! that is known, or neither of its two IDs. What has a place of its own goes there; properties go
//! to `params` under their own names, traits as `traits`, and what is left of the context as
//! `context`. Write keys only tell the site: none is stored.

mod call;
mod consent;
mod context;
mod pixel;

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::native;
use super::text::decode;
use super::tracker::{Envelope, Told, Translate, read_time};
use super::{Arrival, Drafts};
use crate::clock::UnixMicros;
use crate::consent::names::means_signal;
use crate::hit::Flags;
use crate::refusal::Reason;
use crate::request::{Headers, raw_value};
use call::Type;

/// The paths at which signals are members of the call that a query tells.
pub(super) const OWN_NAMES: [&str; 8] = [
    "context.gdpr",
    "context.gdpr_consent",
    "context.gpp",
    "context.gpp_sid",
    "properties.gdpr",
    "properties.gdpr_consent",
    "properties.gpp",
    "properties.gpp_sid",
];
/// The name of the write key in bodies and queries.
const WRITE_KEY: &str = "writeKey";

/// Reads the call in a query string.
pub(super) fn read<'r>(arrival: &Arrival<'_, 'r>) -> Result<Told<'r>, Reason> {
    let calls = Calls::of(arrival);
    let event = pixel::write_event(arrival.query);
    let told = calls.translate(&event).ok_or(Reason::Json)?;
    Ok(told.into_owned())
}

/// Reads the calls in a body.
pub(super) fn read_body<'r>(
    arrival: &Arrival<'_, 'r>,
    body: &'r [u8],
) -> Result<Drafts<'r>, Reason> {
    let mut calls = Calls::of(arrival);
    let list = match last_segment(arrival.path) {
        "batch" | "b" | "import" => calls.open_batch(body),
        // What an SDK says about itself.
        "m" => (&b"[]"[..], Vec::new()),
        _ => (body, Vec::new()),
    };
    native::read_tracker(arrival, (list.0, &list.1), Box::new(calls))
}

fn last_segment(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// What the calls of one request have in common.
struct Calls {
    /// The type that the path gives.
    r#type: Option<Type>,
    write_key: String,
    sent_at: Option<UnixMicros>,
    /// The categories that a consent tool named around them.
    categories: Vec<(String, bool)>,
}

impl Calls {
    fn of(arrival: &Arrival<'_, '_>) -> Calls {
        Calls {
            r#type: Type::of_segment(last_segment(arrival.path)),
            write_key: write_key(arrival.headers, arrival.query),
            sent_at: None,
            categories: Vec::new(),
        }
    }

    /// Takes what a batch says for all its calls. Returns the calls, and what stands around them.
    fn open_batch<'b>(&mut self, body: &'b [u8]) -> (&'b [u8], Vec<(String, &'b str)>) {
        let Some(envelope) = Envelope::open(body, "batch") else {
            return (body, Vec::new());
        };
        self.sent_at = envelope.member("sentAt").and_then(read_time);
        let holders = envelope.members.iter();
        let holders = holders.filter(|(name, _)| name == "context" || consent::is_holder(name));
        self.categories = consent::collect_around(holders.map(|(_, json)| *json));
        if self.write_key.is_empty() {
            self.write_key = envelope
                .member(WRITE_KEY)
                .map(read_text)
                .unwrap_or_default();
        }
        match envelope.events {
            // One call where a batch belongs.
            b"" => match envelope.member("batch") {
                Some(call) => (call.as_bytes(), envelope.members),
                None => (body, Vec::new()),
            },
            events => (events, envelope.members),
        }
    }
}

impl Translate for Calls {
    fn translate<'e>(&'e self, event: &'e str) -> Option<Told<'e>> {
        call::translate(self, event)
    }

    fn blame(&self, event: &str) -> &'static str {
        call::blame(self, event)
    }
}

/// Returns the write key that a request names beside its body; empty if it names none.
pub(crate) fn write_key(headers: &Headers<'_>, query: &str) -> String {
    let of_query = || {
        let raw = raw_value(query, WRITE_KEY)?;
        decode(raw, usize::MAX, &mut Flags::default()).map(Cow::into_owned)
    };
    let of_header = basic_user(headers.authorization);
    of_header.or_else(of_query).unwrap_or_default()
}

/// Returns a text that is given as JSON; nothing if it is none.
fn read_text(json: &str) -> String {
    serde_json::from_str(json).unwrap_or_default()
}

/// Returns the user name of basic authentication (RFC 7617), which is where SDKs put write keys.
fn basic_user(authorization: &[u8]) -> Option<String> {
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let (scheme, token) = authorization.split_at_checked(b"Basic ".len())?;
    let decoded = scheme
        .eq_ignore_ascii_case(b"Basic ")
        .then(|| BASE64.decode(token.trim_ascii()).ok())
        .flatten()?;
    let user = decoded.split(|byte| *byte == b':').next()?;
    let user = str::from_utf8(user).ok()?;
    (!user.is_empty()).then(|| user.to_owned())
}

/// Returns whether a value says nothing under its name.
fn is_empty(name: &str, json: &str) -> bool {
    match json {
        "null" => true,
        "{}" | "[]" | "\"\"" => !means_signal(name),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
