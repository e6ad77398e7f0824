//! Messages against an independent encoding, prost's of the same schema; against `proto/row.proto`;
//! and against what the first version wrote.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::clock::UnixMicros;
use crate::enrich::sample::{self, ColumnNames};
use crate::enrich::{DIMENSIONS, Device, DeviceClass, FactReader, Network, Place};
use crate::hit::{Flags, Permit, UserKey, VisitorId};
use crate::row::dimension::{Keyed, ReadColumns};
use crate::row::{Derived, Keyer, PageDomain};

mod versions;

#[derive(Clone, PartialEq, Message)]
struct RowSchema {
    #[prost(uint64, tag = "1")]
    received_at: u64,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(string, tag = "3")]
    site: String,
    #[prost(uint32, tag = "4")]
    permit: u32,
    #[prost(uint32, tag = "6")]
    flags: u32,
    #[prost(bytes = "vec", tag = "7")]
    visitor: Vec<u8>,
    #[prost(bytes = "vec", tag = "8")]
    client_ip: Vec<u8>,
    #[prost(string, tag = "16")]
    user_agent: String,
    #[prost(string, tag = "17")]
    page_url: String,
    #[prost(string, tag = "30")]
    params: String,
    #[prost(string, tag = "31")]
    hint_brands: String,
    #[prost(uint32, tag = "32")]
    hint_mobile: u32,
    #[prost(bytes = "vec", tag = "64")]
    hit_id: Vec<u8>,
    #[prost(uint32, tag = "65")]
    client_ip_bits: u32,
    #[prost(bool, tag = "66")]
    is_sensitive_page: bool,
    #[prost(message, tag = "67")]
    place: Option<PlaceSchema>,
    #[prost(message, tag = "68")]
    network: Option<NetworkSchema>,
    #[prost(message, tag = "69")]
    device: Option<DeviceSchema>,
    #[prost(message, tag = "70")]
    page_domain: Option<PageDomainSchema>,
    #[prost(string, tag = "999")]
    of_a_later_version: String,
}

#[derive(Clone, PartialEq, Message)]
struct PlaceSchema {
    #[prost(string, tag = "1")]
    country: String,
    #[prost(string, tag = "3")]
    city: String,
    #[prost(double, optional, tag = "6")]
    latitude: Option<f64>,
    #[prost(double, optional, tag = "7")]
    longitude: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct NetworkSchema {
    #[prost(uint32, optional, tag = "1")]
    asn: Option<u32>,
    #[prost(string, tag = "2")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct DeviceSchema {
    #[prost(string, tag = "1")]
    class: String,
    #[prost(string, tag = "4")]
    os: String,
    #[prost(bool, tag = "8")]
    is_bot: bool,
}

#[derive(Clone, PartialEq, Message)]
struct PageDomainSchema {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(bool, tag = "4")]
    is_sensitive: bool,
}

#[derive(Clone, PartialEq, Message)]
struct CountSchema {
    #[prost(uint64, tag = "1")]
    minute: u64,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(string, tag = "3")]
    site: String,
    #[prost(string, tag = "4")]
    category: String,
    #[prost(string, tag = "5")]
    partner: String,
    #[prost(string, tag = "6")]
    campaign: String,
    #[prost(string, tag = "7")]
    creative: String,
    #[prost(string, tag = "8")]
    placement: String,
    #[prost(string, tag = "9")]
    publisher: String,
    #[prost(uint64, tag = "10")]
    hits: u64,
}

/// Facts with a row of each dimension.
fn facts(place: Place, asn: Option<u32>, name: &str) -> Facts<'static> {
    let network = Network {
        asn,
        name: name.to_owned(),
    };
    let device = Device {
        class: DeviceClass::Phone,
        os: name.to_owned(),
        ..Device::default()
    };
    let domain = PageDomain {
        domain: name.to_owned(),
        is_sensitive: true,
        ..PageDomain::default()
    };
    Facts {
        place: Some(Arc::new(Keyed::new(place))),
        network: Some(Arc::new(Keyed::new(network))),
        device: Some(Arc::new(Keyed::new(device))),
        page_domain: Some(Arc::new(Keyed::new(domain))),
        ..Facts::default()
    }
}

