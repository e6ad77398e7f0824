//! Takes keys out of a TOML document and the environment; gathers what is wrong, and what is in force.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;

use toml::{Table, Value};

use super::ConfigErrors;

/// Variables that are no keys: where the file is, and how much is logged.
const OTHER_VARIABLES: [&str; 2] = ["AVTRYCK_CONFIG", "AVTRYCK_LOG"];
/// What stands for a value that nobody may see.
const HIDDEN: &str = "(not shown)";

pub(super) struct Reader {
    table: Table,
    file_was_read: bool,
    environment: BTreeMap<String, String>,
    /// Every variable that there could be.
    variables: Vec<String>,
    errors: Vec<String>,
    in_force: String,
}

/// One table while its keys are taken.
pub(super) struct Section<'r> {
    /// As errors name it: `http`, `site[0]`.
    name: String,
    table: Table,
    known: Vec<String>,
    /// Tables of a list have no variables.
    has_variables: bool,
    reader: &'r mut Reader,
}

/// The texts of a value, and where they are from.
struct Given {
    texts: Vec<String>,
    /// The key, or the variable.
    name: String,
    from: &'static str,
}

impl Reader {
    /// A file that cannot be read is one mistake among others.
    pub(super) fn new(
        text: Result<String, String>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Reader {
        let mut errors = Vec::new();
        let parsed = text.and_then(|text| {
            text.parse::<Table>().map_err(|error| {
                // The error's own text shows the line, and a secret may stand in it.
                let start = error.span().map_or(0, |span| span.start);
                let line = text.get(..start).unwrap_or_default().matches('\n').count() + 1;
                format!("line {line}: no TOML ({})", error.message())
            })
        });
        let file_was_read = parsed.is_ok();
        let table = parsed.unwrap_or_else(|error| {
            errors.push(error);
            Table::new()
        });
        let mut ours = BTreeMap::new();
        for (name, value) in environment {
            let Some(name) = name.to_str().filter(|name| name.starts_with("AVTRYCK_")) else {
                continue;
            };
            if OTHER_VARIABLES.contains(&name) {
                continue;
            }
            match value.into_string() {
                Ok(value) => drop(ours.insert(name.to_owned(), value)),
                Err(_) => errors.push(format!("{name}: is no UTF-8; UTF-8 would be right")),
            }
        }
        Reader {
            table,
            file_was_read,
            environment: ours,
            variables: Vec::new(),
            errors,
            in_force: String::new(),
        }
    }

    pub(super) fn file_was_read(&self) -> bool {
        self.file_was_read
    }

    pub(super) fn error(&mut self, error: &str) {
        self.errors.push(error.to_owned());
    }

    pub(super) fn section<T>(&mut self, name: &str, take: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let table = match self.table.remove(name) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.error(&format!("{name}: is no table; [{name}] would be right"));
                Table::new()
            }
        };
        self.start(&format!("[{name}]"));
        self.take(name.to_owned(), table, true, take)
    }

    pub(super) fn tables<T>(&mut self, name: &str, take: impl Fn(&mut Section<'_>) -> T) -> Vec<T> {
        let values = match self.table.remove(name) {
            None => Vec::new(),
            Some(Value::Array(values)) => values,
            Some(_) => {
                self.error(&format!(
                    "{name}: is no list of tables; [[{name}]] would be right"
                ));
                Vec::new()
            }
        };
        let mut taken = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let Value::Table(table) = value else {
                self.error(&format!(
                    "{name}[{index}]: is no table; [[{name}]] would be right"
                ));
                continue;
            };
            self.start(&format!("[[{name}]]"));
            taken.push(self.take(format!("{name}[{index}]"), table, false, &take));
        }
        taken
    }

    fn start(&mut self, header: &str) {
        if !self.in_force.is_empty() {
            self.in_force.push('\n');
        }
        self.in_force.push_str(header);
        self.in_force.push('\n');
    }

    fn take<T>(
        &mut self,
        name: String,
        table: Table,
        has_variables: bool,
        take: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        let mut section = Section {
            name,
            table,
            known: Vec::new(),
            has_variables,
            reader: self,
        };
        let taken = take(&mut section);
        section.finish();
        taken
    }

    /// What is in force, if nothing is wrong.
    pub(super) fn finish(mut self) -> Result<String, ConfigErrors> {
        let sections = "http, limit, path, admin, spool, database, loader, geoip, device, privacy, traffic, cookie, click, site, partner";
        for name in self.table.keys() {
            self.errors.push(format!(
                "{name}: is no section; one of {sections} would be right"
            ));
        }
        for name in self.environment.keys() {
            let nearest = nearest(&self.variables, name);
            self.errors
                .push(format!("{name}: names no key; did you mean {nearest}?"));
        }
        if self.errors.is_empty() {
            Ok(self.in_force)
        } else {
            Err(ConfigErrors(self.errors))
        }
    }
}

