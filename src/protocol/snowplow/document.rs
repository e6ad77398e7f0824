//! The documents of an event: JSON that names its schema, `{"schema": "iglu:…", "data": …}`. What
//! happened is one in an envelope of its own, the contexts are a list in one.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::event::{SnowplowEvent, text_of};
use crate::protocol::native::{Parameter, write_hint};
use crate::protocol::tracker::Object;
use crate::protocol::tracker::plain::{skip_blanks, skip_items, skip_members, take_value};

/// The vendor of Snowplow's own schemas.
const SNOWPLOW: &str = "com.snowplowanalytics.snowplow";
/// The vendor of the schema of client hints.
const IETF: &str = "org.ietf";

/// The contexts of most events.
const USUAL_CONTEXTS: usize = 8;

/// Base64 as trackers write it: with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The same with the characters of URLs, as most trackers write it.
const URL_BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes Base64, with the characters of URLs or without them. `None` if it is none, or no text.
pub(super) fn decode_base64(text: &str) -> Option<String> {
    // Most have nothing in them but the characters of URLs, so the others are looked for only where
    // that fails.
    if let Ok(bytes) = URL_BASE64.decode(text) {
        return String::from_utf8(bytes).ok();
    }
    let standard = |byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        // What a plus in a query string is read as.
        b' ' => b'+',
        byte => byte,
    };
    let mut bytes: Vec<u8> = text.bytes().map(standard).collect();
    // Some programs write one in lines.
    bytes.retain(|byte| !matches!(byte, b'\r' | b'\n'));
    String::from_utf8(BASE64.decode(bytes).ok()?).ok()
}

/// What a document is in, or a list of them.
#[derive(Deserialize)]
struct Wrapped<Data> {
    data: Data,
}

/// A document.
#[derive(Deserialize)]
struct RawDocument<'t> {
    #[serde(borrow)]
    schema: &'t RawValue,
    #[serde(borrow)]
    data: &'t RawValue,
}

/// A document.
struct Document<'t> {
    /// The URI of its schema, as JSON.
    schema: &'t str,
    /// What it says, as JSON.
    data: &'t str,
}

impl<'t> From<RawDocument<'t>> for Document<'t> {
    fn from(raw: RawDocument<'t>) -> Document<'t> {
        Document {
            schema: raw.schema.get(),
            data: raw.data.get(),
        }
    }
}

impl<'t> Document<'t> {
    /// Takes the document that a text begins with. Returns it, and what follows.
    fn take(text: &'t str) -> Option<(Document<'t>, &'t str)> {
        let (mut schema, mut data) = (None, None);
        let after = skip_members(text, |name, rest| {
            let (value, after) = take_value(rest)?;
            let known = match name {
                "schema" => &mut schema,
                "data" => &mut data,
                _ => return Some(after),
            };
            // One that is said twice is none.
            known.replace(value).is_none().then_some(after)
        })?;
        let (schema, data) = (schema?, data?);
        Some((Document { schema, data }, after))
    }

    fn write(&self, out: &mut String) {
        for piece in ["{\"schema\":", self.schema, ",\"data\":", self.data, "}"] {
            out.push_str(piece);
        }
    }
}

/// Returns what `take` finds in the `data` of an object around it, said once.
fn unwrap<'t, T>(text: &'t str, take: impl Fn(&'t str) -> Option<(T, &'t str)>) -> Option<T> {
    let mut found = None;
    let after = skip_members(skip_blanks(text), |name, rest| {
        let (value, after) = match name {
            "data" => take(rest)?,
            _ => return Some(take_value(rest)?.1),
        };
        found.replace(value).is_none().then_some(after)
    })?;
    skip_blanks(after).is_empty().then_some(found).flatten()
}

/// Takes the list of documents that a text begins with.
fn take_list(text: &str) -> Option<(Vec<Document<'_>>, &str)> {
    let mut list = Vec::with_capacity(USUAL_CONTEXTS);
    let after = skip_items(text, |item| {
        let (document, after) = Document::take(item)?;
        list.push(document);
        Some(after)
    })?;
    Some((list, after))
}

/// Returns the document in an envelope. serde reads what is written in a rare way.
fn document_in(text: &str) -> Option<Document<'_>> {
    let with_serde = || {
        let wrapped: Wrapped<RawDocument<'_>> = serde_json::from_str(text).ok()?;
        Some(wrapped.data.into())
    };
    unwrap(text, Document::take).or_else(with_serde)
}

