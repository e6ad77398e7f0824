//! Which endpoint a request is for, and which function answers it.

use std::convert::Infallible;
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, PathAndQuery};
use hyper::{Method, Request, Version};

use crate::config::Paths;
use crate::edge::endpoint::{
    callback, click, consent, demo, event, fixed, id, link, notice, pixel, privacy, segment,
    segments, sync, system, tag,
};
use crate::edge::exchange::reply::Reply;
use crate::edge::exchange::respond::{Content, respond};
use crate::edge::exchange::{Exchange, Line};
use crate::edge::{Peer, Refusal, Worker};
use crate::endpoint::{ENDPOINTS, Endpoint, EndpointSpec, Path};
use crate::refusal::Reason;
use crate::request::Headers;

/// What the first line of a request has beside method and target, and the empty line after the
/// header, in bytes.
const LINE_BYTES: usize = "  HTTP/1.1\r\n\r\n".len();

/// Finds the endpoint of a path.
pub(crate) fn find_endpoint(paths: &Paths, has_demo: bool, path: &str) -> Endpoint {
    // A path that is an endpoint's own outweighs one that lies below another endpoint.
    let is_own = |spec: &&&EndpointSpec| match spec.path {
        Path::At(_) | Path::AnyOf(_) | Path::Beside(..) => {
            paths.all_of(spec.endpoint).iter().any(|own| own == path)
        }
        Path::Demo(own) => has_demo && own == path,
        Path::Fixed(own) => own == path,
        _ => false,
    };
    let is_below = |spec: &&&EndpointSpec| match spec.path {
        Path::AbovePartner(_) | Path::AboveSystem(_) => {
            sender_key(paths, spec.endpoint, path).is_some()
        }
        Path::Below(above, segments) => lies_below(paths.all_of(above), segments, path),
        Path::BelowKey(_, segments) => lies_below(paths.all_of(spec.endpoint), segments, path),
        Path::Around(above, around) => between(paths.of(above), around, path).is_some(),
        _ => false,
    };
    ENDPOINTS
        .iter()
        .find(is_own)
        .or_else(|| ENDPOINTS.iter().find(is_below))
        .map_or(Endpoint::Unknown, |spec| spec.endpoint)
}

/// Returns whether a path is one of these segments below one of the parents.
fn lies_below(parents: &[String], segments: &[&str], path: &str) -> bool {
    let below = |parent: &String| {
        path.strip_prefix(parent.as_str())
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some_and(|segment| segments.contains(&segment))
    };
    parents.iter().any(below)
}

/// Returns the segment between two others that a path has below another one.
fn between<'p>(above: &str, [before, after]: [&str; 2], path: &'p str) -> Option<&'p str> {
    let rest = path.strip_prefix(above).filter(|_| !above.is_empty())?;
    let (first, rest) = rest.strip_prefix('/')?.split_once('/')?;
    let (segment, last) = rest.split_once('/')?;
    let is_between = first == before && last == after && !segment.is_empty();
    is_between.then_some(segment)
}

/// Returns the segment of an exchange's path that the endpoint leaves open; empty if there is none.
pub(crate) fn open_segment_of<'r>(exchange: &Exchange<'r>) -> &'r str {
    let paths = &exchange.edge.config.path;
    match exchange.endpoint.spec().path {
        Path::Around(above, around) => {
            between(paths.of(above), around, exchange.line.path).unwrap_or_default()
        }
        _ => "",
    }
}

/// Returns the partner's or the system's key that a path of such an endpoint ends with.
fn sender_key<'p>(paths: &Paths, endpoint: Endpoint, path: &'p str) -> Option<&'p str> {
    path.strip_prefix(paths.of(endpoint))?.strip_prefix('/')
}

/// Returns the partner's or the system's key that an exchange's path ends with; empty if there is
/// none.
pub(crate) fn sender_key_of<'r>(exchange: &Exchange<'r>) -> &'r str {
    let paths = &exchange.edge.config.path;
    sender_key(paths, exchange.endpoint, exchange.line.path).unwrap_or_default()
}

