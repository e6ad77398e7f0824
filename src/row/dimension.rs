//! Dimensions: the tables that hold what many rows have in common.
//!
//! A dimension row's key is a keyed hash of its content ([`Keyer`]), so that any number of loaders
//! agree on it without asking each other, and no stranger can choose it.
//!
//! A dimension is one `impl` of [`Dimension`]. Its `columns` is the only list of its columns: the
//! key is computed from it, and the rows that a sink stores ([`DimensionRows`]) are filled by it.
//! Keys stand in databases, so what an existing dimension's `columns` gives, and in which order,
//! must never change. [`ReadColumns`] makes a row of what its columns held.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};

use super::keyer::Keyer;

/// What a dimension's row holds.
pub trait Dimension {
    /// The table in the schema `avtryck`. A hit's row refers to it in the column `<table>_key`.
    const TABLE: &'static str;

    /// Gives each column but the key, with its value.
    fn columns(&self, to: &mut impl Columns);
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

/// A dimension whose rows can be read again, as messages to Kafka hold them.
pub trait ReadColumns: Dimension + Sized {
    /// Makes a row of its columns, which are read in the order in which [`Dimension::columns`]
    /// gives them.
    fn read(from: &mut impl ColumnValues) -> Self;
}

/// What gives the values of a row's columns, in their order. One that is absent is empty.
pub trait ColumnValues {
    /// Returns the next column, a text.
    fn text(&mut self) -> String;
    /// Returns the next column, a whole number.
    fn integer(&mut self) -> Option<u32>;
    /// Returns the next column, a number.
    fn real(&mut self) -> Option<f64>;
    /// Returns the next column, a truth value.
    fn boolean(&mut self) -> bool;
}

/// What the rows become that a hit would make beyond the limit of new rows in a day
/// (`loader.new_names_per_day`).
#[derive(Debug)]
pub struct StandIn {
    /// What new rows are counted for.
    pub scope: String,
    /// The one row that stands for all of them, with its key.
    pub row: (i64, DimensionRows),
}

impl StandIn {
    /// Makes a row that stands for those beyond the limit of a scope.
    #[must_use]
    pub fn new(scope: String, keyer: &Keyer, row: &impl Dimension) -> StandIn {
        let key = keyer.key(row);
        let mut rows = DimensionRows::default();
        rows.push(key, row);
        StandIn {
            scope,
            row: (key, rows),
        }
    }
}

/// What a stored row holds, by the names of its columns.
pub trait Stored {
    /// Why a value cannot be read.
    type Error;

    /// Returns a text, where the row has one.
    ///
    /// # Errors
    /// If it cannot be read.
    fn text(&self, column: &str) -> Result<Option<String>, Self::Error>;
    /// Returns a whole number, where the row has one.
    ///
    /// # Errors
    /// If it cannot be read.
    fn integer(&self, column: &str) -> Result<Option<i64>, Self::Error>;
    /// Returns a number, where the row has one.
    ///
    /// # Errors
    /// If it cannot be read.
    fn real(&self, column: &str) -> Result<Option<f64>, Self::Error>;
    /// Returns a truth value.
    ///
    /// # Errors
    /// If it cannot be read.
    fn boolean(&self, column: &str) -> Result<bool, Self::Error>;
}

/// Returns [`Keyer::new_key`] of a stored row.
///
/// # Errors
/// If the row cannot be read.
pub(crate) fn new_key_of_stored<D: Dimension + Default, S: Stored>(
    keyer: &Keyer,
    stored: &S,
) -> Result<i64, S::Error> {
    let row = StoredRow {
        stored,
        names: D::default(),
        error: Cell::new(None),
    };
    let key = keyer.new_key(&row);
    row.error.take().map_or(Ok(key), Err)
}

/// A stored row as a row of its dimension.
struct StoredRow<'s, D, S: Stored> {
    stored: &'s S,
    /// Gives the names of the columns; what else it gives is passed over.
    names: D,
    error: Cell<Option<S::Error>>,
}

impl<D: Dimension, S: Stored> Dimension for StoredRow<'_, D, S> {
    const TABLE: &'static str = D::TABLE;

    fn columns(&self, to: &mut impl Columns) {
        self.names.columns(&mut StoredColumns { row: self, to });
    }
}

/// Passes on the columns of a stored row.
struct StoredColumns<'r, D, S: Stored, C> {
    row: &'r StoredRow<'r, D, S>,
    to: &'r mut C,
}

impl<D, S: Stored, C> StoredColumns<'_, D, S, C> {
    fn read<T: Default>(&self, read: impl FnOnce(&S) -> Result<T, S::Error>) -> T {
        read(self.row.stored).unwrap_or_else(|error| {
            self.row.error.set(Some(error));
            T::default()
        })
    }
}

