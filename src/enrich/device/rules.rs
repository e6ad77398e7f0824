//! The device rules of one kind, in their order: the first that matches decides.
//!
//! All of them compiled take 61 MiB, and the agents that a site sees need a few of them. So a rule
//! is compiled when it is first needed, in three steps. One pass looks for the words that patterns
//! contain ([`WordFilter`]). For each rule that may match by its words, a small matcher for ASCII
//! tells whether it does. The rule that matches is one of ua-parser's extractors. To compile all of
//! them takes half of a collector's start, so a start parses them, and `avtryck check-config`
//! compiles them: a rule that parses and does not compile matches nothing.
//!
//! A stranger writes the text, so what one text may cost is bounded. It is in ASCII, and so are the
//! patterns ([`ascii_pattern`]): that keeps every engine on its cheapest way. And few rules
//! are tried on it ([`Extract::TRIED_MAX`]).

use std::sync::{LazyLock, OnceLock};

use regex::Regex;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{
    Capture, Class, ClassBytes, ClassBytesRange, ClassUnicode, ClassUnicodeRange, Hir, HirKind,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use ua_parser::{Error, device, os, user_agent};

use crate::enrich::Problem;
use crate::enrich::words::WordFilter;

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
    /// The most rules that are tried on one text: at least a third more than on any of 3,000
    /// real agents.
    const TRIED_MAX: usize;

    fn compile(rule: Self::Rule) -> Result<Self, Error>;
    /// Returns its pattern, and whether that ignores case.
    fn pattern(rule: &Self::Rule) -> (&str, bool);
    /// Gives it another pattern.
    fn set_pattern(rule: &mut Self::Rule, pattern: String);
}

impl Extract for user_agent::Extractor<'static> {
    type Rule = user_agent::Parser<'static>;
    const WORD_BYTES_MIN: usize = 3;
    const TRIED_MAX: usize = 12;

    fn compile(rule: Self::Rule) -> Result<Self, Error> {
        Ok(user_agent::Builder::new().push(rule)?.build()?)
    }

    fn pattern(rule: &Self::Rule) -> (&str, bool) {
        (&rule.regex, false)
    }

    fn set_pattern(rule: &mut Self::Rule, pattern: String) {
        rule.regex = pattern.into();
    }
}

impl Extract for os::Extractor<'static> {
    type Rule = os::Parser<'static>;
    const WORD_BYTES_MIN: usize = 3;
    const TRIED_MAX: usize = 12;

    fn compile(rule: Self::Rule) -> Result<Self, Error> {
        Ok(os::Builder::new().push(rule)?.build()?)
    }

    fn pattern(rule: &Self::Rule) -> (&str, bool) {
        (&rule.regex, false)
    }

    fn set_pattern(rule: &mut Self::Rule, pattern: String) {
        rule.regex = pattern.into();
    }
}

impl Extract for device::Extractor<'static> {
    type Rule = device::Parser<'static>;
    const WORD_BYTES_MIN: usize = 2;
    const TRIED_MAX: usize = 32;

    fn compile(rule: Self::Rule) -> Result<Self, Error> {
        Ok(device::Builder::new().push(rule)?.build()?)
    }

    fn pattern(rule: &Self::Rule) -> (&str, bool) {
        (&rule.regex, rule.regex_flag.is_some())
    }

    fn set_pattern(rule: &mut Self::Rule, pattern: String) {
        rule.regex = pattern.into();
    }
}

/// Rules of one kind.
pub(super) struct RuleList<E> {
    filter: WordFilter,
    rules: Vec<Rule<E>>,
}

struct Rule<E> {
    text: Box<RawValue>,
    matcher: OnceLock<Option<Regex>>,
    extractor: OnceLock<Option<E>>,
}