/// Asks the endpoint. Where it does more than record one hit its future is boxed: the future of a
/// request is moved as a whole, and would have room for the largest of them.
async fn handle(
    exchange: &Exchange<'_>,
    parts: &Parts,
    body: Incoming,
) -> Result<Content, Refusal> {
    let reply = match exchange.endpoint {
        Endpoint::Click | Endpoint::SnowplowRedirect => Box::pin(click::handle(exchange)).await,
        Endpoint::Callback => Box::pin(callback::handle(exchange, &parts.headers, body)).await,
        Endpoint::System => Box::pin(system::handle(exchange, &parts.headers, body)).await,
        Endpoint::Sync => Box::pin(sync::handle(exchange)).await,
        Endpoint::SetUid => Box::pin(sync::handle_set_uid(exchange)).await,
        Endpoint::Id => return id::handle(exchange),
        Endpoint::Consent => Box::pin(consent::handle(exchange, body)).await,
        Endpoint::Segments => Box::pin(segments::tell_segments(exchange, body)).await,
        Endpoint::Link => link::give_token(exchange),
        Endpoint::Privacy | Endpoint::PrivacyForm => {
            exchange.charge_request()?;
            Ok(Box::pin(privacy::serve_privacy(exchange, parts, body)).await)
        }
        Endpoint::Tag => tag::serve_tag(exchange, parts),
        Endpoint::SegmentSettings => segment::serve_settings(exchange),
        Endpoint::RudderstackConfig => segment::serve_source(exchange),
        Endpoint::Demo => Ok(demo::serve_demo(exchange)),
        Endpoint::Health => Ok(fixed::serve_health()),
        Endpoint::Robots => Ok(fixed::serve_robots()),
        Endpoint::Root => Ok(notice::serve_root(exchange)),
        Endpoint::Gpc => Ok(fixed::serve_gpc()),
        Endpoint::Icon => Ok(fixed::serve_icon()),
        Endpoint::Unknown => Err(Refusal(Reason::UnknownPath)),
        // The others record what their protocol reads: a GET brings one hit, a POST any number.
        _ if *exchange.line.method == Method::POST => Box::pin(event::handle(exchange, body)).await,
        _ => return pixel::handle(exchange).await,
    };
    reply.map(Content::Reply)
}

/// Answers a request that hyper read. `is_last` says that its connection takes no further one.
pub(crate) async fn route(
    worker: Rc<Worker>,
    peer: Peer,
    request: Request<Incoming>,
    is_last: bool,
) -> Result<Reply, Infallible> {
    let (parts, body) = request.into_parts();
    let edge = worker.edge.get();
    let uri = &parts.uri;
    let authority = uri.authority().map(Authority::as_str);
    let mut headers = Headers::read(&parts.headers);
    // In HTTP/2 the host stands in the request's target.
    headers.host = headers.host.or(authority);
    let has_demo = edge.demo_psql.is_some();
    let endpoint = find_endpoint(&edge.config.path, has_demo, uri.path());
    let line = Line {
        method: &parts.method,
        version: parts.version,
        scheme: uri.scheme_str(),
        authority,
        target: uri.path_and_query().map_or("", PathAndQuery::as_str),
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        header_bytes: header_bytes(&parts),
    };
    let exchange = Exchange::new((&*worker, &**edge), peer, endpoint, line, &headers);
    let outgoing = respond(&exchange, is_last, async || {
        handle(&exchange, &parts, body).await
    })
    .await;
    Ok(outgoing.into_reply())
}

/// Returns the size of a request's header.
fn header_bytes(parts: &Parts) -> usize {
    // In HTTP/2 each line counts as so many more (RFC 9113, section 6.5.2).
    let more_bytes = if parts.version < Version::HTTP_2 {
        ": \r\n".len()
    } else {
        32
    };
    let target = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    let lines = parts.headers.iter();
    let line_bytes = lines.map(|(name, value)| name.as_str().len() + value.len() + more_bytes);
    parts.method.as_str().len() + target.len() + LINE_BYTES + line_bytes.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_path_belongs_to_one_endpoint() {
        let text = "[path]\ntag = \"/t/tag.js\"\npixel = \"/a/p\"\n[[site]]\nkey = \"a\"\n";
        let config = Config::parse(text, []).expect("a right configuration");
        for (path, endpoint) in [
            ("/a/p", Endpoint::Pixel),
            ("/p.gif", Endpoint::Unknown),
            ("/a/p/", Endpoint::Unknown),
            ("/e", Endpoint::Event),
            ("/cb", Endpoint::Unknown),
            ("/cb/network", Endpoint::Callback),
            ("/t/tag.js", Endpoint::Tag),
            ("/tag.js", Endpoint::Unknown),
            ("/s/crm", Endpoint::System),
            ("/s", Endpoint::Unknown),
            ("/sync/network", Endpoint::Sync),
            ("/setuid", Endpoint::SetUid),
            ("/privacy", Endpoint::Privacy),
            ("/privacy/choice", Endpoint::PrivacyForm),
            ("/privacy/erasure", Endpoint::PrivacyForm),
            ("/privacy/other", Endpoint::Unknown),
            ("/demo", Endpoint::Unknown),
            ("/", Endpoint::Root),
            ("/favicon.ico", Endpoint::Icon),
            ("/.well-known/gpc.json", Endpoint::Gpc),
            ("/.well-known/", Endpoint::Unknown),
            ("//", Endpoint::Unknown),
            ("", Endpoint::Unknown),
        ] {
            assert_eq!(find_endpoint(&config.path, false, path), endpoint, "{path}");
        }
        assert_eq!(find_endpoint(&config.path, true, "/demo"), Endpoint::Demo);
        let text = text.replace("/a/p", "/favicon.ico");
        let moved = Config::parse(&text, []).expect("a right configuration");
        let endpoint = find_endpoint(&moved.path, false, "/favicon.ico");
        assert_eq!(endpoint, Endpoint::Pixel, "what is configured comes first");
        assert_eq!(
            sender_key(&config.path, Endpoint::Callback, "/cb/a/b"),
            Some("a/b")
        );
    }
}
