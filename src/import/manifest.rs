//! The manifest of an import: a TOML file beside the data.

mod written;

use std::collections::BTreeMap;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use jiff::ToSpan as _;
use jiff::civil::Date;

use self::written::Written;
use crate::attribute::{Attribute, AttributeClass, AttributeKind, LEGAL_BASES};

/// The longest time that data may be valid, in months.
const VALID_MONTHS_MAX: i64 = 24;
/// The most columns that a manifest may name.
const COLUMNS_MAX: usize = 64;
/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// The longest text that is stored as it is written, in bytes.
const TEXT_BYTES_MAX: usize = 200;
/// What segments may use data for: to adapt pages, to tell partners, to measure.
const PURPOSES: [&str; 3] = ["profile", "export", "measure"];

/// What is wrong with a manifest: which key, and what would be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ManifestError(pub String);

/// Checks a text that is stored as it is written. `right` says what it has to be.
fn check_text(key: &str, text: &str, right: &str) -> Result<(), ManifestError> {
    let what = if text.trim().is_empty() {
        "is empty"
    } else if text.contains(char::is_control) {
        "has control characters"
    } else if text.len() > TEXT_BYTES_MAX {
        "has more than 200 bytes"
    } else {
        return Ok(());
    };
    wrong(format!("{key}: {what}; {right} would be right"))
}

fn wrong<T>(text: impl Into<String>) -> Result<T, ManifestError> {
    Err(ManifestError(text.into()))
}

/// What the rows are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// A visitor's ID.
    Visitor,
    /// A mobile advertising ID.
    Maid,
    /// A sender's ID for a device.
    DeviceId,
    /// The ID of that partner.
    PartnerUid(String),
    /// The operator's own ID of a customer.
    User,
    /// A Swedish postal code.
    PostalCode,
    /// The name of a municipality.
    Municipality,
}

impl KeyKind {
    fn from_name(name: &str, partner: Option<&str>) -> Result<KeyKind, ManifestError> {
        let kind = match name {
            "visitor" => KeyKind::Visitor,
            "maid" => KeyKind::Maid,
            "device_id" => KeyKind::DeviceId,
            "partner_uid" => {
                let Some(partner) = partner else {
                    return wrong("key.partner: is missing; the key of the partner would be right");
                };
                check_text("key.partner", partner, "the key of the partner")?;
                return Ok(KeyKind::PartnerUid(partner.to_owned()));
            }
            "user" => KeyKind::User,
            "postal_code" => KeyKind::PostalCode,
            "municipality" => KeyKind::Municipality,
            _ => {
                return wrong(format!(
                    "key.kind: {name} is no kind of key; visitor, maid, device_id, partner_uid, user, \
                     postal_code or municipality would be right"
                ));
            }
        };
        match partner {
            None => Ok(kind),
            Some(_) => wrong(format!(
                "key.partner: a {name} has no partner; nothing would be right"
            )),
        }
    }

    /// Returns the word in SQL.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            KeyKind::Visitor => "visitor",
            KeyKind::Maid => "maid",
            KeyKind::DeviceId => "device_id",
            KeyKind::PartnerUid(_) => "partner_uid",
            KeyKind::User => "user",
            KeyKind::PostalCode => "postal_code",
            KeyKind::Municipality => "municipality",
        }
    }

    /// Returns the partner whose IDs the rows name; empty where none is.
    #[must_use]
    pub fn partner(&self) -> &str {
        match self {
            KeyKind::PartnerUid(partner) => partner,
            _ => "",
        }
    }

    /// Returns whether the rows are about areas and not about subjects.
    #[must_use]
    pub(crate) fn is_area(&self) -> bool {
        matches!(self, KeyKind::PostalCode | KeyKind::Municipality)
    }
}

/// What a column means.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name in the file.
    pub name: String,
    /// The attribute that it holds.
    pub attribute: &'static Attribute,
    /// What its values stand for; empty where they are the attribute's own words.
    pub values: BTreeMap<String, &'static str>,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a header (RFC 4180), with that delimiter.
    Csv(u8),
    /// A JSON object a line.
    Ndjson,
}

