//! Whose data it is: an ID that somebody may ask about, and what they are told.
//!
//! Pure: Postgres is asked by [`crate::postgres::subject`], and the visitor's own page shows the
//! answer without knowing of Postgres.
//!
//! An ID that was withdrawn or erased is remembered by its [`key`](Subject::key) alone: the first 128
//! bits of a SHA-256. A random ID cannot be had back from it; a partner's ID that is short or counted
//! up can be guessed, as with any hash that everybody can compute.

use std::fmt;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::clock::UnixMicros;
use crate::hit::VisitorId;

/// Changed if what is hashed ever changes. Short: with a visitor's ID it is one block of SHA-256.
const CONTEXT: &[u8] = b"avtryck subject 1";

/// An ID that data are held under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject<'a> {
    /// The ID in the visitor cookie.
    Visitor(VisitorId),
    /// A mobile advertising ID. Upper and lower case are one: systems differ in how they write it.
    Maid(&'a str),
    /// A partner's ID for the visitor.
    PartnerUid {
        /// The partner's key in the configuration; empty where hits named none.
        partner: &'a str,
        /// The ID.
        uid: &'a str,
    },
}

impl Subject<'_> {
    /// The kind of ID, in SQL and on the command line.
    #[must_use]
    pub fn id_kind(&self) -> &'static str {
        match self {
            Subject::Visitor(_) => "visitor",
            Subject::Maid(_) => "maid",
            Subject::PartnerUid { .. } => "partner_uid",
        }
    }

    /// The ID as it is compared: a visitor's as a UUID, a MAID in lower case.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Subject::Visitor(visitor) => visitor.to_string(),
            Subject::Maid(maid) => maid.to_ascii_lowercase(),
            Subject::PartnerUid { uid, .. } => (*uid).to_owned(),
        }
    }

    /// The partner, empty where there is none.
    #[must_use]
    pub fn partner(&self) -> &str {
        match self {
            Subject::PartnerUid { partner, .. } => partner,
            _ => "",
        }
    }

    /// Whether two name the same.
    #[must_use]
    pub fn is(&self, other: &Subject<'_>) -> bool {
        match (self, other) {
            (Subject::Maid(one), Subject::Maid(other)) => one.eq_ignore_ascii_case(other),
            _ => self == other,
        }
    }

    /// What is remembered of an ID that was withdrawn or erased: the first 128 bits of the SHA-256 of a
    /// context, the kind of ID with a zero byte, the length of the partner's key (u64, little-endian)
    /// with the key where it is a partner's ID, and the ID: a visitor's as 16 bytes, a MAID in lower
    /// case.
    #[must_use]
    pub fn key(&self) -> [u8; 16] {
        let mut hash = Sha256::new_with_prefix(CONTEXT);
        hash.update(self.id_kind());
        hash.update([0]);
        match self {
            Subject::Visitor(VisitorId(id)) => hash.update(id),
            Subject::Maid(maid) => hash.update(maid.to_ascii_lowercase()),
            Subject::PartnerUid { partner, uid } => {
                hash.update((partner.len() as u64).to_le_bytes());
                hash.update(partner);
                hash.update(uid);
            }
        }
        let digest: [u8; 32] = hash.finalize().into();
        let [key @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = digest;
        key
    }
}

impl fmt::Display for VisitorId {
    /// As a UUID: the way in which SQL shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let dash = if matches!(at, 4 | 6 | 8 | 10) {
                "-"
            } else {
                ""
            };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl VisitorId {
    /// Reads a UUID: 32 hex digits, with or without its dashes.
    #[must_use]
    pub fn from_uuid(text: &str) -> Option<VisitorId> {
        let hex: Vec<u8> = match text.len() {
            32 => text.bytes().collect(),
            36 => {
                let dashes = text.bytes().enumerate().filter(|(_, byte)| *byte == b'-');
                if !dashes.map(|(at, _)| at).eq([8, 13, 18, 23]) {
                    return None;
                }
                text.bytes().filter(|byte| *byte != b'-').collect()
            }
            _ => return None,
        };
        let mut id = [0; 16];
        for (byte, digits) in id.iter_mut().zip(hex.chunks(2)) {
            let digits = str::from_utf8(digits).ok()?;
            // A sign would be read as a number's.
            let all = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = u8::from_str_radix(digits, 16).ok().filter(|_| all)?;
        }
        Some(VisitorId(id))
    }
}

