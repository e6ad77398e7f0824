//! Events of systems without a tracker: Iglu's webhook, `/com.snowplowanalytics.iglu/v1`.
//!
//! | request | events |
//! | --- | --- |
//! | `schema=iglu:…` in the address, no body | one, whose data are the other parameters |
//! | the same and a body of JSON | one for an object, or for each of a list; the object is its data, whole |
//! | the same, or `schema` in it, and a form as the body | one, whose data are the other fields |
//! | no `schema` in the address, a body `{"schema": "iglu:…", "data": …}` | one, or one for each item of `data` |
//!
//! A request is one by what it holds and not by its path, because paths are configurable: it names
//! a schema, and no type of an event (`e`). Each becomes a self-describing event (`e=ue`). The
//! parameters in [`OF_EVENT`] are the event's own, and so are our consent signals.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::event::{Blame, MemberValue, SnowplowEvent, text_of};
use super::pairs;
use crate::protocol::tracker::{Object, Told, Translate};

/// The schema of the envelope that trackers send.
const OF_TRACKERS: &str = "/payload_data/";
/// The member that names the schema.
pub(super) const SCHEMA: &str = "schema";
/// The version of the tracker of these events, as Snowplow's enrichment names it.
const VERSION: &str = "com.snowplowanalytics.iglu-v1";
/// The parameters that are the event's own: Snowplow's, and ours of consent.
const OF_EVENT: [&str; 11] = [
    "aid",
    "cv",
    "eid",
    "nuid",
    "p",
    "ttm",
    "url",
    "gdpr",
    "gdpr_consent",
    "gpp",
    "gpp_sid",
];

/// A parameter, decoded.
type Pair<'p> = (Cow<'p, str>, Cow<'p, str>);

/// What all events of a request have in common.
pub(super) struct Webhook<'r> {
    schema: Cow<'r, str>,
    address: Vec<Pair<'r>>,
    is_anonymous: bool,
}

/// Returns the schema that parameters name. `None` if they are no webhook's.
fn find_schema<'p>(pairs: &'p [Pair<'_>]) -> Option<&'p str> {
    let find = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted);
    let (_, schema) = find(SCHEMA)?;
    (is_schema(schema) && find("e").is_none()).then_some(schema)
}

fn is_schema(text: &str) -> bool {
    text.starts_with("iglu:")
}

/// Returns the schema of a body that describes itself and is no tracker's, from the JSON of its
/// member.
pub(super) fn schema_of_body(json: &str) -> Option<Cow<'_, str>> {
    text_of(json).filter(|schema| is_schema(schema) && !schema.contains(OF_TRACKERS))
}

/// Reads the event in a query string or a form. `None` if it is no webhook's.
pub(super) fn read_pairs(texts: [&str; 2], is_anonymous: bool) -> Option<Result<Told<'_>, Blame>> {
    let all: Vec<Pair<'_>> = texts.into_iter().flat_map(pairs).collect();
    let schema = find_schema(&all)?;
    let mut data = Map::new();
    for (name, text) in &all {
        if !OF_EVENT.contains(&&**name) && name != SCHEMA {
            // The address comes first, and the first counts.
            data.entry(&**name).or_insert_with(|| Value::from(&**text));
        }
    }
    let data = Value::Object(data).to_string();
    let event = Webhook {
        schema: Cow::Owned(schema.to_owned()),
        address: all,
        is_anonymous,
    };
    Some(event.tell(&data))
}

impl<'r> Webhook<'r> {
    /// Returns the webhook that an address names. `None` if it names none.
    pub(super) fn of_address(query: &'r str, is_anonymous: bool) -> Option<Webhook<'r>> {
        let address: Vec<_> = pairs(query).collect();
        let schema = Cow::Owned(find_schema(&address)?.to_owned());
        Some(Webhook {
            schema,
            address,
            is_anonymous,
        })
    }

    /// Returns the webhook of a body that names its schema.
    pub(super) fn of_schema(
        schema: Cow<'r, str>,
        query: &'r str,
        is_anonymous: bool,
    ) -> Webhook<'r> {
        Webhook {
            schema,
            address: pairs(query).collect(),
            is_anonymous,
        }
    }

    /// Returns what an event tells, whose data are given as JSON.
    fn tell(&self, data: &str) -> Result<Told<'r>, Blame> {
        let mut event = SnowplowEvent::new(self.is_anonymous);
        let text = |text: &str| MemberValue::Text(Cow::Owned(text.to_owned()));
        event.put("e".into(), text("ue"))?;
        event.put("tv".into(), text(VERSION))?;
        for (name, value) in &self.address {
            if OF_EVENT.contains(&&**name) {
                event.put(Cow::Owned(name.to_string()), text(value))?;
            }
        }
        let schema = Value::from(&*self.schema);
        let document = format!(r#"{{"data":{{"schema":{schema},"data":{data}}}}}"#);
        event.put("ue_pr".into(), MemberValue::Text(Cow::Owned(document)))?;
        event.finish().map_err(|_| SCHEMA)
    }
}

impl Translate for Webhook<'_> {
    fn translate<'e>(&'e self, text: &'e str) -> Option<Told<'e>> {
        Object::read(text)?;
        self.tell(text).ok()
    }

    fn blame(&self, text: &str) -> &'static str {
        match Object::read(text) {
            Some(_) => self.tell(text).err().unwrap_or_default(),
            None => "",
        }
    }
}
