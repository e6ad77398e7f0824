//! `GET /id`: sets the visitor cookie where the permit allows it, and records nothing. `f=i` asks
//! for the GIF, for use as an image.

use super::Refusal;
use super::collect::{Request, Visit};
use super::reply::{self, Reply, Shape, WithCookie as _};
use crate::hit::{Hit, Kind};
use crate::request;

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
    request::query(query, &mut hit, &mut signals);
    request.admit(&mut hit, &signals, &mut visit)?;
    Ok(reply::hit(shape).with_cookie(visit.cookie.filter(|_| record)))
}
