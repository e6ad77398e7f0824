//! What a message holds: `proto/row.proto`, or the same as JSON.
//!
//! A row's message is the hit's own encoding, less what Postgres would not get either (the user
//! agent, the client hints, what is cut off the address), with what was found of it behind.

pub mod read;

use std::collections::HashSet;

use serde_json::{Map, Value as Json};

use crate::config::KafkaFormat;
use crate::enrich::{DimensionTable, FactVisitor, Facts};
use crate::hit::subject::Subject;
use crate::hit::wire::{put_bytes, put_number, put_varint};
use crate::hit::{ConsentSource, Field, Hints, Hit, Kind, Permit};
use crate::identity::{Node, NodeKind};
use crate::postgres::household::part::Sighting;
use crate::row::dimension::{Columns, Dimension as _, Found};
use crate::row::{Ad, Row, Site};

/// The header `schema`: the last change that a reader must know of.
pub(crate) const SCHEMA: &str = "1";

const HIT_ID: u32 = 64;
const CLIENT_IP_BITS: u32 = 65;
const IS_SENSITIVE_PAGE: u32 = 66;
const SIGHTING: u32 = 80;

/// What is said of subjects in one message of a count.
const SAID_MAX: usize = 1_000;

/// What the message of a row is made from.
#[derive(Clone, Copy)]
pub(crate) struct RowParts<'a, 'f> {
    /// The hit.
    pub hit: &'a Hit<'a>,
    /// Its row.
    pub row: &'a Row<'a>,
    /// What was found of it.
    pub facts: &'a Facts<'f>,
    /// Whether its page is of a sensitive category.
    pub is_sensitive_page: bool,
    /// The sighting that it makes, with its epoch; for `avtryck load` alone.
    pub sighting: Option<(Sighting, i32)>,
    /// Whether `avtryck load` reads it, which needs what nobody else is told: the attributes that a
    /// callback brings, and the hashes of a user by older keys.
    pub is_for_loader: bool,
}

impl RowParts<'_, '_> {
    /// Appends the message.
    pub(crate) fn encode(&self, format: KafkaFormat, out: &mut Vec<u8>) {
        match format {
            KafkaFormat::Protobuf => self.encode_protobuf(out),
            KafkaFormat::Json => write_json(self.json(), out),
        }
    }

    /// Returns the hit with what may be sent of it.
    fn strip_hit(&self) -> Hit<'_> {
        Hit {
            flags: self.row.flags,
            client_ip: self.row.client_ip.map(|network| network.network()),
            user_key: self.row.user_key,
            user_agent: "".into(),
            hints: Hints::default(),
            attributes: match self.is_for_loader {
                true => self.hit.attributes.clone(),
                false => "".into(),
            },
            older_user_keys: match self.is_for_loader {
                true => self.hit.older_user_keys.clone(),
                false => Vec::new(),
            },
            ..self.hit.clone()
        }
    }

    fn encode_protobuf(&self, out: &mut Vec<u8>) {
        self.strip_hit().encode(out);
        put_bytes(out, HIT_ID, &self.row.hit_id);
        let bits = self.row.client_ip.map_or(0, |network| network.prefix_len());
        put_number(out, CLIENT_IP_BITS, bits.into());
        put_number(out, IS_SENSITIVE_PAGE, self.is_sensitive_page.into());
        self.facts.visit(&mut InlineFacts { out });
        if let Some((sighting, epoch)) = &self.sighting {
            put_sighting(sighting, *epoch, out);
        }
    }

    fn json(&self) -> Map<String, Json> {
        let mut words = self.strip_hit().export();
        for field in Field::ALL {
            let is_left_out = ["user_agent", "older_user_keys"].contains(&field.name);
            if is_left_out || field.name.starts_with("hint_") {
                words.remove(field.word);
            }
        }
        let hit_id = uuid::Uuid::from_bytes(self.row.hit_id).to_string();
        words.insert("hit_id".to_owned(), hit_id.into());
        let address = self.row.client_ip.map(|network| network.to_string());
        words.insert("client_ip".to_owned(), address.into());
        words.insert(
            "is_sensitive_page".to_owned(),
            self.is_sensitive_page.into(),
        );
        self.facts.visit(&mut JsonFacts(&mut words));
        words
    }
}

