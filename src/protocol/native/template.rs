//! What all events of one body have in common: the headers, and the address that the body was sent
//! to.
//!
//! Both are read once. Each event is then read alone and takes from here, without copying it, what
//! it does not say itself. So what an event costs depends on its own length, however much the
//! address says.

use std::borrow::Cow;

use super::parameter::Parameter;
use super::params::Params;
use super::reader::HitReader;
use super::{Notes, Reading, put_into_hit, slot_of};
use crate::hit::limits::TRACKER_PARAMS_BYTES_MAX;
use crate::hit::{Flags, Hints};
use crate::protocol::Draft;
use crate::protocol::tracker::Told;

/// Headers and address, read.
pub(in crate::protocol) struct Template<'r> {
    reading: Reading<'r>,
    /// What the headers say.
    headers: Draft<'r>,
    /// What the address says: its signals, its flags, and what only hits of some kinds have.
    address: Draft<'r>,
    /// The texts that have a place of their own.
    texts: Vec<(Parameter, Cow<'r, str>)>,
    params: Params,
    notes: Notes<'r>,
    /// The parameters that a tracker's protocol understands itself, whatever they look like.
    own_names: &'static [&'static str],
}

impl<'r> Template<'r> {
    /// Reads the address. `headers` is the draft that each event begins with.
    pub(super) fn new(headers: Draft<'r>, query: &'r str, reading: Reading<'r>) -> Self {
        let mut address = Draft::new(headers.hit.received_at, headers.hit.kind);
        let mut reader = HitReader::new(reading, &mut address);
        reader.read_pairs(query);
        let (params, notes) = reader.into_parts();
        let mut texts = Vec::new();
        for parameter in Parameter::ALL {
            let is_there = notes.parameters & parameter.bit() != 0;
            if let Some(slot) = slot_of(parameter, &mut address.hit)
                && is_there
                && !slot.is_empty()
            {
                texts.push((parameter, std::mem::take(slot)));
            }
        }
        Template {
            reading,
            headers,
            address,
            texts,
            params,
            notes,
            own_names: &[],
        }
    }

    /// Begins with what a tracker's request says of consent beside its events: in its address and
    /// in the members around them.
    pub(super) fn of_tracker(
        headers: Draft<'r>,
        query: &'r str,
        members: &[(String, &'r str)],
        own_names: &'static [&'static str],
    ) -> Self {
        let mut address = Draft::new(headers.hit.received_at, headers.hit.kind);
        let mut reader = HitReader::new(Reading::default(), &mut address);
        reader.begin_source();
        reader.read_signals_of_query(query, own_names);
        reader.read_signals_of_members(members);
        let (_, notes) = reader.into_parts();
        Template {
            reading: Reading::default(),
            headers,
            address,
            texts: Vec::new(),
            params: Params::default(),
            notes,
            own_names,
        }
    }

    /// Reads one event. Returns `None` if it is not a JSON object, or nested too deep.
    pub(super) fn read(&self, event: &str) -> Option<Draft<'_>> {
        let mut draft = self.begin();
        let mut reader = HitReader::new(self.reading, &mut draft);
        if !reader.read_members(event) {
            return None;
        }
        self.complete(&mut reader);
        reader.finish();
        Some(draft)
    }

    /// Reads one event of a tracker. Returns `None` if it is nested too deep.
    pub(super) fn read_told(&self, told: Told<'_>) -> Option<Draft<'_>> {
        let mut draft = self.begin();
        let is_whole = put_told(&mut draft, told, self.own_names, |reader| {
            self.complete_signals(reader.notes.parameters, reader);
        });
        is_whole.then_some(draft)
    }

    /// Returns the draft of the headers, whose texts are lent and not copied.
    fn begin(&self) -> Draft<'_> {
        let Draft { hit, signals, .. } = &self.headers;
        let mut draft = Draft::new(hit.received_at, hit.kind);
        draft.hit.flags = hit.flags;
        draft.hit.user_agent = lend(&hit.user_agent);
        draft.hit.page_url = lend(&hit.page_url);
        draft.hit.hints = Hints {
            mobile: hit.hints.mobile,
            brands: lend(&hit.hints.brands),
            platform: lend(&hit.hints.platform),
            platform_version: lend(&hit.hints.platform_version),
            model: lend(&hit.hints.model),
            form_factors: lend(&hit.hints.form_factors),
        };
        draft.signals.gpc = signals.gpc;
        draft.signals.choice = signals.choice;
        draft
    }

