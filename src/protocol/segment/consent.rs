//! What a consent tool put into the context.

use serde::Deserialize;

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
        ALLOWED => true,
        DENIED => false,
        _ => return false,
    };
    let Some(names) = read_names(json) else {
        return false;
    };
    categories.extend(names.into_iter().map(|name| (name, is_agreed)));
    true
}

/// The names of categories: a list, or lists by the tool that has them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    List(Vec<String>),
    Lists(std::collections::BTreeMap<String, Vec<String>>),
}

fn read_names(json: &str) -> Option<Vec<String>> {
    Some(match serde_json::from_str(json).ok()? {
        Names::List(names) => names,
        Names::Lists(lists) => lists.into_values().flatten().collect(),
    })
}

/// Keeps the agreement to a category only where nothing denies it.
pub(super) fn settle(categories: &mut Vec<(String, bool)>) {
    categories.sort();
    // What is denied comes first.
    categories.dedup_by(|later, first| later.0 == first.0);
}
