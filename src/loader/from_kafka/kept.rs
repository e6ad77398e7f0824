//! What Postgres may keep of a message: of its address as much as this process is configured to
//! keep, whatever the collectors produced.

use ipnet::IpNet;

use crate::config::ClientIp;
use crate::hit;
use crate::loader::sink::kafka::message::read::{CountMessage, RowMessage};

/// Returns what may be stored of an address, of which a message may say more.
pub(super) fn cut(network: Option<IpNet>, client_ip: ClientIp) -> Option<IpNet> {
    let network = network?;
    let most = match (client_ip, network) {
        (ClientIp::None, _) => return None,
        (ClientIp::Full, _) => 128,
        (ClientIp::Truncated, IpNet::V4(_)) => 24,
        (ClientIp::Truncated, IpNet::V6(_)) => 48,
    };
    let bits = network.prefix_len().min(most);
    let network = IpNet::new(network.addr(), bits).ok()?;
    Some(network.trunc())
}

/// Returns what may be stored of a message that is set aside: without an address of which it says
/// more than may be stored. What is neither a row nor a count is kept up to its first field that
/// cannot be read, as a hit is that comes from a spool.
pub(super) fn keep(payload: &[u8], client_ip: ClientIp) -> Vec<u8> {
    match (RowMessage::decode(payload), CountMessage::decode(payload)) {
        (Ok(row), _) if cut(row.client_ip, client_ip) == row.client_ip => payload.to_vec(),
        // No address is in a count; its eighth field is another one.
        (Err(_), Ok(count)) if count.hits > 0 => payload.to_vec(),
        _ => hit::without_client_ip(payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMicros;
    use crate::hit::{Hit, Kind, Permit};

    /// A message of a hit at an address, of which it says that many bits.
    fn row(address: &str, bits: u8) -> Vec<u8> {
        let mut hit = Hit::new(UnixMicros(1), Kind::PageView, "shop");
        hit.permit = Permit::ALL;
        hit.client_ip = Some(address.parse().unwrap());
        let mut bytes = Vec::new();
        hit.encode(&mut bytes);
        // Fields 64 and 65: the hit's ID, and the bits.
        bytes.extend([0x82, 0x04, 16]);
        bytes.extend([7; 16]);
        bytes.extend([0x88, 0x04, bits]);
        bytes
    }

    #[test]
    fn a_message_that_is_set_aside_has_no_more_of_its_address_than_a_row_of_it() {
        for (message, most, is_kept) in [
            (row("203.0.113.0", 24), ClientIp::Truncated, true),
            (row("203.0.113.7", 32), ClientIp::Truncated, false),
            (row("203.0.113.7", 32), ClientIp::Full, true),
            (row("203.0.113.0", 24), ClientIp::None, false),
            (row("2001:db8:abcd::", 48), ClientIp::Truncated, true),
            (row("2001:db8:abcd::1", 128), ClientIp::Truncated, false),
            (row("2001:db8:abcd::1", 128), ClientIp::None, false),
        ] {
            let kept = keep(&message, most);
            assert_eq!(kept == message, is_kept, "{most:?}");
            let hit = Hit::decode(&kept).unwrap();
            assert_eq!(hit.client_ip.is_some(), is_kept);
            assert_eq!(hit.site, "shop");
        }
    }

    #[test]
    fn what_cannot_be_read_is_kept_without_an_address_and_a_count_with_its_placement() {
        // Without the hit's ID it is no message of a row.
        let mut hit = Hit::new(UnixMicros(1), Kind::PageView, "shop");
        hit.client_ip = Some("203.0.113.7".parse().unwrap());
        let mut bytes = Vec::new();
        hit.encode(&mut bytes);
        for most in [ClientIp::None, ClientIp::Truncated, ClientIp::Full] {
            let kept = Hit::decode(&keep(&bytes, most)).unwrap().client_ip;
            assert_eq!(kept, None);
        }
        // Up to the first field that cannot be read.
        assert_eq!(keep(b"\x08\x01\xff", ClientIp::Truncated), b"\x08\x01");
        // A page view of a site, counted 3 times, with a placement.
        let count = b"\x08\x01\x10\x01\x1a\x04shop\x42\x03top\x50\x03";
        assert_eq!(keep(count, ClientIp::None), count);
    }
}
