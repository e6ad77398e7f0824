//! Reads an expression: what the parser of SQL understands of it becomes our own tree, or a mistake
//! with its place in the text.
//!
//! The parser knows all of SQL, and this is the only place that takes something from it. Whatever
//! is not named here is refused, so a new version of the parser allows nothing new.

mod value;

use sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr as Sql, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, InTarget, ObjectNamePart, Spanned as _, UnaryOperator, Value,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token};

pub(super) use value::column_of;
use value::{check_values, column, days_of, literal, suggest, text_in, text_of};

use super::column::ProfileColumn;
use super::tree::{Comparison, Expr, Fact};
use super::{TEXT_BYTES_MAX, ValueType};

/// How deep an expression may nest. A chain of `and` or `or` is one level.
const DEPTH_MAX: usize = 24;
/// The same for the parser, which counts each of its own steps.
const PARSER_DEPTH_MAX: usize = 64;
/// How many values, columns and operators there may be.
const NODES_MAX: usize = 300;
/// The most days that a span may have.
const SPAN_DAYS_MAX: u16 = 366;
const _: () = assert!(SPAN_DAYS_MAX == 366, "SPAN has it too");

const ALLOWED: &str = "columns of profile, comparisons, and, or, not, in, between, is null, \
                       coalesce, case, events, pages, seen or in_segment";
const SPAN: &str = "a span such as '14 days' or '2 weeks', up to 366 days";

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct Mistake {
    /// The line of the expression, from 1.
    pub line: u64,
    /// The character in the line, from 1.
    pub column: u64,
    /// What it is, and what would be right.
    pub what: String,
}

impl Mistake {
    fn new(at: Location, what: impl Into<String>) -> Mistake {
        Mistake {
            line: at.line.max(1),
            column: at.column.max(1),
            what: what.into(),
        }
    }

    /// Makes one about the whole expression.
    pub(super) fn of_whole(what: impl Into<String>) -> Mistake {
        Mistake::new(Location { line: 1, column: 1 }, what)
    }
}

/// An expression that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The expression.
    pub condition: Expr,
    /// Where each column, category and segment was named first.
    places: Vec<(String, Location)>,
}

impl Parsed {
    /// Makes a mistake about a name, where that stands.
    pub(super) fn mistake(&self, name: &str, what: impl Into<String>) -> Mistake {
        let found = self.places.iter().find(|(known, _)| known == name);
        let first = Location { line: 1, column: 1 };
        Mistake::new(found.map_or(first, |(_, place)| *place), what)
    }
}

/// Reads a condition.
///
/// # Errors
/// The first mistake.
pub fn parse(text: &str) -> Result<Parsed, Mistake> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Mistake::of_whole(format!(
            "the expression has more than {TEXT_BYTES_MAX} bytes; fewer would be right"
        )));
    }
    let dialect = PostgreSqlDialect {};
    let read = Parser::new(&dialect)
        .with_recursion_limit(PARSER_DEPTH_MAX)
        .try_with_sql(text)
        .and_then(|mut parser| {
            let parsed = parser.parse_expr()?;
            Ok((parsed, parser.next_token()))
        });
    let (parsed, rest) = read.map_err(|error| of_parser(error, text))?;
    if rest.token != Token::EOF {
        let what = format!(
            "{} cannot follow; the end, and or or would be right",
            rest.token
        );
        return Err(Mistake::new(rest.span.start, what));
    }
    let mut reader = Reader::default();
    let condition = reader.read_as(&parsed, ValueType::Truth, 0, start_of(&parsed))?;
    let places = reader.places;
    Ok(Parsed { condition, places })
}

