//! Client hints as the browser's interface gives them to scripts.

use std::borrow::Cow;

use super::Object;
use crate::protocol::native::{Parameter, write_hint};

/// Puts the hints of an object, such as `navigator.userAgentData`, in their places. Those of
/// headers say the same; what a script asked for may be more.
pub(in crate::protocol) fn read_hints<'e>(
    json: &'e str,
    ours: &mut Vec<(Parameter, Cow<'e, str>)>,
) {
    let Some(Object(mut hints)) = Object::read(json) else {
        return;
    };
    // The first of a hint counts, and these versions are whole.
    hints.sort_by_key(|(name, _)| name != "fullVersionList");
    for (name, value) in hints {
        let parameter = match &*name {
            "fullVersionList" | "brands" => Parameter::Brands,
            "mobile" => Parameter::Mobile,
            "platform" => Parameter::Platform,
            "platformVersion" => Parameter::PlatformVersion,
            "model" => Parameter::Model,
            "formFactors" => Parameter::FormFactors,
            _ => continue,
        };
        if matches!(value, "null" | "\"\"" | "[]") {
            continue;
        }
        let value = match value.starts_with('[') {
            true => Cow::Owned(write_hint(value.to_owned())),
            false => Cow::Borrowed(value),
        };
        ours.push((parameter, value));
    }
}
