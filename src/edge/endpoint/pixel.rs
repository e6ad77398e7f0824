//! Records the one hit in a query string, as `GET /p.gif` and `GET /i.gif` bring it.

use std::slice;

use crate::edge::Refusal;
use crate::edge::exchange::respond::Content;
use crate::edge::exchange::{Exchange, Visit};
use crate::protocol;

pub(crate) async fn handle(exchange: &Exchange<'_>) -> Result<Content, Refusal> {
    let shape = exchange.endpoint.spec().shape;
    if exchange.is_head() {
        return Ok(Content::Hit(shape, Vec::new()));
    }
    let charge = exchange.charge()?;
    let mut draft = protocol::read(&exchange.arrival())?;
    let mut visit = Visit::default();
    exchange.admit(&mut draft, charge, &mut visit)?;
    exchange.record(slice::from_ref(&draft)).await?;
    Ok(Content::Hit(shape, visit.cookies))
}