/// Returns the documents of the list in an envelope.
fn documents_in(text: &str) -> Option<Vec<Document<'_>>> {
    let with_serde = || {
        let wrapped: Wrapped<Vec<RawDocument<'_>>> = serde_json::from_str(text).ok()?;
        Some(wrapped.data.into_iter().map(Document::from).collect())
    };
    unwrap(text, take_list).or_else(with_serde)
}

/// Returns the vendor and the name in the URI of a schema: `iglu:VENDOR/NAME/FORMAT/VERSION`.
fn names_of(uri: &str) -> Option<(&str, &str)> {
    let mut parts = uri.strip_prefix("iglu:")?.split('/');
    let (vendor, name) = (parts.next()?, parts.next()?);
    (!vendor.is_empty() && !name.is_empty()).then_some((vendor, name))
}

/// What happened, in its own words.
pub(super) struct Happened {
    /// The document as JSON.
    pub(super) json: String,
    /// The name of its schema, as JSON.
    pub(super) name: String,
    /// Which part of the document is about consent and understood.
    pub(super) understood: Option<Range<usize>>,
    /// Whether it says that the visitor refuses.
    pub(super) refuses: bool,
}

/// Reads the document that says what happened. `None` if it cannot be read.
pub(super) fn read_happened(text: &str) -> Option<Happened> {
    let document = document_in(text)?;
    let uri = text_of(document.schema)?;
    let (vendor, name) = names_of(&uri)?;
    let mut json = String::with_capacity(text.len());
    document.write(&mut json);
    Some(Happened {
        refuses: refuses((vendor, name), document.data),
        understood: is_of_consent(vendor, name).then_some(0..json.len()),
        json,
        name: serde_json::to_string(name).ok()?,
    })
}

/// Returns whether a document of that schema is about consent, and says nothing that permits or
/// forbids: it records on which basis a page acts, or what became of a dialogue.
fn is_of_consent(vendor: &str, name: &str) -> bool {
    const OF_CONSENT: [&str; 5] = [
        "consent_document",
        "consent_granted",
        "consent_preferences",
        "consent_withdrawn",
        "gdpr",
    ];
    vendor == SNOWPLOW && OF_CONSENT.contains(&name)
}

/// Returns whether a document of that schema says that the visitor refuses all or agrees no more.
fn refuses((vendor, name): (&str, &str), data: &str) -> bool {
    #[derive(Deserialize)]
    struct Dialogue<'t> {
        #[serde(borrow, rename = "eventType")]
        event_type: Option<Cow<'t, str>>,
        all: Option<bool>,
    }
    let is_told = vendor == SNOWPLOW && matches!(name, "consent_preferences" | "consent_withdrawn");
    if !is_told {
        return false;
    }
    let Ok(dialogue) = serde_json::from_str::<Dialogue<'_>>(data) else {
        return false;
    };
    match name {
        "consent_withdrawn" => dialogue.all == Some(true),
        _ => matches!(
            dialogue.event_type.as_deref(),
            Some("deny_all" | "withdrawn" | "expired")
        ),
    }
}

/// The contexts of an event.
#[derive(Default)]
pub(super) struct Contexts {
    /// The list as JSON without its last bracket; empty if there are none.
    json: String,
    /// Which parts of it are about consent and understood.
    understood: Vec<Range<usize>>,
}

impl Contexts {
    /// Adds the contexts of a list, and puts what they say of a hit into the event. `None` if the
    /// list cannot be read.
    pub(super) fn read(&mut self, text: &str, event: &mut SnowplowEvent<'_>) -> Option<()> {
        let list = documents_in(text)?;
        self.json.reserve(text.len());
        for document in list {
            let uri = text_of(document.schema)?;
            self.json.push(if self.json.is_empty() { '[' } else { ',' });
            let start = self.json.len();
            document.write(&mut self.json);
            if let Some((vendor, name)) = names_of(&uri) {
                if is_of_consent(vendor, name) {
                    self.understood.push(start..self.json.len());
                }
                event.note_refusal(refuses((vendor, name), document.data));
                event.read_context((vendor, name), document.data);
            }
        }
        Some(())
    }

    /// Returns the list as JSON, and which parts of it are understood. `None` if there are none.
    pub(super) fn finish(mut self) -> Option<(String, Vec<Range<usize>>)> {
        if self.json.is_empty() {
            return None;
        }
        self.json.push(']');
        Some((self.json, self.understood))
    }
}

