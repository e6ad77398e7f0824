//! `GET /demo`, in embedded mode only: a page to try the tag on.

use askama::Template;
use bytes::Bytes;
use hyper::StatusCode;

use crate::edge::Edge;
use crate::edge::exchange::reply;
use crate::edge::exchange::reply::Reply;

/// What stands in the command's place until there is one.
const STARTING: &str = "the database is starting: load this page again";

#[derive(Template)]
#[template(path = "demo.html")]
struct Page<'a> {
    /// The command that opens the embedded database.
    psql: &'a str,
}

/// Answers with the page.
pub(crate) fn serve_demo(edge: &Edge) -> Reply {
    let psql = edge.demo_psql.as_ref().and_then(|psql| psql.get());
    let page = Page {
        psql: psql.map_or(STARTING, String::as_str),
    };
    let html = page
        .render()
        .expect("a template of texts can always be written to a string");
    reply::with_body(
        StatusCode::OK,
        "text/html; charset=utf-8",
        Bytes::from(html),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_shown_as_text_whatever_it_holds() {
        let page = Page {
            psql: "psql -h '/tmp/a&b' <x>",
        };
        let html = page.render().expect("the page");
        assert!(html.contains("<code>psql -h &#39;/tmp/a&#38;b&#39; &#60;x&#62;</code>"));
    }
}
