//! Geodata files.

use std::cell::LazyCell;
use std::fs;
use std::net::IpAddr;

use avtryck::enrich::{TableFiles, load};
use avtryck::hit::limits::TEXT_BYTES_MAX;
use tempfile::TempDir;

thread_local! {
    static DIR: LazyCell<TempDir> =
        LazyCell::new(|| tempfile::tempdir().expect("a directory"));
}

/// The content of a file in MaxMind's format, read as one of places and as one of networks.
pub fn mmdb(bytes: &[u8]) {
    DIR.with(|dir| {
        let path = dir.path().join("file.mmdb");
        fs::write(&path, bytes).expect("a disk with room");
        let (tables, _) = load(&TableFiles {
            city: vec![path.clone()],
            network: vec![path],
            ..TableFiles::default()
        });
        for address in ADDRESSES {
            let address: IpAddr = address.parse().expect("an address");
            let place = tables.place(address);
            assert_eq!(place, tables.place(address), "answers stay");
            if let Some(place) = place {
                let within = |degrees: Option<f64>, limit: f64| {
                    degrees.is_none_or(|degrees| degrees.abs() <= limit)
                };
                assert!(within(place.value.latitude, 90.0));
                assert!(within(place.value.longitude, 180.0));
                let place = &place.value;
                for text in [
                    &place.country,
                    &place.region,
                    &place.city,
                    &place.postal_code,
                    &place.time_zone,
                ] {
                    text_is_sound(text);
                }
            }
            if let Some(network) = tables.network(address) {
                text_is_sound(&network.value.name);
            }
        }
    });
}

const ADDRESSES: [&str; 8] = [
    "0.0.0.0",
    "192.0.2.1",
    "198.51.100.200",
    "255.255.255.255",
    "::",
    "::ffff:192.0.2.1",
    "2001:db8::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
];

/// What Postgres stores of a place or network is short.
fn text_is_sound(text: &str) {
    assert!(text.len() <= TEXT_BYTES_MAX, "{} bytes", text.len());
}
