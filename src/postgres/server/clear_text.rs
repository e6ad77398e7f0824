//! Keeps the password from a network that it would cross in clear text.
//!
//! Connections are not encrypted. A server that asks for the password by `md5` or SCRAM learns a
//! proof of it; one that asks for the password itself, or whoever sits between and pretends to be
//! it, learns the password. So that request is an error, unless the server is on this machine.
//!
//! The client has no such option, but it lets a caller wrap its stream, as for TLS: [`InClear`]
//! wraps it in a stream that reads along until the server has said how it wants to be convinced.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::lookup_host;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, Connection, Error, Socket};

/// What a server sends that asks for the password in clear text: the type of the message, its
/// length and its code.
const REQUEST: [u8; 9] = [b'R', 0, 0, 0, 8, 0, 0, 0, 3];

/// The port where a URL names none.
const PORT: u16 = 5432;

/// Where a server may be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ServerPlace {
    /// A Unix socket, in a folder.
    Socket,
    Address(IpAddr),
}

/// Checks whether the password may be sent there in clear text.
fn may_have_password(place: &ServerPlace) -> bool {
    match place {
        ServerPlace::Socket => true,
        ServerPlace::Address(ip) => ip.to_canonical().is_loopback(),
    }
}

/// Connects to the first server that can be reached.
///
/// # Errors
/// That of the last.
pub(super) async fn connect(config: &Config) -> anyhow::Result<(Client, ClearConnection)> {
    let mut last = None;
    for (place, config) in resolve(config).await? {
        match connect_to(&place, config).await {
            Ok(connected) => return Ok(connected),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| anyhow::anyhow!("its name has no address"), Into::into))
}

/// A connection as it is driven.
pub(super) type ClearConnection = Connection<Socket, Watched<Socket>>;

async fn connect_to(
    place: &ServerPlace,
    mut config: Config,
) -> Result<(Client, ClearConnection), Error> {
    if may_have_password(place) {
        config.ssl_mode(SslMode::Disable);
    } else {
        // The stream is wrapped at once, and nothing is negotiated.
        config.ssl_mode(SslMode::Require);
        config.ssl_negotiation(SslNegotiation::Direct);
    }
    config.connect(InClear).await
}

/// Returns each server of a configuration, with a configuration of that server alone.
async fn resolve(config: &Config) -> anyhow::Result<Vec<(ServerPlace, Config)>> {
    let (hosts, addresses, ports) = (
        config.get_hosts(),
        config.get_hostaddrs(),
        config.get_ports(),
    );
    let number = hosts.len().max(addresses.len());
    anyhow::ensure!(
        [hosts.len(), addresses.len()]
            .iter()
            .all(|of| [0, number].contains(of))
            && [0, 1, number].contains(&ports.len()),
        "not as many hosts as addresses, or not as many ports"
    );
    let mut servers = Vec::new();
    for at in 0..number {
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(PORT);
        match (hosts.get(at), addresses.get(at)) {
            (Some(Host::Unix(folder)), None) => {
                let mut alone = without_servers(config);
                alone.host_path(folder).port(port);
                servers.push((ServerPlace::Socket, alone));
            }
            (host, Some(ip)) => servers.push(at_address(config, host, *ip, port)),
            (Some(host @ Host::Tcp(name)), None) => {
                match lookup_host((name.as_str(), port)).await {
                    Ok(found) => {
                        let found =
                            found.map(|found| at_address(config, Some(host), found.ip(), port));
                        servers.extend(found);
                    }
                    // The next may have one.
                    Err(error) if at + 1 == number && servers.is_empty() => {
                        return Err(error.into());
                    }
                    Err(error) => tracing::debug!("a host of database.url has no address: {error}"),
                }
            }
            (None, None) => {}
        }
    }
    if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
        use std::hash::{BuildHasher as _, RandomState};
        let seed = RandomState::new();
        servers.sort_by_cached_key(|(place, _)| seed.hash_one(format!("{place:?}")));
    }
    Ok(servers)
}

fn at_address(
    config: &Config,
    host: Option<&Host>,
    ip: IpAddr,
    port: u16,
) -> (ServerPlace, Config) {
    let mut alone = without_servers(config);
    // The name leads nowhere: it only has to be there.
    match host {
        Some(Host::Tcp(name)) => alone.host(name),
        _ => alone.host(ip.to_string()),
    };
    alone.hostaddr(ip).port(port);
    (ServerPlace::Address(ip), alone)
}

/// Returns a configuration with everything but its servers.
fn without_servers(config: &Config) -> Config {
    let mut alone = Config::new();
    if let Some(user) = config.get_user() {
        alone.user(user);
    }
    if let Some(password) = config.get_password() {
        alone.password(password);
    }
    if let Some(name) = config.get_dbname() {
        alone.dbname(name);
    }
    if let Some(options) = config.get_options() {
        alone.options(options);
    }
    if let Some(name) = config.get_application_name() {
        alone.application_name(name);
    }
    if let Some(limit) = config.get_connect_timeout() {
        alone.connect_timeout(*limit);
    }
    if let Some(limit) = config.get_tcp_user_timeout() {
        alone.tcp_user_timeout(*limit);
    }
    alone.keepalives(config.get_keepalives());
    alone.keepalives_idle(config.get_keepalives_idle());
    if let Some(interval) = config.get_keepalives_interval() {
        alone.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        alone.keepalives_retries(retries);
    }
    alone.target_session_attrs(config.get_target_session_attrs());
    alone
}

/// Wraps a stream where TLS would.
#[derive(Clone, Copy, Debug)]
pub(super) struct InClear;

impl MakeTlsConnect<Socket> for InClear {
    type Stream = Watched<Socket>;
    type TlsConnect = InClear;
    type Error = io::Error;

    fn make_tls_connect(&mut self, _: &str) -> io::Result<InClear> {
        Ok(InClear)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsConnect<S> for InClear {
    type Stream = Watched<S>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Watched<S>>>;

    fn connect(self, stream: S) -> Self::Future {
        std::future::ready(Ok(Watched {
            stream,
            matched: Some(0),
        }))
    }
}

/// A stream that fails if the first message of a server asks for the password in clear text.
pub(super) struct Watched<S> {
    stream: S,
    /// How many bytes were those of [`REQUEST`]; none once one was another.
    matched: Option<usize>,
}

impl<S> Watched<S> {
    /// Looks at bytes that came.
    fn look(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(matched) = self.matched else {
            return Ok(());
        };
        let rest = REQUEST.get(matched..).unwrap_or_default();
        let compared = rest.len().min(bytes.len());
        self.matched =
            (bytes.get(..compared) == rest.get(..compared)).then_some(matched + compared);
        if self.matched == Some(REQUEST.len()) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the server asks for the password in clear text, and the connection is not \
                 encrypted; let pg_hba.conf ask for it by scram-sha-256",
            ));
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        Poll::Ready(match self.matched {
            Some(_) => self.look(buffer.filled().get(before..).unwrap_or_default()),
            None => Ok(()),
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Watched<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

#[cfg(test)]
mod tests;
