//! One connection, from its first byte to its end: which protocol it speaks, who answers its
//! requests, and when it has had enough.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{FusedFuture, FutureExt as _};
use hyper::Request as HttpRequest;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::server::conn::http2::Connection as Http2Connection;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::listener::EdgeThread;
use super::plain::Plain;
use crate::edge::exchange::reply::{Reply, ReplyBody};
use crate::edge::transport::entrance::Before;
use crate::edge::transport::limits::{
    CONNECTION_REQUESTS_MAX, CONNECTION_TIME_MAX, Entered, HANDSHAKE_TIME_MAX, HEADER_BYTES_MAX,
    HEADER_TIME_MAX, LAST_REQUEST_TIME_MAX, PREFACE_TIME_MAX,
};
use crate::edge::transport::socket::Socket;
use crate::edge::transport::stream::{Inflow, Stream};
use crate::edge::transport::{http2, proxy, tls};
use crate::edge::{Peer, router};
use crate::refusal::Reason;

/// What connections hear of the stop.
#[derive(Default)]
pub(crate) struct Draining {
    /// Each reply is the last one of its connection.
    pub(crate) replies_close: Cell<bool>,
    idle_ones_close: Cell<bool>,
    told: Notify,
}

impl Draining {
    pub(crate) fn close_idle_ones(&self) {
        self.idle_ones_close.set(true);
        self.told.notify_waiters();
    }

    /// When connections without a request are closed.
    async fn idle_ones_close(&self) {
        while !self.idle_ones_close.get() {
            self.told.notified().await;
        }
    }
}

pub(crate) struct Connection {
    pub(crate) thread: Rc<EdgeThread>,
    pub(crate) before: Rc<Before>,
    pub(crate) draining: Rc<Draining>,
    pub(crate) peer: Peer,
    pub(crate) entered: Option<Entered>,
}

/// Which protocol a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// What follows on a connection.
enum Next {
    /// A request that may be plain.
    Request,
    /// One that is hyper's.
    Hyper,
    End,
}

/// hyper keeps room for one in each connection, idle ones too. In a box it takes its kilobytes only
/// while there is a request.
type Answer = Pin<Box<dyn Future<Output = Result<Reply, Infallible>>>>;

/// What the requests of a connection tell it.
#[derive(Default)]
struct Requests {
    count: Cell<u32>,
    /// Notified where no further one is to be taken.
    worn: Notify,
}

impl Connection {
    pub(crate) async fn serve(mut self, mut stream: TcpStream) {
        if self.before.proxy_protocol && !self.is_announced(&mut stream).await {
            return;
        }
        let Some((mut stream, protocol)) = self.begin(stream).await else {
            return;
        };
        let inflow = stream.inflow();
        let requests = Rc::new(Requests::default());
        let mut ends = pin!(self.ends(&requests).fuse());
        match protocol {
            Protocol::Http1 => {
                if !self.serve_plain(&mut stream, &requests, &mut ends).await {
                    stream.end().await;
                    return;
                }
            }
            Protocol::Http2 => inflow.allow(http2::REQUEST_BYTES_MAX),
        }
        let ends = async {
            if !ends.is_terminated() {
                ends.await;
            }
        };
        let service = service_fn(self.answer(protocol, &requests, inflow));
        let io = TokioIo::new(stream);
        match protocol {
            Protocol::Http1 => {
                let connection = http1::Builder::new()
                    .timer(self.thread.wheel.clone())
                    .header_read_timeout(HEADER_TIME_MAX)
                    .max_buf_size(HEADER_BYTES_MAX)
                    // Copying a GIF to the end of its header is cheaper than a write of two pieces.
                    .writev(false)
                    .serve_connection(io, service);
                self.run(Box::pin(connection), ends).await;
            }
            Protocol::Http2 => {
                let connection =
                    http2::builder(self.thread.wheel.clone()).serve_connection(io, service);
                let ends = async {
                    tokio::select! {
                        () = ends => {}
                        () = self.rests(&requests) => {}
                    }
                };
                self.run(Box::pin(connection), ends).await;
            }
        }
    }

    /// Answers plain requests, one after the other. Whether hyper is to go on, with what is read
    /// ahead: another kind of request came, or one that is to be the last.
    async fn serve_plain(
        &self,
        stream: &mut Stream,
        requests: &Requests,
        ends: &mut (impl FusedFuture<Output = ()> + Unpin),
    ) -> bool {
        let mut late = self.thread.wheel.sleep(HEADER_TIME_MAX);
        loop {
            if ends.is_terminated() {
                return !stream.ahead().is_empty();
            }
            let is_there = tokio::select! {
                biased;
                head = stream.read_head(HEADER_BYTES_MAX) => head.unwrap_or(false),
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
                () = self.takes_too_long(ends) => Next::End,
            };
            match next {
                Next::Request => late.restart(HEADER_TIME_MAX),
                Next::Hyper => return true,
                Next::End => return false,
            }
        }
    }