impl<D, S: Stored, C: Columns> Columns for StoredColumns<'_, D, S, C> {
    fn text(&mut self, column: &'static str, _: &str) {
        let text = self.read(|row| row.text(column)).unwrap_or_default();
        self.to.text(column, &text);
    }

    fn name(&mut self, column: &'static str, _: &str) {
        let text = self.read(|row| row.text(column)).unwrap_or_default();
        self.to.name(column, &text);
    }

    fn integer(&mut self, column: &'static str, _: Option<u32>) {
        let number = self.read(|row| row.integer(column));
        let number = number.and_then(|number| u32::try_from(number).ok());
        self.to.integer(column, number);
    }

    fn real(&mut self, column: &'static str, _: Option<f64>) {
        let number = self.read(|row| row.real(column));
        self.to.real(column, number);
    }

    fn boolean(&mut self, column: &'static str, _: bool) {
        let is_so = self.read(|row| row.boolean(column));
        self.to.boolean(column, is_so);
    }
}

/// The content of a dimension row, and its key once that is known.
#[derive(Clone, Debug)]
pub struct Keyed<T> {
    key: OnceLock<i64>,
    /// The content of the row.
    pub value: T,
}

impl<T: PartialEq> PartialEq for Keyed<T> {
    fn eq(&self, other: &Keyed<T>) -> bool {
        self.value == other.value
    }
}

impl<T: Dimension> Keyed<T> {
    /// Takes a row whose key is computed when it is asked for.
    #[must_use]
    pub fn new(value: T) -> Keyed<T> {
        Keyed {
            key: OnceLock::new(),
            value,
        }
    }
}

/// A dimension row that was found for a hit.
pub trait Found {
    /// Returns the row's key. It is computed once: a process knows one keyer.
    fn key(&self, keyer: &Keyer) -> i64;
    /// Adds the row to those of its table.
    fn add_to(&self, key: i64, rows: &mut DimensionRows);
    /// Gives each column of the row but the key.
    fn give_columns(&self, to: &mut impl Columns);
}

impl<T: Dimension> Found for Keyed<T> {
    #[inline]
    fn key(&self, keyer: &Keyer) -> i64 {
        *self.key.get_or_init(|| keyer.key(&self.value))
    }

    fn add_to(&self, key: i64, rows: &mut DimensionRows) {
        rows.push(key, &self.value);
    }

    fn give_columns(&self, to: &mut impl Columns) {
        self.value.columns(to);
    }
}

impl<T: Found> Found for Arc<T> {
    fn key(&self, keyer: &Keyer) -> i64 {
        T::key(self, keyer)
    }

    fn add_to(&self, key: i64, rows: &mut DimensionRows) {
        T::add_to(self, key, rows);
    }

    fn give_columns(&self, to: &mut impl Columns) {
        T::give_columns(self, to);
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

    /// Adds other rows of the same table.
    pub fn append(&mut self, other: DimensionRows) {
        self.keys.extend(other.keys);
        if self.columns.is_empty() {
            self.columns = other.columns;
            return;
        }
        for ((_, values), (_, more)) in self.columns.iter_mut().zip(other.columns) {
            values.append(more);
        }
    }

    /// Removes the rows whose keys a condition does not hold for.
    pub fn retain(&mut self, is_kept: impl Fn(i64) -> bool) {
        let kept: Vec<bool> = self.keys.iter().map(|key| is_kept(*key)).collect();
        if kept.iter().all(|is_kept| *is_kept) {
            return;
        }
        retain(&mut self.keys, &kept);
        for (_, values) in &mut self.columns {
            values.retain(&kept);
        }
    }
}

impl Values {
    fn append(&mut self, more: Values) {
        match (self, more) {
            (Values::Texts(values), Values::Texts(more)) => values.extend(more),
            (Values::Integers(values), Values::Integers(more)) => values.extend(more),
            (Values::Reals(values), Values::Reals(more)) => values.extend(more),
            (Values::Booleans(values), Values::Booleans(more)) => values.extend(more),
            _ => panic!("a dimension gave a column another type than before"),
        }
    }

    fn retain(&mut self, kept: &[bool]) {
        match self {
            Values::Texts(values) => retain(values, kept),
            Values::Integers(values) => retain(values, kept),
            Values::Reals(values) => retain(values, kept),
            Values::Booleans(values) => retain(values, kept),
        }
    }
}

fn retain<T>(values: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    values.retain(|_| kept.next().is_none_or(|is_kept| *is_kept));
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
