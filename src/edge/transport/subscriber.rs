//! Whose an address is: what one subscriber has, and what one household may have.

use std::net::{IpAddr, Ipv6Addr};

/// Returns what one subscriber has: an IPv4 address, or the /64 of an IPv6 address.
pub(crate) fn subscriber(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

/// How many times as much as a /64 an IPv6 /56 may have: providers give a whole one to a household,
/// and one household may be several subscribers.
pub(crate) const SITE_FACTOR: usize = 4;

/// Returns the /56 of an IPv6 address; `None` for IPv4. The last bit tells it from a /64.
pub(crate) fn site(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            let network = Ipv6Addr::new(a, b, c, d & 0xff00, 0, 0, 0, 1);
            Some(IpAddr::V6(network))
        }
        IpAddr::V4(_) => None,
    }
}
