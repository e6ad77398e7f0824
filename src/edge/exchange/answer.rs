//! Replies to trackers of other makers, in the form that the clients of each protocol need.
//!
//! Trackers keep an event, and send it again, until they get a reply that they take for an end.
//! Which replies these are differs: some take 200 alone, and others are stuck for good at a 404 or
//! a 413. So what can never be taken is answered as if it had been, with the reason in a header;
//! and where a later try helps, the reply is 503. The table of protocols says what each takes
//! (docs/endpoints.md shows it). Matomo's requests ask for the form besides: none with
//! `send_image=0`, and two counts for a list.

use bytes::Bytes;
use hyper::{Method, StatusCode, Version};
use memchr::memmem;

use super::Exchange;
use super::reply::{self, Reply};
use crate::edge::Refusal;
use crate::endpoint::{Ending, Protocol, Shape};
use crate::protocol::native::Members;
use crate::refusal::Reason;
use crate::request::raw_value;

/// What a request to Matomo's endpoint asks to be answered with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReplyForm {
    /// It brought a list of requests.
    is_bulk: bool,
    /// It wants no picture.
    wants_nothing: bool,
}

impl ReplyForm {
    /// Reads the form that a query and a body ask for. The query outweighs the body.
    pub(crate) fn of(exchange: &Exchange<'_>, body: &[u8]) -> ReplyForm {
        if exchange.endpoint.spec().protocol != Protocol::Matomo {
            return ReplyForm::default();
        }
        let is_bulk = memmem::find(body, b"\"requests\"").is_some();
        let in_body = match str::from_utf8(body) {
            Ok(text) if !is_bulk => raw_value(text, "send_image") == Some("0"),
            _ => is_bulk && bulk_wants_nothing(body),
        };
        let in_query = raw_value(exchange.line.query, "send_image");
        ReplyForm {
            is_bulk,
            wants_nothing: in_query.map_or(in_body, |value| value == "0"),
        }
    }
}

/// Returns whether a list of requests says beside it that no picture is wanted.
fn bulk_wants_nothing(body: &[u8]) -> bool {
    let members = serde_json::from_slice(body).map_or(Vec::new(), |Members(members)| members);
    let mut members = members.iter();
    let found = members.find(|(name, _)| name == "send_image");
    found.is_some_and(|(_, value)| matches!(value.get(), "0" | "\"0\"" | "false"))
}

/// Returns the form of the reply to a hit in a query string.
pub(crate) fn shape(exchange: &Exchange<'_>) -> Shape {
    match ReplyForm::of(exchange, b"").wants_nothing {
        true => Shape::Empty,
        false => exchange.endpoint.spec().shape,
    }
}

/// Makes the reply to events of which `taken` were recorded.
pub(crate) fn reply(
    exchange: &Exchange<'_>,
    form: ReplyForm,
    taken: usize,
    refused: &[(usize, Refusal)],
) -> Reply {
    let protocol = exchange.endpoint.spec().protocol;
    let mut reasons = refused.iter().map(|(_, refusal)| *refusal);
    let first = reasons.clone().next();
    let may_retry = |refusal: &Refusal| status(protocol, refusal.0).is_some_and(is_retried);
    let blamed = match taken {
        0 => reasons.find(may_retry).or(first),
        _ => first,
    };
    let counts = (taken, refused.len());
    let Some(refusal) = blamed else {
        let mut reply = success(exchange, form, counts, protocol.spec().recorded);
        reply::ask_for_hints(&mut reply);
        return reply;
    };
    if taken > 0 {
        let mut reply = success(exchange, form, counts, protocol.spec().recorded);
        reply::name_reason(&mut reply, refusal);
        return reply;
    }
    let mut reply = refuse_in(exchange, form, counts, refusal);
    // As with any refused request that has a body, nothing may follow on its connection.
    let is_refused_body = exchange.headers.has_length && refusal.status().is_client_error();
    if is_refused_body && exchange.line.version < Version::HTTP_2 {
        reply::end(&mut reply);
    }
    reply
}

/// Makes the reply to a request that is refused as a whole.
pub(crate) fn refuse(exchange: &Exchange<'_>, refusal: Refusal) -> Reply {
    let form = ReplyForm::of(exchange, b"");
    refuse_in(exchange, form, (0, 1), refusal)
}

