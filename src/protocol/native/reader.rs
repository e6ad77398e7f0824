//! One hit while its parameters come in.

use std::borrow::Cow;

use memchr::{memchr, memchr2};
use percent_encoding::percent_decode_str;

use super::json::meaning_at_end;
use super::json_text::leading_scalar;
use super::page;
use super::parameter::{Parameter, rule};
use super::params::{Params, push_json_text};
use super::{
    Notes, Reading, finish, note_ad, put_into_hit, put_parameter_of_kind, put_parameter_of_system,
};
use crate::callback::names;
use crate::consent::names::{
    Meaning, hides, is_of_consent, may_mean, narrow_text, objects, refuses_tracking,
};
use crate::hit::limits::{PARAMETERS_READ_MAX, TEXT_BYTES_MAX};
use crate::hit::{Flags, Kind};
use crate::protocol::Draft;
use crate::protocol::text::{clean, decode, decode_marked, decode_once, may_hide};
use crate::request::split_pairs;

/// How often a value may have been escaped beyond its own escapes.
const ESCAPES_MAX: usize = 3;
/// The member of a click's `params` that holds what would replace something that was signed.
const UNSIGNED: &str = "unsigned";

/// A draft, and what is known of its parameters so far.
pub(super) struct HitReader<'d, 'a, 'n> {
    pub(super) draft: &'d mut Draft<'a>,
    pub(super) reading: Reading<'n>,
    pub(super) params: Params,
    /// Repeated parameters of a click that come after its signature.
    unsigned: Option<Box<Params>>,
    pub(super) notes: Notes<'a>,
}

impl<'d, 'a, 'n> HitReader<'d, 'a, 'n> {
    pub(super) fn new(reading: Reading<'n>, draft: &'d mut Draft<'a>) -> Self {
        let notes = Notes::new(draft.hit.kind, reading);
        HitReader {
            draft,
            reading,
            params: Params::default(),
            unsigned: None,
            notes,
        }
    }

    /// Begins an event, a form or a query string.
    pub(super) fn begin_source(&mut self) {
        self.notes.parameters_here = 0;
    }

    /// Puts the parameters of a query string or a form in their places.
    pub(super) fn read_pairs(&mut self, query: &'a str) {
        self.begin_source();
        for (at, (name, value)) in split_pairs(query).enumerate() {
            if at >= PARAMETERS_READ_MAX {
                self.leave_out(name, value);
                continue;
            }
            self.read_pair(name, value);
            self.notes.is_unsigned |= self.notes.kind == Kind::Click && name == "sig";
        }
    }

    fn read_pair(&mut self, raw_name: &'a str, raw: &'a str) {
        let mut flags = Flags::default();
        // Most names are ours as they were sent.
        let sent = match self.reading.fields {
            None => Parameter::from_name(raw_name),
            Some(_) => None,
        };
        let (name, parameter) = if sent.is_some() {
            (Cow::Borrowed(raw_name), sent)
        } else if let Some(name) = decode(raw_name, usize::MAX, &mut flags) {
            let name = self.reading.our_name(name);
            if name == page::EVENT
                && self.notes.kind == Kind::PageView
                // JSON is neither a macro nor encoded twice.
                && self.read_members_of_address(&decode_once(raw))
            {
                self.draft.hit.flags.set(flags);
                return;
            }
            let parameter = Parameter::from_name(&name);
            (name, parameter)
        } else {
            self.draft.hit.flags.set(flags);
            let value = decode_once(raw);
            self.note_further(raw_name, Some(&value));
            self.note_hidden_in(None, raw, Some(&value), flags);
            return;
        };
        let (mut value, may_hide) = decode_marked(raw, rule(parameter, &name), &mut flags);
        self.draft.hit.flags.set(flags);
        if may_hide {
            self.note_hidden_in(parameter, raw, value.as_ref(), flags);
        }
        let is_of_partner = self.notes.kind == Kind::Callback;
        let parameter = match parameter {
            Some(Parameter::UserSig) => return,
            Some(Parameter::User) if !is_of_partner => return,
            Some(Parameter::User) => None,
            parameter => parameter,
        };
        if self.put(&name, parameter, &mut value) {
            return;
        }
        self.note_further(&name, value.as_deref());
        let hit = &mut self.draft.hit;
        if let Some(value) = value
            && !(hit.kind == Kind::Callback && names::is_personal(&name))
        {
            let name = clean(name, TEXT_BYTES_MAX, &mut hit.flags);
            let write = |out: &mut String| push_json_text(out, &value);
            if !self.params.push(&name, write, &mut hit.flags) && self.notes.is_unsigned {
                let unsigned = self.unsigned.get_or_insert_default();
                unsigned.push(&name, write, &mut hit.flags);
            }
        }
    }

