//! What models of devices are called: "Galaxy S23 Ultra" for `SM-S918B`.
//!
//! [`ModelNames`] answers from one file, which `script/fetch models` makes of several lists
//! (`file` has its form). It is asked by a job and by `avtryck device`, never for a hit.
//!
//! | rule | because |
//! | --- | --- |
//! | Of the texts that a model begins with, the longest counts. | `Redmi Note 9 Pro` is not a `Redmi Note 9`. |
//! | A text that goes on must have five characters with a digit, and no number may go on. | `google` begins a television; `Note 1` is not `Note 16`. One `0` may follow a code: `SM-S9180`. |
//! | A text of the maker that the device has wins over one of another. | Makers use the same codes; what the rules for user agents call the maker is often another brand of it. |
//! | A short text of another maker is no match. | `A1` is a code of thirty makers. |
//! | Patterns are tried too; the longer match wins. | `Flare J2 Mini` is one pattern for many names. |
//! | Each list gives its own answer. | Lists disagree, and who is right is for the reader to say. |

mod file;
mod text;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};

use super::words::WordFilter;
use text::{Texts, flat, is_telling, may_follow, plain, space_out};

/// The longest model that is looked up, in bytes: a column of `device` holds no longer one.
const MODEL_BYTES_MAX: usize = 64;
/// What one pattern may take when it is compiled.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// The fewest characters of a text of a maker other than the device's own.
const FOREIGN_BYTES_MIN: usize = 5;
/// The same where the device's maker is not known.
const UNKNOWN_BYTES_MIN: usize = 4;

/// Words in front of a model that user agents have and the rules for them take away.
const FRONT_WORDS: [(&str, &str); 2] = [("motorola", "moto"), ("xiaomi", "redmi")];

/// What tells the variants of a family apart, in lower case.
const VARIANT_WORDS: [&str; 24] = [
    "ultra", "plus", "+", "pro", "pro+", "max", "mini", "lite", "fe", "xl", "5g", "4g", "3g",
    "lte", "dual", "duos", "sim", "neo", "prime", "edge", "go", "play", "wifi", "se",
];

/// How a text tells a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    /// A model that is the text.
    Whole,
    /// A model that begins with it.
    Begin,
    /// None: people know the model by this number.
    Number,
    /// None: the maker's own word for it.
    Codename,
}

/// One of the lists that the file was made of.
#[derive(Debug)]
struct Source {
    name: String,
    version: String,
}

/// A name of a list.
#[derive(Debug)]
struct Named {
    maker: u32,
    name: Box<str>,
    released: Option<i16>,
    source: u16,
}

/// A pattern of a list, compiled when it is first needed.
struct Pattern {
    maker: u32,
    source: u16,
    pattern: String,
    name: String,
    compiled: OnceLock<Option<Regex>>,
}

/// The names of models.
pub struct ModelNames {
    digest: i64,
    sources: Vec<Source>,
    makers: Vec<String>,
    names: Vec<Named>,
    texts: Texts,
    patterns: Vec<Pattern>,
    filter: WordFilter,
}

/// What a list calls a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName<'a> {
    /// Who makes it.
    pub maker: &'a str,
    /// What people call it.
    pub name: String,
    /// The name without what tells variants apart.
    pub family: String,
    /// The year of its release, where the list says so.
    pub released: Option<i16>,
    /// Which list says so.
    pub source: &'a str,
    /// The version of the list.
    pub source_version: &'a str,
}

/// What kind of name another name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AliasKind {
    /// What a device says, or what is printed on it.
    Code,
    /// What people call it.
    Name,
    /// What its maker calls it inside.
    Codename,
}

impl AliasKind {
    /// Returns the word in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            AliasKind::Code => "code",
            AliasKind::Name => "name",
            AliasKind::Codename => "codename",
        }
    }
}

/// A model, as maker and name.
pub(crate) type MakerAndName = (String, String);