    /// Adds what the address says and the event does not.
    fn complete<'e>(&'e self, reader: &mut HitReader<'_, 'e, '_>) {
        let notes = &mut reader.notes;
        let hit = &mut reader.draft.hit;
        let of_event = notes.parameters;
        let is_silent = |parameter: Parameter| of_event & parameter.bit() == 0;
        for (parameter, text) in &self.texts {
            if is_silent(*parameter) {
                put_into_hit(*parameter, lend(text), hit);
            }
        }
        if is_silent(Parameter::Mobile) {
            hit.hints.mobile = self.address.hit.hints.mobile.or(hit.hints.mobile);
        }
        if notes.ad_event.is_empty() {
            notes.ad_event = lend(&self.notes.ad_event);
        }
        hit.client_ip = hit.client_ip.or(self.address.hit.client_ip);
        if hit.user_agent.is_empty() {
            hit.user_agent = lend(&self.address.hit.user_agent);
        }
        hit.flags.set(self.address.hit.flags);
        notes.limits_tracking |= self.notes.limits_tracking;
        notes.means_site |= self.notes.means_site;
        notes.names_no_partner |= self.notes.names_no_partner && is_silent(Parameter::Partner);
        self.complete_signals(of_event, reader);
        let flags = &mut reader.draft.hit.flags;
        reader.params.extend(&self.params, flags);
    }

    fn complete_signals<'e>(&'e self, of_event: u32, reader: &mut HitReader<'_, 'e, '_>) {
        let own = &mut reader.draft.signals;
        let address = &self.address.signals;
        own.is_unclear |= address.is_unclear;
        for (parameter, own_signal, signal) in [
            (Parameter::Gdpr, &mut own.gdpr, &address.gdpr),
            (Parameter::GdprConsent, &mut own.tcf, &address.tcf),
            (Parameter::Gpp, &mut own.gpp, &address.gpp),
            (Parameter::GppSid, &mut own.gpp_sid, &address.gpp_sid),
        ] {
            if of_event & parameter.bit() == 0 {
                *own_signal = signal.as_ref().map(|text| lend(text));
            } else if self.notes.repeated & parameter.bit() != 0 && own_signal != signal {
                // Whoever says something twice and something else a third time is not understood.
                own.is_unclear = true;
            }
        }
    }
}

/// Puts what a tracker told into a draft. Returns false if it is nested too deep.
pub(in crate::protocol) fn read_told(
    draft: &mut Draft<'_>,
    told: Told<'_>,
    own_names: &[&str],
) -> bool {
    put_told(draft, told, own_names, |_| ())
}

fn put_told<'a>(
    draft: &mut Draft<'a>,
    told: Told<'_>,
    own_names: &[&str],
    complete: impl FnOnce(&mut HitReader<'_, 'a, '_>),
) -> bool {
    let Told {
        ours,
        params,
        understood,
        queries,
        dropped,
        kind,
        claims,
    } = told;
    let mut reader = HitReader::new(Reading::default(), draft);
    reader.params.bytes_max = TRACKER_PARAMS_BYTES_MAX;
    reader.begin_source();
    for (parameter, json) in ours {
        reader.put_told(parameter, &json);
    }
    let mut understood = understood.into_iter().peekable();
    let is_whole = params.into_iter().enumerate().all(|(at, (name, json))| {
        let ranges = std::iter::from_fn(|| understood.next_if(|(place, _)| *place == at));
        let ranges: Vec<_> = ranges.map(|(_, range)| range).collect();
        reader.read_field(name, &json, true, &ranges)
    });
    for query in queries {
        reader.read_signals_of_query(&query, own_names);
    }
    for json in dropped {
        reader.note_hidden_in_json(&json);
    }
    complete(&mut reader);
    reader.finish();
    let hit = &mut draft.hit;
    hit.kind = kind.unwrap_or(hit.kind);
    if claims.needs_trust_for_time {
        hit.flags.set(Flags::CLOCK);
    } else if let Some((occurred_at, is_clamped)) = claims.occurred_at(hit.received_at) {
        hit.occurred_at = Some(occurred_at);
        hit.made_at = claims.recordable_made_at();
        if is_clamped {
            hit.flags.set(Flags::CLOCK);
        }
    }
    draft.claims = Some(Box::new(claims));
    is_whole
}

/// Returns the same text, which the lender keeps.
fn lend(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text)
}
