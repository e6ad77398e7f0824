//! A schema -> a view in SQL with a column for each property.
//!
//! A view shows every document of the schema's model, whatever its revision: what happened and the
//! contexts of other events. What in a document is not of the property's type is null there, so
//! that no row makes a query fail.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::SchemaUri;

/// The longest name that Postgres keeps whole, in bytes.
const NAME_BYTES_MAX: usize = 63;
/// The columns that are there for every schema, of the hit and of the document.
const COLUMNS: [(&str, &str); 14] = [
    ("hit_id", "hit.hit_id"),
    ("received_at", "hit.received_at"),
    ("occurred_at", "hit.occurred_at"),
    ("site", "hit.site"),
    ("event_id", "hit.event_id"),
    ("event_name", "hit.event_name"),
    ("page_url", "hit.page_url"),
    ("page_view_id", "hit.params ->> 'page_view_id'"),
    ("visitor_id", "hit.visitor_id"),
    ("device_id", "hit.device_id"),
    ("session_id", "hit.session_id"),
    ("user_key", "hit.user_key"),
    ("is_context", "document.is_context"),
    ("schema_uri", "document.value ->> 'schema'"),
];

/// Writes the view of a schema, whose text is given.
///
/// # Errors
/// If the text is not the JSON schema of an object with properties.
pub(crate) fn write_view(uri: &SchemaUri, schema: &str) -> Result<String, ViewError> {
    let schema: Map<String, Value> = serde_json::from_str(schema)?;
    let properties = schema.get("properties").and_then(Value::as_object);
    let properties = properties.ok_or(ViewError::NoProperties)?;
    let view = quote_name(&cut(&snake_case(&format!(
        "{}_{}_{}",
        uri.vendor,
        uri.name,
        uri.model()
    ))));
    let mut names: HashSet<String> = COLUMNS.map(|(name, _)| name.to_owned()).into();
    let mut columns = COLUMNS
        .map(|(name, sql)| format!("{sql} as {name}"))
        .to_vec();
    let mut comments = String::new();
    for (property, rules) in properties {
        let name = quote_name(&name_once(&snake_case(property), &mut names));
        columns.push(format!("{} as {name}", value_of(property, rules)));
        if let Some(text) = rules.get("description").and_then(Value::as_str) {
            // A string takes all that is written to it.
            writeln!(
                comments,
                "comment on column {view}.{name} is {};",
                quote(text)
            )
            .ok();
        }
    }
    let columns = columns.join(",\n       ");
    let (vendor, schema_name, format) = (&uri.vendor, &uri.name, &uri.format);
    let model = quote(&format!(
        "iglu:{vendor}/{schema_name}/{format}/{}-",
        uri.model()
    ));
    let about = schema.get("description").and_then(Value::as_str);
    let about = quote(&format!("{uri}: {}", about.unwrap_or("no description")));
    Ok(format!(
        "drop view if exists {view};\n\
         create view {view} as\n\
         select {columns}\n\
         from avtryck.hit_detail as hit\n\
         cross join lateral (\n    \
             select hit.params -> 'ue' as value, false as is_context\n    \
             union all\n    \
             select list.context, true\n    \
             from jsonb_array_elements(case jsonb_typeof(hit.params -> 'co') when 'array' \
             then hit.params -> 'co' end) as list (context)\n\
         ) as document\n\
         where hit.protocol = 'snowplow' and starts_with(document.value ->> 'schema', {model});\n\
         comment on view {view} is {about};\n\
         {comments}"
    ))
}

/// Why there is no view of a schema.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    /// It is not JSON.
    #[error("it is not a JSON object")]
    Json(#[from] serde_json::Error),
    /// It has no properties that could be columns.
    #[error("it describes no object with properties")]
    NoProperties,
}

/// Returns the SQL of a property's value, typed as the schema says.
fn value_of(property: &str, rules: &Value) -> String {
    let property = quote(property);
    let data = "document.value -> 'data'";
    let (json, text) = (
        format!("{data} -> {property}"),
        format!("{data} ->> {property}"),
    );
    let if_json_is =
        |kind: &str, sql: &str| format!("case jsonb_typeof({json}) when '{kind}' then {sql} end");
    match type_of(rules) {
        Some("boolean") => if_json_is("boolean", &format!("({json})::boolean")),
        Some("integer") => format!("avtryck.integer_of({text})"),
        Some("number") => if_json_is("number", &format!("({json})::numeric")),
        Some("string") => match rules.get("format").and_then(Value::as_str) {
            Some("date-time") => format!("avtryck.iso_time_of({text})"),
            _ => text,
        },
        _ => json,
    }
}

