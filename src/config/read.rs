//! Takes keys out of a TOML document and the environment, and gathers what is wrong.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::ConfigErrors;

/// Variables that are no keys: where the file is, and how much is logged.
const OTHER_VARIABLES: [&str; 2] = ["AVTRYCK_CONFIG", "AVTRYCK_LOG"];

pub(super) struct Reader {
    table: Table,
    environment: BTreeMap<String, String>,
    errors: Vec<String>,
}

/// One table while its keys are taken.
pub(super) struct Section<'r> {
    name: String,
    table: Table,
    known: Vec<String>,
    environment: Option<&'r mut BTreeMap<String, String>>,
    errors: &'r mut Vec<String>,
}

impl Reader {
    pub(super) fn new(
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Reader, ConfigErrors> {
        let table = text.parse::<Table>().map_err(|error| {
            ConfigErrors(vec![format!("no TOML: {}", error.to_string().trim())])
        })?;
        let environment = environment
            .into_iter()
            .filter(|(name, _)| {
                name.starts_with("AVTRYCK_") && !OTHER_VARIABLES.contains(&name.as_str())
            })
            .collect();
        Ok(Reader {
            table,
            environment,
            errors: Vec::new(),
        })
    }

    pub(super) fn error(&mut self, error: &str) {
        self.errors.push(error.to_owned());
    }

    pub(super) fn section<T>(&mut self, name: &str, take: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let table = match self.table.remove(name) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.errors
                    .push(format!("{name}: is no table; [{name}] would be right"));
                Table::new()
            }
        };
        let mut section = Section {
            name: name.to_owned(),
            table,
            known: Vec::new(),
            environment: Some(&mut self.environment),
            errors: &mut self.errors,
        };
        let taken = take(&mut section);
        section.finish();
        taken
    }

    pub(super) fn tables<T>(&mut self, name: &str, take: impl Fn(&mut Section<'_>) -> T) -> Vec<T> {
        let values = match self.table.remove(name) {
            None => Vec::new(),
            Some(Value::Array(values)) => values,
            Some(_) => {
                self.errors.push(format!(
                    "{name}: is no list of tables; [[{name}]] would be right"
                ));
                Vec::new()
            }
        };
        let mut taken = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let Value::Table(table) = value else {
                self.errors.push(format!(
                    "{name}[{index}]: is no table; [[{name}]] would be right"
                ));
                continue;
            };
            let mut section = Section {
                name: format!("{name}[{index}]"),
                table,
                known: Vec::new(),
                environment: None,
                errors: &mut self.errors,
            };
            taken.push(take(&mut section));
            section.finish();
        }
        taken
    }

    pub(super) fn finish<T>(mut self, config: T) -> Result<T, ConfigErrors> {
        let sections = "http, path, admin, spool, database, loader, geoip, device, privacy, cookie, site, partner";
        for name in self.table.keys() {
            self.errors.push(format!(
                "{name}: is no section; one of {sections} would be right"
            ));
        }
        for name in self.environment.keys() {
            self.errors.push(format!(
                "{name}: names no key; AVTRYCK_<SECTION>_<KEY> would be right"
            ));
        }
        if self.errors.is_empty() {
            Ok(config)
        } else {
            Err(ConfigErrors(self.errors))
        }
    }
}

impl Section<'_> {
    /// Takes a key's values as texts: from the environment, else from the file.
    fn texts(&mut self, key: &str, list: bool) -> Option<Vec<String>> {
        self.known.push(key.to_owned());
        let value = self.table.remove(key);
        let variable = format!("AVTRYCK_{}_{}", self.name, key).to_uppercase();
        if let Some(text) = self
            .environment
            .as_mut()
            .and_then(|all| all.remove(&variable))
        {
            return Some(if list {
                text.split(',')
                    .map(|part| part.trim().to_owned())
                    .filter(|part| !part.is_empty())
                    .collect()
            } else {
                vec![text]
            });
        }
        match value? {
            Value::Array(values) if list => Some(values.iter().map(text).collect()),
            other if list => {
                self.wrong(key, &text(&other), "a list");
                None
            }
            other => Some(vec![text(&other)]),
        }
    }

    fn wrong(&mut self, key: &str, value: &str, right: &str) {
        self.errors.push(format!(
            "{}.{key}: {value:?} is wrong; {right} would be right",
            self.name
        ));
    }

    pub(super) fn take<T>(
        &mut self,
        key: &str,
        default: T,
        right: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.one(key, default, right, parse, false)
    }

    /// Like `take`; the value is never shown.
    pub(super) fn take_secret<T>(
        &mut self,
        key: &str,
        default: T,
        right: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.one(key, default, right, parse, true)
    }

    fn one<T>(
        &mut self,
        key: &str,
        default: T,
        right: &str,
        parse: impl Fn(&str) -> Option<T>,
        secret: bool,
    ) -> T {
        let Some(text) = self
            .texts(key, false)
            .and_then(|texts| texts.into_iter().next())
        else {
            return default;
        };
        parse(&text).unwrap_or_else(|| {
            self.wrong(key, if secret { "(not shown)" } else { &text }, right);
            default
        })
    }

    /// A key that has no default.
    pub(super) fn require(
        &mut self,
        key: &str,
        right: &str,
        parse: impl Fn(&str) -> Option<String>,
    ) -> String {
        let given = self.table.contains_key(key);
        let value = self.take(key, String::new(), right, parse);
        if !given {
            self.errors.push(format!(
                "{}.{key}: is missing; {right} would be right",
                self.name
            ));
        }
        value
    }

    pub(super) fn take_list<T>(
        &mut self,
        key: &str,
        right: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        self.many(key, right, parse, false)
    }

    /// Like `take_list`; the values are never shown.
    pub(super) fn take_secret_list<T>(
        &mut self,
        key: &str,
        right: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        self.many(key, right, parse, true)
    }

    fn many<T>(
        &mut self,
        key: &str,
        right: &str,
        parse: impl Fn(&str) -> Option<T>,
        secret: bool,
    ) -> Vec<T> {
        let mut taken = Vec::new();
        for text in self.texts(key, true).unwrap_or_default() {
            match parse(&text) {
                Some(value) => taken.push(value),
                None => self.wrong(key, if secret { "(not shown)" } else { &text }, right),
            }
        }
        taken
    }

    fn finish(self) {
        for key in self.table.keys() {
            let nearest = self.known.iter().min_by_key(|known| distance(known, key));
            self.errors.push(format!(
                "{}.{key}: is no key; did you mean {}?",
                self.name,
                nearest.map_or("none", String::as_str)
            ));
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
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
