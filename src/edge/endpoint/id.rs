//! `GET /id`: sets the visitor cookie where the permit allows it, and records nothing. `f=i` asks
//! for the GIF, for use as an image.

use crate::edge::Refusal;
use crate::edge::exchange::admit::{Request, Visit};
use crate::edge::exchange::reply;
use crate::edge::exchange::reply::{Reply, WithCookie as _};
use crate::endpoint::Shape;
use crate::hit::{Hit, Kind};
use crate::protocol::native;

pub(crate) fn answer(request: &Request<'_>, query: &str, record: bool) -> Result<Reply, Refusal> {
    let shape = if query.split('&').any(|pair| pair == "f=i") {
        Shape::Gif
    } else {
        Shape::Empty
    };
    let mut hit = Hit::new(request.now, Kind::PageView, "");
    let mut signals = request
        .headers
        .signals(&request.edge.config.cookie.choice_name);
    let mut visit = Visit::default();
    native::query(query, &mut hit, &mut signals);
    request.admit(&mut hit, &signals, &mut visit)?;
    Ok(reply::hit(shape).with_cookie(visit.cookie.filter(|_| record)))
}
