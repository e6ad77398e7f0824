//! Takes keys out of a TOML document and the environment; gathers what is wrong, and what is in force.

use std::collections::BTreeMap;
use std::ffi::OsString;

use toml::{Table, Value};

use super::ConfigErrors;
use super::setting::{Kept, Setting, Settings, Source};

/// Variables that are no keys: where the file is, and how much is logged.
const OTHER_VARIABLES: [&str; 2] = ["AVTRYCK_CONFIG", "AVTRYCK_LOG"];
/// What stands for a value that nobody may see.
const HIDDEN: &str = "(not shown)";

pub(super) struct Reader {
    table: Table,
    file_was_read: bool,
    environment: BTreeMap<String, String>,
    kept: Kept,
    /// Every section that there could be.
    sections: Vec<String>,
    errors: Vec<String>,
    settings: Vec<Setting>,
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

/// One key while its value is taken.
pub(super) struct Key<'s, 'r> {
    section: &'s mut Section<'r>,
    setting: Setting,
}

impl Reader {
    /// A file that cannot be read is one mistake among others.
    pub(super) fn new(
        text: Result<String, String>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        kept: Kept,
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
            kept,
            sections: Vec::new(),
            errors,
            settings: Vec::new(),
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
        self.sections.push(name.to_owned());
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
        self.sections.push(name.to_owned());
        let mut taken = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let Value::Table(table) = value else {
                self.error(&format!(
                    "{name}[{index}]: is no table; [[{name}]] would be right"
                ));
                continue;
            };
            taken.push(self.take(format!("{name}[{index}]"), table, false, &take));
        }
        taken
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
    pub(super) fn finish(mut self) -> Result<Settings, ConfigErrors> {
        let sections = self.sections.join(", ");
        for name in self.table.keys() {
            self.errors.push(format!(
                "{name}: is no section; one of {sections} would be right"
            ));
        }
        let variables = self.settings.iter().filter_map(|s| s.variable.as_deref());
        for name in self.environment.keys() {
            let nearest = nearest(variables.clone(), name);
            self.errors
                .push(format!("{name}: names no key; did you mean {nearest}?"));
        }
        if self.errors.is_empty() {
            Ok(Settings(self.settings))
        } else {
            Err(ConfigErrors(self.errors))
        }
    }
}

impl<'r> Section<'r> {
    /// A key that a reload applies.
    pub(super) fn key(&mut self, key: &'static str, means: &'static str) -> Key<'_, 'r> {
        self.start(key, means, false)
    }

    /// A key that holds from the start of the process to its end.
    pub(super) fn fixed(&mut self, key: &'static str, means: &'static str) -> Key<'_, 'r> {
        self.start(key, means, true)
    }

    fn start(&mut self, key: &'static str, means: &'static str, is_fixed: bool) -> Key<'_, 'r> {
        let variable = self
            .has_variables
            .then(|| format!("AVTRYCK_{}_{key}", self.name).to_uppercase());
        let in_file = self.table.remove(key).map(|value| (value, Source::File));
        let in_environment = variable
            .as_ref()
            .and_then(|variable| self.reader.environment.remove(variable))
            .map(|text| (Value::String(text), Source::Environment));
        let mut setting = Setting {
            section: self.name.clone(),
            key,
            means,
            right: "",
            variable,
            is_fixed,
            given: in_environment.or(in_file),
            texts: Vec::new(),
            shown: String::new(),
        };
        if let Some(kept) = self.reader.kept.get(&setting.name()).filter(|_| is_fixed) {
            setting.given.clone_from(kept);
        }
        self.known.push(key.to_owned());
        Key {
            section: self,
            setting,
        }
    }

    fn wrong(&mut self, name: &str, value: &str, right: &str) {
        self.reader.error(&format!(
            "{name}: {value:?} is wrong; {right} would be right"
        ));
    }

    fn finish(self) {
        for key in self.table.keys() {
            self.reader.error(&format!(
                "{}.{key}: is no key; did you mean {}?",
                self.name,
                nearest(self.known.iter().map(String::as_str), key)
            ));
        }
    }
}

impl Key<'_, '_> {
    /// One value; `default` is what would stand in the file.
    pub(super) fn one<T>(
        self,
        default: &str,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.take(default, right, parse, false)
    }

    /// Like `one`; only the default is ever shown.
    pub(super) fn secret<T>(
        self,
        default: &str,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.take(default, right, parse, true)
    }

    /// A value that has to be there.
    pub(super) fn required(
        self,
        right: &'static str,
        parse: impl Fn(&str) -> Option<String>,
    ) -> String {
        let Setting { section, given, .. } = &self.setting;
        // What stands in for it is never used.
        let stand_in = section.replace(['[', ']'], ".");
        if given.is_none() {
            let name = self.setting.name();
            self.section
                .reader
                .error(&format!("{name}: is missing; {right} would be right"));
        }
        self.take(&stand_in, right, parse, false)
    }