/// The best match of a list so far.
struct Best<'a> {
    is_own: bool,
    bytes: usize,
    maker: &'a str,
    name: String,
    released: Option<i16>,
}

/// What is looked up: the brand, and the ways to write the model.
struct Wanted {
    /// In letters and digits alone; empty if it is not known.
    brand: String,
    texts: Vec<String>,
    bytes: usize,
}

impl ModelNames {
    /// Returns a number that is another one as soon as a name may be.
    #[must_use]
    pub fn digest(&self) -> i64 {
        self.digest
    }

    /// Returns how many names the lists have in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Returns whether the lists have no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Returns what each list calls a model, as `device` has it: at most one name a list, in the
    /// order of the lists. The brand is empty where it is not known.
    #[must_use]
    pub fn names(&self, brand: &str, model: &str) -> Vec<ModelName<'_>> {
        if model.is_empty() || model.len() > MODEL_BYTES_MAX {
            return Vec::new();
        }
        let wanted = self.list_spellings(brand, model);
        let mut best: BTreeMap<u16, Best<'_>> = BTreeMap::new();
        for text in &wanted.texts {
            self.match_texts(&wanted, text, &mut best);
            self.match_patterns(&wanted, text, &mut best);
        }
        let found = best.into_iter();
        found
            .filter_map(|(source, best)| self.model_name(source, best))
            .collect()
    }

    /// Returns the models that somebody may mean by a text: a code, a name with or without its
    /// maker, a codename or a number. Case and punctuation do not matter.
    #[must_use]
    pub fn find(&self, text: &str) -> Vec<ModelName<'_>> {
        let meant = flat(text);
        if meant.is_empty() {
            return Vec::new();
        }
        let by_text = self.texts.all().filter(|(alias, ..)| flat(alias) == meant);
        let mut found: BTreeSet<usize> = by_text.map(|(_, _, named)| named).collect();
        let is_meant = |named: &Named| {
            let before = meant.strip_suffix(&flat(&named.name));
            before.is_some_and(|maker| maker.is_empty() || maker == flat(self.maker(named.maker)))
        };
        let names = self.names.iter().enumerate();
        let by_name = names.filter(|(_, named)| is_meant(named));
        let by_name: Vec<usize> = by_name.map(|(index, _)| index).collect();
        let is_name = !by_name.is_empty();
        found.extend(by_name);
        // Each list that has the model says so, also one that does not know the text.
        let of_found = found.iter().filter_map(|index| self.names.get(*index));
        let same: HashSet<(u32, &str)> = of_found.map(|it| (it.maker, &*it.name)).collect();
        let mut models: Vec<ModelName<'_>> = self
            .names
            .iter()
            .filter(|named| same.contains(&(named.maker, &*named.name)))
            .filter_map(|named| {
                let best = Best {
                    is_own: false,
                    bytes: 0,
                    maker: self.maker(named.maker),
                    name: named.name.to_string(),
                    released: named.released,
                };
                self.model_name(named.source, best)
            })
            .collect();
        // A name of one model is the beginning of another's.
        if !is_name {
            let looked_up = self.names("", text).into_iter();
            let new: Vec<_> = looked_up.filter(|name| !models.contains(name)).collect();
            models.extend(new);
        }
        models
    }

    /// Returns every other name of these models, by all lists: each once, in their order.
    #[must_use]
    pub fn aliases(
        &self,
        models: &HashSet<MakerAndName>,
    ) -> BTreeMap<MakerAndName, BTreeMap<String, AliasKind>> {
        let mut found: BTreeMap<MakerAndName, BTreeMap<String, AliasKind>> = BTreeMap::new();
        let wanted: Vec<Option<MakerAndName>> = self
            .names
            .iter()
            .map(|named| (self.maker(named.maker).to_owned(), named.name.to_string()))
            .map(|model| models.contains(&model).then_some(model))
            .collect();
        for model in models {
            let name = BTreeMap::from([(model.1.clone(), AliasKind::Name)]);
            found.insert(model.clone(), name);
        }
        for (text, how, named) in self.texts.all() {
            let Some(Some(model)) = wanted.get(named) else {
                continue;
            };
            // Another spelling of the name is no other name.
            let spelled = flat(text);
            let (maker, name) = (flat(&model.0), flat(&model.1));
            if spelled == name || spelled.strip_prefix(&maker) == Some(&name) {
                continue;
            }
            let aliases = found.entry(model.clone()).or_default();
            aliases.entry(text.to_owned()).or_insert(kind(text, how));
        }
        found
    }

    fn maker(&self, index: u32) -> &str {
        self.makers.get(index as usize).map_or("", String::as_str)
    }

    fn model_name<'a>(&'a self, source: u16, best: Best<'a>) -> Option<ModelName<'a>> {
        let source = self.sources.get(usize::from(source))?;
        Some(ModelName {
            maker: best.maker,
            family: family(&best.name),
            released: best.released.or_else(|| year(&best.name)),
            name: best.name,
            source: &source.name,
            source_version: &source.version,
        })
    }

    /// Returns the ways to write a model. The rules for user agents take words away that the lists
    /// have, and leave others.
    fn list_spellings(&self, brand: &str, model: &str) -> Wanted {
        let base = space_out(model);
        let mut texts = vec![base.clone()];
        let stated = match brand {
            "" => self.maker_in_front(&base),
            brand => Some(brand),
        };
        let Some(maker) = stated else {
            let bytes = base.len();
            return Wanted {
                brand: String::new(),
                texts,
                bytes,
            };
        };
        if let Some(rest) = strip_maker(maker, &base) {
            texts.push(rest.to_owned());
        }
        let maker = space_out(maker);
        texts.extend(["", " ", "-"].map(|between| format!("{maker}{between}{base}")));
        let brand = flat(&maker);
        let fronts = FRONT_WORDS.iter().filter(|(of, _)| *of == brand);
        texts.extend(fronts.map(|(_, word)| format!("{word} {base}")));
        Wanted {
            brand,
            texts,
            bytes: base.len(),
        }
    }

    /// Returns the maker whose name a model begins with; of several the longest.
    fn maker_in_front(&self, model: &str) -> Option<&str> {
        let makers = self.makers.iter().map(String::as_str);
        makers
            .filter(|maker| strip_maker(maker, model).is_some())
            .max_by_key(|maker| maker.len())
    }

    fn match_texts<'a>(&'a self, wanted: &Wanted, text: &str, best: &mut BTreeMap<u16, Best<'a>>) {
        self.texts.walk(text, |bytes, how, named| {
            let (Some(begin), Some(rest)) = (text.get(..bytes), text.get(bytes..)) else {
                return;
            };
            let Some(named) = self.names.get(named) else {
                return;
            };
            let maker = self.maker(named.maker);
            let is_own = !wanted.brand.is_empty() && flat(maker) == wanted.brand;
            let goes_on = !rest.is_empty();
            let ends = !goes_on || rest.starts_with([' ', '/', ';', ')']);
            let bytes_min = match wanted.brand.as_str() {
                "" => UNKNOWN_BYTES_MIN,
                _ => FOREIGN_BYTES_MIN,
            };
            let is_match = match how {
                Match::Whole => ends && (!goes_on || is_telling(begin)),
                Match::Begin => !goes_on || is_telling(begin) && may_follow(begin, rest),
                Match::Number | Match::Codename => false,
            };
            let is_clear = is_own || is_telling(begin) || !goes_on && bytes >= bytes_min;
            if is_match && is_clear {
                let found = Best {
                    is_own,
                    bytes: (bytes + wanted.bytes).saturating_sub(text.len()),
                    maker,
                    name: named.name.to_string(),
                    released: named.released,
                };
                keep_better(best, named.source, found);
            }
        });
    }

    fn match_patterns<'a>(
        &'a self,
        wanted: &Wanted,
        text: &str,
        best: &mut BTreeMap<u16, Best<'a>>,
    ) {
        // In a user agent something follows a model, and patterns say what.
        let ended = format!("{text})");
        let candidates = self.filter.candidates(&ended);
        for pattern in candidates.filter_map(|index| self.patterns.get(index)) {
            let maker = self.maker(pattern.maker);
            if !wanted.brand.is_empty() && flat(maker) != wanted.brand {
                continue;
            }
            let Some(found) = pattern.regex().and_then(|regex| regex.captures(&ended)) else {
                continue;
            };
            let whole = found.get(0).map_or("", |all| all.as_str());
            let matched = whole.trim_end_matches(')');
            if wanted.brand.is_empty() && !is_telling(matched) {
                continue;
            }
            let mut name = String::new();
            found.expand(&pattern.name, &mut name);
            let found = Best {
                is_own: !wanted.brand.is_empty(),
                bytes: (matched.len() + wanted.bytes).saturating_sub(text.len()),
                maker,
                name: space_out(&name),
                released: None,
            };
            keep_better(best, pattern.source, found);
        }
    }
}

