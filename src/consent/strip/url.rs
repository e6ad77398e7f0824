//! One pass over an address, or over what is written like a query.

use std::borrow::Cow;
use std::mem;

use memchr::{memchr, memchr2, memchr3};

use super::Rules;
use super::names::{Class, class_of};
use super::params::{Judged, WITHIN_MAX};
use super::text::{decode, has_scheme, holds_email, is_phone, is_position};

/// What separates the pairs of a query.
const SEPARATORS: [char; 2] = ['&', ';'];

impl Rules<'_> {
    /// Returns an address without what may not stay; `None` if all of it may.
    pub(super) fn strip_url(&self, url: &str) -> Option<String> {
        if url.is_empty() {
            return None;
        }
        self.strip_url_within(url, 0)
    }

    /// The same of one that stands within another text.
    pub(super) fn strip_url_within(&self, url: &str, within: usize) -> Option<String> {
        let (address, fragment) = url.split_once('#').unwrap_or((url, ""));
        let (page, query) = address.split_once('?').unwrap_or((address, ""));
        let stripped_page = self.strip_page(page, within);
        let stripped_query = self.strip_pairs(query, within);
        let (route, of_route) = fragment.split_once('?').unwrap_or((fragment, ""));
        let stripped_route = self.strip_page(route, within);
        let stripped_of_route = self.strip_pairs(of_route, within);
        if stripped_page.is_none()
            && stripped_query.is_none()
            && stripped_route.is_none()
            && stripped_of_route.is_none()
        {
            return None;
        }
        let mut clean = stripped_page.unwrap_or_else(|| page.to_owned());
        let mut push = |mark: char, text: Option<String>, before: &str| {
            let text = text.as_deref().unwrap_or(before);
            if !text.is_empty() {
                clean.push(mark);
                clean.push_str(text);
            }
        };
        push('?', stripped_query, query);
        let is_routed = !of_route.is_empty();
        let of_route_left = stripped_of_route.unwrap_or_else(|| of_route.to_owned());
        let mut left = stripped_route.unwrap_or_else(|| route.to_owned());
        if is_routed && !of_route_left.is_empty() {
            left.push('?');
            left.push_str(&of_route_left);
        }
        push('#', Some(left), "");
        Some(clean)
    }

    /// Returns what stands before a query, segment by segment, or `None` if all of it may stay.
    fn strip_page(&self, page: &str, within: usize) -> Option<String> {
        // Nothing of most pages may be an ID: a pair, an address for e-mail, something encoded.
        let may_be_user =
            || !self.user.is_empty() && page.split('/').any(|segment| self.is_user(segment));
        let may_hold_more =
            !page.is_ascii() || memchr3(b'=', b'@', b'%', page.as_bytes()).is_some();
        if !may_hold_more && !may_be_user() {
            return None;
        }
        let start = page.find("://").map_or(0, |at| at + 3);
        let (scheme, rest) = page.split_at_checked(start)?;
        let (host, path) = match (start, rest.find('/')) {
            (0, _) => ("", rest),
            (_, Some(at)) => rest.split_at_checked(at)?,
            (_, None) => (rest, ""),
        };
        // The name and the password of whoever asked for the page.
        let bare_host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let mut is_changed = bare_host != host;
        let mut clean = format!("{scheme}{bare_host}");
        for (index, segment) in path.split('/').enumerate() {
            if index > 0 {
                clean.push('/');
            }
            match self.strip_segment(segment, within) {
                Some(other) => {
                    is_changed = true;
                    clean.push_str(&other);
                }
                None => clean.push_str(segment),
            }
        }
        is_changed.then_some(clean)
    }

    fn strip_segment(&self, segment: &str, within: usize) -> Option<String> {
        if segment.is_empty() {
            return None;
        }
        if segment.contains('=') {
            return self.strip_pairs(segment, within);
        }
        let text = decode(segment);
        if self.is_user(&text) {
            return Some(self.hash.clone());
        }
        // What was encoded may be a pair, or JSON.
        let leaves = !self.may_store
            && (holds_email(&text)
                || *text != *segment
                    && (within > WITHIN_MAX
                        || !matches!(self.judge_text(&text, within + 1), Judged::Stays)));
        leaves.then(String::new)
    }

    /// Returns the pairs that may stay, or `None` if all of them may.
    fn strip_pairs(&self, pairs: &str, within: usize) -> Option<String> {
        if pairs.is_empty() {
            return None;
        }
        let (mut is_changed, mut escaped) = (false, "");
        let mut clean = String::with_capacity(pairs.len());
        for piece in pairs.split_inclusive(SEPARATORS) {
            let pair = piece.strip_suffix(SEPARATORS).unwrap_or(piece);
            let separator = piece.get(pair.len()..).unwrap_or_default();
            match self.judge_pair(pair, within) {
                // What is left of an escaped ampersand goes with the pair after it.
                Judged::Stays if separator == ";" && is_of_separator(pair) => escaped = piece,
                Judged::Stays => {
                    clean.push_str(mem::take(&mut escaped));
                    clean.push_str(piece);
                }
                Judged::Becomes(other) => {
                    is_changed = true;
                    clean.push_str(mem::take(&mut escaped));
                    clean.push_str(&other);
                    clean.push_str(separator);
                }
                Judged::Leaves => {
                    is_changed = true;
                    escaped = "";
                }
            }
        }
        if !is_changed {
            return None;
        }
        clean.push_str(escaped);
        if !pairs.ends_with(SEPARATORS) {
            clean.truncate(clean.trim_end_matches(SEPARATORS).len());
        }
        Some(clean)
    }

    fn judge_pair(&self, pair: &str, within: usize) -> Judged {
        if self.hides_pairs(pair, within) {
            return Judged::Leaves;
        }
        let (raw_name, raw) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(raw_name);
        let value = decode(raw);
        let name = name.trim();
        let is_gone = match class_of(name) {
            Some(Class::Credential) => true,
            Some(Class::Position) => !self.may_locate,
            Some(Class::Place) => !self.may_locate && is_position(&value),
            Some(Class::Phone) => !self.may_store && is_phone(&value),
            Some(Class::Owner | Class::IdOfOwner) | None => false,
            Some(_) => !self.may_store,
        };
        if is_gone || self.is_user(name) && self.hash.is_empty() {
            return Judged::Leaves;
        }
        if self.is_user(name) {
            return Judged::Becomes(format!("{}={raw}", self.hash));
        }
        let spaced = match memchr(b'+', value.as_bytes()) {
            Some(_) => Cow::Owned(value.replace('+', " ")),
            None => Cow::Borrowed(&*value),
        };
        if self.is_user(&value) || self.is_user(&spaced) {
            return match self.hash.is_empty() {
                true => Judged::Leaves,
                false => Judged::Becomes(format!("{raw_name}={}", self.hash)),
            };
        }
        if !self.may_store && (holds_email(name) || holds_email(&spaced)) {
            return Judged::Leaves;
        }
        // What stands within was encoded, so the pair stays as it is or leaves.
        let holds_more =
            memchr3(b'=', b'{', b'[', value.as_bytes()).is_some() || has_scheme(&value);
        let is_clean = !holds_more
            || within <= WITHIN_MAX
                && matches!(self.judge_text(&spaced, within + 1), Judged::Stays);
        match is_clean {
            true => Judged::Stays,
            false => Judged::Leaves,
        }
    }

    /// Checks whether something has to leave from pairs that are none by their writing: an equals
    /// sign that was escaped once too often, or commas between them.
    fn hides_pairs(&self, pair: &str, within: usize) -> bool {
        let holds =
            |text: &str| within <= WITHIN_MAX && self.strip_pairs(text, within + 1).is_some();
        match pair.split_once('=') {
            None if memchr(b'%', pair.as_bytes()).is_some() => {
                let text = decode(pair);
                memchr(b'=', text.as_bytes()).is_some() && holds(&text)
            }
            Some((_, value)) if memchr2(b',', b'%', value.as_bytes()).is_some() => {
                let value = decode(value);
                let has_pairs = memchr(b',', value.as_bytes()).is_some()
                    && memchr(b'=', value.as_bytes()).is_some()
                    && !has_scheme(&value);
                has_pairs && holds(&value.replace(',', "&"))
            }
            _ => false,
        }
    }
}

/// Checks whether this is what is left of an ampersand that was escaped for HTML.
fn is_of_separator(text: &str) -> bool {
    matches!(text, "amp" | "#38" | "#x26")
}
