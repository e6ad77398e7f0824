//! Splits a file into rows, in bounded memory whatever its size.

mod quotes;

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

use encoding_rs::{Encoding, UTF_8};
use flate2::read::MultiGzDecoder;
use serde_json::value::RawValue;

use self::quotes::{QuoteError, Quotes};
use super::json::{Scalar, read_scalar};
use super::manifest::Format;
use super::{CheckedRow, Manifest, Reject};
use crate::keys::UserKeyring;

/// The longest row, in bytes.
pub const ROW_BYTES_MAX: u64 = 64 * 1024;
const _: () = assert!(
    ROW_BYTES_MAX == 64 << 10,
    "the messages on long rows have it too"
);
/// The largest file, unpacked, in bytes.
pub const FILE_BYTES_MAX: u64 = 10 * 1024 * 1024 * 1024;
/// The most columns of a file.
const COLUMNS_MAX: usize = 256;
/// The most columns that a message names.
const TOLD_COLUMNS_MAX: usize = 12;
/// The most characters of a column's name in a message.
const TOLD_NAME_CHARS_MAX: usize = 40;
/// What is read of a file at a time, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// What some programs begin a file in UTF-8 with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why a file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The file is not what the manifest says.
    #[error("line {line}: {what}")]
    Format {
        /// The line.
        line: u64,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// The disk fails.
    #[error("reading the file")]
    Io(#[from] io::Error),
}

/// One row of a file.
pub(crate) struct FileRow {
    /// The line that it begins at, from 1.
    pub line: u64,
    /// What it says.
    pub checked: Result<CheckedRow, Reject>,
}

/// A reader that ends with an error where a row or the file is longer than it may be, or a quote of
/// CSV is not closed.
struct Limited<R> {
    inner: R,
    /// Bytes since the last row ended.
    since: Rc<Cell<u64>>,
    left: u64,
    /// Those of CSV.
    quotes: Option<Quotes>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(quotes) = &mut self.quotes {
            let bytes = buffer.get(..read).unwrap_or_default();
            quotes.follow(bytes).map_err(io::Error::other)?;
            if read == 0 && !buffer.is_empty() {
                quotes.end().map_err(io::Error::other)?;
            }
        }
        let bytes = read as u64;
        let since = self.since.get() + bytes;
        self.since.set(since);
        let too_long = || io::Error::other("a row of more than 64 KiB: is a quote not closed?");
        if since > ROW_BYTES_MAX + 2 * BUFFER_BYTES as u64 {
            return Err(too_long());
        }
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or_else(|| io::Error::other("a file of more than 10 GiB"))?;
        Ok(read)
    }
}

type Source = Limited<Box<dyn Read>>;

/// The columns of a file.
struct Columns {
    at: HashMap<String, usize>,
    count: usize,
    /// What is missing to the number of a row's line: where lines end with CR and LF, the reader
    /// counts the LF with the next row.
    lines_more: u64,
    encoding: &'static Encoding,
}

enum Splitter {
    Csv {
        reader: csv::Reader<Source>,
        record: csv::ByteRecord,
        columns: Columns,
    },
    Ndjson {
        reader: BufReader<Source>,
        text: Vec<u8>,
        line: u64,
        has_row: bool,
    },
}

/// The rows of a file.
pub(crate) struct FileRows<'m> {
    manifest: &'m Manifest,
    users: &'m UserKeyring,
    splitter: Splitter,
    since: Rc<Cell<u64>>,
}

