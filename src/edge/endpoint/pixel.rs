//! `GET /p.gif` and `GET /i.gif`: one hit in the query string, answered with the GIF.

use crate::edge::exchange::admit::{Request, Visit};
use crate::edge::exchange::reply;
use crate::edge::exchange::reply::{Reply, WithCookie as _};
use crate::edge::{Refusal, Worker};
use crate::endpoint::Shape;
use crate::hit::{Hit, Kind};
use crate::protocol::native;

pub(crate) async fn answer(
    worker: &Worker,
    request: &Request<'_>,
    query: &str,
    kind: Kind,
    record: bool,
) -> Result<Reply, Refusal> {
    // A HEAD asks what a GET would say; nobody saw a page.
    if !record {
        return Ok(reply::hit(Shape::Gif));
    }
    let cookie = take(worker, request, query, kind).await?;
    Ok(reply::hit(Shape::Gif).with_cookie(cookie))
}

/// Records the hit; the cookie to set, where there is one.
pub(crate) async fn take(
    worker: &Worker,
    request: &Request<'_>,
    query: &str,
    kind: Kind,
) -> Result<Option<String>, Refusal> {
    let mut hit = Hit::new(request.now, kind, "");
    let mut signals = request
        .headers
        .signals(&request.edge.config.cookie.choice_name);
    let mut visit = Visit::default();
    request.headers.fill(&mut hit);
    native::query(query, &mut hit, &mut signals);
    request.admit(&mut hit, &signals, &mut visit)?;
    worker.record(std::slice::from_ref(&hit)).await?;
    Ok(visit.cookie)
}
