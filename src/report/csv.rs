//! The report for spreadsheets: one table after the other, each with its title and its columns.

use serde_json::Value;

use super::chapter::CHAPTERS;
use super::{Contents, show};

/// Writes the report as RFC 4180 has it.
pub(super) fn write(contents: &Contents<'_>) -> String {
    let mut out = String::new();
    let Contents {
        campaign,
        first,
        last,
        ..
    } = contents;
    push_line(&mut out, ["campaign", campaign].map(escape));
    push_line(
        &mut out,
        ["days".to_owned(), first.to_string(), last.to_string()],
    );
    for (chapter, rows) in CHAPTERS.iter().zip(&contents.rows) {
        out.push_str("\r\n");
        push_line(&mut out, [escape(chapter.title)]);
        let columns = chapter.columns.iter();
        push_line(&mut out, columns.map(|(name, _)| escape(name)));
        for row in rows {
            push_line(&mut out, row.iter().map(cell));
        }
    }
    out
}

fn push_line(out: &mut String, cells: impl IntoIterator<Item = String>) {
    let cells: Vec<String> = cells.into_iter().collect();
    out.push_str(&cells.join(","));
    out.push_str("\r\n");
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => escape(text),
        other => show(other),
    }
}

/// Quotes a text where it must be. A spreadsheet takes a text that begins like a formula for one,
/// and whoever sends hits chooses the names in them, so an apostrophe goes before it.
fn escape(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if is_formula {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}
