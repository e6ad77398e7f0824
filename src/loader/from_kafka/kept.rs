//! What Postgres may keep of a message: of its address as much as this process is configured to
//! keep, whatever the collectors produced.

use ipnet::IpNet;

use crate::config::ClientIp;
use crate::hit;
use crate::loader::derive;
use crate::loader::sink::kafka::message::read::{CountMessage, RowMessage};

/// Returns what may be stored of a message that is set aside: without attributes and hashes of
/// users by older keys, and without an address of which it says more than may be stored. What is
/// neither a row nor a count is kept up to its first field that cannot be read, as a hit is that
/// comes from a spool.
pub(super) fn keep(payload: &[u8], client_ip: ClientIp) -> Vec<u8> {
    match hit::without_unkept(payload) {
        Some(rest) => keep_of_address(&rest, client_ip),
        None => keep_of_address(payload, client_ip),
    }
}

fn keep_of_address(payload: &[u8], client_ip: ClientIp) -> Vec<u8> {
    let may_stay = |network: Option<IpNet>| {
        network.is_none_or(|network| derive::shorten(network, client_ip) == Some(network))
    };
    match (RowMessage::decode(payload), CountMessage::decode(payload)) {
        (Ok(row), _) if may_stay(row.client_ip) => payload.to_vec(),
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
        row_with("", address, bits)
    }

    fn row_with(attributes: &'static str, address: &str, bits: u8) -> Vec<u8> {
        let mut hit = Hit::new(UnixMicros(1), Kind::PageView, "shop");
        hit.attributes = attributes.into();
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
    fn a_message_that_is_set_aside_has_no_attributes() {
        for (address, bits) in [("203.0.113.0", 24), ("203.0.113.7", 32)] {
            let bringing = row_with(r#"{"gender":"female"}"#, address, bits);
            let read = RowMessage::decode(&bringing).unwrap();
            assert_eq!(read.hit.attributes, r#"{"gender":"female"}"#);
            for most in [ClientIp::None, ClientIp::Truncated, ClientIp::Full] {
                assert_eq!(keep(&bringing, most), keep(&row(address, bits), most));
            }
            // Where it breaks off, too.
            let broken = [&bringing[..], b"\xff"].concat();
            let kept = keep(&broken, ClientIp::Full);
            assert!(!kept.windows(6).any(|part| part == b"gender"));
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
