//! `GET, POST /cb/{partner}`: an ad network's server reports what became of an ad.
//!
//! The partner proves itself first ([`crate::callback`]); nothing of a request that it did not make is read. One callback
//! comes as query, form or JSON object, up to 1,000 as a JSON array, also packed by gzip, under the partner's own names
//! for things ([`Fields`](crate::callback::names::Fields)). The sender is a server: its address, agent and cookies say nothing of the visitor. What
//! it says of the visitor's address and agent counts where the partner is trusted to.
//!
//! Replies are those of `POST /e`: 204, or which items were refused and why. A callback with an `id` may be repeated
//! until it is answered, for it is stored once.

use std::io::Read as _;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;

use super::event;
use crate::callback::{Signed, is_token};
use crate::config::Partner;
use crate::consent::Signals;
use crate::edge::exchange::admit::{Request, Visit};
use crate::edge::exchange::reply;
use crate::edge::exchange::reply::Reply;
use crate::edge::{Refusal, Worker};
use crate::endpoint::{BODY_BYTES_MAX, Shape};
use crate::hit::{Hit, Kind};
use crate::protocol::native;
use crate::protocol::native::Reading;
use crate::refusal::Reason;

pub(crate) async fn answer(
    worker: &Worker,
    request: &Request<'_>,
    key: &str,
    parts: &Parts,
    body: Incoming,
) -> Result<Reply, Refusal> {
    let partner = request.partner(key)?;
    let query = parts.uri.query().unwrap_or_default();
    let signature = proof(&parts.headers, partner, query)?;
    let body = event::read(body, BODY_BYTES_MAX).await?;
    if let Some((timestamp, signature)) = signature {
        let signed = Signed {
            timestamp,
            method: parts.method.as_str(),
            target: parts
                .uri
                .path_and_query()
                .map_or("", |target| target.as_str()),
            body: &body,
        };
        verify(request, partner, &signed, signature)?;
    }
    let body = unpacked(&parts.headers, body)?;
    match format(request, &body)? {
        Format::Form(form) => {
            let text = [query, form].join("&");
            let mut hit = Hit::new(request.now, Kind::Callback, "");
            let mut signals = Signals::default();
            native::query_as(&text, reading(partner), &mut hit, &mut signals);
            admit(request, partner, &mut hit, &signals)?;
            worker.record(std::slice::from_ref(&hit)).await?;
            Ok(reply::hit(Shape::Empty))
        }
        Format::Json => items(worker, request, partner, query, &body).await,
    }
}

/// Records an array's items, each for itself.
async fn items(
    worker: &Worker,
    request: &Request<'_>,
    partner: &Partner,
    query: &str,
    body: &[u8],
) -> Result<Reply, Refusal> {
    let items = native::events(body).ok_or(Refusal(Reason::Json))?;
    let mut hits = Vec::with_capacity(items.len());
    let mut refused = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let mut hit = Hit::new(request.now, Kind::Callback, "");
        let mut signals = Signals::default();
        native::query_as(query, reading(partner), &mut hit, &mut signals);
        let admitted = if native::event_hit_as(item, reading(partner), &mut hit, &mut signals) {
            admit(request, partner, &mut hit, &signals)
        } else {
            Err(Refusal(Reason::Json))
        };
        match admitted {
            Ok(()) => hits.push(hit),
            Err(refusal) => refused.push((index, refusal)),
        }
    }
    if !hits.is_empty() {
        worker.record(&hits).await?;
    }
    Ok(match refused.first() {
        None => reply::hit(Shape::Empty),
        Some((_, first)) => event::partial(request, hits.len(), &refused, *first),
    })
}

fn reading(partner: &Partner) -> Reading<'_> {
    Reading {
        fields: Some(partner.names()),
        trusts_client: partner.trusted_client,
    }
}

fn admit<'r>(
    request: &Request<'r>,
    partner: &'r Partner,
    hit: &mut Hit<'r>,
    signals: &Signals<'_>,
) -> Result<(), Refusal> {
    hit.partner = partner.key.as_str().into();
    if hit.site.is_empty() {
        hit.site = partner.site.as_str().into();
    }
    request.admit(hit, signals, &mut Visit::default())
}

/// What proves the sender: a timestamp and signature that the body is yet to be held against, or `None` for a token
/// that is right.
fn proof<'r>(
    headers: &'r HeaderMap,
    partner: &Partner,
    query: &'r str,
) -> Result<Option<(&'r str, &'r str)>, Refusal> {
    if partner.secret.is_empty() && partner.token.is_empty() {
        return Err(Refusal(Reason::CallbackClosed));
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(signature) = text("avtryck-signature") {
        let timestamp = text("avtryck-timestamp").unwrap_or_default();
        return Ok(Some((timestamp, signature)));
    }
    let bearer = text("authorization").and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim())
    });
    let token = bearer.or_else(|| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix("token="))
    });
    let token = token.ok_or(Refusal(Reason::CallbackUnproved))?;
    if !partner.token.is_empty() && is_token(token, &partner.token) {
        Ok(None)
    } else {
        Err(Refusal(Reason::CallbackToken))
    }
}

fn verify(
    request: &Request<'_>,
    partner: &Partner,
    signed: &Signed<'_>,
    signature: &str,
) -> Result<(), Refusal> {
    if partner.secret.is_empty() || !signed.has_signature(signature, partner.secret.as_bytes()) {
        return Err(Refusal(Reason::CallbackSignature));
    }
    if signed.is_in_time(request.now, partner.timestamp_window.as_secs()) {
        Ok(())
    } else {
        Err(Refusal(Reason::CallbackTimestamp))
    }
}

/// The body without gzip. What it unpacks to has the limit of a body.
fn unpacked(headers: &HeaderMap, body: Bytes) -> Result<Bytes, Refusal> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else {
        return Ok(body);
    };
    match encoding.as_bytes() {
        b"identity" => Ok(body),
        b"gzip" | b"x-gzip" => {
            let mut bytes = Vec::new();
            flate2::read::MultiGzDecoder::new(&*body)
                .take(BODY_BYTES_MAX as u64 + 1)
                .read_to_end(&mut bytes)
                .map_err(|_| Refusal(Reason::BodyBroken))?;
            if bytes.len() > BODY_BYTES_MAX {
                return Err(Refusal(Reason::BodyTooLarge));
            }
            Ok(bytes.into())
        }
        _ => Err(Refusal(Reason::ContentType)),
    }
}

enum Format<'b> {
    Json,
    Form(&'b str),
}

/// What a body is, by its type; without one, by how it begins. No body is an empty form.
fn format<'b>(request: &Request<'_>, body: &'b [u8]) -> Result<Format<'b>, Refusal> {
    let form = || str::from_utf8(body).map(Format::Form);
    let media_type = request.headers.content_type.unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let begins = body.trim_ascii_start().first();
    let is = |known: &str| media_type.eq_ignore_ascii_case(known);
    if body.is_empty() {
        return Ok(Format::Form(""));
    }
    if is("application/json") || is("text/json") {
        return Ok(Format::Json);
    }
    if is("application/x-www-form-urlencoded") {
        return form().map_err(|_| Refusal(Reason::BodyBroken));
    }
    if !media_type.is_empty() && !is("text/plain") {
        return Err(Refusal(Reason::ContentType));
    }
    if matches!(begins, Some(b'{' | b'[')) {
        return Ok(Format::Json);
    }
    form().map_err(|_| Refusal(Reason::BodyBroken))
}
