//! Attributes that come with partners' callbacks.
//!
//! A manifest says of a callback's parameters what it says of a file's columns. The key is the ID
//! of that kind that the callback names, so `key.column` is the name of nothing that is read.
//!
//! | step | where |
//! | --- | --- |
//! | what a manifest names leaves `params`, whatever becomes of it | the edge: [`CallbackManifests::take`] |
//! | checked values stand in `attributes`, where the manifest and the permit allow them | there, before the hit is written to disk |
//! | the values of a subject | the loader: [`DeclaredManifests::read`] |
//!
//! So a row has none of it, and what may not be used is nowhere.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::value::RawValue;

use super::json::{Scalar, read_scalar};
use super::{CheckedRow, KeyKind, Manifest, Reject};
use crate::hit::{Flags, Hit, Kind, Permit};
use crate::keys::UserKeyring;

/// What a callback has to permit before it says anything of its subject.
const NEEDED: Permit = Permit::STORE.with(Permit::MEASURE).with(Permit::PROFILE);

/// What is known of a partner's manifest.
#[derive(Clone, Debug)]
pub(crate) enum PartnerManifest {
    /// It can be used.
    Right(Box<Manifest>),
    /// It is wrong or has expired. What it names is not kept.
    Wrong(HashSet<String>),
    /// It cannot be read, so nobody knows what it names, and no parameter is kept.
    Unreadable,
}

impl PartnerManifest {
    /// Makes what is known of a manifest that is wrong of its text.
    #[must_use]
    pub(crate) fn wrong(text: &str) -> PartnerManifest {
        let Ok(table) = text.parse::<toml::Table>() else {
            return PartnerManifest::Unreadable;
        };
        match table.get("column").and_then(toml::Value::as_table) {
            Some(columns) => PartnerManifest::Wrong(columns.keys().cloned().collect()),
            None => PartnerManifest::Unreadable,
        }
    }

    fn names(&self, name: &str) -> bool {
        match self {
            PartnerManifest::Right(manifest) => {
                let mut columns = manifest.columns.iter();
                columns.any(|column| is_meant(&column.name, name))
            }
            PartnerManifest::Wrong(names) => names.iter().any(|named| is_meant(named, name)),
            PartnerManifest::Unreadable => true,
        }
    }
}

/// Checks whether a parameter is meant for the one that a manifest names: it may be written in
/// capitals, with blanks around it, or as a part of it (`home[]`). Only what is written exactly as
/// in the manifest is read; the others just leave.
fn is_meant(named: &str, name: &str) -> bool {
    let is_same = |name: &str| {
        name.eq_ignore_ascii_case(named)
            || !name.is_ascii() && name.to_lowercase() == named.to_lowercase()
    };
    let name = name.trim();
    let base = name.split_once('[').map(|(base, _)| base.trim_end());
    is_same(name) || base.is_some_and(is_same)
}

/// The manifests of partners whose callbacks bring attributes, by the partner's key.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallbackManifests(pub HashMap<String, PartnerManifest>);

impl CallbackManifests {
    /// Takes what a partner's manifest names out of a callback's `params`. What may be used of it
    /// is put into `attributes`, checked and hashed as an import's values are.
    ///
    /// # Errors
    /// Where the values are not as the manifest says, or it cannot be used or has expired. The
    /// callback has no attributes then.
    pub(crate) fn take(&self, hit: &mut Hit<'_>, users: &UserKeyring) -> Result<(), Reject> {
        if hit.kind != Kind::Callback || hit.params.is_empty() {
            return Ok(());
        }
        let Some(known) = self.0.get(&*hit.partner) else {
            return Ok(());
        };
        let Some((taken, rest)) = split(&hit.params, |name| known.names(name)) else {
            // What is no object has no names that could be looked at.
            hit.params = Cow::Borrowed("");
            return Ok(());
        };
        if taken.is_empty() {
            return Ok(());
        }
        hit.params = Cow::Owned(rest);
        let PartnerManifest::Right(manifest) = known else {
            return Err(Reject::row("the manifest cannot be used"));
        };
        let may_be_used = hit.permit.allows(NEEDED) && hit.flags.has(Flags::PROVED);
        let Some(key) = manifest.key_of(hit).filter(|_| may_be_used) else {
            return Ok(());
        };
        if !manifest.is_valid_at(hit.received_at.0) {
            return Err(Reject::row("the manifest has expired"));
        }
        let text = |name: &str| match read_scalar(taken.get(name)?).ok()? {
            Scalar::Text(text) => Some(text),
            Scalar::Number(number) => Some(manifest.write_number(number)),
            Scalar::Null | Scalar::Truth(_) => None,
        };
        let value = |name: &str| match name == manifest.key_column {
            true => Some(Cow::Borrowed(&*key)),
            false => text(name).map(Cow::Owned),
        };
        let checked = manifest.check(value, users)?;
        let columns = manifest.columns.iter().zip(checked.values);
        let values: BTreeMap<&str, String> = columns
            .filter_map(|(column, value)| Some((column.attribute.key, value?)))
            .collect();
        if !values.is_empty() {
            let json = serde_json::to_string(&values).unwrap_or_default();
            hit.attributes = Cow::Owned(json);
        }
        Ok(())
    }
}

