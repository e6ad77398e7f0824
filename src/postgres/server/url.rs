//! Reads the URL of the operator's Postgres. Nothing in it is ignored: an option that is unknown,
//! has no use here or comes twice is a mistake, with its name. An error says nothing else of the
//! URL, which may hold a password.

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;

/// The options that a URL may have after its `?`. What they mean is what the same ones of
/// Postgres's own programs mean.
const OPTIONS: [&str; 16] = [
    "application_name",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "sslmode",
    "target_session_attrs",
    "tcp_user_timeout",
];

/// The one that is also named before the `@`.
const USER: &str = "user";

/// Parses a URL.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence about it.
pub(super) fn parse(url: &str) -> Result<Config, String> {
    let known = check_options(url)?;
    let config: Config = url.parse().map_err(|_| match find_unreadable(&known) {
        Some(name) => format!("has a value for {name} that cannot be read"),
        None => "has a part that cannot be read, such as a port".to_owned(),
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("names no host".to_owned());
    }
    Ok(config)
}

/// Returns the names and values of the options, as they stand.
fn check_options(url: &str) -> Result<Vec<(String, &str)>, String> {
    let (before, query) = split(url);
    let user = before.split_once("://").map_or("", |(_, rest)| rest);
    let user = user.split_once('@').map_or("", |(user, _)| user);
    let user = user.split(':').next().unwrap_or_default();
    if query.contains('@') || user.contains(['/', '?']) {
        return Err("has an @ among its options or in its password; %40 would be one".to_owned());
    }
    let mut known = Vec::new();
    let mut seen: Vec<String> = name_parts(before).map(str::to_owned).collect();
    let query = query.strip_suffix('&').unwrap_or(query);
    for option in query.split('&').filter(|_| !query.is_empty()) {
        let name = option.split('=').next().unwrap_or_default();
        let name = percent_decode_str(name).decode_utf8_lossy().into_owned();
        let value = option.split_once('=').map(|(_, value)| value);
        let is_known = OPTIONS.contains(&name.as_str()) || name == USER;
        if !is_known {
            return Err(format!(
                "has the option {}, which is not known; known are {}, {USER}",
                shown(&name),
                OPTIONS.join(", ")
            ));
        }
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return Err(format!("has the option {name} without a value"));
        };
        if seen.contains(&name) {
            return Err(format!("has {name} twice"));
        }
        if name == "sslmode" && !["disable", "prefer"].contains(&value) {
            return Err(format!(
                "has sslmode={}, and connections to Postgres are not encrypted; disable and prefer \
                 are known",
                shown(value)
            ));
        }
        seen.push(name.clone());
        known.push((name, value));
    }
    Ok(known)
}

/// Splits a URL at the `?` after its host, as the client does: whatever stands before the first `@`
/// is a user and a password.
fn split(url: &str) -> (&str, &str) {
    let host = url.find('@').unwrap_or(0);
    let rest = url.get(host..).unwrap_or_default();
    let at = rest.find('?').map_or(url.len(), |at| host + at);
    let (before, query) = url.split_at(at);
    (before, query.trim_start_matches('?'))
}

/// Names the options that the part before the `?` sets.
fn name_parts(before: &str) -> impl Iterator<Item = &'static str> {
    let rest = before.split_once("://").map_or("", |(_, rest)| rest);
    let (user, place) = rest.split_once('@').unwrap_or(("", rest));
    let (host, name) = place.split_once('/').unwrap_or((place, ""));
    [
        (USER, !user.is_empty()),
        ("password", user.contains(':')),
        ("host", !host.is_empty()),
        // The client takes the standard one where a host comes without a port.
        ("port", !host.is_empty()),
        ("dbname", !name.is_empty()),
    ]
    .into_iter()
    .filter_map(|(name, is_set)| is_set.then_some(name))
}

/// Returns a word as far as it may be shown, which is not a secret by its looks.
fn shown(word: &str) -> &str {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    match word {
        "" => "(no name)",
        word if word.len() <= 40 && word.bytes().all(is_word) => word,
        _ => "(a strange name)",
    }
}

