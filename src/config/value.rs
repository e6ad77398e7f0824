//! Texts -> values; `None` where a text is wrong.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use spool::Ack;

use crate::attribute::AttributeClass;
use crate::click::split_port;
use crate::consent::fold_name;
use crate::endpoint::{ENDPOINTS, Path as EndpointPath};
use crate::export::is_delivery_url;
use crate::segment;

const DAY_SECONDS: u64 = 86_400;
/// The longest alias of a site, in bytes.
const ALIAS_BYTES_MAX: usize = 256;
/// The longest name of a segment, in bytes.
const TITLE_BYTES_MAX: usize = 128;
const _: () = assert!(
    ALIAS_BYTES_MAX == 256 && TITLE_BYTES_MAX == 128 && segment::TEXT_BYTES_MAX == 4_096,
    "what is right for such a text has them too"
);
/// The longest address of a page, in bytes.
const URL_BYTES_MAX: usize = 512;
/// What the name of a segment has to be.
pub(super) const TITLE: &str = "a text of at most 128 bytes";
/// What the expression of a segment has to be.
pub(super) const EXPRESSION: &str = "an expression of 1 to 4096 bytes over the view profile";

/// How much of a client's address Postgres gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientIp {
    /// Nothing.
    None,
    /// The /24 of an IPv4 address, the /48 of an IPv6 one.
    Truncated,
    /// All of it.
    Full,
}

/// The header in which trusted proxies name the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Which conversions of a site count as net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversions {
    /// Any that follow an ad.
    Any,
    /// Those whose sender is proved.
    Signed,
}

/// A consent platform's API that a page may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsentPlatform {
    /// The Transparency and Consent Framework of the IAB.
    Tcf,
    /// The Global Privacy Platform of the IAB.
    Gpp,
}

/// Which Postgres hits are loaded into.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A private one, run from the installed binaries.
    Embedded,
    /// A `postgres://` URL. Whether Postgres' client can use it is for that client to say.
    Url(String),
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DatabaseUrl {
    /// The URL without its password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatabaseUrl::Embedded => f.write_str("embedded"),
            DatabaseUrl::Url(url) => {
                let (scheme, whole) = url.split_once("://").unwrap_or(("postgres", ""));
                // A URL's parameters may hold a password too, and a password a question mark.
                let before = whole.split('?').next().unwrap_or_default();
                match before.rsplit_once('@') {
                    Some((_, place)) => write!(f, "{scheme}://…@{place}"),
                    None if whole.contains('@') => write!(f, "{scheme}://…"),
                    None => write!(f, "{scheme}://{before}"),
                }
            }
        }
    }
}

/// Parses what the standard library can parse.
pub(super) fn parse<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// A whole number in a range.
pub(super) fn whole<T: FromStr + PartialOrd>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Option<T> {
    move |text| parse(text).filter(|number| range.contains(number))
}

/// A time between two others, which are written the same way.
pub(super) fn duration_within(
    first: &'static str,
    last: &'static str,
) -> impl Fn(&str) -> Option<Duration> {
    move |text| {
        let range = duration(first)?..=duration(last)?;
        duration(text).filter(|time| range.contains(time))
    }
}

