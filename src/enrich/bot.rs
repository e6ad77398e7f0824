//! Hits that no person made: machines by their user agent (our own lists in `agents`, and that of
//! the npm package `crawler-user-agents`), and clients in data centres. Mail proxies, which a
//! person is behind, have a flag of their own.

use std::fs;
use std::path::Path;

use regex_filtered::{Builder, Regexes};
use serde::Deserialize;

use super::agents::{self, AgentKind};
use super::{DeviceClass, Facts, Problem, Tables};
use crate::hit::{Flags, Hit, Kind};

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
    /// JavaScript, whose look-ahead and back-references this engine refuses because it is linear in
    /// time.
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

    /// Returns whether a pattern matches.
    fn knows(&self, user_agent: &str) -> bool {
        self.patterns.is_match(user_agent)
    }
}

impl Tables {
    /// Returns who sends a user agent.
    pub(super) fn sender(&self, user_agent: &str) -> AgentKind {
        let crawlers = self.crawlers.as_ref();
        agents::sender_of(user_agent, |agent| {
            crawlers.is_some_and(|crawlers| crawlers.knows(agent))
        })
    }

    /// Returns the flags that a hit earns by its facts: [`Flags::BOT`], [`Flags::MAIL_PROXY`] and
    /// [`Flags::DATA_CENTRE`].
    ///
    /// A callback comes from its network's server, unless it names the client.
    #[must_use]
    pub fn flags(&self, hit: &Hit<'_>, facts: &Facts<'_>) -> Flags {
        let mut flags = Flags::default();
        if hit.kind == Kind::Callback && hit.user_agent.is_empty() {
            return flags;
        }
        match facts.device.as_ref().map(|device| device.value.class) {
            Some(DeviceClass::Bot) => flags.set(Flags::BOT),
            Some(DeviceClass::MailProxy) => flags.set(Flags::MAIL_PROXY),
            _ => {}
        }
        let network = facts.network.as_ref();
        let asn = network.and_then(|network| network.value.asn);
        if asn.is_some_and(|asn| self.data_centres.contains(&asn)) {
            flags.set(Flags::DATA_CENTRE);
        }
        flags
    }
}
