//! What is in force: every key with its value and where that is from, what it means and whether a reload
//! applies it. `check-config` prints it, `example-config` prints the same of the defaults, and a reload
//! compares two of them.
//!
//! The texts of secrets are kept, to compare them; they are in nothing that is printed.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use toml::Value;

/// Where a value is from: the file, a variable, or nowhere.
pub(super) type Given = Option<(Value, Source)>;
/// What a running collector keeps whatever the file says now, by the names of keys.
pub(super) type Kept = BTreeMap<String, Given>;

/// How long a line of the example's comments may be.
const LINE_CHARS_MAX: usize = 100;

/// Where a value is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Default,
    File,
    Environment,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Source::Default => "default",
            Source::File => "file",
            Source::Environment => "environment",
        }
    }
}

/// One key.
#[derive(Clone)]
pub(super) struct Setting {
    /// The table, as errors name it: `http`, `site[0]`.
    pub(super) section: String,
    pub(super) key: &'static str,
    pub(super) means: &'static str,
    /// What is right for it.
    pub(super) right: &'static str,
    /// Tables of a list have none.
    pub(super) variable: Option<String>,
    /// Whether it holds from the start of the process to its end.
    pub(super) is_fixed: bool,
    pub(super) given: Given,
    /// The texts in force.
    pub(super) texts: Vec<String>,
    /// The same as TOML, without secrets.
    pub(super) shown: String,
}

impl Setting {
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    fn source(&self) -> Source {
        self.given
            .as_ref()
            .map_or(Source::Default, |(_, source)| *source)
    }

    /// The table's name, and whether it is one of a list.
    fn table(&self) -> (&str, bool) {
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

/// Every key, in the order in which they were read.
#[derive(Clone, Default)]
pub struct Settings(pub(super) Vec<Setting>);

/// As TOML: each key's value and, behind it, where that is from.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut section = "";
        for setting in &self.0 {
            if setting.section != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                writeln!(f, "{gap}{}", setting.header())?;
                section = &setting.section;
            }
            let (key, shown) = (setting.key, &setting.shown);
            writeln!(f, "{key} = {shown}  # {}", setting.source().name())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key that differs from what is in force and waits for a restart.
#[derive(Debug, PartialEq, Eq)]
pub struct Waiting {
    /// `http.listen`.
    pub key: String,
    /// What is in force, without secrets.
    pub in_force: String,
    /// What will be.
    pub wanted: String,
}

impl Settings {
    /// The same in one line: `http.listen = "127.0.0.1:8080" (file), …`.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        let entry = |setting: &Setting| {
            let (table, _) = setting.table();
            let (key, shown, source) = (setting.key, &setting.shown, setting.source().name());
            format!("{table}.{key} = {shown} ({source})")
        };
        self.0.iter().map(entry).collect::<Vec<_>>().join(", ")
    }

    /// What is fixed, for a reload to keep.
    pub(super) fn kept(&self) -> Kept {
        let fixed = self.0.iter().filter(|setting| setting.is_fixed);
        fixed
            .map(|setting| (setting.name(), setting.given.clone()))
            .collect()
    }

    /// The fixed keys whose value is another one in `wanted`.
    pub(super) fn waiting(&self, wanted: &Settings) -> Vec<Waiting> {
        // The tables of a list hold nothing fixed, so both have the same fixed keys in the same order.
        let fixed = |settings: &'_ Settings| -> Vec<Setting> {
            let fixed = settings.0.iter().filter(|setting| setting.is_fixed);
            fixed.cloned().collect()
        };
        let pairs = fixed(self).into_iter().zip(fixed(wanted));
        pairs
            .filter(|(old, new)| old.texts != new.texts)
            .map(|(old, new)| Waiting {
                key: old.name(),
                in_force: old.shown,
                wanted: new.shown,
            })
            .collect()
    }

    /// A configuration file with every key, its default and what it means. A table of a list stands as it
    /// is if the collector needs one; all else is commented out.
    pub(super) fn example(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for setting in &self.0 {
            let (table, _) = setting.table();
            let stands = table == "site" && matches!(setting.key, "key" | "hosts");
            if setting.section != section {
                section = &setting.section;
                let is_needed = table != "partner" && table != "certificate";
                let mark = if is_needed { "" } else { "#" };
                // Writing to a string cannot fail.
                write!(text, "\n{mark}{}", setting.header()).ok();
            }
            text.push('\n');
            comment(&mut text, setting.means);
            let mut right = match &setting.variable {
                Some(variable) => format!("{variable}: {}.", setting.right),
                None => format!("Right: {}.", setting.right),
            };
            if setting.is_fixed {
                right.push_str(" Takes a restart.");
            }
            comment(&mut text, &right);
            let mark = if stands { "" } else { "#" };
            writeln!(text, "{mark}{} = {}", setting.key, setting.shown).ok();
        }
        text
    }
}

/// Adds lines of comment.
fn comment(text: &mut String, sentence: &str) {
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
