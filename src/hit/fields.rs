//! The fields of a hit: one table.
//!
//! The structs, their constructor, the encoding, the export and the removal of IDs are all made of
//! this table, so a field that is added to it is in all of them. `proto/hit.proto` describes the
//! same fields for other languages, and a test compares the two.
//!
//! A line of the table is `name: type = number as "word", id, volatile`:
//!
//! - `number` is the field's number in the encoding. Fields are encoded in the order of the table,
//!   and a number is never used again.
//! - `word` is the field's name in the export, where it differs.
//! - `id` marks an ID of the visitor, which leaves the hit where the permit lacks `store`.
//! - `volatile` marks what may differ when a sender sends the same event again
//!   ([`Said`](crate::row::Said)); hints may. Of `params`, [`super::volatile`] has names that may.

use std::borrow::Cow;
use std::net::IpAddr;

use serde_json::{Map, Value as Json};

use super::wire::{DecodeError, Value};
use super::{ConsentSource, Flags, Kind, Permit, UserKey, VisitorId};
use crate::clock::UnixMicros;
use crate::endpoint::Protocol;

/// A text of a hit; empty where the request had none.
type Text<'a> = Cow<'a, str>;

/// What the table says of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// The name in `proto/hit.proto`.
    pub name: &'static str,
    /// The number in the encoding.
    pub number: u32,
    /// The name in the export.
    pub word: &'static str,
    /// Whether it is an ID of the visitor.
    pub is_id: bool,
    /// Whether it may differ when the same event is sent again.
    pub is_volatile: bool,
}

/// Returns the last of one or two words.
macro_rules! word {
    ($name:expr) => {
        $name
    };
    ($name:expr, $word:literal) => {
        $word
    };
}