/// The message of a hit of whose address 24 bits may be stored.
fn message_of(hit: &Hit<'_>, facts: &Facts<'_>, format: KafkaFormat) -> Vec<u8> {
    let row = Row::new(
        hit,
        Derived {
            hit_id: *b"spool-id-of-hit1",
            keys: &[None; DIMENSIONS.len()],
            flags: Flags::DATA_CENTRE,
            client_ip: Some("192.0.2.0/24".parse().unwrap()),
        },
    );
    let parts = RowParts {
        hit,
        row: &row,
        facts,
        is_sensitive_page: true,
        sighting: None,
        is_for_loader: false,
    };
    let mut message = Vec::new();
    parts.encode(format, &mut message);
    message
}

proptest! {
    #[test]
    fn prost_reads_in_a_message_what_the_hit_and_its_facts_say(
        texts in proptest::collection::vec(".{0,12}", Field::ALL.len()),
        name in ".{0,8}",
        (asn, latitude) in (any::<Option<u32>>(), any::<Option<i32>>()),
    ) {
        let mut texts = texts.into_iter();
        let hit = Hit::sample(|_| texts.next().expect("a text for each field"));
        let latitude = latitude.map(f64::from);
        let place = Place { country: name.clone(), latitude, ..Place::default() };
        let message = message_of(&hit, &facts(place, asn, &name), KafkaFormat::Protobuf);

        let mut read = RowSchema::decode(message.as_slice()).expect("prost reads ours");
        prop_assert_eq!(&read.site, &hit.site);
        prop_assert_eq!(&read.page_url, &hit.page_url);
        prop_assert_eq!(&read.params, &hit.params);
        prop_assert_eq!(read.permit, u32::from(hit.permit.bits()));
        prop_assert_eq!(read.flags, hit.flags.with(Flags::DATA_CENTRE).bits());
        prop_assert_eq!(read.place.as_ref().unwrap().latitude, latitude);
        prop_assert_eq!(&read.place.as_ref().unwrap().country, &name);
        prop_assert_eq!(read.network.as_ref().unwrap().asn, asn);
        prop_assert_eq!(&read.device.as_ref().unwrap().class, "phone");
        prop_assert!(read.page_domain.as_ref().unwrap().is_sensitive);
        prop_assert!(read.is_sensitive_page);

        // What a later version adds is passed over, by the reader of hits too.
        read.of_a_later_version = name;
        let later = read.encode_to_vec();
        prop_assert_eq!(Hit::decode(&later).map(|hit| hit.site.into_owned()), Ok(read.site));
    }

    #[test]
    fn prost_reads_the_counts_that_we_write(
        texts in proptest::collection::vec(".{0,12}", Field::ALL.len()),
        (minute, hits) in (0..i64::MAX, any::<u64>()),
    ) {
        let mut texts = texts.into_iter();
        let hit = Hit::sample(|_| texts.next().expect("a text for each field"));
        let mut message = Vec::new();
        CountKey::of(&hit, minute).encode(
            (hits, *b"spool-id"),
            &[said()],
            KafkaFormat::Protobuf,
            &mut message,
        );
        let expected = CountSchema {
            minute: minute.cast_unsigned(),
            kind: hit.kind.number().into(),
            site: hit.site.into_owned(),
            category: hit.category.into_owned(),
            partner: hit.partner.into_owned(),
            campaign: hit.campaign.into_owned(),
            creative: hit.creative.into_owned(),
            placement: hit.placement.into_owned(),
            publisher: hit.publisher.into_owned(),
            hits,
        };
        prop_assert_eq!(CountSchema::decode(message.as_slice()), Ok(expected));
    }
}

