//! All segments of a configuration: read, checked against each other, and ready to be evaluated.

use std::collections::HashMap;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::SegmentScope;
use super::explain::{self, Words};
use super::guard::{self, Guards};
use super::parse::{Mistake, Parsed, parse};
use super::sql::{self, Uses};
use super::tree::Expr;
use crate::attribute::AttributeClass;

/// How many parts a condition may have with those of the segments that it names.
const PARTS_MAX: usize = 1_000;

/// A segment as the configuration has it.
#[derive(Clone, Copy, Debug)]
pub struct Definition<'c> {
    /// Its key.
    pub key: &'c str,
    /// What visitors are told that it is called.
    pub names: [&'c str; 2],
    /// Who is in it.
    pub expression: &'c str,
    /// Whose facts count.
    pub scope: SegmentScope,
    /// Whether explicit consent is its basis.
    pub is_consented: bool,
    /// With fewer members nobody is told of it.
    pub min_size: u64,
    /// Whether partners are told of it.
    pub is_exported: bool,
    /// The last day on which it is used, since 1970.
    pub last_day: Option<i32>,
}

/// A segment that can be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its key.
    pub key: String,
    /// What its members are told that it is called, in Swedish and in English.
    pub names: [String; 2],
    /// The condition, as SQL over a row of the view `profile`.
    pub sql: String,
    /// A hash of what decides who is in it.
    pub digest: String,
    /// With fewer members nobody is told of it: the greatest of its own and its attributes' least.
    pub min_size: u64,
    /// The last day on which it is used, since 1970.
    pub last_day: Option<i32>,
    /// Who is in it, in words.
    pub words: Words,
}

impl Segment {
    /// Returns a query with the condition where it has `/* condition */`. What the condition needs
    /// of the subjects that `subjects` names, an array in SQL, goes to `/* kin */`, behind
    /// `profile`.
    #[must_use]
    pub fn fill(&self, query: &str, subjects: &str) -> String {
        sql::fill(query, &self.sql, subjects)
    }
}

/// All segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// In the order of the configuration.
    pub segments: Vec<Segment>,
}

impl Book {
    /// Reads the segments of a configuration.
    ///
    /// # Errors
    /// The mistakes, each with the place of its segment among the definitions.
    pub fn read(
        definitions: &[Definition<'_>],
        guards: &Guards<'_>,
    ) -> Result<Book, Vec<(usize, Mistake)>> {
        let mut parsed = HashMap::new();
        let mut mistakes = Vec::new();
        for (index, definition) in definitions.iter().enumerate() {
            match parse(definition.expression) {
                Ok(read) => drop(parsed.insert(definition.key, (*definition, read))),
                Err(mistake) => mistakes.push((index, mistake)),
            }
        }
        let broken = mistakes
            .iter()
            .filter_map(|(index, _)| definitions.get(*index));
        let pages = Pages {
            broken: broken.map(|definition| definition.key).collect(),
            parsed: &parsed,
        };
        let mut segments = Vec::new();
        for (index, definition) in definitions.iter().enumerate() {
            let Some((_, read)) = parsed.get(definition.key) else {
                continue;
            };
            match pages.finish(definition, read, guards) {
                Ok(segment) => segments.push(segment),
                Err(mistake) => mistakes.push((index, mistake)),
            }
        }
        mistakes.sort_by_key(|(index, _)| *index);
        match mistakes.is_empty() {
            true => Ok(Book { segments }),
            false => Err(mistakes),
        }
    }
}

/// The segments that could be parsed.
struct Pages<'p, 'c> {
    /// The others. What follows from a mistake in one of them is not worth a message.
    broken: Vec<&'c str>,
    parsed: &'p HashMap<&'c str, (Definition<'c>, Parsed)>,
}

/// An expression with the scope in which it stands, and the segment that was named for it.
type Used<'p> = (&'p Expr, SegmentScope, Option<&'p str>);

impl<'p, 'c> Pages<'p, 'c> {
    fn finish(
        &self,
        definition: &Definition<'c>,
        read: &'p Parsed,
        guards: &Guards<'_>,
    ) -> Result<Segment, Mistake> {
        let mut used = Vec::new();
        let mut path = vec![definition.key];
        self.collect(
            (&read.condition, definition.scope, None),
            read,
            &mut path,
            &mut used,
        )?;
        let groups = used.iter().filter_map(|(part, ..)| match part {
            Expr::Column(column) => column.attribute.map(|known| known.min_group.into()),
            _ => None,
        });
        let min_size = groups.fold(definition.min_size, u64::max);
        guard::check(definition, read, used, guards)?;
        let inner = |key: &str| {
            let (definition, parsed) = self.parsed.get(key)?;
            Some((&parsed.condition, definition.scope))
        };
        let uses = Uses {
            is_exported: definition.is_exported,
            sees_minors: guards.allow(definition, AttributeClass::Minor),
        };
        let sql = sql::for_postgres(&read.condition, definition.scope, &inner, uses);
        let name = |key: &str| self.parsed.get(key).map(|(of, _)| of.names);
        let digest = Sha256::digest(sql.as_bytes());
        Ok(Segment {
            key: definition.key.to_owned(),
            names: definition.names.map(str::to_owned),
            digest: HEXLOWER.encode(&digest),
            words: explain::explain(&read.condition, &name),
            min_size,
            last_day: definition.last_day,
            sql,
        })
    }

    /// Collects an expression and each below it, those of the segments that it names among them.
    fn collect(
        &self,
        (expression, scope, by_way_of): Used<'p>,
        root: &Parsed,
        path: &mut Vec<&'p str>,
        used: &mut Vec<Used<'p>>,
    ) -> Result<(), Mistake>
    where
        'c: 'p,
    {
        let mut below: Vec<&Expr> = Vec::new();
        expression.visit(&mut |part| below.push(part));
        for part in below {
            used.push((part, scope, by_way_of));
            let Expr::InSegment(key) = part else {
                continue;
            };
            let named = by_way_of.unwrap_or(key);
            if used.len() > PARTS_MAX {
                let what = format!(
                    "with the segments that it names it has more than {PARTS_MAX} parts; fewer would be right"
                );
                return Err(root.mistake(named, what));
            }
            if path.contains(&key.as_str()) {
                let mut round = path.clone();
                round.push(key);
                let round = round.join(" -> ");
                let what = format!("a segment by way of itself ({round}); none would be right");
                return Err(root.mistake(named, what));
            }
            let Some((definition, parsed)) = self.parsed.get(key.as_str()) else {
                if self.broken.contains(&key.as_str()) {
                    continue;
                }
                let what = format!("{key} is no segment; the key of one would be right");
                return Err(root.mistake(named, what));
            };
            path.push(key);
            let inner = (&parsed.condition, definition.scope, Some(named));
            self.collect(inner, root, path, used)?;
            path.pop();
        }
        Ok(())
    }
}