impl<'m> FileRows<'m> {
    /// Begins to read a file, which may be packed by gzip.
    ///
    /// # Errors
    /// Where it has not the columns that the manifest names.
    pub(crate) fn open(
        mut file: impl Read + 'static,
        manifest: &'m Manifest,
        users: &'m UserKeyring,
    ) -> Result<FileRows<'m>, FileError> {
        let mut start = Vec::new();
        file.by_ref().take(2).read_to_end(&mut start)?;
        let is_packed = start == [0x1f, 0x8b];
        let whole = io::Cursor::new(start).chain(file);
        let unpacked: Box<dyn Read> = match is_packed {
            true => Box::new(MultiGzDecoder::new(whole)),
            false => Box::new(whole),
        };
        let inner = strip_mark(unpacked, manifest)?;
        let since = Rc::new(Cell::new(0));
        let source = Limited {
            inner,
            since: Rc::clone(&since),
            left: FILE_BYTES_MAX,
            quotes: match manifest.format {
                Format::Csv(delimiter) => Some(Quotes::new(delimiter)),
                Format::Ndjson => None,
            },
        };
        let splitter = match manifest.format {
            Format::Csv(delimiter) => open_csv(source, delimiter, manifest)?,
            Format::Ndjson => Splitter::Ndjson {
                reader: BufReader::with_capacity(BUFFER_BYTES, source),
                text: Vec::new(),
                line: 0,
                has_row: false,
            },
        };
        Ok(FileRows {
            manifest,
            users,
            splitter,
            since,
        })
    }

    /// Returns the next row; `None` at the end of the file.
    ///
    /// # Errors
    /// Where nothing can be read after this.
    pub(crate) fn next_row(&mut self) -> Result<Option<FileRow>, FileError> {
        self.since.set(0);
        let (manifest, users) = (self.manifest, self.users);
        match &mut self.splitter {
            Splitter::Csv {
                reader,
                record,
                columns,
            } => {
                let line = reader.position().line() + columns.lines_more;
                if !reader
                    .read_byte_record(record)
                    .map_err(|error| csv_error(error, line))?
                {
                    return Ok(None);
                }
                let checked = check_record(record, columns, (manifest, users));
                Ok(Some(FileRow { line, checked }))
            }
            Splitter::Ndjson {
                reader,
                text,
                line,
                has_row,
            } => loop {
                text.clear();
                let bytes = io::BufRead::read_until(reader, b'\n', text)
                    .map_err(|error| io_error(error, *line + 1))?;
                if bytes == 0 && !*has_row {
                    return Err(FileError::Format {
                        line: 1,
                        what: "the file has no row; a JSON object a line would be right".to_owned(),
                    });
                }
                if bytes == 0 {
                    return Ok(None);
                }
                *line += 1;
                let object = text.trim_ascii();
                if object.is_empty() {
                    continue;
                }
                *has_row = true;
                let checked = check_object(object, manifest, users);
                return Ok(Some(FileRow {
                    line: *line,
                    checked,
                }));
            },
        }
    }
}

/// Takes away what some programs begin a file in UTF-8 with, so that nothing behind it sees it.
fn strip_mark(mut file: Box<dyn Read>, manifest: &Manifest) -> Result<Box<dyn Read>, FileError> {
    let mut start = Vec::new();
    let mark_bytes = BYTE_ORDER_MARK.len() as u64;
    file.by_ref()
        .take(mark_bytes)
        .read_to_end(&mut start)
        .map_err(|error| io_error(error, 1))?;
    if start == BYTE_ORDER_MARK {
        if manifest.encoding != UTF_8 {
            return Err(FileError::Format {
                line: 1,
                what: format!(
                    "the file begins as one in UTF-8, and the manifest says {}",
                    manifest.encoding.name()
                ),
            });
        }
        start.clear();
    }
    Ok(Box::new(io::Cursor::new(start).chain(file)))
}

fn io_error(error: io::Error, line: u64) -> FileError {
    let cause = error.get_ref();
    if let Some(quote) = cause.and_then(|cause| cause.downcast_ref::<QuoteError>()) {
        return FileError::Format {
            line: quote.line,
            what: quote.to_string(),
        };
    }
    match error.kind() {
        // The limits, and what is no gzip.
        io::ErrorKind::Other | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
            FileError::Format {
                line,
                what: error.to_string(),
            }
        }
        _ => FileError::Io(error),
    }
}

fn csv_error(error: csv::Error, line: u64) -> FileError {
    let text = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(error) => io_error(error, line),
        _ => FileError::Format { line, what: text },
    }
}

fn decode<'t>(bytes: &'t [u8], encoding: &'static Encoding) -> Option<Cow<'t, str>> {
    encoding.decode_without_bom_handling_and_without_replacement(bytes)
}

fn open_csv(source: Source, delimiter: u8, manifest: &Manifest) -> Result<Splitter, FileError> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .buffer_capacity(BUFFER_BYTES)
        .from_reader(source);
    let header = reader.byte_headers().map_err(|error| csv_error(error, 1))?;
    let encoding = manifest.encoding;
    let wrong = |what| Err(FileError::Format { line: 1, what });
    if header.len() > COLUMNS_MAX {
        return wrong(format!(
            "{} columns; up to {COLUMNS_MAX} would be right",
            header.len()
        ));
    }
    let count = header.len();
    if count == 0 {
        return wrong("the file is empty; a header would be right".to_owned());
    }
    let mut columns = HashMap::new();
    for (at, name) in header.iter().enumerate() {
        let Some(name) = decode(name, encoding) else {
            return wrong(format!("the header is not in {}", encoding.name()));
        };
        let name = name.trim().to_owned();
        if columns.insert(name.clone(), at).is_some() && is_wanted(manifest, &name) {
            return wrong(format!("two columns are called {name}"));
        }
    }
    let wanted = manifest.columns.iter().map(|column| &column.name);
    for name in wanted.chain([&manifest.key_column]) {
        if !columns.contains_key(name) {
            let hint = hint_at_columns(&columns, manifest);
            return wrong(format!("there is no column {name}; {hint}"));
        }
    }
    Ok(Splitter::Csv {
        columns: Columns {
            at: columns,
            count,
            lines_more: u64::from(reader.position().line() == 1),
            encoding,
        },
        reader,
        record: csv::ByteRecord::new(),
    })
}

