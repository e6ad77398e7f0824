//! Records the one hit in a query string, as `GET /p.gif` and `GET /i.gif` bring it.

use std::slice;

use crate::edge::Refusal;
use crate::edge::exchange::respond::Content;
use crate::edge::exchange::{Exchange, Visit, answer};
use crate::endpoint::Protocol;
use crate::hit::Kind;
use crate::protocol::{self, Draft};

pub(crate) async fn handle(exchange: &Exchange<'_>) -> Result<Content, Refusal> {
    let spec = exchange.endpoint.spec();
    let shape = match spec.protocol {
        Protocol::Native => spec.shape,
        _ => answer::shape(exchange),
    };
    if exchange.is_head() && !spec.protocol.spec().records_head {
        return Ok(Content::Hit(shape, Vec::new()));
    }
    let charge = exchange.charge()?;
    let arrival = exchange.arrival();
    let mut draft = Draft::new(arrival.at, Kind::PageView);
    protocol::read_into(&arrival, &mut draft)?;
    let mut visit = Visit::default();
    exchange.admit(&mut draft, charge, &mut visit)?;
    exchange.keep_told_choice(&mut visit).await;
    exchange.record(slice::from_ref(&draft)).await?;
    Ok(Content::Hit(shape, visit.cookies))
}
