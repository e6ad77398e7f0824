//! The `Cookie` header: which of its cookies have a name, and what the name says of who set them.
//!
//! A browser sends a cookie's value and name, and nothing of where it was set: another host of the
//! domain, or anybody on the way of a request over http, may have planted it. Only a name that
//! begins with `__Host-` or `__Secure-` says more, because browsers refuse such a cookie from
//! others (RFC 6265bis, section 4.1.3). It says so only where it stands as browsers write it: a
//! cookie of any other name may hold `,__Host-avid=…` in its value, and older browsers take
//! `__host-avid` for any other name.

use memchr::memchr2;

/// What browsers promise of a cookie by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// Nothing.
    None,
    /// `__Secure-`: it was set over https.
    Secure,
    /// `__Host-`: it was set over https by the host that it is sent to, for all its paths.
    Host,
}

impl Prefix {
    /// Returns what a name promises.
    #[must_use]
    pub(crate) fn of(name: &str) -> Prefix {
        if name.starts_with("__Host-") {
            Prefix::Host
        } else if name.starts_with("__Secure-") {
            Prefix::Secure
        } else {
            Prefix::None
        }
    }
}

/// The name of a cookie, and the one that it had before it was renamed.
#[derive(Clone, Copy, Debug)]
pub struct CookieNames<'c> {
    /// Its name.
    pub name: &'c str,
    /// Its former name, if it was renamed.
    pub former: Option<&'c str>,
}

impl<'c> From<&'c str> for CookieNames<'c> {
    /// Makes the names of a cookie that was never renamed.
    fn from(name: &'c str) -> CookieNames<'c> {
        CookieNames { name, former: None }
    }
}

/// How far a cookie's name vouches for who set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameTrust {
    /// Its prefix says that browsers let nobody else set it.
    Vouched,
    /// Its name has no prefix: anybody may have set it.
    Plain,
    /// It resembles a name with a prefix, and no browser writes it so: anybody may have set it.
    Lookalike,
    /// A `=` does not follow it.
    Mangled,
}

/// A cookie that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundCookie<'a> {
    /// Its value, as sent.
    pub value: &'a [u8],
    /// What its name says.
    pub trust: NameTrust,
    /// Whether it has the former name.
    pub is_former: bool,
}

impl<'a> FoundCookie<'a> {
    /// Returns the value, if it is text.
    #[must_use]
    pub fn text(&self) -> Option<&'a str> {
        str::from_utf8(self.value).ok()
    }

    /// Returns the value, or nothing in place of that of a lookalike or a mangled cookie. A choice
    /// that is empty permits nothing, so these narrow what others permit and never permit anything
    /// themselves.
    pub(crate) fn value_if_trusted(self) -> &'a [u8] {
        match self.trust {
            NameTrust::Lookalike | NameTrust::Mangled => b"",
            NameTrust::Vouched | NameTrust::Plain => self.value,
        }
    }
}

/// Returns the cookies of a line that have one of these names, in the order sent.
///
/// Cookies are split as bytes: those of other programs on the domain need not be ASCII and must
/// not hide ours. Case, blanks and quotes are those of clients that are no browsers, and commas
/// those of proxies that join headers. Neither may hide a cookie, which could be a withdrawal.
pub(super) fn find_in<'a>(
    line: &'a [u8],
    names: CookieNames<'_>,
) -> impl Iterator<Item = FoundCookie<'a>> {
    find_all_in(line, names).filter(|found| found.trust != NameTrust::Mangled)
}

/// Returns the same, and those that lost their `=`.
pub(super) fn find_all_in<'a>(
    line: &'a [u8],
    names: CookieNames<'_>,
) -> impl Iterator<Item = FoundCookie<'a>> {
    split(line).filter_map(move |bytes| {
        let pair = Pair { bytes, line };
        let found = |name, is_former| {
            let (value, trust) = match pair.value_of(name)? {
                Some(value) => (value, pair.trust(name)),
                None => (&b""[..], NameTrust::Mangled),
            };
            Some(FoundCookie {
                value,
                trust,
                is_former,
            })
        };
        found(names.name, false).or_else(|| found(names.former?, true))
    })
}

/// A name with its value, as it stands in a line of the header.
#[derive(Clone, Copy)]
struct Pair<'a> {
    bytes: &'a [u8],
    line: &'a [u8],
}

