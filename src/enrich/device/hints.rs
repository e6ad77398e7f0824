//! What each client hint says.
//!
//! Sources: <https://wicg.github.io/ua-client-hints/>; for Windows, Microsoft's "Detect Windows 11
//! using User-Agent Client Hints".

use super::DeviceClass;

/// Returns the class by `Sec-CH-UA-Form-Factors`. A device may state several: the most particular
/// counts.
pub(super) fn class(form_factors: &str) -> Option<DeviceClass> {
    [
        ("Watch", DeviceClass::Watch),
        ("Automotive", DeviceClass::Car),
        ("XR", DeviceClass::Other),
        ("Tablet", DeviceClass::Tablet),
        ("EInk", DeviceClass::Tablet),
        ("Mobile", DeviceClass::Phone),
        ("Desktop", DeviceClass::Desktop),
    ]
    .into_iter()
    .find(|(word, _)| {
        form_factors
            .split(',')
            .any(|stated| unquote(stated).eq_ignore_ascii_case(word))
    })
    .map(|(_, class)| class)
}

/// Returns the OS by `Sec-CH-UA-Platform`, in the words of the device rules.
pub(super) fn os(platform: &str) -> &str {
    match unquote(platform) {
        "macOS" => "Mac OS X",
        "Chromium OS" => "Chrome OS",
        "Unknown" => "",
        platform => platform,
    }
}

/// Returns the OS version by `Sec-CH-UA-Platform-Version`, "" if that does not tell.
pub(super) fn os_version(os: &str, platform_version: &str) -> String {
    let version = unquote(platform_version);
    if os != "Windows" {
        return short_version(version.split('.'), 3);
    }
    let mut parts = version.split('.').map(|part| part.parse::<u32>());
    let windows = match (parts.next(), parts.next()) {
        (Some(Ok(0)), Some(Ok(1))) => "7",
        (Some(Ok(0)), Some(Ok(2))) => "8",
        (Some(Ok(0)), Some(Ok(3))) => "8.1",
        (Some(Ok(1..=10)), _) => "10",
        (Some(Ok(13..)), _) => "11",
        _ => "",
    };
    windows.to_owned()
}

/// Returns the browser and its version by `Sec-CH-UA`: the brand that is neither the engine's nor
/// made up (`"Not;A=Brand"`, whose punctuation varies), else Chromium.
pub(super) fn browser(brands: &str) -> Option<(&str, String)> {
    let mut engine = None;
    // A made-up brand may hold commas and semicolons, but no quotes: those delimit.
    let mut texts = brands.split('"').skip(1).step_by(2);
    while let (Some(brand), Some(version)) = (texts.next(), texts.next()) {
        let said = (brand, short_version(version.split('.'), 2));
        if brand == "Chromium" {
            engine = Some(said);
        } else if !(brand.is_empty() || is_made_up(brand)) {
            return Some((browser_name(brand), said.1));
        }
    }
    engine
}

/// Returns whether a brand is made up, so that nobody relies on the list: `Not;A=Brand`.
fn is_made_up(brand: &str) -> bool {
    brand.contains("Not") && brand.contains("Brand")
}

/// Returns a brand in the words of the device rules.
fn browser_name(brand: &str) -> &str {
    match brand {
        "Google Chrome" => "Chrome",
        "Microsoft Edge" => "Edge",
        "Microsoft Edge WebView2" => "Edge WebView2",
        "Android WebView" => "Chrome Mobile WebView",
        "YaBrowser" | "Yandex" => "Yandex Browser",
        brand => brand,
    }
}

/// Returns the model by `Sec-CH-UA-Model`, if it can stand in a user agent.
pub(super) fn model(model: &str) -> &str {
    /// Longer than any model known to the device rules.
    const MODEL_BYTES_MAX: usize = 64;
    let model = unquote(model);
    let fits = model.len() <= MODEL_BYTES_MAX
        && !model.contains(|c: char| c.is_control() || "();".contains(c));
    if fits && model != "K" { model } else { "" }
}

/// Joins at most `parts_max` parts by dots, without zeros at the end: `17.0` and `17` are one
/// version, and a browser that states its major version only is the same as in its hints.
pub(super) fn short_version<'a>(parts: impl Iterator<Item = &'a str>, parts_max: usize) -> String {
    let mut parts: Vec<&str> = parts
        .take_while(|part| !part.is_empty())
        .take(parts_max)
        .collect();
    while parts.last().is_some_and(|part| *part == "0") {
        parts.pop();
    }
    parts.join(".")
}

fn unquote(text: &str) -> &str {
    text.trim().trim_matches('"').trim()
}
