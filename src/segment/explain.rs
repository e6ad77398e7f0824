//! Says in words who is in a segment, for the visitor: in Swedish and in English.

use super::parse::column_of;
use super::tree::{Comparison, Expr, Fact};

/// The same in both languages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// In Swedish.
    pub sv: String,
    /// In English.
    pub en: String,
}

impl Words {
    fn new(sv: impl Into<String>, en: impl Into<String>) -> Words {
        Words {
            sv: sv.into(),
            en: en.into(),
        }
    }

    /// Puts them between other words.
    fn wrap_between(self, sv: [&str; 2], en: [&str; 2]) -> Words {
        let wrap = |[before, after]: [&str; 2], text: &str| format!("{before}{text}{after}");
        Words::new(wrap(sv, &self.sv), wrap(en, &self.en))
    }

    fn join(parts: Vec<Words>, sv: &str, en: &str) -> Words {
        let texts = |of: fn(&Words) -> &str| parts.iter().map(of).collect::<Vec<_>>();
        Words::new(
            texts(|words| &words.sv).join(sv),
            texts(|words| &words.en).join(en),
        )
    }
}

/// The names of another segment.
pub(super) type NamesOf<'b> = &'b dyn Fn(&str) -> Option<[&'b str; 2]>;

/// Returns a condition in words.
pub(super) fn explain(condition: &Expr, names: NamesOf<'_>) -> Words {
    let words = |value: &Expr| explain(value, names);
    match condition {
        Expr::Column(column) => Words::new(column.text_sv, column.text_en),
        Expr::Text(text) => Words::new(format!("”{text}”"), format!("“{text}”")),
        Expr::Number(number) => Words::new(number.replace('.', ","), number.as_str()),
        Expr::Truth(true) => Words::new("ja", "yes"),
        Expr::Truth(false) => Words::new("nej", "no"),
        Expr::Compare(left, comparison, right) => compare(left, *comparison, right, names),
        Expr::All(parts) => Words::join(
            parts
                .iter()
                .map(|part| explain_nested(part, names))
                .collect(),
            " och ",
            " and ",
        ),
        Expr::Any(parts) => Words::join(
            parts
                .iter()
                .map(|part| explain_nested(part, names))
                .collect(),
            " eller ",
            " or ",
        ),
        Expr::Not(value) => explain_nested(value, names)
            .wrap_between(["det stämmer inte att ", ""], ["it is not so that ", ""]),
        Expr::In { .. } | Expr::Between { .. } => explain_range(condition, names),
        Expr::Coalesce(values) => Words::join(
            values.iter().map(words).collect(),
            " eller, om det är okänt, ",
            " or, if that is unknown, ",
        ),
        Expr::Case { cases, otherwise } => {
            let mut parts: Vec<Words> = cases
                .iter()
                .map(|(when, then)| {
                    Words::join(vec![words(when), words(then)], ": ", ": ")
                        .wrap_between(["om ", ""], ["if ", ""])
                })
                .collect();
            if let Some(value) = otherwise {
                parts.push(words(value).wrap_between(["annars ", ""], ["else ", ""]));
            }
            Words::join(parts, ", ", ", ").wrap_between(["(", ")"], ["(", ")"])
        }
        Expr::IsNull {
            value,
            is_negated: true,
        } => words(value).wrap_between(["", " är känt"], ["", " is known"]),
        Expr::IsNull { value, .. } => {
            words(value).wrap_between(["", " är okänt"], ["", " is unknown"])
        }
        Expr::Count { of, name, days } => count(*of, name, *days).wrap_between(
            ["antalet gånger som ", ""],
            ["the number of times that ", ""],
        ),
        Expr::InSegment(key) => {
            let [sv, en] = names(key).unwrap_or([key, key]);
            Words::new(
                format!("du är i gruppen ”{sv}”"),
                format!("you are in the group “{en}”"),
            )
        }
    }
}

/// Says whether a value is one of several, or between two.
fn explain_range(condition: &Expr, names: NamesOf<'_>) -> Words {
    let (value, sv, en, others) = match condition {
        Expr::In {
            value,
            list,
            is_negated,
        } => {
            let (sv, en) = match is_negated {
                true => (" är inget av ", " is none of "),
                false => (" är något av ", " is one of "),
            };
            let list = list.iter().map(|one| explain_beside(one, value, names));
            (value, sv, en, Words::join(list.collect(), ", ", ", "))
        }
        Expr::Between {
            value,
            low,
            high,
            is_negated,
        } => {
            let (sv, en) = match is_negated {
                true => (" är inte mellan ", " is not between "),
                false => (" är mellan ", " is between "),
            };
            let bounds = vec![explain(low, names), explain(high, names)];
            (value, sv, en, Words::join(bounds, " och ", " and "))
        }
        _ => return Words::default(),
    };
    Words::join(vec![explain(value, names), others], sv, en)
}

/// Returns a part in brackets if it is a chain itself.
fn explain_nested(part: &Expr, names: NamesOf<'_>) -> Words {
    let words = explain(part, names);
    match part {
        Expr::All(_) | Expr::Any(_) => words.wrap_between(["(", ")"], ["(", ")"]),
        _ => words,
    }
}

fn compare(left: &Expr, comparison: Comparison, right: &Expr, names: NamesOf<'_>) -> Words {
    if let (Expr::Count { of, name, days }, Expr::Number(times)) = (left, right) {
        return often(count(*of, name, *days), comparison, times);
    }
    let (sv, en) = match comparison {
        Comparison::Equal => (" är ", " is "),
        Comparison::Unequal => (" är inte ", " is not "),
        Comparison::Less => (" är mindre än ", " is less than "),
        Comparison::LessOrEqual => (" är högst ", " is at most "),
        Comparison::Greater => (" är mer än ", " is more than "),
        Comparison::GreaterOrEqual => (" är minst ", " is at least "),
    };
    let sides = [(left, right), (right, left)];
    let sides = sides.map(|(side, other)| explain_beside(side, other, names));
    Words::join(sides.to_vec(), sv, en)
}

/// Returns a value in words: what stands beside an attribute is one of its words.
fn explain_beside(value: &Expr, other: &Expr, names: NamesOf<'_>) -> Words {
    let attribute = column_of(other).and_then(|column| column.attribute);
    let word = attribute.into_iter().flat_map(|attribute| attribute.words);
    let mut word = word.filter(|word| matches!(value, Expr::Text(text) if text == word.word));
    match word.next() {
        Some(word) => Words::new(word.text_sv, word.text_en),
        None => explain(value, names),
    }
}

/// Says how often something happened.
fn often(happened: Words, comparison: Comparison, times: &str) -> Words {
    let (sv, en) = match (comparison, times) {
        (Comparison::Equal, "0") | (Comparison::Less, "1") | (Comparison::LessOrEqual, "0") => {
            return happened.wrap_between(
                ["det har inte hänt att ", ""],
                ["it has not happened that ", ""],
            );
        }
        (Comparison::Greater, "0") | (Comparison::GreaterOrEqual, "1") => {
            ("minst en gång", "at least once")
        }
        (Comparison::Equal, _) => ("exakt %", "exactly %"),
        (Comparison::Unequal, _) => ("inte %", "not %"),
        (Comparison::Less, _) => ("färre än %", "fewer than %"),
        (Comparison::LessOrEqual, _) => ("högst %", "at most %"),
        (Comparison::Greater, _) => ("fler än %", "more than %"),
        (Comparison::GreaterOrEqual, _) => ("minst %", "at least %"),
    };
    let one = times == "1";
    let sv = sv.replace(
        '%',
        &format!("{times} {}", if one { "gång" } else { "gånger" }),
    );
    let en = en.replace(
        '%',
        &format!("{times} {}", if one { "time" } else { "times" }),
    );
    happened.wrap_between(["", &format!(", {sv}")], ["", &format!(", {en}")])
}

/// Says what happened, and within how many days.
fn count(of: Fact, name: &str, days: u16) -> Words {
    let (sv, en) = match of {
        Fact::Events => (
            format!("”{name}” registrerades"),
            format!("“{name}” was recorded"),
        ),
        Fact::Pages => (
            format!("du läste om ”{name}”"),
            format!("you read about “{name}”"),
        ),
        Fact::Seen => (
            format!("du såg annonser i ”{name}”"),
            format!("you saw ads of “{name}”"),
        ),
    };
    let (in_sv, in_en) = match days {
        1 => ("i dag".to_owned(), "today".to_owned()),
        days => (
            format!("de senaste {days} dagarna"),
            format!("in the last {days} days"),
        ),
    };
    Words::new(format!("{sv} {in_sv}"), format!("{en} {in_en}"))
}
