//! Accepts connections on one edge thread, and ends those that take too much or too long.
//!
//! Each edge thread has entrances of its own, a runtime and a timer wheel. What a connection may
//! take is in `limits`.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};

use super::connection::{Connection, Draining};
use super::current::Current;
use super::{Edge, Peer, Spools, Worker, plain};
use crate::edge::exchange::mint::Mint;
use crate::edge::transport::entrance::{Before, Entrance};
use crate::edge::transport::limits::{Entered, Limits, TooMany};
use crate::edge::transport::timer::Wheel;
use spool::Spool;

/// Pause after an error of accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time that requests in flight have once the collector stops.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(4);
/// How long after that a connection without a request stays open: a request that its client has
/// sent by then is answered, with the word that it was the last.
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
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let [appender, instructions] = [&spools.hits, &spools.instructions].map(Spool::appender);
        let delivering =
            [&appender, &instructions].map(|appender| tokio::task::spawn_local(appender.deliver()));
        let thread = Rc::new(EdgeThread {
            worker: Rc::new(Worker {
                metrics: Arc::clone(&edge.load().metrics),
                edge: Current::new(edge),
                appender,
                instructions,
                mint: Mint::default(),
                replies: plain::Replies::default(),
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

/// One edge thread's own, beside its [`Worker`].
pub(crate) struct EdgeThread {
    pub(crate) worker: Rc<Worker>,
    pub(crate) wheel: Wheel,
    limits: Arc<Limits>,
    draining: RefCell<Rc<Draining>>,
    /// What those hear that connected before the course last changed.
    left: RefCell<Option<Rc<Draining>>>,
    open: Cell<usize>,
    closed: Notify,
}

impl EdgeThread {
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
                        self.worker.metrics.accept_errors.increment(1);
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
        // A program that is being started at this moment still has our sockets: closed alone, they
        // would go on to take connections that nobody serves.
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
            self.worker.metrics.proxy_errors.increment(1);
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
        self.worker.metrics.connections.increment(1);
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
            thread.worker.metrics.connections.decrement(1);
            thread.closed.notify_one();
        });
    }

    fn is_proxy(&self, ip: IpAddr) -> bool {
        let edge = self.worker.edge.get();
        let mut proxies = edge.config.http.trusted_proxies.iter();
        proxies.any(|network| network.contains(&ip))
    }

    /// Counts a connection for its address, unless that is a proxy's. An error where it has as many
    /// as it may.
    pub(crate) fn enter(&self, ip: IpAddr) -> Result<Option<Entered>, TooMany> {
        let edge = self.worker.edge.get();
        let per_address_max = edge.config.http.connections_per_address_max;
        if self.is_proxy(ip) || per_address_max == 0 {
            return Ok(None);
        }
        let entered = self.limits.enter(ip, per_address_max);
        if entered.is_err() {
            self.worker.metrics.connections_refused.increment(1);
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
