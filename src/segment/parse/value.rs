//! Columns, literals and spans, and what may stand beside a column.

use sqlparser::ast::{Expr as Sql, Ident, Value};
use sqlparser::tokenizer::Location;

use super::{Mistake, SPAN_DAYS_MAX, place};
use crate::segment::ValueType;
use crate::segment::column::ProfileColumn;
use crate::segment::tree::Expr;

/// The longest text in quotes, in bytes.
const LITERAL_BYTES_MAX: usize = 256;

pub(super) fn column(name: &Ident, at: Location) -> Result<&'static ProfileColumn, Mistake> {
    let wanted = match name.quote_style {
        None => name.value.to_lowercase(),
        Some(_) => name.value.clone(),
    };
    if let Some(found) = ProfileColumn::from_name(&wanted) {
        return Ok(found);
    }
    let right = match name.quote_style {
        Some(_) => format!("the text '{}' in single quotes would be right", name.value),
        None => suggest(ProfileColumn::names(), &wanted),
    };
    let what = format!("{} is no column of profile; {right}", name.value);
    Err(Mistake::new(at, what))
}

pub(super) fn literal(value: &Value, at: Location) -> Result<(Expr, ValueType), Mistake> {
    match value {
        Value::SingleQuotedString(text) => {
            check_text(text, at)?;
            Ok((Expr::Text(text.clone()), ValueType::Text))
        }
        Value::Boolean(truth) => Ok((Expr::Truth(*truth), ValueType::Truth)),
        Value::Number(digits, false) if is_number(digits) => {
            Ok((Expr::Number(digits.clone()), ValueType::Number))
        }
        Value::Number(digits, _) => {
            let what = format!("{digits} is no number here; such as 24 or 0.5 would be right");
            Err(Mistake::new(at, what))
        }
        Value::Null => Err(Mistake::new(at, "null is no value; is null would be right")),
        other => {
            let what = format!("{other} is not allowed; a text in single quotes would be right");
            Err(Mistake::new(at, what))
        }
    }
}

/// Returns whether digits are a number that no rounding changes.
fn is_number(digits: &str) -> bool {
    let digits = digits.strip_prefix('-').unwrap_or(digits);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_of = |text: &str, max: usize| {
        (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    is_of(whole, 12) && is_of(part, 6)
}

fn check_text(text: &str, at: Location) -> Result<(), Mistake> {
    if text.len() > LITERAL_BYTES_MAX || text.contains(char::is_control) {
        let what = format!(
            "a text has more than {LITERAL_BYTES_MAX} bytes or control characters; another would be right"
        );
        return Err(Mistake::new(at, what));
    }
    Ok(())
}

/// Returns the text of an argument that has to be one.
pub(super) fn text_of(sql: &Sql, right: &str, outer: Location) -> Result<String, Mistake> {
    let at = place(sql, outer);
    let Sql::Value(value) = sql else {
        return Err(Mistake::new(
            at,
            format!("{sql} is no text; {right} would be right"),
        ));
    };
    match literal(&value.value, at)? {
        (Expr::Text(text), _) if !text.is_empty() => Ok(text),
        _ => Err(Mistake::new(
            at,
            format!("{sql} is no text; {right} would be right"),
        )),
    }
}

/// Returns how many days a span has.
pub(super) fn days_of(span: &str) -> Option<u16> {
    let (number, unit) = span.trim().split_once(' ')?;
    let number: u16 = number.parse().ok()?;
    let days = match unit.trim() {
        "day" | "days" => number,
        "week" | "weeks" => number.checked_mul(7)?,
        _ => return None,
    };
    (1..=SPAN_DAYS_MAX).contains(&days).then_some(days)
}

/// Checks that texts beside a column are among those that it may hold.
pub(super) fn check_values<'e>(
    value: &Expr,
    others: impl IntoIterator<Item = &'e Expr>,
    at: Location,
) -> Result<(), Mistake> {
    let Some(column) = column_of(value) else {
        return Ok(());
    };
    let known = column.texts();
    if known.is_empty() {
        return Ok(());
    }
    // What stands in for a missing value may be anything.
    let stand_ins: Vec<&str> = match value {
        Expr::Coalesce(values) => values.iter().filter_map(text_in).collect(),
        _ => Vec::new(),
    };
    for text in others.into_iter().filter_map(text_in) {
        if !known.contains(&text) && !stand_ins.contains(&text) {
            let what = format!(
                "{} is never '{text}'; one of {} would be right",
                column.name,
                known.join(", ")
            );
            return Err(Mistake::new(at, what));
        }
    }
    Ok(())
}

/// Returns the text that a value is.
pub(super) fn text_in(value: &Expr) -> Option<&str> {
    match value {
        Expr::Text(text) => Some(text),
        _ => None,
    }
}

/// Returns the column that a value is, where it is not missing.
pub(in crate::segment) fn column_of(value: &Expr) -> Option<&'static ProfileColumn> {
    match value {
        Expr::Column(column) => Some(column),
        Expr::Coalesce(values) => values.first().and_then(column_of),
        _ => None,
    }
}

/// Says what is likely meant.
pub(super) fn suggest<'k>(known: impl IntoIterator<Item = &'k str>, name: &str) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let nearest = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(known, name), *known))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((distance, nearest)) if distance <= 1 + name.len() / 4 => {
            format!("did you mean {nearest}?")
        }
        _ => format!("one of {} would be right", known.join(", ")),
    }
}
