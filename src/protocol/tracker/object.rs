//! A JSON object of a tracker.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of a JSON object in the order sent, repeated ones included: their names, and values
/// as JSON. Nothing is copied that was not escaped.
#[derive(Debug)]
pub(in crate::protocol) struct Object<'t>(pub(in crate::protocol) Vec<(Cow<'t, str>, &'t str)>);

impl<'t> Object<'t> {
    /// Reads an object. `None` if the text is none, or nested too deep.
    pub(in crate::protocol) fn read(json: &'t str) -> Option<Object<'t>> {
        serde_json::from_str(json).ok()
    }
}

/// A name, borrowed if nothing in it is escaped.
#[derive(Deserialize)]
pub(in crate::protocol) struct Name<'t>(#[serde(borrow)] pub(in crate::protocol) Cow<'t, str>);

/// The members of most events.
const USUAL_MEMBERS: usize = 16;

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(USUAL_MEMBERS);
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &RawValue>()? {
                    members.push((name, value.get()));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}