impl<E: Extract> Rule<E> {
    /// Returns whether it matches a text in ASCII.
    fn matches(&self, text: &str) -> bool {
        let compile = || {
            let rule: E::Rule = serde_json::from_str(self.text.get()).ok()?;
            let (pattern, ignores_case) = E::pattern(&rule);
            Regex::new(&ascii_pattern(pattern, ignores_case)?).ok()
        };
        let matcher = self.matcher.get_or_init(compile).as_ref();
        matcher.is_none_or(|matcher| matcher.is_match(text))
    }

    fn extractor(&self) -> Option<&E> {
        let compile = || compile(&self.text).ok();
        self.extractor.get_or_init(compile).as_ref()
    }
}

/// Compiles a rule for texts in ASCII.
fn compile<E: Extract>(text: &RawValue) -> Result<E, Problem> {
    let mut rule: E::Rule = serde_json::from_str(text.get())?;
    let (pattern, ignores_case) = E::pattern(&rule);
    if let Some(pattern) = ascii_pattern(pattern, ignores_case) {
        E::set_pattern(&mut rule, pattern);
    }
    Ok(E::compile(rule)?)
}

impl<E: Extract> RuleList<E> {
    /// Reads each rule, and parses its pattern.
    pub(super) fn new(texts: Vec<Box<RawValue>>) -> Result<RuleList<E>, Problem> {
        let mut rules = Vec::with_capacity(texts.len());
        for text in &texts {
            let rule: E::Rule = serde_json::from_str(text.get())?;
            rules.push(rule);
        }
        let filter = WordFilter::new(rules.iter().map(E::pattern), E::WORD_BYTES_MIN)?;
        let rules = texts.into_iter().map(|text| Rule {
            text,
            matcher: OnceLock::new(),
            extractor: OnceLock::new(),
        });
        Ok(RuleList {
            filter,
            rules: rules.collect(),
        })
    }

    /// Checks that each rule compiles, and frees what that takes.
    pub(super) fn check(&self) -> Result<(), Problem> {
        self.rules
            .iter()
            .try_for_each(|rule| compile::<E>(&rule.text).map(drop))
    }

    /// Returns what the first rule that matches says of `text`, which is in ASCII.
    pub(super) fn first<'a, V>(
        &'a self,
        text: &'a str,
        extract: impl Fn(&'a E, &'a str) -> Option<V>,
    ) -> Option<V> {
        self.filter
            .candidates(text)
            .take(E::TRIED_MAX)
            .filter_map(|index| self.rules.get(index))
            .filter(|rule| rule.matches(text))
            .find_map(|rule| extract(rule.extractor()?, text))
    }
}

/// Returns a pattern that matches the same texts in ASCII, and no other text.
///
/// Like ua-parser, it takes a repetition of up to a hundred times or more for one without end:
/// bounds keep other engines from hanging, and let this one go through a state for each count.
fn ascii_pattern(pattern: &str, ignores_case: bool) -> Option<String> {
    static BOUNDS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"([^\\])\{([01]),[0-9]{3,}\}").expect("it compiles: a test compiles it")
    });
    let wide = BOUNDS.replace_all(pattern, |found: &regex::Captures<'_>| {
        let [before, least] = [1, 2].map(|group| found.get(group).map_or("", |part| part.as_str()));
        let sign = if least == "0" { '*' } else { '+' };
        format!("{before}{sign}")
    });
    let mut parser = ParserBuilder::new();
    let parser = parser
        .unicode(false)
        .utf8(false)
        .case_insensitive(ignores_case);
    let parsed = parser.build().parse(&wide).ok()?;
    Some(without_high_bytes(&parsed).to_string())
}