/// Makes a mistake of what the parser says, which ends in the place. Without one it means the end
/// of the expression.
fn of_parser(error: ParserError, whole: &str) -> Mistake {
    let text = match error {
        ParserError::RecursionLimitExceeded => {
            return Mistake::of_whole(
                "the expression nests too deeply; fewer levels would be right",
            );
        }
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
    };
    let place = text.rsplit_once(" at Line: ").and_then(|(what, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        let location = Location {
            line: line.trim().parse().ok()?,
            column: column.trim().parse().ok()?,
        };
        Some((what.to_owned(), location))
    });
    let (what, at) = place.unwrap_or_else(|| {
        let last = whole.rsplit('\n').next().unwrap_or_default();
        let end = Location {
            line: 1 + whole.matches('\n').count() as u64,
            column: 1 + last.chars().count() as u64,
        };
        (text, end)
    });
    let what = what.strip_prefix("sql parser error: ").unwrap_or(&what);
    Mistake::new(at, format!("no expression of SQL ({what})"))
}

fn start_of(sql: &Sql) -> Location {
    sql.span().start
}

/// Reads one expression.
#[derive(Default)]
struct Reader {
    nodes: usize,
    places: Vec<(String, Location)>,
}

impl Reader {
    /// Reads an expression that has to be of a type.
    fn read_as(
        &mut self,
        sql: &Sql,
        wanted: ValueType,
        depth: usize,
        outer: Location,
    ) -> Result<Expr, Mistake> {
        let (read, holds) = self.read(sql, depth, outer)?;
        if holds == wanted {
            return Ok(read);
        }
        let (is, right) = (holds.name(), wanted.name());
        Err(Mistake::new(
            place(sql, outer),
            format!("{sql} is {is}; {right} would be right"),
        ))
    }