/// Returns the one type that a property has, beside null.
fn type_of(rules: &Value) -> Option<&str> {
    match rules.get("type")? {
        Value::String(kind) => Some(kind),
        Value::Array(kinds) => {
            let mut kinds = kinds.iter().filter_map(Value::as_str);
            let kind = kinds.find(|kind| *kind != "null")?;
            kinds.all(|other| other == "null").then_some(kind)
        }
        _ => None,
    }
}

/// Returns a name in lower case with underscores: `productId` becomes `product_id`.
fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut before = '_';
    for character in name.chars() {
        let is_hump = character.is_ascii_uppercase()
            && (before.is_ascii_lowercase() || before.is_ascii_digit());
        if is_hump {
            out.push('_');
        }
        let is_of_name = character.is_ascii_alphanumeric() || character == '_';
        out.push(if is_of_name {
            character.to_ascii_lowercase()
        } else {
            '_'
        });
        before = character;
    }
    out
}

/// Returns a name that no column has yet, and keeps it.
fn name_once(name: &str, names: &mut HashSet<String>) -> String {
    let name = cut(name);
    let mut once = name.clone();
    let mut number = 2;
    while !names.insert(once.clone()) {
        let suffix = format!("_{number}");
        let end = NAME_BYTES_MAX.saturating_sub(suffix.len()).min(name.len());
        once = format!("{}{suffix}", name.get(..end).unwrap_or_default());
        number += 1;
    }
    once
}

/// Cuts a name of ASCII at what Postgres keeps of it.
fn cut(name: &str) -> String {
    let mut name = name.to_owned();
    name.truncate(NAME_BYTES_MAX);
    name
}

fn quote_name(name: &str) -> String {
    format!("\"{name}\"")
}

/// Writes a text as SQL has it. NUL is in none of Postgres's texts.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_property_is_a_column_of_its_type() {
        let uri = SchemaUri::parse("iglu:com.acme/viewedProduct/jsonschema/2-1-0").expect("a URI");
        let schema = r#"{"type":"object","description":"What was seen","properties":{
            "productId":{"type":"string","description":"It's the article"},
            "price":{"type":["number","null"]},
            "count":{"type":"integer"},
            "isNew":{"type":["null","boolean"]},
            "seenAt":{"type":"string","format":"date-time"},
            "tags":{"type":"array"},
            "either":{"type":["string","integer"]},
            "site":{"type":"string"},
            "Räk'smörgås":{}}}"#;
        let sql = write_view(&uri, schema).expect("a view");
        for part in [
            "create view \"com_acme_viewed_product_2\" as",
            "document.value -> 'data' ->> 'productId' as \"product_id\"",
            "case jsonb_typeof(document.value -> 'data' -> 'price') when 'number' \
             then (document.value -> 'data' -> 'price')::numeric end as \"price\"",
            "avtryck.integer_of(document.value -> 'data' ->> 'count') as \"count\"",
            "then (document.value -> 'data' -> 'isNew')::boolean end as \"is_new\"",
            "avtryck.iso_time_of(document.value -> 'data' ->> 'seenAt') as \"seen_at\"",
            "document.value -> 'data' -> 'tags' as \"tags\"",
            "document.value -> 'data' -> 'either' as \"either\"",
            "document.value -> 'data' ->> 'site' as \"site_2\"",
            "-> 'Räk''smörgås' as \"r_k_sm_rg_s\"",
            "starts_with(document.value ->> 'schema', 'iglu:com.acme/viewedProduct/jsonschema/2-')",
            "\"product_id\" is 'It''s the article';",
            "is 'iglu:com.acme/viewedProduct/jsonschema/2-1-0: What was seen';",
        ] {
            assert!(sql.contains(part), "{part} in\n{sql}");
        }
    }

    #[test]
    fn names_that_are_long_or_alike_stay_apart() {
        let mut names = HashSet::new();
        let long = "a".repeat(100);
        let first = name_once(&long, &mut names);
        let second = name_once(&long, &mut names);
        assert_eq!((first.len(), second.len()), (63, 63));
        assert_eq!(second, format!("{}_2", "a".repeat(61)));
        assert_eq!(snake_case("A-b.cD9E"), "a_b_c_d9_e");
    }

    #[test]
    fn what_describes_no_object_has_no_view() {
        let uri = SchemaUri::parse("iglu:a/b/jsonschema/1-0-0").expect("a URI");
        for schema in [
            "",
            "[]",
            "{}",
            r#"{"type":"string"}"#,
            r#"{"properties":[]}"#,
        ] {
            assert!(write_view(&uri, schema).is_err(), "{schema}");
        }
    }
}