impl Pattern {
    fn regex(&self) -> Option<&Regex> {
        let compile = || {
            RegexBuilder::new(&format!("^(?:{})", self.pattern))
                .case_insensitive(true)
                .size_limit(PATTERN_BYTES_MAX)
                .dfa_size_limit(PATTERN_BYTES_MAX)
                .build()
                .ok()
        };
        self.compiled.get_or_init(compile).as_ref()
    }
}

/// Keeps a match if it is the first of its list or better than the one before.
fn keep_better<'a>(best: &mut BTreeMap<u16, Best<'a>>, source: u16, found: Best<'a>) {
    let before = best.get(&source);
    if before.is_none_or(|before| (found.is_own, found.bytes) > (before.is_own, before.bytes)) {
        best.insert(source, found);
    }
}

/// Returns what follows a maker's name in a text, if it begins with that.
fn strip_maker<'t>(maker: &str, text: &'t str) -> Option<&'t str> {
    let begin = text.get(..maker.len())?;
    let is_same = begin.bytes().map(plain).eq(maker.bytes().map(plain));
    let rest = text.get(maker.len()..)?.strip_prefix([' ', '-'])?;
    (is_same && !rest.is_empty() && !maker.is_empty()).then_some(rest)
}

/// Returns what kind of name a text is.
fn kind(text: &str, how: Match) -> AliasKind {
    let has = |is: fn(&u8) -> bool| text.as_bytes().iter().any(is);
    match how {
        Match::Number => AliasKind::Code,
        Match::Codename => AliasKind::Codename,
        _ if text.contains(' ') => AliasKind::Name,
        _ if !has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) => AliasKind::Codename,
        _ if has(u8::is_ascii_digit) => AliasKind::Code,
        _ => AliasKind::Name,
    }
}

/// Returns a name without the words at its end that tell variants apart, as long as one is left.
fn family(name: &str) -> String {
    let mut words: Vec<&str> = name.split(' ').collect();
    while let [_, .., last] = words.as_slice() {
        let bare = last.trim_matches(['(', ')']);
        let is_variant = last.starts_with('(') && last.ends_with(')')
            || VARIANT_WORDS.contains(&bare.to_lowercase().as_str());
        if !is_variant {
            break;
        }
        words.pop();
    }
    words.join(" ").trim_end_matches('+').to_owned()
}

/// Returns the year that stands in brackets in a name.
fn year(name: &str) -> Option<i16> {
    let (_, behind) = name.split_once("(20")?;
    let digits = behind.get(..2)?;
    let is_year = behind.get(2..3) == Some(")");
    is_year
        .then(|| digits.parse::<i16>().ok())
        .flatten()
        .map(|year| 2000 + year)
}
