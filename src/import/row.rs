//! From a row of a file to a row of the database.

use std::borrow::Cow;

use super::{KeyKind, Manifest};
use crate::attribute::{AttributeClass, AttributeKind};
use crate::hit::VisitorId;
use crate::hit::limits::TEXT_BYTES_MAX;
use crate::hit::subject::Subject;
use crate::hit::whole;
use crate::identity::Node;
use crate::import::manifest::Column;
use crate::keys::UserKeyring;

/// What a row is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RowKey {
    /// A subject: its node, and its key on the list of suppression.
    Subject([u8; 16], [u8; 16]),
    /// An area.
    Area(String),
}

impl RowKey {
    fn of(subject: &Subject<'_>) -> RowKey {
        RowKey::Subject(Node::of(subject).0, subject.key())
    }
}

/// A row that is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedRow {
    /// What it is about.
    pub key: RowKey,
    /// The same under the older of several keys of users: what was refused or erased under one of
    /// them stays so.
    pub older_keys: Vec<RowKey>,
    /// The values in the order of the manifest's attributes.
    pub values: Vec<Option<String>>,
}

/// Why a row is rejected: the column and the reason. It holds nothing of the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The column; empty where the row as a whole is wrong.
    pub column: String,
    /// What is wrong, and what would be right.
    pub reason: &'static str,
}

impl Reject {
    /// Rejects a row as a whole.
    #[must_use]
    pub fn row(reason: &'static str) -> Reject {
        Reject {
            column: String::new(),
            reason,
        }
    }
}

impl Manifest {
    /// Checks a row. `value` finds a column's value; a column that the row lacks has none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check<'v>(
        &self,
        value: impl Fn(&str) -> Option<Cow<'v, str>>,
        users: &UserKeyring,
    ) -> Result<CheckedRow, Reject> {
        let of_key = |reason| Reject {
            column: self.key_column.clone(),
            reason,
        };
        let written = value(&self.key_column).unwrap_or_default();
        let key = self.read_key(written.trim(), users).map_err(of_key)?;
        let read = |column: &Column| {
            let written = value(&column.name).unwrap_or_default();
            self.read_value(column, written.trim(), users)
                .map_err(|reason| Reject {
                    column: column.name.clone(),
                    reason,
                })
        };
        Ok(CheckedRow {
            key,
            older_keys: self.read_older_keys(written.trim(), users),
            values: self.columns.iter().map(read).collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn read_key(
        &self,
        written: &str,
        users: &UserKeyring,
    ) -> Result<RowKey, &'static str> {
        if written.is_empty() {
            return Err("the key is empty");
        }
        if written.len() > 4 * TEXT_BYTES_MAX || written.contains(char::is_control) {
            return Err("the key is too long, or has control characters");
        }
        let shortened = whole::shorten(written, TEXT_BYTES_MAX);
        let subject = match &self.key {
            KeyKind::Visitor => {
                let visitor = VisitorId::from_uuid(written);
                Subject::Visitor(visitor.ok_or("no visitor's ID: a UUID would be right")?)
            }
            KeyKind::Maid => {
                let is_uuid = VisitorId::from_uuid(written).is_some_and(|id| id.0 != [0; 16]);
                if !is_uuid {
                    return Err("no advertising ID: a UUID that is not zero would be right");
                }
                Subject::Maid(&shortened)
            }
            KeyKind::DeviceId => Subject::DeviceId(&shortened),
            KeyKind::PartnerUid(partner) => Subject::PartnerUid {
                partner,
                uid: &shortened,
            },
            KeyKind::User => {
                let user = users.hash(&shortened);
                Subject::User(user.ok_or("there is no key in user.keys")?)
            }
            KeyKind::PostalCode => {
                let digits: String = written.chars().filter(|c| !c.is_whitespace()).collect();
                let is_code = digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
                return is_code
                    .then_some(RowKey::Area(digits))
                    .ok_or("no postal code: five digits would be right");
            }
            KeyKind::Municipality => return Ok(RowKey::Area(written.to_lowercase())),
        };
        Ok(RowKey::of(&subject))
    }

    /// Returns what stood for a user while older keys made new hashes.
    fn read_older_keys(&self, written: &str, users: &UserKeyring) -> Vec<RowKey> {
        if self.key != KeyKind::User {
            return Vec::new();
        }
        let shortened = whole::shorten(written, TEXT_BYTES_MAX);
        let older = users.older_hashes(&shortened).map(Subject::User);
        older.map(|user| RowKey::of(&user)).collect()
    }

    fn read_value(
        &self,
        column: &Column,
        written: &str,
        users: &UserKeyring,
    ) -> Result<Option<String>, &'static str> {
        if written.is_empty() {
            return Ok(None);
        }
        let attribute = column.attribute;
        match attribute.kind {
            AttributeKind::Words | AttributeKind::Steps => {
                let own = || attribute.words.iter().find(|word| word.word == written);
                let word = match column.values.is_empty() {
                    true => own().map(|word| word.word),
                    false => column.values.get(written).copied(),
                };
                let word = word.ok_or("a value that the manifest does not name")?;
                let is_minor = attribute.class_of(word) == AttributeClass::Minor;
                match is_minor && !self.takes_minors {
                    true => Err("a child, and import.classes does not allow minor"),
                    false => Ok(Some(word.to_owned())),
                }
            }
            AttributeKind::Number => self.read_number(written).map(Some),
            AttributeKind::Hash => {
                // As a line's end is, where a quote that is not closed took the next row along.
                if written.contains(char::is_control) {
                    return Err("a value with control characters");
                }
                let hash = users.hash(&format!("{}\n{written}", attribute.key));
                let hash = hash.ok_or("there is no key in user.keys")?;
                Ok(Some(uuid::Uuid::from_bytes(hash.0).simple().to_string()))
            }
        }
    }

    /// Reads a number as Postgres writes it again, so that equal numbers are equal texts. It has to
    /// be one that a float holds, digit by digit: segments compare floats.
    fn read_number(&self, written: &str) -> Result<String, &'static str> {
        const WRONG: &str = "no number: digits, and decimals as the manifest says, would be right";
        let plain: String = written
            .chars()
            .filter(|c| !matches!(c, ' ' | '\u{a0}' | '\u{202f}'))
            .collect();
        let (whole, decimals) =
            match plain.split_once(if self.has_decimal_comma { ',' } else { '.' }) {
                Some((whole, decimals)) => (whole, decimals),
                None => (&*plain, "0"),
            };
        let (sign, whole) = match whole.strip_prefix('-') {
            Some(whole) => ("-", whole),
            None => ("", whole),
        };
        let are_digits = |text: &str| {
            !text.is_empty() && text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !are_digits(whole) || !are_digits(decimals) {
            return Err(WRONG);
        }
        let exact = match (
            whole.trim_start_matches('0'),
            decimals.trim_end_matches('0'),
        ) {
            ("", "") => "0".to_owned(),
            ("", decimals) => format!("{sign}0.{decimals}"),
            (whole, "") => format!("{sign}{whole}"),
            (whole, decimals) => format!("{sign}{whole}.{decimals}"),
        };
        let number: f64 = exact.parse().map_err(|_| WRONG)?;
        match number.to_string() == exact {
            true => Ok(exact),
            false => Err("a number of more digits than are kept: up to 15 in all would be right"),
        }
    }
}