macro_rules! hit {
    (<$a:lifetime> $(
        hit { $(
            $(#[$doc:meta])*
            $name:ident: $type:ty = $number:literal $(as $word:literal)? $(, $role:ident)*;
        )* }
        hints { $(
            $(#[$hint_doc:meta])*
            $hint:ident: $hint_type:ty = $hint_number:literal;
        )* }
    )*) => {
        /// One recorded request. Texts are empty where the request had none.
        #[derive(Clone, Debug, PartialEq)]
        #[expect(
            missing_docs,
            reason = "the fields are the words of the parameters in docs/parameters.md"
        )]
        pub struct Hit<$a> {
            $($( $(#[$doc])* pub $name: $type, )*)*
            pub hints: Hints<$a>,
        }

        /// What the browser says of its device beside the user agent: client hints, unquoted.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
        pub struct Hints<$a> {
            $($( $(#[$hint_doc])* pub $hint: $hint_type, )*)*
        }

        impl Field {
            /// Every field, in the order in which they are encoded.
            pub(crate) const ALL: &[Field] = &[$(
                $( Field {
                    name: stringify!($name),
                    number: $number,
                    word: word!(stringify!($name) $(, $word)?),
                    is_id: false $(|| matches!(Role::$role, Role::id))*,
                    is_volatile: false $(|| matches!(Role::$role, Role::volatile))*,
                }, )*
                $( Field {
                    name: concat!("hint_", stringify!($hint)),
                    number: $hint_number,
                    word: concat!("hint_", stringify!($hint)),
                    is_id: false,
                    is_volatile: true,
                }, )*
            )*];
        }

        impl<$a> Hit<$a> {
            /// What decoding starts from: no field has a value.
            pub(super) const EMPTY: Hit<$a> = Hit {
                $($( $name: Value::EMPTY, )*)*
                hints: Hints { $($( $hint: Value::EMPTY, )*)* },
            };

            /// Appends each field that has a value.
            pub(super) fn put_fields(&self, out: &mut Vec<u8>) {
                $(
                    $( self.$name.put($number, out); )*
                    $( self.hints.$hint.put($hint_number, out); )*
                )*
            }

            /// Sets a field that was encoded as a number; passes over one that is not known.
            #[inline]
            pub(super) fn set_number(&mut self, field: u32, number: u64) -> Result<(), DecodeError> {
                match field {
                    $(
                        $( $number => self.$name.set_number(field, number), )*
                        $( $hint_number => self.hints.$hint.set_number(field, number), )*
                    )*
                    _ => Ok(()),
                }
            }

            /// Sets a field that was encoded with a length; passes over one that is not known.
            #[inline]
            pub(super) fn set_bytes(&mut self, field: u32, bytes: &$a [u8]) -> Result<(), DecodeError> {
                match field {
                    $(
                        $( $number => self.$name.set_bytes(field, bytes), )*
                        $( $hint_number => self.hints.$hint.set_bytes(field, bytes), )*
                    )*
                    _ => Ok(()),
                }
            }

            /// Removes every ID of the visitor.
            pub(crate) fn clear_ids(&mut self) {
                $($( $(
                    match Role::$role {
                        Role::id => self.$name = Value::EMPTY,
                        Role::volatile => {}
                    }
                )* )*)*
            }

            /// Returns every field in words, by its name in the export; empty and null where the
            /// hit has no value.
            #[must_use]
            pub fn export(&self) -> Map<String, Json> {
                let mut words = Map::new();
                $(
                    $( words.insert(
                        word!(stringify!($name) $(, $word)?).to_owned(),
                        self.$name.json(),
                    ); )*
                    $( words.insert(
                        concat!("hint_", stringify!($hint)).to_owned(),
                        self.hints.$hint.json(),
                    ); )*
                )*
                words
            }

            /// Returns a hit that has a value in every field; `text` gives those of the texts, in
            /// the order of the table.
            #[cfg(test)]
            pub(crate) fn sample(mut text: impl FnMut(&'static str) -> String) -> Hit<$a> {
                let mut hit = Hit::EMPTY;
                $(
                    $( hit.$name = Value::sample(|| text(stringify!($name))); )*
                    $( hit.hints.$hint =
                        Value::sample(|| text(concat!("hint_", stringify!($hint)))); )*
                )*
                hit
            }
        }
    };
}

/// What a line of the table may mark a field as.
#[expect(non_camel_case_types, reason = "the words of the table")]
#[derive(Clone, Copy)]
enum Role {
    id,
    volatile,
}

hit! {
    <'a>
    hit {
        received_at: UnixMicros = 1 as "received_at_unix_micros", volatile;
        kind: Kind = 2;
        permit: Permit = 4, volatile;
        consent_source: ConsentSource = 5, volatile;
        flags: Flags = 6, volatile;
        visitor: Option<VisitorId> = 7 as "visitor_id", id;
        client_ip: Option<IpAddr> = 8, volatile;
    }
    hints {
        /// `Sec-CH-UA-Mobile`.
        mobile: Option<bool> = 32;
    }
    hit {
        site: Text<'a> = 3;
        user_agent: Text<'a> = 16, volatile;
        page_url: Text<'a> = 17;
        referrer: Text<'a> = 18, volatile;
        event_name: Text<'a> = 19;
        event_id: Text<'a> = 20;
        partner: Text<'a> = 21;
        campaign: Text<'a> = 22;
        creative: Text<'a> = 23;
        placement: Text<'a> = 24;
        publisher: Text<'a> = 25;
        partner_uid: Text<'a> = 26, id;
        maid: Text<'a> = 27, id;
        device_id: Text<'a> = 28, id;
        category: Text<'a> = 29 as "site_category";
        /// What the sender added, as the text of one JSON object.
        params: Text<'a> = 30;
    }
    hints {
        /// `Sec-CH-UA`: the brands with their major versions, as sent.
        brands: Text<'a> = 31;
        /// `Sec-CH-UA-Platform`: `Android`, `Windows`, `macOS`, …
        platform: Text<'a> = 33;
        /// `Sec-CH-UA-Platform-Version`.
        platform_version: Text<'a> = 34;
        /// `Sec-CH-UA-Model`: `SM-S918B`, …
        model: Text<'a> = 35;
        /// `Sec-CH-UA-Form-Factors`: `"Mobile"`, `"Tablet"`, …, as sent (a list).
        form_factors: Text<'a> = 36;
    }
    hit {
        /// A click's own ID; in any other hit, that of the click that it follows.
        click_id: Text<'a> = 37, id;
        /// The keyed hash of the sender's ID of who is logged in.
        user_key: Option<UserKey> = 38, id, volatile;
        /// The sender's ID of a visit.
        session_id: Text<'a> = 39, id;
        /// When it happened, by the sender's clock, which is corrected where the sender says when
        /// it sent the hit.
        occurred_at: Option<UnixMicros> = 40 as "occurred_at_unix_micros", volatile;
        protocol: Protocol = 41;
        /// When the sender made it, by the sender's own clock. The key of its event ID begins with
        /// it, so it is what a repeat carries unchanged.
        made_at: Option<UnixMicros> = 42 as "made_at_unix_micros";
        /// The attributes that a callback brings, checked: the text of a JSON object from keys of
        /// attributes to values. No row has them.
        attributes: Text<'a> = 43, volatile;
        /// The same as `user_key` by each older key: the list of suppression may know the user by
        /// one of them alone. Nothing in Postgres has it.
        older_user_keys: Vec<UserKey> = 44, id, volatile;
    }
    hints {}
}

impl<'a> Hit<'a> {
    /// Returns the visitor of another site whom a link from there told, which is named where a
    /// partner's ID would be: a `sync` without a partner is one of two visitors.
    #[must_use]
    pub(crate) fn linked_visitor(&self) -> Option<VisitorId> {
        let is_of_link = self.kind == Kind::Sync && self.partner.is_empty();
        is_of_link
            .then(|| VisitorId::from_uuid(&self.partner_uid))
            .flatten()
    }

    /// Returns a hit of `kind` on `site` at `received_at` that says nothing else and permits
    /// nothing.
    #[must_use]
    #[inline]
    pub fn new(received_at: UnixMicros, kind: Kind, site: impl Into<Cow<'a, str>>) -> Hit<'a> {
        Hit {
            received_at,
            kind,
            site: site.into(),
            ..Hit::EMPTY
        }
    }
}

/// Returns the number of the field with that name.
pub(super) const fn number_of(name: &str) -> u32 {
    let mut fields = Field::ALL;
    while let [field, rest @ ..] = fields {
        if is_same(field.name.as_bytes(), name.as_bytes()) {
            return field.number;
        }
        fields = rest;
    }
    panic!("the table has no field with this name")
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    match (one, other) {
        ([], []) => true,
        ([first, one @ ..], [second, other @ ..]) => *first == *second && is_same(one, other),
        _ => false,
    }
}
