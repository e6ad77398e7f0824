//! Who has seen which creative how often, as one batch counts it.
//!
//! A batch comes down to its distinct pairs of subject and creative. [`EarlierPairs`] holds what
//! was known of them before the batch; from that and the batch's own hits, in their order, each hit
//! gets its [`Exposure`], and the batch the [`PairTotals`] that it adds.

use std::collections::HashMap;
use std::time::Duration;

use super::ChunkOffset;
use crate::clock::UnixMicros;
use crate::hit::subject::Subject;
use crate::hit::{Flags, Hit, Kind};

/// A click so soon after its impression is not a person's: nobody sees and decides faster.
pub const FAST_CLICK: Duration = Duration::from_millis(100);

/// An impression or a click of a subject on a creative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdContact {
    /// The subject: a visitor's ID, or the key of another ID ([`Subject::key`]).
    pub subject: [u8; 16],
    /// The row of `ad` that has the partner, campaign and creative alone.
    pub creative_key: i64,
    /// When it was received.
    pub at: UnixMicros,
    /// Which of them it is.
    pub act: Act,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The creative was shown.
    Impression,
    /// The creative was clicked. The flags are those that the click may get.
    Click(Flags),
    /// One of them that does not count: its event ID belongs to another event.
    Uncounted,
}

/// What is known of a pair when one of its hits has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exposure {
    /// Impressions so far, an impression itself included.
    pub number: i32,
    /// Of [`Flags::NO_IMPRESSION`] and [`Flags::FAST_CLICK`] those that the hit has earned.
    pub flags: Flags,
}

impl AdContact {
    /// Returns what a hit, which may be stored, is to a creative; `None` where the hit counts
    /// nowhere, shows nothing, or names no subject.
    ///
    /// A click whose cookie belongs to one embedding site cannot be expected to know of impressions
    /// elsewhere, so it never gets [`Flags::NO_IMPRESSION`]. A network that reports clicks tells
    /// neither when nor by whom impressions were, so those clicks get no flag.
    ///
    /// A browser speaks for its own visitor only: whatever MAID or partner's ID it names may be
    /// another person's. A server that reports is proved.
    #[must_use]
    pub fn of(hit: &Hit<'_>, creative_key: i64) -> Option<AdContact> {
        let act = match (hit.kind, &*hit.event_name) {
            (Kind::Impression, _) | (Kind::Callback, "impression") => Act::Impression,
            (Kind::Click, _) if hit.flags.has(Flags::THIRD_PARTY) => Act::Click(Flags::FAST_CLICK),
            (Kind::Click, _) => Act::Click(Flags::FAST_CLICK.with(Flags::NO_IMPRESSION)),
            (Kind::Callback, "click") => Act::Click(Flags::default()),
            _ => return None,
        };
        if hit.flags.has_any(Flags::UNCOUNTED) {
            return None;
        }
        let subject = match (hit.visitor, &*hit.maid, &*hit.partner_uid) {
            (Some(visitor), _, _) => visitor.0,
            (None, "", "") => return None,
            _ if hit.kind != Kind::Callback => return None,
            (None, "", uid) => {
                let partner = &*hit.partner;
                Subject::PartnerUid { partner, uid }.key()
            }
            (None, maid, _) => Subject::Maid(maid).key(),
        };
        Some(AdContact {
            subject,
            creative_key,
            at: hit.received_at,
            act,
        })
    }

    /// Returns the pair that the contact belongs to.
    #[must_use]
    pub fn pair(&self) -> Pair {
        (self.subject, self.creative_key)
    }
}

/// A subject and the key of a creative.
pub type Pair = ([u8; 16], i64);

/// What a batch adds to a pair.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PairTotal {
    /// Impressions.
    pub impressions: i32,
    /// Clicks.
    pub clicks: i32,
    /// When the first impression was; where there is none, the first click.
    pub first_at: UnixMicros,
    /// When the last impression was; where there is none, the last click.
    pub last_at: UnixMicros,
}

impl PairTotal {
    fn add(&mut self, contact: &AdContact) {
        let is_first = match contact.act {
            Act::Impression => self.impressions == 0,
            Act::Click(_) => self.impressions + self.clicks == 0,
            Act::Uncounted => return,
        };
        if is_first {
            (self.first_at, self.last_at) = (contact.at, contact.at);
        } else if contact.act == Act::Impression || self.impressions == 0 {
            self.first_at = self.first_at.min(contact.at);
            self.last_at = self.last_at.max(contact.at);
        }
        match contact.act {
            Act::Impression => self.impressions += 1,
            Act::Click(_) => self.clicks += 1,
            Act::Uncounted => {}
        }
    }
}

/// What a batch adds, by pair.
pub(crate) type PairTotals = HashMap<Pair, PairTotal>;

/// The impressions of a pair.
#[derive(Clone, Copy, Debug, Default)]
struct Impressions {
    number: i32,
    last_at: Option<UnixMicros>,
}

impl Impressions {
    fn add(&mut self, number: i32, last_at: UnixMicros) {
        self.number = self.number.saturating_add(number);
        self.last_at = self.last_at.max(Some(last_at));
    }

