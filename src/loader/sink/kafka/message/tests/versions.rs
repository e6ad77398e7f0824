//! What each version wrote is read by this one, and what a later one adds is passed over.

use super::*;

/// Returns a recorded message.
pub(super) fn recorded(file: &str) -> Vec<u8> {
    let path = format!(
        "{}/src/loader/sink/kafka/message/{file}",
        env!("CARGO_MANIFEST_DIR")
    );
    let hex = std::fs::read_to_string(path).unwrap();
    let bytes = hex.split_whitespace();
    bytes
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

/// Checks that this version writes what is recorded.
fn check_written(message: &[u8], file: &str) {
    let hex: Vec<String> = message.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines: Vec<String> = hex.chunks(32).map(|line| line.join(" ")).collect();
    assert_eq!(message, recorded(file), "{file}:\n{}\n", lines.join("\n"));
}

#[test]
fn the_loader_reads_what_the_first_version_wrote() {
    let row = recorded("row-1.hex");
    let row = read::RowMessage::decode(&row).unwrap();
    assert_eq!((row.hit.kind, &*row.hit.site), (Kind::Click, "shop"));
    assert_eq!(row.hit.flags, Flags::DATA_CENTRE);
    assert_eq!(&row.hit_id, b"spool-id-of-hit1");
    assert_eq!(row.client_ip, Some("192.0.2.0/24".parse().unwrap()));
    assert!(row.is_sensitive_page);
    assert_eq!(row.sighting, None);
    let facts = Facts::read(&row.hit, &mut Received(&row)).unwrap();
    let place = &facts.place.unwrap().value;
    assert_eq!((&*place.country, &*place.city), ("SE", "Solna"));
    assert_eq!((place.latitude, place.longitude), (Some(59.36), Some(0.0)));
    assert_eq!(facts.network.unwrap().value.asn, Some(0));
    assert_eq!(facts.device.unwrap().value.class, DeviceClass::Phone);
    assert!(facts.page_domain.unwrap().value.is_sensitive);

    let count = recorded("count-1.hex");
    let count = read::CountMessage::decode(&count).unwrap();
    assert_eq!(
        (count.key.minute, count.key.kind),
        (29_925_394, Kind::Event)
    );
    assert_eq!(
        (&*count.key.site.site, &*count.key.ad.partner),
        ("shop", "network")
    );
    assert_eq!((count.hits, count.spool, count.said), (3, None, Vec::new()));
}

#[test]
fn the_second_version_is_read_and_written_as_it_was_and_a_later_one_is_read() {
    let hit = hit_for_the_loader();
    let mut row = Vec::new();
    with_parts_for_the_loader(&hit, |parts| {
        parts.encode(KafkaFormat::Protobuf, &mut row);
    });
    check_written(&row, "row-2.hex");
    let key = CountKey::of(&hit, 29_925_394);
    let mut count = Vec::new();
    key.encode((4, [1; 8]), &[said()], KafkaFormat::Protobuf, &mut count);
    check_written(&count, "count-2.hex");

    // A number, a text and a message of fields that a later version may add.
    let later = b"\xb8\x3e\x07\xc2\x3e\x02ab\xca\x3e\x02\x08\x01";
    for more in [&b""[..], later] {
        let row = [&recorded("row-2.hex"), more].concat();
        let row = read::RowMessage::decode(&row).unwrap();
        assert_eq!(row.sighting, Some(sighting()));
        assert_eq!(row.hit.attributes, hit.attributes);
        assert_eq!((row.hit.visitor, &*row.hit.site), (hit.visitor, "shop"));
        let read = Facts::read(&row.hit, &mut Received(&row)).unwrap();
        assert_eq!(read.network.unwrap().value.asn, Some(1));
        let count = [&recorded("count-2.hex"), more].concat();
        let count = read::CountMessage::decode(&count).unwrap();
        assert_eq!((&count.key, count.hits), (&key, 4));
        assert_eq!((count.spool, count.said), (Some([1; 8]), vec![said()]));
    }
}
