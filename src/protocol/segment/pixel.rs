//! A call in a query string, as RudderStack's pixel has it: `event=Order&properties.total=7`.

use serde_json::{Map, Value};

use super::WRITE_KEY;
use crate::consent::names::means_signal;
use crate::hit::Flags;
use crate::hit::limits::PARAMETERS_READ_MAX;
use crate::protocol::text::decode;
use crate::request::split_pairs;

/// How deep a name may reach: `context.page.url`.
const DEPTH_MAX: usize = 4;

/// Writes the call as JSON. A name with dots is the path of a member.
pub(super) fn write_event(query: &str) -> String {
    let mut event = Map::new();
    let mut flags = Flags::default();
    for (name, value) in split_pairs(query).take(PARAMETERS_READ_MAX) {
        let Some(name) = decode(name, usize::MAX, &mut flags) else {
            continue;
        };
        let value = decode(value, usize::MAX, &mut flags);
        // A macro is no value, but says that a signal was meant.
        if name != WRITE_KEY && (value.is_some() || means_signal(&name)) {
            put(&mut event, &name, &value.unwrap_or_default(), DEPTH_MAX);
        }
    }
    Value::Object(event).to_string()
}

/// Puts a text at the end of a path, if nothing is there.
fn put(object: &mut Map<String, Value>, path: &str, text: &str, depth_max: usize) {
    match path.split_once('.') {
        Some((name, rest)) if depth_max > 1 => {
            let inner = object
                .entry(name)
                .or_insert_with(|| Value::Object(Map::new()));
            match inner {
                Value::Object(inner) => put(inner, rest, text, depth_max - 1),
                // A text stands there already.
                _ => put(object, path, text, 1),
            }
        }
        _ => {
            object.entry(path).or_insert_with(|| Value::from(text));
        }
    }
}