impl Section<'_> {
    /// A key with one value; `default` is what would stand in the file.
    pub(super) fn take<T>(
        &mut self,
        key: &str,
        default: &str,
        right: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.one(key, default, right, parse, false)
    }

    /// Like `take`; only the default is ever shown.
    pub(super) fn secret<T>(
        &mut self,
        key: &str,
        default: &str,
        right: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.one(key, default, right, parse, true)
    }

    /// A key that has to be there.
    pub(super) fn require(
        &mut self,
        key: &str,
        right: &str,
        parse: impl Fn(&str) -> Option<String>,
    ) -> String {
        if !self.table.contains_key(key) {
            let name = &self.name;
            self.reader
                .error(&format!("{name}.{key}: is missing; {right} would be right"));
        }
        // What stands in for it is never used.
        let stand_in = self.name.replace(['[', ']'], ".");
        self.take(key, &stand_in, right, parse)
    }

    /// A key with any number of values, by default none.
    pub(super) fn list<T>(
        &mut self,
        key: &str,
        right: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        self.many(key, &[], right, parse, false)
    }

    /// A key with any number of values; `default` is what would stand in the file.
    pub(super) fn list_or<T>(
        &mut self,
        key: &str,
        default: &[&str],
        right: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        self.many(key, default, right, parse, false)
    }

    /// Like `list`; the values are never shown.
    pub(super) fn secret_list<T>(
        &mut self,
        key: &str,
        right: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        self.many(key, &[], right, parse, true)
    }

    /// A table of texts, by default empty.
    pub(super) fn pairs(&mut self, key: &str, right: &str) -> Vec<(String, String)> {
        let (table, name, from) = match self.given(key) {
            Some((Value::Table(table), name, from)) => (table, name, from),
            Some((value, name, _)) => {
                self.wrong(&name, &text(&value), right);
                return Vec::new();
            }
            None => (Table::new(), String::new(), "default"),
        };
        let mut taken = Vec::new();
        for (theirs, ours) in table {
            match ours {
                Value::String(ours) => taken.push((theirs, ours)),
                other => self.wrong(&format!("{name}.{theirs}"), &text(&other), right),
            }
        }
        let shown: Vec<String> = taken
            .iter()
            .map(|(theirs, ours)| {
                let quoted = |text: &str| Value::String(text.to_owned()).to_string();
                format!("{} = {}", quoted(theirs), quoted(ours))
            })
            .collect();
        self.note(key, &format!("{{ {} }}", shown.join(", ")), from);
        taken
    }

    fn one<T>(
        &mut self,
        key: &str,
        default: &str,
        right: &str,
        parse: impl Fn(&str) -> Option<T>,
        secret: bool,
    ) -> T {
        let given = match self.given(key) {
            Some((Value::Array(_) | Value::Table(_), name, _)) => {
                self.wrong(&name, HIDDEN, right);
                None
            }
            Some((value, name, from)) => Some(Given {
                texts: vec![text(&value)],
                name,
                from,
            }),
            None => None,
        };
        let hidden = |text: &str| secret && text != default;
        let shown = |text: &str| if hidden(text) { HIDDEN } else { text }.to_owned();
        let taken = given.as_ref().and_then(|given| {
            let text = given.texts.first()?;
            let value = parse(text);
            if value.is_none() {
                self.wrong(&given.name, &shown(text), right);
            }
            Some((value?, plain(&shown(text)), given.from))
        });
        let (value, text, from) = taken.unwrap_or_else(|| {
            let value = parse(default).expect("defaults are right: a test reads them all");
            (value, plain(default), "default")
        });
        self.note(key, &text, from);
        value
    }

    fn many<T>(
        &mut self,
        key: &str,
        default: &[&str],
        right: &str,
        parse: impl Fn(&str) -> Option<T>,
        secret: bool,
    ) -> Vec<T> {
        let shown = |text: &str| if secret { HIDDEN } else { text }.to_owned();
        let given = match self.given(key) {
            Some((Value::Array(values), name, from)) => Given {
                texts: values.iter().map(text).collect(),
                name,
                from,
            },
            // A variable separates the values of a list by commas.
            Some((Value::String(text), name, from @ "environment")) => Given {
                texts: text
                    .split(',')
                    .map(|part| part.trim().to_owned())
                    .filter(|part| !part.is_empty())
                    .collect(),
                name,
                from,
            },
            Some((value, name, _)) => {
                self.wrong(&name, &shown(&text(&value)), "a list");
                return Vec::new();
            }
            None => Given {
                texts: default.iter().map(|text| (*text).to_owned()).collect(),
                name: String::new(),
                from: "default",
            },
        };
        let mut taken = Vec::new();
        for text in &given.texts {
            match parse(text) {
                Some(value) => taken.push(value),
                None => self.wrong(&given.name, &shown(text), right),
            }
        }
        let texts: Vec<String> = given
            .texts
            .iter()
            .map(|text| Value::String(shown(text)).to_string())
            .collect();
        self.note(key, &format!("[{}]", texts.join(", ")), given.from);
        taken
    }

    /// A key's value with the name to complain under: from the environment, else from the file.
    fn given(&mut self, key: &str) -> Option<(Value, String, &'static str)> {
        self.known.push(key.to_owned());
        let in_file = self.table.remove(key);
        if self.has_variables {
            let variable = format!("AVTRYCK_{}_{key}", self.name).to_uppercase();
            let text = self.reader.environment.remove(&variable);
            self.reader.variables.push(variable.clone());
            if let Some(text) = text {
                return Some((Value::String(text), variable, "environment"));
            }
        }
        in_file.map(|value| (value, format!("{}.{key}", self.name), "file"))
    }

    fn wrong(&mut self, name: &str, value: &str, right: &str) {
        self.reader.error(&format!(
            "{name}: {value:?} is wrong; {right} would be right"
        ));
    }

    fn note(&mut self, key: &str, value: &str, from: &str) {
        // Writing to a string cannot fail.
        writeln!(self.reader.in_force, "{key} = {value}  # {from}").ok();
    }

    fn finish(self) {
        for key in self.table.keys() {
            self.reader.error(&format!(
                "{}.{key}: is no key; did you mean {}?",
                self.name,
                nearest(&self.known, key)
            ));
        }
    }
}

/// A text as it would stand in the file: numbers and truth values bare.
fn plain(text: &str) -> String {
    if text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok() {
        return text.to_owned();
    }
    Value::String(text.to_owned()).to_string()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn nearest<'k>(known: &'k [String], name: &str) -> &'k str {
    known
        .iter()
        .min_by_key(|known| distance(known, name))
        .map_or("", String::as_str)
}

/// How many letters have to change (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (b, cell) in other.bytes().zip(row.iter_mut().skip(1)) {
            let next = (diagonal + usize::from(a != b))
                .min(left + 1)
                .min(*cell + 1);
            diagonal = *cell;
            *cell = next;
            left = next;
        }
    }
    row.last().copied().unwrap_or(0)
}
