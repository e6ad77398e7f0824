//! Records the hits in a body, as `POST /e` brings them: one event as JSON, or an array of them.

use hyper::body::Incoming;

use crate::edge::Refusal;
use crate::edge::exchange::answer::ReplyForm;
use crate::edge::exchange::charge::Bill;
use crate::edge::exchange::reply::Reply;
use crate::edge::exchange::{Exchange, body};
use crate::protocol;

pub(crate) async fn handle(exchange: &Exchange<'_>, body: Incoming) -> Result<Reply, Refusal> {
    let mut bill = Bill::open(exchange)?;
    let body = body::read(exchange, body).await?;
    bill.add_bytes(body.len())?;
    let body = body.unpack(exchange.headers.content_encoding).await?;
    bill.add_bytes(body.len())?;
    let drafts = protocol::read_body(&exchange.arrival(), &body)?;
    let form = ReplyForm::of(exchange, &body);
    exchange.record_body(drafts, bill, form).await
}
