//! The floor: a bare hyper server, built like the collector's edge (a current-thread runtime with a
//! listener of its own for each core), that reads no header and answers the GIF.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::process::Command;

use loadtest::rig::process::{Process, free_address, until_answered};
use loadtest::rig::usage::{Parts, Root};

const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

/// A running floor.
pub(crate) struct Floor {
    process: Process,
    pub(crate) address: SocketAddr,
}

impl Floor {
    /// Starts this program once more, as the server.
    pub(crate) async fn start() -> anyhow::Result<Floor> {
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe()?);
        let process = Process::start(command.arg("--floor").arg(address.to_string()))?;
        until_answered(address).await?;
        Ok(Floor { process, address })
    }

    pub(crate) fn root(&self) -> Root {
        Root {
            pid: self.process.pid,
            parts: Parts::One("hyper"),
        }
    }
}

/// Serves until it is killed.
pub(crate) fn serve(address: SocketAddr) -> io::Result<()> {
    let threads = std::thread::available_parallelism()?.get();
    let sockets: io::Result<Vec<Socket>> = (0..threads).map(|_| bind(address)).collect();
    let threads = sockets?
        .into_iter()
        .map(|socket| std::thread::spawn(move || run(socket.into())));
    for thread in threads.collect::<Vec<_>>() {
        thread
            .join()
            .map_err(|_| io::Error::other("an edge panicked"))??;
    }
    Ok(())
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket)
}

fn run(socket: std::net::TcpListener) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = TcpListener::from_std(socket)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(async move {
                let connection = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                // The client's to end as it likes.
                drop(connection.await);
            });
        }
    })
}

async fn answer(_: Request<hyper::body::Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut reply = Response::new(Full::new(Bytes::from_static(GIF)));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("image/gif"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(reply)
}