/// Returns the key of a hit's message: that of the subject whom it is about, else the hit's ID.
#[must_use]
pub(crate) fn key_of(hit: &Hit<'_>, hit_id: [u8; 16]) -> [u8; 16] {
    let some = |text| Some(text).filter(|text: &&str| !text.is_empty());
    let visitor = hit.visitor.map(Subject::Visitor);
    let subject = visitor
        .or_else(|| some(&hit.maid).map(Subject::Maid))
        .or_else(|| some(&hit.device_id).map(Subject::DeviceId))
        .or_else(|| hit.user_key.map(Subject::User))
        .or_else(|| {
            let partner = &*hit.partner;
            some(&hit.partner_uid).map(|uid| Subject::PartnerUid { partner, uid })
        });
    subject.map_or(hit_id, |subject| subject.key())
}

/// What hits are counted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CountKey {
    /// Minutes since 1970.
    pub minute: i64,
    /// The kind of the hits.
    pub kind: Kind,
    /// The site with the category.
    pub site: Site,
    /// The ad.
    pub ad: Ad,
}

impl CountKey {
    /// Returns what a hit of that minute is counted by.
    #[must_use]
    pub(crate) fn of(hit: &Hit<'_>, minute: i64) -> CountKey {
        let (site, ad) = (Site::of(hit), Ad::of(hit).unwrap_or_default());
        CountKey {
            minute,
            kind: hit.kind,
            site: Site {
                site: site.site.to_owned(),
                category: site.category.to_owned(),
            },
            ad: Ad {
                partner: ad.partner.to_owned(),
                campaign: ad.campaign.to_owned(),
                creative: ad.creative.to_owned(),
                placement: ad.placement.to_owned(),
                publisher: ad.publisher.to_owned(),
            },
        }
    }

    /// Appends the message that says how many hits of a spool there were, and what some said of
    /// their subjects.
    pub(crate) fn encode(
        &self,
        (hits, spool): (u64, [u8; 8]),
        said: &[SubjectSaid],
        format: KafkaFormat,
        out: &mut Vec<u8>,
    ) {
        match format {
            KafkaFormat::Protobuf => {
                put_number(out, 1, self.minute.cast_unsigned());
                put_number(out, 2, self.kind.number().into());
                let mut fields = ProtobufColumns { out, number: 2 };
                self.site.columns(&mut fields);
                self.ad.columns(&mut fields);
                put_number(out, 10, hits);
                put_bytes(out, 11, &spool);
                for said in said {
                    let mut inner = Vec::with_capacity(32);
                    put_bytes(&mut inner, 1, &said.node.0);
                    put_number(&mut inner, 2, said.kind as u64);
                    put_number(&mut inner, 3, said.permit.bits().into());
                    put_number(&mut inner, 4, said.consent_source.number().into());
                    put_bytes(out, 12, &inner);
                }
            }
            KafkaFormat::Json => {
                let mut words = Map::new();
                words.insert("minute".to_owned(), self.minute.into());
                words.insert("kind".to_owned(), self.kind.name().into());
                self.site.columns(&mut JsonColumns(&mut words));
                self.ad.columns(&mut JsonColumns(&mut words));
                words.insert("hits".to_owned(), hits.into());
                write_json(words, out);
            }
        }
    }
}

/// What a hit that is only counted says of one of its IDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubjectSaid {
    /// The ID, as ties have it.
    pub node: Node,
    /// Its kind.
    pub kind: NodeKind,
    /// What its subject permits.
    pub permit: Permit,
    /// The signal that says so.
    pub consent_source: ConsentSource,
}

/// How many hits of one kind there are, and what they said of their subjects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// How many.
    pub hits: u64,
    /// What they said, each thing once.
    pub said: Vec<SubjectSaid>,
    /// What is among that already.
    known: HashSet<(Node, u8, u8)>,
}

impl Tally {
    /// Adds what a hit said.
    pub(crate) fn add_said(&mut self, said: SubjectSaid) {
        let key = (said.node, said.permit.bits(), said.consent_source.number());
        if self.known.insert(key) {
            self.said.push(said);
        }
    }