    /// Any number of values, by default none.
    pub(super) fn list<T>(self, right: &'static str, parse: impl Fn(&str) -> Option<T>) -> Vec<T> {
        self.take_all(&[], right, parse, false)
    }

    /// Any number of values; `default` is what would stand in the file.
    pub(super) fn list_or<T>(
        self,
        default: &[&str],
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        self.take_all(default, right, parse, false)
    }

    /// Like `list`; the values are never shown.
    pub(super) fn secret_list<T>(
        self,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        self.take_all(&[], right, parse, true)
    }

    /// A table of texts, by default empty.
    pub(super) fn pairs(mut self, right: &'static str) -> Vec<(String, String)> {
        let table = match self.setting.given.clone() {
            Some((Value::Table(table), _)) => table,
            Some((value, _)) => {
                self.wrong(&text(&value), right);
                Table::new()
            }
            None => Table::new(),
        };
        let mut taken = Vec::new();
        for (theirs, ours) in table {
            match ours {
                Value::String(ours) => taken.push((theirs, ours)),
                other => {
                    let name = format!("{}.{theirs}", self.name());
                    self.section.wrong(&name, &text(&other), right);
                }
            }
        }
        let quoted = |text: &str| Value::String(text.to_owned()).to_string();
        let shown: Vec<String> = taken
            .iter()
            .map(|(theirs, ours)| format!("{} = {}", quoted(theirs), quoted(ours)))
            .collect();
        let shown = match shown.join(", ") {
            none if none.is_empty() => "{}".to_owned(),
            some => format!("{{ {some} }}"),
        };
        self.note(right, Vec::new(), shown);
        taken
    }

    fn take<T>(
        mut self,
        default: &str,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        secret: bool,
    ) -> T {
        let given = match &self.setting.given {
            Some((Value::Array(_) | Value::Table(_), _)) => {
                self.wrong(HIDDEN, right);
                None
            }
            Some((value, _)) => Some(text(value)),
            None => None,
        };
        let hidden = |text: &str| secret && text != default;
        let shown = |text: &str| if hidden(text) { HIDDEN } else { text }.to_owned();
        let taken = given.and_then(|text| {
            let value = parse(&text);
            if value.is_none() {
                self.wrong(&shown(&text), right);
            }
            Some((value?, text))
        });
        let (value, text) = taken.unwrap_or_else(|| {
            let value = parse(default).expect("defaults are right: a test reads them all");
            (value, default.to_owned())
        });
        let shown = plain(&shown(&text));
        self.note(right, vec![text], shown);
        value
    }

    fn take_all<T>(
        mut self,
        default: &[&str],
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        secret: bool,
    ) -> Vec<T> {
        let shown = |text: &str| if secret { HIDDEN } else { text }.to_owned();
        let texts = match &self.setting.given {
            Some((Value::Array(values), _)) => values.iter().map(text).collect(),
            // A variable separates the values of a list by commas.
            Some((Value::String(text), Source::Environment)) => text
                .split(',')
                .map(|part| part.trim().to_owned())
                .filter(|part| !part.is_empty())
                .collect(),
            Some((value, _)) => {
                self.wrong(&shown(&text(value)), "a list");
                Vec::new()
            }
            None => default.iter().map(|text| (*text).to_owned()).collect(),
        };
        let mut taken = Vec::new();
        for text in &texts {
            match parse(text) {
                Some(value) => taken.push(value),
                None => self.wrong(&shown(text), right),
            }
        }
        let quoted: Vec<String> = texts
            .iter()
            .map(|text| Value::String(shown(text)).to_string())
            .collect();
        self.note(right, texts, format!("[{}]", quoted.join(", ")));
        taken
    }

    /// The name to complain under: the key or, where the value is from there, the variable.
    fn name(&self) -> String {
        match (&self.setting.given, &self.setting.variable) {
            (Some((_, Source::Environment)), Some(variable)) => variable.clone(),
            _ => self.setting.name(),
        }
    }

    fn wrong(&mut self, value: &str, right: &str) {
        let name = self.name();
        self.section.wrong(&name, value, right);
    }

    fn note(mut self, right: &'static str, texts: Vec<String>, shown: String) {
        self.setting.right = right;
        self.setting.texts = texts;
        self.setting.shown = shown;
        self.section.reader.settings.push(self.setting);
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

fn nearest<'k>(known: impl Iterator<Item = &'k str>, name: &str) -> &'k str {
    known
        .min_by_key(|known| distance(known, name))
        .unwrap_or_default()
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