#[test]
fn a_message_has_neither_the_address_nor_the_agent_that_postgres_does_not_get() {
    let hit = Hit::sample(str::to_owned);
    let facts = facts(Place::default(), None, "");
    let message = message_of(&hit, &facts, KafkaFormat::Protobuf);
    let read = RowSchema::decode(message.as_slice()).unwrap();
    assert_eq!(read.client_ip, [192, 0, 2, 0]);
    assert_eq!(read.client_ip_bits, 24);
    assert_eq!(
        (read.user_agent, read.hint_brands, read.hint_mobile),
        Default::default()
    );
    // An unknown place is not the same as none.
    assert_eq!(read.place, Some(PlaceSchema::default()));

    let message = message_of(&hit, &facts, KafkaFormat::Json);
    let words: Map<String, Json> = serde_json::from_slice(&message).unwrap();
    assert_eq!(words["client_ip"], "192.0.2.0/24");
    assert_eq!(words["hit_id"], "73706f6f-6c2d-6964-2d6f-662d68697431");
    assert_eq!(words["device"]["class"], "phone");
    assert!(words["network"]["asn"].is_null());
    let is_kept = |name: &&String| name.contains("hint") || name.contains("agent");
    assert_eq!(words.keys().find(is_kept), None);
}

#[test]
fn the_schema_for_other_languages_has_the_fields_that_are_written() {
    let schema = include_str!("../../../../../proto/row.proto");
    let mut messages: BTreeMap<&str, BTreeMap<&str, u32>> = BTreeMap::new();
    let mut message = "";
    for line in schema.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("message ") {
            message = name.trim_end_matches(" {");
        } else if !line.starts_with("//")
            && let Some((field, number)) = line.trim_end_matches(';').split_once(" = ")
            && let Ok(number) = number.parse()
        {
            let name = field.rsplit(' ').next().unwrap();
            messages.entry(message).or_default().insert(name, number);
        }
    }
    let mut row: BTreeMap<&str, u32> = Field::ALL
        .iter()
        .filter(|field| field.name != "user_agent" && !field.name.starts_with("hint_"))
        .map(|field| (field.name, field.number))
        .collect();
    row.extend([
        ("hit_id", HIT_ID),
        ("client_ip_bits", CLIENT_IP_BITS),
        ("is_sensitive_page", IS_SENSITIVE_PAGE),
    ]);
    let of_dimension = |columns: ColumnNames| columns.0.into_iter().zip(1..).collect();
    row.insert("sighting", SIGHTING);
    for dimension in DimensionTable::ALL {
        let Some(number) = dimension.field() else {
            continue;
        };
        let taken = row.insert(dimension.table(), number);
        assert_eq!(taken, None, "{number}");
        let (name, _) = dimension.describe();
        let columns: BTreeMap<&str, u32> = of_dimension(ColumnNames::of(dimension));
        assert_eq!(messages[name], columns, "{name}");
    }
    assert_eq!(messages["Row"], row);
    assert_eq!(messages["Count"].len(), 12);
    assert_eq!(messages["Sighting"].len(), 6);
    assert_eq!(messages["Said"].len(), 4);
}

/// The hit of the recorded message.
fn recorded_hit() -> Hit<'static> {
    let mut hit = Hit::new(UnixMicros(1_795_523_696_123_456), Kind::Click, "shop");
    hit.permit = Permit::STORE.with(Permit::MEASURE);
    hit.visitor = Some(VisitorId(*b"0123456789abcdef"));
    hit.page_url = "https://shop.example/å".into();
    hit.user_agent = "Mozilla/5.0".into();
    hit.client_ip = Some([192, 0, 2, 77].into());
    hit
}

#[test]
fn a_message_of_the_first_version_is_read_and_written_as_it_was() {
    let recorded = versions::recorded("row-1.hex");
    let place = Place {
        country: "SE".to_owned(),
        city: "Solna".to_owned(),
        latitude: Some(59.36),
        longitude: Some(0.0),
        ..Place::default()
    };
    let message = message_of(
        &recorded_hit(),
        &facts(place, Some(0), "Example"),
        KafkaFormat::Protobuf,
    );
    let hex = message.iter().map(|byte| format!("{byte:02x}"));
    let hex: Vec<String> = hex.collect();
    assert_eq!(message, recorded, "{}", hex.join(" "));
    let read = RowSchema::decode(recorded.as_slice()).unwrap();
    assert_eq!(read.place.unwrap().longitude, Some(0.0));
    assert_eq!(read.network.unwrap().asn, Some(0));
    // A reader of hits reads it, and an older reader what it knows of it.
    let hit = Hit::decode(&recorded).unwrap();
    assert_eq!((hit.kind, &*hit.site), (Kind::Click, "shop"));
    assert_eq!(hit.visitor, recorded_hit().visitor);
    let count = CountSchema::decode(recorded.as_slice());
    assert!(count.is_err(), "a row is not a count");
}

