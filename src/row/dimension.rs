//! Dimensions: the tables that hold what many rows have in common.
//!
//! A dimension row's key is the XXH3 64-bit hash of its content (each text with its length before
//! it, numbers as little-endian bytes), so that any number of loaders agree on it without asking
//! each other. Two contents share a key with probability n²/2⁶⁵: 3·10⁻⁸ for a million rows.
//!
//! A dimension is one `impl` of [`Dimension`]. Its `columns` is the only list of its columns: the
//! key is computed from it, and the rows that a sink stores ([`DimensionRows`]) are filled by it.
//! Keys stand in databases, so what an existing dimension's `columns` gives, and in which order,
//! must never change.

use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

/// What a dimension's row holds.
pub trait Dimension {
    /// The table in the schema `avtryck`. A hit's row refers to it in the column `<table>_key`.
    const TABLE: &'static str;

    /// Gives each column but the key, with its value.
    fn columns(&self, to: &mut impl Columns);

    /// Returns the key of the row.
    fn key(&self) -> i64 {
        let mut hash = ContentHash(Xxh3::new());
        self.columns(&mut hash);
        hash.0.digest().cast_signed()
    }
}

/// What takes the columns of a row, in their order.
pub trait Columns {
    /// Takes a text, of which an empty one means unknown.
    fn text(&mut self, column: &'static str, text: &str);
    /// Takes a text that is never unknown, though it may be empty.
    fn name(&mut self, column: &'static str, text: &str);
    /// Takes a whole number.
    fn integer(&mut self, column: &'static str, number: Option<u32>);
    /// Takes a number.
    fn real(&mut self, column: &'static str, number: Option<f64>);
    /// Takes a truth value.
    fn boolean(&mut self, column: &'static str, is_so: bool);
}

/// The hash of a row's content.
struct ContentHash(Xxh3);

impl ContentHash {
    fn bits(&mut self, bits: Option<u64>) {
        self.0.update(&[u8::from(bits.is_some())]);
        self.0.update(&bits.unwrap_or(0).to_le_bytes());
    }
}

impl Columns for ContentHash {
    fn text(&mut self, _: &'static str, text: &str) {
        self.0.update(&(text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }

    fn name(&mut self, column: &'static str, text: &str) {
        self.text(column, text);
    }

    fn integer(&mut self, _: &'static str, number: Option<u32>) {
        self.bits(number.map(u64::from));
    }

    fn real(&mut self, _: &'static str, number: Option<f64>) {
        self.bits(number.map(f64::to_bits));
    }

    fn boolean(&mut self, _: &'static str, is_so: bool) {
        self.bits(Some(u64::from(is_so)));
    }
}

/// The content of a dimension row and its key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keyed<T> {
    /// [`Dimension::key`] of the value.
    pub key: i64,
    /// The content of the row.
    pub value: T,
}

impl<T: Dimension> Keyed<T> {
    /// Computes the key of `value`.
    #[must_use]
    pub fn new(value: T) -> Keyed<T> {
        Keyed {
            key: value.key(),
            value,
        }
    }
}

/// A dimension row that was found for a hit.
pub trait Found {
    /// Returns the row's key.
    fn key(&self) -> i64;
    /// Adds the row to those of its table.
    fn add_to(&self, rows: &mut DimensionRows);
}

impl<T: Dimension> Found for Keyed<T> {
    fn key(&self) -> i64 {
        self.key
    }

    fn add_to(&self, rows: &mut DimensionRows) {
        rows.push(self.key, &self.value);
    }
}

impl<T: Found> Found for Arc<T> {
    fn key(&self) -> i64 {
        T::key(self)
    }

    fn add_to(&self, rows: &mut DimensionRows) {
        T::add_to(self, rows);
    }
}

/// Rows of one dimension, column by column.
#[derive(Clone, Debug, Default)]
pub struct DimensionRows {
    keys: Vec<i64>,
    columns: Vec<(&'static str, Values)>,
}

/// The values of one column. Unknown ones are `None`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the variants are the types of columns")]
pub enum Values {
    Texts(Vec<Option<String>>),
    Integers(Vec<Option<i64>>),
    Reals(Vec<Option<f64>>),
    Booleans(Vec<Option<bool>>),
}

impl DimensionRows {
    /// Adds a row.
    pub fn push(&mut self, key: i64, row: &impl Dimension) {
        self.keys.push(key);
        row.columns(&mut Filler {
            columns: &mut self.columns,
            next: 0,
        });
    }

    /// Returns the keys of the rows.
    #[must_use]
    pub fn keys(&self) -> &[i64] {
        &self.keys
    }

    /// Returns the columns by name, each with a value for every key.
    #[must_use]
    pub fn columns(&self) -> &[(&'static str, Values)] {
        &self.columns
    }

    /// Removes every row.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.columns.clear();
    }
}

/// Adds one row to the columns, which the first row makes.
struct Filler<'r> {
    columns: &'r mut Vec<(&'static str, Values)>,
    next: usize,
}

impl Filler<'_> {
    /// Returns the next column, which `empty` makes where there is none.
    fn column(&mut self, name: &'static str, empty: Values) -> &mut Values {
        let index = self.next;
        self.next += 1;
        if index >= self.columns.len() {
            self.columns.push((name, empty));
        }
        match self.columns.get_mut(index) {
            Some((column, values)) if *column == name => values,
            _ => panic!("a dimension gave the column {name} in another place than before"),
        }
    }
}

macro_rules! fill {
    ($filler:ident, $column:ident, $kind:ident, $value:expr) => {
        match $filler.column($column, Values::$kind(Vec::new())) {
            Values::$kind(values) => values.push($value),
            _ => panic!(
                "a dimension gave the column {} another type than before",
                $column
            ),
        }
    };
}

impl Columns for Filler<'_> {
    fn text(&mut self, column: &'static str, text: &str) {
        let text = (!text.is_empty()).then(|| text.to_owned());
        fill!(self, column, Texts, text);
    }

    fn name(&mut self, column: &'static str, text: &str) {
        fill!(self, column, Texts, Some(text.to_owned()));
    }

    fn integer(&mut self, column: &'static str, number: Option<u32>) {
        fill!(self, column, Integers, number.map(i64::from));
    }

    fn real(&mut self, column: &'static str, number: Option<f64>) {
        fill!(self, column, Reals, number);
    }

    fn boolean(&mut self, column: &'static str, is_so: bool) {
        fill!(self, column, Booleans, Some(is_so));
    }
}
