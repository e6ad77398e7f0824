//! Deliveries: what partners and webhooks are told of segments, as bytes, and how these get there.
//!
//! A delivery is a text in NDJSON. Its first line says what it is, and each other line one thing:
//!
//! ```text
//! {"delivery":"0192…","to":"adform","number":7,"kind":"delta","part":1,"is_last":true,"lines":2}
//! {"op":"add","segment":"upgrade","id":"…"}
//! ```
//!
//! | kind | its lines | what the receiver does |
//! | --- | --- | --- |
//! | `remove` | `remove` | takes these IDs out of these segments, now |
//! | `delta` | `add` | puts them in |
//! | `full` | `add` | has all there is once it has the last part; what is not among it goes |
//! | `event` | `entry`, `exit` | as it likes: it is a webhook |
//!
//! Deliveries are sent one at a time and count in the order of their arrival. One whose answer was
//! lost is sent again under the same ID, so a receiver that has seen the ID answers 200 and does
//! nothing. Whoever withdrew in between is no longer among its lines.
//!
//! It is sent by POST, signed as callbacks are ([`crate::callback`], version 2), or put into a
//! folder as a file that is there whole or not at all.

mod delivery;
mod folder;
mod post;

pub use delivery::{Delivery, DeliveryKind, DeliveryLine};
pub(crate) use folder::Folder;
pub(crate) use post::{HttpsPost, NotTaken, is_delivery_url};

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What the ID of a user in deliveries covers before the user's key.
const CONTEXT: &[u8] = b"avtryck export 1\n";

/// What a partner knows subjects by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExportId {
    /// Nothing: it is told nothing.
    #[default]
    None,
    /// Its own IDs.
    Partner,
    /// Mobile advertising IDs.
    Maid,
    /// A keyed hash of users, by a key of this partner alone.
    User,
}

impl ExportId {
    /// Returns the kind with that name in the configuration.
    #[must_use]
    pub fn from_name(name: &str) -> Option<ExportId> {
        match name {
            "none" => Some(ExportId::None),
            "partner" => Some(ExportId::Partner),
            "maid" => Some(ExportId::Maid),
            "user" => Some(ExportId::User),
            _ => None,
        }
    }
}

/// Returns what a partner is told in place of a user: the first 128 bits of the HMAC-SHA-256, by
/// the partner's key, of a context and the user's key in hex; in hex.
#[must_use]
pub(crate) fn partner_user(export_key: &str, user_key: &str) -> Option<String> {
    let mac = Hmac::<Sha256>::new_from_slice(export_key.as_bytes()).ok()?;
    let mac = mac.chain_update(CONTEXT).chain_update(user_key);
    let bytes = mac.finalize().into_bytes();
    bytes.get(..16).map(|first| HEXLOWER.encode(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_data_platform_can_make_the_same_id_and_each_partner_has_another() {
        // printf 'avtryck export 1\n27c5945a5b21316167f1c32465db683a' |
        //   openssl dgst -sha256 -hmac 'a key of sixteen' | cut -c -32
        let user = "27c5945a5b21316167f1c32465db683a";
        let one = partner_user("a key of sixteen", user);
        assert_eq!(one.as_deref(), Some("e68a5b667176d8cab72e2a8a0d5422cd"));
        assert_ne!(one, partner_user("a key of another", user));
    }
}
