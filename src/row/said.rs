//! What an event says, in 12 bytes: by this a hit that is sent again is told from another hit that
//! has its event ID.
//!
//! A sender who gets no reply sends again what it sent, but not byte for byte:
//!
//! | what differs | so |
//! | --- | --- |
//! | address, agent, hints, times, consent, flags, referrer | they are not compared |
//! | cache busters, times of sending, numbers of tries, signatures | what `hit::volatile` names is not compared |
//! | JSON in a body and then parameters of a pixel | `899` is `"899"`, `1e2` is `100.0`, and an object is its text |
//! | the order of members | does not count |
//! | `http` and then `https`, a fragment, no `Referer`, only its origin | a page is compared without its scheme and fragment, and where both name one |
//! | a cookie that the first reply set, or that it did not | a visitor is compared where both hits came with a cookie |
//! | a click ID that the tag knew on one page only, IDs that consent removed | they are compared where both hits have them |
//! | the user, whom only a body names | is not compared |
//! | a pixel has room for less than a body | see [`Said::is_of_retry`] |
//!
//! What a stranger can do with the rest: who knows everything that an event is going to say can say
//! it first, without a cookie, and then it is stored once, from them.

use std::borrow::Cow;
use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use super::Keyer;
use crate::hit::volatile::is_volatile;
use crate::hit::{Flags, Hit, Kind};

/// What an event says, in keyed hashes. A zero means that it says nothing of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Said {
    /// Its parameters, the category of the page, and the ad.
    what: u32,
    /// The page.
    page: u16,
    /// The visitor, if the hit brought a cookie.
    visitor: u16,
    /// The click that it follows.
    click: u16,
    /// The other IDs that it names.
    ids: u16,
}

impl Said {
    /// Returns what a hit says.
    #[must_use]
    pub fn by(hit: &Hit<'_>, keyer: &Keyer) -> Said {
        let is_proved = !hit.flags.has(Flags::NEW_VISITOR);
        let visitor = hit.visitor.filter(|_| is_proved);
        // A click's own ID is made anew each time.
        let click = match hit.kind {
            Kind::Click => "",
            _ => &*hit.click_id,
        };
        let page = without_scheme_and_fragment(&hit.page_url);
        Said {
            what: hash_content(hit, keyer),
            page: texts(keyer, if is_origin(page) { [""] } else { [page] }),
            visitor: visitor.map_or(0, |visitor| keyer.fold(visitor.0).max(1)),
            click: texts(keyer, [click]),
            ids: ids(hit, keyer),
        }
    }

    /// Checks whether `later` says the same, as far as both say anything.
    ///
    /// One that does not fit into a pixel loses parameters, and says so (`later_is_cut`). It is the
    /// same if it names the same page; then it could not tell more than is known.
    #[must_use]
    pub(crate) fn is_of_retry(self, later: Said, later_is_cut: bool) -> bool {
        let agree = |one: u16, other: u16| one == other || one == 0 || other == 0;
        let is_same =
            self.what == later.what || later_is_cut && self.page == later.page && self.page != 0;
        is_same
            && agree(self.page, later.page)
            && agree(self.visitor, later.visitor)
            && agree(self.click, later.click)
            && agree(self.ids, later.ids)
    }

    /// Returns all but the first part, as one number.
    fn hash_subject(self) -> u64 {
        [self.page, self.visitor, self.click, self.ids]
            .into_iter()
            .fold(0, |bits, part| bits << 16 | u64::from(part))
    }

    /// Returns the two numbers that Postgres keeps: what is said, and about whom.
    #[must_use]
    pub(crate) fn to_columns(self) -> (i32, i64) {
        (self.what.cast_signed(), self.hash_subject().cast_signed())
    }

    /// Returns what Postgres has kept.
    #[must_use]
    pub(crate) fn from_columns(said: i32, about: i64) -> Said {
        let part = |number: u32| {
            let bits = about.cast_unsigned() >> (16 * number) & 0xffff;
            u16::try_from(bits).unwrap_or_default()
        };
        Said {
            what: said.cast_unsigned(),
            page: part(3),
            visitor: part(2),
            click: part(1),
            ids: part(0),
        }
    }

