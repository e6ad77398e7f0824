//! `GET, POST /segments`: tells a page in which segments its visitor is, so that it can adapt.
//!
//! The reply is JSON: `segments` has the keys of those that the configuration exposes to the site,
//! and `ttl` says for how many seconds the page may use them. It comes from memory, and nothing is
//! recorded, no cookie set.
//!
//! - The request's own consent decides, by the same rules as a page view's: without `store` and
//!   `profile` the answer is empty, whatever the snapshot holds.
//! - The visitor is the one whom the cookie proves. The body of a POST may name a `user`, as an
//!   event does; one in an address is never believed. It counts only with a `user_sig` of the site,
//!   and with `link`, because it tells this browser what another one did.
//! - Whether a visitor is known shows in neither length nor time: every reply of a site is as long
//!   as the longest one, padded with spaces, and is found in the same way.

use std::iter;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::json;

use super::consent::is_own_origin;
use crate::callback::user::UserClaim;
use crate::config::Site;
use crate::consent::{self, PermitRules};
use crate::edge::Refusal;
use crate::edge::exchange::reply::{self, Reply};
use crate::edge::exchange::{Exchange, body, cors};
use crate::hit::subject::Subject;
use crate::hit::{Kind, Permit, VisitorId};
use crate::identity::Node;
use crate::protocol::{self, Draft, Drafts};
use crate::refusal::Reason;
use crate::segment::snapshot::Answer;

/// For how long a page may use the answer, in seconds.
const TTL_SECONDS: u32 = 300;
/// What the permit must have.
const NEEDED: Permit = Permit::STORE.with(Permit::PROFILE);

pub(crate) async fn tell_segments(
    exchange: &Exchange<'_>,
    body: Incoming,
) -> Result<Reply, Refusal> {
    let site = exchange.site_of(exchange.line.query)?;
    check_reader(exchange, site)?;
    if *exchange.line.method != Method::POST {
        return Ok(answer(
            exchange,
            site,
            &protocol::read(&exchange.arrival())?,
        ));
    }
    let body = body::read(exchange, body).await?;
    match protocol::read_body(&exchange.arrival(), &body)? {
        Drafts::One(draft) => Ok(answer(exchange, site, &draft)),
        Drafts::Each(events) => {
            let only = events.split_next().ok_or(Reason::Json)?;
            if events.split_next().is_some() {
                return Err(Refusal(Reason::Json));
            }
            Ok(answer(exchange, site, &events.read(only)?))
        }
    }
}

fn answer(exchange: &Exchange<'_>, site: &Site, draft: &Draft<'_>) -> Reply {
    let rules = PermitRules::from(site);
    let strings = &exchange.edge.strings;
    let (permit, _) = consent::decide(&draft.signals, &rules, Kind::PageView, strings);
    let nodes = find_visitor(exchange)
        .map(|visitor| Node(visitor.0))
        .into_iter()
        .chain(find_user(exchange, site, draft, permit))
        .filter(|_| permit.allows(NEEDED));
    let mut answer = exchange.edge.segments.answer(&site.key, nodes);
    if !permit.allows(NEEDED) {
        answer.keys.clear();
    }
    write(&answer)
}

/// Refuses pages of other origins, which could not read the reply anyway.
fn check_reader(exchange: &Exchange<'_>, site: &Site) -> Result<(), Refusal> {
    let is_foreign = exchange.headers.origin.is_some_and(|origin| {
        !is_own_origin(exchange, origin) && !cors::is_known(std::slice::from_ref(site), origin)
    });
    match is_foreign {
        true => Err(Refusal(Reason::Origin)),
        false => Ok(()),
    }
}

/// Returns the visitor whom the request's cookie proves, as long as its ID is valid.
pub(super) fn find_visitor(exchange: &Exchange<'_>) -> Option<VisitorId> {
    let names = exchange.edge.config.cookie.names();
    let cookies = exchange.headers.find_cookies(names);
    let chosen = exchange.keyring().choose(cookies, exchange.now)?;
    (!chosen.proved.is_expired).then_some(chosen.proved.visitor)
}

/// Returns the node of the user whom the site's signature proves, if the permit lets devices be
/// tied together.
fn find_user(
    exchange: &Exchange<'_>,
    site: &Site,
    draft: &Draft<'_>,
    permit: Permit,
) -> Option<Node> {
    let claim = UserClaim {
        site: &site.key,
        user: &draft.user,
    };
    let is_proved = permit.allows(Permit::LINK)
        && !draft.user.is_empty()
        && claim.is_proved_by(&draft.user_sig, &site.user_sig_keys, exchange.now);
    let user = exchange.edge.user_keyring.hash(&draft.user);
    user.filter(|_| is_proved)
        .map(|user| Node::of(&Subject::User(user)))
}

fn write(answer: &Answer) -> Reply {
    let body = |keys: &[String]| json!({"segments": keys, "ttl": TTL_SECONDS}).to_string();
    let (mut text, longest) = (body(&answer.keys), body(&answer.all).len());
    let missing = longest.saturating_sub(text.len());
    text.extend(iter::repeat_n(' ', missing));
    let mut reply = reply::with_body(StatusCode::OK, "application/json", Bytes::from(text));
    let headers = reply.headers_mut();
    for (name, value) in [
        (header::VARY, "Origin, Cookie, Sec-GPC"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    reply
}
