//! What the tag sends in forms of its own: the page's fields, which go to `params` whatever their
//! names, and client hints as the browser's interface gives them.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;

use super::HitReader;
use super::json::{
    meaning_at_end, meaning_of, members_of, scalar_text, string_or_json, text_that_may_hide,
};
use super::json_text::{FoundText, is_clean_scalar, leading_scalar, leading_value, write_clean};
use super::parameter::Parameter;
use crate::consent::names::{Meaning, is_of_consent, objects, refuses_tracking};
use crate::hit::limits::TEXT_BYTES_MAX;
use crate::hit::{Flags, Kind};
use crate::protocol::text::{clean, may_hide};

/// The member of an event that holds the page's fields.
const FIELDS: &str = "params";
/// The parameter of a pixel that holds a whole event.
pub(super) const EVENT: &str = "json";

impl HitReader<'_, '_, '_> {
    /// Takes the page's fields out of an event's members and puts them in their places. Returns
    /// false if one is nested too deep.
    pub(super) fn read_fields(&mut self, members: &mut Vec<(String, String)>) -> bool {
        if self.notes.kind == Kind::Callback {
            return true;
        }
        let is_fields = |(name, json): &(String, String)| name == FIELDS && json.starts_with('{');
        let Some(at) = members.iter().position(is_fields) else {
            return true;
        };
        let (_, object) = members.remove(at);
        let names_event =
            |(name, json): &(String, String)| name == "e" && !matches!(&**json, "\"\"" | "null");
        let is_event = members.iter().any(names_event);
        let mut flags = Flags::default();
        let mut leave_out = |name: &str, json: &str| self.leave_out(name, json);
        let fields = members_of(&object, &mut flags, &mut leave_out).unwrap_or_default();
        self.draft.hit.flags.set(flags);
        fields
            .into_iter()
            .filter(|(_, json)| json != "null")
            .all(|(name, json)| self.read_field(Cow::Owned(name), &json, is_event, &[]))
    }

    /// Puts one field in its place. Those that were parameters when fields and parameters stood
    /// side by side, and that cannot be mistaken, still are: consent signals, and the address of a
    /// page view that a page sends itself.
    ///
    /// What stands in the `understood` bytes of the value makes no consent unclear.
    pub(super) fn read_field(
        &mut self,
        name: Cow<'_, str>,
        json: &str,
        is_event: bool,
        understood: &[Range<usize>],
    ) -> bool {
        let flags = &mut self.draft.hit.flags;
        let name = clean(name, TEXT_BYTES_MAX, flags);
        let parameter = Parameter::from_name(&name);
        // It proves who somebody is to whoever reads it.
        if parameter == Some(Parameter::UserSig) {
            return true;
        }
        let is_address = matches!(parameter, Some(Parameter::PageUrl | Parameter::Referrer));
        if parameter.is_some_and(Parameter::is_signal) || (is_address && !is_event && is_url(json))
        {
            let mut value = scalar_text(&name, json, json, flags);
            self.put(&name, parameter, &mut value);
            return true;
        }
        let mut is_unclear =
            meaning_at_end(&name).is_some_and(|meaning| is_meant(&name, meaning, json));
        if is_clean_scalar(json) {
            self.params.push(&name, |out| out.push_str(json), flags);
            self.draft.signals.is_unclear |= is_unclear;
            if may_hide(json) {
                self.note_hidden(None, Some(&string_or_json(json)));
            }
            return true;
        }
        let (mut text, mut texts) = (String::with_capacity(json.len()), Vec::new());
        let is_unknown = |at: usize| !understood.iter().any(|range| range.contains(&at));
        let mut note = |found| match found {
            FoundText::Member {
                name,
                is_escaped,
                rest,
                ..
            } => {
                if let Some(meaning) = meaning_of(name, is_escaped) {
                    let value = match meaning {
                        Meaning::Objection | Meaning::AppTracking => leading_value(rest),
                        _ => leading_scalar(rest),
                    };
                    is_unclear |=
                        is_unknown(json.len() - rest.len()) && is_meant(name, meaning, value);
                }
            }
            FoundText::Text { inner, is_escaped } => {
                if let Some(text) = text_that_may_hide(inner, is_escaped)
                    && is_unknown(inner.as_ptr().addr() - json.as_ptr().addr())
                {
                    texts.push(text);
                }
            }
        };
        if !write_clean(json, &mut text, flags, &mut note) {
            return false;
        }
        self.params.push(&name, |out| out.push_str(&text), flags);
        self.draft.signals.is_unclear |= is_unclear;
        if json.starts_with('"') {
            texts.push(string_or_json(json));
        }
        for text in texts {
            self.note_hidden(None, Some(&text));
        }
        true
    }
}

/// Returns whether a field of that meaning and value says something of consent. A page's own fields
/// may have partners and sites of their own.
pub(super) fn is_meant(name: &str, meaning: Meaning, value: &str) -> bool {
    match meaning {
        Meaning::Signal => value != "null",
        Meaning::Objection => name.rsplit('.').next() != Some("lat") && objects(value),
        Meaning::ConsentString => is_of_consent(value),
        Meaning::AppTracking => refuses_tracking(value),
        Meaning::Partner | Meaning::Site => false,
    }
}

fn is_url(json: &str) -> bool {
    json.starts_with("\"https://") || json.starts_with("\"http://")
}

/// Returns the parameter of a client hint.
pub(super) fn name_hint(hint: &str) -> Cow<'static, str> {
    match hint {
        "platformVersion" => Cow::Borrowed("ch_platform_version"),
        "formFactors" => Cow::Borrowed("ch_form_factors"),
        hint => Cow::Owned(format!("ch_{hint}")),
    }
}

/// Writes a list of texts, or of brands with their versions, as a header has it; as JSON. Returns
/// any other value as it is.
pub(in crate::protocol) fn write_hint(json: String) -> String {
    let Ok(items) = serde_json::from_str::<Vec<Value>>(&json) else {
        return json;
    };
    let items = items.iter().filter_map(|item| match item {
        Value::String(text) => Some(format!("\"{text}\"")),
        Value::Object(brand) => {
            let text = |name: &str| brand.get(name)?.as_str();
            Some(format!("\"{}\";v=\"{}\"", text("brand")?, text("version")?))
        }
        _ => None,
    });
    let list = items.collect::<Vec<_>>().join(", ");
    Value::String(list).to_string()
}