/// `02:30`, as minutes since midnight.
pub(super) fn minute_of_day(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let is_written_so = [hour, minute]
        .iter()
        .all(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit()));
    let (hour, minute): (u16, u16) = (parse(hour)?, parse(minute)?);
    (is_written_so && hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

/// A whole number of days between two others.
pub(super) fn whole_days_within(
    first: &'static str,
    last: &'static str,
) -> impl Fn(&str) -> Option<Duration> {
    let within = duration_within(first, last);
    move |text| within(text).filter(|time| time.as_millis() % u128::from(DAY_SECONDS * 1000) == 0)
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
        "d" => DAY_SECONDS * 1000,
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

/// How many times something may be: 0 for no bound, or 2 to 100.
pub(super) fn times(text: &str) -> Option<u64> {
    text.parse()
        .ok()
        .filter(|times| matches!(times, 0 | 2..=100))
}

/// A size between two others, which are written the same way.
pub(super) fn bytes_within(
    first: &'static str,
    last: &'static str,
) -> impl Fn(&str) -> Option<u64> {
    move |text| {
        let range = bytes(first)?..=bytes(last)?;
        bytes(text).filter(|size| range.contains(size))
    }
}

pub(super) fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// A network; an address stands for the network that holds only that address.
pub(super) fn network(text: &str) -> Option<IpNet> {
    parse(text).or_else(|| parse::<IpAddr>(text).map(IpNet::from))
}

pub(super) fn proxy_header(text: &str) -> Option<ProxyHeader> {
    match text {
        "x-forwarded-for" => Some(ProxyHeader::XForwardedFor),
        "forwarded" => Some(ProxyHeader::Forwarded),
        _ => None,
    }
}

pub(super) fn consent_platform(text: &str) -> Option<ConsentPlatform> {
    match text {
        "tcf" => Some(ConsentPlatform::Tcf),
        "gpp" => Some(ConsentPlatform::Gpp),
        _ => None,
    }
}

/// A time zone by its name, which is returned as the IANA writes it.
pub(super) fn time_zone(text: &str) -> Option<String> {
    let zone = jiff::tz::TimeZone::get(text).ok()?;
    let name = zone.iana_name().filter(|_| !zone.is_unknown())?;
    Some(name.to_owned())
}

pub(super) fn conversions(text: &str) -> Option<Conversions> {
    match text {
        "any" => Some(Conversions::Any),
        "signed" => Some(Conversions::Signed),
        _ => None,
    }
}

/// How messages in Kafka are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KafkaFormat {
    /// `proto/row.proto`.
    #[default]
    Protobuf,
    /// One JSON object, with the fields' names; IDs, flags and permits in words.
    Json,
}

pub(super) fn kafka_format(text: &str) -> Option<KafkaFormat> {
    match text {
        "protobuf" => Some(KafkaFormat::Protobuf),
        "json" => Some(KafkaFormat::Json),
        _ => None,
    }
}

/// Where hits go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HitSink {
    /// Into the database, by this collector.
    Postgres,
    /// To the topics of `[kafka]`.
    Kafka,
}

pub(super) fn destination(text: &str) -> Option<HitSink> {
    match text {
        "postgres" => Some(HitSink::Postgres),
        "kafka" => Some(HitSink::Kafka),
        _ => None,
    }
}

/// Returns a parser that takes one of some words.
pub(super) fn word(words: &'static [&'static str]) -> impl Fn(&str) -> Option<String> {
    move |text| words.contains(&text).then(|| text.to_owned())
}

/// The name of a topic.
pub(super) fn topic(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_name = (1..=249).contains(&text.len()) && text.bytes().all(plain);
    (is_name && text != "." && text != "..").then(|| text.to_owned())
}

/// A broker's host with its port.
pub(super) fn broker(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    let is_host = !host.is_empty() && host.bytes().all(plain);
    (is_host && port.parse::<u16>().is_ok_and(|port| port > 0)).then(|| text.to_owned())
}

pub(super) fn ack(text: &str) -> Option<Ack> {
    match text {
        "disk" => Some(Ack::Disk),
        "memory" => Some(Ack::Memory),
        _ => None,
    }
}

pub(super) fn client_ip(text: &str) -> Option<ClientIp> {
    match text {
        "none" => Some(ClientIp::None),
        "truncated" => Some(ClientIp::Truncated),
        "full" => Some(ClientIp::Full),
        _ => None,
    }
}

/// A vendor's ID; 0 is no vendor's.
pub(super) fn vendor_id(text: &str) -> Option<Option<u16>> {
    parse(text).map(|id: u16| (id != 0).then_some(id))
}

