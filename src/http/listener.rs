//! Accepts connections on one edge thread, and ends those that take too much or too long.
//!
//! Each edge thread has a listener of its own on the same address (`SO_REUSEPORT`), a runtime and a
//! timer wheel. What a connection may take is in `limits`.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol as IpProtocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};

use super::current::Current;
use super::limits::{
    BACKLOG, CONNECTION_REQUESTS_MAX, CONNECTION_TIME_MAX, HEADER_BYTES_MAX, HEADER_TIME_MAX,
    LAST_REQUEST_TIME_MAX, Limits, PREFACE_TIME_MAX, SEND_BUFFER_BYTES, connections_that_fit,
};
use super::reply::ReplyBody;
use super::stream::Stream;
use super::timer::Wheel;
use super::{Edge, Peer, Spools, Worker, router};
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

/// The listening sockets, one for each edge thread, and the limits that they share.
pub struct Listener {
    /// One socket for each thread.
    pub sockets: Vec<std::net::TcpListener>,
    /// The address, with the port that the system chose where 0 was asked for.
    pub address: SocketAddr,
    limits: Arc<Limits>,
}

impl Listener {
    /// Binds a socket for each of `threads`, beside those that another process handed over. Each of those gets a
    /// thread, were it one too many: connections wait in it.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub fn bind(
        address: SocketAddr,
        threads: usize,
        connections_max: usize,
        per_address_max: usize,
        handed_over: Vec<std::net::TcpListener>,
    ) -> io::Result<Listener> {
        let mut sockets = handed_over;
        let address = match sockets.first() {
            Some(first) => first.local_addr()?,
            None => {
                let first = bind(address)?;
                let address = first.local_addr()?;
                sockets.push(first);
                address
            }
        };
        while sockets.len() < threads {
            sockets.push(bind(address)?);
        }
        Ok(Listener {
            sockets,
            address,
            limits: Arc::new(Limits::new(
                connections_that_fit(connections_max),
                per_address_max,
            )),
        })
    }

    /// The limits, for [`run`].
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits)
    }

    /// The sockets once more, to hand over. While one of them is open connections are taken into its queue.
    ///
    /// # Errors
    /// Where there are too many open files.
    pub fn duplicates(&self) -> io::Result<Vec<std::net::TcpListener>> {
        let sockets = self.sockets.iter();
        sockets.map(std::net::TcpListener::try_clone).collect()
    }
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(IpProtocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Runs one edge thread until `drain` says stop and the requests in flight are answered.
///
/// # Errors
/// Where the runtime or the listener cannot be set up.
pub fn run(
    edge: Arc<ArcSwap<Edge>>,
    spools: &Spools,
    socket: std::net::TcpListener,
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
        let mut thread = Thread {
            worker: Rc::new(Worker {
                metrics: Arc::clone(&edge.load().metrics),
                edge: Current::new(edge),
                appender,
                instructions,
            }),
            wheel: Wheel::new(),
            limits,
            draining: Rc::default(),
            left: None,
            open: Rc::new(Cell::new(0)),
            closed: Rc::new(Notify::new()),
        };
        let turn = tokio::task::spawn_local(thread.wheel.clone().turn());
        let listener = TcpListener::from_std(socket)?;
        let end = thread.accept(listener, drain).await;
        thread.drain(end).await;
        turn.abort();
        delivering.iter().for_each(tokio::task::JoinHandle::abort);
        Ok(())
    })
}

struct Thread {
    worker: Rc<Worker>,
    wheel: Wheel,
    limits: Arc<Limits>,
    draining: Rc<Draining>,
    /// What those hear that connected before the course last changed.
    left: Option<Rc<Draining>>,
    open: Rc<Cell<usize>>,
    closed: Rc<Notify>,
}

