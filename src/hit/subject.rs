//! A subject: an ID that somebody may ask about, and what their own page tells them.
//!
//! It is pure: `postgres::subject` asks Postgres, and the page shows the answer without knowing of
//! Postgres.
//!
//! An ID that was withdrawn or erased is remembered by its [`key`](Subject::key) alone: the first
//! 128 bits of a SHA-256. A random ID cannot be recovered from it; a partner's ID that is short or
//! counted up can be guessed, as from any hash that everybody can compute.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::belief::Beliefs;
use super::user_key::UserKey;
use super::visitor_id::VisitorId;
use crate::clock::UnixMicros;

/// What every key's hash begins with; it changes if what is hashed ever changes. It is short so
/// that it fits into one block of SHA-256 with a visitor's ID.
const CONTEXT: &[u8] = b"avtryck subject 1";

/// An ID under which data are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject<'a> {
    /// The ID in the visitor cookie.
    Visitor(VisitorId),
    /// A mobile advertising ID, regardless of case: systems differ in how they write it.
    Maid(&'a str),
    /// A partner's ID for the visitor.
    PartnerUid {
        /// The partner's key in the configuration; empty where hits named none.
        partner: &'a str,
        /// The ID.
        uid: &'a str,
    },
    /// A sender's ID for a device or a browser.
    DeviceId(&'a str),
    /// The keyed hash of a sender's ID of who is logged in.
    User(UserKey),
}

impl Subject<'_> {
    /// How many kinds of them there are.
    pub const KINDS: usize = 5;

    /// How many of them a hit names at most: one of each kind, and a user by each older key.
    pub const NAMED_MAX: usize = Subject::KINDS + UserKey::OLDER_MAX;

    /// Returns the kind of ID, in SQL and on the command line.
    #[must_use]
    pub(crate) fn id_kind(&self) -> &'static str {
        match self {
            Subject::Visitor(_) => "visitor",
            Subject::Maid(_) => "maid",
            Subject::PartnerUid { .. } => "partner_uid",
            Subject::DeviceId(_) => "device_id",
            Subject::User(_) => "user",
        }
    }

    /// Returns a word of [`Subject::id_kind`]; that of a visitor for any other.
    #[must_use]
    pub(crate) fn kind_named(name: &str) -> &'static str {
        let others = ["maid", "partner_uid", "device_id", "user"];
        let found = others.into_iter().find(|known| *known == name);
        found.unwrap_or("visitor")
    }

    /// Returns the ID as it is compared: a visitor's and a user's as a UUID, a MAID in lower case.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Subject::Visitor(visitor) => visitor.to_string(),
            Subject::Maid(maid) => maid.to_ascii_lowercase(),
            Subject::PartnerUid { uid, .. } => (*uid).to_owned(),
            Subject::DeviceId(device) => (*device).to_owned(),
            Subject::User(UserKey(hash)) => Uuid::from_bytes(*hash).to_string(),
        }
    }

    /// Returns the partner, empty where there is none.
    #[must_use]
    pub fn partner(&self) -> &str {
        match self {
            Subject::PartnerUid { partner, .. } => partner,
            _ => "",
        }
    }

    /// Checks whether two name the same.
    #[must_use]
    pub fn is(&self, other: &Subject<'_>) -> bool {
        match (self, other) {
            (Subject::Maid(one), Subject::Maid(other)) => one.eq_ignore_ascii_case(other),
            _ => self == other,
        }
    }

    /// Returns what is remembered of an ID that was withdrawn or erased: the first 128 bits of the
    /// SHA-256 of a context, the kind of ID with a zero byte, the length of the partner's key (u64,
    /// little-endian) with the key where it is a partner's ID, and the ID: a visitor's and a user's
    /// as 16 bytes, a MAID in lower case.
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
            Subject::DeviceId(device) => hash.update(device),
            Subject::User(UserKey(user)) => hash.update(user),
        }
        let digest: [u8; 32] = hash.finalize().into();
        let [key @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = digest;
        key
    }
}

/// The most hits and the most ads that a visitor's page shows; the file has all of them.
pub(crate) const HELD_SHOWN_MAX: usize = 20;

/// The most hits of a visitor that its page counts. A visitor with more has made them on purpose,
/// or somebody has with its cookie, and shall not delay the pages of others.
pub(crate) const HELD_COUNTED_MAX: u64 = 10_000;

/// What is held about a visitor, in short: what their own page shows of it, and no more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    /// How many rows there are in all; where it is more than [`HELD_COUNTED_MAX`], at least that
    /// many.
    pub hits: u64,
    /// The last hits, the newest first; at most as many as were asked for.
    pub last: Vec<HeldHit>,
    /// The ads that were shown or clicked last, the newest first; at most as many as were asked
    /// for.
    pub ads: Vec<HeldAd>,
    /// What is believed of the visitor.
    pub beliefs: Beliefs,
}

/// An ad as its visitor's page shows it; empty texts mean that its hits named none.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the first three are columns of `hit_detail`")]
pub struct HeldAd {
    pub partner: String,
    pub campaign: String,
    pub creative: String,
    /// How often it was shown.
    pub seen: u64,
    /// How often it was clicked.
    pub clicked: u64,
    /// When it was last shown or clicked.
    pub last_at: UnixMicros,
}

/// Makes [`HeldHit`] from the names of its columns.
macro_rules! held_hit {
    ($($column:ident),* $(,)?) => {
        /// A hit as its visitor's page shows it; empty texts mean that nothing is held.
        #[derive(Clone, Debug, Default, PartialEq)]
        #[expect(missing_docs, reason = "the fields are columns of `hit_detail`")]
        pub struct HeldHit {
            pub received_at: UnixMicros,
            $( pub $column: String, )*
        }

        impl HeldHit {
            /// The columns of `hit_detail` that it has beside `received_at`.
            pub const COLUMNS: &[&str] = &[$( stringify!($column) ),*];

            /// Reads each of the columns with `text`.
            ///
            /// # Errors
            /// The first of `text`.
            pub fn read<E>(
                received_at: UnixMicros,
                mut text: impl FnMut(&'static str) -> Result<String, E>,
            ) -> Result<HeldHit, E> {
                Ok(HeldHit {
                    received_at,
                    $( $column: text(stringify!($column))?, )*
                })
            }
        }
    };
}

held_hit! {
    kind,
    page_url,
    event_name,
    country,
    region,
    city,
    network,
    device_class,
    device_brand,
    device_model,
    os,
    browser,
    client_ip,
    campaign,
    creative,
}

#[cfg(test)]
mod tests {
    use super::*;

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
            Subject::DeviceId(id),
            Subject::User(UserKey(visitor.0)),
        ];
        let keys: std::collections::HashSet<_> = subjects.iter().map(Subject::key).collect();
        assert_eq!(keys.len(), subjects.len());
        assert_eq!(Subject::Maid("AbC").key(), Subject::Maid("aBc").key());
        assert_ne!(uid("a", "B").key(), uid("a", "b").key());
        // It must never change: Postgres holds keys of the past.
        for (subject, key) in [
            (
                Subject::Visitor(visitor),
                "48b9e561-c453-b4e5-e564-cf083f99e43e",
            ),
            (Subject::Maid(id), "8c7fb659-3f5d-31ba-a10a-ba9d9d5160cf"),
            (
                uid("adform", "4711"),
                "8b42323c-f95e-82ed-27a3-6d924e2180bb",
            ),
        ] {
            assert_eq!(VisitorId(subject.key()).to_string(), key, "{subject:?}");
        }
    }
}
