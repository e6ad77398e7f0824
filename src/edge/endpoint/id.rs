//! `GET /id`: sets the visitor cookie where the permit allows it, and records nothing. `f=i` asks
//! for the GIF, for use as an image.

use crate::edge::Refusal;
use crate::edge::exchange::respond::Content;
use crate::edge::exchange::{Exchange, Visit};
use crate::endpoint::Shape;
use crate::protocol;
use crate::request::raw_value;

pub(crate) fn handle(exchange: &Exchange<'_>) -> Result<Content, Refusal> {
    let asks_for_gif = raw_value(exchange.line.query, "f") == Some("i");
    let charge = exchange.charge()?;
    let mut draft = protocol::read(&exchange.arrival())?;
    let mut visit = Visit::default();
    exchange.admit(&mut draft, charge, &mut visit)?;
    let shape = if asks_for_gif {
        Shape::Gif
    } else {
        Shape::Empty
    };
    let cookies = if exchange.is_head() {
        Vec::new()
    } else {
        visit.cookies
    };
    Ok(Content::Hit(shape, cookies))
}
