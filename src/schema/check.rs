//! Whether documents are as their schemas say.
//!
//! The schemas of Iglu are of draft 4 with two members more, which no validator knows. Their
//! patterns are written for browsers: those that look around need a backtracking engine, whose
//! steps are limited. A schema that refers to one that is not in itself is not used.

use std::collections::HashMap;
use std::fmt;

use jsonschema::{Draft, PatternOptions, Validator};
use serde::Deserialize;
use serde_json::Value;

use super::SchemaUri;

/// The most steps of a pattern; beyond them it does not match.
const PATTERN_STEPS_MAX: usize = 100_000;
/// The longest error that is kept, in bytes.
const ERROR_BYTES_MAX: usize = 256;

/// Schemas by their URIs, ready to check documents.
#[derive(Default)]
pub(crate) struct Schemas(HashMap<String, Validator>);

impl fmt::Debug for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schemas({})", self.0.len())
    }
}

/// Why a schema is not used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SchemaError(String);

impl Schemas {
    /// Adds a schema, whose text is given. The first of a URI counts.
    ///
    /// # Errors
    /// If it is not one, or refers to another one.
    pub(crate) fn add(&mut self, uri: &SchemaUri, text: &str) -> Result<(), SchemaError> {
        let say = |error: &dyn fmt::Display| SchemaError(error.to_string());
        let mut schema: Value = serde_json::from_str(text).map_err(|error| say(&error))?;
        let members = schema.as_object_mut();
        let members = members.ok_or_else(|| say(&"it is no object"))?;
        // Iglu's own meta-schema, which is draft 4 and says where the schema is from.
        members.remove("$schema");
        members.remove("self");
        let patterns = PatternOptions::fancy_regex().backtrack_limit(PATTERN_STEPS_MAX);
        let validator = jsonschema::options()
            .with_draft(Draft::Draft4)
            .should_validate_formats(true)
            .with_pattern_options(patterns)
            .build(&schema)
            .map_err(|error| say(&error))?;
        self.0.entry(uri.to_string()).or_insert(validator);
        Ok(())
    }

    /// Returns whether there is none.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks the documents in the further parameters of a hit: what happened, then the contexts. A
    /// document whose schema is not there is as it should be.
    #[must_use]
    pub(crate) fn check(&self, params: &str) -> Checked {
        let mut checked = Checked::default();
        let Ok(documents) = serde_json::from_str::<Documents>(params) else {
            return checked;
        };
        let happened = documents.ue.into_iter();
        for document in happened.chain(documents.co.into_iter().flatten()) {
            match self.0.get(&document.schema) {
                None => checked.unknown += 1,
                Some(_) if checked.error.is_some() => {}
                Some(schema) => checked.error = find_error(schema, &document),
            }
        }
        checked
    }
}

/// What was found of the documents of a hit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// The first error.
    pub error: Option<String>,
    /// How many documents name a schema that is not there.
    pub unknown: u64,
}

fn find_error(schema: &Validator, document: &Document) -> Option<String> {
    let error = schema.validate(&document.data).err()?;
    let mut text = format!("{} at {}: {error}", document.schema, error.instance_path());
    text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
    Some(text)
}
/// The documents of an event, as they stand in its `params`.
#[derive(Deserialize)]
struct Documents {
    ue: Option<Document>,
    co: Option<Vec<Document>>,
}

#[derive(Deserialize)]
struct Document {
    schema: String,
    data: Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEWED: &str = "iglu:com.acme/viewed/jsonschema/1-0-0";

    fn schemas() -> Schemas {
        let mut schemas = Schemas::default();
        let schema = r#"{"$schema":"http://iglucentral.com/schemas/com.snowplowanalytics.self-desc/schema/jsonschema/1-0-0#",
            "self":{"vendor":"com.acme","name":"viewed","format":"jsonschema","version":"1-0-0"},
            "type":"object","properties":{"price":{"type":"number"},"at":{"type":"string","format":"date-time"},
            "code":{"type":"string","pattern":"^(?!0)[0-9]+$"}},"required":["price"],"additionalProperties":false}"#;
        let uri = SchemaUri::parse(VIEWED).expect("a URI");
        schemas.add(&uri, schema).expect("a schema");
        schemas
    }

    #[test]
    fn the_first_error_of_the_documents_is_found() {
        let schemas = schemas();
        let document = |data: &str| format!(r#"{{"schema":"{VIEWED}","data":{data}}}"#);
        let good = document(r#"{"price":1,"at":"2026-01-01T00:00:00Z","code":"7"}"#);
        for (wrong, part) in [
            ("{}", "\"price\" is a required property"),
            (r#"{"price":"1"}"#, "at /price"),
            (r#"{"price":1,"at":"soon"}"#, "at /at"),
            (r#"{"price":1,"code":"07"}"#, "at /code"),
            (r#"{"price":1,"other":1}"#, "'other' was unexpected"),
            ("[]", "is not of type \"object\""),
        ] {
            let wrong = document(wrong);
            for params in [
                format!(r#"{{"ue":{wrong}}}"#),
                format!(r#"{{"e":"ue","ue":{good},"co":[{good},{wrong}]}}"#),
            ] {
                let error = schemas.check(&params).error.expect("an error");
                assert!(error.starts_with(VIEWED) && error.contains(part), "{error}");
            }
        }
        for params in [
            format!(r#"{{"ue":{good},"co":[{good}]}}"#),
            "{}".to_owned(),
            String::new(),
            // Nobody says what another schema demands.
            format!(r#"{{"ue":{}}}"#, document("{}").replace("1-0-0", "1-0-1")),
        ] {
            assert_eq!(schemas.check(&params).error, None, "{params}");
        }
        let long = document(&format!(r#"{{"price":"{}"}}"#, "å".repeat(1000)));
        let error = schemas.check(&format!(r#"{{"ue":{long}}}"#));
        assert!(error.error.expect("an error").len() <= ERROR_BYTES_MAX);
        let other = document("{}").replace("1-0-0", "1-0-1");
        let checked = schemas.check(&format!(r#"{{"ue":{other},"co":[{good},{other}]}}"#));
        assert_eq!((checked.error, checked.unknown), (None, 2));
    }

    #[test]
    fn what_is_no_schema_or_refers_to_another_one_is_not_used() {
        let uri = SchemaUri::parse(VIEWED).expect("a URI");
        for text in [
            "",
            "[]",
            r#"{"type":"nothing"}"#,
            r#"{"properties":{"a":{"pattern":"("}}}"#,
            r#"{"$ref":"http://example.com/schema.json"}"#,
            r#"{"$ref":"file:///etc/passwd"}"#,
        ] {
            let mut schemas = Schemas::default();
            assert!(schemas.add(&uri, text).is_err(), "{text}");
            assert!(schemas.is_empty());
        }
    }
}
