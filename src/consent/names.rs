//! Names under which senders mean a consent signal and do not say it: misspelled, escaped for HTML,
//! escaped once too often, or as another program calls it.
//!
//! A parameter that [`meaning`] knows and that is not one of ours by its exact name was meant and
//! is not understood, so its hit is judged as without consent. A name counts whatever its case and
//! whatever stands between its letters or around them: `GDPR`, `gdpr[0]`, `gdpr-consent`,
//! `usPrivacy`, `amp;gdpr`, a blank, a character without a width.

use memchr::{memchr, memchr_iter, memchr2_iter, memrchr2};
use percent_encoding::percent_decode_str;

mod values;

pub use values::objects;
pub(crate) use values::{is_of_consent, refuses_tracking};

/// What a name shows was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A signal that says whether there is consent.
    Signal,
    /// An objection, if its value objects ([`objects`]).
    Objection,
    /// A consent string or a refusal, if its value is one or empty ([`is_of_consent`]).
    ConsentString,
    /// The state of Apple's App Tracking Transparency, if its value refuses ([`refuses_tracking`]).
    AppTracking,
    /// The partner whose rules judge the hit.
    Partner,
    /// The site whose rules judge the hit.
    Site,
}

/// The names, in lower case and without anything but letters and digits. A longer name counts as a
/// signal if it has one of [`FRAGMENTS`] in it or begins with [`GPP`].
pub(crate) const NAMES: [(&str, Meaning); 95] = [
    ("gdpr", Meaning::Signal),
    ("gdprconsent", Meaning::Signal),
    ("gpp", Meaning::Signal),
    ("gppsid", Meaning::Signal),
    ("addtlconsent", Meaning::Signal),
    ("tcf", Meaning::Signal),
    ("tcstring", Meaning::Signal),
    ("tcfstring", Meaning::Signal),
    ("consentstring", Meaning::Signal),
    ("euconsent", Meaning::Signal),
    ("euconsentv2", Meaning::Signal),
    ("eupubconsent", Meaning::Signal),
    ("eupubconsentv2", Meaning::Signal),
    ("eugdpr", Meaning::Signal),
    ("isgdpr", Meaning::Signal),
    ("tcfconsent", Meaning::Signal),
    ("tcfv2", Meaning::Signal),
    ("iabtcftcstring", Meaning::Signal),
    ("iabgpphdrgppstring", Meaning::Signal),
    ("iabgppgppsid", Meaning::Signal),
    ("grpd", Meaning::Signal),
    ("rgpd", Meaning::Signal),
    ("avchoice", Meaning::Signal),
    // OpenRTB 2.6 has it in `user`, and OpenRTB 2.5 in `user.ext`.
    ("consent", Meaning::ConsentString),
    // What pages, consent tools and Google's consent mode call their answer. It counts only where
    // it refuses, is empty, or is a string after all.
    ("hasconsent", Meaning::ConsentString),
    ("consentgiven", Meaning::ConsentString),
    ("consentstatus", Meaning::ConsentString),
    ("cookieconsent", Meaning::ConsentString),
    ("userconsent", Meaning::ConsentString),
    ("trackingconsent", Meaning::ConsentString),
    ("analyticsconsent", Meaning::ConsentString),
    ("analyticsstorage", Meaning::ConsentString),
    ("adstorage", Meaning::ConsentString),
    ("aduserdata", Meaning::ConsentString),
    ("adpersonalization", Meaning::ConsentString),
    ("personalizationstorage", Meaning::ConsentString),
    ("consentgranted", Meaning::ConsentString),
    ("consentstate", Meaning::ConsentString),
    ("attstatus", Meaning::AppTracking),
    ("atttrackingstatus", Meaning::AppTracking),
    ("trackingauthorizationstatus", Meaning::AppTracking),
    ("permit", Meaning::ConsentString),
    ("gcs", Meaning::ConsentString),
    ("gcd", Meaning::ConsentString),
    ("marketingconsent", Meaning::ConsentString),
    ("consented", Meaning::ConsentString),
    ("hasconsented", Meaning::ConsentString),
    ("consentmode", Meaning::ConsentString),
    ("consenttype", Meaning::ConsentString),
    ("trackingallowed", Meaning::ConsentString),
    ("idfastatus", Meaning::AppTracking),
    ("apptrackingtransparency", Meaning::AppTracking),
    ("consentwithdrawn", Meaning::Objection),
    ("isoptedout", Meaning::Objection),
    ("gpcenabled", Meaning::Objection),
    ("uspapi", Meaning::Objection),
    ("adconsent", Meaning::ConsentString),
    ("adsconsent", Meaning::ConsentString),
    ("lat", Meaning::Objection),
    ("lmt", Meaning::Objection),
    ("islat", Meaning::Objection),
    ("limitadtracking", Meaning::Objection),
    ("usprivacy", Meaning::Objection),
    ("usp", Meaning::Objection),
    ("uspstring", Meaning::Objection),
    ("uspconsent", Meaning::Objection),
    ("usprivacystring", Meaning::Objection),
    ("iabusprivacystring", Meaning::Objection),
    ("limitadtrackingenabled", Meaning::Objection),
    ("islimitadtrackingenabled", Meaning::Objection),
    ("globalprivacycontrol", Meaning::Objection),
    ("secgpc", Meaning::Objection),
    ("ccpa", Meaning::Objection),
    ("coppa", Meaning::Objection),
    ("rdp", Meaning::Objection),
    ("optout", Meaning::Objection),
    ("optedout", Meaning::Objection),
    ("noconsent", Meaning::Objection),
    ("saleoptout", Meaning::Objection),
    ("ccpaoptout", Meaning::Objection),
    ("donotsell", Meaning::Objection),
    ("limitdatause", Meaning::Objection),
    ("tfcd", Meaning::Objection),
    ("tfua", Meaning::Objection),
    ("npa", Meaning::Objection),
    ("restricteddataprocessing", Meaning::Objection),
    ("nonpersonalizedads", Meaning::Objection),
    ("tagforunderageofconsent", Meaning::Objection),
    ("tagforchilddirectedtreatment", Meaning::Objection),
    // Meta's "data processing options".
    ("dpo", Meaning::Objection),
    ("dnt", Meaning::Objection),
    ("donottrack", Meaning::Objection),
    ("gpc", Meaning::Objection),
    ("partner", Meaning::Partner),
    ("site", Meaning::Site),
];

