//! One connection, from its first byte to its end: which protocol it speaks, what answers its
//! requests, and when it ends.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FusedFuture, FutureExt as _};
use hyper::Request as HttpRequest;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::server::conn::http2::Connection as Http2Connection;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::course::Generation;
use super::crowd::{Crowd, Member, Requests};
use super::plain::Plain;
use crate::edge::exchange::reply::{Reply, ReplyBody};
use crate::edge::transport::closing::{Closing, Placed};
use crate::edge::transport::entrance::Preamble;
use crate::edge::transport::heads::{Heads, Inbound, Replace};
use crate::edge::transport::limits::{
    AddressSlot, CONNECTION_REQUESTS_MAX, CONNECTION_TIME_MAX, HANDSHAKE_TIME_MAX, HEADER_TIME_MAX,
    LAST_REQUEST_TIME_MAX, Limits, PREFACE_TIME_MAX, TooMany,
};
use crate::edge::transport::socket::Socket;
use crate::edge::transport::stream::{Inflow, Stream};
use crate::edge::transport::timer::Wheel;
use crate::edge::transport::{http2, proxy, tls};
use crate::edge::{Peer, Worker, router, unread};
use crate::endpoint::TRACKER_HEADER_BYTES_MAX;
use crate::refusal::Reason;

/// What the connections of one edge thread share.
pub(crate) struct ThreadShared {
    pub(crate) worker: Rc<Worker>,
    pub(crate) wheel: Wheel,
    pub(crate) closing: Closing,
    pub(crate) limits: Arc<Limits>,
    pub(crate) crowd: Rc<Crowd>,
}

impl ThreadShared {
    /// Ends a connection that waits, to make room for another one: one of this thread's or, if none
    /// of them waits, one of each thread's.
    pub(crate) fn give_way(&self) {
        if !self.crowd.give_way() {
            self.limits.crowded.notify_waiters();
        }
    }

    /// Checks whether the configuration trusts the address as a proxy.
    pub(crate) fn is_proxy(&self, ip: IpAddr) -> bool {
        let edge = self.worker.edge.get();
        let mut proxies = edge.config.http.trusted_proxies.iter();
        proxies.any(|network| network.contains(&ip))
    }

    /// Counts a connection for its address, unless that is a proxy's. Fails if the address already
    /// has as many as it may.
    pub(crate) fn claim_slot(&self, ip: IpAddr) -> Result<Option<AddressSlot>, TooMany> {
        let edge = self.worker.edge.get();
        let per_address_max = edge.config.http.connections_per_address_max;
        if self.is_proxy(ip) || per_address_max == 0 {
            return Ok(None);
        }
        let slot = self.limits.claim_slot(ip, per_address_max);
        if slot.is_err() {
            self.worker.metrics.connections_refused.increment(1);
        }
        slot.map(Some)
    }
}

/// One accepted connection.
pub(crate) struct Connection {
    pub(crate) shared: Rc<ThreadShared>,
    pub(crate) preamble: Rc<Preamble>,
    pub(crate) generation: Rc<Generation>,
    pub(crate) peer: Peer,
    pub(crate) slot: Option<AddressSlot>,
    pub(crate) member: Member,
}

/// Which protocol a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// What comes next on a connection.
enum Next {
    /// A request that may be plain.
    Request,
    /// A request that hyper answers.
    Hyper,
    End,
}

/// The future of a reply. hyper keeps room for one in each connection, even an idle one; boxed, it
/// takes its kilobytes only during a request.
type ReplyFuture = Pin<Box<dyn Future<Output = Result<Reply, Infallible>>>>;

