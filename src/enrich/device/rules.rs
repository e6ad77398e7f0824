//! The device rules of one kind, in their order: the first that matches decides.
//!
//! All of them compiled take 61 MiB, and the agents that a site sees need a few of them. So a rule
//! is compiled when it is first needed, in three steps. One pass looks for the words that patterns
//! contain, with the parts that ua-parser's own engine is made of. For each rule that may match by
//! its words, a small matcher for ASCII tells whether it does. The rule that matches is one of
//! ua-parser's extractors.

use std::sync::OnceLock;

use aho_corasick::AhoCorasick;
use regex::bytes::{Regex, RegexBuilder};
use regex_filtered::mapper::{self, Mapper};
use regex_filtered::model::Model;
use regex_filtered::{BuildError, ParseError};
use regex_syntax::ParserBuilder;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use ua_parser::{Error, device, os, user_agent};

use crate::enrich::Problem;

/// The content of uap-core's `regexes.yaml` as JSON, in which no rule is parsed yet.
#[derive(Deserialize)]
pub(super) struct File {
    pub(super) user_agent_parsers: Vec<Box<RawValue>>,
    pub(super) os_parsers: Vec<Box<RawValue>>,
    pub(super) device_parsers: Vec<Box<RawValue>>,
}

/// A kind of rule: an extractor here is one of ua-parser's, with one rule.
pub(super) trait Extract: Sized {
    /// A rule as it is written.
    type Rule: DeserializeOwned;
    /// The shortest word of a pattern that is looked for.
    const WORD_BYTES_MIN: usize;

    fn compile(rule: Self::Rule) -> Result<Self, Error>;
    /// Returns its pattern, and whether that ignores case.
    fn pattern(rule: &Self::Rule) -> (&str, bool);
}

impl Extract for user_agent::Extractor<'static> {
    type Rule = user_agent::Parser<'static>;
    const WORD_BYTES_MIN: usize = 3;

    fn compile(rule: Self::Rule) -> Result<Self, Error> {
        Ok(user_agent::Builder::new().push(rule)?.build()?)
    }

    fn pattern(rule: &Self::Rule) -> (&str, bool) {
        (&rule.regex, false)
    }
}

impl Extract for os::Extractor<'static> {
    type Rule = os::Parser<'static>;
    const WORD_BYTES_MIN: usize = 3;

    fn compile(rule: Self::Rule) -> Result<Self, Error> {
        Ok(os::Builder::new().push(rule)?.build()?)
    }

    fn pattern(rule: &Self::Rule) -> (&str, bool) {
        (&rule.regex, false)
    }
}

impl Extract for device::Extractor<'static> {
    type Rule = device::Parser<'static>;
    const WORD_BYTES_MIN: usize = 2;

    fn compile(rule: Self::Rule) -> Result<Self, Error> {
        Ok(device::Builder::new().push(rule)?.build()?)
    }

    fn pattern(rule: &Self::Rule) -> (&str, bool) {
        (&rule.regex, rule.regex_flag.is_some())
    }
}

/// Rules of one kind.
pub(super) struct RuleList<E> {
    words: AhoCorasick,
    /// From the words that a text has to the rules that may match it, in their order.
    mapper: Mapper,
    rules: Vec<Rule<E>>,
}

struct Rule<E> {
    text: Box<RawValue>,
    matcher: OnceLock<Option<Regex>>,
    extractor: OnceLock<Option<E>>,
}

impl<E: Extract> Rule<E> {
    /// Returns whether it may match a text; of a text in ASCII, whether it does.
    fn may_match(&self, text: &str) -> bool {
        let compile = || {
            let rule = serde_json::from_str(self.text.get()).ok()?;
            let (pattern, ignores_case) = E::pattern(&rule);
            let mut builder = RegexBuilder::new(pattern);
            let builder = builder.unicode(false).case_insensitive(ignores_case);
            builder.build().ok()
        };
        let matcher = || self.matcher.get_or_init(compile).as_ref();
        !text.is_ascii() || matcher().is_none_or(|matcher| matcher.is_match(text.as_bytes()))
    }

    fn extractor(&self) -> Option<&E> {
        let compile = || E::compile(serde_json::from_str(self.text.get()).ok()?).ok();
        self.extractor.get_or_init(compile).as_ref()
    }
}

impl<E: Extract> RuleList<E> {
    /// Checks that each rule compiles, and frees what that takes.
    pub(super) fn new(rules: Vec<Box<RawValue>>) -> Result<RuleList<E>, Problem> {
        let mut builder = mapper::Builder::new(E::WORD_BYTES_MIN);
        for text in &rules {
            let rule = serde_json::from_str(text.get())?;
            let (pattern, ignores_case) = E::pattern(&rule);
            let mut parser = ParserBuilder::new().case_insensitive(ignores_case).build();
            let parsed = parser.parse(pattern).map_err(ParseError::from);
            let model = parsed.and_then(|parsed| Ok(Model::new(&parsed)?));
            builder.push(model.map_err(Error::from)?);
            E::compile(rule)?;
        }
        let (mapper, words) = builder.build();
        let words = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(words)
            .map_err(|error| Error::from(BuildError::from(error)))?;
        let rules = rules.into_iter().map(|text| Rule {
            text,
            matcher: OnceLock::new(),
            extractor: OnceLock::new(),
        });
        Ok(RuleList {
            words,
            mapper,
            rules: rules.collect(),
        })
    }

    /// Returns what the first rule that matches says of `text`.
    pub(super) fn first<'a, V>(
        &'a self,
        text: &'a str,
        extract: impl Fn(&'a E, &'a str) -> Option<V>,
    ) -> Option<V> {
        let words = self.words.find_overlapping_iter(text);
        let candidates = self
            .mapper
            .atom_to_re(words.map(|found| found.pattern().as_usize()));
        candidates
            .into_iter()
            .filter_map(|index| self.rules.get(index))
            .filter(|rule| rule.may_match(text))
            .find_map(|rule| extract(rule.extractor()?, text))
    }
}