#[test]
fn the_key_is_the_subject_whom_a_hit_names_first_or_else_the_hit() {
    let hit_id = [7; 16];
    let mut hit = Hit::new(UnixMicros(0), Kind::Event, "shop");
    assert_eq!(key_of(&hit, hit_id), hit_id);
    hit.partner = "network".into();
    assert_eq!(key_of(&hit, hit_id), hit_id, "a partner is nobody");
    let mut named: Vec<Subject<'_>> = Vec::new();
    hit.partner_uid = "uid".into();
    named.push(Subject::PartnerUid {
        partner: "network",
        uid: "uid",
    });
    assert_eq!(key_of(&hit, hit_id), named[0].key());
    hit.user_key = Some(UserKey([1; 16]));
    assert_eq!(key_of(&hit, hit_id), Subject::User(UserKey([1; 16])).key());
    hit.device_id = "device".into();
    assert_eq!(key_of(&hit, hit_id), Subject::DeviceId("device").key());
    hit.maid = "AB".into();
    assert_eq!(key_of(&hit, hit_id), Subject::Maid("ab").key());
    hit.visitor = Some(VisitorId([2; 16]));
    let visitor = Subject::Visitor(VisitorId([2; 16]));
    assert_eq!(key_of(&hit, hit_id), visitor.key());
}

fn said() -> SubjectSaid {
    SubjectSaid {
        node: Node([9; 16]),
        kind: NodeKind::Maid,
        permit: Permit::STORE,
        consent_source: ConsentSource::Tcf,
    }
}

fn sighting() -> (Sighting, i32) {
    let sighting = Sighting {
        address: -7,
        node: Node([3; 16]),
        day: 20_784,
        hour: 23,
        is_phone: true,
    };
    (sighting, 1_484)
}

/// Reads the dimensions of a message.
struct Received<'a>(&'a read::RowMessage<'a>);

impl FactReader for Received<'_> {
    type Error = read::MessageError;

    fn read<D: ReadColumns + Send + Sync + 'static>(
        &mut self,
        dimension: DimensionTable,
    ) -> Result<Option<Arc<Keyed<D>>>, read::MessageError> {
        let (bytes, field) = (self.0.dimensions[dimension as usize], dimension.field());
        let read = bytes.map(|bytes| read::dimension(field.unwrap(), bytes));
        read.transpose()
            .map(|row| row.map(|row| Arc::new(Keyed::new(row))))
    }
}

#[test]
fn every_column_of_every_dimension_comes_back_from_a_message() {
    let hit = Hit::sample(str::to_owned);
    let facts = sample::facts(&hit);
    let message = message_of(&hit, &facts, KafkaFormat::Protobuf);
    let row = read::RowMessage::decode(&message).unwrap();
    let read = Facts::read(&row.hit, &mut Received(&row)).unwrap();
    let keyer = Keyer::of_tests();
    assert_eq!(read.keys(&keyer), facts.keys(&keyer));
    assert_eq!(message_of(&hit, &read, KafkaFormat::Protobuf), message);
    for (dimension, bytes) in DimensionTable::ALL.into_iter().zip(row.dimensions) {
        assert_eq!(
            bytes.is_some(),
            dimension.field().is_some(),
            "{dimension:?}"
        );
        // What has no field is said by the hit itself.
        let said = Facts::of_hit(&hit).keys(&keyer)[dimension as usize];
        assert_eq!(bytes.is_none(), said.is_some(), "{dimension:?}");
    }
}

