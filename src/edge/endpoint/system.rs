//! `POST /s/{system}`: one of the operator's own systems reports events.
//!
//! The system proves itself first ([`crate::callback::system`]); nothing of a request that it did
//! not make is read. A request that others could have read on the way is refused, and so is one
//! with a query, where a token would be logged. [`crate::protocol::system`] says what a body may
//! look like. An event with an `id` may be repeated until it is answered, because it is stored
//! once.
//!
//! Which systems there are is no secret: an unknown one is told from a wrong token by its status.
//! How nearly a token or a signature is right does not show in the time that it takes.

use hyper::body::Incoming;
use hyper::header::HeaderMap;

use super::callback::claim;
use crate::callback::{Destination, Signed};
use crate::edge::Refusal;
use crate::edge::exchange::answer::ReplyForm;
use crate::edge::exchange::charge::Bill;
use crate::edge::exchange::reply::Reply;
use crate::edge::exchange::{Exchange, body};
use crate::protocol::system::{self, SystemSender};
use crate::refusal::Reason;

pub(crate) async fn handle(
    exchange: &Exchange<'_>,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Reply, Refusal> {
    let refuse = |reason: Reason| exchange.charge_attempt(reason);
    let system = exchange
        .system()
        .map_err(|Refusal(reason)| refuse(reason))?;
    if !exchange.line.query.is_empty() {
        return Err(refuse(Reason::SystemQuery));
    }
    if !exchange.is_confidential() {
        return Err(refuse(Reason::SystemHttp));
    }
    let claim = claim(headers, exchange.line.query);
    let secrets = system.secrets();
    let proof = secrets.check(&claim).map_err(refuse)?;
    let bill = Bill::open(exchange)?;
    let body = body::read(exchange, body).await?;
    let signed = Signed {
        timestamp: claim.timestamp,
        method: exchange.line.method.as_str(),
        target: exchange.line.target,
        body: &body,
    };
    let destination = Destination {
        host: exchange.authority(),
        content_type: exchange.headers.content_type.unwrap_or_default(),
    };
    secrets
        .verify(proof, &signed, &destination, exchange.now)
        .map_err(refuse)?;
    let body = body.unpack(exchange.headers.content_encoding).await?;
    let sender = SystemSender {
        site: &system.site,
        past: exchange.edge.config.privacy.retention,
        proof,
    };
    let drafts = system::read(&exchange.arrival(), sender, &body)?;
    exchange
        .record_body(drafts, bill, ReplyForm::default())
        .await
}
