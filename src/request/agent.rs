//! User agents that no browser and no app sends.

/// Returns whether a user agent is missing or impossible: one that no honest client sends. An agent
/// that merely looks odd belongs to somebody's app.
pub(crate) fn is_impossible(user_agent: &str) -> bool {
    // Nearly every browser's begins so.
    if user_agent.starts_with("Mozilla/5.0 (") {
        return false;
    }
    let bare = user_agent.trim();
    let is_word = |word: &&str| bare.eq_ignore_ascii_case(word);
    // Products come first (RFC 9110, section 10.1.5), and each begins with a letter or digit.
    !bare.starts_with(|c: char| c.is_ascii_alphanumeric())
        || ["null", "undefined", "unknown", "none", "user-agent", "mozilla"]
            .iter()
            .any(is_word)
        // Every browser says after `Mozilla/5.0` what it runs on; Apple's mail proxies say no more.
        || (bare.starts_with("Mozilla/") && bare != "Mozilla/5.0" && !bare.contains('('))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_sender_is_called_is_impossible_and_apps_are_not() {
        for user_agent in [
            "",
            " ",
            "-",
            "null",
            "Undefined",
            "Mozilla/4.0 ",
            "Mozilla/5.0 Gecko",
            "${USER_AGENT}",
            "[DEVICEUA]",
            "%%USER_AGENT%%",
            "<script>",
            "\"Mozilla/5.0 (X11)\"",
        ] {
            assert!(is_impossible(user_agent), "{user_agent}");
        }
        for user_agent in [
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15",
            "Mozilla/5.0",
            "okhttp/4.12.0",
            "Telenor/12 CFNetwork/1494 Darwin/23.4.0",
            "Dalvik/2.1.0 (Linux; U; Android 14; SM-S918B)",
            "curl/8.5.0",
            "Roku/DVP-12.5",
            "VLC",
        ] {
            assert!(!is_impossible(user_agent), "{user_agent}");
        }
    }
}
