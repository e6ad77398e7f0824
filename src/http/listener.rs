//! Accepts connections on one edge thread, and ends those that take too much or too long.
//!
//! Each edge thread has entrances of its own, a runtime and a timer wheel. What a connection may take is in
//! `limits`.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use hyper::Request as HttpRequest;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::server::conn::http2::Connection as Http2Connection;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};

use super::current::Current;
use super::entrance::{Before, Entrance};
use super::limits::{
    CONNECTION_REQUESTS_MAX, CONNECTION_TIME_MAX, Entered, HANDSHAKE_TIME_MAX, HEADER_BYTES_MAX,
    HEADER_TIME_MAX, LAST_REQUEST_TIME_MAX, Limits, PREFACE_TIME_MAX, TooMany,
};
use super::mint::Mint;
use super::reply::{Reply, ReplyBody};
use super::socket::Socket;
use super::stream::{Inflow, Stream};
use super::timer::Wheel;
use super::{Edge, Peer, Spools, Worker, http2, proxy, router, tls};
use crate::metrics::Reason;
use crate::spool::Spool;

/// Pause after an error of accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time that requests in flight have once the collector stops.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(4);
/// How long after that a connection without a request stays open: a request that its client has sent by
/// then is answered, with the word that it was the last.
const DRAIN_IDLE_TIME: Duration = Duration::from_secs(1);

/// The same where another process goes on: whoever connects meanwhile waits for it.
const HAND_OVER_TIME_MAX: Duration = Duration::from_secs(1);
const HAND_OVER_IDLE_TIME: Duration = Duration::from_millis(250);

/// What the edge threads are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Serve.
    Open,
    /// Serve, but let each reply end its connection: another process is about to go on.
    Leaving,
    /// Stop. The other process has the listening sockets, and takes who connects from now on.
    HandedOver,
    /// Stop. Who has connected already is served.
    Stopping,
}

/// Tells the edge threads their course.
pub type Drain = watch::Receiver<Course>;

/// Runs one edge thread until `drain` says stop and the requests in flight are answered.
///
/// # Errors
/// Where the runtime or an entrance cannot be set up.
pub fn run(
    edge: Arc<ArcSwap<Edge>>,
    spools: &Spools,
    entrances: Vec<Entrance>,
    limits: Arc<Limits>,
    drain: Drain,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let [appender, instructions] = [&spools.hits, &spools.instructions].map(Spool::appender);
        let delivering =
            [&appender, &instructions].map(|appender| tokio::task::spawn_local(appender.deliver()));
        let thread = Rc::new(Thread {
            worker: Rc::new(Worker {
                metrics: Arc::clone(&edge.load().metrics),
                edge: Current::new(edge),
                appender,
                instructions,
                mint: Mint::default(),
            }),
            wheel: Wheel::new(),
            limits,
            draining: RefCell::default(),
            left: RefCell::default(),
            open: Cell::new(0),
            closed: Notify::new(),
        });
        let turn = tokio::task::spawn_local(thread.wheel.clone().turn());
        let accepting = entrances
            .into_iter()
            .map(|entrance| thread.accept(entrance, drain.clone()));
        let (accepted, end) = tokio::join!(join_all(accepting), thread.steer(drain.clone()));
        thread.drain(end).await;
        turn.abort();
        delivering.iter().for_each(tokio::task::JoinHandle::abort);
        accepted.into_iter().collect()
    })
}

struct Thread {
    worker: Rc<Worker>,
    wheel: Wheel,
    limits: Arc<Limits>,
    draining: RefCell<Rc<Draining>>,
    /// What those hear that connected before the course last changed.
    left: RefCell<Option<Rc<Draining>>>,
    open: Cell<usize>,
    closed: Notify,
}