/// What is held about a visitor, in short: for their own page.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Held {
    /// Rows in all.
    pub hits: u64,
    /// When the oldest of them was received.
    pub first_at: Option<UnixMicros>,
    /// Ads that were shown.
    pub ads_seen: u64,
    /// Ads that were clicked.
    pub ads_clicked: u64,
    /// The last hits, the newest first; as many as were asked for.
    pub last: Vec<HeldHit>,
    /// The ads that were shown or clicked last, the newest first; as many as were asked for.
    pub ads: Vec<HeldAd>,
}

/// An ad as its visitor is shown it; empty texts mean that its hits named none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the first three are columns of `hit_detail`")]
pub struct HeldAd {
    pub partner: String,
    pub campaign: String,
    pub creative: String,
    /// How often it was shown.
    pub seen: u64,
    /// How often it was clicked.
    pub clicked: u64,
    /// When either happened last.
    pub last_at: UnixMicros,
}

/// A hit as its visitor is shown it; empty texts mean that nothing is held. The names are those of
/// `hit_detail`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields are columns of `hit_detail`")]
pub struct HeldHit {
    pub received_at: UnixMicros,
    pub kind: String,
    pub site: String,
    pub page_url: String,
    pub referrer: String,
    pub event_name: String,
    pub country: String,
    pub region: String,
    pub city: String,
    pub network: String,
    pub device_class: String,
    pub device_brand: String,
    pub device_model: String,
    pub os: String,
    pub browser: String,
    pub client_ip: String,
    pub partner: String,
    pub partner_uid: String,
    pub maid: String,
    pub campaign: String,
    pub creative: String,
    pub placement: String,
    pub publisher: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visitor_id_is_read_as_it_is_shown() {
        let visitor = VisitorId(*b"\x00\x01\x7f\x80\xfeabcdefghijk");
        let shown = visitor.to_string();
        assert_eq!(shown, "00017f80-fe61-6263-6465-666768696a6b");
        assert_eq!(VisitorId::from_uuid(&shown), Some(visitor));
        assert_eq!(
            VisitorId::from_uuid(&shown.replace('-', "").to_uppercase()),
            Some(visitor)
        );
        for bad in [
            "",
            "00017f80-fe61-6263-6465-666768696a6",
            "00017f80-fe61-6263-6465-666768696a6g",
            "+0017f80-fe61-6263-6465-666768696a6b",
            "00017f8-0fe61-6263-6465-666768696a6b",
            "å0017f80-fe61-6263-6465-666768696a6",
        ] {
            assert_eq!(VisitorId::from_uuid(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_id_has_a_key_of_its_own() {
        let id = "00017f80-fe61-6263-6465-666768696a6b";
        let visitor = VisitorId::from_uuid(id).unwrap();
        let uid = |partner, uid| Subject::PartnerUid { partner, uid };
        let subjects = [
            Subject::Visitor(visitor),
            Subject::Maid(id),
            uid("", id),
            uid("a", "bc"),
            uid("ab", "c"),
            uid("", "abc"),
        ];
        let keys: std::collections::HashSet<_> = subjects.iter().map(Subject::key).collect();
        assert_eq!(keys.len(), subjects.len());
        assert_eq!(Subject::Maid("AbC").key(), Subject::Maid("aBc").key());
        assert_ne!(uid("a", "B").key(), uid("a", "b").key());
        // The same for ever: keys of the past stand in Postgres.
        assert_eq!(
            VisitorId(Subject::Visitor(visitor).key()).to_string(),
            "48b9e561-c453-b4e5-e564-cf083f99e43e"
        );
    }
}