    /// Puts the members of an event in their places that stands in an address, which never says who
    /// is logged in.
    fn read_members_of_address(&mut self, event: &str) -> bool {
        let user = std::mem::take(&mut self.draft.user);
        let user_sig = std::mem::take(&mut self.draft.user_sig);
        let is_read = self.read_members(event);
        (self.draft.user, self.draft.user_sig) = (user, user_sig);
        is_read
    }

    /// Leaves out what comes after the most that is read, a raw value or JSON. Whatever may be a
    /// signal counts as one that is not understood, and so does what would have to be looked into.
    pub(super) fn leave_out(&mut self, name: &str, value: &str) {
        self.draft.hit.flags.set(Flags::TRUNCATED);
        self.note_further(name, Some(leading_scalar(value)));
        let is_nested = value.starts_with(['{', '[']);
        self.draft.signals.is_unclear |= is_nested || self.hides_escaped(value);
    }

    /// Puts a parameter in its place and takes its value. Returns false for a further parameter,
    /// which has none. `parameter` is what [`Parameter::from_name`] finds for the name.
    pub(super) fn put(
        &mut self,
        name: &str,
        parameter: Option<Parameter>,
        value: &mut Option<Cow<'a, str>>,
    ) -> bool {
        let notes = &mut self.notes;
        let Some(parameter) = parameter else {
            return match notes.system {
                None => put_parameter_of_kind(name, value.as_ref(), &mut self.draft.hit, notes),
                Some(system) => {
                    let value = value.as_deref().unwrap_or_default();
                    put_parameter_of_system(name, value, system, self.draft)
                }
            };
        };
        let Draft {
            hit,
            signals,
            user,
            user_sig,
            link,
            ..
        } = &mut *self.draft;
        let is_first = notes.parameters & parameter.bit() == 0;
        let is_first_here = notes.parameters_here & parameter.bit() == 0;
        notes.parameters |= parameter.bit();
        notes.parameters_here |= parameter.bit();
        let text = value.take().unwrap_or_default();
        let signal = match parameter {
            Parameter::Gdpr => &mut signals.gdpr,
            Parameter::GdprConsent => &mut signals.tcf,
            Parameter::Gpp => &mut signals.gpp,
            Parameter::GppSid => &mut signals.gpp_sid,
            // A partner that is not named is one whose rules are unknown.
            Parameter::Partner if is_first && text.is_empty() && names_partner(hit.kind) => {
                notes.names_no_partner = true;
                return true;
            }
            _ => {
                match parameter {
                    _ if !is_first => {}
                    Parameter::User => *user = text,
                    Parameter::UserSig => *user_sig = text,
                    Parameter::Link => *link = text,
                    parameter => put_into_hit(parameter, text, hit),
                }
                return true;
            }
        };
        if is_first {
            *signal = Some(text);
        } else if !is_first_here {
            notes.repeated |= parameter.bit();
            // Said twice, and differently.
            signals.is_unclear |= signal.as_deref() != Some(&*text);
        }
        true
    }

    /// Notes what a further parameter says besides what is stored of it. A macro has no value.
    pub(super) fn note_further(&mut self, name: &str, value: Option<&str>) {
        note_ad(name, value.unwrap_or_default(), &mut self.draft.hit);
        if !may_mean(name) {
            return;
        }
        // A whole query string that was escaped is a name without a value.
        self.draft.signals.is_unclear |= self.hides(name);
        if name == "lat" {
            self.notes.limits_tracking |= value.is_none_or(objects);
        } else if let Some(meaning) = meaning_at_end(name) {
            self.note_meaning(meaning, value);
        }
    }

    /// Notes that a decoded value hides a signal.
    pub(super) fn note_hidden(&mut self, parameter: Option<Parameter>, value: Option<&str>) {
        if let Some(value) = value.filter(|text| may_hide(text)) {
            self.note_hidden_if_any(parameter, value);
        }
    }

    /// Notes that a decoded value hides a signal which may. An address has a query of its own, and
    /// what is wrong with a signal's own value, the decision finds.
    fn note_hidden_if_any(&mut self, parameter: Option<Parameter>, value: &str) {
        let is_decided = parameter.is_some_and(Parameter::is_decided_by);
        let may_be_address = matches!(
            parameter,
            None | Some(Parameter::PageUrl | Parameter::Referrer)
        );
        self.draft.signals.is_unclear |= match value {
            _ if is_decided => false,
            text if may_be_address && is_address(text) => self.hides_in_path(text),
            text => self.hides_escaped(text),
        };
    }

    /// Notes that something was meant under a name that is not its own.
    pub(super) fn note_meaning(&mut self, meaning: Meaning, value: Option<&str>) {
        if meaning == Meaning::Site {
            self.notes.means_site = true;
        } else if counts(meaning, value, self.notes.kind) {
            self.draft.signals.is_unclear = true;
        }
    }

