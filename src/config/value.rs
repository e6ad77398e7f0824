//! Texts -> values; `None` where a text is wrong.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;

use super::DatabaseUrl;

/// Paths that endpoints have for good, or will.
const FIXED_PATHS: [&str; 1] = ["/demo"];

/// What the standard library can parse.
pub(super) fn parsed<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

pub(super) fn whole(text: &str, range: RangeInclusive<usize>) -> Option<usize> {
    text.parse().ok().filter(|number| range.contains(number))
}

pub(super) const fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

pub(super) fn whole_days(text: &str, range: RangeInclusive<u64>) -> Option<Duration> {
    duration(text).filter(|d| d.as_secs() % 86_400 == 0 && range.contains(&(d.as_secs() / 86_400)))
}

/// `500ms`, `10s`, `5m`, `24h`, `90d`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// `4096`, `64MiB`, `1GB`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

pub(super) fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

pub(super) fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// An address stands for the network that holds it alone.
pub(super) fn network(text: &str) -> Option<IpNet> {
    parsed(text).or_else(|| parsed::<IpAddr>(text).map(IpNet::from))
}

/// A path as browsers send it: nothing to decode, no empty, `.` or `..` segment.
pub(super) fn endpoint(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut segments = text.strip_prefix('/')?.split('/');
    let sound = segments.all(|segment| {
        !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(plain)
    });
    let fixed = FIXED_PATHS.iter().any(|fixed| {
        text.strip_prefix(fixed)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    (sound && !fixed).then(|| text.to_owned())
}

/// A cookie's name. RFC 6265, section 4.1.1, allows more than is wise.
pub(super) fn token(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    ((1..=64).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
}

/// `ID:BASE64`.
pub(super) fn key(text: &str) -> Option<(u8, Vec<u8>)> {
    let (id, secret) = text.split_once(':')?;
    let secret = STANDARD.decode(secret).ok()?;
    (secret.len() >= 32).then_some((id.parse().ok()?, secret))
}

/// Empty for none.
pub(super) fn secret(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let sound = text.is_empty() || ((16..=256).contains(&text.len()) && text.bytes().all(plain));
    sound.then(|| text.to_owned())
}

/// Empty for none. It goes into a header, with the ID in its place.
pub(super) fn match_url(text: &str) -> Option<String> {
    let is_url = || {
        let url = url::Url::parse(&text.replace("{uid}", "0")).ok();
        url.is_some_and(|url| matches!(url.scheme(), "http" | "https"))
            && text.contains("{uid}")
            && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    (text.is_empty() || is_url()).then(|| text.to_owned())
}

/// The key of a site or partner.
pub(super) fn name(text: &str) -> Option<String> {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    ((1..=64).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
}

/// A host name in lower case, an IPv4 address, or an IPv6 address in brackets; no port.
pub(super) fn host(text: &str) -> Option<String> {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let is_name = || {
        text.len() <= 253
            && text
                .split('.')
                .all(|label| (1..=63).contains(&label.len()) && label.bytes().all(plain))
    };
    let is_ipv6 = || {
        text.strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|inner| {
                parsed::<std::net::Ipv6Addr>(inner).is_some_and(|ip| ip.to_string() == inner)
            })
    };
    (is_name() || is_ipv6()).then(|| text.to_owned())
}

/// A host name, or `*.` and a domain.
pub(super) fn host_or_below(text: &str) -> Option<String> {
    match text.strip_prefix("*.") {
        Some(below) => domain(below).map(|_| text.to_owned()),
        None => host(text),
    }
}

/// A host name with a dot in it: no address, and no top-level domain.
pub(super) fn domain(text: &str) -> Option<String> {
    host(text).filter(|text| text.contains('.') && parsed::<IpAddr>(text).is_none())
}

/// An origin as browsers write it (RFC 6454, section 6.1): no path, and no port that goes without
/// saying.
pub(super) fn origin(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let (name, port) = match rest.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (rest, None),
    };
    let port_is_sound = port.is_none_or(|port| {
        parsed::<u16>(port)
            .is_some_and(|number| number != default_port && number.to_string() == port)
    });
    (port_is_sound && host(name).is_some()).then(|| text.to_owned())
}

pub(super) fn database_url(text: &str) -> Option<DatabaseUrl> {
    if text == "embedded" {
        return Some(DatabaseUrl::Embedded);
    }
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return None;
    }
    let parsed: tokio_postgres::Config = text.parse().ok()?;
    let plain = parsed.get_ssl_mode() != tokio_postgres::config::SslMode::Require;
    plain.then(|| DatabaseUrl::Url(text.to_owned()))
}
