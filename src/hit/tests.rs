//! The encoding against an independent one: prost's, from the same schema.

use std::borrow::Cow;

use proptest::prelude::*;
use prost::Message;

use super::*;

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
    fn every_text_survives_and_no_bytes_make_it_panic(
        texts in proptest::collection::vec(".{0,12}", 22),
        noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut hit = Hit::new(UnixMicros(-1), Kind::Click, "");
        let fields: Vec<u32> = hit.texts().iter().map(|(field, _)| *field).collect();
        for (field, text) in fields.iter().zip(&texts) {
            *hit.text_mut(*field).expect("each listed field has a place") = Cow::Borrowed(text);
        }
        let mut bytes = Vec::new();
        hit.encode(&mut bytes);
        prop_assert_eq!(Hit::decode(&bytes).expect("our own encoding"), hit);
        drop(Hit::decode(&noise));
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

#[test]
fn a_permit_names_its_flags() {
    assert_eq!(Permit::NONE.to_string(), "none");
    assert_eq!(
        Permit::STORE.with(Permit::LOCATE).to_string(),
        "store.locate"
    );
    assert_eq!(Permit::named("match"), Some(Permit::MATCH));
    assert_eq!(Permit::named("all"), None);
}