/// Finds the option whose value the client cannot read.
fn find_unreadable<'o>(options: &'o [(String, &str)]) -> Option<&'o str> {
    let unreadable = options.iter().find(|(name, value)| {
        format!("postgres://?{name}={value}")
            .parse::<Config>()
            .is_err()
    });
    unreadable.map(|(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_that_is_known_is_taken_alone_and_with_the_others() {
        let value = |name: &str| match name {
            "hostaddr" => "127.0.0.1",
            "load_balance_hosts" => "disable",
            "sslmode" => "prefer",
            "target_session_attrs" => "read-write",
            "application_name" | "dbname" | "host" | "options" | "password" | "user" => "a%40b",
            _ => "1",
        };
        let pair = |name: &&str| format!("{name}={}", value(name));
        for name in OPTIONS.iter().chain([&USER]) {
            let url = match *name {
                "host" | "port" => format!("postgres://?hostaddr=::1&{}", pair(name)),
                "user" | "password" => format!("postgres://a/?{}", pair(name)),
                _ => format!("postgresql://me@a/?{}", pair(name)),
            };
            assert!(parse(&url).is_ok(), "{url} {:?}", parse(&url));
        }
        let all: Vec<String> = OPTIONS.iter().chain([&USER]).map(pair).collect();
        let config = parse(&format!("postgres://?{}", all.join("&"))).expect("a URL");
        assert_eq!(config.get_application_name(), Some("a@b"));
        for url in [
            "postgres://a,b:6432/x?",
            "postgres://me:hu?sh@db/x?port=1&",
            "postgres://[::1]",
        ] {
            let sound = url != "postgres://me:hu?sh@db/x?port=1&";
            assert_eq!(parse(url).is_ok(), sound, "{url} {:?}", parse(url));
        }
    }

    #[test]
    fn what_is_unknown_or_comes_twice_is_named_and_nothing_secret_is() {
        for (url, why) in [
            (
                "a/x?sslcert=/me.pem",
                "the option sslcert, which is not known",
            ),
            ("a/x?SSLMODE=disable", "the option SSLMODE,"),
            ("a/x?ssl=true", "the option ssl,"),
            ("a/x?currentSchema=hush", "the option currentSchema,"),
            ("a/x?ApplicationName=a", "the option ApplicationName,"),
            ("a/x?application%5Fname2=a", "the option application_name2,"),
            ("a/x?sslnegotiation=direct", "the option sslnegotiation,"),
            ("a/x?channel_binding=require", "the option channel_binding,"),
            ("a/x?passfile=hush", "the option passfile,"),
            (
                "a/x?service=s",
                "known are application_name, connect_timeout, dbname",
            ),
            ("a/x?connect_timeout=1&&port=2", "the option (no name),"),
            ("a/x?=1", "the option (no name),"),
            ("a/x?%00%ff=1", "the option (a strange name),"),
            (
                "a/x?connect_timeout",
                "the option connect_timeout without a value",
            ),
            (
                "a/x?connect_timeout=1&connect_timeout=1",
                "has connect_timeout twice",
            ),
            (
                "a/x?connect%5ftimeout=1&connect_timeout=1",
                "has connect_timeout twice",
            ),
            ("a/x?host=b", "has host twice"),
            ("a/x?port=1", "has port twice"),
            ("a/x?dbname=y", "has dbname twice"),
            ("me@a/x?user=you", "has user twice"),
            ("me:hush@a/x?password=hush", "has password twice"),
            ("a/x?sslmode=require", "has sslmode=require, and"),
            ("a/x?sslmode=verify-full", "has sslmode=verify-full, and"),
            ("a/x?sslmode=", "the option sslmode without a value"),
            (
                "a/x?connect_timeout=hush",
                "a value for connect_timeout that cannot be read",
            ),
            (
                "a/x?target_session_attrs=primary",
                "a value for target_session_attrs that",
            ),
            ("a:hush/x", "has a part that cannot be read"),
            ("me:hu@sh?x=1@a", "%40 would be one"),
            ("me@a/x?application_name=a@hush", "%40 would be one"),
            ("a/x?application_name=a@hush", "%40 would be one"),
            ("", "names no host"),
            ("/x?user=me", "names no host"),
        ] {
            let error = parse(&format!("postgres://{url}")).expect_err(url);
            assert!(error.contains(why), "{url}: {error}");
            assert!(!error.contains("hush"), "{url}: {error}");
        }
    }
}