impl SnowplowEvent<'_> {
    /// Puts what a context says of a hit in its place.
    fn read_context(&mut self, schema: (&str, &str), data: &str) {
        let places: &[(&str, Place)] = match schema {
            (SNOWPLOW, "web_page") => &[("id", Place::PageView)],
            (SNOWPLOW, "client_session") => &[
                ("userId", Place::Later(Parameter::DeviceId)),
                ("sessionId", Place::Later(Parameter::Session)),
            ],
            (SNOWPLOW, "mobile_context") => &[
                ("appleIdfa", Place::Now(Parameter::Maid)),
                ("androidIdfa", Place::Now(Parameter::Maid)),
                ("appleIdfv", Place::Last(Parameter::DeviceId)),
                ("appSetId", Place::Last(Parameter::DeviceId)),
                ("deviceModel", Place::Now(Parameter::Model)),
                ("osType", Place::Platform),
                ("osVersion", Place::Now(Parameter::PlatformVersion)),
            ],
            (SNOWPLOW, "desktop_context") => &[
                ("deviceModel", Place::Now(Parameter::Model)),
                ("osType", Place::Platform),
                ("osVersion", Place::Now(Parameter::PlatformVersion)),
            ],
            (IETF, "http_client_hints") => &[
                ("isMobile", Place::Now(Parameter::Mobile)),
                ("brands", Place::Brands),
                ("model", Place::Now(Parameter::Model)),
                ("platform", Place::Now(Parameter::Platform)),
                ("platformVersion", Place::Now(Parameter::PlatformVersion)),
            ],
            _ => return,
        };
        let members = Object::read(data).map_or_else(Vec::new, |Object(members)| members);
        for (name, json) in members {
            let place = places.iter().find(|(known, _)| *known == name);
            if let Some((_, place)) = place {
                self.put_at(*place, json);
            }
        }
    }

    fn put_at(&mut self, place: Place, json: &str) {
        // An empty text is no value, and must not stand in the way of another.
        if matches!(json, "null" | "\"\"") {
            return;
        }
        match place {
            Place::PageView => self.further.push(("page_view_id", json.to_owned())),
            Place::Now(parameter) => self.put_ours(parameter, json.to_owned().into()),
            Place::Later(parameter) => self.later.push((parameter, json.to_owned())),
            Place::Last(parameter) => self.last.push((parameter, json.to_owned())),
            Place::Brands => self.put_ours(Parameter::Brands, write_hint(json.to_owned()).into()),
            Place::Platform => {
                let Some(text) = text_of(json) else {
                    return;
                };
                // Client hints write them so.
                let known = ["Android", "iOS", "macOS", "Windows", "Linux"];
                let known = known.iter().find(|name| text.eq_ignore_ascii_case(name));
                let json = known.map_or_else(|| json.to_owned(), |name| format!("\"{name}\""));
                self.put_ours(Parameter::Platform, json.into());
            }
        }
    }
}

/// Where a member of a context belongs.
#[derive(Clone, Copy)]
enum Place {
    /// Among the further parameters.
    PageView,
    /// In the hit.
    Now(Parameter),
    /// In the hit, unless the event itself says it.
    Later(Parameter),
    /// In the hit, if nothing else says it.
    Last(Parameter),
    /// Among the hints: a list.
    Brands,
    /// Among the hints: the operating system.
    Platform,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn documents_are_those_that_serde_finds(
            parts in proptest::collection::vec(
                proptest::sample::select(&[
                    "{", "}", "[", "]", ",", "\"schema\":", "\"iglu:a/b/jsonschema/1-0-0\"", "\"data\":",
                    "\"data\":[", "{\"schema\":\"iglu:a/b/c/1\",\"data\":{}}", "{\"x\":1,\"data\":2,\"schema\":3}",
                    "{\"data\":1,\"schema\":2,\"data\":3}", "\"x\":[1]", " ", "null", "]}", "{\"data\":",
                    "{\"data\":[",
                ][..]),
                0..9,
            )
        ) {
            let text = parts.concat();
            let pair = |document: Document<'_>| (document.schema.to_owned(), document.data.to_owned());
            if let Some(document) = unwrap(&text, Document::take) {
                let wrapped: Wrapped<RawDocument<'_>> = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(pair(document), pair(wrapped.data.into()));
            }
            if let Some(list) = unwrap(&text, take_list) {
                let wrapped: Wrapped<Vec<RawDocument<'_>>> = serde_json::from_str(&text).unwrap();
                let expected: Vec<_> = wrapped.data.into_iter().map(|raw| pair(raw.into())).collect();
                prop_assert_eq!(list.into_iter().map(pair).collect::<Vec<_>>(), expected);
            }
        }
    }
}
