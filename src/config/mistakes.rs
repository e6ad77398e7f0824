//! What is wrong with a configuration.

use std::collections::BTreeSet;
use std::fmt;

use super::{ConfigErrors, InForce};

/// A value that the part which uses it cannot use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The key that has the value: `database.url`, `certificate[0].chain`.
    pub key: String,
    /// The mistake, and what would be right.
    pub what: String,
}

impl Unusable {
    /// Makes one of the value of a key.
    pub fn new(key: impl Into<String>, what: impl Into<String>) -> Unusable {
        Unusable {
            key: key.into(),
            what: what.into(),
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)
    }
}

/// All mistakes of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Mistakes {
    found: Vec<(Option<usize>, String)>,
    /// The lines that are no TOML.
    pub(super) wrong_lines: BTreeSet<usize>,
}

impl Mistakes {
    /// Adds one. A line that is no TOML has one mistake: what was read of it is not what was meant.
    pub(super) fn add(&mut self, line: Option<usize>, text: String) {
        if line.is_none_or(|line| !self.wrong_lines.contains(&line)) {
            self.found.push((line, text));
        }
    }

    /// Adds values that cannot be used. Beside other mistakes a default may stand for a value that
    /// was not understood, so then only what was given counts, and one mistake of a line.
    pub(crate) fn add_unusable(&mut self, values: Vec<Unusable>, in_force: &InForce) {
        let is_sound = self.is_empty();
        let lines: BTreeSet<usize> = self.found.iter().filter_map(|(line, _)| *line).collect();
        for value in values {
            let line = in_force.line(&value.key);
            let is_news = line.is_none_or(|line| !lines.contains(&line));
            if is_sound || in_force.is_given(&value.key) && is_news {
                self.add(line, in_force.message(&value));
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns an error if there is a mistake, with those of the file by their lines, then all
    /// others.
    ///
    /// # Errors
    /// All mistakes at once.
    pub(crate) fn into_result(mut self) -> Result<(), ConfigErrors> {
        if self.is_empty() {
            return Ok(());
        }
        self.found
            .sort_by_key(|(line, _)| line.unwrap_or(usize::MAX));
        Err(ConfigErrors(
            self.found.into_iter().map(|(_, text)| text).collect(),
        ))
    }
}