/// A manifest that was checked.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// What the import is known by.
    pub name: String,
    /// Whom the data comes from, as the person is told.
    pub supplier: String,
    /// On what ground it is used.
    pub legal_basis: String,
    /// What segments may use it for.
    pub purposes: Vec<String>,
    /// What the rows are about.
    pub key: KeyKind,
    /// The column that has the key.
    pub key_column: String,
    /// The first day on which it is used.
    pub valid_from: Date,
    /// Whether the manifest names that day; else it is the one on which it was read.
    pub names_valid_from: bool,
    /// The day on which it is used no more.
    pub valid_until: Date,
    /// How the file is written.
    pub format: Format,
    /// In which characters; JSON is always in UTF-8.
    pub encoding: &'static Encoding,
    /// Whether numbers have a comma before their decimals.
    pub has_decimal_comma: bool,
    /// What the columns mean, in the order of their attributes.
    pub columns: Vec<Column>,
    /// Whether children may be said to be children.
    pub takes_minors: bool,
}

impl Manifest {
    /// Reads a manifest. `today` is the UTC day, and `classes` are those that the configuration
    /// allows beside the ordinary ones.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(
        text: &str,
        today: Date,
        classes: &[AttributeClass],
    ) -> Result<Manifest, ManifestError> {
        let written = Written::read(text)?;
        let is_name = |name: &str| {
            let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_usual)
        };
        if !is_name(&written.name) {
            return wrong(format!(
                "name: {:?} is no name; up to 64 letters, digits, dots, hyphens and underscores would be right",
                written.name
            ));
        }
        check_text("supplier", &written.supplier, "whom the data comes from")?;
        if !LEGAL_BASES.contains(&written.legal_basis.as_str()) {
            return wrong(format!(
                "legal_basis: {} is not a ground; one of {} would be right",
                written.legal_basis,
                LEGAL_BASES.join(", ")
            ));
        }
        let unknown = written
            .purpose
            .iter()
            .find(|it| !PURPOSES.contains(&it.as_str()));
        if let Some(unknown) = unknown {
            return wrong(format!(
                "purpose: {unknown} is not a purpose; {} would be right",
                PURPOSES.join(", ")
            ));
        }
        if written.purpose.is_empty() {
            return wrong("purpose: is empty; what the data may be used for would be right");
        }
        let (valid_from, valid_until) = read_validity(&written, today)?;
        Ok(Manifest {
            key: KeyKind::from_name(&written.key.kind, written.key.partner.as_deref())?,
            format: read_format(&written)?,
            encoding: read_encoding(&written)?,
            has_decimal_comma: match written.decimal.as_deref() {
                None | Some(".") => false,
                Some(",") => true,
                Some(other) => {
                    return wrong(format!(
                        "decimal: {other:?} is not one; \".\" or \",\" would be right"
                    ));
                }
            },
            columns: read_columns(&written, classes)?,
            names_valid_from: written.valid_from.is_some(),
            name: written.name,
            supplier: written.supplier,
            legal_basis: written.legal_basis,
            purposes: written.purpose,
            key_column: written.key.column,
            valid_from,
            valid_until,
            takes_minors: classes.contains(&AttributeClass::Minor),
        })
    }

    /// Returns the numbers of the attributes, in the order of the values of a row.
    #[must_use]
    pub fn attributes(&self) -> Vec<i16> {
        let columns = self.columns.iter();
        columns.map(|column| column.attribute.number).collect()
    }

    /// Returns what the manifest makes of the bytes of a file, as JSON: the same of two manifests
    /// that differ only in how they are written. Whom the data comes from, on what ground, what for
    /// and how long are not among it: `postgres::import` keeps those beside the file.
    ///
    /// # Errors
    /// Never, as long as texts can be written as JSON.
    pub(crate) fn mapping(&self) -> Result<Vec<u8>, serde_json::Error> {
        let columns = self.columns.iter();
        let columns: Vec<_> = columns
            .map(|column| (&column.name, column.attribute.number, &column.values))
            .collect();
        serde_json::to_vec(&(
            (self.key.name(), self.key.partner(), &self.key_column),
            match self.format {
                Format::Csv(delimiter) => char::from(delimiter).to_string(),
                Format::Ndjson => "ndjson".to_owned(),
            },
            self.encoding.name(),
            self.has_decimal_comma,
            self.takes_minors,
            self.names_valid_from.then(|| self.valid_from.to_string()),
            columns,
        ))
    }
}

fn read_date(key: &str, written: &toml::Value) -> Result<Date, ManifestError> {
    let text = match written {
        toml::Value::String(text) => text.clone(),
        toml::Value::Datetime(date) => date.to_string(),
        other => format!("a value of the type {}", other.type_str()),
    };
    match text.parse::<Date>() {
        Ok(date) if date.to_string() == text => Ok(date),
        _ => wrong(format!(
            "{key}: {text} is no day; one such as 2027-11-01 would be right"
        )),
    }
}

