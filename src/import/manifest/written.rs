//! A manifest as it is written, before anything of it is checked.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ManifestError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub name: String,
    pub supplier: String,
    pub legal_basis: String,
    pub purpose: Vec<String>,
    pub key: WrittenKey,
    /// A day, as a text or as a date of TOML.
    pub valid_from: Option<toml::Value>,
    /// The same.
    pub valid_until: toml::Value,
    #[serde(default)]
    pub format: Option<String>,
    #[serde(default)]
    pub delimiter: Option<String>,
    #[serde(default)]
    pub encoding: Option<String>,
    #[serde(default)]
    pub decimal: Option<String>,
    pub column: BTreeMap<String, WrittenColumn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenKey {
    pub kind: String,
    pub column: String,
    pub partner: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenColumn {
    pub attribute: String,
    #[serde(default)]
    pub values: BTreeMap<String, String>,
}

/// What a key may be: its name, whether it is required, its types as TOML calls them, an example.
type Rule = (&'static str, bool, &'static [&'static str], &'static str);

const KEYS: &[Rule] = &[
    ("name", true, &["string"], "a text such as \"register\""),
    ("supplier", true, &["string"], "whom the data comes from"),
    (
        "legal_basis",
        true,
        &["string"],
        "a text such as \"consent\"",
    ),
    ("purpose", true, &["array"], "a list such as [\"profile\"]"),
    (
        "key",
        true,
        &["table"],
        "{ kind = \"user\", column = \"nr\" } or the like",
    ),
    (
        "valid_from",
        false,
        &["string", "datetime"],
        "a day such as \"2026-11-01\"",
    ),
    (
        "valid_until",
        true,
        &["string", "datetime"],
        "a day such as \"2027-11-01\"",
    ),
    ("format", false, &["string"], "\"csv\" or \"ndjson\""),
    ("delimiter", false, &["string"], "a text such as \";\""),
    ("encoding", false, &["string"], "a text such as \"utf-8\""),
    ("decimal", false, &["string"], "\".\" or \",\""),
    (
        "column",
        true,
        &["table"],
        "a table for each column, such as [column.kr] with attribute = \"income\",",
    ),
];

const KEYS_OF_KEY: &[Rule] = &[
    ("kind", true, &["string"], "a text such as \"user\""),
    ("column", true, &["string"], "the name of a column"),
    ("partner", false, &["string"], "the key of the partner"),
];

const KEYS_OF_COLUMN: &[Rule] = &[
    ("attribute", true, &["string"], "a text such as \"income\""),
    (
        "values",
        false,
        &["table"],
        "a table such as { \"1\" = \"house\" }",
    ),
];

impl Written {
    /// Reads the text of a manifest.
    ///
    /// # Errors
    /// Where it is no TOML, or a key is unknown, missing or of another type: which, and what would
    /// be right.
    pub(super) fn read(text: &str) -> Result<Written, ManifestError> {
        toml::from_str(text).map_err(|error| {
            // This names the keys that there are.
            let is_unknown = error.message().starts_with("unknown field");
            let explained = (!is_unknown).then(|| explain(text)).flatten();
            explained.unwrap_or_else(|| ManifestError(error.to_string()))
        })
    }
}

/// Finds the first key that is missing or of a wrong type.
fn explain(text: &str) -> Option<ManifestError> {
    let table: toml::Table = text.parse().ok()?;
    if let Some(wrong) = find_wrong("", &table, KEYS) {
        return Some(wrong);
    }
    if let Some(wrong) = find_wrong("key.", table.get("key")?.as_table()?, KEYS_OF_KEY) {
        return Some(wrong);
    }
    let mut columns = table.get("column")?.as_table()?.iter();
    columns.find_map(|(name, column)| match column.as_table() {
        Some(column) => find_wrong(&format!("column.{name}."), column, KEYS_OF_COLUMN),
        None => Some(ManifestError(format!(
            "column.{name}: is of the type {}; a table such as [column.{name}] would be right",
            column.type_str()
        ))),
    })
}

fn find_wrong(path: &str, table: &toml::Table, rules: &[Rule]) -> Option<ManifestError> {
    rules.iter().find_map(|(name, is_required, types, right)| {
        let what = match table.get(*name) {
            None if *is_required => "is missing".to_owned(),
            Some(value) if !types.contains(&value.type_str()) => {
                format!("is of the type {}", value.type_str())
            }
            _ => return None,
        };
        Some(ManifestError(format!(
            "{path}{name}: {what}; {right} would be right"
        )))
    })
}
