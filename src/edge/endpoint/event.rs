//! `POST /e`: one event as JSON, or an array of them.
//!
//! `sendBeacon` can send `text/plain` without a preflight, so that is taken as JSON too. Each event
//! stands for itself: the good ones are recorded together, with one wait for the spool. The reply is
//! 204 when all were taken; when some were refused 200, and when none was taken the first one's status, with
//! JSON that says which and why.

use std::error::Error;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};

use crate::edge::exchange::admit::{Request, Visit};
use crate::edge::exchange::reply;
use crate::edge::exchange::reply::{Reply, WithCookie as _};
use crate::edge::{Refusal, Worker};
use crate::endpoint::{BODY_BYTES_MAX, BODY_TIME_MAX, Endpoint, Shape};
use crate::hit::{Hit, Kind};
use crate::protocol::native;
use crate::protocol::native::EVENTS_MAX;
use crate::refusal::Reason;

/// How many refused events a reply names; the count covers all.
const REFUSED_NAMED_MAX: usize = 20;

pub(crate) async fn answer(
    worker: &Worker,
    request: &Request<'_>,
    query: &str,
    body: Incoming,
) -> Result<Reply, Refusal> {
    let content_type = request.headers.content_type.unwrap_or("text/plain");
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !["application/json", "text/plain"]
        .iter()
        .any(|known| media_type.eq_ignore_ascii_case(known))
    {
        return Err(Refusal(Reason::ContentType));
    }
    let body = read(body, BODY_BYTES_MAX).await?;
    let events = native::events(&body).ok_or(Refusal(Reason::Json))?;
    debug_assert!(events.len() <= EVENTS_MAX);
    let mut visit = Visit::default();
    let mut hits = Vec::with_capacity(events.len());
    let mut refused = Vec::new();
    for (index, event) in events.into_iter().enumerate() {
        let mut hit = Hit::new(request.now, Kind::PageView, "");
        let mut signals = request
            .headers
            .signals(&request.edge.config.cookie.choice_name);
        request.headers.fill(&mut hit);
        // Parameters of the address hold for each event of the body: `/e?site=…`.
        native::query(query, &mut hit, &mut signals);
        let admitted = if native::event_hit(event, &mut hit, &mut signals) {
            request.admit(&mut hit, &signals, &mut visit)
        } else {
            Err(Refusal(Reason::Json))
        };
        match admitted {
            Ok(()) => hits.push(hit),
            Err(refusal) => {
                let target = (
                    Endpoint::Event,
                    request.edge.config.path.of(Endpoint::Event),
                    query,
                );
                let named = (&*hit.site, &*hit.partner);
                request.edge.live.refused(request, target, named, refusal);
                refused.push((index, refusal));
            }
        }
    }
    if !hits.is_empty() {
        worker.record(&hits).await?;
    }
    let reply = match refused.first() {
        None => reply::hit(Shape::Empty),
        Some((_, first)) => partial(request, hits.len(), &refused, *first),
    };
    Ok(reply.with_cookie(visit.cookie))
}

/// A body of at most `bytes_max`.
pub(crate) async fn read(body: Incoming, bytes_max: usize) -> Result<Bytes, Refusal> {
    // One that says how long it is need not be read to be too long.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Refusal(Reason::BodyTooLarge));
    }
    match tokio::time::timeout(BODY_TIME_MAX, copy(Limited::new(body, bytes_max))).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal(Reason::BodyTooLarge)),
        Ok(Err(_)) => Err(Refusal(Reason::BodyBroken)),
        Err(_) => Err(Refusal(Reason::BodySlow)),
    }
}

/// The bytes of a body. Copied, because each piece as it came, be it one byte, holds the whole buffer that
/// it was read into: 8 KiB.
async fn copy(mut body: Limited<Incoming>) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// The reply where some were refused: which, and why.
pub(crate) fn partial(
    request: &Request<'_>,
    taken: usize,
    refused: &[(usize, Refusal)],
    first: Refusal,
) -> Reply {
    for (_, refusal) in refused {
        request.edge.metrics.refusal(refusal.0);
    }
    let named: Vec<_> = refused
        .iter()
        .take(REFUSED_NAMED_MAX)
        .map(|(index, refusal)| serde_json::json!({ "index": index, "reason": refusal.0.name() }))
        .collect();
    let body = serde_json::json!({ "taken": taken, "refused": refused.len(), "first": named });
    let status = if taken == 0 {
        first.status()
    } else {
        StatusCode::OK
    };
    let mut reply = reply::with_body(status, "application/json", Bytes::from(body.to_string()));
    reply::tell(&mut reply, first);
    reply
}
