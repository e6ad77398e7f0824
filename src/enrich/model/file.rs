//! The file of names: a JSON object a line, in UTF-8.
//!
//! | line | says |
//! | --- | --- |
//! | `{"format":1}` | what the file is; always the first |
//! | `{"source":"device-detector","version":"6.5.1"}` | which list the lines after it are from |
//! | `{"maker":…,"name":…,"released":2023,"codes":[…],"whole":[…],"numbers":[…],"codenames":[…]}` | a name, and the texts that tell it; all but the first two may be missing |
//! | `{"maker":…,"pattern":…,"name":"Pixel ${1}"}` | a name with what a pattern has found |
//!
//! A line that is none of these costs itself alone. A file that does not begin like one is not
//! used.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use regex_syntax::ParserBuilder;
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::text::Texts;
use super::{Match, ModelNames, Named, Pattern, Source};
use crate::enrich::Problem;
use crate::enrich::words::WordFilter;

/// The form of the file that is read here.
const FORMAT: u32 = 1;
/// What changes once the same file gives other names: a seed of the digest.
const LOOKUP: u64 = 1;
/// The largest file: ten times what `script/fetch models` makes.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// The most lists in one file.
const SOURCES_MAX: usize = 64;
/// The most patterns, four times as many as there are.
const PATTERNS_MAX: usize = 2_000;
/// The longest text of a line that is kept.
const TEXT_BYTES_MAX: usize = 128;
/// The shortest word of a pattern that is looked for.
const WORD_BYTES_MIN: usize = 2;

#[derive(Deserialize)]
struct First {
    format: u32,
}

/// A line; which one it is follows from the fields that it has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    source: Option<String>,
    version: Option<String>,
    maker: Option<String>,
    name: Option<String>,
    pattern: Option<String>,
    released: Option<i16>,
    #[serde(default)]
    codes: Vec<String>,
    #[serde(default)]
    whole: Vec<String>,
    #[serde(default)]
    numbers: Vec<String>,
    #[serde(default)]
    codenames: Vec<String>,
}

/// What has been read so far.
#[derive(Default)]
struct Reading {
    sources: Vec<Source>,
    makers: Vec<String>,
    places: HashMap<String, u32>,
    names: Vec<Named>,
    texts: Texts,
    patterns: Vec<Pattern>,
}

impl ModelNames {
    /// Reads the file, and says which lines had to be left out.
    pub(in crate::enrich) fn open(path: &Path) -> Result<(ModelNames, Option<Problem>), Problem> {
        if fs::metadata(path)?.len() > FILE_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge).into());
        }
        ModelNames::parse(&fs::read(path)?)
    }

    /// Reads the content of the file.
    pub(super) fn parse(bytes: &[u8]) -> Result<(ModelNames, Option<Problem>), Problem> {
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let first = lines.next().unwrap_or_default();
        let is_ours =
            serde_json::from_slice(first).is_ok_and(|first: First| first.format == FORMAT);
        if !is_ours {
            return Err(Problem::Models { format: FORMAT });
        }
        let mut reading = Reading::default();
        let (mut total, mut skipped, mut why) = (0, 0, None);
        for (number, line) in (2..).zip(lines).filter(|(_, line)| !line.is_empty()) {
            total += 1;
            if let Err(error) = reading.take(line) {
                skipped += 1;
                why.get_or_insert((number, error));
            }
        }
        let mut problem = why.map(|(line, why)| Problem::Lines {
            skipped,
            total,
            line,
            why: why.into(),
        });
        // Nothing of it can be used.
        if let Some(problem) = problem.take_if(|_| skipped == total) {
            return Err(problem);
        }
        Ok((reading.finish(xxh3_64_with_seed(bytes, LOOKUP))?, problem))
    }
}

impl Reading {
    /// Takes a line, or says why it is none.
    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        match line {
            Line {
                source: Some(name),
                version: Some(version),
                ..
            } if self.sources.len() < SOURCES_MAX => {
                self.sources.push(Source { name, version });
                Ok(())
            }
            Line {
                maker: Some(maker),
                name: Some(name),
                pattern: Some(pattern),
                ..
            } => self.take_pattern(&maker, name, pattern),
            Line {
                maker: Some(ref maker),
                name: Some(ref name),
                ..
            } => self.take_name(maker, name, &line),
            _ => Err("neither a list, a name nor a pattern".to_owned()),
        }
    }

    /// Returns the place of the list that the lines are from.
    fn source(&self) -> Result<u16, String> {
        let last = self.sources.len().checked_sub(1);
        let last = last.and_then(|last| u16::try_from(last).ok());
        last.ok_or_else(|| "it stands before the first list".to_owned())
    }

    fn maker(&mut self, maker: &str) -> Result<u32, String> {
        if let Some(place) = self.places.get(maker) {
            return Ok(*place);
        }
        check(maker)?;
        let place = u32::try_from(self.makers.len()).map_err(|error| error.to_string())?;
        self.makers.push(maker.to_owned());
        self.places.insert(maker.to_owned(), place);
        Ok(place)
    }

    fn take_pattern(&mut self, maker: &str, name: String, pattern: String) -> Result<(), String> {
        check(&name)?;
        if self.patterns.len() == PATTERNS_MAX {
            return Err(format!("there are more than {PATTERNS_MAX} patterns"));
        }
        // It is compiled when it is first needed.
        let mut parser = ParserBuilder::new().case_insensitive(true).build();
        let parsed = parser.parse(&pattern);
        parsed.map_err(|error| error.to_string().replace('\n', " "))?;
        let (source, maker) = (self.source()?, self.maker(maker)?);
        self.patterns.push(Pattern {
            source,
            maker,
            pattern,
            name,
            compiled: OnceLock::new(),
        });
        Ok(())
    }

    fn take_name(&mut self, maker: &str, name: &str, line: &Line) -> Result<(), String> {
        let kinds = [
            (&line.codes, Match::Begin),
            (&line.whole, Match::Whole),
            (&line.numbers, Match::Number),
            (&line.codenames, Match::Codename),
        ];
        let texts = || {
            kinds
                .iter()
                .flat_map(|(texts, how)| texts.iter().map(|text| (text, *how)))
        };
        check(name)?;
        texts().try_for_each(|(text, _)| check(text))?;
        let (source, maker) = (self.source()?, self.maker(maker)?);
        let named = self.names.len();
        self.names.push(Named {
            source,
            maker,
            name: name.into(),
            released: line.released,
        });
        let is_room = texts().all(|(text, how)| self.texts.add(text, how, named));
        is_room
            .then_some(())
            .ok_or_else(|| "there is no room for it".to_owned())
    }

    fn finish(mut self, digest: u64) -> Result<ModelNames, Problem> {
        self.texts.sort();
        self.names.shrink_to_fit();
        let patterns = self.patterns.iter().map(|it| (it.pattern.as_str(), true));
        let filter = WordFilter::new(patterns, WORD_BYTES_MIN).map_err(Problem::Patterns)?;
        Ok(ModelNames {
            digest: digest.cast_signed(),
            sources: self.sources,
            makers: self.makers,
            names: self.names,
            texts: self.texts,
            patterns: self.patterns,
            filter,
        })
    }
}

/// Checks that a text can be a name.
fn check(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        return Err(format!(
            "{} bytes are no name; 1 to {TEXT_BYTES_MAX} would be right",
            text.len()
        ));
    }
    Ok(())
}