    /// Counts one contact and returns what it then is.
    fn next(&mut self, contact: &AdContact) -> Exposure {
        let mut flags = Flags::default();
        match contact.act {
            Act::Impression => self.add(1, contact.at),
            Act::Uncounted => {}
            Act::Click(may) => {
                let since = |last: UnixMicros| contact.at.0.checked_sub(last.0);
                let since = self.last_at.and_then(since);
                let fast = 0..i64::try_from(FAST_CLICK.as_micros()).unwrap_or(i64::MAX);
                if self.number == 0 {
                    flags = Flags::NO_IMPRESSION.and(may);
                } else if since.is_some_and(|since| fast.contains(&since)) {
                    flags = Flags::FAST_CLICK.and(may);
                }
            }
        }
        Exposure {
            number: self.number,
            flags,
        }
    }
}

/// What is known of a batch's pairs from before it: of those that had an impression.
#[derive(Debug, Default)]
pub(crate) struct EarlierPairs {
    pairs: HashMap<Pair, Impressions>,
    /// How far the spool was loaded when the pairs were looked up.
    pub position: Option<ChunkOffset>,
}

impl EarlierPairs {
    /// Adds impressions of a pair.
    pub(crate) fn add(&mut self, pair: Pair, impressions: i32, last_at: UnixMicros) {
        self.pairs
            .entry(pair)
            .or_default()
            .add(impressions, last_at);
    }

    /// Adds what the batch before this one, which ends at `to`, added, unless that was looked up as
    /// well.
    pub(crate) fn complete(&mut self, added: &PairTotals, to: ChunkOffset) {
        if self.position >= Some(to) {
            return;
        }
        for (pair, total) in added.iter().filter(|(_, total)| total.impressions > 0) {
            self.add(*pair, total.impressions, total.last_at);
        }
    }

    /// Numbers the contacts of a batch, which come in their order. Returns what each then is, and
    /// what they add.
    #[must_use]
    pub(crate) fn number(&self, contacts: &[AdContact]) -> (Vec<Exposure>, PairTotals) {
        let mut pairs: HashMap<Pair, (Impressions, PairTotal)> = HashMap::new();
        let next = |contact: &AdContact| {
            let pair = contact.pair();
            let earlier = || self.pairs.get(&pair).copied().unwrap_or_default();
            let (impressions, total) = pairs
                .entry(pair)
                .or_insert_with(|| (earlier(), PairTotal::default()));
            total.add(contact);
            impressions.next(contact)
        };
        let exposures = contacts.iter().map(next).collect();
        let totals = pairs.into_iter().map(|(pair, (_, total))| (pair, total));
        let is_any = |(_, total): &(Pair, PairTotal)| total.impressions + total.clicks > 0;
        (exposures, totals.filter(is_any).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hit::VisitorId;

    const SHOWN: Act = Act::Impression;
    const CLICKED: Act = Act::Click(Flags::NO_IMPRESSION.with(Flags::FAST_CLICK));

    #[test]
    fn the_subject_of_a_hit_follows_from_its_ids() {
        let visitor = VisitorId([7; 16]);
        let subject_by = |kind, visitor, maid: &'static str, uid: &'static str| {
            let mut hit = Hit::new(UnixMicros(1), kind, "site");
            (hit.visitor, hit.maid, hit.partner_uid) = (visitor, maid.into(), uid.into());
            (hit.partner, hit.event_name) = ("network".into(), "impression".into());
            AdContact::of(&hit, 1).map(|contact| contact.subject)
        };
        let subject = |visitor, maid, uid| subject_by(Kind::Callback, visitor, maid, uid);
        let uid = Subject::PartnerUid {
            partner: "network",
            uid: "u",
        };
        assert_eq!(subject(Some(visitor), "m", "u"), Some(visitor.0));
        assert_eq!(subject(None, "m", "u"), Some(Subject::Maid("m").key()));
        assert_eq!(subject(None, "", "u"), Some(uid.key()));
        assert_eq!(subject(None, "", ""), None);
        // A browser speaks for nobody but its visitor.
        for kind in [Kind::Impression, Kind::Click] {
            assert_eq!(subject_by(kind, Some(visitor), "m", "u"), Some(visitor.0));
            assert_eq!(subject_by(kind, None, "m", "u"), None);
            assert_eq!(subject_by(kind, None, "", "u"), None);
        }
    }

    #[test]
    fn what_a_hit_counts_as_follows_from_its_kind_name_and_flags() {
        let act = |kind, name: &'static str, flags| {
            let mut hit = Hit::new(UnixMicros(1), kind, "site");
            (hit.visitor, hit.flags) = (Some(VisitorId([7; 16])), flags);
            hit.event_name = name.into();
            AdContact::of(&hit, 1).map(|contact| contact.act)
        };
        let none = Flags::default();
        for (kind, name, flags, expected) in [
            (Kind::Impression, "", none, Some(SHOWN)),
            (Kind::Impression, "", Flags::BOT, Some(SHOWN)),
            (Kind::Impression, "", Flags::PREFETCH, None),
            (Kind::Click, "", none, Some(CLICKED)),
            (Kind::Click, "", Flags::PREVIEW, None),
            (
                Kind::Click,
                "",
                Flags::THIRD_PARTY,
                Some(Act::Click(Flags::FAST_CLICK)),
            ),
            (Kind::Callback, "impression", none, Some(SHOWN)),
            (Kind::Callback, "click", none, Some(Act::Click(none))),
            (Kind::Callback, "conversion", none, None),
            (Kind::Event, "click", none, None),
            (Kind::PageView, "", none, None),
        ] {
            assert_eq!(
                act(kind, name, flags),
                expected,
                "{kind:?} {name} {flags:?}"
            );
        }
    }
}
