//! Reads keys from a TOML document and the environment; collects the mistakes, each with its line,
//! and what is in force.

mod row;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;

use toml::{Table as Toml, Value};

use super::document::{ConfigText, Document, name_to_show, suggest};
use super::in_force::{InForce, Kept, Layer, Setting};
use super::mistakes::Mistakes;

/// Variables that are not keys: where the file is, and how much is logged.
const OTHER_VARIABLES: [&str; 2] = ["AVTRYCK_CONFIG", "AVTRYCK_LOG"];
/// Where somebody finds every key.
const ALL_KEYS: &str = "`avtryck example-config` has all of them";

/// A file and an environment while they are read.
pub(super) struct ConfigReader {
    document: Document,
    /// Whether the document is whole, so that what is missing in it is a mistake.
    file_was_read: bool,
    environment: BTreeMap<String, String>,
    kept: Kept,
    /// The name of every section that exists, and how its header is written.
    sections: Vec<(&'static str, String)>,
    /// Keys that are not known: their table and their name.
    unknown: Vec<(String, String)>,
    settings: Vec<Setting>,
    /// The names of keys whose value is missing or wrong. Another value stands in for it, or for
    /// part of it, and nothing is to be said of that one.
    stood_in: BTreeSet<String>,
}

/// The struct of a section, which can read itself.
pub(super) trait Table {
    /// The name between the brackets.
    const NAME: &'static str;