    fn read(
        &mut self,
        sql: &Sql,
        depth: usize,
        outer: Location,
    ) -> Result<(Expr, ValueType), Mistake> {
        let at = place(sql, outer);
        self.nodes += 1;
        if depth > DEPTH_MAX || self.nodes > NODES_MAX {
            let what = format!(
                "the expression has more than {DEPTH_MAX} levels or {NODES_MAX} parts; fewer would be right"
            );
            return Err(Mistake::new(at, what));
        }
        let below = depth + 1;
        match sql {
            Sql::Nested(inner) => self.read(inner, below, at),
            Sql::Identifier(name) => {
                let column = column(name, at)?;
                self.places.push((column.name.to_owned(), at));
                Ok((Expr::Column(column), column.holds))
            }
            Sql::Value(value) => literal(&value.value, at),
            Sql::UnaryOp {
                op: UnaryOperator::Minus,
                expr,
            } => negative(expr).map_or_else(|| Err(refuse(sql, at)), |expr| literal(&expr, at)),
            Sql::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            } => {
                let read = self.read_as(expr, ValueType::Truth, below, at)?;
                Ok((Expr::Not(Box::new(read)), ValueType::Truth))
            }
            Sql::BinaryOp { op, .. } if matches!(op, BinaryOperator::And | BinaryOperator::Or) => {
                self.chain(sql, op, below, at)
            }
            Sql::BinaryOp { left, op, right } => self.compare((left, op, right), sql, below, at),
            Sql::In {
                expr,
                target: InTarget::List(list),
                negated,
                global: false,
            } => self.is_in(expr, list, *negated, (below, at)),
            Sql::Between {
                expr,
                negated,
                low,
                high,
            } => {
                let mut number = |sql| {
                    self.read_as(sql, ValueType::Number, below, at)
                        .map(Box::new)
                };
                let read = Expr::Between {
                    value: number(expr)?,
                    low: number(low)?,
                    high: number(high)?,
                    is_negated: *negated,
                };
                Ok((read, ValueType::Truth))
            }
            Sql::IsNull(value) => self.is_null(value, false, (below, at)),
            Sql::IsNotNull(value) => self.is_null(value, true, (below, at)),
            Sql::Case {
                operand,
                conditions,
                else_result,
                ..
            } => self.case((operand, conditions, else_result), (below, at)),
            Sql::Function(function) => self.function(function, sql, below, at),
            _ => Err(refuse(sql, at)),
        }
    }

    /// Reads a chain of one operator as one level, however many it joins.
    fn chain(
        &mut self,
        sql: &Sql,
        of: &BinaryOperator,
        depth: usize,
        at: Location,
    ) -> Result<(Expr, ValueType), Mistake> {
        let mut reversed = Vec::new();
        let mut rest = sql;
        while let Sql::BinaryOp { left, op, right } = rest
            && op == of
        {
            reversed.push(&**right);
            rest = left;
        }
        reversed.push(rest);
        let parts = reversed.into_iter().rev();
        let parts = parts
            .map(|part| self.read_as(part, ValueType::Truth, depth, at))
            .collect::<Result<Vec<_>, _>>()?;
        let read = match of {
            BinaryOperator::And => Expr::All(parts),
            _ => Expr::Any(parts),
        };
        Ok((read, ValueType::Truth))
    }

    fn compare(
        &mut self,
        (left, op, right): (&Sql, &BinaryOperator, &Sql),
        sql: &Sql,
        depth: usize,
        at: Location,
    ) -> Result<(Expr, ValueType), Mistake> {
        let comparison = match op {
            BinaryOperator::Eq => Comparison::Equal,
            BinaryOperator::NotEq => Comparison::Unequal,
            BinaryOperator::Lt => Comparison::Less,
            BinaryOperator::LtEq => Comparison::LessOrEqual,
            BinaryOperator::Gt => Comparison::Greater,
            BinaryOperator::GtEq => Comparison::GreaterOrEqual,
            _ => return Err(refuse(sql, at)),
        };
        let (one, holds) = self.read(left, depth, at)?;
        let other = self.read_as(right, holds, depth, at)?;
        let is_step = [(&one, &other), (&other, &one)]
            .into_iter()
            .any(|(value, text)| {
                text_in(text).is_some() && column_of(value).is_some_and(ProfileColumn::has_order)
            });
        if comparison.is_of_order() && holds != ValueType::Number && !is_step {
            let sign = comparison.sign();
            let what = format!(
                "{left} {sign}: only numbers and bands have an order; = or <> would be right"
            );
            return Err(Mistake::new(at, what));
        }
        check_values(&one, [&other], place(right, at))?;
        check_values(&other, [&one], place(left, at))?;
        let read = Expr::Compare(Box::new(one), comparison, Box::new(other));
        Ok((read, ValueType::Truth))
    }

    fn is_in(
        &mut self,
        value: &Sql,
        list: &[Sql],
        is_negated: bool,
        (depth, at): (usize, Location),
    ) -> Result<(Expr, ValueType), Mistake> {
        let (value, holds) = self.read(value, depth, at)?;
        let list = list
            .iter()
            .map(|one| self.read_as(one, holds, depth, at))
            .collect::<Result<Vec<_>, _>>()?;
        if list.is_empty() {
            return Err(Mistake::new(
                at,
                "the list is empty; a value in it would be right",
            ));
        }
        check_values(&value, &list, at)?;
        let value = Box::new(value);
        let read = Expr::In {
            value,
            list,
            is_negated,
        };
        Ok((read, ValueType::Truth))
    }

    fn is_null(
        &mut self,
        value: &Sql,
        is_negated: bool,
        (depth, at): (usize, Location),
    ) -> Result<(Expr, ValueType), Mistake> {
        let (value, _) = self.read(value, depth, at)?;
        let value = Box::new(value);
        Ok((Expr::IsNull { value, is_negated }, ValueType::Truth))
    }

    fn case(
        &mut self,
        (operand, conditions, otherwise): (&Option<Box<Sql>>, &[CaseWhen], &Option<Box<Sql>>),
        (depth, at): (usize, Location),
    ) -> Result<(Expr, ValueType), Mistake> {
        if let Some(operand) = operand {
            let what = format!("case {operand} when …; case when {operand} = … would be right");
            return Err(Mistake::new(place(operand, at), what));
        }
        let mut holds = None;
        let mut cases = Vec::new();
        for CaseWhen { condition, result } in conditions {
            let condition = self.read_as(condition, ValueType::Truth, depth, at)?;
            let (value, first) = match holds {
                None => self.read(result, depth, at)?,
                Some(holds) => (self.read_as(result, holds, depth, at)?, holds),
            };
            holds = Some(first);
            cases.push((condition, value));
        }
        let Some(holds) = holds else {
            return Err(Mistake::new(at, "case has no when; one would be right"));
        };
        let otherwise = otherwise.as_deref();
        let otherwise = otherwise
            .map(|value| self.read_as(value, holds, depth, at).map(Box::new))
            .transpose()?;
        Ok((Expr::Case { cases, otherwise }, holds))
    }

    fn function(
        &mut self,
        function: &Function,
        sql: &Sql,
        depth: usize,
        at: Location,
    ) -> Result<(Expr, ValueType), Mistake> {
        let Some((name, arguments)) = plain_call(function) else {
            return Err(refuse(sql, at));
        };
        if name == "coalesce" {
            return self.coalesce(&arguments, depth, at);
        }
        if name == "in_segment" {
            let [key] = &*arguments else {
                return Err(Mistake::new(at, "in_segment('key') would be right"));
            };
            let key = text_of(key, "the key of a segment", at)?;
            self.places.push((key.clone(), at));
            return Ok((Expr::InSegment(key), ValueType::Truth));
        }
        let found = Fact::ALL.iter().find(|(_, function, _)| *function == name);
        let Some((of, function, _)) = found else {
            let known = ["coalesce", "events", "pages", "seen", "in_segment"];
            let what = format!("{name} is no function; {}", suggest(known, &name));
            return Err(Mistake::new(at, what));
        };
        let [what, span] = &*arguments else {
            let what = format!("{function}('name', '14 days') would be right");
            return Err(Mistake::new(at, what));
        };
        let name = text_of(what, "a name in quotes", at)?;
        let days = text_of(span, SPAN, at)?;
        let Some(days) = days_of(&days) else {
            let what = format!("'{days}' is no span; {SPAN} would be right");
            return Err(Mistake::new(place(span, at), what));
        };
        let of = *of;
        self.places.push((name.clone(), at));
        Ok((Expr::Count { of, name, days }, ValueType::Number))
    }

    fn coalesce(
        &mut self,
        arguments: &[&Sql],
        depth: usize,
        at: Location,
    ) -> Result<(Expr, ValueType), Mistake> {
        let Some((first, rest)) = arguments.split_first().filter(|(_, rest)| !rest.is_empty())
        else {
            let what = "coalesce has one value or none; at least two would be right";
            return Err(Mistake::new(at, what));
        };
        let (first, holds) = self.read(first, depth, at)?;
        let mut values = vec![first];
        for value in rest {
            values.push(self.read_as(value, holds, depth, at)?);
        }
        Ok((Expr::Coalesce(values), holds))
    }
}