fn refuse_in(
    exchange: &Exchange<'_>,
    form: ReplyForm,
    counts: (usize, usize),
    refusal: Refusal,
) -> Reply {
    let protocol = exchange.endpoint.spec().protocol;
    let mut reply = match status(protocol, refusal.0) {
        None => success(exchange, form, counts, StatusCode::OK),
        Some(status) if *exchange.line.method == Method::GET => reply::gif(status),
        Some(status) => {
            let reason = format!("{}\n", refusal.0.name());
            reply::with_body(status, "text/plain", Bytes::from(reason))
        }
    };
    reply::tell(&mut reply, refusal);
    reply
}

/// Returns the status that tells a protocol's clients of a refusal; `None` if they are not told.
pub(crate) fn status(protocol: Protocol, reason: Reason) -> Option<StatusCode> {
    match reason {
        Reason::OverLimit => Some(protocol.spec().over_limit),
        Reason::BodySlow => Some(StatusCode::SERVICE_UNAVAILABLE),
        Reason::SiteUnknown | Reason::SiteMissing => protocol.spec().site_unknown,
        reason => Some(reason.status()).filter(|status| is_retried(*status)),
    }
}

fn is_retried(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
    )
}

/// Makes the reply that the clients take for an end.
fn success(
    exchange: &Exchange<'_>,
    form: ReplyForm,
    (taken, refused): (usize, usize),
    status: StatusCode,
) -> Reply {
    let text = |text| reply::with_body(status, "text/plain", Bytes::from_static(text));
    let json = |json: serde_json::Value| {
        reply::with_body(status, "application/json", Bytes::from(json.to_string()))
    };
    let spec = exchange.endpoint.spec();
    match (spec.protocol.spec().ending, exchange.line.method) {
        _ if form.wants_nothing => reply::empty(StatusCode::NO_CONTENT),
        _ if form.is_bulk => json(serde_json::json!({
            "status": "success", "tracked": taken, "invalid": refused
        })),
        (_, &Method::GET | &Method::HEAD) if spec.shape == Shape::Gif => reply::gif(status),
        (Ending::Json, _) => json(serde_json::json!({ "success": taken > 0 || refused == 0 })),
        (Ending::Gif, &Method::POST) => reply::gif(status),
        (Ending::Text, &Method::POST) => text(b"ok"),
        _ => reply::empty(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_retry_helps_is_an_error_to_a_tracker() {
        for reason in Reason::ALL {
            for protocol in Protocol::ALL {
                if matches!(protocol, Protocol::Native | Protocol::Segment) {
                    continue;
                }
                let status = status(protocol, reason).map(|status| status.as_u16());
                let name = reason.name();
                assert!(matches!(status, None | Some(503)), "{name}: {status:?}");
                let is_retried = matches!(name, "over_limit" | "body_slow" | "crowded")
                    || name.starts_with("spool_")
                    || matches!(name, "stopping" | "busy" | "database_away");
                assert_eq!(status.is_some(), is_retried, "{name}");
            }
        }
        for (reason, told) in [
            (Reason::OverLimit, Some(429)),
            (Reason::SiteUnknown, Some(401)),
            (Reason::SiteMissing, Some(401)),
            (Reason::SpoolFull, Some(503)),
            (Reason::Json, None),
            (Reason::Method, None),
        ] {
            let status = status(Protocol::Segment, reason);
            assert_eq!(status.map(|status| status.as_u16()), told, "{reason:?}");
        }
    }

    #[test]
    fn a_bulk_request_says_itself_that_it_wants_no_picture() {
        for (body, wants_nothing) in [
            (r#"{"requests":[],"send_image":0}"#, true),
            (r#"{"send_image":"0","requests":["?send_image=1"]}"#, true),
            (r#"{"requests":["?send_image=0"]}"#, false),
            (r#"{"requests":[{"send_image":0}]}"#, false),
            (r#"{"requests":[],"send_image":1}"#, false),
            (r#"{"requests":["#, false),
        ] {
            assert_eq!(bulk_wants_nothing(body.as_bytes()), wants_nothing, "{body}");
        }
    }
}