    /// Reads every key. Mistakes go to the section's reader.
    fn read(section: &mut Section<'_>) -> Self;
}

/// One table while its keys are read.
pub(super) struct Section<'r> {
    /// As errors name it: `http`, `site[0]`.
    name: String,
    table: Toml,
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
        text: &ConfigText,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        kept: Kept,
    ) -> ConfigReader {
        let mut document = text.parse();
        let file_was_read = document.mistakes.is_empty();
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
                Err(_) => {
                    let error = format!("{name}: is no UTF-8; UTF-8 would be right");
                    document.mistakes.add(None, error);
                }
            }
        }
        ConfigReader {
            document,
            file_was_read,
            environment: variables,
            kept,
            sections: Vec::new(),
            unknown: Vec::new(),
            settings: Vec::new(),
            stood_in: BTreeSet::new(),
        }
    }

    pub(super) fn file_was_read(&self) -> bool {
        self.file_was_read
    }

    /// Adds what a check found in a key, a table or an entry of a list, with its line if it has
    /// one. A key with another value than the configured one has its mistake already.
    pub(super) fn add_error(&mut self, path: &str, error: &str) {
        let key = path
            .strip_suffix(']')
            .and_then(|path| path.rsplit_once('['));
        let key = key.map_or(path, |(key, _)| key);
        if !self.is_stood_in(path) && !self.is_stood_in(key) {
            self.report(path, error);
        }
    }

    /// Returns whether the value of a key is not the configured one, because that is missing or
    /// wrong.
    pub(super) fn is_stood_in(&self, name: &str) -> bool {
        self.stood_in.contains(name)
    }

    /// Returns whether the keys of all tables of a list are known, so that any other name is a
    /// mistake.
    pub(super) fn knows_all<'k>(
        &self,
        list: &str,
        mut keys: impl Iterator<Item = &'k str>,
    ) -> bool {
        !self.is_stood_in(list) && keys.all(|key| !key.is_empty())
    }

    /// Adds a mistake with its line if it has one.
    fn report(&mut self, path: &str, error: &str) {
        let line = self.line(path);
        let place = line.map_or_else(String::new, |line| self.document.place(line));
        self.document.mistakes.add(line, format!("{place}{error}"));
    }

    /// Returns the line that says what is in force for a key, a table or an entry of a list.
    fn line(&self, path: &str) -> Option<usize> {
        let mut settings = self.settings.iter();
        let setting = settings.find(|setting| setting.name() == path);
        let is_elsewhere = setting.is_some_and(|setting| setting.place.is_empty());
        self.document.line(path).filter(|_| !is_elsewhere)
    }

    pub(super) fn has_line(&self, path: &str) -> bool {
        self.line(path).is_some()
    }

    /// Reads a section.
    pub(super) fn section<T: Table>(&mut self) -> T {
        let name = T::NAME;
        let table = match self.document.table.remove(name) {
            None => Toml::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                let error = format!("{name}: is no table; [{name}] would be right");
                self.report(name, &error);
                Toml::new()
            }
        };
        self.sections.push((name, format!("[{name}]")));
        self.table(name.to_owned(), table, true)
    }

    /// Reads every table of a list.
    pub(super) fn tables<T: Table>(&mut self) -> Vec<T> {
        let name = T::NAME;
        let values = match self.document.table.remove(name) {
            None => Vec::new(),
            Some(Value::Array(values)) => values,
            Some(_) => {
                let error = format!("{name}: is no list of tables; [[{name}]] would be right");
                self.report(name, &error);
                self.stood_in.insert(name.to_owned());
                Vec::new()
            }
        };
        self.sections.push((name, format!("[[{name}]]")));
        let mut tables = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let path = format!("{name}[{index}]");
            let Value::Table(table) = value else {
                let error = format!("{path}: is no table; [[{name}]] would be right");
                self.report(&path, &error);
                self.stood_in.insert(name.to_owned());
                continue;
            };
            tables.push(self.table(path, table, false));
        }
        tables
    }

    fn table<T: Table>(&mut self, name: String, table: Toml, has_variables: bool) -> T {
        let mut section = Section {
            name,
            table,
            has_variables,
            reader: self,
        };
        let read = T::read(&mut section);
        let Section { name, table, .. } = section;
        let unknown = table.into_iter().map(|(key, _)| (name.clone(), key));
        self.unknown.extend(unknown);
        read
    }

    /// Returns what is in force, and what is wrong.
    pub(super) fn finish(mut self) -> (InForce, Mistakes) {
        self.report_unknown_keys();
        self.report_unknown_sections();
        for name in self.environment.keys() {
            let mut variables = self.settings.iter().filter_map(|s| s.variable.as_deref());
            let what = match (self.find_list(name), suggest(&mut variables, name)) {
                (Some(list), _) => {
                    format!(
                        "the keys of {list} and of other lists have no variable; the file has them"
                    )
                }
                (None, Some(nearest)) => format!("did you mean {nearest}?"),
                (None, None) => ALL_KEYS.to_owned(),
            };
            let error = format!("{name}: names no key; {what}");
            self.document.mistakes.add(None, error);
        }
        (InForce(self.settings), self.document.mistakes)
    }

    /// Returns the header of the list that a variable seems to name a key of.
    fn find_list(&self, variable: &str) -> Option<&str> {
        let rest = variable.strip_prefix("AVTRYCK_")?;
        let mut lists = self.sections.iter();
        let (_, written) = lists.find(|(name, written)| {
            let after = rest.strip_prefix(name.to_uppercase().as_str());
            let is_below = after.is_some_and(|after| after.is_empty() || after.starts_with('_'));
            written.starts_with("[[") && is_below
        })?;
        Some(written.as_str())
    }

    /// Reports each key that its table does not have: with the key that is likely meant, or with
    /// the sections that have one of this name.
    fn report_unknown_keys(&mut self) {
        for (section, key) in std::mem::take(&mut self.unknown) {
            let key = name_to_show(&key);
            let settings = self.settings.iter();
            let of_section = settings.filter(|setting| setting.section == section);
            let what = match suggest(of_section.map(|setting| setting.key), &key) {
                Some(nearest) => format!("did you mean {nearest}?"),
                None => self.say_whose(&key),
            };
            let path = format!("{section}.{key}");
            self.report(&path, &format!("{path}: is no key; {what}"));
        }
    }

    /// Reports each section that does not exist, and keys that stand in none.
    fn report_unknown_sections(&mut self) {
        let names: Vec<String> = self.document.table.keys().cloned().collect();
        for name in names {
            let has_key = self.settings.iter().any(|setting| setting.key == name);
            let known = || self.sections.iter().map(|(known, _)| *known);
            let what = if has_key {
                format!("stands in no section; {}", self.say_whose(&name))
            } else if let Some(nearest) = suggest(known(), &name) {
                let mut sections = self.sections.iter();
                let written = sections.find(|(known, _)| *known == nearest);
                let written = written.map_or(nearest, |(_, written)| written);
                format!("is no section; did you mean {written}?")
            } else {
                let known = known().collect::<Vec<_>>().join(", ");
                format!("is no section; one of {known} would be right")
            };
            self.report(&name, &format!("{}: {what}", name_to_show(&name)));
        }
    }

    /// Says which sections have a key.
    fn say_whose(&self, key: &str) -> String {
        let having = self.sections.iter().filter(|(section, _)| {
            let mut settings = self.settings.iter();
            settings.any(|setting| setting.key == key && setting.table().0 == *section)
        });
        let having: Vec<&str> = having.map(|(_, written)| written.as_str()).collect();
        if having.is_empty() {
            return ALL_KEYS.to_owned();
        }
        format!("{} has one of this name", having.join(" or "))
    }
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
            place: String::new(),
            line: None,
        };
        if let Some((_, Layer::File)) = setting.given
            && let Some(line) = self.reader.document.line(&setting.name())
        {
            setting.place = self.reader.document.place(line);
            setting.line = Some(line);
        }
        if takes_restart && let Some(kept) = self.reader.kept.get(&setting.name()) {
            setting.given.clone_from(kept);
        }
        KeyRow {
            section: self,
            setting,
        }
    }
}

/// Returns the message that a value is wrong.
pub(super) fn wrong(name: &str, value: &str, right: &str) -> String {
    format!("{name}: {value:?} is wrong; {right} would be right")
}

/// Returns what messages call a table of a list: its key, or its place where that is not known.
pub(super) fn name_table(list: &str, index: usize, key: &str) -> String {
    match key {
        "" => format!("{list}[{index}]"),
        key => format!("{list} {key}"),
    }
}

/// Reports each value that occurs again, at the second place, or the first if only that is in the
/// file.
pub(super) fn report_repeats<T: Ord + fmt::Display>(
    reader: &mut ConfigReader,
    name: &str,
    values: Vec<(String, T)>,
) {
    let mut earlier = BTreeMap::new();
    for (path, value) in values {
        if let Some(first) = earlier.get(&value) {
            let error = format!("{name}: {value} is there twice; each once would be right");
            let place = if reader.has_line(&path) { &path } else { first };
            reader.add_error(place, &error);
        } else {
            earlier.insert(value, path);
        }
    }
}
