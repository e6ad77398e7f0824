//! From http to https: where a page is sent, and what tells a browser to stay.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::header::HeaderValue;

use crate::edge::Peer;

/// The value of `Strict-Transport-Security` (RFC 6797). It is about the collector's own host: what
/// other hosts of the domain speak is not ours to say.
pub(crate) fn hsts(age: Duration) -> Option<HeaderValue> {
    if age.is_zero() {
        return None;
    }
    HeaderValue::try_from(format!("max-age={}", age.as_secs())).ok()
}

/// The same page by https. Who named no port came by the one that goes without saying, and so does
/// https then, whatever the collector's own port behind it is; else it is the port of `listen`.
pub(crate) fn location(host: &str, listen: Option<SocketAddr>, target: &str) -> String {
    let in_brackets = host.find(']').unwrap_or(0);
    let (name, port) = match host.rfind(':') {
        Some(at) if at > in_brackets => host.split_at(at),
        _ => (host, ""),
    };
    let ours = listen.map_or(443, |listen| listen.port());
    if port.is_empty() || ours == 443 {
        format!("https://{name}{target}")
    } else {
        format!("https://{name}:{ours}{target}")
    }
}

/// Returns whether nobody on the way could read what a peer sends: it comes by https, or from this
/// machine. `said` is what a trusted proxy says of that.
pub(crate) fn is_confidential(peer: Peer, said: Option<bool>) -> bool {
    peer.tls || said.unwrap_or_else(|| peer.ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_and_for_proxies_that_had_it_by_https() {
        let (yes, no) = (Some(true), Some(false));
        for (ip, tls, said, is_right) in [
            ("127.0.0.1", false, None, true),
            ("127.9.9.9", false, None, true),
            ("::1", false, None, true),
            ("::ffff:127.0.0.1", false, None, true),
            ("127.0.0.1", false, no, false),
            ("10.0.0.1", false, None, false),
            ("10.0.0.1", false, yes, true),
            ("10.0.0.1", false, no, false),
            ("2001:db8::1", false, None, false),
            ("2001:db8::1", true, None, true),
        ] {
            let ip = ip.parse().expect("an address");
            let peer = Peer { ip, tls };
            assert_eq!(is_confidential(peer, said), is_right, "{peer:?} {said:?}");
        }
    }

    #[test]
    fn a_page_is_sent_to_the_port_that_speaks_tls_to_the_client() {
        let listen = |text: &str| text.parse().ok();
        for (host, listen, location_right) in [
            (
                "px.example",
                listen("0.0.0.0:8443"),
                "https://px.example/p?q",
            ),
            (
                "px.example:8080",
                listen("0.0.0.0:8443"),
                "https://px.example:8443/p?q",
            ),
            (
                "px.example:80",
                listen("0.0.0.0:443"),
                "https://px.example/p?q",
            ),
            ("px.example:8080", None, "https://px.example/p?q"),
            ("[::1]", listen("[::]:8443"), "https://[::1]/p?q"),
            ("[::1]:8080", listen("[::]:8443"), "https://[::1]:8443/p?q"),
        ] {
            assert_eq!(location(host, listen, "/p?q"), location_right);
        }
    }

    #[test]
    fn no_age_is_no_header() {
        assert_eq!(hsts(Duration::ZERO), None);
        let day = hsts(Duration::from_secs(86_400)).expect("a header");
        assert_eq!(day, "max-age=86400");
    }
}
