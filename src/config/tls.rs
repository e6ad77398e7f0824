//! `[tls]` and `[[certificate]]`: the public listener for https.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::keys::ADDRESS;
use super::table::keys;
use super::value;

const PEM: &str = "a file in PEM";

keys! {
    /// `[tls]`: the public listener for https.
    #[derive(Clone, Debug)]
    pub struct TlsConfig in [tls] {
        /// Where hits arrive over TLS, by HTTP/2 and HTTP/1.1. Empty: nowhere. See docs/tls.md.
        restart listen: Option<SocketAddr> = optional(ADDRESS, value::parse);
        /// Expects each connection to begin with the PROXY protocol of a trusted proxy, version 1
        /// or 2, and ends those that do not.
        restart proxy_protocol: bool = flag();
        /// How long browsers are to use https only, as replies over TLS tell them.
        reload hsts: Duration =
            one("0s", "0s (nothing is said) to 730d", value::duration_within("0s", "730d"));
    }
}

keys! {
    /// `[[certificate]]`: files in PEM. The first serves clients that name no host, or an unknown
    /// one.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Certificate in [certificate] {
        /// The server's own certificate, followed by those that lead from it to a root.
        /// Certificates are chosen by their names, the first for all other names, and read again
        /// when the files change.
        reload chain: PathBuf = required(PEM, value::path);
        /// The certificate's private key.
        reload key: PathBuf = required(PEM, value::path);
    }
}