/// What no other name has in it from the beginning of a word: `gdpr`, also with two letters
/// swapped. Within words it is something else: `img_dpr` is a resolution.
const FRAGMENTS: [u32; 3] = [
    u32::from_be_bytes(*b"gdpr"),
    u32::from_be_bytes(*b"gdrp"),
    u32::from_be_bytes(*b"gpdr"),
];
/// How the names of GPP's signals begin, in one word.
const GPP: &[u8] = b"gpp";
/// What is left of `&amp;` without its semicolon.
const AMP: &[u8] = b"amp";
/// What may stand between a member that names a partner and the hit: objects that carry consent.
/// A partner in any other object is the page's own.
const CONSENT_OBJECTS: [&str; 3] = ["consent", "privacy", "regs"];
/// The length of the shortest name.
const NAME_BYTES_MIN: usize = 3;
/// Room for more than the longest name; what is longer is none.
const NAME_BYTES_MAX: usize = 32;
/// The longest name that has one of [`FRAGMENTS`]; what is longer is data.
const FRAGMENT_NAME_BYTES_MAX: usize = 40;
/// The byte that all fullwidth characters begin with, and few others do.
pub const WIDE: u8 = 0xef;
/// How often a name may have been escaped.
const ESCAPES_MAX: usize = 4;

/// For each pair of a first and a last letter, as [`place`] has it: a bit for each length of the
/// [`NAMES`] that have it.
#[expect(
    clippy::indexing_slicing,
    reason = "it is evaluated by the compiler, which would refuse an index that is too large"
)]
const LENGTHS: [u32; 256] = {
    let mut lengths = [0; 256];
    let mut names = NAMES.as_slice();
    while let [(name, _), rest @ ..] = names {
        if let [first, .., last] = name.as_bytes() {
            lengths[place(*first, *last)] |= 1 << name.len();
        }
        names = rest;
    }
    lengths
};

const fn place(first: u8, last: u8) -> usize {
    (first as usize * 31 + last as usize) % 256
}