/// Takes the bytes that are not in ASCII out of the classes of a pattern.
fn without_high_bytes(pattern: &Hir) -> Hir {
    match pattern.kind() {
        HirKind::Empty | HirKind::Literal(_) | HirKind::Look(_) => pattern.clone(),
        HirKind::Class(Class::Bytes(class)) => {
            let mut class = class.clone();
            class.intersect(&ClassBytes::new([ClassBytesRange::new(0, 0x7f)]));
            Hir::class(Class::Bytes(class))
        }
        HirKind::Class(Class::Unicode(class)) => {
            let mut class = class.clone();
            class.intersect(&ClassUnicode::new([ClassUnicodeRange::new('\0', '\x7f')]));
            Hir::class(Class::Unicode(class))
        }
        HirKind::Repetition(repeated) => {
            Hir::repetition(repeated.with(without_high_bytes(&repeated.sub)))
        }
        HirKind::Capture(group) => Hir::capture(Capture {
            sub: Box::new(without_high_bytes(&group.sub)),
            ..group.clone()
        }),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(without_high_bytes).collect()),
        HirKind::Alternation(parts) => {
            Hir::alternation(parts.iter().map(without_high_bytes).collect())
        }
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

    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    fn fetched(path: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("assets/data")
            .join(path);
        fs::read_to_string(path).expect("run script/fetch rules test (make test does)")
    }

    /// Real agents: those of visitors, and those of crawlers.
    fn real_agents() -> BTreeSet<String> {
        let visitors: Vec<Value> = serde_json::from_str(&fetched("test/user-agents.json")).unwrap();
        let crawlers: Vec<Value> = serde_json::from_str(&fetched("rules/crawlers.json")).unwrap();
        let visitors = visitors
            .iter()
            .map(|visitor| visitor["userAgent"].as_str().unwrap());
        let crawlers = crawlers
            .iter()
            .flat_map(|entry| entry["instances"].as_array().unwrap());
        let crawlers = crawlers.map(|agent| agent.as_str().unwrap());
        visitors.chain(crawlers).map(str::to_owned).collect()
    }

    /// Checks a list against ua-parser's engine with all rules at once, and that no agent comes
    /// near to the limit of rules that are tried.
    fn check<E: Extract>(
        rules: Vec<Box<RawValue>>,
        of_list: impl for<'a> Fn(&'a RuleList<E>, &'a str) -> String,
        of_ua_parser: impl Fn(&str) -> String,
    ) {
        let list = RuleList::<E>::new(rules).unwrap();
        let mut tried_most = 0;
        for agent in real_agents() {
            assert_eq!(of_list(&list, &agent), of_ua_parser(&agent), "{agent}");
            let candidates: Vec<usize> = list.filter.candidates(&agent).collect();
            let matching = |index: &usize| list.rules.get(*index).unwrap().matches(&agent);
            let tried = candidates
                .iter()
                .position(matching)
                .map(|before| before + 1);
            tried_most = tried_most.max(tried.unwrap_or(candidates.len()));
        }
        println!("tried {tried_most}");
        assert!(
            (1..=E::TRIED_MAX * 3 / 4).contains(&tried_most),
            "{tried_most}"
        );
    }

    #[test]
    fn the_rules_say_of_real_agents_what_ua_parser_says_and_few_are_tried() {
        let text = fetched("rules/regexes.json");
        let ours: File = serde_json::from_str(&text).unwrap();
        let theirs: ua_parser::Regexes<'_> = serde_json::from_str(&text).unwrap();
        let theirs = ua_parser::Extractor::try_from(theirs).unwrap();
        check::<user_agent::Extractor<'_>>(
            ours.user_agent_parsers,
            |list, agent| format!("{:?}", list.first(agent, |rule, text| rule.extract(text))),
            |agent| format!("{:?}", theirs.ua.extract(agent)),
        );
        check::<os::Extractor<'_>>(
            ours.os_parsers,
            |list, agent| format!("{:?}", list.first(agent, |rule, text| rule.extract(text))),
            |agent| format!("{:?}", theirs.os.extract(agent)),
        );
        check::<device::Extractor<'_>>(
            ours.device_parsers,
            |list, agent| format!("{:?}", list.first(agent, |rule, text| rule.extract(text))),
            |agent| format!("{:?}", theirs.dev.extract(agent)),
        );
    }
}
