//! Reads keys from a TOML document and the environment; collects the mistakes, and what is in
//! force.

use std::collections::BTreeMap;
use std::ffi::OsString;

use toml::{Table as Toml, Value};

use super::ConfigErrors;
use super::in_force::{HIDDEN, InForce, Kept, Layer, Setting};
use super::table::Table;
use crate::hit::Permit;

/// Variables that are not keys: where the file is, and how much is logged.
const OTHER_VARIABLES: [&str; 2] = ["AVTRYCK_CONFIG", "AVTRYCK_LOG"];

/// A file and an environment while they are read.
pub(super) struct ConfigReader {
    document: Toml,
    file_was_read: bool,
    environment: BTreeMap<String, String>,
    kept: Kept,
    /// The name of every section that exists.
    sections: Vec<&'static str>,
    errors: Vec<String>,
    settings: Vec<Setting>,
}

/// One table while its keys are read.
pub(super) struct Section<'r> {
    /// As errors name it: `http`, `site[0]`.
    name: String,
    table: Toml,
    keys: Vec<&'static str>,
    /// The tables of a list have no variables.
    has_variables: bool,
    reader: &'r mut ConfigReader,
}

/// One key while its value is read.
pub(super) struct KeyRow<'s, 'r> {
    section: &'s mut Section<'r>,
    setting: Setting,
}

impl ConfigReader {
    /// Starts to read. A file that cannot be read is one mistake among others.
    pub(super) fn new(
        text: Result<String, String>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        kept: Kept,
    ) -> ConfigReader {
        let mut errors = Vec::new();
        let document = text.and_then(|text| parse_document(&text));
        let file_was_read = document.is_ok();
        let document = document.unwrap_or_else(|error| {
            errors.push(error);
            Toml::new()
        });
        let mut variables = BTreeMap::new();
        for (name, value) in environment {
            let Some(name) = name.to_str().filter(|name| name.starts_with("AVTRYCK_")) else {
                continue;
            };
            if OTHER_VARIABLES.contains(&name) {
                continue;
            }
            match value.into_string() {
                Ok(value) => drop(variables.insert(name.to_owned(), value)),
                Err(_) => errors.push(format!("{name}: is no UTF-8; UTF-8 would be right")),
            }
        }
        ConfigReader {
            document,
            file_was_read,
            environment: variables,
            kept,
            sections: Vec::new(),
            errors,
            settings: Vec::new(),
        }
    }

    pub(super) fn file_was_read(&self) -> bool {
        self.file_was_read
    }

    pub(super) fn add_error(&mut self, error: &str) {
        self.errors.push(error.to_owned());
    }

    /// Reads a section.
    pub(super) fn section<T: Table>(&mut self) -> T {
        let name = T::NAME;
        let table = match self.document.remove(name) {
            None => Toml::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.add_error(&format!("{name}: is no table; [{name}] would be right"));
                Toml::new()
            }
        };
        self.sections.push(name);
        self.table(name.to_owned(), table, true)
    }

    /// Reads every table of a list.
    pub(super) fn tables<T: Table>(&mut self) -> Vec<T> {
        let name = T::NAME;
        let values = match self.document.remove(name) {
            None => Vec::new(),
            Some(Value::Array(values)) => values,
            Some(_) => {
                self.add_error(&format!(
                    "{name}: is no list of tables; [[{name}]] would be right"
                ));
                Vec::new()
            }
        };
        self.sections.push(name);
        let mut tables = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let Value::Table(table) = value else {
                self.add_error(&format!(
                    "{name}[{index}]: is no table; [[{name}]] would be right"
                ));
                continue;
            };
            tables.push(self.table(format!("{name}[{index}]"), table, false));
        }
        tables
    }

    fn table<T: Table>(&mut self, name: String, table: Toml, has_variables: bool) -> T {
        let mut section = Section {
            name,
            table,
            keys: Vec::new(),
            has_variables,
            reader: self,
        };
        let read = T::read(&mut section);
        section.report_unknown_keys();
        read
    }

    /// Returns what is in force, if there is no mistake.
    pub(super) fn finish(mut self) -> Result<InForce, ConfigErrors> {
        let sections = self.sections.join(", ");
        for name in self.document.keys() {
            self.errors.push(format!(
                "{name}: is no section; one of {sections} would be right"
            ));
        }
        let variables = self.settings.iter().filter_map(|s| s.variable.as_deref());
        for name in self.environment.keys() {
            let nearest = find_nearest(variables.clone(), name);
            self.errors
                .push(format!("{name}: names no key; did you mean {nearest}?"));
        }
        if self.errors.is_empty() {
            Ok(InForce(self.settings))
        } else {
            Err(ConfigErrors(self.errors))
        }
    }
}

