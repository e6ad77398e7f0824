//! The words that say what belongs in a place: what the names of macros and of IDs are made of.

use std::collections::HashSet;
use std::sync::LazyLock;

/// The words, in small letters.
const TERMS: &str = "\
    aaid account acct ad add adgroup adid adset advertiser advertising aff affiliate amount \
    android anon app auction basket bid browser buyer cachebuster campaign cart checkout cid \
    click clickref client code contact conversion cookie creative cust customer date dclid \
    device did distinct email employee enter event ext external fbclid first ga gaid gbraid \
    gclid guid hash hashed here household id idfa idfv ids ifa imei impression insert int \
    internal invoice ios item key last lead loyalty macro maid mail me member mobile msclkid \
    msisdn my name new nr num number oaid ord order orderref our page param parameter partner \
    paste payment person phone pid placeholder placement player product profile publisher \
    purchase put rand random ref reference replace request screen session sha sid site source \
    string sub subid subscriber subscription text the their this ticket tid time timestamp token \
    track tracker tracking trans transaction ts ttclid txn uid uniq unique unix user username \
    usr uuid val value var variable visitor wbraid with your";

/// The longest word that is looked at.
const WORD_BYTES_MAX: usize = 32;
/// The longest name that a macro may have.
const NAME_BYTES_MAX: usize = 64;

/// Returns whether a character stands between the words of a name.
fn is_separator(c: char) -> bool {
    matches!(c, '_' | '-' | '.' | ':' | '|' | ' ')
}

/// Returns whether a word is one of [`TERMS`], or several together: `userid`.
pub(super) fn is_term(word: &str) -> bool {
    static KNOWN: LazyLock<HashSet<&str>> =
        LazyLock::new(|| TERMS.split_ascii_whitespace().collect());
    fn is_made(word: &str) -> bool {
        let mut splits = (2..word.len()).filter_map(|at| word.split_at_checked(at));
        KNOWN.contains(word) || splits.any(|(first, rest)| KNOWN.contains(first) && is_made(rest))
    }
    word.len() <= WORD_BYTES_MAX && is_made(&word.to_ascii_lowercase())
}

/// Returns the words of a name: `userId`, `USER_ID` and `user-id` have two.
pub(super) fn words_of(
    name: &str,
    is_between: fn(char) -> bool,
) -> impl Iterator<Item = &str> + Clone {
    let mut rest = name;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(is_between);
        let mut last_is_small = false;
        let end = rest.find(|c: char| {
            let is_hump = c.is_ascii_uppercase() && last_is_small;
            last_is_small = c.is_ascii_lowercase();
            is_hump || is_between(c)
        });
        let (word, after) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
        rest = after;
        (!word.is_empty()).then_some(word)
    })
}

/// Returns whether a name says what belongs in its place: it is made of terms, or of capitals
/// around an underscore.
pub(super) fn is_telling(name: &str) -> bool {
    has_terms(name) || name.contains('_') && is_capitals(name)
}

/// Returns whether a name is made of terms and short numbers.
pub(super) fn has_terms(name: &str) -> bool {
    let is_told = |word: &str| is_short_number(word) || is_term(without_digits(word));
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && words_of(name, is_separator).all(is_told)
}

/// Returns whether a name has capitals, digits and underscores only, and begins with a capital.
pub(super) fn is_capitals(name: &str) -> bool {
    let is_capital = |byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_');
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.bytes().all(is_capital)
}

/// Returns whether a text looks like a name that somebody gave to a macro: one letter, or words
/// ([`has_humps`]) and numbers, with at most three digits each.
pub(super) fn is_name(text: &str) -> bool {
    let is_word = |word: &str| is_short_number(word) || has_humps(without_digits(word));
    let first = text.split(is_separator).next().unwrap_or_default();
    text.len() <= NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && (text.len() == 1 || is_word(first))
        && text
            .split(is_separator)
            .skip(1)
            .all(|word| word.is_empty() || is_word(word))
}

fn is_short_number(word: &str) -> bool {
    (1..=3).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns a word without the digits at its end, of which there may be three.
fn without_digits(word: &str) -> &str {
    let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
    if word.len() - letters.len() <= 3 {
        letters
    } else {
        word
    }
}

/// Returns whether a word has letters alone, and at least two of them from each capital after a
/// small letter to the next: `clickId`, `userID`, `AdvertisingId`.
fn has_humps(word: &str) -> bool {
    let mut letters = 0;
    let mut last_is_small = false;
    for byte in word.bytes() {
        if !byte.is_ascii_alphabetic() {
            return false;
        }
        if byte.is_ascii_uppercase() && last_is_small {
            if letters < 2 {
                return false;
            }
            letters = 0;
        }
        letters += 1;
        last_is_small = byte.is_ascii_lowercase();
    }
    letters >= 2
}
