//! Names under which senders mean a consent signal and do not say it: misspelled, escaped for HTML,
//! escaped once too often, or as another program calls it.
//!
//! A parameter that [`meaning`] knows and that is not one of ours by its exact name was meant and
//! is not understood, so its hit is judged as without consent. A name counts whatever its case and
//! whatever stands between its letters or around them: `GDPR`, `gdpr[0]`, `gdpr-consent`,
//! `usPrivacy`, `amp;gdpr`, a blank, a character without a width.

use memchr::memchr2_iter;
use percent_encoding::percent_decode_str;

/// What a name shows was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A signal that says whether there is consent.
    Signal,
    /// An objection, if its value objects ([`objects`]).
    Objection,
    /// The partner whose rules judge the hit.
    Partner,
    /// The site whose rules judge the hit.
    Site,
}

/// The names, in lower case and without anything but letters and digits. A longer name counts as a
/// signal if it has one of [`FRAGMENTS`] in it or begins with [`GPP`].
pub const NAMES: [(&str, Meaning); 39] = [
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
    ("tcfconsent", Meaning::Signal),
    ("tcfv2", Meaning::Signal),
    ("iabtcftcstring", Meaning::Signal),
    ("iabgpphdrgppstring", Meaning::Signal),
    ("iabgppgppsid", Meaning::Signal),
    ("grpd", Meaning::Signal),
    ("rgpd", Meaning::Signal),
    ("avchoice", Meaning::Signal),
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
    ("npa", Meaning::Objection),
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
/// The length of the shortest name.
const NAME_BYTES_MIN: usize = 3;
/// Room for more than the longest name; what is longer is none.
const NAME_BYTES_MAX: usize = 28;
/// The longest name that has one of [`FRAGMENTS`]; what is longer is data.
const FRAGMENT_NAME_BYTES_MAX: usize = 40;
/// How often a name may have been escaped.
const ESCAPES_MAX: usize = 4;

/// Returns what a name shows was meant, if anything. A text that has several names in it, as an
/// escaped query string does, has the meaning of the first.
#[must_use]
pub fn meaning(name: &str) -> Option<Meaning> {
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

fn meaning_of_escaped(name: &str) -> Option<Meaning> {
    let mut text = name.to_owned();
    for _ in 0..ESCAPES_MAX {
        text = percent_decode_str(&text).decode_utf8_lossy().into_owned();
    }
    meaning(&text.replace('%', ""))
}

/// Returns whether a value found under the name of an objection objects. Other programs use these
/// names for other things (a latitude, a selling point), so it must be a yes or a US privacy string
/// whose third character is one.
#[must_use]
pub fn objects(value: &str) -> bool {
    const YES: [&str; 6] = ["true", "t", "yes", "y", "on", "enabled"];
    let value = value.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '?'));
    if YES.iter().any(|yes| yes.eq_ignore_ascii_case(value)) {
        return true;
    }
    if let Ok(number) = value.parse::<f64>() {
        return (number - 1.0).abs() < f64::EPSILON;
    }
    matches!(value.as_bytes(), [b'1', _, b'y' | b'Y', _])
}

