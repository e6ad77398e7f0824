//! Which endpoint a request is for, what every request must keep to, and the count of each reply.

use std::convert::Infallible;
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request as HttpRequest, Version};

use crate::clock;
use crate::config::{Paths, Site};
use crate::edge::endpoint::{callback, click, consent, demo, event, id, pixel, privacy, sync, tag};
use crate::edge::exchange::admit::Request;
use crate::edge::exchange::reply;
use crate::edge::exchange::reply::Reply;
use crate::edge::exchange::{cors, https};
use crate::edge::{Peer, Refusal, Worker};
use crate::endpoint::{ENDPOINTS, Endpoint, EndpointSpec, Path, Readers, URI_BYTES_MAX};
use crate::hit::Kind;
use crate::refusal::Reason;
use crate::request::Headers;

/// Finds the endpoint of a path.
pub(crate) fn find_endpoint(paths: &Paths, has_demo: bool, path: &str) -> Endpoint {
    // A path that is an endpoint's own outweighs one that lies below another endpoint.
    let is_own = |spec: &&&EndpointSpec| match spec.path {
        Path::At(_) => paths.of(spec.endpoint) == path,
        Path::Demo(own) => has_demo && own == path,
        _ => false,
    };
    let is_below = |spec: &&&EndpointSpec| match spec.path {
        Path::AbovePartner(_) => partner_key(paths, spec.endpoint, path).is_some(),
        Path::Below(above, segments) => path
            .strip_prefix(paths.of(above))
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some_and(|segment| segments.contains(&segment)),
        _ => false,
    };
    ENDPOINTS
        .iter()
        .find(is_own)
        .or_else(|| ENDPOINTS.iter().find(is_below))
        .map_or(Endpoint::Unknown, |spec| spec.endpoint)
}

/// Returns the partner's key that a path of such an endpoint ends with.
pub(crate) fn partner_key<'p>(paths: &Paths, endpoint: Endpoint, path: &'p str) -> Option<&'p str> {
    path.strip_prefix(paths.of(endpoint))?.strip_prefix('/')
}

/// Returns the sites whose pages may read the reply.
fn readers<'r>(request: &Request<'r>, endpoint: Endpoint, query: &'r str) -> &'r [Site] {
    match endpoint.spec().readers {
        Readers::AnySite => &request.edge.config.sites,
        Readers::SiteOfRequest => request.site_of(query).map_or(&[], std::slice::from_ref),
        Readers::Nobody => &[],
    }
}

/// Asks the endpoint. Where it does more than record one hit it is put in a box: a request's future is moved as a whole
/// and would have room for the largest of them.
async fn ask(
    worker: &Worker,
    request: &Request<'_>,
    endpoint: Endpoint,
    parts: &Parts,
    body: Incoming,
) -> Result<Reply, Refusal> {
    let query = parts.uri.query().unwrap_or_default();
    let record = parts.method != Method::HEAD;
    match endpoint {
        Endpoint::Pixel => pixel::answer(worker, request, query, Kind::PageView, record).await,
        Endpoint::Impression => {
            pixel::answer(worker, request, query, Kind::Impression, record).await
        }
        Endpoint::Click => Box::pin(click::answer(worker, request, query, record)).await,
        Endpoint::Callback => {
            let key = partner_key(&request.edge.config.path, endpoint, parts.uri.path());
            Box::pin(callback::answer(
                worker,
                request,
                key.unwrap_or_default(),
                parts,
                body,
            ))
            .await
        }
        Endpoint::Sync => {
            let key = partner_key(&request.edge.config.path, endpoint, parts.uri.path());
            Box::pin(sync::answer(
                worker,
                request,
                key.unwrap_or_default(),
                query,
                record,
            ))
            .await
        }
        Endpoint::SetUid => Box::pin(sync::set_uid(worker, request, query, record)).await,
        Endpoint::Event => Box::pin(event::answer(worker, request, query, body)).await,
        Endpoint::Id => id::answer(request, query, record),
        Endpoint::Consent => {
            Box::pin(consent::answer(worker, request, query, &parts.method, body)).await
        }
        Endpoint::Privacy | Endpoint::PrivacyForm => {
            Ok(Box::pin(privacy::answer(worker, request, parts, body)).await)
        }
        Endpoint::Tag => tag::answer(request, parts),
        Endpoint::Demo => Ok(demo::answer(request.edge)),
        Endpoint::Unknown => Err(Refusal(Reason::UnknownPath)),
    }
}