impl Connection {
    /// Serves the connection to its end.
    pub(crate) async fn serve(mut self, mut placed: Placed) {
        if self.preamble.proxy_protocol && !self.read_proxy_header(placed.stream()).await {
            return;
        }
        let Some((mut stream, protocol)) = self.begin(placed).await else {
            return;
        };
        let requests = Rc::clone(&self.member.requests);
        let mut ends = pin!(self.wait_for_end(&requests).fuse());
        match protocol {
            Protocol::Http1 => {
                if !self.serve_plain(&mut stream, &requests, &mut ends).await {
                    // The client of one that gives way may not even read this.
                    if !requests.gives_way() {
                        stream.shut_down().await;
                    }
                    return;
                }
            }
            Protocol::Http2 => {}
        }
        let ends = async {
            if !ends.is_terminated() {
                ends.await;
            }
        };
        match protocol {
            Protocol::Http1 => {
                let inbound = Rc::new(Inbound::default());
                let service = service_fn(self.reply_to_http1(&requests, Rc::clone(&inbound)));
                let replace = self.replace_refusals(&requests);
                let wheel = self.shared.wheel.clone();
                let heads = Heads::new(stream, inbound, replace, wheel);
                let connection = http1::Builder::new()
                    .timer(self.shared.wheel.clone())
                    .header_read_timeout(HEADER_TIME_MAX)
                    .max_buf_size(TRACKER_HEADER_BYTES_MAX)
                    // Copying a GIF after its header is cheaper than giving the kernel two pieces.
                    .writev(false)
                    .serve_connection(TokioIo::new(heads), service);
                self.run(Box::pin(connection), &requests, ends).await;
            }
            Protocol::Http2 => {
                let inflow = stream.inflow();
                inflow.allow(http2::REQUEST_BYTES_MAX);
                let service = service_fn(self.reply_to_http2(&requests, inflow));
                let io = TokioIo::new(stream);
                let connection =
                    http2::builder(self.shared.wheel.clone()).serve_connection(io, service);
                let ends = async {
                    tokio::select! {
                        () = ends => {}
                        () = self.wait_until_idle(&requests) => {}
                    }
                };
                self.run(Box::pin(connection), &requests, ends).await;
            }
        }
    }

    /// Answers plain requests, one after the other. Returns whether hyper is to continue with the
    /// bytes read ahead, because another kind of request came or one that is to be the last.
    async fn serve_plain(
        &self,
        stream: &mut Stream,
        requests: &Requests,
        ends: &mut (impl FusedFuture<Output = ()> + Unpin),
    ) -> bool {
        let mut late = self.shared.wheel.sleep(HEADER_TIME_MAX);
        loop {
            if ends.is_terminated() {
                return !stream.bytes_ahead().is_empty();
            }
            let is_there = tokio::select! {
                biased;
                head = stream.read_head(TRACKER_HEADER_BYTES_MAX) => head.unwrap_or(false),
                () = &mut *ends => false,
                () = &mut late => false,
            };
            if !is_there {
                return false;
            }
            if self.is_last(requests) {
                return true;
            }
            let next = tokio::select! {
                biased;
                next = self.answer_plain(stream, requests) => next,
                () = self.wait_for_last_request(ends) => Next::End,
            };
            match next {
                Next::Request => late.restart(HEADER_TIME_MAX),
                Next::Hyper => return true,
                Next::End => return false,
            }
        }
    }

    /// Answers the request that was read ahead, if it is plain.
    async fn answer_plain(&self, stream: &mut Stream, requests: &Requests) -> Next {
        let worker = &*self.shared.worker;
        let edge = worker.edge.get();
        let Some((plain, length)) = Plain::read(&edge.config, stream.bytes_ahead()) else {
            return Next::Hyper;
        };
        requests.count.set(requests.count.get() + 1);
        let under_way = self.member.begin();
        let mut reply = worker.replies.room();
        let goes_on = plain.answer(worker, &edge, self.peer, &mut reply).await;
        drop(under_way);
        stream.consume(length);
        let written = async {
            stream.write_all(&reply).await?;
            stream.flush().await
        };
        let is_written = written.await.is_ok();
        worker.replies.keep(reply);
        if is_written && goes_on {
            Next::Request
        } else {
            Next::End
        }
    }

