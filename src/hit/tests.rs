//! The encoding against an independent one, prost's of the same schema; and the table of fields
//! against `proto/hit.proto` and the export.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use prost::Message;
use serde_json::json;

use super::subject::Subject;
use super::wire::take_varint;
use super::*;
use crate::clock::UnixMicros;

#[derive(Clone, PartialEq, Message)]
struct Schema {
    #[prost(uint64, tag = "1")]
    received_at: u64,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(string, tag = "3")]
    site: String,
    #[prost(uint32, tag = "4")]
    permit: u32,
    #[prost(uint32, tag = "5")]
    consent_source: u32,
    #[prost(uint32, tag = "6")]
    flags: u32,
    #[prost(bytes = "vec", tag = "7")]
    visitor: Vec<u8>,
    #[prost(bytes = "vec", tag = "8")]
    client_ip: Vec<u8>,
    #[prost(string, tag = "16")]
    user_agent: String,
    #[prost(string, tag = "30")]
    params: String,
    #[prost(uint32, tag = "32")]
    mobile: u32,
    #[prost(string, tag = "36")]
    form_factors: String,
    #[prost(string, tag = "999")]
    of_a_later_version: String,
}

fn schema() -> impl Strategy<Value = Schema> {
    (
        (
            0..i64::MAX as u64,
            1_u32..=8,
            ".*",
            0_u32..64,
            1_u32..=6,
            any::<u32>(),
        ),
        (
            prop_oneof![Just(vec![]), proptest::collection::vec(any::<u8>(), 16)],
            prop_oneof![Just(vec![]), Just(vec![192, 0, 2, 1]), Just(vec![7; 16])],
            (".*", ".*", 0_u32..3, ".*", ".*"),
        ),
    )
        .prop_map(|(a, (visitor, client_ip, c))| Schema {
            received_at: a.0,
            kind: a.1,
            site: a.2,
            permit: a.3,
            consent_source: a.4,
            flags: a.5,
            visitor,
            client_ip,
            user_agent: c.0,
            params: c.1,
            mobile: c.2,
            form_factors: c.3,
            of_a_later_version: c.4,
        })
}

proptest! {
    #[test]
    fn what_prost_writes_is_read_and_what_we_write_prost_reads(schema in schema()) {
        let bytes = schema.encode_to_vec();
        let hit = Hit::decode(&bytes).expect("a valid message is a hit");
        prop_assert_eq!(&hit.site, &schema.site);
        prop_assert_eq!(&hit.user_agent, &schema.user_agent);
        prop_assert_eq!(&hit.hints.form_factors, &schema.form_factors);
        prop_assert_eq!(hit.received_at.0, i64::try_from(schema.received_at).unwrap_or(-1));
        let mut ours = Vec::new();
        hit.encode(&mut ours);
        let back = Schema::decode(ours.as_slice()).expect("prost reads ours");
        prop_assert_eq!(back, Schema { of_a_later_version: String::new(), ..schema });
    }

    #[test]
    fn every_field_survives_and_no_bytes_make_it_panic(
        texts in proptest::collection::vec(".{0,12}", Field::ALL.len()),
        noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut texts = texts.into_iter();
        let hit = Hit::sample(|_| texts.next().expect("a text for each field"));
        let mut bytes = Vec::new();
        hit.encode(&mut bytes);
        prop_assert_eq!(Hit::decode(&bytes).expect("our own encoding"), hit);
        drop(Hit::decode(&noise));
    }
}

/// A hit with a value in every field; each text is the name of its field.
fn full_hit() -> Hit<'static> {
    Hit::sample(str::to_owned)
}

#[test]
fn fields_are_encoded_in_the_order_in_which_they_always_were() {
    let mut bytes = Vec::new();
    full_hit().encode(&mut bytes);
    let mut rest = bytes.as_slice();
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let key = take_varint(&mut rest).unwrap();
        let length = take_varint(&mut rest).unwrap();
        if key & 7 == 2 {
            rest = &rest[usize::try_from(length).unwrap()..];
        }
        fields.push(key >> 3);
    }
    let expected = [1, 2, 4, 5, 6, 7, 8, 32, 3].into_iter().chain(16..=31);
    let expected: Vec<u64> = expected.chain(33..=44).collect();
    assert_eq!(fields, expected);
}

#[test]
fn the_schema_for_other_languages_has_the_fields_of_the_table() {
    let schema = include_str!("../../proto/hit.proto");
    let described: BTreeMap<&str, u32> = schema
        .lines()
        .filter_map(|line| line.trim().strip_suffix(';')?.split_once(" = "))
        .filter_map(|(field, number)| Some((field.split_once(' ')?.1, number.parse().ok()?)))
        .collect();
    let table: BTreeMap<&str, u32> = Field::ALL
        .iter()
        .map(|field| (field.name, field.number))
        .collect();
    assert_eq!(described, table);
    let numbers: BTreeSet<u32> = table.values().copied().collect();
    assert_eq!(numbers.len(), Field::ALL.len());
    assert_eq!(table.len(), Field::ALL.len());
}

