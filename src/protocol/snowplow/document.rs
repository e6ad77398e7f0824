//! The documents of an event: JSON that names its schema, `{"schema": "iglu:…", "data": …}`. What
//! happened is one in an envelope of its own, the contexts are a list in one.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::ops::Range;
use std::{fmt, mem};

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::event::{SnowplowEvent, text_of};
use crate::protocol::native::{Parameter, write_hint};
use crate::protocol::tracker::{Name, Object, json_of};

/// The vendor of Snowplow's own schemas.
const SNOWPLOW: &str = "com.snowplowanalytics.snowplow";
/// The vendor of the schema of client hints.
const IETF: &str = "org.ietf";

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

/// A document, or what one is in, or a list of them.
struct Wrapped<'t, Data> {
    /// The URI of its schema, as JSON; that of what documents are in is not looked at.
    schema: Option<&'t RawValue>,
    /// What it says.
    data: Data,
    /// What stands beside these and has no place there, as the members of a JSON object.
    others: String,
}

/// A document.
type Document<'t> = Wrapped<'t, &'t RawValue>;

impl<'de, Data: Deserialize<'de>> Deserialize<'de> for Wrapped<'de, Data> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<Data>(PhantomData<Data>);
        impl<'de, Data: Deserialize<'de>> Visitor<'de> for Members<Data> {
            type Value = Wrapped<'de, Data>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a document")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut schema, mut data, mut others) = (None, None, String::new());
                while let Some(Name(name)) = map.next_key()? {
                    match &*name {
                        "schema" if schema.is_none() => schema = Some(map.next_value()?),
                        "data" if data.is_none() => data = Some(map.next_value()?),
                        other => {
                            let value: &RawValue = map.next_value()?;
                            others.push(if others.is_empty() { '{' } else { ',' });
                            others.push_str(&json_of(other));
                            others.push(':');
                            others.push_str(value.get());
                        }
                    }
                }
                Ok(Wrapped {
                    schema,
                    data: data.ok_or_else(|| A::Error::missing_field("data"))?,
                    others,
                })
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

impl<Data> Wrapped<'_, Data> {
    /// Adds what stands beside schema and data to what is dropped.
    fn drop_others(&mut self, dropped: &mut Vec<String>) {
        if !self.others.is_empty() {
            self.others.push('}');
            dropped.push(mem::take(&mut self.others));
        }
    }
}

impl Document<'_> {
    fn write(&self, schema: &str, out: &mut String) {
        let data = self.data.get();
        for piece in ["{\"schema\":", schema, ",\"data\":", data, "}"] {
            out.push_str(piece);
        }
    }
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
    /// What stands beside the document's schema and data, each as JSON.
    pub(super) dropped: Vec<String>,
}

/// Reads the document that says what happened. `None` if it cannot be read.
pub(super) fn read_happened(text: &str) -> Option<Happened> {
    let mut outer: Wrapped<'_, Document<'_>> = serde_json::from_str(text).ok()?;
    let mut dropped = Vec::new();
    outer.drop_others(&mut dropped);
    let mut document = outer.data;
    document.drop_others(&mut dropped);
    let schema = document.schema?.get();
    let uri = text_of(schema)?;
    let (vendor, name) = names_of(&uri)?;
    let mut json = String::with_capacity(text.len());
    document.write(schema, &mut json);
    Some(Happened {
        refuses: refuses((vendor, name), document.data.get()),
        understood: is_of_consent(vendor, name).then_some(0..json.len()),
        json,
        name: json_of(name),
        dropped,
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
    let is_told = vendor == SNOWPLOW && matches!(name, "consent_preferences" | "consent_withdrawn");
    if !is_told {
        return false;
    }
    // Of several, one that refuses counts. A query can only carry text.
    let members = Object::read(data).map(|Object(members)| members);
    members.into_iter().flatten().any(|(member, json)| {
        let text = text_of(json).unwrap_or(Cow::Borrowed(json));
        let is_one_of = |words: &[&str]| {
            let letters = text.bytes().filter(u8::is_ascii_alphanumeric);
            let plain: Vec<u8> = letters.map(|byte| byte.to_ascii_lowercase()).collect();
            words.iter().any(|word| word.as_bytes() == plain)
        };
        match (name, &*member) {
            ("consent_withdrawn", "all") => is_one_of(&["true", "1", "yes"]),
            ("consent_preferences", "eventType") => is_one_of(&["denyall", "withdrawn", "expired"]),
            _ => false,
        }
    })
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
        let mut list: Wrapped<'_, Vec<Document<'_>>> = serde_json::from_str(text).ok()?;
        self.json.reserve(text.len());
        let mut dropped = Vec::new();
        list.drop_others(&mut dropped);
        for mut document in list.data {
            document.drop_others(&mut dropped);
            let schema = document.schema?.get();
            let uri = text_of(schema)?;
            self.json.push(if self.json.is_empty() { '[' } else { ',' });
            let start = self.json.len();
            document.write(schema, &mut self.json);
            if let Some((vendor, name)) = names_of(&uri) {
                if is_of_consent(vendor, name) {
                    self.understood.push(start..self.json.len());
                }
                event.note_refusal(refuses((vendor, name), document.data.get()));
                event.read_context((vendor, name), document.data.get());
            }
        }
        event.drop_values(dropped);
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