impl<'a> Pair<'a> {
    /// Returns the value, if the pair has that name; without a value if no `=` follows the name.
    fn value_of(self, name: &str) -> Option<Option<&'a [u8]>> {
        let (own, rest) = trim_marks(self.bytes).split_at_checked(name.len())?;
        if !own.eq_ignore_ascii_case(name.as_bytes()) {
            return None;
        }
        let Some(value) = rest.trim_ascii().strip_prefix(b"=") else {
            let is_longer = rest.first().is_some_and(continues_name);
            return (!is_longer).then_some(None);
        };
        let value = value.trim_ascii_start();
        let bare = value
            .strip_prefix(b"\"")
            .and_then(|value| value.strip_suffix(b"\""));
        Some(Some(bare.unwrap_or(value)))
    }

    /// Returns whether a comma stands before the pair. Only names with a prefix need to know.
    fn follows_comma(self) -> bool {
        let start = self.bytes.as_ptr().addr() - self.line.as_ptr().addr();
        self.line
            .get(..start)
            .is_some_and(|before| before.ends_with(b","))
    }

    /// Returns what the name of a pair that has it says.
    fn trust(self, name: &str) -> NameTrust {
        if Prefix::of(name) == Prefix::None {
            return NameTrust::Plain;
        }
        let bytes = self.bytes.strip_prefix(b" ").unwrap_or(self.bytes);
        let rest = bytes.strip_prefix(name.as_bytes());
        if !self.follows_comma() && rest.is_some_and(|rest| rest.starts_with(b"=")) {
            NameTrust::Vouched
        } else {
            NameTrust::Lookalike
        }
    }
}

/// Returns a pair without what no name begins with: blanks, quotes, and the bytes of a blank that
/// is not ASCII.
fn trim_marks(pair: &[u8]) -> &[u8] {
    let is_mark = |byte: u8| !byte.is_ascii_graphic() || matches!(byte, b'"' | b'\'');
    let mut pair = pair;
    while let [first, rest @ ..] = pair
        && is_mark(*first)
    {
        pair = rest;
    }
    pair
}

/// Returns whether a byte behind a cookie's name shows that the name is longer: a character of RFC
/// 9110's `token`, but for `%`, which begins an escaped `=`, and `'`, which ends a quoted name.
fn continues_name(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$&*+-.^_`|~".contains(byte)
}

/// Splits a line of cookies at its semicolons and commas, many bytes at a time.
fn split(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let Some((pair, after)) =
            memchr2(b';', b',', text).and_then(|at| text.split_at_checked(at))
        else {
            return Some(text);
        };
        rest = after.get(1..);
        Some(pair)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(
        line: &'a str,
        name: &str,
        former: Option<&str>,
    ) -> Vec<(&'a str, NameTrust, bool)> {
        find_in(line.as_bytes(), CookieNames { name, former })
            .map(|found| {
                let text = found.text().expect("the lines are text");
                (text, found.trust, found.is_former)
            })
            .collect()
    }

    #[test]
    fn a_prefix_vouches_only_for_what_stands_as_browsers_write_it() {
        use NameTrust::{Lookalike, Vouched};
        for name in ["__Host-avid", "__Secure-avid"] {
            for (form, trust) in [
                ("@=1", Vouched),
                ("a=b; @=1", Vouched),
                ("a=b;@=1", Vouched),
                ("a=b, c=d; @=1; e=f", Vouched),
                ("a=b,@=1", Lookalike),
                ("a=b, @=1", Lookalike),
                (",@=1", Lookalike),
                ("a=b;  @=1", Lookalike),
                ("a=b;\t@=1", Lookalike),
                ("@ =1", Lookalike),
                ("@\t=1", Lookalike),
            ] {
                let line = form.replace('@', name);
                assert_eq!(find(&line, name, None), [("1", trust, false)], "{line}");
            }
            for other in [name.to_lowercase(), name.to_uppercase()] {
                let line = format!("{other}=1");
                assert_eq!(find(&line, name, None), [("1", Lookalike, false)], "{line}");
            }
        }
        for line in ["x__Host-avid=1", "__Host-avid2=1", "__Host-avid", "avid=1"] {
            assert_eq!(find(line, "__Host-avid", None), [], "{line}");
        }
    }

    #[test]
    fn a_renamed_cookie_is_found_under_both_names() {
        use NameTrust::{Plain, Vouched};
        let line = "avid=1; __Host-avid=2, AVID=3; b=4";
        assert_eq!(
            find(line, "__Host-avid", Some("avid")),
            [
                ("1", Plain, true),
                ("2", Vouched, false),
                ("3", Plain, true)
            ]
        );
        assert_eq!(
            find(line, "avid", None),
            [("1", Plain, false), ("3", Plain, false)]
        );
    }

    #[test]
    fn a_lookalike_keeps_its_place_and_loses_its_value() {
        let line = b"a=b,__Host-c=store; __Host-c=measure";
        let values: Vec<&[u8]> = find_in(line, "__Host-c".into())
            .map(FoundCookie::value_if_trusted)
            .collect();
        assert_eq!(values, [&b""[..], b"measure"]);
    }
}
