//! What the SDKs of Segment and RudderStack ask for when they start: whether to send, and where.
//!
//! Both get what makes them send everything here and load nothing else. Segment's SDK would
//! otherwise send figures about itself to its maker.

use bytes::Bytes;
use hyper::StatusCode;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::edge::Refusal;
use crate::edge::exchange::Exchange;
use crate::edge::exchange::reply::{self, Reply};
use crate::edge::router::open_segment_of;
use crate::endpoint::Endpoint;
use crate::protocol;

/// Serves the settings of Segment's SDKs.
pub(crate) fn serve_settings(exchange: &Exchange<'_>) -> Result<Reply, Refusal> {
    let key = percent_decode_str(open_segment_of(exchange)).decode_utf8_lossy();
    exchange.site_of_tracker(&key)?;
    let path = exchange.edge.config.path.of(Endpoint::Segment);
    let host = format!("{}{path}", exchange.authority());
    let protocol = match exchange.is_secure() {
        true => "https",
        false => "http",
    };
    Ok(reply_with(&json!({
        "integrations": { "Segment.io": { "apiKey": key, "apiHost": host, "protocol": protocol } },
        "metrics": { "host": host, "protocol": protocol, "sampleRate": 0 },
        "plan": {},
    })))
}

/// Serves the source of RudderStack's SDK, which sends to the address that the page gives it.
pub(crate) fn serve_source(exchange: &Exchange<'_>) -> Result<Reply, Refusal> {
    let key = protocol::write_key(exchange.headers, exchange.line.query);
    let site = exchange.site_of_tracker(&key)?;
    Ok(reply_with(&json!({
        "source": {
            "id": site.key,
            "name": site.key,
            "writeKey": key,
            "enabled": true,
            "config": {},
            "dataplanes": {},
            "destinations": [],
            "workspaceId": site.key,
        },
    })))
}

fn reply_with(json: &Value) -> Reply {
    reply::with_body(
        StatusCode::OK,
        "application/json",
        Bytes::from(json.to_string()),
    )
}
