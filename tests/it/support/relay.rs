//! A relay between a client and a server on loopback, whose connections a test cuts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Both ends get a reset.
    Reset,
    /// Both ends are told that it is over.
    Close,
    /// The server is told; the client is told nothing, and never gets an answer.
    HalfOpen,
}

/// What the relay does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Orders {
    /// How many cuts there were, and the last.
    cuts: (usize, Cut),
    /// Nothing goes either way. What comes meanwhile goes on afterwards.
    stalls: bool,
}

/// A relay, which ends when it is dropped.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    orders: watch::Sender<Orders>,
    /// Connections that were cut.
    cut: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Starts one at an address that was chosen before.
    pub(crate) async fn start(address: SocketAddr, server: SocketAddr) -> Relay {
        let listener = TcpListener::bind(address).await.unwrap();
        let orders = watch::Sender::new(Orders {
            cuts: (0, Cut::Reset),
            stalls: false,
        });
        let (received, cut) = (orders.subscribe(), Arc::<AtomicUsize>::default());
        let count = Arc::clone(&cut);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                connections.spawn(carry(client, server, received.clone(), Arc::clone(&count)));
                while connections.try_join_next().is_some() {}
            }
        });
        Relay {
            address,
            orders,
            cut,
            _tasks: tasks,
        }
    }

    /// Cuts every connection that there is.
    pub(crate) fn cut(&self, how: Cut) {
        self.orders
            .send_modify(|orders| orders.cuts = (orders.cuts.0 + 1, how));
    }

    /// Lets nothing through, or everything again.
    pub(crate) fn stall(&self, stalls: bool) {
        self.orders.send_modify(|orders| orders.stalls = stalls);
    }

    /// Returns how many connections were cut.
    pub(crate) fn count(&self) -> usize {
        self.cut.load(Ordering::Relaxed)
    }
}

/// Carries one connection from its first byte to its end.
async fn carry(
    mut client: TcpStream,
    server: SocketAddr,
    mut orders: watch::Receiver<Orders>,
    cut: Arc<AtomicUsize>,
) {
    let (seen, _) = orders.borrow_and_update().cuts;
    let Ok(mut server) = TcpStream::connect(server).await else {
        return;
    };
    let (mut up, mut down) = (vec![0; 16_384], vec![0; 16_384]);
    loop {
        let Orders { cuts, stalls } = *orders.borrow_and_update();
        if cuts.0 != seen {
            cut.fetch_add(1, Ordering::Relaxed);
            match cuts.1 {
                Cut::Close => {}
                Cut::Reset => {
                    client.set_zero_linger().unwrap();
                    server.set_zero_linger().unwrap();
                }
                Cut::HalfOpen => {
                    drop(server);
                    // Until the client gives up, or the test ends.
                    while client.read(&mut up).await.is_ok_and(|read| read > 0) {}
                }
            }
            return;
        }
        tokio::select! {
            biased;
            changed = orders.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            read = client.read(&mut up), if !stalls => match read {
                Ok(read) if read > 0 && server.write_all(&up[..read]).await.is_ok() => {}
                _ => return,
            },
            read = server.read(&mut down), if !stalls => match read {
                Ok(read) if read > 0 && client.write_all(&down[..read]).await.is_ok() => {}
                _ => return,
            },
        }
    }
}