/// Returns the members of an object whose names are wanted, and the object without them; empty
/// where nothing is left. `None` where the text is no object.
fn split(
    json: &str,
    is_wanted: impl Fn(&str) -> bool,
) -> Option<(HashMap<String, String>, String)> {
    let members: Members<'_> = serde_json::from_str(json).ok()?;
    let (mut taken, mut rest) = (HashMap::new(), String::new());
    for (name, value) in members.0 {
        if is_wanted(&name) {
            taken.entry(name).or_insert(value.get().to_owned());
            continue;
        }
        rest.push(if rest.is_empty() { '{' } else { ',' });
        rest.push_str(&serde_json::Value::from(name).to_string());
        rest.push(':');
        rest.push_str(value.get());
    }
    if !rest.is_empty() {
        rest.push('}');
    }
    Some((taken, rest))
}

/// The members of a JSON object in their order, each of those that have the same name.
struct Members<'j>(Vec<(String, &'j RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// The manifests that a database knows: by the partner's key, with the number of the import.
pub(crate) struct DeclaredManifests {
    manifests: HashMap<String, (i32, Manifest)>,
    users: UserKeyring,
}

impl Default for DeclaredManifests {
    fn default() -> DeclaredManifests {
        DeclaredManifests::new(UserKeyring::new(&[]))
    }
}

impl DeclaredManifests {
    /// Makes one without any, with the keys of hashes.
    #[must_use]
    pub(crate) fn new(users: UserKeyring) -> DeclaredManifests {
        DeclaredManifests {
            manifests: HashMap::new(),
            users,
        }
    }

    /// Adds the manifest of a partner, with the number of its import.
    pub(crate) fn add(&mut self, partner: String, import: i32, manifest: Manifest) {
        self.manifests.insert(partner, (import, manifest));
    }

    /// Returns what a callback says of its subject, with the number of the import; `None` where it
    /// says nothing that the manifest names now.
    #[must_use]
    pub(crate) fn read(&self, hit: &Hit<'_>) -> Option<(i32, CheckedRow)> {
        if hit.attributes.is_empty() || !hit.permit.allows(NEEDED) {
            return None;
        }
        let (import, manifest) = self.manifests.get(&*hit.partner)?;
        let key = manifest
            .read_key(&manifest.key_of(hit)?, &self.users)
            .ok()?;
        let mut said: HashMap<String, String> = serde_json::from_str(&hit.attributes).ok()?;
        let columns = manifest.columns.iter();
        let values: Vec<Option<String>> = columns
            .map(|column| said.remove(column.attribute.key))
            .collect();
        let says_any = values.iter().any(Option::is_some);
        let row = CheckedRow {
            key,
            older_keys: Vec::new(),
            values,
        };
        says_any.then_some((*import, row))
    }
}

impl Manifest {
    /// Returns the ID of the manifest's kind that a callback names.
    fn key_of(&self, hit: &Hit<'_>) -> Option<String> {
        let key = match &self.key {
            KeyKind::Visitor => hit.visitor?.to_string(),
            KeyKind::Maid => hit.maid.to_string(),
            KeyKind::DeviceId => hit.device_id.to_string(),
            KeyKind::PartnerUid(_) => hit.partner_uid.to_string(),
            KeyKind::User | KeyKind::PostalCode | KeyKind::Municipality => return None,
        };
        Some(key).filter(|key| !key.is_empty())
    }

    /// Checks whether the data is valid on the day of a time, in microseconds since 1970.
    fn is_valid_at(&self, micros: i64) -> bool {
        Timestamp::from_microsecond(micros).is_ok_and(|at| {
            let day = TimeZone::UTC.to_datetime(at).date();
            day < self.valid_until
        })
    }

    /// Checks that the manifest can be one of a partner's callbacks.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub(crate) fn check_for_callbacks(&self, partner: &str) -> Result<(), String> {
        match &self.key {
            KeyKind::PartnerUid(named) if named != partner => Err(format!(
                "key.partner: {named}, and the callbacks are those of {partner}, which would be right"
            )),
            KeyKind::User | KeyKind::PostalCode | KeyKind::Municipality => Err(format!(
                "key.kind: {}, which callbacks do not name; partner_uid, maid, device_id or visitor \
                 would be right",
                self.key.name()
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
