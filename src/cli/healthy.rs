//! `avtryck healthy`: asks the collector whether it can keep hits. The health check of a container
//! runs it, because the image has no other program to ask with.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use super::{exit_code, print};
use crate::config::Config;

/// The limit for the connection, and for each read and write.
const TIME_MAX: Duration = Duration::from_secs(3);
/// More than the reply ever has.
const REPLY_BYTES_MAX: u64 = 64 * 1024;

pub(super) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let listen = config.admin.listen;
    let (is_ready, text) = ask(listen).with_context(|| format!("nobody answers at {listen}"))?;
    print(&text);
    Ok(exit_code(is_ready))
}

/// Returns whether the collector with this `admin.listen` can keep hits, and its own words on that.
fn ask(admin: SocketAddr) -> io::Result<(bool, String)> {
    let mut stream = TcpStream::connect_timeout(&reachable(admin), TIME_MAX)?;
    stream.set_read_timeout(Some(TIME_MAX))?;
    stream.set_write_timeout(Some(TIME_MAX))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut reply = String::new();
    stream.take(REPLY_BYTES_MAX).read_to_string(&mut reply)?;
    let (head, text) = reply.split_once("\r\n\r\n").unwrap_or((reply.as_str(), ""));
    Ok((head.starts_with("HTTP/1.1 200 "), text.to_owned()))
}

/// Returns where a listener can be reached from this machine: one on every address, at the
/// loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
