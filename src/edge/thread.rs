//! One edge thread: its runtime, its entrances, its connections, and how they end.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::runtime::{Builder, LocalOptions};
use tokio_util::task::TaskTracker;

use super::connection::{Connection, ThreadShared};
use super::course::{Course, CourseReceiver, Generations, wait_for_change};
use super::current::Current;
use super::{Edge, Peer, Spools, Worker, listener, plain};
use crate::edge::exchange::mint::Mint;
use crate::edge::transport::closing::{Closing, Placed};
use crate::edge::transport::entrance::{Entrance, Preamble};
use crate::edge::transport::limits::Limits;
use crate::edge::transport::memory::Arrivals;
use crate::edge::transport::timer::Wheel;

/// Runs edge thread `index` of `threads`, until the course says stop and the requests in progress
/// are answered.
///
/// # Errors
/// If the runtime or an entrance cannot be set up.
pub fn run(
    edge: Arc<ArcSwap<Edge>>,
    spools: &Spools,
    entrances: Vec<Entrance>,
    limits: Arc<Limits>,
    course: CourseReceiver,
    (index, count): (usize, usize),
) -> io::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let appender = spools.hits.appender(index, count);
        let appender = appender.ok_or_else(|| io::Error::other("there is no spool"))?;
        let instructions = spools.instructions.appender();
        let delivering =
            [&appender, &instructions].map(|appender| tokio::task::spawn_local(appender.deliver()));
        let thread = Thread {
            shared: Rc::new(ThreadShared {
                worker: Rc::new(Worker {
                    metrics: Arc::clone(&edge.load().metrics),
                    edge: Current::new(edge),
                    appender,
                    instructions,
                    mint: Mint::default(),
                    replies: plain::Replies::default(),
                    memory: Arc::clone(&limits.memory),
                    arrivals: Arrivals::default(),
                }),
                wheel: Wheel::new(),
                closing: Closing::default(),
                limits,
                crowd: Rc::default(),
            }),
            generations: Generations::default(),
            connections: TaskTracker::new(),
        };
        let turning = tokio::task::spawn_local(thread.shared.wheel.clone().turn());
        let closing = tokio::task::spawn_local(thread.shared.closing.clone().run());
        let making_room = tokio::task::spawn_local(make_room(Rc::clone(&thread.shared)));
        let accepting = entrances
            .into_iter()
            .map(|entrance| thread.accept(entrance, course.clone()));
        let (accepted, end) = tokio::join!(join_all(accepting), thread.steer(course.clone()));
        thread.drain(end).await;
        turning.abort();
        making_room.abort();
        closing.abort();
        delivering.iter().for_each(tokio::task::JoinHandle::abort);
        accepted.into_iter().collect()
    })
}

/// Ends connections that wait whenever another thread needs a place and has none to give. Never
/// returns.
async fn make_room(shared: Rc<ThreadShared>) {
    loop {
        shared.limits.crowded.notified().await;
        shared.crowd.give_way();
    }
}

struct Thread {
    shared: Rc<ThreadShared>,
    generations: Generations,
    connections: TaskTracker,
}

impl Thread {
    /// Accepts connections at an entrance until the course says stop.
    async fn accept(&self, entrance: Entrance, course: CourseReceiver) -> io::Result<()> {
        let preamble = Rc::new(entrance.preamble);
        let room = Arc::clone(&self.shared.limits.all);
        let metrics = &self.shared.worker.metrics;
        let closing = &self.shared.closing;
        let open = |stream, address, place| {
            self.open(closing.place(stream, place), address, &preamble);
        };
        let give_way = || self.shared.give_way();
        listener::accept(entrance.socket, room, course, metrics, open, give_way).await
    }

    /// Follows the course until it says stop, and returns how it ends.
    async fn steer(&self, mut course: CourseReceiver) -> Course {
        loop {
            let next = wait_for_change(&mut course).await;
            if next.is_end() {
                return next;
            }
            self.generations.begin(next);
        }
    }

    /// Serves a connection in a task of its own.
    fn open(&self, mut placed: Placed, address: SocketAddr, preamble: &Rc<Preamble>) {
        let ip = address.ip().to_canonical();
        let metrics = &self.shared.worker.metrics;
        if preamble.proxy_protocol && !self.shared.is_proxy(ip) {
            metrics.proxy_errors.increment(1);
            return;
        }
        let Ok(slot) = self.shared.claim_slot(ip) else {
            return;
        };
        // A reply is one small segment, so holding it back gains nothing.
        if placed.stream().set_nodelay(true).is_err() {
            return;
        }
        metrics.connections.increment(1);
        let shared = Rc::clone(&self.shared);
        let connection = Connection {
            shared: Rc::clone(&self.shared),
            preamble: Rc::clone(preamble),
            generation: self.generations.current(),
            peer: Peer {
                ip,
                tls: preamble.tls.is_some(),
            },
            slot,
            member: self.shared.crowd.add(),
        };
        self.connections.spawn_local(async move {
            connection.serve(placed).await;
            shared.worker.metrics.connections.decrement(1);
        });
    }

    /// Waits for the connections to end, for as long as the course allows.
    async fn drain(&self, end: Course) {
        let times = end.drain_times();
        self.generations.end_after_reply();
        self.connections.close();
        let ended = async {
            if tokio::time::timeout(times.idle, self.connections.wait())
                .await
                .is_err()
            {
                self.generations.close_idle();
                self.connections.wait().await;
            }
        };
        if tokio::time::timeout(times.max, ended).await.is_err() {
            tracing::warn!(
                connections = self.connections.len(),
                "connections cut off at the stop"
            );
        }
    }
}
