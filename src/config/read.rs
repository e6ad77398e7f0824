//! Reads keys from a TOML document and the environment; collects the mistakes, each with its line,
//! and what is in force.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use toml::{Table as Toml, Value};

use super::document::{ConfigText, Document, name_to_show, suggest};
use super::in_force::{HIDDEN, InForce, Kept, Layer, Setting};
use super::mistakes::Mistakes;
use crate::hit::Permit;

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
        }
    }

    pub(super) fn file_was_read(&self) -> bool {
        self.file_was_read
    }

    /// Adds a mistake in a key, a table or an entry of a list, with its line if it has one.
    pub(super) fn add_error(&mut self, path: &str, error: &str) {
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
                self.add_error(name, &error);
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
                self.add_error(name, &error);
                Vec::new()
            }
        };
        self.sections.push((name, format!("[[{name}]]")));
        let mut tables = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let path = format!("{name}[{index}]");
            let Value::Table(table) = value else {
                let error = format!("{path}: is no table; [[{name}]] would be right");
                self.add_error(&path, &error);
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
            let what = match suggest(&mut variables, name) {
                Some(nearest) => format!("did you mean {nearest}?"),
                None => ALL_KEYS.to_owned(),
            };
            let error = format!("{name}: names no key; {what}");
            self.document.mistakes.add(None, error);
        }
        (InForce(self.settings), self.document.mistakes)
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
            self.add_error(&path, &format!("{path}: is no key; {what}"));
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
            self.add_error(&name, &format!("{}: {what}", name_to_show(&name)));
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

impl KeyRow<'_, '_> {
    /// Reads one value; `default` is what would stand in the file.
    pub(super) fn one<T>(
        self,
        default: &str,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.read_one(default, right, parse, say_nothing, false)
    }

    /// Reads one value of which only the default is ever shown.
    pub(super) fn secret<T>(
        self,
        default: &str,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.read_one(default, right, parse, say_nothing, true)
    }

    /// The same for a value of which `explain` says what is wrong without showing it.
    pub(super) fn explained_secret<T>(
        self,
        default: &str,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        explain: impl Fn(&str) -> Option<String>,
    ) -> T {
        self.read_one(default, right, parse, explain, true)
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
        if given.is_none() && self.section.reader.file_was_read {
            let (table, name) = (section.clone(), self.setting.name());
            let error = format!("{name}: is missing; {right} would be right");
            self.section.reader.add_error(&table, &error);
        }
        self.read_one(&stand_in, right, parse, say_nothing, false)
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
        let permits: Vec<Permit> = self.list(right, Permit::from_name);
        permits.into_iter().fold(Permit::NONE, Permit::with)
    }

    /// Reads a table of texts, by default empty.
    pub(super) fn pairs(self, right: &'static str) -> Vec<(String, String)> {
        self.read_table(right, |value| value.as_str().map(str::to_owned))
    }

    /// Reads a table of lists of what is allowed, by default empty.
    pub(super) fn permits_by_name(self, right: &'static str) -> Vec<(String, Permit)> {
        self.read_table(right, |value| {
            let mut names = value.as_array()?.iter();
            names.try_fold(Permit::NONE, |permit, name| {
                Permit::from_name(name.as_str()?).map(|flag| permit.with(flag))
            })
        })
    }

    fn read_table<T>(
        mut self,
        right: &'static str,
        parse: impl Fn(&Value) -> Option<T>,
    ) -> Vec<(String, T)> {
        let table = match self.setting.given.clone() {
            Some((Value::Table(table), _)) => table,
            Some((value, _)) => {
                self.add_wrong(None, &text_of(&value), right);
                Toml::new()
            }
            None => Toml::new(),
        };
        let (mut pairs, mut shown) = (Vec::new(), Vec::new());
        for (name, value) in table {
            if let Some(parsed) = parse(&value) {
                shown.push(format!("{} = {value}", Value::String(name.clone())));
                pairs.push((name, parsed));
            } else {
                let name = format!("{}.{name}", self.setting.name());
                let error = wrong(&name, &text_of(&value), right);
                self.section.reader.add_error(&name, &error);
            }
        }
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
        explain: impl Fn(&str) -> Option<String>,
        is_secret: bool,
    ) -> T {
        let given = match &self.setting.given {
            Some((Value::Array(_), _)) => {
                self.add_mistake(None, &format!("is a list; {right} would be right"));
                None
            }
            Some((Value::Table(_), _)) => {
                self.add_mistake(None, &format!("is a table; {right} would be right"));
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
                match explain(&text) {
                    Some(why) => self.add_mistake(None, &format!("{why}; {right} would be right")),
                    None => self.add_wrong(None, &show(&text), right),
                }
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
                self.add_wrong(None, &show(&text_of(value)), "a list");
                Vec::new()
            }
            None => default.iter().map(|text| (*text).to_owned()).collect(),
        };
        let mut values = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match parse(text) {
                Some(value) => values.push(value),
                None => self.add_wrong(Some(index), &show(text), right),
            }
        }
        let quoted: Vec<String> = texts
            .iter()
            .map(|text| Value::String(show(text)).to_string())
            .collect();
        self.finish(right, texts, format!("[{}]", quoted.join(", ")));
        values.into_iter().collect()
    }

    /// Adds that the value is wrong, or an entry of it.
    fn add_wrong(&mut self, entry: Option<usize>, value: &str, right: &str) {
        self.add_mistake(
            entry,
            &format!("{value:?} is wrong; {right} would be right"),
        );
    }

    fn add_mistake(&mut self, entry: Option<usize>, what: &str) {
        let error = format!("{}: {what}", self.setting.given_name());
        let path = match entry {
            // A value from elsewhere has no line.
            _ if self.setting.place.is_empty() => String::new(),
            Some(index) => format!("{}[{index}]", self.setting.name()),
            None => self.setting.name(),
        };
        self.section.reader.add_error(&path, &error);
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

/// Explains nothing: the message shows the value.
fn say_nothing(_: &str) -> Option<String> {
    None
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
