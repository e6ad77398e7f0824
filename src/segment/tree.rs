//! The tree of an expression: all that is allowed, and nothing else.

use super::column::ProfileColumn;

/// An expression that was read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// A column of the view `profile`.
    Column(&'static ProfileColumn),
    /// A text.
    Text(String),
    /// A number, as `-?digits` with up to six more behind a point.
    Number(String),
    /// `true` or `false`.
    Truth(bool),
    /// Two values side by side.
    Compare(Box<Expr>, Comparison, Box<Expr>),
    /// `and` of at least two.
    All(Vec<Expr>),
    /// `or` of at least two.
    Any(Vec<Expr>),
    /// `not`.
    Not(Box<Expr>),
    /// Whether a value is one of several.
    In {
        /// The value.
        value: Box<Expr>,
        /// The several.
        list: Vec<Expr>,
        /// Whether it is to be none of them.
        is_negated: bool,
    },
    /// Whether a value lies between two others, or is one of the two.
    Between {
        /// The value.
        value: Box<Expr>,
        /// The least.
        low: Box<Expr>,
        /// The greatest.
        high: Box<Expr>,
        /// Whether it is not to.
        is_negated: bool,
    },
    /// The first of several values that is not null.
    Coalesce(Vec<Expr>),
    /// The value of the first condition that holds.
    Case {
        /// Conditions, each with its value.
        cases: Vec<(Expr, Expr)>,
        /// The value where none holds.
        otherwise: Option<Box<Expr>>,
    },
    /// Whether a value is null.
    IsNull {
        /// The value.
        value: Box<Expr>,
        /// Whether it is not to be.
        is_negated: bool,
    },
    /// How often something happened.
    Count {
        /// What.
        of: Fact,
        /// The event's name, the category of pages, or the campaign.
        name: String,
        /// In how many days, of which today is the last.
        days: u16,
    },
    /// Whether the subject is in another segment.
    InSegment(String),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is what its sign says")]
pub enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// Every comparison with its sign.
    pub const ALL: [(Comparison, &'static str); 6] = [
        (Comparison::Equal, "="),
        (Comparison::Unequal, "<>"),
        (Comparison::Less, "<"),
        (Comparison::LessOrEqual, "<="),
        (Comparison::Greater, ">"),
        (Comparison::GreaterOrEqual, ">="),
    ];

    /// Returns its sign in SQL.
    #[must_use]
    pub fn sign(self) -> &'static str {
        let found = Comparison::ALL.iter().find(|(known, _)| *known == self);
        found.map_or("=", |(_, sign)| sign)
    }

    /// Returns whether it asks for an order.
    #[must_use]
    pub(crate) fn is_of_order(self) -> bool {
        !matches!(self, Comparison::Equal | Comparison::Unequal)
    }
}

/// What is counted by subject and day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Events, by their names.
    Events,
    /// Views of pages, by their category.
    Pages,
    /// Impressions of ads, by their campaign.
    Seen,
}

impl Fact {
    /// Each with the name of its function and the word for it in `subject_day.kind`.
    pub const ALL: [(Fact, &'static str, &'static str); 3] = [
        (Fact::Events, "events", "event"),
        (Fact::Pages, "pages", "page"),
        (Fact::Seen, "seen", "ad"),
    ];

    /// Returns the name of its function.
    #[must_use]
    pub fn function(self) -> &'static str {
        let found = Fact::ALL.iter().find(|(known, ..)| *known == self);
        found.map_or("", |(_, function, _)| function)
    }

    /// Returns the word in `subject_day.kind`.
    #[must_use]
    pub fn kind(self) -> &'static str {
        let found = Fact::ALL.iter().find(|(known, ..)| *known == self);
        found.map_or("", |(.., kind)| kind)
    }
}

impl Expr {
    /// Returns the expressions directly below it.
    #[must_use]
    pub fn parts(&self) -> Vec<&Expr> {
        match self {
            Expr::Column(_)
            | Expr::Text(_)
            | Expr::Number(_)
            | Expr::Truth(_)
            | Expr::Count { .. }
            | Expr::InSegment(_) => Vec::new(),
            Expr::Compare(left, _, right) => vec![left, right],
            Expr::All(parts) | Expr::Any(parts) | Expr::Coalesce(parts) => parts.iter().collect(),
            Expr::Not(value) | Expr::IsNull { value, .. } => vec![value],
            Expr::In { value, list, .. } => std::iter::once(&**value).chain(list).collect(),
            Expr::Between {
                value, low, high, ..
            } => vec![value, low, high],
            Expr::Case { cases, otherwise } => {
                let cases = cases.iter().flat_map(|(when, then)| [when, then]);
                cases.chain(otherwise.as_deref()).collect()
            }
        }
    }

    /// Calls a function with this expression and each below it.
    pub fn visit<'e>(&'e self, see: &mut impl FnMut(&'e Expr)) {
        see(self);
        for part in self.parts() {
            part.visit(see);
        }
    }
}
