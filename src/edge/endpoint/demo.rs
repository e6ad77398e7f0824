//! `GET /demo`, in embedded mode only: a page to try the tag on.

use bytes::Bytes;
use hyper::StatusCode;

use crate::edge::Edge;
use crate::edge::exchange::reply;
use crate::edge::exchange::reply::Reply;

const PAGE: &str = include_str!("../../../assets/demo.html");

pub(crate) fn answer(edge: &Edge) -> Reply {
    let psql = edge.demo_psql.as_ref().and_then(|psql| psql.get());
    let psql = psql.map_or(
        "the database is starting: load this page again",
        String::as_str,
    );
    let escaped = psql.replace('&', "&amp;").replace('<', "&lt;");
    let page = PAGE.replace("__PSQL__", &escaped);
    reply::with_body(
        StatusCode::OK,
        "text/html; charset=utf-8",
        Bytes::from(page),
    )
}