#[test]
fn every_field_of_a_full_hit_is_exported() {
    let (full, empty) = (
        full_hit().export(),
        Hit::new(UnixMicros(0), Kind::Event, "").export(),
    );
    assert_eq!(full.len(), Field::ALL.len());
    for field in Field::ALL {
        let value = full.get(field.word).unwrap();
        assert_ne!(Some(value), empty.get(field.word), "{}", field.word);
        if value.is_string() && !["kind", "consent_source", "protocol"].contains(&field.name) {
            let said = value.as_str().unwrap();
            let is_special = ["visitor", "client_ip", "user_key"].contains(&field.name);
            assert!(is_special || said == field.name, "{}: {said}", field.name);
        }
    }
    for (word, value) in [
        ("received_at_unix_micros", json!(1_795_523_696_123_456_i64)),
        ("kind", json!("callback")),
        ("consent_source", json!("gpp")),
        ("visitor_id", json!("30313233-3435-3637-3839-616263646566")),
        ("client_ip", json!("192.0.2.77")),
        ("hint_mobile", json!(true)),
        ("site_category", json!("category")),
    ] {
        assert_eq!(full.get(word), Some(&value), "{word}");
    }
    let names = |word: &str| full.get(word).unwrap().as_array().unwrap().len();
    assert_eq!(names("permit"), Permit::NAMED.len());
    assert_eq!(names("flags"), Flags::ALL.len());
}

#[test]
fn every_id_goes_and_everything_else_stays() {
    let mut hit = full_hit();
    hit.clear_ids();
    let (before, after) = (full_hit().export(), hit.export());
    for field in Field::ALL {
        let is_kept = before.get(field.word) == after.get(field.word);
        assert_eq!(is_kept, !field.is_id, "{}", field.name);
    }
    let ids: Vec<&str> = Field::ALL
        .iter()
        .filter(|field| field.is_id)
        .map(|field| field.name)
        .collect();
    assert_eq!(
        ids,
        [
            "visitor",
            "partner_uid",
            "maid",
            "device_id",
            "click_id",
            "user_key",
            "session_id",
            "older_user_keys",
        ]
    );
}

/// The fields that are numbers.
const NUMBERS: [u32; 9] = [1, 2, 4, 5, 6, 32, 40, 41, 42];

/// Returns a page view with another field, of a wire type, that is zero: a number, or a length.
fn with_zero(field: u32, wire_type: u32) -> Vec<u8> {
    let key = field << 3 | wire_type;
    let mut bytes = vec![0x10, 1];
    bytes.extend(if key < 0x80 {
        vec![u8::try_from(key).unwrap()]
    } else {
        vec![
            u8::try_from(key & 0x7f).unwrap() | 0x80,
            u8::try_from(key >> 7).unwrap(),
        ]
    });
    bytes.push(0);
    bytes
}

#[test]
fn a_number_that_is_written_as_zero_is_one_that_is_not_there() {
    let bare = Hit::decode(&[0x10, 1]);
    assert!(bare.is_ok());
    // A kind and a source have no number zero.
    for number in NUMBERS
        .into_iter()
        .filter(|number| ![2, 5].contains(number))
    {
        assert_eq!(Hit::decode(&with_zero(number, 0)), bare, "{number}");
    }
}

#[test]
fn wrong_records_are_named_errors() {
    assert_eq!(Hit::decode(&[]), Err(DecodeError::Kind(0)));
    assert_eq!(Hit::decode(&[0x10, 9]), Err(DecodeError::Kind(9)));
    assert_eq!(Hit::decode(&[0x1a, 5, b'a']), Err(DecodeError::Short));
    assert_eq!(
        Hit::decode(&[0x10, 1, 0x1a, 1, 0xff]),
        Err(DecodeError::Utf8(3))
    );
    assert_eq!(Hit::decode(&[0x10, 1, 0x18, 1]), Err(DecodeError::Field(3)));
    assert_eq!(
        Hit::decode(&[0x10, 1, 0x42, 1, 1]),
        Err(DecodeError::Field(8))
    );
    for field in Field::ALL {
        let wrong_type = if NUMBERS.contains(&field.number) {
            2
        } else {
            0
        };
        let bytes = with_zero(field.number, wrong_type);
        let refused = Err(DecodeError::Field(field.number));
        assert_eq!(Hit::decode(&bytes), refused, "{}", field.name);
    }
}

#[test]
fn a_sync_without_a_partner_names_two_visitors() {
    let [own, other] = [VisitorId([1; 16]), VisitorId([2; 16])];
    let sync = |kind, partner: &'static str, uid: String| Hit {
        visitor: Some(own),
        partner: partner.into(),
        partner_uid: uid.into(),
        ..Hit::new(UnixMicros(1), kind, "news")
    };
    for (hit, linked) in [
        (sync(Kind::Sync, "", other.to_string()), Some(other)),
        (sync(Kind::Sync, "network", other.to_string()), None),
        (sync(Kind::Sync, "", "not-a-visitor".to_owned()), None),
        (sync(Kind::PageView, "", other.to_string()), None),
    ] {
        assert_eq!(hit.linked_visitor(), linked, "{hit:?}");
        let mut encoded = Vec::new();
        hit.encode(&mut encoded);
        let named = subjects(&encoded);
        assert_eq!(named[0], Some(Subject::Visitor(own)));
        let of_uid = Subject::PartnerUid {
            partner: &hit.partner,
            uid: &hit.partner_uid,
        };
        let expected = linked.map_or(of_uid, Subject::Visitor);
        assert_eq!(named[2], Some(expected), "{hit:?}");
    }
}

#[test]
fn the_address_is_left_out_even_of_a_record_that_is_no_hit() {
    let mut hit = Hit::new(UnixMicros(5), Kind::Click, "site");
    let mut without = Vec::new();
    hit.encode(&mut without);
    hit.client_ip = Some([192, 0, 2, 1].into());
    let mut bytes = Vec::new();
    hit.encode(&mut bytes);
    assert_eq!(without_client_ip(&bytes), without);
    let end = bytes.len();
    bytes.extend_from_slice(&[0x1a, 99, 192, 0, 2, 1]);
    assert_eq!(without_client_ip(&bytes), without);
    assert!(end > without.len());
}
