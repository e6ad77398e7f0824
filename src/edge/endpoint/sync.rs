//! `GET /sync/{partner}` and Prebid's `GET /setuid`: IDs are exchanged with a partner.
//!
//! The partner's ID comes as `uid`; ours goes to the partner's `match_url`, by a redirect. Both take the permits `store`,
//! `measure` and `match` by the partner's rules; without them there is no ID on either side, and the reply is the GIF.
//!
//! There is one bounce at most: a request with `bounced` is never sent on, and one that brings an ID only where it asks
//! to be, by `bounce=1`. What a visitor's cookie holds does not grow with partners: the links are rows.

use hyper::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::Partner;
use crate::consent::Signals;
use crate::edge::exchange::admit::{Request, Visit};
use crate::edge::exchange::reply;
use crate::edge::exchange::reply::{Reply, WithCookie as _};
use crate::edge::{Refusal, Worker};
use crate::endpoint::Shape;
use crate::hit::{Flags, Hit, Kind, Permit};
use crate::protocol::native;

/// What an exchange takes.
const PERMIT: Permit = Permit::STORE.with(Permit::MEASURE).with(Permit::MATCH);

/// Answers `/sync/{key}`.
pub(crate) async fn answer(
    worker: &Worker,
    request: &Request<'_>,
    key: &str,
    query: &str,
    record: bool,
) -> Result<Reply, Refusal> {
    let partner = request.partner(key)?;
    let uid = value(query, "uid").unwrap_or_default();
    let may_bounce = value(query, "bounced").is_none()
        && (uid.is_empty() || value(query, "bounce") == Some("1"));
    exchange(worker, request, partner, query, may_bounce, record).await
}

/// Answers `/setuid`.
pub(crate) async fn set_uid(
    worker: &Worker,
    request: &Request<'_>,
    query: &str,
    record: bool,
) -> Result<Reply, Refusal> {
    let partner = request.partner(value(query, "bidder").unwrap_or_default())?;
    exchange(worker, request, partner, query, false, record).await
}

async fn exchange(
    worker: &Worker,
    request: &Request<'_>,
    partner: &Partner,
    query: &str,
    may_bounce: bool,
    record: bool,
) -> Result<Reply, Refusal> {
    let blank = value(query, "f") == Some("b");
    if !record {
        return Ok(answered(blank));
    }
    let mut hit = Hit::new(request.now, Kind::Sync, "");
    let mut signals = request
        .headers
        .signals(&request.edge.config.cookie.choice_name);
    let mut visit = Visit::default();
    request.headers.fill(&mut hit);
    native::query(query, &mut hit, &mut signals);
    hit.partner = partner.key.as_str().into();
    if hit.site.is_empty() && request.site("").is_err() {
        hit.site = partner.site.as_str().into();
    }
    // What Prebid and others put where their own ID was to stand.
    if matches!(&*hit.partner_uid, "$UID" | "{uid}") {
        hit.partner_uid = "".into();
        hit.flags.set(Flags::MACRO);
    }
    request.admit(&mut hit, &signals, &mut visit)?;
    let bounce = (may_bounce && hit.permit.allows(PERMIT))
        .then(|| bounce(partner, &hit, &signals))
        .flatten();
    worker.record(std::slice::from_ref(&hit)).await?;
    let reply = bounce.unwrap_or_else(|| answered(blank));
    Ok(reply.with_cookie(visit.cookie))
}

fn answered(blank: bool) -> Reply {
    if blank {
        reply::with_body(StatusCode::OK, "text/html", bytes::Bytes::new())
    } else {
        reply::hit(Shape::Gif)
    }
}

/// On to the partner with our ID and what was said of consent.
fn bounce(partner: &Partner, hit: &Hit<'_>, signals: &Signals<'_>) -> Option<Reply> {
    if partner.match_url.is_empty() {
        return None;
    }
    let visitor = hit.visitor?.to_string();
    let said = [
        ("{uid}", Some(visitor.as_str())),
        ("{gdpr}", signals.gdpr.as_deref()),
        ("{gdpr_consent}", signals.tcf.as_deref()),
        ("{gpp}", signals.gpp.as_deref()),
        ("{gpp_sid}", signals.gpp_sid.as_deref()),
    ];
    let mut url = partner.match_url.clone();
    for (place, text) in said {
        let text = utf8_percent_encode(text.unwrap_or_default(), NON_ALPHANUMERIC);
        url = url.replace(place, &text.to_string());
    }
    reply::redirect(&url)
}

/// A raw value. Those asked for here are keys and digits, which nobody encodes.
fn value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}