/// Returns where an expression begins; where the parser does not say, where the one around it does.
fn place(sql: &Sql, outer: Location) -> Location {
    let start = start_of(sql);
    if start.line == 0 { outer } else { start }
}

/// Returns the number that has a minus before it.
fn negative(number: &Sql) -> Option<Value> {
    match number {
        Sql::Value(value) => match &value.value {
            Value::Number(digits, is_long) => Some(Value::Number(format!("-{digits}"), *is_long)),
            _ => None,
        },
        _ => None,
    }
}

fn refuse(sql: &Sql, at: Location) -> Mistake {
    let shown: String = sql.to_string().chars().take(60).collect();
    Mistake::new(
        at,
        format!("{shown} is not allowed; {ALLOWED} would be right"),
    )
}

/// Returns the name and the arguments of a call that has nothing besides.
fn plain_call(function: &Function) -> Option<(String, Vec<&Sql>)> {
    let Function {
        name,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(list),
        within_group,
        filter: None,
        null_treatment: None,
        over: None,
        ..
    } = function
    else {
        return None;
    };
    let [ObjectNamePart::Identifier(name)] = &*name.0 else {
        return None;
    };
    let is_plain = within_group.is_empty()
        && list.duplicate_treatment.is_none()
        && list.clauses.is_empty()
        && name.quote_style.is_none();
    let arguments = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value),
        _ => None,
    });
    let arguments = arguments.collect::<Option<Vec<_>>>()?;
    is_plain.then(|| (name.value.to_lowercase(), arguments))
}
