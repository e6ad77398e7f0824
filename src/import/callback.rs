//! Attributes that come with partners' callbacks.
//!
//! A manifest says of a callback's parameters what it says of a file's columns. The key is the ID
//! of that kind that the callback names, so `key.column` is the name of nothing that is read.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use super::{CheckedRow, KeyKind, Manifest, Reject};
use crate::hit::{Hit, Kind, Permit};
use crate::keys::UserKeyring;

/// What a callback has to permit before it says anything of its subject.
const NEEDED: Permit = Permit::STORE.with(Permit::MEASURE).with(Permit::PROFILE);

/// The manifests of partners whose callbacks bring attributes.
pub struct CallbackManifests {
    /// By the partner's key, with the number of the import.
    manifests: HashMap<String, (i32, Manifest)>,
    users: UserKeyring,
}

impl Default for CallbackManifests {
    fn default() -> CallbackManifests {
        CallbackManifests::new(UserKeyring::new(&[]))
    }
}

impl CallbackManifests {
    /// Makes one without any, with the keys of hashes.
    #[must_use]
    pub fn new(users: UserKeyring) -> CallbackManifests {
        CallbackManifests {
            manifests: HashMap::new(),
            users,
        }
    }

    /// Adds the manifest of a partner, with the number of its import.
    pub fn add(&mut self, partner: String, import: i32, manifest: Manifest) {
        self.manifests.insert(partner, (import, manifest));
    }

    /// Reads what a callback says of its subject, with the number of the import: `None` where it
    /// says nothing that a manifest names, or does not permit it. The caller has checked who sent
    /// it.
    #[must_use]
    pub fn read(&self, hit: &Hit<'_>) -> Option<(i32, Result<CheckedRow, Reject>)> {
        if hit.kind != Kind::Callback || !hit.permit.allows(NEEDED) {
            return None;
        }
        let (import, manifest) = self.manifests.get(&*hit.partner)?;
        let key = match &manifest.key {
            KeyKind::Visitor => hit.visitor?.to_string(),
            KeyKind::Maid => hit.maid.to_string(),
            KeyKind::DeviceId => hit.device_id.to_string(),
            KeyKind::PartnerUid(_) => hit.partner_uid.to_string(),
            KeyKind::User | KeyKind::PostalCode | KeyKind::Municipality => return None,
        };
        let params: HashMap<String, Value> = serde_json::from_str(&hit.params).ok()?;
        let text = |name: &str| match params.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let says_any = manifest.columns.iter().any(|it| text(&it.name).is_some());
        if key.is_empty() || !says_any {
            return None;
        }
        let value = |name: &str| match name == manifest.key_column {
            true => Some(Cow::Borrowed(&*key)),
            false => text(name).map(Cow::Owned),
        };
        Some((*import, manifest.check(value, &self.users)))
    }
}

impl Manifest {
    /// Checks that the manifest can be one of a partner's callbacks.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn check_for_callbacks(&self, partner: &str) -> Result<(), String> {
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
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use jiff::civil::date;

    use super::*;
    use crate::clock::UnixMicros;
    use crate::import::RowKey;

    const MANIFEST: &str = r#"
name = "net-household"
supplier = "an ad network"
legal_basis = "consent"
purpose = ["profile"]
key = { kind = "partner_uid", column = "uid", partner = "net" }
valid_until = "2027-01-01"
[column.hh_income]
attribute = "income_band"
values = { "1" = "low", "9" = "high" }
[column.home]
attribute = "housing_type"
"#;

    fn callback(params: &'static str) -> Hit<'static> {
        let mut hit = Hit::new(UnixMicros(0), Kind::Callback, "shop");
        hit.partner = "net".into();
        hit.partner_uid = "uid-12345".into();
        hit.permit = NEEDED;
        hit.params = params.into();
        hit
    }

    #[test]
    fn a_callback_says_what_the_manifest_names_by_its_rules_and_with_its_permit() {
        let manifest = Manifest::parse(MANIFEST, date(2026, 11, 27), &[]).unwrap();
        assert_eq!(manifest.check_for_callbacks("net"), Ok(()));
        assert!(manifest.check_for_callbacks("other").is_err());
        let mut all = CallbackManifests::default();
        all.add("net".to_owned(), 7, manifest);
        let read = |hit: &Hit<'_>| {
            let (import, checked) = all.read(hit)?;
            assert_eq!(import, 7);
            Some(checked.map(|row| {
                assert!(matches!(row.key, RowKey::Subject(..)));
                row.values
            }))
        };
        let high = || Some("high".to_owned());
        assert_eq!(
            read(&callback(r#"{"hh_income":"9","x":"y"}"#)),
            Some(Ok(vec![None, high()]))
        );
        assert_eq!(
            read(&callback(r#"{"hh_income":9,"home":"flat"}"#))
                .unwrap()
                .unwrap()
                .len(),
            2
        );
        assert!(read(&callback(r#"{"hh_income":"5"}"#)).unwrap().is_err());
        for params in ["", "{}", "{\"x\":\"y\"}", "[]"] {
            assert!(read(&callback(params)).is_none(), "{params}");
        }
        let mut refused = callback(r#"{"hh_income":"9"}"#);
        refused.permit = Permit::STORE.with(Permit::MEASURE);
        assert!(read(&refused).is_none());
        refused.permit = NEEDED;
        refused.partner = "other".into();
        assert!(read(&refused).is_none());
        refused.partner = "net".into();
        refused.kind = Kind::Event;
        assert!(read(&refused).is_none());
    }

    #[test]
    fn classes_that_are_off_are_off_for_callbacks_too() {
        let text = MANIFEST.replace("income_band", "credit_band");
        assert!(Manifest::parse(&text, date(2026, 11, 27), &[]).is_err());
        let text = MANIFEST
            .replace("partner_uid", "user")
            .replace(", partner = \"net\"", "");
        let manifest = Manifest::parse(&text, date(2026, 11, 27), &[]).unwrap();
        let error = manifest.check_for_callbacks("net").unwrap_err();
        assert!(error.starts_with("key.kind: user"), "{error}");
    }
}
