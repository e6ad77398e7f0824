//! The readers that a row of the table of keys may name.

use toml::{Table as Toml, Value};

use super::{KeyRow, wrong};
use crate::config::in_force::{HIDDEN, Layer};
use crate::hit::Permit;

/// The form of a value that is a table.
const TABLE: &str = "a table such as { \"name\" = \"value\" }";

impl KeyRow<'_, '_> {
    /// Reads one value; `default` is what would stand in the file.
    pub(in crate::config) fn one<T>(
        self,
        default: &str,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.read_one(default, right, parse, say_nothing, false)
    }

    /// Reads one value of which only the default is ever shown.
    pub(in crate::config) fn secret<T>(
        self,
        default: &str,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.read_one(default, right, parse, say_nothing, true)
    }

    /// The same for a value of which `explain` says what is wrong without showing it.
    pub(in crate::config) fn explained_secret<T>(
        self,
        default: &str,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        explain: impl Fn(&str) -> Option<String>,
    ) -> T {
        self.read_one(default, right, parse, explain, true)
    }

    /// Reads a truth value, by default false.
    pub(in crate::config) fn flag(self) -> bool {
        self.one("false", "true or false", |text| text.parse().ok())
    }

    /// Reads one value, or none where the text is empty, as it is by default.
    pub(in crate::config) fn optional<T>(
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

    /// Reads a value that has to be given. Where it is missing or wrong, the type's own default
    /// stands in for it, so that reading can go on. It is never used, and nothing is told of it.
    pub(in crate::config) fn required<T: Default>(
        mut self,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        if self.setting.given.is_none() {
            let (table, name) = (self.setting.section.clone(), self.setting.name());
            if self.section.reader.file_was_read {
                let error = format!("{name}: is missing; {right} would be right");
                self.section.reader.report(&table, &error);
            }
            self.section.reader.stood_in.insert(name);
        }
        let read = self.read_given(right, parse, say_nothing, str::to_owned);
        let (value, text) = read.unwrap_or_default();
        let shown = bare_or_quoted(&text);
        self.finish(right, vec![text], shown);
        value
    }

    /// Reads any number of values, by default none.
    pub(in crate::config) fn list<T, C: FromIterator<T>>(
        self,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> C {
        self.read_all(&[], right, parse, false)
    }

    /// Reads any number of values; `default` is what would stand in the file.
    pub(in crate::config) fn list_or<T, C: FromIterator<T>>(
        self,
        default: &[&str],
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> C {
        self.read_all(default, right, parse, false)
    }

    /// Reads any number of values that are never shown, by default none.
    pub(in crate::config) fn secret_list<T, C: FromIterator<T>>(
        self,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> C {
        self.read_all(&[], right, parse, true)
    }

    /// Reads the names of what is allowed, by default nothing.
    pub(in crate::config) fn permits(self, right: &'static str) -> Permit {
        let permits: Vec<Permit> = self.list(right, Permit::from_name);
        permits.into_iter().fold(Permit::NONE, Permit::with)
    }

    /// Reads a table of texts, by default empty.
    pub(in crate::config) fn pairs(self, right: &'static str) -> Vec<(String, String)> {
        self.read_table(right, |value| value.as_str().map(str::to_owned))
    }

    /// Reads a table of lists of what is allowed, by default empty.
    pub(in crate::config) fn permits_by_name(self, right: &'static str) -> Vec<(String, Permit)> {
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
        let given = self.setting.given.clone();
        let table = match &given {
            Some((Value::Table(table), _)) => Some(table.clone()),
            // A variable has the table as the file would have it in one line.
            Some((Value::String(text), Layer::Environment)) => parse_table(text),
            Some(_) => None,
            None => Some(Toml::new()),
        };
        if let (None, Some((value, _))) = (&table, &given) {
            self.add_wrong(None, &text_of(value), &format!("{TABLE}, with {right}"));
        }
        let table = table.unwrap_or_default();
        let (mut pairs, mut shown) = (Vec::new(), Vec::new());
        for (name, value) in table {
            if let Some(parsed) = parse(&value) {
                shown.push(format!("{} = {value}", Value::String(name.clone())));
                pairs.push((name, parsed));
            } else {
                let path = format!("{}.{name}", self.setting.name());
                let name = format!("{}.{name}", self.setting.given_name());
                let error = wrong(&name, &text_of(&value), right);
                self.section.reader.report(&path, &error);
                let key = self.setting.name();
                self.section.reader.stood_in.insert(key);
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
        let show = |text: &str| {
            let is_hidden = is_secret && text != default;
            if is_hidden { HIDDEN } else { text }.to_owned()
        };
        let read = self.read_given(right, &parse, explain, show);
        let (value, text) = read.unwrap_or_else(|| {
            let value = parse(default).expect("defaults are right: a test reads them all");
            (value, default.to_owned())
        });
        let shown = bare_or_quoted(&show(&text));
        self.finish(right, vec![text], shown);
        value
    }

    /// Reads the one value that is given, with its text. Reports one that is wrong, of which
    /// `explain` says why, or the message has what `show` makes of it.
    fn read_given<T>(
        &mut self,
        right: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        explain: impl Fn(&str) -> Option<String>,
        show: impl Fn(&str) -> String,
    ) -> Option<(T, String)> {
        let text = match &self.setting.given {
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
        }?;
        let value = parse(&text);
        if value.is_none() {
            match explain(&text) {
                Some(why) => self.add_mistake(None, &format!("{why}; {right} would be right")),
                None => self.add_wrong(None, &show(&text), right),
            }
        }
        Some((value?, text))
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
        self.section.reader.report(&path, &error);
        let key = self.setting.name();
        self.section.reader.stood_in.insert(key);
    }

    fn finish(mut self, right: &'static str, texts: Vec<String>, shown: String) {
        self.setting.right = right;
        self.setting.texts = texts;
        self.setting.shown = shown;
        self.section.reader.settings.push(self.setting);
    }
}

/// Returns a text as it would stand in the file: numbers and truth values bare.
fn bare_or_quoted(text: &str) -> String {
    if text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok() {
        return text.to_owned();
    }
    Value::String(text.to_owned()).to_string()
}

/// Reads a table in the form that it has in one line: `{ "name" = "text" }`.
fn parse_table(text: &str) -> Option<Toml> {
    match text.trim().parse::<Value>() {
        Ok(Value::Table(table)) => Some(table),
        _ => None,
    }
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
