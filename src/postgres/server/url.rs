//! Reads the URL of the operator's Postgres. Nothing in it is ignored: an option that is unknown,
//! has no use here or comes twice is a mistake, with its name. An error says nothing else of the
//! URL, which may hold a password.

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, TargetSessionAttrs};

use super::servers::Servers;
use super::tls::{RootCertificates, SslMode, TlsOptions};
use crate::config::suggest;

/// The options that a URL may have after its `?`. What they mean is what the same ones of
/// Postgres's own programs mean.
const OPTIONS: [&str; 20] = [
    "application_name",
    "channel_binding",
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
    SSL_CERT,
    SSL_KEY,
    SSL_MODE,
    SSL_ROOT_CERT,
    "target_session_attrs",
    "tcp_user_timeout",
];

/// Those that this program reads, and not the client.
const SSL_CERT: &str = "sslcert";
const SSL_KEY: &str = "sslkey";
const SSL_MODE: &str = "sslmode";
const SSL_ROOT_CERT: &str = "sslrootcert";

/// What other drivers call some of them.
const OTHER_NAMES: [(&str, &str); 4] = [
    ("ssl", SSL_MODE),
    ("tls", SSL_MODE),
    ("sslca", SSL_ROOT_CERT),
    ("targetServerType", "target_session_attrs"),
];

/// The one that is also named before the `@`.
const USER: &str = "user";

/// Parses a URL.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence about it.
pub(super) fn parse(url: &str) -> Result<Servers, String> {
    let known = check_options(url)?;
    let mut tls = read_tls(&known)?;
    let of_client: Vec<_> = known
        .into_iter()
        .filter(|(name, _)| ![SSL_CERT, SSL_KEY, SSL_MODE, SSL_ROOT_CERT].contains(&name.as_str()))
        .collect();
    let (before, _) = split(url);
    let options = of_client
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let options = options.collect::<Vec<_>>().join("&");
    let rest = format!("{before}?{options}");
    let rest = rest.strip_suffix('?').unwrap_or(&rest);
    let config: Config = rest
        .parse()
        .map_err(|_| match find_unreadable(&of_client) {
            Some(name) => format!("has a value for {name} that cannot be read"),
            None => "has a part that cannot be read, such as a port".to_owned(),
        })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("names no host".to_owned());
    }
    if config.get_target_session_attrs() == TargetSessionAttrs::ReadOnly {
        return Err(
            "has target_session_attrs=read-only, and a collector writes; read-write would be right"
                .to_owned(),
        );
    }
    tls.is_bound = config.get_channel_binding() == ChannelBinding::Require;
    if let Some(contradiction) = tls.find_contradiction() {
        return Err(contradiction);
    }
    let has_socket = config
        .get_hosts()
        .iter()
        .any(|host| matches!(host, Host::Unix(_)));
    if let Some(mode) = tls
        .mode
        .filter(|mode| *mode > SslMode::Prefer && has_socket)
    {
        return Err(format!(
            "has sslmode={} and a Unix socket, and Postgres encrypts no connection over one",
            mode.name()
        ));
    }
    Ok(Servers::new(config, tls))
}

/// Reads the options that are about TLS.
fn read_tls(known: &[(String, &str)]) -> Result<TlsOptions, String> {
    let find = |wanted: &str| {
        let (_, value) = known.iter().find(|(name, _)| name == wanted)?;
        Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
    };
    let mode = match find(SSL_MODE) {
        Some(wanted) => Some(read_mode(&wanted)?),
        None => None,
    };
    let client = match (find(SSL_CERT), find(SSL_KEY)) {
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        (Some(_), None) => return Err("has sslcert without sslkey".to_owned()),
        (None, Some(_)) => return Err("has sslkey without sslcert".to_owned()),
        (None, None) => None,
    };
    let roots = find(SSL_ROOT_CERT).map(|roots| match roots.as_str() {
        "system" => RootCertificates::System,
        path => RootCertificates::File(path.into()),
    });
    Ok(TlsOptions {
        mode,
        roots,
        client,
        is_bound: false,
    })
}

