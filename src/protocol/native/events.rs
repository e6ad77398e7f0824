//! The events of one body, each of which is read when its turn comes.
//!
//! A body of a megabyte is never looked at as a whole, so whoever reads it may do something else
//! between two events.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};

use super::EVENTS_MAX;
use super::json::mend;
use super::split::Split;
use super::template::Template;
use crate::callback::Proof;
use crate::hit::Flags;
use crate::protocol::Draft;
use crate::protocol::tracker::Translate;
use crate::refusal::Reason;

/// An array may have an event for each of that many bytes: that of the shortest event that says
/// anything, `{"a":1},`. More would cost more than their bytes are worth.
const EVENT_BYTES_MIN: usize = 8;
/// The events that any array may have, however short they are.
const EVENTS_ALWAYS: usize = 64;
/// Beyond those, events that are each read together with an address have that part of its length:
/// reading it again costs about a tenth of what reading an event of its length does.
const ADDRESS_PART: usize = 8;

/// The events of a body that are still to be read.
pub struct Events<'r> {
    template: Template<'r>,
    split: RefCell<Split<'r>>,
    /// How many were read.
    count: Cell<usize>,
    count_max: usize,
    /// The length of the body.
    bytes: usize,
    owner: Option<Owner<'r>>,
    translate: Option<Box<dyn Translate + 'r>>,
}

/// Whose events they are, whatever they say. A system has no partner's key.
#[derive(Clone, Copy)]
pub(in crate::protocol) struct Owner<'r> {
    /// The key of the partner that sends.
    pub(in crate::protocol) partner: &'r str,
    /// The site of events that name none.
    pub(in crate::protocol) site: &'r str,
    /// What proves that they are its own.
    pub(in crate::protocol) proof: Option<Proof<'r>>,
}

impl<'r> Owner<'r> {
    /// Puts the partner into the draft of its event with that number, its site where the hit names
    /// none, and an event ID where the hit brings none and the proof stands for this request alone.
    /// A signature proves what the event says; a token, which a URL may hold, does not.
    pub(in crate::protocol) fn name_in(self, draft: &mut Draft<'r>, number: usize) {
        if !self.partner.is_empty() {
            draft.hit.partner = self.partner.into();
        }
        if matches!(self.proof, Some(Proof::Signature(_))) {
            draft.hit.flags.set(Flags::PROVED);
        }
        if draft.hit.event_id.is_empty()
            && let Some(id) = self.proof.and_then(|proof| proof.event_id(number))
        {
            draft.hit.event_id = id.into();
        }
        if draft.hit.site.is_empty() {
            draft.hit.site = self.site.into();
        }
    }
}

impl<'r> Events<'r> {
    /// Takes a body that is not yet split.
    ///
    /// # Errors
    /// If nothing is in the body.
    pub(super) fn new(
        body: &'r [u8],
        template: Template<'r>,
        owner: Option<Owner<'r>>,
    ) -> Result<Events<'r>, Reason> {
        let split = Split::new(body).ok_or(Reason::Json)?;
        Ok(Events {
            template,
            split: RefCell::new(split),
            count: Cell::new(0),
            count_max: EVENTS_MAX.min(EVENTS_ALWAYS + body.len() / EVENT_BYTES_MIN),
            bytes: body.len(),
            owner,
            translate: None,
        })
    }

    /// Has each event translated before it is read, together with an address of so many bytes: the
    /// longer that is, the longer events have to be on average.
    pub(super) fn with_translation(
        self,
        translate: Box<dyn Translate + 'r>,
        address_bytes: usize,
    ) -> Events<'r> {
        let event_bytes = EVENT_BYTES_MIN.max(address_bytes / ADDRESS_PART);
        let split = self.split.into_inner();
        let split = split.for_tracker(translate.takes_texts(), translate.times());
        Events {
            translate: Some(translate),
            count_max: EVENTS_MAX.min(EVENTS_ALWAYS + self.bytes / event_bytes),
            split: RefCell::new(split),
            ..self
        }
    }

    /// Splits the next event off, without reading it. What stands beyond the most that the body may
    /// have is one more.
    pub(crate) fn split_next(&self) -> Option<SplitEvent<'r>> {
        let mut split = self.split.borrow_mut();
        let text = split.next()?;
        if self.count.get() == self.count_max {
            split.end();
            return Some(SplitEvent(Err(Reason::TooManyEvents)));
        }
        self.count.set(self.count.get() + 1);
        Some(SplitEvent(text))
    }

    /// Reads an event.
    ///
    /// # Errors
    /// If it is not a JSON object, is too large or one too many.
    pub(crate) fn read(&self, event: SplitEvent<'_>) -> Result<Draft<'_>, Reason> {
        let bytes = event.0?;
        // To check is quicker than to replace, and nearly all are text.
        let text = match str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(bytes),
        };
        let draft = match &self.translate {
            None => self.template.read(&text),
            Some(translate) => self.translate(&**translate, &text),
        };
        let mut draft = draft.ok_or_else(|| self.refusal(&text))?;
        // Bytes that were no UTF-8 have become a character.
        if matches!(text, Cow::Owned(_)) {
            draft.hit.flags.set(Flags::CLEANED);
        }
        if let Some(owner) = self.owner {
            owner.name_in(&mut draft, self.count.get().saturating_sub(1));
        }
        Ok(draft)
    }

    /// Returns why an event could not be read.
    fn refusal(&self, text: &str) -> Reason {
        let translate = self.translate.as_ref();
        translate.map_or(Reason::Json, |translate| translate.refusal(text))
    }

    /// Returns the field that is to blame for an event that could not be read, by its tracker's own
    /// name; empty if no one field is.
    pub(crate) fn blame(&self, event: SplitEvent<'_>) -> &'static str {
        let text = event.0.map(String::from_utf8_lossy).unwrap_or_default();
        let translate = self.translate.as_ref();
        translate.map_or("", |translate| translate.blame(&text))
    }

    /// Reads a tracker's event, if necessary as what can be stored of it.
    fn translate(&self, translate: &dyn Translate, text: &str) -> Option<Draft<'_>> {
        let read = |text: &str| self.template.read_told(translate.translate(text)?);
        if let Some(draft) = read(text) {
            return Some(draft);
        }
        let (mended, changes) = mend(text)?;
        let mut draft = (changes != Flags::default()).then(|| read(&mended))??;
        draft.hit.flags.set(changes);
        Some(draft)
    }

    /// Reads the events that are left.
    pub fn iter(&self) -> impl Iterator<Item = Result<Draft<'_>, Reason>> {
        std::iter::from_fn(|| self.split_next().map(|event| self.read(event)))
    }
}

/// An event that was split off, or why it is none.
#[derive(Clone, Copy)]
pub(crate) struct SplitEvent<'r>(Result<&'r [u8], Reason>);

impl SplitEvent<'_> {
    /// Returns the length of its text, in bytes.
    pub(crate) fn bytes(self) -> usize {
        self.0.map_or(0, <[u8]>::len)
    }
}