/// Returns whether a value has a parameter in it whose meaning and value count: after a separator
/// that was escaped once too often or is none of ours (`;`, `,`, a blank), in a fragment, or as a
/// member of a JSON object. The query of a URL within the value belongs to that URL.
#[must_use]
pub fn hides(text: &str, counts: impl Fn(Meaning, &str) -> bool) -> bool {
    let url_ends_at = text.find("://").map(|at| at + 3);
    // The padding of Base64 ends a value, and names nothing.
    let padding_at = text.trim_end_matches('=').len();
    memchr2_iter(b'=', b':', text.as_bytes()).any(|at| {
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
    let is_quote = |c: char| matches!(c, '"' | '\'');
    before
        .trim_end()
        .strip_suffix(is_quote)?
        .rsplit(is_quote)
        .next()
}

/// Returns the name that ends where a value begins, unless it is one of a URL's own query. The
/// scheme of the first URL ends at `url_ends_at`.
fn name_before(before: &str, url_ends_at: Option<usize>) -> Option<&str> {
    let before = before.trim_end();
    // A control character is replaced before.
    let is_start = |c: char| is_separator(c) || c.is_whitespace() || matches!(c, '"' | '\u{fffd}');
    let name = before.rsplit(is_start).next()?;
    let ahead = before.strip_suffix(name)?;
    let is_in_url = url_ends_at.is_some_and(|end| end <= ahead.len());
    let is_of_url = is_in_url && ahead.ends_with(['?', '&']);
    (!is_of_url).then_some(name)
}

fn is_separator(character: char) -> bool {
    matches!(
        character,
        '&' | ';' | '=' | '?' | '#' | ',' | ':' | '|' | '!' | '\\' | '\'' | '[' | ']' | '{' | '}'
    )
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
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_meaning_however_it_is_spelled() {
        for (known, known_meaning) in NAMES {
            let (first, rest) = known.split_at(1);
            for name in [
                known.to_owned(),
                known.to_uppercase(),
                format!("{}{rest}", first.to_uppercase()),
                format!(" {known}\u{a0}"),
                format!("{first}\u{200b}{rest}"),
                format!("\u{feff}{first}-{rest}"),
                format!("{first}.{rest}_"),
                format!("{known}[]"),
                format!("{known}[0]"),
                format!("{known}:1"),
                format!("\"{known}\""),
                format!("amp;{known}"),
                format!("amp{known}"),
                format!("#38;{known}"),
                format!("x=1&{known}=2"),
                format!("%25{:x}{rest}", first.as_bytes()[0]),
            ] {
                assert_eq!(meaning(&name), Some(known_meaning), "{name:?}");
            }
        }
        for name in [
            "GdprApplies",
            "regs.gdpr",
            "gdpr_consent_755",
            "gdrp",
            "gppString",
        ] {
            assert_eq!(meaning(name), Some(Meaning::Signal), "{name}");
        }
        assert_eq!(meaning("ｇｄｐｒ＝１"), Some(Meaning::Signal));
        for name in ["parnter", "patner", "parttner"] {
            assert_eq!(meaning(name), Some(Meaning::Partner), "{name}");
        }
    }

    #[test]
    fn other_names_have_no_meaning() {
        for name in [
            "",
            "x",
            "price",
            "3gpp",
            "latency",
            "latitude",
            "usp_form",
            "partners",
            "partner_id",
            "parent",
            "siteid",
            "website",
            "consent",
            "privacy",
            "tcfx",
            "eggplant",
            "%",
            "amp",
        ] {
            assert_eq!(meaning(name), None, "{name}");
        }
    }

    #[test]
    fn an_objection_is_one_by_its_value() {
        for value in [
            "1", "true", "TRUE", "yes", "1YYN", "1NyN", "1.0", " 1 ", "on",
        ] {
            assert!(objects(value), "{value}");
        }
        for value in [
            "", "0", "false", "No", "1---", "1YNN", "59.33", "-1", "null",
        ] {
            assert!(!objects(value), "{value}");
        }
    }

    #[test]
    fn a_value_hides_what_stands_behind_a_separator_and_no_urls_own_query() {
        let hides = |text: &str| hides(text, |_, _| true);
        for text in [
            "1;gdpr=1",
            "1&gdpr=1&x=2",
            "1&amp;GDPR = 1",
            "1 gdpr=1",
            "1#gdpr_consent=",
            "gpp=x",
            "https://x.se/a;gdpr=1",
            "https://x.se/#gdpr=1",
            r#"{"x":1,"GDPR" : 1}"#,
            "1,partner=net",
        ] {
            assert!(hides(text), "{text}");
        }
        for text in [
            "",
            "GDPR: what to know",
            "https://x.se/?gdpr=1",
            "https://x.se/?a=1&gdpr=1",
            "a=b",
            "it is gdpr",
            "12:30",
        ] {
            assert!(!hides(text), "{text}");
        }
    }

    #[test]
    fn what_other_programs_call_their_data_means_no_signal() {
        for name in [
            "img_dpr",
            "imgDpr",
            "bg-dpr",
            "missing_dpr",
            "string_pdr",
            "gp_percent",
            "gpPoints",
            "gp_product_id",
            "partnere",
            "partnern",
            "parter",
            "partner1",
            "filter[partner]",
            "form[partner]",
        ] {
            assert_eq!(meaning(name), None, "{name}");
        }
        for name in [
            "isGdpr",
            "x_gdpr",
            "GPPString",
            "amp;partner",
            "#38;partner",
            "&partner",
        ] {
            assert!(meaning(name).is_some(), "{name}");
        }
        for value in [
            "sharing",
            "Fri frakt",
            "Electronics",
            "2024-01-01",
            "unset",
            "59,33",
            "0",
        ] {
            assert!(!objects(value), "{value}");
        }
        for value in ["1", "1.0", "true", " Yes", "on", "?1", "1YYN", "1-Y-"] {
            assert!(objects(value), "{value}");
        }
    }

    #[test]
    fn data_hides_nothing_and_a_long_value_is_looked_at_once() {
        let counts = |_: Meaning, _: &str| true;
        let long = ["a ?a=", "=", ":", "= ", "\":", "%=", "x&="].map(|text| text.repeat(200_000));
        let short = ["eyJhGDpRIjoxfQ==", "abGPdr/+zz9="].map(str::to_owned);
        for text in long.iter().chain(&short) {
            assert!(!hides(text, counts), "{text:.40}");
        }
        for text in ["x|gpp=DB", "{'gdpr':1}", "1&gdpr=", "1!us_privacy=1YYN"] {
            assert!(hides(text, counts), "{text}");
        }
    }
}