    /// Checks whether the next request is the last one of its connection.
    fn is_last(&self, requests: &Requests) -> bool {
        requests.count.get() + 1 >= CONNECTION_REQUESTS_MAX || self.generation.ends_after_reply()
    }

    /// Waits until the last request has had its time.
    async fn wait_for_last_request(&self, ends: &mut (impl FusedFuture<Output = ()> + Unpin)) {
        if !ends.is_terminated() {
            ends.await;
        }
        if self.member.requests.gives_way() {
            return;
        }
        self.shared.wheel.sleep(LAST_REQUEST_TIME_MAX).await;
    }

    /// Reads from a proxy for which client it connects; the connection is that client's from then
    /// on. Returns false if the connection is to end.
    async fn read_proxy_header(&mut self, stream: &mut TcpStream) -> bool {
        let header = Box::pin(proxy::read_header(stream));
        let Ok(client) = self.limit_time(PREFACE_TIME_MAX, header).await else {
            self.shared.worker.metrics.proxy_errors.increment(1);
            return false;
        };
        let Some(client) = client else {
            return true;
        };
        self.peer.ip = client;
        let slot = self.shared.claim_slot(client);
        slot.map(|slot| self.slot = slot).is_ok()
    }

    /// Finds out which protocol the client speaks, after the TLS handshake if there is one.
    async fn begin(&self, placed: Placed) -> Option<(Stream, Protocol)> {
        let socket = Socket::new(placed, self.shared.wheel.clone());
        let memory = Arc::clone(&self.shared.limits.memory);
        let Some(acceptor) = &self.preamble.tls else {
            let mut stream = Stream::plain(socket, memory);
            let may_be_http2 = self.shared.worker.edge.get().config.http.h2c;
            let protocol = if may_be_http2 && self.has_preface(&mut stream).await? {
                Protocol::Http2
            } else {
                Protocol::Http1
            };
            return Some((stream, protocol));
        };
        let metrics = &self.shared.worker.metrics;
        // Boxed, it takes its kilobytes only while it lasts.
        let handshake = Box::pin(self.limit_time(HANDSHAKE_TIME_MAX, acceptor.accept(socket)));
        let stream = tls::count_handshake(handshake, metrics).await?;
        let is_http2 = tls::is_http2(&stream);
        let mut stream = Stream::from_tls(stream, memory);
        if !is_http2 {
            return Some((stream, Protocol::Http1));
        }
        let speaks = self.has_preface(&mut stream).await?;
        speaks.then_some((stream, Protocol::Http2))
    }

    /// Checks whether HTTP/2 begins. Returns `None` if nothing arrives in time.
    async fn has_preface(&self, stream: &mut Stream) -> Option<bool> {
        let begins = stream.starts_with(http2::PREFACE);
        self.limit_time(PREFACE_TIME_MAX, begins).await.ok()
    }