    /// Answers the request that is read ahead, if it is plain.
    async fn answer_plain(&self, stream: &mut Stream, requests: &Requests) -> Next {
        let worker = &*self.thread.worker;
        let edge = worker.edge.get();
        let Some((plain, length)) = Plain::read(&edge.config, stream.ahead()) else {
            return Next::Hyper;
        };
        requests.count.set(requests.count.get() + 1);
        let mut reply = worker.replies.room();
        let goes_on = plain.answer(worker, &edge, self.peer, &mut reply).await;
        stream.take_ahead(length);
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

    /// Whether the request that comes next is the last one of its connection.
    fn is_last(&self, requests: &Requests) -> bool {
        requests.count.get() + 1 >= CONNECTION_REQUESTS_MAX || self.draining.replies_close.get()
    }

    /// When the last request has had its time.
    async fn takes_too_long(&self, ends: &mut (impl FusedFuture<Output = ()> + Unpin)) {
        if !ends.is_terminated() {
            ends.await;
        }
        self.thread.wheel.sleep(LAST_REQUEST_TIME_MAX).await;
    }

    /// Hears from a proxy for whom it connects: from then on the connection is that client's.
    async fn is_announced(&mut self, stream: &mut TcpStream) -> bool {
        let header = Box::pin(proxy::read_proxy_header(stream));
        let Ok(client) = self.within(PREFACE_TIME_MAX, header).await else {
            self.thread.worker.metrics.proxy_errors.increment(1);
            return false;
        };
        let Some(client) = client else {
            return true;
        };
        self.peer.ip = client;
        let entered = self.thread.enter(client);
        entered.map(|entered| self.entered = entered).is_ok()
    }

    /// Finds out which protocol is spoken, behind the handshake of TLS where there is one.
    async fn begin(&self, stream: TcpStream) -> Option<(Stream, Protocol)> {
        let socket = Socket::new(stream, self.thread.wheel.clone());
        let Some(acceptor) = &self.before.tls else {
            let mut stream = Stream::plain(socket);
            let may_be_http2 = self.thread.worker.edge.get().config.http.h2c;
            let protocol = if may_be_http2 && self.has_preface(&mut stream).await? {
                Protocol::Http2
            } else {
                Protocol::Http1
            };
            return Some((stream, protocol));
        };
        let metrics = &self.thread.worker.metrics;
        // In a box it takes its kilobytes only while it lasts.
        let handshake = Box::pin(self.within(HANDSHAKE_TIME_MAX, acceptor.accept(socket)));
        let stream = tls::count_handshake(handshake, metrics).await?;
        let is_http2 = tls::is_http2(&stream);
        let mut stream = Stream::encrypted(stream);
        if !is_http2 {
            return Some((stream, Protocol::Http1));
        }
        let speaks = self.has_preface(&mut stream).await?;
        speaks.then_some((stream, Protocol::Http2))
    }

    /// Whether HTTP/2 begins; `None` where nothing does in time.
    async fn has_preface(&self, stream: &mut Stream) -> Option<bool> {
        let begins = stream.starts_with(http2::PREFACE);
        self.within(PREFACE_TIME_MAX, begins).await.ok()
    }

    /// What a client does before there is a request: it has `time`, and not until the stop.
    async fn within<T>(
        &self,
        time: Duration,
        work: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.draining.idle_ones_close() => Err(io::ErrorKind::Interrupted.into()),
            () = self.thread.wheel.sleep(time) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Answers a request of this connection.
    fn answer(
        &self,
        protocol: Protocol,
        requests: &Rc<Requests>,
        inflow: Rc<Inflow>,
    ) -> impl Fn(HttpRequest<Incoming>) -> Answer + use<> {
        let (thread, peer) = (Rc::clone(&self.thread), self.peer);
        let (requests, draining) = (Rc::clone(requests), Rc::clone(&self.draining));
        move |request| {
            requests.count.set(requests.count.get() + 1);
            let lines_are_unsound = match protocol {
                Protocol::Http1 => inflow.has_bare_line_feed(),
                Protocol::Http2 => {
                    inflow.allow(http2::REQUEST_BYTES_MAX);
                    false
                }
            };
            let is_last = requests.count.get() == CONNECTION_REQUESTS_MAX
                || draining.replies_close.get()
                || lines_are_unsound;
            if is_last {
                requests.worn.notify_one();
            }
            Box::pin(router::route(
                Rc::clone(&thread.worker),
                peer,
                request,
                is_last,
            ))
        }
    }

    /// Runs a connection to its end, which a limit may bring. In a box it is not moved from future
    /// to future, each of which would keep room for it.
    async fn run(&self, mut connection: Pin<Box<impl Graceful>>, ends: impl Future<Output = ()>) {
        let result = tokio::select! {
            biased;
            result = connection.as_mut() => result,
            () = ends => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    biased;
                    result = connection.as_mut() => result,
                    () = self.thread.wheel.sleep(LAST_REQUEST_TIME_MAX) => return,
                }
            }
        };
        // Another error is the client's as well: it broke off, or was ended by a limit.
        if result.is_err_and(|error| error.is_parse()) {
            self.thread.worker.metrics.refusal(Reason::Malformed);
        }
    }

    /// When the connection is to take no further request.
    async fn ends(&self, requests: &Requests) {
        tokio::select! {
            biased;
            () = self.draining.idle_ones_close() => {}
            () = requests.worn.notified() => {}
            () = self.thread.wheel.sleep(CONNECTION_TIME_MAX) => {}
        }
    }

    /// When a connection of HTTP/2 has been without a request for long.
    async fn rests(&self, requests: &Requests) {
        let mut before = None;
        while before != Some(requests.count.get()) {
            before = Some(requests.count.get());
            self.thread.wheel.sleep(http2::IDLE_TIME).await;
        }
    }
}

/// A connection of either protocol.
trait Graceful: Future<Output = hyper::Result<()>> {
    /// Takes no further request.
    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<S> Graceful for http1::Connection<TokioIo<Stream>, S>
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
