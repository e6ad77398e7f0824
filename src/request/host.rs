//! The names of hosts.

/// Returns the host of an authority as it is compared: without a port, and without the dot that
/// ends a name at the root of the DNS. `shop.example.:443` and `shop.example` are the same host.
pub(crate) fn host_of(authority: &str) -> &str {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    without_root(host)
}

/// Returns a host without the dot at its end.
pub(crate) fn without_root(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_the_same_with_a_port_and_with_a_dot_at_its_end() {
        for authority in ["a.se", "a.se.", "a.se:80", "a.se.:80", "a.se:"] {
            assert_eq!(host_of(authority), "a.se", "{authority}");
        }
        for (authority, host) in [("[::1]:80", "[::1]"), ("", ""), (".", ""), ("a..", "a.")] {
            assert_eq!(host_of(authority), host, "{authority}");
        }
    }
}