/// The marks of the letters of [`FRAGMENTS`]: `g`, `d`, `p` and `r`.
const FRAGMENT_LETTERS: u8 = 0b1111;
/// The mark of a byte that stands between letters and counts for nothing.
const PASSED_OVER: u8 = 1 << 4;
/// The mark of a byte that most names have none of: it separates, or is escaped or no ASCII.
const UNUSUAL: u8 = 1 << 5;

/// The marks of each byte.
#[expect(
    clippy::indexing_slicing,
    reason = "it is evaluated by the compiler, which would refuse an index that is too large"
)]
const MARKS: [u8; 256] = {
    let mut marks = [UNUSUAL; 256];
    let mut byte = u8::MAX;
    while byte > 0 {
        marks[byte as usize] = match byte.to_ascii_lowercase() {
            b'g' => 1,
            b'd' => 1 << 1,
            b'p' => 1 << 2,
            b'r' => 1 << 3,
            b'_' | b'-' => PASSED_OVER,
            b'a'..=b'z' | b'0'..=b'9' => 0,
            _ => UNUSUAL,
        };
        byte -= 1;
    }
    marks
};

fn marks_of(byte: u8) -> u8 {
    MARKS.get(usize::from(byte)).copied().unwrap_or(UNUSUAL)
}

/// Returns whether a name may have a meaning, or a parameter in it. Nearly no name may, so this is
/// asked first: it looks at each byte once.
#[must_use]
#[inline]
pub(crate) fn may_mean(name: &str) -> bool {
    let marks = name.bytes().fold(0, |all, byte| all | marks_of(byte));
    if marks & UNUSUAL != 0 {
        return true;
    }
    let counts = |byte: &u8| marks_of(*byte) & PASSED_OVER == 0;
    let mut letters = name.bytes().filter(counts);
    let length = match marks & PASSED_OVER {
        0 => name.len(),
        _ => letters.clone().count(),
    };
    let Some(first) = letters.next() else {
        return false;
    };
    let first = first.to_ascii_lowercase();
    let last = letters.next_back().unwrap_or(first).to_ascii_lowercase();
    let lengths = LENGTHS.get(place(first, last)).copied();
    let has_length = lengths.unwrap_or_default() >> length.min(31) & 1 == 1;
    // `partner` with a letter missing, wrong or too many.
    let is_like_partner = first == b'p' && (6..=8).contains(&length);
    let has_letters = marks & FRAGMENT_LETTERS == FRAGMENT_LETTERS;
    let has_beginning = |start: &[u8]| {
        let bytes = name.bytes().filter(counts).take(start.len());
        bytes
            .map(|byte| byte.to_ascii_lowercase())
            .eq(start.iter().copied())
    };
    let begins = matches!(first, b'a' | b'g') && (has_beginning(GPP) || has_beginning(AMP));
    has_length || is_like_partner || has_letters || begins
}

/// Returns what a name shows was meant, if anything. A text that has several names in it, as an
/// escaped query string does, has the meaning of the first.
#[must_use]
pub fn meaning(name: &str) -> Option<Meaning> {
    may_mean(name).then(|| read_meaning(name)).flatten()
}

fn read_meaning(name: &str) -> Option<Meaning> {
    if name.len() < NAME_BYTES_MIN {
        return None;
    }
    if name.contains('%') {
        return meaning_of_escaped(name);
    }
    let mut letters = Letters::default();
    let mut before = ' ';
    let mut is_first = true;
    for character in name.chars() {
        let character = narrow(character);
        if is_separator(character) {
            if let Some(meaning) = letters.meaning(is_first) {
                return Some(meaning);
            }
            // What stands in brackets is a member of what it follows.
            is_first = !matches!(character, '[' | '{') || letters.are_of_separator();
            letters = Letters::default();
        } else if character.is_ascii_alphanumeric() {
            let is_hump = character.is_ascii_uppercase() && !before.is_ascii_uppercase();
            letters.push(character, is_hump || !before.is_ascii_alphanumeric());
        }
        before = character;
    }
    letters.meaning(is_first)
}

/// Returns whether a name, in any spelling, is that of a signal which says whether there is
/// consent. Such a name says something without a value, too: an empty consent string is a refusal.
#[must_use]
pub(crate) fn means_signal(name: &str) -> bool {
    meaning(name) == Some(Meaning::Signal)
}

