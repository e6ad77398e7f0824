//! Hits that no person made: machines by their user agent (our own lists in `agents`, and that of
//! the npm package `crawler-user-agents`), and clients in data centres. Mail proxies, which a
//! person is behind, have a flag of their own.

use std::fs;
use std::path::Path;

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

use super::agents::{self, AgentKind};
use super::words::WordFilter;
use super::{DeviceClass, Facts, Problem, Tables};
use crate::hit::{Flags, Hit, Kind};

/// One entry of the list; its other fields are for people.
#[derive(Deserialize)]
struct Entry {
    pattern: String,
}

/// The most patterns that are tried on one agent: five times as many as on any real one. Who names
/// more crawlers than that is one.
const TRIED_MAX: usize = 15;

/// The shortest word of a pattern that is looked for.
const WORD_BYTES_MIN: usize = 3;

/// The compiled list.
pub(super) struct Crawlers {
    filter: WordFilter,
    patterns: Vec<Regex>,
}

impl Crawlers {
    /// Reads the list, and says which patterns had to be left out. The list is written for
    /// JavaScript, whose look-ahead and back-references this engine refuses because it is linear in
    /// time.
    pub(super) fn open(path: &Path) -> Result<(Crawlers, Option<Problem>), Problem> {
        let entries: Vec<Entry> = serde_json::from_slice(&fs::read(path)?)?;
        let total = entries.len();
        let mut taken = Vec::new();
        let mut patterns = Vec::new();
        let mut refused = Vec::new();
        for Entry { pattern } in entries {
            match RegexBuilder::new(&pattern).unicode(false).build() {
                Ok(compiled) => {
                    patterns.push(compiled);
                    taken.push(pattern);
                }
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
        let taken = taken.iter().map(|pattern| (pattern.as_str(), false));
        let filter = WordFilter::new(taken, WORD_BYTES_MIN).map_err(Problem::Crawlers)?;
        Ok((Crawlers { filter, patterns }, skipped))
    }

    /// Returns whether a pattern matches an agent in ASCII.
    fn knows(&self, user_agent: &str) -> bool {
        let mut candidates = self.filter.candidates(user_agent);
        let mut tried = candidates.by_ref().take(TRIED_MAX);
        tried.any(|index| {
            let pattern = self.patterns.get(index);
            pattern.is_some_and(|pattern| pattern.is_match(user_agent.as_bytes()))
        }) || candidates.next().is_some()
    }
}

impl Tables {
    /// Returns who sends a user agent in ASCII.
    pub(super) fn sender(&self, user_agent: &str) -> AgentKind {
        let crawlers = self.crawlers.as_ref();
        agents::sender_of(user_agent, |agent| {
            crawlers.is_some_and(|crawlers| crawlers.knows(agent))
        })
    }

    /// Returns the flags that a hit earns by its facts: [`Flags::BOT`], [`Flags::MAIL_PROXY`],
    /// [`Flags::DEVICE_LATER`] and [`Flags::DATA_CENTRE`].
    ///
    /// A callback comes from its network's server, unless it names the client, and an own system's
    /// event from that system.
    #[must_use]
    pub fn flags(&self, hit: &Hit<'_>, facts: &Facts<'_>) -> Flags {
        let mut flags = Flags::default();
        let is_from_server = hit.kind == Kind::Callback || hit.flags.has(Flags::SYSTEM);
        if is_from_server && hit.user_agent.is_empty() {
            return flags;
        }
        match facts.device.as_ref().map(|device| device.value.class) {
            Some(DeviceClass::Bot) => flags.set(Flags::BOT),
            Some(DeviceClass::MailProxy) => flags.set(Flags::MAIL_PROXY),
            Some(DeviceClass::Other) if self.is_later(facts) => flags.set(Flags::DEVICE_LATER),
            _ => {}
        }
        let network = facts.network.as_ref();
        let asn = network.and_then(|network| network.value.asn);
        if asn.is_some_and(|asn| self.data_centres.contains(&asn)) {
            flags.set(Flags::DATA_CENTRE);
        }
        flags
    }

    /// Returns whether the device was not looked up, because the budget of the batch was spent.
    fn is_later(&self, facts: &Facts<'_>) -> bool {
        let device = facts.device.as_ref();
        device.is_some_and(|device| self.cached_devices.is_later(device))
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::print_stdout,
        reason = "a test fails by panicking, and prints what it measures"
    )]

    use serde_json::Value;

    use super::*;

    #[test]
    fn few_patterns_are_tried_on_real_agents() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/data");
        let read = |path: &str| -> Vec<Value> {
            let bytes = fs::read(data.join(path)).expect("run script/fetch rules test");
            serde_json::from_slice(&bytes).unwrap()
        };
        let (crawlers, _) = Crawlers::open(&data.join("rules/crawlers.json")).unwrap();
        let visitors = read("test/user-agents.json");
        let visitors = visitors.iter().map(|visitor| &visitor["userAgent"]);
        let listed = read("rules/crawlers.json");
        let listed = listed
            .iter()
            .flat_map(|entry| entry["instances"].as_array().unwrap());
        let tried = visitors.chain(listed).map(|agent| {
            let agent = agent.as_str().unwrap();
            let candidates: Vec<usize> = crawlers.filter.candidates(agent).collect();
            let is_match = |index: &usize| crawlers.patterns[*index].is_match(agent.as_bytes());
            let before = candidates.iter().position(is_match);
            before.map_or(candidates.len(), |before| before + 1)
        });
        let tried = tried.max().unwrap();
        println!("tried {tried}");
        assert!((1..=TRIED_MAX / 2).contains(&tried), "{tried}");
    }
}