    /// Notes that a value hides a signal, as sent or decoded.
    fn note_hidden_in(
        &mut self,
        parameter: Option<Parameter>,
        raw: &str,
        value: Option<&Cow<'_, str>>,
        flags: Flags,
    ) {
        if !parameter.is_some_and(Parameter::is_decided_by) && self.hides(raw) {
            self.draft.signals.is_unclear = true;
        } else if flags.has(Flags::TRUNCATED) {
            let whole = decode(raw, usize::MAX, &mut Flags::default());
            self.note_hidden(parameter, whole.as_deref());
        } else if let Some(Cow::Owned(text)) = value {
            self.note_hidden_if_any(parameter, text);
        } else if value.is_none() {
            // A macro is no value, and may have hidden one.
            self.note_hidden(parameter, Some(&decode_once(raw)));
        }
    }

    pub(super) fn hides(&self, text: &str) -> bool {
        let kind = self.notes.kind;
        hides(text, |meaning, value| counts(meaning, Some(value), kind))
    }

    /// Returns the further parameters and the notes of what was read.
    pub(super) fn into_parts(self) -> (Params, Notes<'a>) {
        (self.params, self.notes)
    }

    /// Returns whether a decoded text hides a signal, or would if it were decoded again: a value
    /// that has a blank beside its escapes is not ([`decode`]).
    pub(super) fn hides_escaped(&self, text: &str) -> bool {
        if text.is_empty() {
            return false;
        }
        let mut text = narrow_text(text).map_or(Cow::Borrowed(text), Cow::Owned);
        for _ in 0..ESCAPES_MAX {
            if self.hides(&text) {
                return true;
            }
            if memchr(b'%', text.as_bytes()).is_none() {
                return false;
            }
            match percent_decode_str(&text).decode_utf8_lossy() {
                decoded if decoded == text => return false,
                decoded => text = Cow::Owned(decoded.into_owned()),
            }
        }
        self.hides(&text)
    }

    /// Returns whether the path of an address hides a signal behind an `&`, which is no part of it.
    fn hides_in_path(&self, address: &str) -> bool {
        let bytes = address.as_bytes();
        // Nearly no address has either.
        if memchr2(b'&', b'%', bytes).is_none() {
            return false;
        }
        let end = memchr2(b'?', b'#', bytes).unwrap_or(bytes.len());
        let mut path = Cow::Borrowed(address.get(..end).unwrap_or_default());
        for _ in 0..ESCAPES_MAX {
            if let Some(at) = memchr(b'&', path.as_bytes()) {
                return self.hides_escaped(path.get(at..).unwrap_or_default());
            }
            if memchr(b'%', path.as_bytes()).is_none() {
                return false;
            }
            let decoded = percent_decode_str(&path).decode_utf8_lossy();
            path = Cow::Owned(decoded.into_owned());
        }
        false
    }

    /// Finishes the hit.
    pub(super) fn finish(&mut self) {
        let Draft { hit, signals, .. } = &mut *self.draft;
        if let Some(unsigned) = &mut self.unsigned {
            let unsigned = unsigned.finish();
            self.params
                .push(UNSIGNED, |out| out.push_str(&unsigned), &mut hit.flags);
        }
        hit.params = self.params.finish();
        signals.is_unclear |= self.notes.names_no_partner;
        signals.is_unclear |= self.notes.means_site && hit.site.is_empty();
        if signals.is_unclear {
            hit.flags.set(Flags::UNCLEAR_CONSENT);
        }
        finish(hit, &mut self.notes);
    }
}

/// Returns whether a meaning makes the consent of a hit of that kind unclear.
fn counts(meaning: Meaning, value: Option<&str>, kind: Kind) -> bool {
    match meaning {
        Meaning::Signal => true,
        Meaning::Objection => value.is_some_and(objects),
        Meaning::ConsentString => value.is_none_or(is_of_consent),
        Meaning::AppTracking => value.is_none_or(refuses_tracking),
        Meaning::Partner => names_partner(kind),
        Meaning::Site => false,
    }
}

/// Returns whether a parameter names the partner of hits of that kind. It is the path that names it
/// where partners are asked or ask.
fn names_partner(kind: Kind) -> bool {
    !matches!(kind, Kind::Callback | Kind::Sync)
}

/// Returns whether a value is a URL, a path or a query.
fn is_address(text: &str) -> bool {
    let bytes = text.as_bytes();
    let has_scheme = || {
        let after = memchr(b':', bytes).and_then(|at| bytes.get(at + 1..));
        after.is_some_and(|after| after.starts_with(b"//"))
    };
    matches!(bytes, [b'/' | b'?', ..]) || has_scheme()
}