    /// Returns what goes into each message: the hits are in the first.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (u64, &[SubjectSaid])> {
        let rest = self.said.get(SAID_MAX..).unwrap_or_default();
        let first = self.said.get(..SAID_MAX).unwrap_or(&self.said);
        std::iter::once((self.hits, first)).chain(rest.chunks(SAID_MAX).map(|said| (0, said)))
    }
}

fn put_sighting(sighting: &Sighting, epoch: i32, out: &mut Vec<u8>) {
    let mut inner = Vec::with_capacity(48);
    put_varint(&mut inner, 1 << 3 | 1);
    inner.extend_from_slice(&sighting.address.to_le_bytes());
    put_bytes(&mut inner, 2, &sighting.node.0);
    put_number(&mut inner, 3, u64::from(sighting.day.cast_unsigned()));
    put_number(&mut inner, 4, sighting.hour.into());
    put_number(&mut inner, 5, sighting.is_phone.into());
    put_number(&mut inner, 6, u64::from(epoch.cast_unsigned()));
    put_bytes(out, SIGHTING, &inner);
}

fn write_json(words: Map<String, Json>, out: &mut Vec<u8>) {
    out.extend_from_slice(Json::Object(words).to_string().as_bytes());
}

/// Appends each dimension as a message of its own.
struct InlineFacts<'o> {
    out: &'o mut Vec<u8>,
}

impl FactVisitor for InlineFacts<'_> {
    fn visit(&mut self, dimension: DimensionTable, found: &impl Found) {
        let Some(number) = dimension.field() else {
            return;
        };
        let mut inner = Vec::with_capacity(96);
        found.give_columns(&mut ProtobufColumns {
            out: &mut inner,
            number: 0,
        });
        // A message without a field is not absent: the dimension's row was found.
        put_varint(self.out, u64::from(number) << 3 | 2);
        put_varint(self.out, inner.len() as u64);
        self.out.append(&mut inner);
    }
}

/// Appends columns as fields. The first has the number after `number`: columns never change places.
struct ProtobufColumns<'o> {
    out: &'o mut Vec<u8>,
    number: u32,
}

impl ProtobufColumns<'_> {
    fn next(&mut self) -> u32 {
        self.number += 1;
        self.number
    }
}

impl Columns for ProtobufColumns<'_> {
    fn text(&mut self, _: &'static str, text: &str) {
        let number = self.next();
        put_bytes(self.out, number, text.as_bytes());
    }

    fn name(&mut self, column: &'static str, text: &str) {
        self.text(column, text);
    }

    fn integer(&mut self, _: &'static str, value: Option<u32>) {
        let number = self.next();
        if let Some(value) = value {
            put_varint(self.out, u64::from(number) << 3);
            put_varint(self.out, value.into());
        }
    }

    fn real(&mut self, _: &'static str, value: Option<f64>) {
        let number = self.next();
        if let Some(value) = value {
            put_varint(self.out, u64::from(number) << 3 | 1);
            self.out.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn boolean(&mut self, _: &'static str, is_so: bool) {
        let number = self.next();
        put_number(self.out, number, is_so.into());
    }
}

/// Adds each dimension as an object.
struct JsonFacts<'w>(&'w mut Map<String, Json>);

impl FactVisitor for JsonFacts<'_> {
    fn visit(&mut self, dimension: DimensionTable, found: &impl Found) {
        if dimension.field().is_some() {
            let mut words = Map::new();
            found.give_columns(&mut JsonColumns(&mut words));
            let name = dimension.table().to_owned();
            self.0.insert(name, Json::Object(words));
        }
    }
}

/// Adds columns by their names.
struct JsonColumns<'w>(&'w mut Map<String, Json>);

impl Columns for JsonColumns<'_> {
    fn text(&mut self, column: &'static str, text: &str) {
        self.0.insert(column.to_owned(), text.into());
    }

    fn name(&mut self, column: &'static str, text: &str) {
        self.text(column, text);
    }

    fn integer(&mut self, column: &'static str, value: Option<u32>) {
        self.0.insert(column.to_owned(), value.into());
    }

    fn real(&mut self, column: &'static str, value: Option<f64>) {
        self.0.insert(column.to_owned(), value.into());
    }

    fn boolean(&mut self, column: &'static str, is_so: bool) {
        self.0.insert(column.to_owned(), is_so.into());
    }
}

#[cfg(test)]
mod tests;
