//! Many patterns at once: which of them may match a text, by the words that the text holds.
//!
//! A pattern that matches holds, of each of its groups of words, at least one. One pass over the
//! text finds the words, and a pattern is a candidate once each of its groups has been found.

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex_filtered::model::Model;
use regex_filtered::{BuildError, ParseError};
use regex_syntax::ParserBuilder;
use std::collections::HashMap;

/// The most groups of a pattern that are looked for: one bit for each.
const GROUPS_MAX: usize = 8;

/// A pattern that is to be filtered, and whether it ignores case.
pub(super) type Pattern<'a> = (&'a str, bool);

/// Words that must not all be missing.
type Group = Vec<String>;

/// Finds the patterns that may match a text. Its automaton takes one step for each byte, whatever
/// the text is.
pub(super) struct WordFilter {
    words: AhoCorasick,
    /// For each word the groups that it is in: the pattern's place, and the group's bit.
    groups: Vec<Vec<(u32, u8)>>,
    /// For each pattern the bits of its groups.
    wanted: Vec<u8>,
}

impl WordFilter {
    /// Makes a filter of patterns, for words of at least that many bytes.
    pub(super) fn new<'a>(
        patterns: impl IntoIterator<Item = Pattern<'a>>,
        word_bytes_min: usize,
    ) -> Result<WordFilter, ua_parser::Error> {
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut groups: Vec<Vec<(u32, u8)>> = Vec::new();
        let mut wanted = Vec::new();
        for (index, (pattern, ignores_case)) in (0..).zip(patterns) {
            let mut parser = ParserBuilder::new().case_insensitive(ignores_case).build();
            let parsed = parser.parse(pattern).map_err(ParseError::from);
            let model = parsed.and_then(|parsed| Ok(Model::new(&parsed)?))?;
            let mut bits = 0;
            for (bit, group) in (0..).zip(best_groups(&model, word_bytes_min)) {
                bits |= 1 << bit;
                for word in group {
                    let place = *places.entry(word).or_insert(groups.len());
                    if place == groups.len() {
                        groups.push(Vec::new());
                    }
                    if let Some(of_word) = groups.get_mut(place) {
                        of_word.push((index, 1 << bit));
                    }
                }
            }
            wanted.push(bits);
        }
        let mut words: Vec<(String, usize)> = places.into_iter().collect();
        words.sort_unstable_by_key(|(_, place)| *place);
        let words = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::DFA))
            .ascii_case_insensitive(true)
            .build(words.into_iter().map(|(word, _)| word))
            .map_err(BuildError::from)?;
        Ok(WordFilter {
            words,
            groups,
            wanted,
        })
    }

    /// Returns the places of the patterns that may match a text, in their order.
    pub(super) fn candidates(&self, text: &str) -> impl Iterator<Item = usize> + use<> {
        let mut missing = self.wanted.clone();
        for word in self.words.find_overlapping_iter(text) {
            let groups = self.groups.get(word.pattern().as_usize());
            for (pattern, bit) in groups.into_iter().flatten() {
                if let Some(missing) = missing.get_mut(*pattern as usize) {
                    *missing &= !bit;
                }
            }
        }
        let missing = missing.into_iter().enumerate();
        missing.filter_map(|(pattern, missing)| (missing == 0).then_some(pattern))
    }
}

/// Returns the groups of a pattern that say most: those whose shortest word is longest.
fn best_groups(model: &Model, word_bytes_min: usize) -> Vec<Group> {
    let mut groups = groups(model, word_bytes_min);
    groups.sort_by_key(|group| std::cmp::Reverse(shortest(group)));
    groups.truncate(GROUPS_MAX);
    groups
}

fn groups(model: &Model, word_bytes_min: usize) -> Vec<Group> {
    match model {
        Model::Atom(_, word) if word.len() >= word_bytes_min => vec![vec![word.clone()]],
        Model::All(_) | Model::None(_) | Model::Atom(..) => Vec::new(),
        Model::And(_, parts) => parts
            .iter()
            .flat_map(|part| groups(part, word_bytes_min))
            .collect(),
        Model::Or(_, parts) => {
            let mut all = Group::new();
            for part in parts {
                // A part that has no word can match without any.
                let of_part = groups(part, word_bytes_min);
                let Some(best) = of_part.into_iter().max_by_key(shortest) else {
                    return Vec::new();
                };
                all.extend(best);
            }
            vec![all]
        }
    }
}

fn shortest(group: &Group) -> usize {
    group.iter().map(String::len).min().unwrap_or(0)
}