/// Says what a file has, of which a column is missing. Names are told only where one of them is
/// wanted: a file without a header has somebody's values there.
fn hint_at_columns(columns: &HashMap<String, usize>, manifest: &Manifest) -> String {
    if columns.len() == 1 {
        return "is the delimiter another one?".to_owned();
    }
    let is_near = |name: &String| {
        let mut wanted = manifest.columns.iter().map(|column| &column.name);
        let is_same = |wanted: &String| wanted.to_lowercase() == name.to_lowercase();
        is_same(&manifest.key_column) || wanted.any(is_same)
    };
    if !columns.keys().any(is_near) {
        return "nor any other one of the manifest: is the first line a header?".to_owned();
    }
    let mut told: Vec<(&String, &usize)> = columns.iter().collect();
    told.sort_by_key(|(_, at)| **at);
    let names = told.iter().take(TOLD_COLUMNS_MAX).map(|(name, _)| {
        let plain = name.chars().filter(|c| !c.is_control());
        plain.take(TOLD_NAME_CHARS_MAX).collect::<String>()
    });
    let names = names.collect::<Vec<_>>().join(", ");
    match told.len().saturating_sub(TOLD_COLUMNS_MAX) {
        0 => format!("the file has {names}"),
        more => format!("the file has {names} and {more} more"),
    }
}

fn is_wanted(manifest: &Manifest, name: &str) -> bool {
    let mut columns = manifest.columns.iter();
    *name == manifest.key_column || columns.any(|column| column.name == name)
}

fn check_record(
    record: &csv::ByteRecord,
    columns: &Columns,
    (manifest, users): (&Manifest, &UserKeyring),
) -> Result<CheckedRow, Reject> {
    if record.as_slice().len() as u64 > ROW_BYTES_MAX {
        return Err(Reject::row("a row of more than 64 KiB"));
    }
    if record.len() != columns.count {
        return Err(Reject::row("not as many values as the header has columns"));
    }
    let broken = Cell::new(None);
    let value = |name: &str| {
        let bytes = columns.at.get(name).and_then(|at| record.get(*at))?;
        let text = decode(bytes, columns.encoding);
        if text.is_none() {
            broken.set(Some(name.to_owned()));
        }
        text
    };
    let checked = manifest.check(value, users);
    match broken.into_inner() {
        None => checked,
        Some(column) => Err(Reject {
            column,
            reason: "not in the encoding of the manifest",
        }),
    }
}

fn check_object(
    text: &[u8],
    manifest: &Manifest,
    users: &UserKeyring,
) -> Result<CheckedRow, Reject> {
    if text.len() as u64 > ROW_BYTES_MAX {
        return Err(Reject::row("a row of more than 64 KiB"));
    }
    let object: Option<HashMap<String, &RawValue>> = str::from_utf8(text)
        .ok()
        .and_then(|text| serde_json::from_str(text).ok());
    let object = object.ok_or_else(|| Reject::row("no JSON object in UTF-8"))?;
    let mut texts: HashMap<String, String> = HashMap::new();
    for (name, json) in object {
        if !is_wanted(manifest, &name) {
            continue;
        }
        let is_key = name == manifest.key_column;
        let text = match read_scalar(json.get()) {
            Ok(Scalar::Null) => continue,
            Ok(Scalar::Text(text)) => Ok(text),
            // An ID has the digits that were sent, as at the edge.
            Ok(Scalar::Number(number)) if is_key => Ok(number.to_owned()),
            Ok(Scalar::Number(number)) => Ok(manifest.write_number(number)),
            Ok(Scalar::Truth(_)) if is_key => {
                Err("true or false: a text or a number would be right")
            }
            Ok(Scalar::Truth(word)) => Ok(word.to_owned()),
            Err(reason) => Err(reason),
        };
        let text = text.map_err(|reason| Reject {
            column: name.clone(),
            reason,
        })?;
        texts.insert(name, text);
    }
    let value = |name: &str| texts.get(name).map(|text| Cow::Borrowed(&**text));
    manifest.check(value, users)
}

#[cfg(test)]
mod tests;
