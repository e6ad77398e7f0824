//! Macros that nobody expanded, of every style: a value that is one, or has one in it.

use super::terms::{has_terms, is_capitals, is_name, is_telling};
use crate::request::marks::marks;

/// What must stand between the marks of a macro.
#[derive(Clone, Copy, Debug)]
enum Inside {
    /// Anything.
    Any,
    /// Small letters.
    Lower,
    /// Capital letters and underscores.
    Upper,
    /// A name, as [`is_name`] has it, or another macro.
    Name,
    /// Capitals, a name that says what belongs there ([`is_telling`]), or another macro. These
    /// marks stand in IDs, too.
    Telling,
    /// Terms ([`has_terms`]) of [`TERMS_LETTERS_MIN`] letters. Random IDs have these marks around
    /// capitals and around shorter terms.
    Terms,
}

/// A way of writing macros: what opens one, what closes it, and what must stand in between.
type Style = (&'static str, &'static str, Inside);

/// The macros of ad networks, by the networks' own lists.
const ANYWHERE: [Style; 5] = [
    ("${", "}", Inside::Any),
    ("%%", "%%", Inside::Any),
    ("%e", "!", Inside::Lower),
    ("[", "]", Inside::Upper),
    ("__ADF", "__", Inside::Any),
];

/// What the only style begins with that begins with a letter: a program's text.
const FUNCTION: &str = "function";

/// What no ID may be besides: the macros of other networks, and the places of templates, mail
/// systems and programs.
const WHOLE: [Style; 47] = [
    ("{{", "}}", Inside::Any),
    ("{%", "%}", Inside::Any),
    ("{#", "#}", Inside::Any),
    ("#{", "}", Inside::Any),
    ("%{", "}", Inside::Any),
    ("@{", "}", Inside::Any),
    ("!{", "}", Inside::Any),
    ("&{", "}", Inside::Any),
    ("*{", "}", Inside::Any),
    ("$(", ")", Inside::Any),
    ("$[", "]", Inside::Any),
    ("%(", ")s", Inside::Any),
    ("%(", ")", Inside::Any),
    ("%[", "]", Inside::Any),
    ("<%", "%>", Inside::Any),
    ("<?", "?>", Inside::Any),
    ("*|", "|*", Inside::Any),
    (FUNCTION, "}", Inside::Any),
    ("<<", ">>", Inside::Name),
    ("[[", "]]", Inside::Name),
    ("((", "))", Inside::Name),
    ("[%", "%]", Inside::Name),
    ("[$", "]", Inside::Name),
    ("[@", "]", Inside::Name),
    ("{", "}", Inside::Name),
    ("[", "]", Inside::Name),
    ("(", ")", Inside::Name),
    ("<", ">", Inside::Name),
    // How programs for letters write their fields.
    ("\u{ab}", "\u{bb}", Inside::Name),
    ("\u{2039}", "\u{203a}", Inside::Name),
    ("##", "##", Inside::Telling),
    ("@@", "@@", Inside::Telling),
    ("$$", "$$", Inside::Telling),
    ("||", "||", Inside::Telling),
    ("%", "%", Inside::Telling),
    ("$", "$", Inside::Telling),
    ("#", "#", Inside::Telling),
    ("@", "@", Inside::Telling),
    ("|", "|", Inside::Telling),
    ("!", "!", Inside::Telling),
    ("^", "^", Inside::Telling),
    ("*", "*", Inside::Telling),
    ("~", "~", Inside::Telling),
    ("`", "`", Inside::Telling),
    ("__", "__", Inside::Telling),
    ("--", "--", Inside::Telling),
    (":", ":", Inside::Telling),
];

/// What no ID may have in it: `order-{{id}}`, `{{id}}-1`. What stands between brackets or
/// underscores in an ID may be anybody's, unless it says what belongs there.
const WITHIN: [Style; 15] = [
    ("${", "}", Inside::Any),
    ("{{", "}}", Inside::Any),
    ("{%", "%}", Inside::Any),
    ("#{", "}", Inside::Any),
    ("<%", "%>", Inside::Any),
    ("<?", "?>", Inside::Any),
    ("*|", "|*", Inside::Any),
    ("%%", "%%", Inside::Telling),
    ("{", "}", Inside::Telling),
    ("[", "]", Inside::Telling),
    ("(", ")", Inside::Telling),
    ("<", ">", Inside::Telling),
    ("##", "##", Inside::Telling),
    ("%", "%", Inside::Terms),
    ("__", "__", Inside::Terms),
];

