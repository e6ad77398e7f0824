//! From a request to its reply: the rules that hold for every request, written once for both ways
//! in which requests are read ([`crate::edge::plain`] and hyper).

use hyper::header::{self, HeaderValue};
use hyper::http::StatusCode;
use hyper::{Method, Version};

use super::reply::{self, Reply, WithCookie as _};
use super::{Exchange, Mentioned, answer, cors, https};
use crate::clock;
use crate::config::Site;
use crate::edge::Refusal;
use crate::edge::endpoint::click;
use crate::endpoint::{Endpoint, Protocol, Readers, Shape};
use crate::refusal::Reason;

/// What an endpoint has to say.
pub(crate) enum Content {
    /// The reply to a recorded hit, with the cookies to set. It is the reply to nearly all
    /// requests, so it is not written into headers where it can be sent without.
    Hit(Shape, Vec<String>),
    /// Any other reply.
    Reply(Reply),
}

impl From<Reply> for Content {
    fn from(reply: Reply) -> Content {
        Content::Reply(reply)
    }
}

impl Content {
    /// Writes the content into headers.
    pub(crate) fn into_reply(self) -> Reply {
        match self {
            Content::Hit(shape, cookies) => reply::hit(shape).with_cookie(cookies),
            Content::Reply(reply) => reply,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Content::Hit(shape, _) => reply::hit_status(*shape),
            Content::Reply(reply) => reply.status(),
        }
    }
}

/// A reply with what every reply may say besides its content.
pub(crate) struct Outgoing<'e> {
    content: Content,
    /// The origin that asks, and the sites whose pages may read the reply.
    origin: Option<&'e str>,
    readers: &'e [Site],
    hsts: Option<&'e HeaderValue>,
    /// Whether the connection ends after the reply.
    is_last: bool,
}

impl Outgoing<'_> {
    /// Returns the content if the reply says nothing besides; else the whole reply.
    pub(crate) fn into_content(self) -> Content {
        let is_bare = self.origin.is_none() && self.hsts.is_none() && !self.is_last;
        if is_bare {
            self.content
        } else {
            Content::Reply(self.into_reply())
        }
    }

    /// Writes the reply's headers.
    pub(crate) fn into_reply(self) -> Reply {
        let mut reply = self.content.into_reply();
        if let Some(origin) = self.origin {
            cors::allow(self.readers, origin, &mut reply);
        }
        if let Some(hsts) = self.hsts {
            let headers = reply.headers_mut();
            headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        if self.is_last {
            reply::end(&mut reply);
        }
        reply
    }
}

/// Replies to a request. If it keeps the rules, `handle` asks its endpoint. `is_last` says that the
/// connection takes no further request.
pub(crate) async fn respond<'r>(
    exchange: &Exchange<'r>,
    is_last: bool,
    handle: impl AsyncFnOnce() -> Result<Content, Refusal>,
) -> Outgoing<'r> {
    let headers = exchange.headers;
    let readers = readers(exchange);
    let content = match exchange.check() {
        Err(refusal) => Err(refusal),
        Ok(()) if *exchange.line.method == Method::OPTIONS => {
            let spec = exchange.endpoint.spec();
            cors::preflight(readers, headers, spec).map(Content::Reply)
        }
        Ok(()) if belongs_on_https(exchange) => redirect_to_https(exchange),
        Ok(()) => handle().await,
    };
    let status = content
        .as_ref()
        .map_or_else(|refusal| refusal.status(), Content::status);
    let content = content.unwrap_or_else(|refusal| refuse(exchange, refusal).into());
    count(exchange, &content);
    // A request whose length is coded in chunks is where proxies and servers disagree, and a
    // refused one with a body is where an attacker tries: nothing may follow them on the same
    // connection.
    let is_refused_body = headers.has_length && status.is_client_error();
    let ends = headers.transfer_encodings > 0 || is_refused_body || is_last;
    Outgoing {
        content,
        origin: headers.origin,
        readers,
        hsts: hsts(exchange),
        is_last: ends && exchange.line.version < Version::HTTP_2,
    }
}

fn count(exchange: &Exchange<'_>, content: &Content) {
    let (status, took) = (content.status(), clock::time_since(exchange.started));
    let metrics = &exchange.edge.metrics;
    metrics.request(exchange.endpoint, status.as_str(), took);
}

/// Returns what a reply over TLS says of https.
fn hsts<'r>(exchange: &Exchange<'r>) -> Option<&'r HeaderValue> {
    exchange.edge.hsts.as_ref().filter(|_| exchange.peer.tls)
}

/// Returns the sites whose pages may read the reply.
fn readers<'r>(exchange: &Exchange<'r>) -> &'r [Site] {
    match exchange.endpoint.spec().readers {
        Readers::AnySite => &exchange.edge.config.sites,
        Readers::SiteOfRequest => exchange
            .site_of(exchange.line.query)
            .map_or(&[], std::slice::from_ref),
        Readers::Nobody => &[],
    }
}

/// Returns whether a page is asked for by http that the configuration wants on https.
fn belongs_on_https(exchange: &Exchange<'_>) -> bool {
    exchange.endpoint == Endpoint::Privacy
        && exchange.edge.config.http.redirect_to_https
        && !exchange.is_secure()
}

fn redirect_to_https(exchange: &Exchange<'_>) -> Result<Content, Refusal> {
    let location = https::location(
        exchange.authority(),
        exchange.edge.config.tls.listen,
        exchange.line.target,
    );
    let reply = reply::redirect_permanently(&location).ok_or(Refusal(Reason::Host))?;
    Ok(Content::Reply(reply))
}

/// Replies to a request that is refused before all of it was read. Nothing may follow it on its
/// connection.
pub(crate) fn refuse_unread<'r>(exchange: &Exchange<'r>, refusal: Refusal) -> Outgoing<'r> {
    let content = Content::from(refuse(exchange, refusal));
    if refusal.0 != Reason::Malformed {
        count(exchange, &content);
    }
    Outgoing {
        content,
        origin: exchange.headers.origin,
        readers: readers(exchange),
        hsts: hsts(exchange),
        is_last: true,
    }
}

/// Counts and shows a refused request, and makes its reply. A click with a valid target still leads
/// on.
fn refuse(exchange: &Exchange<'_>, refusal: Refusal) -> Reply {
    exchange.edge.metrics.refusal(refusal.0);
    exchange.show_refusal(refusal.0, Mentioned::default());
    if let Some(mut reply) = click::lead_on(exchange) {
        reply::tell(&mut reply, refusal);
        return reply;
    }
    let spec = exchange.endpoint.spec();
    // People see a page, whoever's protocol its link speaks.
    let mut reply = if spec.protocol == Protocol::Native || spec.shape == Shape::Page {
        reply::make_refusal(refusal, spec.shape, exchange.language())
    } else {
        answer::refuse(exchange, refusal)
    };
    if refusal.0 == Reason::Method {
        let headers = reply.headers_mut();
        headers.insert(header::ALLOW, HeaderValue::from_static(spec.methods));
    }
    reply
}