fn meaning_of_escaped(name: &str) -> Option<Meaning> {
    let mut text = name.to_owned();
    for _ in 0..ESCAPES_MAX {
        text = percent_decode_str(&text).decode_utf8_lossy().into_owned();
    }
    read_meaning(&text.replace('%', ""))
}

/// Returns whether an object of that name carries consent, so that a partner in it is the hit's.
#[must_use]
pub(crate) fn carries_consent(object: &str) -> bool {
    let mut known = CONSENT_OBJECTS.iter();
    known.any(|known| known.eq_ignore_ascii_case(object))
        || meaning(object) == Some(Meaning::Signal)
}

/// Returns whether a value has a parameter in it whose meaning and value count: after a separator
/// that was escaped once too often or is none of ours (`;`, `,`, a blank), in a fragment, or as a
/// member of a JSON object. The query of a URL within the value belongs to that URL.
#[must_use]
pub fn hides(text: &str, counts: impl Fn(Meaning, &str) -> bool) -> bool {
    let mut places = memchr2_iter(b'=', b':', text.as_bytes()).peekable();
    if places.peek().is_none() {
        return false;
    }
    let mut colons = memchr_iter(b':', text.as_bytes());
    let is_scheme = |at: &usize| {
        text.as_bytes()
            .get(*at..)
            .is_some_and(|rest| rest.starts_with(b"://"))
    };
    let url_ends_at = colons.find(is_scheme).map(|at| at + 3);
    // The padding of Base64 ends a value, and names nothing.
    let padding_at = text.trim_end_matches('=').len();
    places.any(|at| {
        let (before, after) = text.split_at(at);
        let after = after.get(1..).unwrap_or_default();
        let is_member = |before: &str| text.as_bytes().get(before.len()) == Some(&b':');
        let name = if is_member(before) {
            member_before(before)
        } else {
            name_before(before, url_ends_at)
        };
        let Some(name) = name else {
            return false;
        };
        if at >= padding_at && name.len() == before.len() {
            return false;
        }
        let is_end = |c: char| is_separator(c) || c.is_whitespace();
        let value = after.trim_start().split(is_end).next().unwrap_or_default();
        // Within JSON text a partner may be anybody's: what was bought has partners too.
        let is_other = |meaning| meaning == Meaning::Partner && is_member(before);
        meaning(name).is_some_and(|meaning| !is_other(meaning) && counts(meaning, value))
    })
}

/// Returns the name of the JSON member whose colon is next.
fn member_before(before: &str) -> Option<&str> {
    let name = before.trim_end().strip_suffix(['"', '\''])?;
    let quote = memrchr2(b'"', b'\'', name.as_bytes());
    name.get(quote.map_or(0, |at| at + 1)..)
}

/// Returns the name that ends where a value begins, unless it is one of a URL's own query. The
/// scheme of the first URL ends at `url_ends_at`.
fn name_before(before: &str, url_ends_at: Option<usize>) -> Option<&str> {
    let before = without_index(before.trim_end());
    // A control character is replaced before.
    let is_start = |c: char| is_separator(c) || c.is_whitespace() || matches!(c, '"' | '\u{fffd}');
    let name = before.rsplit(is_start).next()?;
    let ahead = before.strip_suffix(name)?;
    let is_in_url = url_ends_at.is_some_and(|end| end <= ahead.len());
    let is_of_url = is_in_url && ahead.ends_with(['?', '&']);
    (!is_of_url).then_some(name)
}

/// Returns a text without the quotes and the brackets that its last name ends with: `gdpr[]`,
/// `gdpr[0]`, `"gdpr"`.
fn without_index(text: &str) -> &str {
    let mut text = text;
    loop {
        let name = text.trim_end_matches(['"', '\'']);
        let name = name
            .strip_suffix(']')
            .and_then(|inner| inner.rsplit_once('['))
            .map_or(name, |(name, _)| name);
        if name.len() == text.len() {
            return text;
        }
        text = name;
    }
}

fn is_separator(character: char) -> bool {
    matches!(
        character,
        '&' | ';' | '=' | '?' | '#' | ',' | ':' | '|' | '!' | '\\' | '\'' | '[' | ']' | '{' | '}'
    )
}

/// Returns a text with ASCII characters for fullwidth ones, if it has one of those that may stand
/// between a name and its value.
#[must_use]
pub(crate) fn narrow_text(text: &str) -> Option<String> {
    let may_be_wide = memchr(WIDE, text.as_bytes()).is_some();
    let is_wide = may_be_wide && text.contains(['\u{ff1d}', '\u{ff1a}']);
    is_wide.then(|| text.chars().map(narrow).collect())
}

