//! What a consent tool put into the context.

use serde_json::Value;

use crate::protocol::tracker::Object;

/// The members of RudderStack's object that name categories.
const ALLOWED: &str = "allowedConsentIds";
const DENIED: &str = "deniedConsentIds";

/// Takes the categories out of `context.consent`: whether each was agreed to. Returns false for a
/// member that names none.
pub(super) fn read_preferences(
    name: &str,
    json: &str,
    categories: &mut Vec<(String, bool)>,
) -> bool {
    let preferences = match name {
        "categoryPreferences" => Object::read(json),
        _ => None,
    };
    let Some(Object(preferences)) = preferences else {
        return false;
    };
    let is_agreed = |json: &str| matches!(json, "true" | "\"true\"");
    let preferences = preferences.into_iter();
    categories.extend(preferences.map(|(name, json)| (name.into_owned(), is_agreed(json))));
    true
}

/// The same for `context.consentManagement`.
pub(super) fn read_management(
    name: &str,
    json: &str,
    categories: &mut Vec<(String, bool)>,
) -> bool {
    let is_agreed = match name {
        _ if name.eq_ignore_ascii_case(ALLOWED) => true,
        _ if name.eq_ignore_ascii_case(DENIED) => false,
        _ => return false,
    };
    let mut names = Vec::new();
    match serde_json::from_str(json) {
        Ok(Value::String(text)) if is_list(&text) || !is_agreed => {
            collect_of_text(&text, &mut names);
        }
        Ok(list @ (Value::Array(_) | Value::Object(_))) => collect(&list, &mut names),
        _ => return false,
    }
    categories.extend(names.into_iter().map(|name| (name, is_agreed)));
    true
}

fn is_list(text: &str) -> bool {
    text.trim_start().starts_with(['[', '{'])
}

/// Collects names from a text in the place of a list: JSON, or names with commas between them.
fn collect_of_text(text: &str, names: &mut Vec<String>) {
    match serde_json::from_str(text) {
        Ok(list @ (Value::Array(_) | Value::Object(_))) => collect(&list, names),
        _ => {
            let parts = text.split(',').map(str::trim);
            names.extend(parts.filter(|part| !part.is_empty()).map(str::to_owned));
        }
    }
}

/// Collects the names of categories from a list, or from lists by the tool that has them. What is
/// no text is a name all the same: a denial must not get lost.
fn collect(list: &Value, names: &mut Vec<String>) {
    match list {
        Value::Null => {}
        Value::String(name) => names.push(name.clone()),
        Value::Bool(_) | Value::Number(_) => names.push(list.to_string()),
        Value::Array(list) => list.iter().for_each(|json| collect(json, names)),
        Value::Object(lists) => lists.values().for_each(|json| collect(json, names)),
    }
}

/// Keeps the agreement to a category only where nothing denies it.
pub(super) fn settle(categories: &mut Vec<(String, bool)>) {
    categories.sort();
    // What is denied comes first.
    categories.dedup_by(|later, first| later.0 == first.0);
}
