//! The public listeners: http and, with its certificates, https.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;

use super::handover::{Role, Sockets, cannot_listen};
use crate::config::Config;
use crate::edge::transport::tls;
use crate::edge::transport::tls::Certificates;
use crate::edge::{Entrance, Limits, Preamble};
use crate::metrics::Metrics;

/// What the edge threads accept on.
pub(super) struct Public {
    http: Vec<Entrance>,
    tls: Vec<Entrance>,
    pub(super) certificates: Option<Arc<Certificates>>,
    pub(super) limits: Arc<Limits>,
}

impl Public {
    /// Reads the certificates, starts to watch their files, and opens every entrance on the sockets
    /// that another process handed over, or on new ones. Blocks.
    pub(super) fn open(
        config: &Config,
        metrics: &Arc<Metrics>,
        sockets: &mut Sockets,
    ) -> anyhow::Result<Public> {
        let (http, threads) = (&config.http, config.http.thread_count());
        let preamble = Preamble {
            proxy_protocol: http.proxy_protocol,
            tls: None,
        };
        let handed_over = sockets.remove(Role::Http, http.listen);
        let mut public = Public {
            http: Entrance::open(http.listen, threads, &preamble, handed_over)
                .map_err(|error| cannot_listen("http.listen", http.listen, error))?,
            tls: Vec::new(),
            certificates: None,
            limits: Arc::new(Limits::new(http.connections_max, http.body_memory_bytes)),
        };
        if let Some(listen) = config.tls.listen {
            let certificates = Arc::new(Certificates::open(&config.certificates, metrics)?);
            let acceptor = tls::acceptor(Arc::clone(&certificates)).context("preparing TLS")?;
            let preamble = Preamble {
                proxy_protocol: config.tls.proxy_protocol,
                tls: Some(acceptor),
            };
            let handed_over = sockets.remove(Role::Tls, listen);
            public.tls = Entrance::open(listen, public.http.len(), &preamble, handed_over)
                .map_err(|error| cannot_listen("tls.listen", listen, error))?;
            public.certificates = Some(Arc::clone(&certificates));
            tokio::task::spawn_local(certificates.watch(Arc::clone(metrics)));
        }
        Ok(public)
    }

    /// Returns the addresses of http and https.
    pub(super) fn addresses(&self) -> io::Result<(SocketAddr, Option<SocketAddr>)> {
        let first = |entrances: &[Entrance]| entrances.first().map(Entrance::address).transpose();
        let http = first(&self.http)?.ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok((http, first(&self.tls)?))
    }

    /// Returns duplicates of the sockets, for the process that takes over.
    pub(super) fn duplicates(&self, admin: &std::net::TcpListener) -> io::Result<Sockets> {
        let mut sockets = Sockets::default();
        for (role, entrances) in [(Role::Http, &self.http), (Role::Tls, &self.tls)] {
            let duplicates = entrances.iter().map(Entrance::duplicate);
            sockets.add(role, duplicates.collect::<io::Result<Vec<_>>>()?);
        }
        sockets.add(Role::Admin, [admin.try_clone()?]);
        Ok(sockets)
    }

    /// Returns the entrances of each thread.
    pub(super) fn threads(self) -> Vec<Vec<Entrance>> {
        let mut threads: Vec<Vec<Entrance>> = Vec::new();
        for entrances in [self.http, self.tls] {
            threads.resize_with(threads.len().max(entrances.len()), Vec::new);
            for (thread, entrance) in threads.iter_mut().zip(entrances) {
                thread.push(entrance);
            }
        }
        threads
    }
}
