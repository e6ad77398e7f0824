//! What a segment may be made of.
//!
//! | a segment | may not |
//! | --- | --- |
//! | without `basis = "explicit_consent"`, or of a class that `import.classes` does not name | use credit, special or minor attributes |
//! | the same | name a word that says that somebody is a child; to it such a word is unknown |
//! | whatever it says | count pages of a sensitive category: these are never counted by subject |
//! | of scope household | use anything but attributes of the household |
//! | of scope device | use a segment of scope owner |
//!
//! All of it holds for what a segment uses by way of others, however many lie in between.

use super::SegmentScope;
use super::book::Definition;
use super::column::ProfileColumn;
use super::parse::{Mistake, Parsed, column_of};
use super::tree::{Expr, Fact};
use crate::attribute::AttributeClass;

/// What the configuration allows.
pub struct Guards<'g> {
    /// `import.classes`.
    pub classes: &'g [AttributeClass],
    /// Tells whether a category of pages is sensitive.
    pub is_sensitive: &'g dyn Fn(&str) -> bool,
}

impl Guards<'_> {
    /// Returns whether a segment may use a class.
    pub(super) fn allow(&self, of: &Definition<'_>, class: AttributeClass) -> bool {
        !class.is_off_by_default() || of.is_consented && self.classes.contains(&class)
    }
}

/// Checks what a segment uses, by itself or by way of others. `used` is each expression below it
/// with the scope in which it stands, and the segment that the segment itself names for it.
pub(super) fn check<'e>(
    of: &Definition<'_>,
    parsed: &Parsed,
    used: impl IntoIterator<Item = (&'e Expr, SegmentScope, Option<&'e str>)>,
    guards: &Guards<'_>,
) -> Result<(), Mistake> {
    for (expression, scope, by_way_of) in used {
        let refuse = |name: &str, what: String| {
            let (place, by) = match by_way_of {
                Some(key) => (key, format!(", by way of {key}")),
                None => (name, String::new()),
            };
            Err(parsed.mistake(place, format!("{name}{by}: {what}")))
        };
        if of.scope == SegmentScope::Device && scope == SegmentScope::Owner {
            let name = by_way_of.unwrap_or_default();
            let what = format!(
                "{name}: a segment of scope owner in one of scope device; the same scope would be right"
            );
            return Err(parsed.mistake(name, what));
        }
        match expression {
            Expr::Column(column) => {
                if !guards.allow(of, column.class()) {
                    return refuse(column.name, say_class(column.class()));
                }
                if of.scope == SegmentScope::Household && !column.is_of_household {
                    let what = "it is of one member of the household; an attribute of the household would be right";
                    return refuse(column.name, what.to_owned());
                }
            }
            Expr::Compare(left, _, right) => {
                let sides = [(left, right), (right, left)];
                for (value, text) in sides {
                    let text = std::slice::from_ref(&**text);
                    if let Some((column, class)) = sensitive_text(value, text, of, guards) {
                        return refuse(column.name, say_class(class));
                    }
                }
            }
            Expr::In { value, list, .. } => {
                if let Some((column, class)) = sensitive_text(value, list, of, guards) {
                    return refuse(column.name, say_class(class));
                }
            }
            Expr::Count { of: fact, name, .. } => {
                if of.scope == SegmentScope::Household {
                    let what = format!(
                        "what one member did ({}); an attribute of the household would be right",
                        fact.function()
                    );
                    return refuse(name, what);
                }
                if *fact == Fact::Pages && (guards.is_sensitive)(name) {
                    let what =
                        "a sensitive category, which is never counted; another would be right";
                    return refuse(name, what.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn say_class(class: AttributeClass) -> String {
    let class = class.name();
    format!(
        "a {class} attribute; basis = \"explicit_consent\" and {class} in import.classes would be right"
    )
}

/// Returns the column, and the class of a text beside it that the segment may not name.
fn sensitive_text(
    value: &Expr,
    texts: &[Expr],
    of: &Definition<'_>,
    guards: &Guards<'_>,
) -> Option<(&'static ProfileColumn, AttributeClass)> {
    let column = column_of(value)?;
    let classes = texts.iter().filter_map(|text| match text {
        Expr::Text(text) => Some(column.class_of(text)),
        _ => None,
    });
    let mut refused = classes.filter(|class| !guards.allow(of, *class));
    refused.next().map(|class| (column, class))
}
