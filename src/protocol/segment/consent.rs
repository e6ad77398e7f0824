//! What a consent tool put into the context, into the call or around the calls.

use serde_json::Value;

use crate::hit::limits::TRACKER_TOLD_BYTES_MAX;
use crate::protocol::tracker::Object;

/// The members that name categories, in lower case, letters alone.
const PREFERENCES: &str = "categorypreferences";
const ALLOWED: &str = "allowedconsentids";
const DENIED: &str = "deniedconsentids";
/// The members that hold these.
const HOLDERS: [&str; 2] = ["consent", "consentmanagement"];
/// How deep they may stand within each other.
const DEPTH_MAX: usize = 4;
/// The most categories around calls.
const AROUND_MAX: usize = 64;
/// What was agreed to where a list of that is empty: the name of no category.
const NOTHING: &str = "";

/// Returns whether a member holds what a consent tool says, however its name is written.
pub(super) fn is_holder(name: &str) -> bool {
    HOLDERS.iter().any(|holder| is_named(name, holder))
}

/// Returns whether a member names categories.
pub(super) fn is_list_of_categories(name: &str, json: &str) -> bool {
    let is_named_so = [PREFERENCES, ALLOWED, DENIED]
        .iter()
        .any(|list| is_named(name, list));
    is_named_so && json.starts_with(['{', '[', '"'])
}

fn is_named(name: &str, plain: &str) -> bool {
    let letters = name.bytes().filter(u8::is_ascii_alphanumeric);
    letters
        .map(|byte| byte.to_ascii_lowercase())
        .eq(plain.bytes())
}

/// Collects the categories of a holder: an object, a list of objects, or the JSON of one as a text.
pub(super) fn collect_categories(json: &str, categories: &mut Vec<(String, bool)>) {
    collect_within(json, DEPTH_MAX, categories);
}

/// Collects the categories of what stands around calls, which count for each of them. Where that is
/// too much to look through, nothing counts as agreed to.
pub(super) fn collect_around<'b>(holders: impl Iterator<Item = &'b str>) -> Vec<(String, bool)> {
    let mut categories = Vec::new();
    for json in holders {
        if json.len() <= TRACKER_TOLD_BYTES_MAX {
            collect_categories(json, &mut categories);
        }
        if json.len() > TRACKER_TOLD_BYTES_MAX || categories.len() > AROUND_MAX {
            return vec![(NOTHING.to_owned(), false)];
        }
    }
    categories
}

fn collect_within(json: &str, depth_max: usize, categories: &mut Vec<(String, bool)>) {
    let Some(depth_max) = depth_max.checked_sub(1) else {
        return;
    };
    if let Some(Object(members)) = Object::read(json) {
        for (name, json) in members {
            if is_named(&name, PREFERENCES) {
                read_preferences(json, categories);
            } else if is_named(&name, ALLOWED) {
                read_names(json, true, categories);
            } else if is_named(&name, DENIED) {
                read_names(json, false, categories);
            } else if is_holder(&name) {
                collect_within(json, depth_max, categories);
            }
        }
        return;
    }
    match serde_json::from_str(json) {
        Ok(Value::Array(items)) => {
            for item in items {
                collect_within(&item.to_string(), depth_max, categories);
            }
        }
        Ok(Value::String(text)) if is_list(&text) => collect_within(&text, depth_max, categories),
        _ => {}
    }
}

/// Reads whether each category was agreed to. Where none is named, none was.
fn read_preferences(json: &str, categories: &mut Vec<(String, bool)>) {
    let text: Option<String> = serde_json::from_str(json).ok();
    let Some(Object(preferences)) = Object::read(text.as_deref().unwrap_or(json)) else {
        return;
    };
    if preferences.is_empty() {
        categories.push((NOTHING.to_owned(), true));
    }
    let is_agreed = |json: &str| matches!(json, "true" | "\"true\"");
    let preferences = preferences.into_iter();
    categories.extend(preferences.map(|(name, json)| (name.into_owned(), is_agreed(json))));
}

/// Reads the names of the categories that were agreed to, or denied.
fn read_names(json: &str, is_agreed: bool, categories: &mut Vec<(String, bool)>) {
    let mut names = Vec::new();
    match serde_json::from_str(json) {
        Ok(Value::String(text)) if is_list(&text) || !is_agreed => {
            collect_of_text(&text, &mut names);
        }
        Ok(list @ (Value::Array(_) | Value::Object(_))) => collect(&list, &mut names),
        _ => return,
    }
    if names.is_empty() && is_agreed {
        names.push(NOTHING.to_owned());
    }
    categories.extend(names.into_iter().map(|name| (name, is_agreed)));
}

/// Returns whether a member of a device says that ads may not be tailored by its advertising ID:
/// `adTrackingEnabled` with a no, or a status of App Tracking Transparency that refuses.
pub(super) fn limits_ad_tracking(name: &str, json: &str) -> bool {
    let is_switch = is_named(name, "adtrackingenabled");
    let mut statuses = ["trackingstatus", "atttrackingstatus"].iter();
    if !is_switch && !statuses.any(|status| is_named(name, status)) {
        return false;
    }
    let text = serde_json::from_str(json).unwrap_or_else(|_| json.to_owned());
    let text = text.trim().to_ascii_lowercase();
    match is_switch {
        true => {
            matches!(
                &*text,
                "false" | "no" | "n" | "off" | "denied" | "restricted"
            ) || text.parse::<f64>() == Ok(0.0)
        }
        // Its numbers are those of the system: restricted and denied.
        false => matches!(&*text, "denied" | "restricted" | "1" | "2"),
    }
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