fn read_validity(written: &Written, today: Date) -> Result<(Date, Date), ManifestError> {
    let from = match &written.valid_from {
        Some(written) => read_date("valid_from", written)?,
        None => today,
    };
    let until = read_date("valid_until", &written.valid_until)?;
    // From today, or a late first day would put off the end of what was bought today.
    let latest = today.saturating_add(VALID_MONTHS_MAX.months());
    if until <= today {
        return wrong(format!(
            "valid_until: {until} is past; a day after {today} would be right"
        ));
    }
    if until > latest {
        return wrong(format!(
            "valid_until: {until} is too far; a day up to {latest}, in {VALID_MONTHS_MAX} months, would be right"
        ));
    }
    if from >= until {
        return wrong(format!(
            "valid_from: {from} is not before valid_until; a day before {until} would be right"
        ));
    }
    Ok((from, until))
}

fn read_format(written: &Written) -> Result<Format, ManifestError> {
    let delimiter = written.delimiter.as_deref().unwrap_or(",");
    match (
        written.format.as_deref().unwrap_or("csv"),
        delimiter.as_bytes(),
    ) {
        ("csv", [delimiter @ (b',' | b';' | b'\t' | b'|')]) => Ok(Format::Csv(*delimiter)),
        ("csv", _) => wrong(format!(
            "delimiter: {delimiter:?} is not one; \",\", \";\", \"|\" or a tab would be right"
        )),
        ("ndjson", _) if written.delimiter.is_none() => Ok(Format::Ndjson),
        ("ndjson", _) => wrong("delimiter: ndjson has none; nothing would be right"),
        (other, _) => wrong(format!(
            "format: {other} is not a format; csv or ndjson would be right"
        )),
    }
}

fn read_encoding(written: &Written) -> Result<&'static Encoding, ManifestError> {
    match written.encoding.as_deref() {
        None | Some("utf-8") => Ok(UTF_8),
        Some("windows-1252") if written.format.as_deref() != Some("ndjson") => Ok(WINDOWS_1252),
        Some(other) => wrong(format!(
            "encoding: {other} is not read; utf-8, or for csv windows-1252, would be right"
        )),
    }
}

fn read_columns(
    written: &Written,
    classes: &[AttributeClass],
) -> Result<Vec<Column>, ManifestError> {
    let mut columns: Vec<Column> = Vec::new();
    for (name, column) in &written.column {
        let key = format!("column.{name}");
        let Some(attribute) = Attribute::from_name(&column.attribute) else {
            return wrong(format!(
                "{key}.attribute: {} is not an attribute; one of docs/import.md would be right",
                column.attribute
            ));
        };
        if *name == written.key.column {
            return wrong(format!(
                "{key}: is the key, and can be no attribute as well"
            ));
        }
        if columns.iter().any(|other| other.attribute == attribute) {
            return wrong(format!(
                "{key}.attribute: {} has a column already",
                attribute.key
            ));
        }
        let class = attribute.class;
        if class.is_off_by_default() && !classes.contains(&class) {
            return wrong(format!(
                "{key}.attribute: {} is of the class {}, which import.classes does not allow",
                attribute.key,
                class.name()
            ));
        }
        let mut values = column.values.keys();
        if let Some(blank) = values.find(|from| from.is_empty() || from.trim() != **from) {
            return wrong(format!(
                "{key}.values: {blank:?} is empty or has blanks around, and no value of a file \
                 does; the value without them would be right"
            ));
        }
        let values = column.values.iter().map(|(from, to)| {
            let found = attribute.words.iter().find(|word| word.word == to);
            found.map(|word| (from.clone(), word.word)).ok_or_else(|| {
                let words: Vec<&str> = attribute.words.iter().map(|word| word.word).collect();
                ManifestError(match words.is_empty() {
                    true => format!("{key}.values: {} has no words to stand for", attribute.key),
                    false => format!(
                        "{key}.values: {to} is not a word of it; {} would be right",
                        words.join(", ")
                    ),
                })
            })
        });
        columns.push(Column {
            name: name.clone(),
            attribute,
            values: values.collect::<Result<_, _>>()?,
        });
    }
    if columns.is_empty() || columns.len() > COLUMNS_MAX {
        return wrong("column: has none or too many; one to 64 would be right");
    }
    let mut kinds = columns.iter().map(|column| column.attribute.kind);
    if kinds.any(|kind| kind == AttributeKind::Hash)
        && KeyKind::from_name(&written.key.kind, written.key.partner.as_deref())?.is_area()
    {
        return wrong("column: the homes of an area have no code of their own");
    }
    columns.sort_by_key(|column| column.attribute.number);
    Ok(columns)
}

#[cfg(test)]
mod tests;