/// Answers one request; the last one of a connection is told so.
pub(crate) async fn route(
    worker: Rc<Worker>,
    peer: Peer,
    request: HttpRequest<Incoming>,
    is_last: bool,
) -> Result<Reply, Infallible> {
    let begun = clock::monotonic();
    let worker = &*worker;
    let (parts, body) = request.into_parts();
    let held = worker.edge.get();
    let edge = &**held;
    let mut headers = Headers::read(&parts.headers);
    // In HTTP/2 the host stands in the request's target.
    headers.host = headers
        .host
        .or(parts.uri.authority().map(|authority| authority.as_str()));
    let has_demo = edge.demo_psql.is_some();
    let endpoint = find_endpoint(&edge.config.path, has_demo, parts.uri.path());
    let request = Request::new(worker, edge, &headers, peer, endpoint);
    let http = &edge.config.http;
    let query = parts.uri.query().unwrap_or_default();
    let sites = readers(&request, endpoint, query);
    let answer = match check(&parts, &headers, endpoint) {
        Err(refusal) => Err(refusal),
        Ok(()) if parts.method == Method::OPTIONS => {
            cors::preflight(sites, &headers, endpoint.spec().methods)
        }
        Ok(())
            if endpoint == Endpoint::Privacy && http.redirect_to_https && !request.is_secure() =>
        {
            let target = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
            let location = https::location(
                headers.host.unwrap_or_default(),
                edge.config.tls.listen,
                target,
            );
            reply::moved(&location).ok_or(Refusal(Reason::Host))
        }
        Ok(()) => ask(worker, &request, endpoint, &parts, body).await,
    };
    let target = (endpoint, parts.uri.path(), query);
    let mut reply = complete(&request, sites, target, answer);
    // A request whose length is coded in chunks is where proxies and servers disagree, and a refused one
    // with a body is where an attacker tries: nothing may follow them on the same connection.
    let is_refused_body = headers.has_length && reply.status().is_client_error();
    let ends = headers.transfer_encodings > 0 || is_refused_body || is_last;
    if ends && parts.version < Version::HTTP_2 {
        reply::end(&mut reply);
    }
    edge.metrics
        .request(endpoint, reply.status().as_str(), begun.elapsed());
    Ok(reply)
}

/// The reply to an answer or a refusal, with what browsers and `sites` are told beside.
pub(crate) fn complete(
    request: &Request<'_>,
    sites: &[Site],
    (endpoint, path, query): (Endpoint, &str, &str),
    answer: Result<Reply, Refusal>,
) -> Reply {
    let edge = request.edge;
    let mut reply = answer.unwrap_or_else(|refusal| {
        edge.metrics.refusal(refusal.0);
        // A partner's token may stand in its query.
        let shown = if endpoint == Endpoint::Callback {
            ""
        } else {
            query
        };
        edge.live
            .refused(request, (endpoint, path, shown), ("", ""), refusal);
        let mut reply = reply::refused(refusal, endpoint.spec().shape);
        if refusal.0 == Reason::Method {
            reply.headers_mut().insert(
                header::ALLOW,
                HeaderValue::from_static(endpoint.spec().methods),
            );
        }
        reply
    });
    cors::allow(sites, request.headers, &mut reply);
    if let Some(hsts) = edge.hsts.as_ref().filter(|_| request.peer.tls) {
        reply
            .headers_mut()
            .insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    reply
}

/// Whether exactly one host is named, and soundly.
pub(crate) fn has_sound_host(headers: &Headers<'_>) -> bool {
    headers.hosts == 1 && headers.host.is_some_and(is_host)
}

/// What holds for every request, whatever it asks for.
fn check(parts: &Parts, headers: &Headers<'_>, endpoint: Endpoint) -> Result<(), Refusal> {
    let target = parts
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if target > URI_BYTES_MAX {
        return Err(Refusal(Reason::UriTooLong));
    }
    let host_is_sound = if parts.version < Version::HTTP_2 {
        parts.uri.authority().is_none() && has_sound_host(headers)
    } else {
        // Where both are there they are the same (RFC 9113, section 8.3.1): headers.host is the header then.
        headers.hosts <= 1
            && parts.uri.authority().is_some_and(|authority| {
                let is_same = |host| authority.as_str().eq_ignore_ascii_case(host);
                headers.host.is_some_and(is_same)
            })
            && headers.host.is_some_and(is_host)
    };
    if !host_is_sound {
        return Err(Refusal(Reason::Host));
    }
    if headers.transfer_encodings > 0 && !headers.is_chunked {
        return Err(Refusal(Reason::TransferEncoding));
    }
    let has_body = headers.has_length || headers.is_chunked;
    if parts.method != Method::POST && has_body {
        return Err(Refusal(Reason::UnexpectedBody));
    }
    if endpoint == Endpoint::Unknown {
        return Err(Refusal(Reason::UnknownPath));
    }
    if endpoint.spec().accepts(parts.method.as_str()) {
        Ok(())
    } else {
        Err(Refusal(Reason::Method))
    }
}

/// A host name or address with an optional port: no userinfo, no path, nothing that a log or a
/// proxy could read otherwise.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, port)) => {
            let is_ipv6 = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            if name.is_empty() || !name.bytes().all(is_ipv6) {
                return false;
            }
            (name, port)
        }
        None => {
            let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
            let is_plain =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            if name.is_empty() || !name.bytes().all(is_plain) {
                return false;
            }
            (name, port)
        }
    };
    let port_is_sound = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= 255 && port.len() <= 6 && port_is_sound
}