/// A path as browsers send it: nothing in it needs decoding, and no segment is empty, `.` or `..`.
pub(super) fn endpoint_path(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut segments = text.strip_prefix('/')?.split('/');
    let sound = segments.all(|segment| {
        !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(plain)
    });
    let is_fixed = ENDPOINTS.iter().any(|spec| match spec.path {
        EndpointPath::Demo(fixed) => text
            .strip_prefix(fixed)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        _ => false,
    });
    (sound && !is_fixed).then(|| text.to_owned())
}

/// A cookie's name. RFC 6265, section 4.1.1, allows more characters than is wise to use.
pub(super) fn token(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    ((1..=64).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
}

/// `ID:BASE64`.
pub(super) fn signing_key(text: &str) -> Option<(u8, Vec<u8>)> {
    let (id, secret) = text.split_once(':')?;
    let secret = STANDARD.decode(secret).ok()?;
    (secret.len() >= 32).then_some((id.parse().ok()?, secret))
}

/// The name of a trait, as it is compared: in lower case, letters and digits alone.
pub(super) fn trait_name(text: &str) -> Option<String> {
    let name = fold_name(text);
    (!name.is_empty()).then_some(name)
}

/// A parameter's name as others have it, and ours for it: `theirs=ours`.
pub(super) fn parse_renaming(text: &str) -> Option<(String, String)> {
    let (theirs, ours) = text.split_once('=')?;
    let (theirs, ours) = (theirs.trim(), ours.trim());
    (!theirs.is_empty() && !ours.is_empty()).then(|| (theirs.to_owned(), ours.to_owned()))
}

/// The name of a category.
pub(super) fn category(text: &str) -> Option<String> {
    let name = text.trim();
    let is_name = !name.is_empty() && name.len() <= 100 && !name.contains(char::is_control);
    is_name.then(|| name.to_owned())
}

/// A secret that a URL need not encode, or nothing.
pub(super) fn secret(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let sound = text.is_empty() || ((16..=256).contains(&text.len()) && text.bytes().all(plain));
    sound.then(|| text.to_owned())
}

/// The same, but not nothing.
pub(super) fn some_secret(text: &str) -> Option<String> {
    secret(text).filter(|text| !text.is_empty())
}

/// An http or https URL with `{uid}` in it, or nothing. It is sent in a header, with the ID in
/// place of `{uid}`.
pub(super) fn match_url(text: &str) -> Option<String> {
    let is_url = || {
        let url = url::Url::parse(&text.replace("{uid}", "0")).ok();
        url.is_some_and(|url| matches!(url.scheme(), "http" | "https"))
            && text.contains("{uid}")
            && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    (text.is_empty() || is_url()).then(|| text.to_owned())
}

/// Where deliveries go.
pub(super) fn delivery_url(text: &str) -> Option<String> {
    let is_url = text.bytes().all(|byte| byte.is_ascii_graphic()) && is_delivery_url(text);
    is_url.then(|| text.to_owned())
}

/// The same, or nothing.
pub(super) fn delivery_url_or_none(text: &str) -> Option<String> {
    match text {
        "" => Some(String::new()),
        text => delivery_url(text),
    }
}

/// The key of a site or partner.
pub(super) fn name(text: &str) -> Option<String> {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    ((1..=64).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
}

/// What another maker's tracker calls a site.
pub(super) fn alias(text: &str) -> Option<String> {
    let is_clean = text.trim() == text && !text.contains(char::is_control);
    (is_clean && (1..=ALIAS_BYTES_MAX).contains(&text.len())).then(|| text.to_owned())
}

/// What a group is called, for people; or nothing.
pub(super) fn title(text: &str) -> Option<String> {
    let is_clean = text.trim() == text && !text.contains(char::is_control);
    (is_clean && text.len() <= TITLE_BYTES_MAX).then(|| text.to_owned())
}

/// The address of a page, which a link may lead to.
pub(super) fn page_url(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    let is_plain = text.len() <= URL_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_page = matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
    (is_plain && is_page).then(|| text.to_owned())
}

/// Where people turn to: an e-mail address, or the address of a page.
pub(super) fn contact(text: &str) -> Option<String> {
    let is_email = || {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
        let (name, host) = text.split_once('@')?;
        let is_name = (1..=64).contains(&name.len()) && name.bytes().all(plain);
        (is_name && domain(&host.to_ascii_lowercase()).is_some()).then(|| text.to_owned())
    };
    is_email().or_else(|| page_url(text))
}

/// An expression of a segment, which is parsed elsewhere.
pub(super) fn expression(text: &str) -> Option<String> {
    (1..=segment::TEXT_BYTES_MAX)
        .contains(&text.len())
        .then(|| text.to_owned())
}

/// Whether explicit consent is what allows a segment of sensitive attributes.
pub(super) fn basis(text: &str) -> Option<bool> {
    match text {
        "" => Some(false),
        "explicit_consent" => Some(true),
        _ => None,
    }
}

/// A class of attributes that is off by default.
pub(super) fn attribute_class(text: &str) -> Option<AttributeClass> {
    let mut classes = AttributeClass::ALL.into_iter();
    classes.find(|class| class.is_off_by_default() && class.name() == text)
}

/// As `name`, or nothing.
pub(super) fn name_or_none(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some(String::new());
    }
    name(text)
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
            .is_some_and(|inner| parse::<Ipv6Addr>(inner).is_some_and(|ip| ip.to_string() == inner))
    };
    (is_name() || is_ipv6()).then(|| text.to_owned())
}

/// A host name with a port or without, as addresses of pages have them.
pub(super) fn host_and_port(text: &str) -> Option<String> {
    host_or_below(text).filter(|text| !text.starts_with('*'))
}

/// A host name, or `*.` and a domain, with a port or without.
pub(super) fn host_or_below(text: &str) -> Option<String> {
    let (name, port) = split_port(text);
    let is_host = match name.strip_prefix("*.") {
        Some(below) => domain(below).is_some(),
        None => host(name).is_some(),
    };
    let is_plain = port.is_none_or(|port| port > 0 && text.ends_with(&format!(":{port}")));
    (is_host && is_plain).then(|| text.to_owned())
}

/// A host name with a dot in it: neither an address nor a top-level domain.
pub(super) fn domain(text: &str) -> Option<String> {
    host(text).filter(|text| text.contains('.') && parse::<IpAddr>(text).is_none())
}

/// An origin as browsers write it (RFC 6454, section 6.1): without a path, and without the scheme's
/// default port.
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
        parse::<u16>(port)
            .is_some_and(|number| number != default_port && number.to_string() == port)
    });
    (port_is_sound && host(name).is_some()).then(|| text.to_owned())
}

