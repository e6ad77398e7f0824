//! The PROXY protocol, versions 1 and 2: a load balancer that passes bytes on first names the
//! client.
//!
//! It is read only on listeners that are configured for it, and only from trusted proxies: anybody
//! else could name any address, so their connections end. A connection that a proxy opens for
//! itself, as a health check, keeps the proxy's address. The header is read to its last byte and no
//! further, because TLS may begin after it.

use std::io;
use std::net::IpAddr;

use proxy_header::{Error, ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// The largest header, in bytes. Version 1 needs at most 107; version 2 may add what the proxy
/// knows of the client.
const HEADER_BYTES_MAX: usize = 4096;
/// Enough for most headers.
const READ_BYTES: usize = 536;

/// Reads the header and returns the client's address; `None` if the proxy connects for itself.
pub(crate) async fn read_header(stream: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    let mut header = Vec::new();
    let mut ahead = [0; READ_BYTES];
    loop {
        let known = header.len();
        let peeked = stream.peek(&mut ahead).await?;
        header.extend(ahead.iter().take(peeked));
        let whole = match ProxyHeader::parse(&header, config) {
            Ok((parsed, length)) => {
                let source = parsed.proxied_address().map(|address| address.source);
                Some((source.map(|source| source.ip().to_canonical()), length))
            }
            Err(Error::BufferTooShort) if peeked > 0 && header.len() < HEADER_BYTES_MAX => None,
            Err(_) => return Err(io::ErrorKind::InvalidData.into()),
        };
        let length = whole.map_or(header.len(), |(_, length)| length);
        header.truncate(known);
        let mut part = stream.take((length - known) as u64);
        part.read_to_end(&mut header).await?;
        if let Some((address, _)) = whole {
            return Ok(address);
        }
    }
}
