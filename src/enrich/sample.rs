//! A row of each dimension, for tests: those of the list, whichever they are.

use std::convert::Infallible;
use std::sync::Arc;

use super::{DimensionTable, FactReader, Facts};
use crate::hit::Hit;
use crate::row::dimension::{ColumnValues, Columns, Keyed, ReadColumns};

/// Finds of a hit what it says itself, and a row of each other dimension with a value in every
/// column.
pub(crate) fn facts<'h>(hit: &'h Hit<'_>) -> Facts<'h> {
    let Ok(facts) = Facts::read(hit, &mut Sampler);
    facts
}

struct Sampler;

impl FactReader for Sampler {
    type Error = Infallible;

    fn read<D: ReadColumns + Send + Sync + 'static>(
        &mut self,
        dimension: DimensionTable,
    ) -> Result<Option<Arc<Keyed<D>>>, Infallible> {
        let mut row = Sample {
            table: dimension.table(),
            columns: ColumnNames::of(dimension).0.into_iter(),
            number: 0,
        };
        let read = D::read(&mut row);
        assert_eq!(row.columns.next(), None, "a column that is not read");
        Ok(Some(Arc::new(Keyed::new(read))))
    }
}

/// Gives the columns of a sample.
struct Sample {
    table: &'static str,
    columns: std::vec::IntoIter<&'static str>,
    /// How many columns were read.
    number: u32,
}

impl Sample {
    fn column(&mut self) -> &'static str {
        self.number += 1;
        self.columns.next().expect("a column that is not written")
    }
}

impl ColumnValues for Sample {
    fn text(&mut self) -> String {
        match (self.column(), self.table) {
            // A word of a list.
            ("class", "device") => "phone".to_owned(),
            (column, table) => format!("{column} of {table}"),
        }
    }

    fn integer(&mut self) -> Option<u32> {
        self.column();
        Some(4_700 + self.number)
    }

    fn real(&mut self) -> Option<f64> {
        self.column();
        Some(f64::from(self.number) + 0.5)
    }

    fn boolean(&mut self) -> bool {
        self.column();
        true
    }
}

/// The names of a dimension's columns, in their order.
#[derive(Default)]
pub(crate) struct ColumnNames(pub(crate) Vec<&'static str>);

impl ColumnNames {
    pub(crate) fn of(dimension: DimensionTable) -> ColumnNames {
        let mut names = ColumnNames::default();
        dimension.give_columns(&mut names);
        names
    }
}

impl Columns for ColumnNames {
    fn text(&mut self, column: &'static str, _: &str) {
        self.0.push(column);
    }

    fn name(&mut self, column: &'static str, _: &str) {
        self.0.push(column);
    }

    fn integer(&mut self, column: &'static str, _: Option<u32>) {
        self.0.push(column);
    }

    fn real(&mut self, column: &'static str, _: Option<f64>) {
        self.0.push(column);
    }

    fn boolean(&mut self, column: &'static str, _: bool) {
        self.0.push(column);
    }
}
