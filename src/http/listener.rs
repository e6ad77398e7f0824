//! Accepts connections on one edge thread, and ends those that take too much or too long.
//!
//! Each edge thread has a listener of its own on the same address (`SO_REUSEPORT`), a runtime and a
//! timer wheel. Limits: connections in all and from one address; time for a header (also the idle
//! time between requests), for a stalled write, and for a connection as a whole.

use std::cell::Cell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol as IpProtocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use super::stream::Stream;
use super::timer::Wheel;
use super::{Edge, Peer, Spools, Worker, router};
use crate::clock;
use crate::spool::Spool;

/// Time for a request's header, and for the next request of a connection to begin.
const HEADER_TIME_MAX: Duration = Duration::from_secs(10);
/// Time for the first bytes of a connection on which HTTP/2 may begin.
const PREFACE_TIME_MAX: Duration = Duration::from_secs(5);
/// Age at which a connection is ended, so that load moves to new processes and hosts.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(300);
/// Requests after which a connection is ended.
const CONNECTION_REQUESTS_MAX: u32 = 10_000;
/// The buffer for a request's header, in bytes: hyper answers a larger one with 431.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// Pause after an error of accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time that requests in flight have once the collector stops.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(4);
/// How long after that a connection without a request stays open: a request that its client has sent by
/// then is answered, with the word that it was the last.
const DRAIN_IDLE_TIME: Duration = Duration::from_secs(1);

/// Tells the edge threads to stop, once it holds true.
pub type Drain = watch::Receiver<bool>;

/// The listening sockets, one for each edge thread, and the limits that they share.
pub struct Listener {
    /// One socket for each thread.
    pub sockets: Vec<std::net::TcpListener>,
    /// The address, with the port that the system chose where 0 was asked for.
    pub address: SocketAddr,
    limits: Arc<Limits>,
}

