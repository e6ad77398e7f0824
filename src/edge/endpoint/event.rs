//! Records the hits in a body, as `POST /e` brings them: one event as JSON, or an array of them.

use hyper::body::Incoming;

use crate::edge::Refusal;
use crate::edge::exchange::reply::Reply;
use crate::edge::exchange::{Exchange, body};
use crate::protocol;

pub(crate) async fn handle(exchange: &Exchange<'_>, body: Incoming) -> Result<Reply, Refusal> {
    let body = body::read(exchange.endpoint, body).await?;
    let body = body::unpack(exchange.headers.content_encoding, body)?;
    let drafts = protocol::read_body(&exchange.arrival(), &body)?;
    exchange.record_body(drafts).await
}