fn parse_document(text: &str) -> Result<Toml, String> {
    text.parse::<Toml>().map_err(|error| {
        // The error's own text shows the line, which may hold a secret.
        let start = error.span().map_or(0, |span| span.start);
        let line = text.get(..start).unwrap_or_default().matches('\n').count() + 1;
        format!("line {line}: no TOML ({})", error.message())
    })
}

impl<'r> Section<'r> {
    /// Begins a key that a reload applies.
    pub(super) fn reload(&mut self, key: &'static str, meaning: &'static str) -> KeyRow<'_, 'r> {
        self.key(key, meaning, false)
    }

    /// Begins a key that keeps its value until the process ends.
    pub(super) fn restart(&mut self, key: &'static str, meaning: &'static str) -> KeyRow<'_, 'r> {
        self.key(key, meaning, true)
    }

    fn key(
        &mut self,
        key: &'static str,
        meaning: &'static str,
        takes_restart: bool,
    ) -> KeyRow<'_, 'r> {
        let variable = self
            .has_variables
            .then(|| format!("AVTRYCK_{}_{key}", self.name).to_uppercase());
        let in_file = self.table.remove(key).map(|value| (value, Layer::File));
        let in_environment = variable
            .as_ref()
            .and_then(|variable| self.reader.environment.remove(variable))
            .map(|text| (Value::String(text), Layer::Environment));
        let mut setting = Setting {
            section: self.name.clone(),
            key,
            // Each line of a documentation comment begins with a space.
            meaning: meaning.trim_start(),
            right: "",
            variable,
            takes_restart,
            given: in_environment.or(in_file),
            texts: Vec::new(),
            shown: String::new(),
        };
        if takes_restart && let Some(kept) = self.reader.kept.get(&setting.name()) {
            setting.given.clone_from(kept);
        }
        self.keys.push(key);
        KeyRow {
            section: self,
            setting,
        }
    }

    fn report_unknown_keys(self) {
        for key in self.table.keys() {
            self.reader.add_error(&format!(
                "{}.{key}: is no key; did you mean {}?",
                self.name,
                find_nearest(self.keys.iter().copied(), key)
            ));
        }
    }
}

impl KeyRow<'_, '_> {
    /// Reads one value; `default` is what would stand in the file.
    pub(super) fn one<T>(
        self,
        default: &str,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.read_one(default, right, parse, false)
    }

    /// Reads one value of which only the default is ever shown.
    pub(super) fn secret<T>(
        self,
        default: &str,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.read_one(default, right, parse, true)
    }

    /// Reads a truth value, by default false.
    pub(super) fn flag(self) -> bool {
        self.one("false", "true or false", |text| text.parse().ok())
    }

    /// Reads one value, or none where the text is empty, as it is by default.
    pub(super) fn optional<T>(
        self,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        self.one("", right, |text| {
            if text.is_empty() {
                return Some(None);
            }
            parse(text).map(Some)
        })
    }

    /// Reads a value that has to be given.
    pub(super) fn required<T>(self, right: &'static str, parse: impl Fn(&str) -> Option<T>) -> T {
        let Setting { section, given, .. } = &self.setting;
        // It stands in for a missing value, so that reading can go on, and is never used.
        let stand_in = section.replace(['[', ']'], ".");
        if given.is_none() {
            let name = self.setting.name();
            self.section
                .reader
                .add_error(&format!("{name}: is missing; {right} would be right"));
        }
        self.read_one(&stand_in, right, parse, false)
    }