impl Listener {
    /// Binds a socket for each of `threads`.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub fn bind(
        address: SocketAddr,
        threads: usize,
        connections_max: usize,
        per_address_max: usize,
    ) -> io::Result<Listener> {
        let first = bind(address)?;
        let address = first.local_addr()?;
        let mut sockets = vec![first];
        while sockets.len() < threads {
            sockets.push(bind(address)?);
        }
        Ok(Listener {
            sockets,
            address,
            limits: Arc::new(Limits::new(connections_max, per_address_max)),
        })
    }

    /// The limits, for [`run`].
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits)
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
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// How many connections there may be, in all and from one address.
pub struct Limits {
    all: Arc<Semaphore>,
    per_address_max: usize,
    /// Open connections by address; as many entries as there are connections at the most.
    per_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Limits {
    fn new(connections_max: usize, per_address_max: usize) -> Limits {
        Limits {
            all: Arc::new(Semaphore::new(connections_max)),
            per_address_max,
            per_address: Mutex::new(HashMap::new()),
        }
    }

    /// Counts a connection in; `None` where its address has as many as it may.
    fn enter(self: &Arc<Limits>, ip: IpAddr, permit: OwnedSemaphorePermit) -> Option<Entered> {
        let key = client_key(ip);
        let mut counts = self
            .per_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_insert(0);
        if *count >= self.per_address_max {
            return None;
        }
        *count += 1;
        Some(Entered {
            limits: Arc::clone(self),
            key,
            _permit: permit,
        })
    }
}

/// An IPv4 address, or the /64 of an IPv6 one: what one subscriber has.
fn client_key(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

/// A connection that is counted, until it is dropped.
struct Entered {
    limits: Arc<Limits>,
    key: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut counts = self
            .limits
            .per_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// Runs one edge thread until `drain` says stop and the requests in flight are answered.
///
/// # Errors
/// Where the runtime or the listener cannot be set up.
pub fn run(
    edge: Arc<Edge>,
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
        let thread = Thread {
            worker: Rc::new(Worker {
                edge,
                appender,
                instructions,
            }),
            wheel: Wheel::new(),
            limits,
            draining: Rc::default(),
            open: Rc::new(Cell::new(0)),
            closed: Rc::new(Notify::new()),
        };
        let turn = tokio::task::spawn_local(thread.wheel.clone().turn());
        let listener = TcpListener::from_std(socket)?;
        thread.accept(listener, drain).await;
        thread.drain().await;
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
    open: Rc<Cell<usize>>,
    closed: Rc<Notify>,
}

impl Thread {
    async fn accept(&self, listener: TcpListener, mut drain: Drain) {
        loop {
            let all = Arc::clone(&self.limits.all);
            let accepted = async {
                let permit = all.acquire_owned().await;
                (permit, listener.accept().await)
            };
            tokio::select! {
                (Ok(permit), accepted) = accepted => match accepted {
                    Ok((stream, address)) => self.open(stream, address, permit),
                    Err(error) => {
                        tracing::warn!(%error, "accept failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                _ = drain.wait_for(|stop| *stop) => break,
            }
        }
        // Who has connected already is served: closing the listener would reset them.
        // Asked of the system itself: the runtime may not have heard of the last ones yet.
        let Ok(listener) = listener.into_std() else {
            return;
        };
        while let Ok((stream, address)) = listener.accept() {
            if let Ok(permit) = Arc::clone(&self.limits.all).try_acquire_owned()
                && stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                self.open(stream, address, permit);
            }
        }
    }

    fn open(&self, stream: TcpStream, address: SocketAddr, permit: OwnedSemaphorePermit) {
        let ip = address.ip().to_canonical();
        let http = &self.worker.edge.config.http;
        let is_proxy = http
            .trusted_proxies
            .iter()
            .any(|network| network.contains(&ip));
        let entered = if is_proxy || http.connections_per_address_max == 0 {
            Ok(permit)
        } else {
            match self.limits.enter(ip, permit) {
                Some(entered) => Err(entered),
                None => return,
            }
        };
        // Replies are one small segment: nothing is won by holding them back.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        self.open.set(self.open.get() + 1);
        self.worker.edge.metrics.connections.increment(1);
        let connection = Connection {
            worker: Rc::clone(&self.worker),
            wheel: self.wheel.clone(),
            draining: Rc::clone(&self.draining),
            peer: Peer { ip, tls: false },
        };
        let (open, closed) = (Rc::clone(&self.open), Rc::clone(&self.closed));
        tokio::task::spawn_local(async move {
            let edge = Arc::clone(&connection.worker.edge);
            connection.serve(stream).await;
            drop(entered);
            open.set(open.get() - 1);
            edge.metrics.connections.decrement(1);
            closed.notify_one();
        });
    }

    async fn drain(&self) {
        self.draining.replies_close.set(true);
        let started = clock::monotonic();
        let idle = async {
            while self.open.get() > 0 {
                // Asked again each time: a connection that was just accepted did not hear it yet.
                if started.elapsed() >= DRAIN_IDLE_TIME {
                    self.draining.idle_ones_close.notify_waiters();
                }
                let again = tokio::time::sleep(ACCEPT_PAUSE);
                tokio::select! {
                    () = self.closed.notified() => {}
                    () = again => {}
                }
            }
        };
        if tokio::time::timeout(DRAIN_TIME_MAX, idle).await.is_err() {
            tracing::warn!(
                connections = self.open.get(),
                "connections cut off at the stop"
            );
        }
    }
}

/// What connections hear of the stop.
#[derive(Default)]
struct Draining {
    /// Each reply is the last one of its connection.
    replies_close: Cell<bool>,
    /// Connections without a request are closed.
    idle_ones_close: Notify,
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
        let protocol = if self.worker.edge.config.http.h2c {
            match tokio::time::timeout(PREFACE_TIME_MAX, stream.starts_with(HTTP2_PREFACE)).await {
                Ok(Ok(true)) => Protocol::Http2,
                Ok(Ok(false)) => Protocol::Http1,
                Ok(Err(_)) | Err(_) => return,
            }
        } else {
            Protocol::Http1
        };
        let worn = Rc::new(Notify::new());
        let requests = Cell::new(0_u32);
        let (worker, peer) = (Rc::clone(&self.worker), self.peer);
        let (worn_out, draining) = (Rc::clone(&worn), Rc::clone(&self.draining));
        let service = service_fn(move |request| {
            requests.set(requests.get() + 1);
            let is_last = requests.get() == CONNECTION_REQUESTS_MAX || draining.replies_close.get();
            if is_last {
                worn_out.notify_one();
            }
            let worker = Rc::clone(&worker);
            async move { Ok::<_, Infallible>(router::route(&worker, peer, request, is_last).await) }
        });
        // An error here is the client's: it broke off, or was ended by a limit.
        match protocol {
            Protocol::Http1 => {
                let connection = http1::Builder::new()
                    .timer(self.wheel.clone())
                    .header_read_timeout(HEADER_TIME_MAX)
                    .max_buf_size(HEADER_BYTES_MAX)
                    .serve_connection(TokioIo::new(stream), service);
                let mut connection = pin!(connection);
                tokio::select! {
                    biased;
                    _ = connection.as_mut() => return,
                    () = self.ends(&worn) => {}
                }
                connection.as_mut().graceful_shutdown();
                drop(connection.await);
            }
            Protocol::Http2 => {
                let connection = http2_builder(self.wheel.clone())
                    .serve_connection(TokioIo::new(stream), service);
                let mut connection = pin!(connection);
                tokio::select! {
                    biased;
                    _ = connection.as_mut() => return,
                    () = self.ends(&worn) => {}
                }
                connection.as_mut().graceful_shutdown();
                drop(connection.await);
            }
        }
    }

    /// When the connection is to take no further request.
    async fn ends(&self, worn: &Notify) {
        tokio::select! {
            biased;
            () = self.draining.idle_ones_close.notified() => {}
            () = worn.notified() => {}
            () = self.wheel.sleep(CONNECTION_TIME_MAX) => {}
        }
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
