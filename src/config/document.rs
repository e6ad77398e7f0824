//! A TOML document with the line of everything in it, and the mistakes that a reader finds there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table as Toml, Value};

use super::mistakes::Mistakes;

/// What the parser says of a section or a key that is there already.
const DUPLICATE: &str = "duplicate key";
/// The largest file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What is read: its text, or why there is none, and where it is from.
#[derive(Clone)]
pub(super) struct ConfigText {
    /// As messages name it; `None` for a text that is no file's.
    name: Option<String>,
    text: Result<String, String>,
}

impl ConfigText {
    /// Reads a file; without one the text is empty.
    pub(super) fn read(path: Option<&Path>) -> ConfigText {
        let name = path.map(|path| path.display().to_string());
        let text = match path {
            Some(path) => read_text(path),
            None => Ok(String::new()),
        };
        ConfigText { name, text }
    }

    /// Makes one of a text.
    pub(super) fn of(text: &str) -> ConfigText {
        ConfigText {
            name: None,
            text: Ok(text.to_owned()),
        }
    }

    /// Parses it. A mistake ends the reading of its own line only.
    pub(super) fn parse(&self) -> Document {
        let mut document = Document {
            name: self.name.clone(),
            ..Document::default()
        };
        match &self.text {
            Ok(text) => document.parse(text),
            Err(error) => document.mistakes.add(None, error.clone()),
        }
        document
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let bytes = read_bytes(path).map_err(|error| {
        format!("{shown}: cannot be read ({error}); a file in TOML would be right")
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let (valid, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
        let before = bytes.get(..valid).unwrap_or_default();
        let line = 1 + memchr::memchr_iter(b'\n', before).count();
        format!("{shown}:{line}: is no UTF-8; UTF-8 would be right")
    })
}

/// Reads a file that may be any: none makes the caller wait or takes more memory than a
/// configuration needs.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let file_type = std::fs::metadata(path)?.file_type();
    if file_type.is_dir() {
        return Err(Errno::EISDIR.into());
    }
    // /dev/null is an empty file for many programs.
    if !file_type.is_file() && !file_type.is_char_device() {
        return Err(io::Error::other("it is no file"));
    }
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let mebibytes = FILE_BYTES_MAX >> 20;
        return Err(io::Error::other(format!(
            "it has more than {mebibytes} MiB"
        )));
    }
    Ok(bytes)
}

/// A document as far as it could be read.
#[derive(Default)]
pub(super) struct Document {
    name: Option<String>,
    pub(super) table: Toml,
    /// The line of each table, key and entry of a list, by the name that messages use:
    /// `site[0].hosts[1]`.
    lines: BTreeMap<String, usize>,
    pub(super) mistakes: Mistakes,
}

impl Document {
    fn parse(&mut self, text: &str) {
        let line = |at: usize| 1 + text.get(..at).unwrap_or_default().matches('\n').count();
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut wrong = BTreeSet::new();
        for error in errors {
            let line = line(error.span().map_or(0, |span| span.start));
            // What follows from a mistake in the same line is not worth a message. The error's own
            // text shows the line, which may hold a secret.
            if wrong.insert(line) {
                let name = error.span().and_then(|span| text.get(span));
                let what = match name.filter(|_| error.message().contains(DUPLICATE)) {
                    Some(name) => format!(
                        "{} is there twice; each section and each key once would be right",
                        name_to_show(name)
                    ),
                    None => format!("no TOML ({})", error.message()),
                };
                self.mistakes
                    .add(Some(line), format!("{}{what}", self.place(line)));
            }
        }
        self.mistakes.wrong_lines = wrong;
        self.table = self.convert(root.into_inner(), "", &line);
    }

    fn convert(&mut self, table: DeTable<'_>, path: &str, line: &impl Fn(usize) -> usize) -> Toml {
        let mut converted = Toml::new();
        for (key, value) in table {
            let at = match path {
                "" => key.get_ref().to_string(),
                path => format!("{path}.{}", key.get_ref()),
            };
            self.lines.insert(at.clone(), line(key.span().start));
            let value = self.convert_value(value, &at, line);
            converted.insert(key.into_inner().into_owned(), value);
        }
        converted
    }

    fn convert_value(
        &mut self,
        value: Spanned<DeValue<'_>>,
        path: &str,
        line: &impl Fn(usize) -> usize,
    ) -> Value {
        match value.into_inner() {
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Boolean(value) => Value::Boolean(value),
            DeValue::Datetime(time) => Value::Datetime(time),
            // A number that does not fit is wrong for every key.
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| Value::String(number.to_string()), Value::Integer),
            DeValue::Float(number) => number
                .as_str()
                .parse()
                .map_or_else(|_| Value::String(number.as_str().to_owned()), Value::Float),
            DeValue::Array(values) => {
                let mut converted = Vec::new();
                for (index, value) in values.into_iter().enumerate() {
                    let at = format!("{path}[{index}]");
                    self.lines.insert(at.clone(), line(value.span().start));
                    converted.push(self.convert_value(value, &at, line));
                }
                Value::Array(converted)
            }
            DeValue::Table(table) => Value::Table(self.convert(table, path, line)),
        }
    }

    /// Returns the line of a key or table.
    pub(super) fn line(&self, path: &str) -> Option<usize> {
        self.lines.get(path).copied()
    }

    /// Returns what a message about a line begins with.
    pub(super) fn place(&self, line: usize) -> String {
        match &self.name {
            Some(name) => format!("{name}:{line}: "),
            None => format!("line {line}: "),
        }
    }
}

/// Returns the name that is most likely meant by `name`: one that few letters tell from it, or that
/// begins like it.
pub(crate) fn suggest<'k>(known: impl Iterator<Item = &'k str>, name: &str) -> Option<&'k str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(name);
    let distance = |known: &str| {
        let known = plain(known);
        let is_part = name.len() > 2 && (known.starts_with(&wanted) || wanted.starts_with(&known));
        strsim::damerau_levenshtein(&known, &wanted).min(if is_part { 1 } else { usize::MAX })
    };
    let (distance, nearest) = known
        .map(|known| (distance(known), known))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + name.len() / 4).then_some(nearest)
}

/// Returns a name as messages show it. What is no name may be a secret that stands in the wrong
/// place.
pub(super) fn name_to_show(name: &str) -> String {
    const BYTES_MAX: usize = 64;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.len() <= BYTES_MAX && name.bytes().all(is_plain) {
        name.to_owned()
    } else {
        "(a name that is not shown)".to_owned()
    }
}
