//! What is in force: every key with its value, where that value is from, what the key means and
//! whether a reload applies it. `check-config` prints it, `example-config` prints the same of the
//! defaults, and a reload compares two of them.
//!
//! The texts of secrets are kept for comparison; nothing that is printed contains them.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use toml::Value;

use super::mistakes::Unusable;

/// A value as it was given, if it was, and where.
pub(super) type Given = Option<(Value, Layer)>;
/// What a running collector keeps whatever the file says now, by the names of keys.
pub(super) type Kept = BTreeMap<String, Given>;

/// What is shown in place of a secret.
pub(super) const HIDDEN: &str = "(not shown)";
/// The longest line of the example's comments, in characters.
const LINE_CHARS_MAX: usize = 100;

/// Where a value is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    Default,
    File,
    Environment,
}

impl Layer {
    fn name(self) -> &'static str {
        match self {
            Layer::Default => "default",
            Layer::File => "file",
            Layer::Environment => "environment",
        }
    }
}

/// One key with its value.
#[derive(Clone)]
pub(super) struct Setting {
    /// The table, as errors name it: `http`, `site[0]`.
    pub(super) section: String,
    pub(super) key: &'static str,
    pub(super) meaning: &'static str,
    /// What would be right, as messages say it.
    pub(super) right: &'static str,
    /// The environment variable. The tables of a list have none.
    pub(super) variable: Option<String>,
    /// Whether the value stays until the process ends.
    pub(super) takes_restart: bool,
    pub(super) given: Given,
    /// The texts in force.
    pub(super) texts: Vec<String>,
    /// The same as TOML, without secrets.
    pub(super) shown: String,
    /// What messages about it begin with: its file and line, if it is from a file.
    pub(super) place: String,
    /// That line.
    pub(super) line: Option<usize>,
}

impl Setting {
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    /// Returns the name under which the value was given: that of the key or of the variable.
    pub(super) fn given_name(&self) -> String {
        match (&self.given, &self.variable) {
            (Some((_, Layer::Environment)), Some(variable)) => variable.clone(),
            _ => self.name(),
        }
    }

    fn layer(&self) -> Layer {
        self.given
            .as_ref()
            .map_or(Layer::Default, |(_, layer)| *layer)
    }

    /// Returns the table's name, and whether the table is one of a list.
    pub(super) fn table(&self) -> (&str, bool) {
        let name = self.section.split('[').next().unwrap_or_default();
        (name, name.len() < self.section.len())
    }

    fn header(&self) -> String {
        match self.table() {
            (name, true) => format!("[[{name}]]"),
            (name, false) => format!("[{name}]"),
        }
    }
}

/// Every key with its value, in the order of the table.
#[derive(Clone, Default)]
pub struct InForce(pub(super) Vec<Setting>);

/// As TOML: each key's value, followed by where that value is from.
impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut section = "";
        for setting in &self.0 {
            if setting.section != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                writeln!(f, "{gap}{}", setting.header())?;
                section = &setting.section;
            }
            let (key, shown) = (setting.key, &setting.shown);
            writeln!(f, "{key} = {shown}  # {}", setting.layer().name())?;
        }
        Ok(())
    }
}

impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key whose new value waits for a restart.
#[derive(Debug, PartialEq, Eq)]
pub struct Waiting {
    /// `http.listen`.
    pub key: String,
    /// The value in force, without secrets.
    pub in_force: String,
    /// The value after the restart, without secrets.
    pub wanted: String,
}

impl InForce {
    /// Returns the same in one line: `http.listen = "127.0.0.1:8080" (file), …`.
    #[must_use]
    pub(crate) fn in_one_line(&self) -> String {
        let entry = |setting: &Setting| {
            let (table, _) = setting.table();
            let (key, shown, layer) = (setting.key, &setting.shown, setting.layer().name());
            format!("{table}.{key} = {shown} ({layer})")
        };
        self.0.iter().map(entry).collect::<Vec<_>>().join(", ")
    }

    fn find(&self, key: &str) -> Option<&Setting> {
        self.0.iter().find(|setting| setting.name() == key)
    }

    /// Returns the message about a value that cannot be used.
    #[must_use]
    pub fn message(&self, Unusable { key, what }: &Unusable) -> String {
        match self.find(key) {
            Some(setting) => format!("{}{}: {what}", setting.place, setting.given_name()),
            None => format!("{key}: {what}"),
        }
    }

    /// Returns the line in the file that gives a key its value.
    pub(super) fn line(&self, key: &str) -> Option<usize> {
        self.find(key)?.line
    }

    /// Returns whether the file or the environment gives a key its value.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.find(key)
            .is_some_and(|setting| setting.layer() != Layer::Default)
    }

    /// Returns what would be right for a key.
    #[must_use]
    pub fn right(&self, key: &str) -> &'static str {
        self.find(key).map_or("", |setting| setting.right)
    }

    fn fixed(&self) -> impl Iterator<Item = &Setting> {
        self.0.iter().filter(|setting| setting.takes_restart)
    }

    /// Returns what a reload keeps.
    pub(super) fn collect_kept(&self) -> Kept {
        self.fixed()
            .map(|setting| (setting.name(), setting.given.clone()))
            .collect()
    }

    /// Returns the keys that take a restart and have another value in `wanted`.
    pub(super) fn find_waiting(&self, wanted: &InForce) -> Vec<Waiting> {
        // No key of a list's tables takes a restart, so both have the same keys in the same order.
        let pairs = self.fixed().zip(wanted.fixed());
        pairs
            .filter(|(old, new)| old.texts != new.texts)
            .map(|(old, new)| Waiting {
                key: old.name(),
                in_force: old.shown.clone(),
                wanted: new.shown.clone(),
            })
            .collect()
    }

    /// Returns a configuration file with every key, its default and its meaning. What the collector
    /// cannot do without stands as it is; everything else is commented out.
    pub(super) fn example(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for setting in &self.0 {
            let (table, _) = setting.table();
            let is_needed = table == "site" && matches!(setting.key, "key" | "hosts");
            if setting.section != section {
                section = &setting.section;
                let is_optional = matches!(
                    table,
                    "partner" | "system" | "segment" | "webhook" | "certificate"
                );
                let mark = if is_optional { "#" } else { "" };
                // Writing to a string cannot fail.
                write!(text, "\n{mark}{}", setting.header()).ok();
            }
            text.push('\n');
            add_comment(&mut text, setting.meaning);
            let mut right = match &setting.variable {
                Some(variable) => format!("{variable}: {}.", setting.right),
                None => format!("Right: {}.", setting.right),
            };
            if setting.takes_restart {
                right.push_str(" Takes a restart.");
            }
            add_comment(&mut text, &right);
            let mark = if is_needed { "" } else { "#" };
            // Secrets that a table requires stand for those that somebody has to make.
            let shown = match setting.shown.contains(HIDDEN) {
                true if setting.shown.starts_with('[') => "[]",
                true => "\"\"",
                false => &setting.shown,
            };
            writeln!(text, "{mark}{} = {shown}", setting.key).ok();
        }
        text
    }
}

/// Adds a sentence as lines of comment.
fn add_comment(text: &mut String, sentence: &str) {
    let mut chars = 0;
    for word in sentence.split(' ') {
        let length = word.chars().count() + 1;
        if chars == 0 || chars + length > LINE_CHARS_MAX {
            if chars > 0 {
                text.push('\n');
            }
            text.push('#');
            chars = 1;
        }
        text.push(' ');
        text.push_str(word);
        chars += length;
    }
    text.push('\n');
}
