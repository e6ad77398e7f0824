//! The servers that a URL names.
//!
//! A collector writes, so of several servers it takes one that can be written to: a standby is
//! passed over whatever `target_session_attrs` says, and so is one that does not answer. The server
//! that was connected to last is tried first, so that an old primary which comes back after a
//! failover is not chosen because it is named first.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::lookup_host;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, SslNegotiation, TargetSessionAttrs};

use super::cluster::ClusterMemory;
use super::requirements::needed_connections;
use super::tls::{TlsOptions, Wrap};

/// The port where a URL names none.
const PORT: u16 = 5432;

/// The servers of a URL, and what is known of them.
#[derive(Debug)]
pub struct Servers {
    pub(super) config: Config,
    pub(super) tls: TlsOptions,
    /// Where among the addresses the last connection was made.
    last: AtomicUsize,
    pub(super) memory: ClusterMemory,
    /// How many connections the collector has at one time.
    pub(super) connections: i32,
}

impl Default for Servers {
    fn default() -> Servers {
        Servers {
            config: Config::default(),
            tls: TlsOptions::default(),
            last: AtomicUsize::default(),
            memory: ClusterMemory::default(),
            connections: needed_connections(1),
        }
    }
}

impl From<Config> for Servers {
    fn from(config: Config) -> Servers {
        Servers::new(config, TlsOptions::default())
    }
}

/// Where a server may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerPlace {
    /// A Unix socket, in a folder.
    Socket,
    Address(IpAddr),
}

impl ServerPlace {
    /// Checks whether it is on this machine, so that nobody listens in between.
    fn is_here(&self) -> bool {
        match self {
            ServerPlace::Socket => true,
            ServerPlace::Address(ip) => ip.to_canonical().is_loopback(),
        }
    }
}

/// One server: how it is connected to.
#[derive(Clone, Debug)]
pub(super) struct OneServer {
    pub(super) config: Config,
    pub(super) wrap: Wrap,
    /// Its name, for messages.
    pub(super) name: String,
    /// Its number among the servers.
    number: usize,
}

impl Servers {
    pub(super) fn new(config: Config, tls: TlsOptions) -> Servers {
        Servers {
            config,
            tls,
            ..Servers::default()
        }
    }

    /// Checks the files that a connection needs: a server that is not on this machine may need
    /// others than one that is.
    ///
    /// # Errors
    /// What is wrong with one, as the rest of a sentence about the URL.
    pub(super) fn check_files(&self) -> Result<(), String> {
        let mut names = self.config.get_hosts().iter();
        let is_here = |host: &Host| match host {
            Host::Tcp(name) => {
                name == "localhost"
                    || name
                        .parse()
                        .is_ok_and(|ip| ServerPlace::Address(ip).is_here())
            }
            Host::Unix(_) => true,
        };
        let mut addresses = self.config.get_hostaddrs().iter();
        let is_here = match self.config.get_hostaddrs().is_empty() {
            true => names.all(is_here),
            false => addresses.all(|ip| ServerPlace::Address(*ip).is_here()),
        };
        self.tls.read(is_here).map(drop)
    }

    /// Notes that a connection was made to a server.
    pub(super) fn note(&self, server: &OneServer) {
        self.last.store(server.number, Ordering::Relaxed);
    }

    /// Returns each server, in the order in which they are to be tried.
    ///
    /// # Errors
    /// Where none has an address, or a file of TLS cannot be read.
    pub(super) async fn resolve(&self) -> anyhow::Result<Vec<OneServer>> {
        let places = resolve_places(&self.config).await?;
        let is_alone = places.len() == 1;
        let mut servers = Vec::with_capacity(places.len());
        for (number, (place, mut config)) in places.into_iter().enumerate() {
            if !is_alone {
                config.target_session_attrs(TargetSessionAttrs::ReadWrite);
            }
            servers.push(prepare(&self.tls, &place, config, number)?);
        }
        let last = self.last.load(Ordering::Relaxed);
        if last < servers.len() {
            servers.rotate_left(last);
        }
        Ok(servers)
    }
}

/// Decides how a server is connected to.
pub(super) fn prepare(
    tls: &TlsOptions,
    place: &ServerPlace,
    mut config: Config,
    number: usize,
) -> anyhow::Result<OneServer> {
    let is_here = place.is_here();
    let settings = match place {
        ServerPlace::Socket => None,
        ServerPlace::Address(_) => tls
            .read(is_here)
            .map_err(|why| anyhow::anyhow!("database.url {why}"))?,
    };
    let wrap = Wrap::new(settings, is_here);
    if wrap.is_bare() {
        config.ssl_mode(SslMode::Disable);
    } else {
        // The stream is wrapped at once, and the client negotiates nothing.
        config.ssl_mode(SslMode::Require);
        config.ssl_negotiation(SslNegotiation::Direct);
    }
    let name = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        Some(Host::Unix(folder)) => folder.display().to_string(),
        None => String::new(),
    };
    let port = config.get_ports().first().copied().unwrap_or(PORT);
    let name = format!("{name}:{port}");
    Ok(OneServer {
        config,
        wrap,
        name,
        number,
    })
}

/// Returns each server of a configuration, with a configuration of that server alone.
async fn resolve_places(config: &Config) -> anyhow::Result<Vec<(ServerPlace, Config)>> {
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
    alone.channel_binding(config.get_channel_binding());
    alone.target_session_attrs(config.get_target_session_attrs());
    alone
}

#[cfg(test)]
mod tests;
