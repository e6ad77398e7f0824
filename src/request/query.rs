//! The separators of a query string or a form.
//!
//! A page that escapes the address of a pixel for HTML where it is not HTML sends `&amp;` or one of
//! its like for `&`. It is read as what it was.

use std::borrow::Cow;

use memchr::memchr;

/// The longest form of an escaped `&`, behind the `&` that it begins with: `%23x0000026`.
const ENTITY_BYTES_MAX: usize = 12;

/// Splits a query string or a form into its parameters: name and value, as sent.
pub(crate) fn split_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = query;
    let has_entities = memchr(b';', query.as_bytes()).is_some();
    std::iter::from_fn(move || {
        loop {
            let end = memchr(b'&', rest.as_bytes()).unwrap_or(rest.len());
            let (pair, after) = rest.split_at_checked(end)?;
            rest = after.get(1..).unwrap_or_default();
            let pair = if has_entities {
                skip_entities(pair)
            } else {
                pair
            };
            if !pair.is_empty() {
                return Some(split_pair(pair));
            } else if after.is_empty() {
                return None;
            }
        }
    })
}

/// Splits a parameter at its first `=`. Names are short, so each byte is looked at alone.
#[inline]
fn split_pair(pair: &str) -> (&str, &str) {
    let end = pair.bytes().position(|byte| byte == b'=');
    let split = end.and_then(|end| pair.split_at_checked(end));
    split.map_or((pair, ""), |(name, rest)| {
        (name, rest.get(1..).unwrap_or_default())
    })
}

/// Returns the first value of that name, as sent.
pub(crate) fn raw_value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    split_pairs(query)
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

/// Writes each separator that was escaped for HTML as `&`.
pub(crate) fn unescape_separators(query: &str) -> Cow<'_, str> {
    if memchr(b';', query.as_bytes()).is_none() {
        return Cow::Borrowed(query);
    }
    let pairs = query.split('&').map(skip_entities);
    Cow::Owned(pairs.collect::<Vec<_>>().join("&"))
}

/// Passes over what is left of an escaped `&` behind its first character, as often as it was
/// escaped.
fn skip_entities(pair: &str) -> &str {
    let mut pair = pair;
    while matches!(
        pair.as_bytes(),
        [b'a' | b'A', b'm' | b'M', ..] | [b'#' | b'%' | b';' | b'x' | b'X' | b'0'..=b'9', ..]
    ) && let Some((entity, rest)) = pair.split_once(';')
        && is_entity(entity)
    {
        pair = rest;
    }
    pair
}

/// Returns whether a text is an escaped `&` without its first and its last character. Its `#` may
/// be escaped in turn, or have been read as a separator too.
fn is_entity(text: &str) -> bool {
    if text.len() > ENTITY_BYTES_MAX {
        return false;
    }
    if text.is_empty() || text.eq_ignore_ascii_case("amp") {
        return true;
    }
    let number = text.strip_prefix('#').or_else(|| text.strip_prefix("%23"));
    let number = number.unwrap_or(text);
    match number.strip_prefix(['x', 'X']) {
        Some(digits) => digits.trim_start_matches('0') == "26",
        None => number.trim_start_matches('0') == "38",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_that_were_escaped_for_html_separate() {
        for separator in [
            "&",
            "&amp;",
            "&AMP;",
            "&#38;",
            "&#038;",
            "&#x26;",
            "&#X0026;",
            "&%2338;",
            "&%23x26;",
            "&;",
            "&amp;amp;",
            "&amp;#38;",
            "&&amp;&",
        ] {
            let query = ["site=a", "amplitude=1;2", "gdpr=1"].join(separator);
            let pairs: Vec<_> = split_pairs(&query).collect();
            let expected = [("site", "a"), ("amplitude", "1;2"), ("gdpr", "1")];
            assert_eq!(pairs, expected, "{separator}");
            assert_eq!(raw_value(&query, "gdpr"), Some("1"), "{separator}");
            let mended = unescape_separators(&query);
            assert!(split_pairs(&mended).eq(expected), "{mended}");
            assert!(
                !mended.contains("amp;") && !mended.contains("8;"),
                "{mended}"
            );
        }
    }

    #[test]
    fn what_is_no_escaped_separator_is_a_name() {
        for name in [
            "amp",
            "amplitude;x",
            "#39;x",
            "#x27;x",
            "a;x",
            "%26;x",
            "amp%3Bx",
        ] {
            let query = format!("x=1&{name}=2");
            assert_eq!(split_pairs(&query).last(), Some((name, "2")), "{name}");
            assert_eq!(unescape_separators(&query), query, "{name}");
        }
    }
}
