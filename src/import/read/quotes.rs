//! Follows the quotes of a CSV file, to find those that are not closed.
//!
//! The reader of records takes whatever follows an open quote for one value, to the end of the
//! file or to the next quote. So one quote too many would take all rows behind it away, and nothing
//! would say so. Quotes mean here what they mean to that reader: one within a value that does not
//! begin with a quote is plain text.

/// A quote that cannot be what was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(super) struct QuoteError {
    /// The line that its row begins at, from 1.
    pub line: u64,
    what: &'static str,
}

/// Where in a file a byte stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before a row, or on an empty line.
    Row,
    /// At the beginning of a value.
    Value,
    /// In a value without quotes.
    Plain,
    /// In a value with quotes.
    Quoted,
    /// After a quote in a value with quotes: it is the last, or the first of two.
    Closing,
}

/// Where the quotes of a file stand, as far as it was read.
pub(super) struct Quotes {
    delimiter: u8,
    place: Place,
    line: u64,
    /// The line that the row begins at.
    row_line: u64,
    /// The line of the last quote that began a value.
    quote_line: u64,
}

impl Quotes {
    pub(super) fn new(delimiter: u8) -> Quotes {
        Quotes {
            delimiter,
            place: Place::Row,
            line: 1,
            row_line: 1,
            quote_line: 1,
        }
    }

    /// Follows further bytes of the file.
    ///
    /// # Errors
    /// Where text follows the last quote of a value that began on an earlier line: RFC 4180 has no
    /// such value, and it is what an open quote and the next row with a quote look like.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<(), QuoteError> {
        for &byte in bytes {
            let is_line_end = matches!(byte, b'\r' | b'\n');
            if self.place == Place::Row && !is_line_end {
                self.row_line = self.line;
            }
            self.place = match self.place {
                Place::Quoted if byte == b'"' => Place::Closing,
                Place::Quoted => Place::Quoted,
                Place::Closing if byte == b'"' => Place::Quoted,
                _ if is_line_end => Place::Row,
                _ if byte == self.delimiter => Place::Value,
                Place::Row | Place::Value if byte == b'"' => {
                    self.quote_line = self.line;
                    Place::Quoted
                }
                Place::Closing if self.quote_line < self.line => {
                    return Err(self.refuse(
                        "a value in quotes goes on over the end of a line, and text follows its \
                         last quote: is a quote not closed?",
                    ));
                }
                _ => Place::Plain,
            };
            if byte == b'\n' {
                self.line += 1;
            }
        }
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Where a quote is open.
    pub(super) fn end(&self) -> Result<(), QuoteError> {
        match self.place {
            Place::Quoted => Err(self.refuse("a quote is not closed up to the end of the file")),
            _ => Ok(()),
        }
    }

    fn refuse(&self, what: &'static str) -> QuoteError {
        QuoteError {
            line: self.row_line,
            what,
        }
    }
}