    /// Reads any number of values, by default none.
    pub(super) fn list<T, C: FromIterator<T>>(
        self,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> C {
        self.read_all(&[], right, parse, false)
    }

    /// Reads any number of values; `default` is what would stand in the file.
    pub(super) fn list_or<T, C: FromIterator<T>>(
        self,
        default: &[&str],
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> C {
        self.read_all(default, right, parse, false)
    }

    /// Reads any number of values that are never shown, by default none.
    pub(super) fn secret_list<T, C: FromIterator<T>>(
        self,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> C {
        self.read_all(&[], right, parse, true)
    }

    /// Reads the names of what is allowed, by default nothing.
    pub(super) fn permits(self, right: &'static str) -> Permit {
        let permits: Vec<Permit> = self.list(right, Permit::named);
        permits.into_iter().fold(Permit::NONE, Permit::with)
    }

    /// Reads a table of texts, by default empty.
    pub(super) fn pairs(mut self, right: &'static str) -> Vec<(String, String)> {
        let table = match self.setting.given.clone() {
            Some((Value::Table(table), _)) => table,
            Some((value, _)) => {
                self.add_wrong(&text_of(&value), right);
                Toml::new()
            }
            None => Toml::new(),
        };
        let mut pairs = Vec::new();
        for (theirs, ours) in table {
            match ours {
                Value::String(ours) => pairs.push((theirs, ours)),
                other => {
                    let name = format!("{}.{theirs}", self.setting.given_name());
                    let error = wrong(&name, &text_of(&other), right);
                    self.section.reader.add_error(&error);
                }
            }
        }
        let quote = |text: &str| Value::String(text.to_owned()).to_string();
        let shown: Vec<String> = pairs
            .iter()
            .map(|(theirs, ours)| format!("{} = {}", quote(theirs), quote(ours)))
            .collect();
        let shown = if shown.is_empty() {
            "{}".to_owned()
        } else {
            format!("{{ {} }}", shown.join(", "))
        };
        self.finish(right, Vec::new(), shown);
        pairs
    }

    fn read_one<T>(
        mut self,
        default: &str,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        is_secret: bool,
    ) -> T {
        let given = match &self.setting.given {
            Some((Value::Array(_) | Value::Table(_), _)) => {
                self.add_wrong(HIDDEN, right);
                None
            }
            Some((value, _)) => Some(text_of(value)),
            None => None,
        };
        let show = |text: &str| {
            let is_hidden = is_secret && text != default;
            if is_hidden { HIDDEN } else { text }.to_owned()
        };
        let read = given.and_then(|text| {
            let value = parse(&text);
            if value.is_none() {
                self.add_wrong(&show(&text), right);
            }
            Some((value?, text))
        });
        let (value, text) = read.unwrap_or_else(|| {
            let value = parse(default).expect("defaults are right: a test reads them all");
            (value, default.to_owned())
        });
        let shown = bare_or_quoted(&show(&text));
        self.finish(right, vec![text], shown);
        value
    }

    fn read_all<T, C: FromIterator<T>>(
        mut self,
        default: &[&str],
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        is_secret: bool,
    ) -> C {
        let show = |text: &str| if is_secret { HIDDEN } else { text }.to_owned();
        let texts = match &self.setting.given {
            Some((Value::Array(values), _)) => values.iter().map(text_of).collect(),
            // A variable separates the values of a list by commas.
            Some((Value::String(text), Layer::Environment)) => text
                .split(',')
                .map(|part| part.trim().to_owned())
                .filter(|part| !part.is_empty())
                .collect(),
            Some((value, _)) => {
                self.add_wrong(&show(&text_of(value)), "a list");
                Vec::new()
            }
            None => default.iter().map(|text| (*text).to_owned()).collect(),
        };
        let mut values = Vec::new();
        for text in &texts {
            match parse(text) {
                Some(value) => values.push(value),
                None => self.add_wrong(&show(text), right),
            }
        }
        let quoted: Vec<String> = texts
            .iter()
            .map(|text| Value::String(show(text)).to_string())
            .collect();
        self.finish(right, texts, format!("[{}]", quoted.join(", ")));
        values.into_iter().collect()
    }

    fn add_wrong(&mut self, value: &str, right: &str) {
        let error = wrong(&self.setting.given_name(), value, right);
        self.section.reader.add_error(&error);
    }

    fn finish(mut self, right: &'static str, texts: Vec<String>, shown: String) {
        self.setting.right = right;
        self.setting.texts = texts;
        self.setting.shown = shown;
        self.section.reader.settings.push(self.setting);
    }
}

/// Returns the message that a value is wrong.
pub(super) fn wrong(name: &str, value: &str, right: &str) -> String {
    format!("{name}: {value:?} is wrong; {right} would be right")
}

/// Returns a text as it would stand in the file: numbers and truth values bare.
fn bare_or_quoted(text: &str) -> String {
    if text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok() {
        return text.to_owned();
    }
    Value::String(text.to_owned()).to_string()
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Returns the name that the fewest letters tell from `name`.
fn find_nearest<'k>(known: impl Iterator<Item = &'k str>, name: &str) -> &'k str {
    known
        .min_by_key(|known| strsim::levenshtein(known, name))
        .unwrap_or_default()
}