/// Returns the ASCII characters that the fullwidth ones of a text stand for; `None` if it has none.
#[must_use]
pub(crate) fn narrow_all(text: &str) -> Option<String> {
    let has_wide = text.contains(|c| narrow(c) != c);
    has_wide.then(|| text.chars().map(narrow).collect())
}

/// Returns the ASCII character that a fullwidth one stands for.
fn narrow(character: char) -> char {
    match character {
        '\u{ff01}'..='\u{ff5e}' => {
            char::from_u32(u32::from(character) - 0xfee0).unwrap_or(character)
        }
        character => character,
    }
}

/// The letters and digits of one name.
#[derive(Default)]
struct Letters {
    text: [u8; NAME_BYTES_MAX],
    length: usize,
    /// The last four.
    last: u32,
    /// A bit for each letter, the lowest for the first: whether it begins a word.
    starts: u64,
    has_fragment: bool,
}

impl Letters {
    fn push(&mut self, character: char, begins_word: bool) {
        let mut ascii = [0];
        character.to_ascii_lowercase().encode_utf8(&mut ascii);
        let [byte] = ascii;
        if let Some(place) = self.text.get_mut(self.length) {
            *place = byte;
        }
        if self.length < FRAGMENT_NAME_BYTES_MAX {
            self.starts |= u64::from(begins_word) << self.length;
        }
        self.length += 1;
        self.last = self.last << 8 | u32::from(byte);
        if FRAGMENTS.contains(&self.last) && self.length <= FRAGMENT_NAME_BYTES_MAX {
            let start = self.length.saturating_sub(4);
            self.has_fragment |= self.starts >> start & 1 == 1;
        }
    }

    /// Returns what the name means. Only the first name of a text names a partner: the others are
    /// members of what it names, as in `filter[partner]`.
    fn meaning(&self, is_first: bool) -> Option<Meaning> {
        if self.has_fragment && self.length <= FRAGMENT_NAME_BYTES_MAX {
            return Some(Meaning::Signal);
        }
        let all = self.text.get(..self.length).unwrap_or(&self.text);
        let after_amp = || meaning_of_bare(all.strip_prefix(AMP)?, self.starts >> AMP.len());
        let meaning = meaning_of_bare(all, self.starts).or_else(after_amp);
        meaning.filter(|meaning| is_first || *meaning != Meaning::Partner)
    }

    /// Returns whether this is what is left of a separator that was escaped: `amp`, `38`, `x26`.
    fn are_of_separator(&self) -> bool {
        let text = self.text.get(..self.length).unwrap_or(&self.text);
        let digits = text.strip_prefix(b"x").unwrap_or(text);
        text == AMP || digits.iter().all(u8::is_ascii_digit)
    }
}

/// Returns the meaning of a name that has only small letters and digits. `starts` has a bit for
/// each that begins a word.
fn meaning_of_bare(name: &[u8], starts: u64) -> Option<Meaning> {
    let known = NAMES.iter().find(|(known, _)| known.as_bytes() == name);
    let is_gpp = name.starts_with(GPP) && starts & 0b110 == 0;
    match known {
        Some((_, meaning)) => Some(*meaning),
        None if is_gpp => Some(Meaning::Signal),
        None => is_mistyped_partner(name).then_some(Meaning::Partner),
    }
}

/// Returns whether a name is `partner` with one letter wrong, missing, too many or swapped. Plurals
/// are other words, also in Swedish and Norwegian, and a number is one of several.
fn is_mistyped_partner(name: &[u8]) -> bool {
    // One change leaves the one half or the other as it is.
    let has_half = name.starts_with(b"par") || name.ends_with(b"ner");
    let is_other = matches!(name, b"partners" | b"partnere" | b"partnern" | b"parter")
        || name.last().is_some_and(u8::is_ascii_digit);
    let is_like = has_half && name.starts_with(b"p") && !is_other;
    is_like
        && (6..=8).contains(&name.len())
        && str::from_utf8(name).is_ok_and(|name| strsim::osa_distance(name, "partner") == 1)
}

#[cfg(test)]
mod tests;
