//! Asks the collector that serves here whether it can keep hits: what a container's health check runs, whose
//! image has no other program to ask with.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// For the connection, and for each read and write.
const TIME_MAX: Duration = Duration::from_secs(3);
/// More than the answer ever has.
const REPLY_BYTES_MAX: u64 = 64 * 1024;

/// Whether the collector whose `admin.listen` this is can keep hits, with what it says of it.
///
/// # Errors
/// Where nobody answers.
pub fn ask(admin: SocketAddr) -> io::Result<(bool, String)> {
    let mut stream = TcpStream::connect_timeout(&reachable(admin), TIME_MAX)?;
    stream.set_read_timeout(Some(TIME_MAX))?;
    stream.set_write_timeout(Some(TIME_MAX))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut reply = String::new();
    stream.take(REPLY_BYTES_MAX).read_to_string(&mut reply)?;
    let (head, said) = reply.split_once("\r\n\r\n").unwrap_or((reply.as_str(), ""));
    Ok((head.starts_with("HTTP/1.1 200 "), said.to_owned()))
}

/// Who listens everywhere is reached on this machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
