//! Writes an expression as SQL: as the configuration would have it, and as Postgres runs it.
//!
//! Nothing of the text that was read is passed on. Names of columns and functions are ours, numbers
//! are digits, and each text is quoted anew here. A text with a backslash is written in the form
//! that means the same whatever `standard_conforming_strings` is.

use std::fmt;

use super::SegmentScope;
use super::column::ProfileColumn;
use super::parse::column_of;
use super::tree::{Comparison, Expr, Fact};
use crate::attribute::AttributeKind;

/// The day in UTC, as `subject_day.day` has it.
const TODAY: &str = "(now() at time zone 'UTC')::date";

/// The other IDs whose facts count for a subject of scope owner, beside its row of `profile`.
const KIN: &str = "kin.ids";

/// Puts the condition into a query over `profile`, and beside `profile` what the condition needs of
/// the subjects that an expression in SQL names.
#[must_use]
pub(super) fn fill(query: &str, condition: &str, subjects: &str) -> String {
    let kin = match condition.contains(KIN) {
        true => format!(
            "left join avtryck.subject_kin({subjects}) as kin on kin.subject = profile.subject"
        ),
        false => String::new(),
    };
    query
        .replace("/* kin */", &kin)
        .replace("/* condition */", condition)
}

/// The condition of another segment, with its scope.
pub(super) type Inner<'b> = &'b dyn Fn(&str) -> Option<(&'b Expr, SegmentScope)>;

/// Returns a text as a literal of SQL.
#[must_use]
pub fn quote(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

impl fmt::Display for Expr {
    /// Writes it as the configuration would have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(self, &Leaves::Configuration, f)
    }
}

/// For whom a segment is, and what it may know.
#[derive(Clone, Copy)]
pub(super) struct Uses {
    /// Whether partners are told, for whom an attribute has to be imported for export too.
    pub(super) is_exported: bool,
    /// Whether it may know that somebody is a child.
    pub(super) sees_minors: bool,
}

/// Returns the expression as Postgres runs it, over a row of the view `profile`.
pub(super) fn for_postgres(
    expression: &Expr,
    scope: SegmentScope,
    inner: Inner<'_>,
    uses: Uses,
) -> String {
    let mut sql = String::new();
    // Writing to a string cannot fail.
    write(expression, &Leaves::Postgres(scope, inner, uses), &mut sql).ok();
    sql
}

/// How what differs is written.
enum Leaves<'b> {
    Configuration,
    Postgres(SegmentScope, Inner<'b>, Uses),
}

fn write(expression: &Expr, leaves: &Leaves<'_>, to: &mut dyn fmt::Write) -> fmt::Result {
    let not = |is_negated: bool| if is_negated { "not " } else { "" };
    match expression {
        Expr::Text(text) => to.write_str(&quote(text)),
        Expr::Number(number) => to.write_str(number),
        Expr::Truth(truth) => write!(to, "{truth}"),
        Expr::Compare(left, comparison, right) => {
            write_comparison((left, *comparison, right), leaves, to)
        }
        Expr::All(parts) => write_list(("(", " and ", ")"), parts, leaves, to),
        Expr::Any(parts) => write_list(("(", " or ", ")"), parts, leaves, to),
        Expr::Coalesce(parts) => write_list(("coalesce(", ", ", ")"), parts, leaves, to),
        Expr::Not(value) => {
            to.write_str("(not ")?;
            write(value, leaves, to)?;
            to.write_char(')')
        }
        Expr::In {
            value,
            list,
            is_negated,
        } => {
            to.write_char('(')?;
            write(value, leaves, to)?;
            write!(to, " {}in ", not(*is_negated))?;
            write_list(("(", ", ", "))"), list, leaves, to)
        }
        Expr::Between {
            value,
            low,
            high,
            is_negated,
        } => {
            to.write_char('(')?;
            write(value, leaves, to)?;
            write!(to, " {}between ", not(*is_negated))?;
            write(low, leaves, to)?;
            to.write_str(" and ")?;
            write(high, leaves, to)?;
            to.write_char(')')
        }
        Expr::IsNull { value, is_negated } => {
            to.write_char('(')?;
            write(value, leaves, to)?;
            write!(to, " is {}null)", not(*is_negated))
        }
        Expr::Case { cases, otherwise } => {
            to.write_str("(case")?;
            for (when, then) in cases {
                to.write_str(" when ")?;
                write(when, leaves, to)?;
                to.write_str(" then ")?;
                write(then, leaves, to)?;
            }
            if let Some(value) = otherwise {
                to.write_str(" else ")?;
                write(value, leaves, to)?;
            }
            to.write_str(" end)")
        }
        Expr::Column(_) | Expr::Count { .. } | Expr::InSegment(_) => {
            to.write_str(&write_leaf(expression, leaves))
        }
    }
}

fn write_comparison(
    (left, comparison, right): (&Expr, Comparison, &Expr),
    leaves: &Leaves<'_>,
    to: &mut dyn fmt::Write,
) -> fmt::Result {
    let steps = [left, right].into_iter().find_map(column_of);
    let steps = steps.filter(|column| comparison.is_of_order() && column.has_order());
    let (before, after) = match (leaves, steps) {
        // Words have the order of their table.
        (Leaves::Postgres(..), Some(column)) => {
            let words: Vec<String> = column.texts().into_iter().map(quote).collect();
            (format!("array_position(array[{}], ", words.join(", ")), ")")
        }
        _ => (String::new(), ""),
    };
    write!(to, "({before}")?;
    write(left, leaves, to)?;
    write!(to, "{after} {} {before}", comparison.sign())?;
    write(right, leaves, to)?;
    write!(to, "{after})")
}

/// Returns what is written in another way for Postgres than for people.
fn write_leaf(leaf: &Expr, leaves: &Leaves<'_>) -> String {
    match (leaf, leaves) {
        (Expr::Column(column), Leaves::Configuration) => column.name.to_owned(),
        (Expr::Column(column), Leaves::Postgres(_, _, uses)) => column_sql(column, *uses),
        (Expr::Count { of, name, days }, Leaves::Configuration) => {
            format!("{}({}, '{days} days')", of.function(), quote(name))
        }
        (Expr::Count { of, name, days }, Leaves::Postgres(scope, ..)) => {
            count(*of, name, *days, *scope)
        }
        (Expr::InSegment(key), Leaves::Configuration) => format!("in_segment({})", quote(key)),
        (Expr::InSegment(key), Leaves::Postgres(_, inner, uses)) => match inner(key) {
            Some((condition, scope)) => {
                let sql = for_postgres(condition, scope, *inner, *uses);
                format!("coalesce({sql}, false)")
            }
            None => "false".to_owned(),
        },
        _ => String::new(),
    }
}

/// Returns the value of a column in the row of `profile`. Attributes are looked up where they are,
/// for what they may be used for.
fn column_sql(column: &ProfileColumn, uses: Uses) -> String {
    let Some(attribute) = column.attribute else {
        return format!("profile.{}", column.name);
    };
    let mut value = match attribute.kind {
        AttributeKind::Number => "held.number".to_owned(),
        _ => "held.value".to_owned(),
    };
    for minor in column.minors().filter(|_| !uses.sees_minors) {
        value = format!("nullif({value}, {})", quote(minor));
    }
    let purpose = match uses.is_exported {
        true => " and 'export' = any(held.purposes)",
        false => "",
    };
    format!(
        "(select {value} from avtryck.profile_attribute as held \
         where held.subject = profile.subject and held.attribute = {}{purpose} \
         order by held.distance, held.import desc limit 1)",
        attribute.number
    )
}

fn write_list(
    (before, between, after): (&str, &str, &str),
    parts: &[Expr],
    leaves: &Leaves<'_>,
    to: &mut dyn fmt::Write,
) -> fmt::Result {
    to.write_str(before)?;
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            to.write_str(between)?;
        }
        write(part, leaves, to)?;
    }
    to.write_str(after)
}

fn count(of: Fact, name: &str, days: u16, scope: SegmentScope) -> String {
    let sum = |facts: &str, whose: &str| {
        format!(
            "(select coalesce(sum(fact.n), 0) from avtryck.{facts} as fact \
             where {whose} and fact.kind = '{}' and fact.name = {} and fact.day > {TODAY} - {days})",
            of.kind(),
            quote(name)
        )
    };
    let own = "fact.subject = profile.subject";
    match scope {
        SegmentScope::Device => sum("device_fact", own),
        SegmentScope::Owner => format!(
            "({} + case when profile.permits_link then {} else 0 end)",
            sum("own_fact", own),
            sum("linked_fact", &format!("fact.subject = any({KIN})")),
        ),
        // What members do counts for nobody else: the guards refuse it, and so does this.
        SegmentScope::Household => "null::bigint".to_owned(),
    }
}