/// What opens a macro that nothing closes. It ends the value, and has a name that is telling.
const UNCLOSED: [char; 3] = ['$', '%', ':'];

/// See [`Inside::Terms`].
const TERMS_LETTERS_MIN: usize = 3;
/// The longest macro, with its marks.
const MACRO_BYTES_MAX: usize = 256;
/// How many macros a macro may stand in. Each style is tried at each depth, so this bounds what a
/// value of nothing but marks costs.
const DEPTH_MAX: u32 = 3;

/// Returns whether a whole value is a macro of an ad network.
pub(crate) fn is_macro(value: &str) -> bool {
    // Nearly all values begin otherwise.
    matches!(value.as_bytes(), [b'$' | b'%' | b'_' | b'[', ..])
        && ANYWHERE.iter().any(|style| is_in_style(value, style, 0))
}

/// Returns whether a value is a macro of any style, or has one in it.
pub(crate) fn is_macro_of_id(value: &str) -> bool {
    let value = value.trim_matches(is_space_or_quote);
    is_whole(value, DEPTH_MAX) || value.len() <= MACRO_BYTES_MAX && has_macro(value)
}

/// Returns whether a whole value is a macro of any style.
fn is_whole(value: &str, depth: u32) -> bool {
    let value = value.trim_matches(is_space_or_quote);
    // Nearly all IDs begin otherwise than any style does.
    if value.starts_with(|c: char| c.is_ascii_alphanumeric()) && !value.starts_with(FUNCTION) {
        return false;
    }
    if value.len() > MACRO_BYTES_MAX {
        return ANYWHERE.iter().any(|style| is_in_style(value, style, 0));
    }
    let mut styles = ANYWHERE.iter().chain(&WHOLE);
    styles.any(|style| is_in_style(value, style, depth))
        || value.strip_prefix(UNCLOSED).is_some_and(is_telling)
}

fn count_letters(text: &str) -> usize {
    text.bytes().filter(u8::is_ascii_alphabetic).count()
}

pub(super) fn is_space_or_quote(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`')
}

fn is_in_style(value: &str, (open, close, inside): &Style, depth: u32) -> bool {
    let text = value
        .strip_prefix(open)
        .and_then(|rest| rest.strip_suffix(close))
        .unwrap_or_default();
    let is_upper = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    let is_marked = || !text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let is_macro = || {
        let depth = depth.checked_sub(1).filter(|_| is_marked());
        depth.is_some_and(|depth| is_whole(text, depth))
    };
    !text.is_empty()
        && match inside {
            Inside::Any => true,
            Inside::Lower => text.bytes().all(|byte| byte.is_ascii_lowercase()),
            Inside::Upper => text.bytes().all(is_upper),
            Inside::Name => is_name(text.trim()) || is_macro(),
            Inside::Telling => {
                let name = text.trim();
                is_telling(name) || is_capitals(name) || is_macro()
            }
            Inside::Terms => has_terms(text.trim()) && count_letters(text) >= TERMS_LETTERS_MIN,
        }
}

/// Returns whether a value has a macro in it.
fn has_macro(value: &str) -> bool {
    let is_telling_end = |open: char| {
        let end = value.rsplit_once(open).map(|(_, end)| end);
        end.is_some_and(is_telling)
    };
    may_have_macro(value.as_bytes())
        && (WITHIN.iter().any(|style| has_style(value, style)) || is_telling_end('$'))
}

/// Returns whether a value has a byte that a macro within an ID begins with, or two underscores.
fn may_have_macro(value: &[u8]) -> bool {
    let begins = |byte: u8| matches!(byte, b'$' | b'{' | b'#' | b'<' | b'*' | b'%' | b'[' | b'(');
    marks(value, |byte| u8::from(begins(byte))) != 0 || value.windows(2).any(|two| two == b"__")
}

fn has_style(value: &str, (open, close, inside): &Style) -> bool {
    let mut starts = value.match_indices(open);
    starts.any(|(at, _)| {
        let rest = value.get(at + open.len()..).unwrap_or_default();
        let text = rest.find(close).and_then(|end| rest.get(..end));
        text.is_some_and(|text| match inside {
            Inside::Any => !text.is_empty(),
            Inside::Terms => has_terms(text.trim()) && count_letters(text) >= TERMS_LETTERS_MIN,
            _ => is_telling(text.trim()),
        })
    })
}