    /// Limits what a client does before its first request: to `time`, and to the stop.
    async fn limit_time<T>(
        &self,
        time: Duration,
        work: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.generation.wait_to_close_idle() => Err(io::ErrorKind::Interrupted.into()),
            () = self.member.requests.wait_until_over() => Err(io::ErrorKind::Interrupted.into()),
            () = self.shared.wheel.sleep(time) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Returns the function with which hyper answers the requests of an HTTP/1.1 connection.
    fn reply_to_http1(
        &self,
        requests: &Rc<Requests>,
        inbound: Rc<Inbound>,
    ) -> impl Fn(HttpRequest<Incoming>) -> ReplyFuture + use<> {
        let answer = self.answer_function(requests);
        move |request| {
            inbound.expect_body(request.body().size_hint().exact());
            answer(request, inbound.has_bare_line_feed())
        }
    }

    /// Returns the function with which hyper answers the requests of an HTTP/2 connection.
    fn reply_to_http2(
        &self,
        requests: &Rc<Requests>,
        inflow: Rc<Inflow>,
    ) -> impl Fn(HttpRequest<Incoming>) -> ReplyFuture + use<> {
        let answer = self.answer_function(requests);
        move |request| {
            inflow.allow(http2::REQUEST_BYTES_MAX);
            answer(request, false)
        }
    }

    /// Returns the function that answers a request of this connection, and is told whether it must
    /// be the last.
    fn answer_function(
        &self,
        requests: &Rc<Requests>,
    ) -> impl Fn(HttpRequest<Incoming>, bool) -> ReplyFuture + use<> {
        let (shared, peer) = (Rc::clone(&self.shared), self.peer);
        let (requests, generation) = (Rc::clone(requests), Rc::clone(&self.generation));
        let begin = self.member.begin_function();
        move |request, is_last| {
            let under_way = begin();
            requests.count.set(requests.count.get() + 1);
            let is_last = is_last
                || requests.count.get() == CONNECTION_REQUESTS_MAX
                || generation.ends_after_reply();
            if is_last {
                requests.is_over.notify_one();
            }
            let worker = Rc::clone(&shared.worker);
            Box::pin(async move {
                let reply = router::route(worker, peer, request, is_last).await;
                drop(under_way);
                reply
            })
        }
    }

    /// Returns the function that replaces hyper's own refusals.
    fn replace_refusals(&self, requests: &Rc<Requests>) -> Replace {
        let (shared, peer) = (Rc::clone(&self.shared), self.peer);
        let requests = Rc::clone(requests);
        Box::new(move |reply, head| {
            let reason = unread::reason_of(reply)?;
            requests.is_refused.set(true);
            Some(unread::answer(&shared.worker, peer, head, reason))
        })
    }

    /// Runs a connection to its end, or until a limit ends it. Boxed, it is not moved from future
    /// to future, each of which would keep room for it.
    async fn run(
        &self,
        mut connection: Pin<Box<impl Graceful>>,
        requests: &Requests,
        ends: impl Future<Output = ()>,
    ) {
        let result = tokio::select! {
            biased;
            result = connection.as_mut() => result,
            () = ends => {
                if requests.gives_way() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    biased;
                    result = connection.as_mut() => result,
                    () = self.shared.wheel.sleep(LAST_REQUEST_TIME_MAX) => return,
                }
            }
        };
        // Other errors are the client's too: it broke off, or a limit ended it.
        if result.is_err_and(|error| error.is_parse()) && !requests.is_refused.get() {
            self.shared.worker.metrics.refusal(Reason::Malformed);
        }
    }

    /// Waits until the connection is to accept no further request.
    async fn wait_for_end(&self, requests: &Requests) {
        tokio::select! {
            biased;
            () = self.generation.wait_to_close_idle() => {}
            () = requests.wait_until_over() => {}
            () = self.shared.wheel.sleep(CONNECTION_TIME_MAX) => {}
        }
    }

    /// Waits until an HTTP/2 connection has had no request for a while.
    async fn wait_until_idle(&self, requests: &Requests) {
        let mut before = None;
        while before != Some(requests.count.get()) {
            before = Some(requests.count.get());
            self.shared.wheel.sleep(http2::IDLE_TIME).await;
        }
    }
}

/// A connection of either protocol that can finish its last request.
trait Graceful: Future<Output = hyper::Result<()>> {
    /// Stops accepting requests.
    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<S> Graceful for http1::Connection<TokioIo<Heads>, S>
where
    S: HttpService<Incoming, ResBody = ReplyBody, Error = Infallible>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        http1::Connection::graceful_shutdown(self);
    }
}

impl<S> Graceful for Http2Connection<TokioIo<Stream>, S, http2::Local>
where
    S: HttpService<Incoming, ResBody = ReplyBody, Error = Infallible>,
    S::Future: 'static,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        Http2Connection::graceful_shutdown(self);
    }
}