impl Thread {
    /// Takes connections until the course is to stop; says how.
    async fn accept(&mut self, listener: TcpListener, mut drain: Drain) -> Course {
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
                        self.open(stream, address, permit);
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
                course = next(&mut drain) => match course {
                    Course::Open | Course::Leaving => self.change_to(course),
                    Course::HandedOver => return course,
                    Course::Stopping => break,
                },
            }
        }
        // Who has connected already is served: closing the listener would reset them.
        // Asked of the system itself: the runtime may not have heard of the last ones yet.
        let Ok(listener) = listener.into_std() else {
            return Course::Stopping;
        };
        while let Ok((stream, address)) = listener.accept() {
            if let Ok(permit) = Arc::clone(&self.limits.all).try_acquire_owned()
                && stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                self.open(stream, address, permit);
            }
        }
        Course::Stopping
    }

    /// From now on connections are told another thing than those that are open.
    fn change_to(&mut self, course: Course) {
        let is_leaving = course == Course::Leaving;
        let next = Rc::new(Draining::default());
        next.replies_close.set(is_leaving);
        self.draining.replies_close.set(is_leaving);
        let left = std::mem::replace(&mut self.draining, next);
        if let Some(before) = self.left.replace(left) {
            before.close_idle_ones();
        }
    }

    fn open(&self, stream: TcpStream, address: SocketAddr, permit: OwnedSemaphorePermit) {
        let ip = address.ip().to_canonical();
        let edge = self.worker.edge.get();
        let http = &edge.config.http;
        let is_proxy = http
            .trusted_proxies
            .iter()
            .any(|network| network.contains(&ip));
        let entered = if is_proxy || http.connections_per_address_max == 0 {
            Ok(permit)
        } else {
            match self.limits.enter(ip, permit) {
                Some(entered) => Err(entered),
                None => {
                    self.worker.metrics.connections_refused.inc();
                    return;
                }
            }
        };
        // Replies are one small segment: nothing is won by holding them back.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        self.open.set(self.open.get() + 1);
        self.worker.metrics.connections.inc();
        let connection = Connection {
            worker: Rc::clone(&self.worker),
            wheel: self.wheel.clone(),
            draining: Rc::clone(&self.draining),
            peer: Peer { ip, tls: false },
        };
        let (open, closed) = (Rc::clone(&self.open), Rc::clone(&self.closed));
        tokio::task::spawn_local(async move {
            let metrics = Arc::clone(&connection.worker.metrics);
            connection.serve(stream).await;
            drop(entered);
            open.set(open.get() - 1);
            metrics.connections.dec();
            closed.notify_one();
        });
    }

    async fn drain(&self, end: Course) {
        let (idle_time, time_max) = if end == Course::HandedOver {
            (HAND_OVER_IDLE_TIME, HAND_OVER_TIME_MAX)
        } else {
            (DRAIN_IDLE_TIME, DRAIN_TIME_MAX)
        };
        self.draining.replies_close.set(true);
        if let Some(left) = &self.left {
            left.close_idle_ones();
        }
        let all_closed = async {
            while self.open.get() > 0 {
                self.closed.notified().await;
            }
        };
        let idle_ones_close = async {
            tokio::time::sleep(idle_time).await;
            self.draining.close_idle_ones();
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
    worker: Rc<Worker>,
    wheel: Wheel,
    draining: Rc<Draining>,
    peer: Peer,
}

/// Which protocol a connection speaks. TLS will know it from ALPN.
enum Protocol {
    Http1,
    Http2,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        let mut stream = Stream::new(stream, self.wheel.clone());
        let protocol = if self.worker.edge.get().config.http.h2c {
            match tokio::time::timeout(PREFACE_TIME_MAX, stream.starts_with(HTTP2_PREFACE)).await {
                Ok(Ok(true)) => Protocol::Http2,
                Ok(Ok(false)) => Protocol::Http1,
                Ok(Err(_)) | Err(_) => return,
            }
        } else {
            Protocol::Http1
        };
        if matches!(protocol, Protocol::Http1) {
            // Until there is a header, hyper's buffers would be what a silent connection costs.
            let head = tokio::select! {
                biased;
                head = stream.read_head(HEADER_BYTES_MAX) => head,
                () = self.draining.idle_ones_close() => return,
                () = self.wheel.sleep(HEADER_TIME_MAX) => return,
            };
            if !head.is_ok_and(|is_any| is_any) {
                return;
            }
        }
        let worn = Rc::new(Notify::new());
        let requests = Cell::new(0_u32);
        let (worker, peer) = (Rc::clone(&self.worker), self.peer);
        let (worn_out, draining) = (Rc::clone(&worn), Rc::clone(&self.draining));
        let lines_are_unsound = match protocol {
            Protocol::Http1 => stream.bare_line_feed(),
            Protocol::Http2 => Rc::default(),
        };
        let service = service_fn(move |request| {
            requests.set(requests.get() + 1);
            let is_last = requests.get() == CONNECTION_REQUESTS_MAX
                || draining.replies_close.get()
                || lines_are_unsound.get();
            if is_last {
                worn_out.notify_one();
            }
            let worker = Rc::clone(&worker);
            // hyper keeps room for one such future in each connection, idle ones too. In a box it takes
            // its kilobytes only while there is a request.
            Box::pin(async move {
                Ok::<_, Infallible>(router::route(&worker, peer, request, is_last).await)
            })
        });
        let io = TokioIo::new(stream);
        match protocol {
            Protocol::Http1 => {
                let connection = http1::Builder::new()
                    .timer(self.wheel.clone())
                    .header_read_timeout(HEADER_TIME_MAX)
                    .max_buf_size(HEADER_BYTES_MAX)
                    .serve_connection(io, service);
                self.run(Box::pin(connection), &worn).await;
            }
            Protocol::Http2 => {
                let connection = http2_builder(self.wheel.clone()).serve_connection(io, service);
                self.run(Box::pin(connection), &worn).await;
            }
        }
    }

    /// Runs a connection to its end, which a limit may bring. In a box it is not moved from future to
    /// future, each of which would keep room for it.
    async fn run(&self, mut connection: Pin<Box<impl Graceful>>, worn: &Notify) {
        let result = tokio::select! {
            biased;
            result = connection.as_mut() => result,
            () = self.ends(worn) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    biased;
                    result = connection.as_mut() => result,
                    () = self.wheel.sleep(LAST_REQUEST_TIME_MAX) => return,
                }
            }
        };
        // Another error is the client's as well: it broke off, or was ended by a limit.
        if result.is_err_and(|error| error.is_parse()) {
            self.worker.metrics.refusal(Reason::Malformed);
        }
    }

    /// When the connection is to take no further request.
    async fn ends(&self, worn: &Notify) {
        tokio::select! {
            biased;
            () = self.draining.idle_ones_close() => {}
            () = worn.notified() => {}
            () = self.wheel.sleep(CONNECTION_TIME_MAX) => {}
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

impl<S> Graceful for http2::Connection<TokioIo<Stream>, S, Local>
where
    S: HttpService<Incoming, ResBody = ReplyBody, Error = Infallible>,
    S::Future: 'static,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        http2::Connection::graceful_shutdown(self);
    }
}

/// What a client that speaks HTTP/2 by prior knowledge sends first (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn http2_builder(wheel: Wheel) -> http2::Builder<Local> {
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(wheel)
        .max_concurrent_streams(100)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(1024)
        .max_header_list_size(16 * 1024)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// Runs the streams of an HTTP/2 connection on the thread that it lives on.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