fn read_mode(wanted: &str) -> Result<SslMode, String> {
    let known = SslMode::ALL.iter().find(|(_, name)| *name == wanted);
    known.map(|(mode, _)| *mode).ok_or_else(|| {
        let names = || SslMode::ALL.iter().map(|(_, name)| *name);
        let meant = match wanted {
            "allow" => "; allow would go on in clear text without a word".to_owned(),
            other => suggest(names(), other)
                .map_or_else(String::new, |meant| format!("; did you mean {meant}?")),
        };
        let names = names().collect::<Vec<_>>().join(", ");
        format!(
            "has sslmode={}, and known are {names}{meant}",
            word_to_show(wanted)
        )
    })
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
            let other = OTHER_NAMES.iter().find(|(other, _)| *other == name);
            let meant = other.map(|(_, meant)| *meant);
            let meant = meant.or_else(|| suggest(OPTIONS.into_iter().chain([USER]), &name));
            let meant = meant.map_or_else(String::new, |meant| format!("did you mean {meant}? "));
            return Err(format!(
                "has the option {}, which is not known; {meant}known are {}, {USER}",
                word_to_show(&name),
                OPTIONS.join(", ")
            ));
        }
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return Err(format!("has the option {name} without a value"));
        };
        if seen.contains(&name) {
            return Err(format!("has {name} twice"));
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
fn word_to_show(word: &str) -> &str {
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
            "channel_binding" => "prefer",
            "hostaddr" => "127.0.0.1",
            "load_balance_hosts" => "disable",
            "sslmode" => "verify-full",
            "target_session_attrs" => "read-write",
            "application_name" | "dbname" | "host" | "options" | "password" | "user" => "a%40b",
            _ => "1",
        };
        let pair = |name: &&str| format!("{name}={}", value(name));
        for name in OPTIONS.iter().chain([&USER]) {
            let url = match *name {
                "host" | "port" => format!("postgres://?hostaddr=::1&{}", pair(name)),
                "user" | "password" => format!("postgres://a/?{}", pair(name)),
                SSL_CERT | SSL_KEY => {
                    format!("postgres://a/?{}&{}", pair(&SSL_CERT), pair(&SSL_KEY))
                }
                _ => format!("postgresql://me@a/?{}", pair(name)),
            };
            assert!(parse(&url).is_ok(), "{url} {:?}", parse(&url));
        }
        let all: Vec<String> = OPTIONS.iter().chain([&USER]).map(pair).collect();
        let config = parse(&format!("postgres://?{}", all.join("&"))).expect("a URL");
        assert_eq!(config.config.get_application_name(), Some("a@b"));
        assert_eq!(config.tls.mode, Some(SslMode::VerifyFull));
        for url in [
            "postgres://a,b:6432/x?",
            "postgres://me:hu?sh@db/x?port=1&",
            "postgres://[::1]",
        ] {
            let sound = url != "postgres://me:hu?sh@db/x?port=1&";
            assert_eq!(parse(url).is_ok(), sound, "{url} {:?}", parse(url));
        }
    }

    #[track_caller]
    fn check_refusals(refused: &[(&str, &str)]) {
        for (url, why) in refused {
            let error = parse(&format!("postgres://{url}")).expect_err(url);
            assert!(error.contains(why), "{url}: {error}");
            assert!(!error.contains("hush"), "{url}: {error}");
        }
    }

    #[test]
    fn what_is_unknown_or_comes_twice_is_named_and_nothing_secret_is() {
        check_refusals(&[
            (
                "a/x?SSLMODE=disable",
                "the option SSLMODE, which is not known; did you mean sslmode?",
            ),
            (
                "a/x?ssl=true",
                "the option ssl, which is not known; did you mean sslmode?",
            ),
            (
                "a/x?sslrootcrt=a",
                "the option sslrootcrt, which is not known; did you mean sslrootcert?",
            ),
            ("a/x?sslpassword=hush", "the option sslpassword,"),
            ("a/x?sslcrl=a", "the option sslcrl,"),
            ("a/x?currentSchema=hush", "the option currentSchema,"),
            ("a/x?ApplicationName=a", "the option ApplicationName,"),
            ("a/x?application%5Fname2=a", "the option application_name2,"),
            ("a/x?sslnegotiation=direct", "the option sslnegotiation,"),
            (
                "a/x?target_session_attrs=read-only",
                "and a collector writes",
            ),
            ("a/x?passfile=hush", "the option passfile,"),
            (
                "a/x?service=s",
                "known are application_name, channel_binding, connect_timeout",
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
        ]);
    }

    #[test]
    fn options_of_tls_that_mean_nothing_or_contradict_each_other_are_named() {
        check_refusals(&[
            ("a/x?sslcert=/me.pem", "has sslcert without sslkey"),
            ("a/x?sslkey=/me.key", "has sslkey without sslcert"),
            (
                "a/x?channel_binding=yes",
                "a value for channel_binding that",
            ),
            (
                "a/x?channel_binding=require&sslmode=disable",
                "has channel_binding=require, which sslmode=disable has no use for",
            ),
            (
                "a/x?sslrootcert=a&sslmode=disable",
                "has sslrootcert, which sslmode=disable",
            ),
            (
                "a/x?sslrootcert=a&sslmode=prefer",
                "has sslrootcert, which sslmode=prefer",
            ),
            (
                "a/x?sslcert=a&sslkey=b&sslmode=disable",
                "has sslcert, which sslmode=disable",
            ),
            (
                "a/x?sslrootcert=system&sslmode=require",
                "anybody can have a certificate",
            ),
            (
                "a/x?sslrootcert=system&sslmode=verify-ca",
                "anybody can have a certificate",
            ),
            (
                "%2Frun/x?sslmode=require",
                "has sslmode=require and a Unix socket",
            ),
            (
                "a,%2Frun/x?sslmode=verify-full",
                "has sslmode=verify-full and a Unix socket",
            ),
            (
                "a/x?sslmode=allow",
                "has sslmode=allow, and known are disable, prefer, require, verify-ca, verify-full; allow would",
            ),
            ("a/x?sslmode=verify_full", "did you mean verify-full?"),
            ("a/x?sslmode=Require", "did you mean require?"),
            ("a/x?sslmode=no", "has sslmode=no, and known are"),
            ("a/x?sslmode=%00hush", "has sslmode=(a strange name), and"),
            ("a/x?sslmode=", "the option sslmode without a value"),
        ]);
    }
}
