//! `GET /sync/{partner}` and Prebid's `GET /setuid`: IDs are exchanged with a partner.
//!
//! The partner's ID comes as `uid`; ours goes to the partner's `match_url`, by a redirect. Both
//! need the permits `store`, `measure` and `match` by the partner's rules; without them neither
//! side gets an ID, and the reply is the GIF.
//!
//! There is at most one bounce: a request with `bounced` is never sent on, and one that brings an
//! ID is sent on only if it asks for it, by `bounce=1`. What a visitor's cookie holds does not grow
//! with the number of partners: the links are rows.
//!
//! An ID that the partner signed is proved ([`crate::callback::exchange`]). Any other is anybody's
//! word: it is recorded, and never beside a proved one.
//!
//! `f`, `ts`, `sig`, `bidder`, `bounce` and `bounced` are read as sent: they are keys and
//! digits, which nobody encodes.

use std::slice;

use bytes::Bytes;
use hyper::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::callback::exchange::SignedExchange;
use crate::config::Partner;
use crate::edge::exchange::reply::{self, Reply, WithCookie as _};
use crate::edge::exchange::{Exchange, Visit};
use crate::edge::{Refusal, router};
use crate::endpoint::Shape;
use crate::hit::{Flags, Permit};
use crate::protocol::{self, Draft};
use crate::request::raw_value;

/// What must be permitted for IDs to be exchanged.
const PERMIT: Permit = Permit::STORE.with(Permit::MEASURE).with(Permit::MATCH);

/// Handles `/sync/{partner}`.
pub(crate) async fn handle(exchange: &Exchange<'_>) -> Result<Reply, Refusal> {
    let partner = exchange.partner(router::sender_key_of(exchange))?;
    let value = |name| raw_value(exchange.line.query, name);
    let has_uid = value("uid").is_some_and(|uid| !uid.is_empty());
    let may_bounce = value("bounced").is_none() && (!has_uid || value("bounce") == Some("1"));
    exchange_ids(exchange, partner, may_bounce).await
}

/// Handles `/setuid`.
pub(crate) async fn handle_set_uid(exchange: &Exchange<'_>) -> Result<Reply, Refusal> {
    let bidder = raw_value(exchange.line.query, "bidder").unwrap_or_default();
    exchange_ids(exchange, exchange.partner(bidder)?, false).await
}

async fn exchange_ids<'r>(
    exchange: &Exchange<'r>,
    partner: &'r Partner,
    may_bounce: bool,
) -> Result<Reply, Refusal> {
    let is_blank = raw_value(exchange.line.query, "f") == Some("b");
    if exchange.is_head() {
        return Ok(plain_reply(is_blank));
    }
    let charge = exchange.charge()?;
    let mut draft = protocol::read(&exchange.arrival())?;
    draft.hit.partner = partner.key.as_str().into();
    if draft.hit.site.is_empty() && exchange.site("").is_err() {
        draft.hit.site = partner.site.as_str().into();
    }
    let mut visit = Visit::default();
    exchange.admit(&mut draft, charge, &mut visit)?;
    if is_proved(exchange, partner, &draft) {
        draft.hit.flags.set(Flags::SIGNED);
    }
    let bounce = (may_bounce && draft.hit.permit.allows(PERMIT))
        .then(|| redirect_to_partner(partner, &draft))
        .flatten();
    exchange.record(slice::from_ref(&draft)).await?;
    let reply = bounce.unwrap_or_else(|| plain_reply(is_blank));
    Ok(reply.with_cookie(visit.cookies))
}

/// Checks whether the partner signed that this browser's visitor has that ID of its own.
fn is_proved(exchange: &Exchange<'_>, partner: &Partner, draft: &Draft<'_>) -> bool {
    let value = |name| raw_value(exchange.line.query, name);
    let Some((signature, visitor)) = value("sig").zip(draft.hit.visitor) else {
        return false;
    };
    let signed = SignedExchange {
        timestamp: value("ts").unwrap_or_default(),
        visitor,
        partner_uid: &draft.hit.partner_uid,
    };
    let window_seconds = partner.timestamp_window.as_secs();
    signed.is_proved_by(signature, &partner.secret, exchange.now, window_seconds)
}

fn plain_reply(is_blank: bool) -> Reply {
    if is_blank {
        reply::with_body(StatusCode::OK, "text/html", Bytes::new())
    } else {
        reply::hit(Shape::Gif)
    }
}

/// Sends the browser on to the partner with our ID and what was said about consent.
fn redirect_to_partner(partner: &Partner, draft: &Draft<'_>) -> Option<Reply> {
    if partner.match_url.is_empty() {
        return None;
    }
    let visitor = draft.hit.visitor?.to_string();
    let signals = &draft.signals;
    let macros = [
        ("{uid}", Some(visitor.as_str())),
        ("{gdpr}", signals.gdpr.as_deref()),
        ("{gdpr_consent}", signals.tcf.as_deref()),
        ("{gpp}", signals.gpp.as_deref()),
        ("{gpp_sid}", signals.gpp_sid.as_deref()),
    ];
    let mut url = partner.match_url.clone();
    for (name, text) in macros {
        let text = utf8_percent_encode(text.unwrap_or_default(), NON_ALPHANUMERIC);
        url = url.replace(name, &text.to_string());
    }
    reply::redirect(&url)
}