pub(super) fn database_url(text: &str) -> Option<DatabaseUrl> {
    match text {
        "embedded" => Some(DatabaseUrl::Embedded),
        url => is_postgres(url).then(|| DatabaseUrl::Url(url.to_owned())),
    }
}

fn is_postgres(url: &str) -> bool {
    let schemes = ["postgres://", "postgresql://"];
    schemes.iter().any(|scheme| url.starts_with(scheme))
}

/// Says what is wrong with the URL of a database. The rest of it is not shown: it may hold a
/// password.
pub(super) fn explain_database_url(text: &str) -> Option<String> {
    let is_scheme = |scheme: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        (1..=20).contains(&scheme.len()) && scheme.bytes().all(plain)
    };
    Some(match text.split_once("://") {
        None if text.is_empty() => "is empty".to_owned(),
        None if text.eq_ignore_ascii_case("embedded") => "is not in lower case".to_owned(),
        None => "is no URL, because no scheme such as postgres:// begins it".to_owned(),
        Some((scheme, _)) if is_postgres(&format!("{}://", scheme.trim().to_lowercase())) => {
            "has a scheme with capitals or blanks".to_owned()
        }
        Some((scheme, _)) if is_scheme(scheme) => {
            format!("begins with {scheme}://, which is no Postgres")
        }
        Some(_) => "begins with no scheme".to_owned(),
    })
}