#[test]
fn a_column_of_a_wrong_type_is_an_error_and_an_unknown_one_is_passed_over() {
    let network = |bytes: &[u8]| read::dimension::<Network>(68, bytes);
    let known = Network {
        asn: Some(7),
        name: "n".to_owned(),
    };
    // An ASN, a name, and the columns 15 and 100 of a later version.
    let later = b"\x08\x07\x12\x01n\x78\x01\xa0\x06\x01";
    assert_eq!(network(later), Ok(known));
    assert_eq!(network(b""), Ok(Network::default()));
    for wrong in [
        &b"\x0a\x01n"[..],
        b"\x10\x01",
        b"\x12\x01\xff",
        b"\x08\xff\xff\xff\xff\xff\x01",
    ] {
        assert_eq!(network(wrong), Err(read::MessageError::Field(68)));
    }
}

/// A hit with what only the loader is told.
fn hit_for_the_loader() -> Hit<'static> {
    let mut hit = recorded_hit();
    hit.attributes = r#"{"income_band":"high"}"#.into();
    hit
}

/// Does something with the parts of the message that is written for the loader.
fn with_parts_for_the_loader(hit: &Hit<'_>, use_them: impl FnOnce(RowParts<'_, '_>)) {
    let derived = Derived {
        hit_id: *b"spool-id-of-hit1",
        keys: &[None; DIMENSIONS.len()],
        flags: Flags::default(),
        client_ip: None,
    };
    use_them(RowParts {
        hit,
        row: &Row::new(hit, derived),
        facts: &facts(Place::default(), Some(1), "Example"),
        is_sensitive_page: false,
        sighting: Some(sighting()),
        is_for_loader: true,
    });
}

#[test]
fn what_is_written_for_the_loader_is_read_by_it_and_passed_over_by_others() {
    let mut hit = hit_for_the_loader();
    hit.older_user_keys = vec![UserKey(*b"older-hash-of-it")];
    with_parts_for_the_loader(&hit, |parts| {
        let mut message = Vec::new();
        parts.encode(KafkaFormat::Protobuf, &mut message);
        let read = read::RowMessage::decode(&message).unwrap();
        assert_eq!(read.sighting, Some(sighting()));
        assert_eq!(read.hit.attributes, hit.attributes);
        assert_eq!(read.hit.older_user_keys, hit.older_user_keys);
        let shared = RowParts {
            is_for_loader: false,
            ..parts
        };
        for format in [KafkaFormat::Protobuf, KafkaFormat::Json] {
            let mut message = Vec::new();
            shared.encode(format, &mut message);
            let message = String::from_utf8_lossy(&message);
            for told in ["income_band", "older"] {
                assert!(!message.contains(told), "{message}");
            }
        }
        assert_eq!((read.hit.visitor, read.client_ip), (hit.visitor, None));
        let older = RowSchema::decode(message.as_slice()).unwrap();
        assert_eq!(older.site, "shop");
        assert_eq!(Hit::decode(&message).unwrap().site, "shop");
    });

    let key = CountKey::of(&hit, 29_925_394);
    let tally = Tally {
        hits: 4,
        said: vec![said(); 2_500],
        ..Tally::default()
    };
    let mut hits = Vec::new();
    for (some, said) in tally.parts() {
        let mut message = Vec::new();
        key.encode((some, [1; 8]), said, KafkaFormat::Protobuf, &mut message);
        let read = read::CountMessage::decode(&message).unwrap();
        assert_eq!((&read.key, read.spool), (&key, Some([1; 8])));
        let older = CountSchema::decode(message.as_slice()).unwrap();
        assert_eq!(older.hits, some);
        hits.push((read.hits, read.said.len()));
    }
    assert_eq!(hits, [(4, 1_000), (0, 1_000), (0, 500)]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        // The answer does not matter, only that there is one.
        let row = read::RowMessage::decode(&bytes).is_ok();
        let count = read::CountMessage::decode(&bytes).is_ok();
        prop_assert!(!row || Hit::decode(&bytes).is_ok() || count);
        for cut in 0..bytes.len() {
            drop(read::dimension::<Place>(67, &bytes[..cut]));
            drop(read::dimension::<Device>(69, &bytes[..cut]));
        }
    }
}