    /// Returns bytes to hash: of what is said alone, or of everything.
    pub(super) fn bytes(self, is_all: bool) -> [u8; 12] {
        let about = if is_all { self.hash_subject() } else { 0 };
        let [a, b, c, d] = self.what.to_le_bytes();
        let [e, f, g, h, i, j, k, l] = about.to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }
}

/// Returns the hash of texts, 0 if all of them are empty.
fn texts<const TEXTS: usize>(keyer: &Keyer, texts: [&str; TEXTS]) -> u16 {
    if texts.iter().all(|text| text.is_empty()) {
        return 0;
    }
    let mut hash = keyer.begin_said();
    write_texts(&mut hash, &texts);
    u16::try_from(hash.finish() >> 48).map_or(1, |hash| hash.max(1))
}

/// Returns the hash of the IDs that a hit names. The session was not among them in former releases,
/// so a hit without one has the hash that it always had.
fn ids(hit: &Hit<'_>, keyer: &Keyer) -> u16 {
    let [uid, maid, device] = [&*hit.partner_uid, &*hit.maid, &*hit.device_id];
    match &*hit.session_id {
        "" => texts(keyer, [uid, maid, device]),
        session => texts(keyer, [uid, maid, device, session]),
    }
}

fn write_texts(hash: &mut SipHasher13, texts: &[&str]) {
    for text in texts {
        hash.write(text.as_bytes());
        hash.write_u8(END_OF_TEXT);
    }
}

fn hash_content(hit: &Hit<'_>, keyer: &Keyer) -> u32 {
    let ad = [
        &*hit.category,
        &*hit.campaign,
        &*hit.creative,
        &*hit.placement,
        &*hit.publisher,
    ];
    let params = Params {
        keyer,
        // A system repeats itself as any other server does.
        kind: match hit.flags.has(Flags::SYSTEM) {
            true => Kind::Callback,
            false => hit.kind,
        },
    }
    .hash(&hit.params);
    let is_native = hit.protocol.is_native();
    if params == 0 && is_native && ad.iter().all(|text| text.is_empty()) {
        return 0;
    }
    let mut hash = keyer.begin_said();
    write_texts(&mut hash, &ad);
    hash.write_u64(params);
    if !is_native {
        hash.write_u8(hit.protocol as u8);
    }
    u32::try_from(hash.finish() >> 32).map_or(1, |hash| hash.max(1))
}

fn without_scheme_and_fragment(url: &str) -> &str {
    let page = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))
        .unwrap_or(url);
    page.split_once('#').map_or(page, |(page, _)| page)
}

/// Checks whether an address names no page: that is what a `Referer` of another origin is cut to.
fn is_origin(page: &str) -> bool {
    match page.split_once('/') {
        Some((_, path)) => path.is_empty(),
        None => true,
    }
}

/// What ends a text and begins a nested value: bytes that no UTF-8 has.
const END_OF_TEXT: u8 = 0xff;
const OBJECT: u8 = 0xfe;
const ARRAY: u8 = 0xfd;

/// How deep values are looked into; what is deeper is compared as it is written.
const DEPTH_MAX: usize = 128;

/// Hashes `params`, as they come from the protocols: JSON without blanks.
struct Params<'k> {
    keyer: &'k Keyer,
    kind: Kind,
}

