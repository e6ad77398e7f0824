//! Crawlers by their user agent: the list of the npm package `crawler-user-agents`.

use std::fs;
use std::path::Path;

use regex_filtered::{Builder, Regexes};
use serde::Deserialize;

use super::Problem;

/// One entry of the list; its other fields are for people.
#[derive(Deserialize)]
struct Entry {
    pattern: String,
}

/// The compiled list.
pub(super) struct Crawlers {
    patterns: Regexes,
}

impl Crawlers {
    /// Reads the list, and says which patterns had to be left out. The list is written for
    /// JavaScript, whose look-ahead and back-references this engine, linear in time, refuses.
    pub(super) fn open(path: &Path) -> Result<(Crawlers, Option<Problem>), Problem> {
        let entries: Vec<Entry> = serde_json::from_slice(&fs::read(path)?)?;
        let total = entries.len();
        let mut taken = Vec::new();
        let mut refused = Vec::new();
        for Entry { pattern } in entries {
            // A failing `push` swallows its builder, so each pattern is tried in one of its own.
            match Builder::new().push(&pattern) {
                Ok(_) => taken.push(pattern),
                Err(why) => refused.push((pattern, why.to_string())),
            }
        }
        let skipped = refused.len();
        let skipped = refused
            .into_iter()
            .next()
            .map(|(first, why)| Problem::Skipped {
                skipped,
                total,
                first,
                why,
            });
        let patterns = Builder::new()
            .push_all(taken)
            .map_err(|why| Problem::Crawlers(why.into()))?
            .build()
            .map_err(|why| Problem::Crawlers(why.into()))?;
        Ok((Crawlers { patterns }, skipped))
    }

    /// Whether a pattern matches.
    pub(super) fn knows(&self, user_agent: &str) -> bool {
        self.patterns.is_match(user_agent)
    }
}
