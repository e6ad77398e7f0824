//! `GET /link?site=KEY&to=HOST`: gives a page of the site a token for a link to another site, so
//! that its visitor is known again there.
//!
//! The reply is the token ([`crate::visitor::link`]) as text, or 204 where there is nobody to tell
//! of: the request's own consent lacks `store`, `measure` or `link`, its cookie proves no visitor,
//! or the cookie is a third party's, which ties nothing. Nothing is recorded, no cookie is set, and
//! no visitor is made.
//!
//! Only a page of the site's `origins` may ask, which its browser says in `Origin` (or in
//! `Sec-Fetch-Site`, where the collector has the page's own origin), and only for a host of the
//! site's `links`: a token that another page could get would tie its visitor to whomever that page
//! likes.

use std::slice;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use percent_encoding::percent_decode_str;

use super::segments::find_visitor;
use crate::config::Site;
use crate::consent::{self, PermitRules};
use crate::edge::Refusal;
use crate::edge::exchange::reply::{self, Reply};
use crate::edge::exchange::{Exchange, cors};
use crate::hit::{Kind, VisitorId};
use crate::identity::LinkPermit;
use crate::protocol;
use crate::refusal::Reason;
use crate::request::raw_value;
use crate::visitor::Party;
use crate::visitor::link::LinkScope;

pub(crate) fn give_token(exchange: &Exchange<'_>) -> Result<Reply, Refusal> {
    let site = exchange.site_of(exchange.line.query)?;
    let from = find_page(exchange, site).ok_or(Refusal(Reason::Origin))?;
    let to = raw_value(exchange.line.query, "to").unwrap_or_default();
    let to = percent_decode_str(to).decode_utf8_lossy();
    if !site.links.iter().any(|host| *host == to) {
        return Err(Refusal(Reason::LinkHost));
    }
    let scope = LinkScope {
        from,
        to: &to,
        user_agent: exchange.headers.user_agent,
    };
    let token = match find_linkable(exchange, site)? {
        Some(visitor) => seal(exchange, visitor, &scope),
        None => None,
    };
    let mut reply = match token {
        Some(token) => reply::with_body(StatusCode::OK, "text/plain", Bytes::from(token)),
        None => reply::empty(StatusCode::NO_CONTENT),
    };
    let headers = reply.headers_mut();
    for (name, value) in [
        (header::VARY, "Origin, Cookie, Sec-GPC"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(reply)
}

/// Returns the origin of the page that asks, if it is one of the site's. A browser that asks within
/// one origin does not name it, and says so.
fn find_page<'r>(exchange: &Exchange<'r>, site: &'r Site) -> Option<&'r str> {
    if let Some(origin) = exchange.headers.origin {
        return cors::is_known(slice::from_ref(site), origin).then_some(origin);
    }
    let is_here = |origin: &&str| {
        let host = origin.split_once("://").map(|(_, host)| host);
        host.is_some_and(|host| host.eq_ignore_ascii_case(exchange.authority()))
    };
    let mut origins = site.origins.iter().map(String::as_str);
    let within_origin = exchange.headers.fetch_site == Some(b"same-origin");
    within_origin.then(|| origins.find(is_here)).flatten()
}

/// Returns the visitor whom the cookie proves, if it may be told elsewhere who that is.
fn find_linkable(exchange: &Exchange<'_>, site: &Site) -> Result<Option<VisitorId>, Refusal> {
    let draft = protocol::read(&exchange.arrival())?;
    let rules = PermitRules::from(site);
    let strings = &exchange.edge.strings;
    let (permit, _) = consent::decide(&draft.signals, &rules, Kind::PageView, strings);
    let may_link = LinkPermit::new(permit).is_some() && exchange.party(site) != Party::Third;
    Ok(may_link.then(|| find_visitor(exchange)).flatten())
}

fn seal(exchange: &Exchange<'_>, visitor: VisitorId, scope: &LinkScope<'_>) -> Option<String> {
    let VisitorId([nonce @ .., _, _, _, _]) = exchange.worker.mint.id()?;
    let keyring = &exchange.edge.keyring;
    keyring.seal_link(visitor, scope, nonce, exchange.now)
}