impl Params<'_> {
    /// Returns 0 for no parameter.
    fn hash(&self, json: &str) -> u64 {
        if json.is_empty() {
            return 0;
        }
        let mut rest = json;
        match self.hash_object(&mut rest, 0) {
            Some(hash) if rest.is_empty() => hash,
            // It is no JSON, and Postgres is going to refuse it.
            _ => {
                let mut hash = self.keyer.begin_said();
                hash.write(json.as_bytes());
                hash.finish() | 1
            }
        }
    }

    /// Hashes an object as the sum of its members, so that their order does not count.
    fn hash_object(&self, rest: &mut &str, depth: usize) -> Option<u64> {
        let mut sum = 0_u64;
        take(rest, '{')?;
        if take(rest, '}').is_some() {
            return Some(sum);
        }
        loop {
            let name = unescape(take_string(rest)?);
            take(rest, ':')?;
            let mut hash = self.keyer.begin_said();
            write_texts(&mut hash, &[&*name]);
            self.write_value(&mut hash, rest, depth)?;
            if depth > 0 || !is_volatile(self.kind, &name) {
                sum = sum.wrapping_add(hash.finish());
            }
            if take(rest, ',').is_none() {
                take(rest, '}')?;
                return Some(sum);
            }
        }
    }

    fn write_value(&self, hash: &mut SipHasher13, rest: &mut &str, depth: usize) -> Option<()> {
        let is_text = rest.starts_with('"');
        if rest.starts_with(['{', '[']) {
            return self.write_nested(hash, rest, depth + 1);
        }
        let text = match is_text {
            true => unescape(take_string(rest)?),
            false => {
                let end = rest.find([',', '}', ']'])?;
                let (text, after) = rest.split_at_checked(end)?;
                *rest = after;
                Cow::Borrowed(text)
            }
        };
        if is_text && text.starts_with(['{', '[']) {
            let (mut tried, mut inner) = (*hash, &*text);
            let is_nested = self.write_nested(&mut tried, &mut inner, depth + 1);
            if is_nested.is_some() && inner.is_empty() {
                *hash = tried;
                return Some(());
            }
        }
        hash.write(number(&text).as_bytes());
        hash.write_u8(END_OF_TEXT);
        Some(())
    }

    /// Writes what an object or an array holds: its own hash, of which a text that holds the same
    /// has a copy.
    fn write_nested(&self, hash: &mut SipHasher13, rest: &mut &str, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        if rest.starts_with('{') {
            let sum = self.hash_object(rest, depth)?;
            hash.write_u8(OBJECT);
            hash.write_u64(sum);
            return Some(());
        }
        take(rest, '[')?;
        let mut items = self.keyer.begin_said();
        if take(rest, ']').is_none() {
            loop {
                self.write_value(&mut items, rest, depth)?;
                if take(rest, ',').is_none() {
                    take(rest, ']')?;
                    break;
                }
            }
        }
        hash.write_u8(ARRAY);
        hash.write_u64(items.finish());
        Some(())
    }
}

/// Takes a character that a text begins with.
fn take(rest: &mut &str, character: char) -> Option<()> {
    *rest = rest.strip_prefix(character)?;
    Some(())
}

/// Takes a string that a text begins with; returns what stands between its quotes.
fn take_string<'t>(rest: &mut &'t str) -> Option<&'t str> {
    take(rest, '"')?;
    let mut end = 0;
    loop {
        end += memchr::memchr2(b'"', b'\\', rest.as_bytes().get(end..)?)?;
        if rest.as_bytes().get(end) == Some(&b'"') {
            break;
        }
        end += 2;
    }
    let (inner, after) = rest.split_at_checked(end)?;
    *rest = after.get(1..)?;
    Some(inner)
}

/// Returns what a string means.
fn unescape(inner: &str) -> Cow<'_, str> {
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let text = serde_json::from_str(&format!("\"{inner}\""));
    text.map_or(Cow::Borrowed(inner), Cow::Owned)
}

/// Returns a number that has an exponent as a body's is stored, and any other text as it is.
fn number(text: &str) -> Cow<'_, str> {
    let may_be = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    if may_be
        && text.contains(['e', 'E'])
        && let Ok(number) = text.parse::<f64>()
        && number.is_finite()
    {
        return Cow::Owned(serde_json::Value::from(number).to_string());
    }
    Cow::Borrowed(text)
}

#[cfg(test)]
mod tests;