impl Thread {
    /// Takes connections until the course is to stop.
    async fn accept(self: &Rc<Self>, entrance: Entrance, mut drain: Drain) -> io::Result<()> {
        let listener = TcpListener::from_std(entrance.socket)?;
        let before = Rc::new(entrance.before);
        let mut fails = false;
        loop {
            let all = Arc::clone(&self.limits.all);
            let accepted = async {
                let permit = all.acquire_owned().await;
                (permit, listener.accept().await)
            };
            tokio::select! {
                (Ok(permit), accepted) = accepted => match accepted {
                    Ok((stream, address)) => {
                        fails = false;
                        self.open(stream, address, permit, &before);
                    }
                    Err(error) => {
                        if !fails {
                            tracing::warn!(%error, "accept failed; tried again until it does not");
                        }
                        fails = true;
                        self.worker.metrics.accept_errors.inc();
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                end = end(&mut drain) => match end {
                    Course::HandedOver => return Ok(()),
                    _ => break,
                },
            }
        }
        // Who has connected already is served: closing the listener would reset them.
        // Asked of the system itself: the runtime may not have heard of the last ones yet.
        let listener = listener.into_std()?;
        while let Ok((stream, address)) = listener.accept() {
            if let Ok(permit) = Arc::clone(&self.limits.all).try_acquire_owned()
                && stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                self.open(stream, address, permit, &before);
            }
        }
        // A program that is being started at this moment still has our sockets: closed alone, they would go on to take
        // connections that nobody serves.
        SockRef::from(&listener).shutdown(Shutdown::Read)
    }

    /// Follows the course until it is to stop; says how.
    async fn steer(&self, mut drain: Drain) -> Course {
        loop {
            match next(&mut drain).await {
                course @ (Course::Open | Course::Leaving) => self.change_to(course),
                end => return end,
            }
        }
    }

    /// From now on connections are told another thing than those that are open.
    fn change_to(&self, course: Course) {
        let is_leaving = course == Course::Leaving;
        let next = Rc::new(Draining::default());
        next.replies_close.set(is_leaving);
        let left = self.draining.replace(next);
        left.replies_close.set(is_leaving);
        if let Some(before) = self.left.replace(Some(left)) {
            before.close_idle_ones();
        }
    }

    /// Serves a connection on a task of its own.
    fn open(
        self: &Rc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        permit: OwnedSemaphorePermit,
        before: &Rc<Before>,
    ) {
        let ip = address.ip().to_canonical();
        if before.proxy_protocol && !self.is_proxy(ip) {
            self.worker.metrics.proxy_errors.inc();
            return;
        }
        let Ok(entered) = self.enter(ip) else {
            return;
        };
        // Replies are one small segment: nothing is won by holding them back.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        self.open.set(self.open.get() + 1);
        self.worker.metrics.connections.inc();
        let thread = Rc::clone(self);
        let connection = Connection {
            thread: Rc::clone(self),
            before: Rc::clone(before),
            draining: Rc::clone(&self.draining.borrow()),
            peer: Peer {
                ip,
                tls: before.tls.is_some(),
            },
            entered,
        };
        tokio::task::spawn_local(async move {
            connection.serve(stream).await;
            drop(permit);
            thread.open.set(thread.open.get() - 1);
            thread.worker.metrics.connections.dec();
            thread.closed.notify_one();
        });
    }

    fn is_proxy(&self, ip: IpAddr) -> bool {
        let edge = self.worker.edge.get();
        let mut proxies = edge.config.http.trusted_proxies.iter();
        proxies.any(|network| network.contains(&ip))
    }

    /// Counts a connection for its address, unless that is a proxy's. An error where it has as many as it may.
    fn enter(&self, ip: IpAddr) -> Result<Option<Entered>, TooMany> {
        let edge = self.worker.edge.get();
        let per_address_max = edge.config.http.connections_per_address_max;
        if self.is_proxy(ip) || per_address_max == 0 {
            return Ok(None);
        }
        let entered = self.limits.enter(ip, per_address_max);
        if entered.is_err() {
            self.worker.metrics.connections_refused.inc();
        }
        entered.map(Some)
    }

    async fn drain(&self, end: Course) {
        let (idle_time, time_max) = if end == Course::HandedOver {
            (HAND_OVER_IDLE_TIME, HAND_OVER_TIME_MAX)
        } else {
            (DRAIN_IDLE_TIME, DRAIN_TIME_MAX)
        };
        let draining = Rc::clone(&self.draining.borrow());
        draining.replies_close.set(true);
        if let Some(left) = self.left.borrow().as_ref() {
            left.close_idle_ones();
        }
        let all_closed = async {
            while self.open.get() > 0 {
                self.closed.notified().await;
            }
        };
        let idle_ones_close = async {
            tokio::time::sleep(idle_time).await;
            draining.close_idle_ones();
            std::future::pending::<()>().await;
        };
        let ended = async {
            tokio::select! {
                () = all_closed => {}
                () = idle_ones_close => {}
            }
        };
        if tokio::time::timeout(time_max, ended).await.is_err() {
            tracing::warn!(
                connections = self.open.get(),
                "connections cut off at the stop"
            );
        }
    }
}

/// The course that ends accepting, once it is told; where nobody is left to tell one, to stop.
async fn end(drain: &mut Drain) -> Course {
    let ends = |course: &Course| matches!(course, Course::HandedOver | Course::Stopping);
    let end = drain.wait_for(ends).await;
    end.map_or(Course::Stopping, |end| *end)
}

/// The next course; where nobody is left to tell one, to stop.
async fn next(drain: &mut Drain) -> Course {
    match drain.changed().await {
        Ok(()) => *drain.borrow_and_update(),
        Err(_) => Course::Stopping,
    }
}

/// What connections hear of the stop.
#[derive(Default)]
struct Draining {
    /// Each reply is the last one of its connection.
    replies_close: Cell<bool>,
    idle_ones_close: Cell<bool>,
    told: Notify,
}

impl Draining {
    fn close_idle_ones(&self) {
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

struct Connection {
    thread: Rc<Thread>,
    before: Rc<Before>,
    draining: Rc<Draining>,
    peer: Peer,
    entered: Option<Entered>,
}

/// Which protocol a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// hyper keeps room for one in each connection, idle ones too. In a box it takes its kilobytes only while there is a request.
type Answer = Pin<Box<dyn Future<Output = Result<Reply, Infallible>>>>;

/// What the requests of a connection tell it.
#[derive(Default)]
struct Requests {
    count: Cell<u32>,
    /// Notified where no further one is to be taken.
    worn: Notify,
}

impl Connection {
    async fn serve(mut self, mut stream: TcpStream) {
        if self.before.proxy_protocol && !self.is_announced(&mut stream).await {
            return;
        }
        let Some((mut stream, protocol)) = self.begin(stream).await else {
            return;
        };
        let inflow = stream.inflow();
        match protocol {
            // Until there is a header, hyper's buffers would be what a silent connection costs.
            Protocol::Http1 => {
                let head = stream.read_head(HEADER_BYTES_MAX);
                if !self.within(HEADER_TIME_MAX, head).await.unwrap_or(false) {
                    return;
                }
            }
            Protocol::Http2 => inflow.allow(http2::REQUEST_BYTES_MAX),
        }
        let requests = Rc::new(Requests::default());
        let service = service_fn(self.answer(protocol, &requests, inflow));
        let io = TokioIo::new(stream);
        match protocol {
            Protocol::Http1 => {
                let connection = http1::Builder::new()
                    .timer(self.thread.wheel.clone())
                    .header_read_timeout(HEADER_TIME_MAX)
                    .max_buf_size(HEADER_BYTES_MAX)
                    // A GIF is copied behind its header more cheaply than the kernel takes two pieces.
                    .writev(false)
                    .serve_connection(io, service);
                self.run(Box::pin(connection), self.ends(&requests)).await;
            }
            Protocol::Http2 => {
                let connection =
                    http2::builder(self.thread.wheel.clone()).serve_connection(io, service);
                let ends = async {
                    tokio::select! {
                        () = self.ends(&requests) => {}
                        () = self.rests(&requests) => {}
                    }
                };
                self.run(Box::pin(connection), ends).await;
            }
        }
    }

    /// Hears from a proxy for whom it connects: from then on the connection is that client's.
    async fn is_announced(&mut self, stream: &mut TcpStream) -> bool {
        let header = Box::pin(proxy::announced(stream));
        let Ok(client) = self.within(PREFACE_TIME_MAX, header).await else {
            self.thread.worker.metrics.proxy_errors.inc();
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
        let stream = tls::counted(handshake, metrics).await?;
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

    /// Runs a connection to its end, which a limit may bring. In a box it is not moved from future to
    /// future, each of which would keep room for it.
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
