//! `GET, POST, DELETE /consent`: tells, keeps and withdraws the visitor's own choice on a site.
//!
//! The choice lives in a cookie of the visitor's browser, which the page's scripts may read and
//! which comes with each hit. Every reply is JSON: each flag of the permit, and the signal that
//! decided it.
//!
//! - **GET** tells what a page view without a consent string would be permitted now.
//! - **POST** takes a JSON object of flags, or a list of those that are permitted; what it leaves
//!   out is refused. A choice without `store` withdraws as well; where that cannot be kept, the
//!   choice is, and the visitor cookie stays.
//! - **DELETE** withdraws. First the visitor's ID goes into the spool of instructions, which the
//!   loader empties before it takes hits, so that no hit of that visitor that still waits becomes a
//!   row. Only then the reply ends the visitor cookie and sets the choice to `none`. If the ID
//!   cannot be kept, the reply is 503 and nothing has changed: the cookie that names the visitor is
//!   still there for another attempt.
//!
//! A change needs an `Origin` that is one of the site's or the collector's own, and a POST the
//! content type `application/json`, which no form has: another site's page can make the browser
//! send the cookie, but neither of these.

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Method, StatusCode};
use serde_json::{Map, Value};

use crate::config::Site;
use crate::consent::{self, PermitRules};
use crate::edge::Refusal;
use crate::edge::exchange::reply::{self, Reply, WithCookie as _};
use crate::edge::exchange::{Exchange, body, cors};
use crate::hit::{Kind, Permit};
use crate::protocol::{self, native::Members};
use crate::refusal::Reason;

pub(crate) async fn handle(exchange: &Exchange<'_>, body: Incoming) -> Result<Reply, Refusal> {
    let site = exchange.site_of(exchange.line.query)?;
    match *exchange.line.method {
        Method::POST => {
            check_origin(exchange, site)?;
            let permit = read_choice(exchange, body).await?;
            let cookies = exchange.keep_choice(site, permit).await;
            Ok(tell_choice(exchange, site, permit, cookies))
        }
        Method::DELETE => {
            check_origin(exchange, site)?;
            exchange.instruct(site, Kind::Withdrawal).await?;
            let cookies = exchange.choice_cookies(site, Permit::NONE);
            Ok(tell_choice(exchange, site, Permit::NONE, cookies))
        }
        _ => Ok(tell_permit(exchange, site, None)),
    }
}

/// Refuses a change that does not come from a page of the site or of the collector itself.
pub(crate) fn check_origin(exchange: &Exchange<'_>, site: &Site) -> Result<(), Refusal> {
    let origin = exchange.headers.origin.ok_or(Refusal(Reason::Origin))?;
    if is_own_origin(exchange, origin) || cors::is_known(std::slice::from_ref(site), origin) {
        Ok(())
    } else {
        Err(Refusal(Reason::Origin))
    }
}

/// Returns whether an origin is the collector's, as this request reached it.
pub(crate) fn is_own_origin(exchange: &Exchange<'_>, origin: &str) -> bool {
    let own = match origin.split_once("://") {
        // A proxy in front may have ended TLS, so https may not be visible here; http must be.
        Some(("https", host)) => Some(host),
        Some(("http", host)) if !exchange.is_secure() => Some(host),
        _ => None,
    };
    own.is_some_and(|own| !own.is_empty() && own.eq_ignore_ascii_case(exchange.authority()))
}

/// Reads the permit that a body names.
async fn read_choice(exchange: &Exchange<'_>, body: Incoming) -> Result<Permit, Refusal> {
    let content_type = exchange.headers.content_type.unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Refusal(Reason::ContentType));
    }
    let body = body::read(exchange, body).await?;
    parse_choice(&body).ok_or(Refusal(Reason::Json))
}

/// Parses a choice: an object of flags, each true or false, or a list of flags. An object that has
/// a flag twice is ambiguous, and is refused.
fn parse_choice(body: &[u8]) -> Option<Permit> {
    if let Ok(listed) = serde_json::from_slice::<Vec<String>>(body) {
        let mut flags = listed.iter().map(|name| Permit::from_name(name));
        return flags.try_fold(Permit::NONE, |permit, flag| Some(permit.with(flag?)));
    }
    let Members(flags) = serde_json::from_slice(body).ok()?;
    let (mut named, mut permit) = (Permit::NONE, Permit::NONE);
    for (name, value) in flags {
        let flag = Permit::from_name(&name).filter(|flag| !named.allows(*flag))?;
        named = named.with(flag);
        if serde_json::from_str(value.get()).ok()? {
            permit = permit.with(flag);
        }
    }
    Some(permit)
}

/// Sets the choice and tells it. If it cannot be kept the reply tells what holds without it: it
/// must not claim what it cannot do.
fn tell_choice(
    exchange: &Exchange<'_>,
    site: &Site,
    permit: Permit,
    (cookies, is_kept): (Vec<String>, bool),
) -> Reply {
    tell_permit(exchange, site, is_kept.then_some(permit)).with_cookie(cookies)
}

/// Tells what a page view without a consent string would be permitted now. `new` is the choice that
/// this reply sets.
fn tell_permit(exchange: &Exchange<'_>, site: &Site, new: Option<Permit>) -> Reply {
    let edge = exchange.edge;
    let mut signals = protocol::signals(exchange.headers, edge.config.cookie.choice_names());
    signals.choice = new.or(signals.choice);
    let rules = PermitRules::from(site);
    let (permit, source) = consent::decide(&signals, &rules, Kind::PageView, &edge.strings);
    let mut told: Map<String, Value> = Permit::NAMED
        .iter()
        .map(|(name, flag)| ((*name).to_owned(), permit.allows(*flag).into()))
        .collect();
    told.insert("source".to_owned(), source.name().into());
    let body = Bytes::from(Value::Object(told).to_string());
    reply::with_body(StatusCode::OK, "application/json", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_an_object_or_a_list_of_known_flags_and_nothing_else() {
        for (body, permit) in [
            ("{}", Some(Permit::NONE)),
            (
                r#"{"store":true,"measure":true,"profile":false}"#,
                Some(Permit::STORE.with(Permit::MEASURE)),
            ),
            (
                r#"{"store":true,"measure":true,"profile":true,"match":true,"link":true,"locate":true}"#,
                Some(Permit::ALL),
            ),
            (r#"{"everything":true}"#, None),
            (r#"{"store":false,"store":true}"#, None),
            (r#"{"store":"true"}"#, None),
            (r#"{"store":1}"#, None),
            ("[]", Some(Permit::NONE)),
            (
                r#"["measure","store"]"#,
                Some(Permit::STORE.with(Permit::MEASURE)),
            ),
            (r#"["store","everything"]"#, None),
            (r#"["store",true]"#, None),
            (r#"[["store"]]"#, None),
            (r#""store""#, None),
            ("store=true", None),
            ("", None),
        ] {
            assert_eq!(parse_choice(body.as_bytes()), permit, "{body}");
        }
    }
}
