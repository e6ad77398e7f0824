//! What a batch saw of subjects, kept in its transaction.

use std::collections::HashMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Error, Transaction};
use uuid::Uuid;

use crate::clock::UnixMicros;
use crate::hit::{Flags, Permit};
use crate::identity::Node;
use crate::postgres::batch::copy;
use crate::postgres::batch::load::{Rows, day};
use crate::postgres::timestamp::Timestamp;

/// What a hit is to a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FactKind {
    /// An event, by its name.
    Event,
    /// A view of a page, by its category.
    Page,
    /// An impression, by its campaign.
    Ad,
}

impl FactKind {
    /// Returns the word in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FactKind::Event => "event",
            FactKind::Page => "page",
            FactKind::Ad => "ad",
        }
    }
}

/// What a hit says of its subject.
#[derive(Clone, Copy, Debug)]
pub struct ProfileFact<'h> {
    /// Whom it is about.
    pub subject: Node,
    /// The site.
    pub site: &'h str,
    /// The partner whose rules decided on the permit; empty where the site's own did.
    pub partner: &'h str,
    /// What it is.
    pub kind: FactKind,
    /// What it is called; empty where it has no name.
    pub name: &'h str,
    /// What the hit permits.
    pub permit: Permit,
    /// When the hit was received.
    pub at: UnixMicros,
}

/// What a batch saw of subjects. Texts are kept once.
#[derive(Debug, Default)]
pub struct ProfilePart {
    texts: Vec<String>,
    numbers: HashMap<String, u32>,
    facts: Vec<Kept>,
}

/// A fact: what it has in common with others, and the rest.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// The byte at which its row begins.
    start: usize,
    same: Same,
    permit: Permit,
    at: UnixMicros,
}

/// What is counted together. Texts are places among those of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Same {
    subject: Node,
    day: i32,
    site: u32,
    partner: u32,
    kind: FactKind,
    name: u32,
}

/// Facts that are counted together, and the last of them.
struct Counted {
    same: Same,
    n: i32,
    device: i64,
    place: i64,
    permit: Permit,
    at: UnixMicros,
}

impl ProfilePart {
    /// What a hit has to permit.
    pub const NEEDED: Permit = Permit::STORE.with(Permit::MEASURE).with(Permit::PROFILE);

    /// The flags that take a fact away, whoever sets them: of what no person did, of hits of one of
    /// too many, and of times that may be wrong.
    pub const WITHOUT: Flags = Flags::MACHINE
        .with(Flags::MAIL_PROXY)
        .with(Flags::OVER_LIMIT)
        .with(Flags::UNCLEAR_CONSENT)
        .with(Flags::REPLAYED)
        .with(Flags::WRONG_CLOCK);

    /// Empties it.
    pub fn clear(&mut self) {
        self.texts.clear();
        self.numbers.clear();
        self.facts.clear();
    }

    /// Adds a fact that the row makes which begins at a byte. Without the permit it is none.
    pub fn push(&mut self, start: usize, fact: &ProfileFact<'_>) {
        if !fact.permit.allows(ProfilePart::NEEDED) {
            return;
        }
        let same = Same {
            subject: fact.subject,
            day: day(fact.at),
            site: self.number(fact.site),
            partner: self.number(fact.partner),
            kind: fact.kind,
            name: self.number(fact.name),
        };
        self.facts.push(Kept {
            start,
            same,
            permit: fact.permit,
            at: fact.at,
        });
    }

    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        // A batch has far fewer hits than that.
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }

    fn text(&self, number: u32) -> &str {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        self.texts.get(at).map_or("", String::as_str)
    }

    /// Counts what rows say that are stored.
    fn count(&self, rows: &Rows, tables: &[&str]) -> Vec<Counted> {
        let table = |name: &str| tables.iter().position(|table| *table == name);
        let (device, place) = (table("device"), table("place"));
        let key = |start: usize, table: Option<usize>| {
            let row = rows.row_at(start)?;
            let key = row.get(copy::place_of_key(row, table?)?)?.first_chunk()?;
            Some(i64::from_be_bytes(*key))
        };
        let is_kept = |kept: &&Kept| {
            let flags = rows.flags_at(kept.start);
            flags.is_some_and(|flags| !flags.has_any(ProfilePart::WITHOUT))
        };
        let mut kept: Vec<&Kept> = self.facts.iter().filter(is_kept).collect();
        kept.sort_unstable_by_key(|kept| (kept.same, kept.at, kept.start));
        let mut counted: Vec<Counted> = Vec::new();
        for fact in kept {
            let one = Counted {
                same: fact.same,
                n: 1,
                device: key(fact.start, device).unwrap_or_default(),
                place: key(fact.start, place).unwrap_or_default(),
                permit: fact.permit,
                at: fact.at,
            };
            match counted.last_mut().filter(|last| last.same == one.same) {
                Some(last) => {
                    let (n, permit) = (last.n.saturating_add(1), last.permit.and(one.permit));
                    *last = Counted { n, permit, ..one };
                }
                None => counted.push(one),
            }
        }
        counted
    }

    /// Stores what rows say that are stored, as one row of `subject_day_part`.
    pub(crate) async fn keep(
        &self,
        transaction: &Transaction<'_>,
        rows: &Rows,
        tables: &[&str],
    ) -> Result<(), Error> {
        if self.facts.is_empty() {
            return Ok(());
        }
        let counted = self.count(rows, tables);
        if counted.is_empty() {
            return Ok(());
        }
        let all = || counted.iter();
        let texts = |of: fn(&Same) -> u32| -> Vec<&str> {
            all().map(|fact| self.text(of(&fact.same))).collect()
        };
        let subject = |fact: &Counted| Uuid::from_bytes(fact.same.subject.0);
        let subjects: Vec<Uuid> = all().map(subject).collect();
        let (sites, partners) = (texts(|same| same.site), texts(|same| same.partner));
        let kinds: Vec<&str> = all().map(|fact| fact.same.kind.name()).collect();
        let names = texts(|same| same.name);
        let counts: Vec<i32> = all().map(|fact| fact.n).collect();
        let devices: Vec<i64> = all().map(|fact| fact.device).collect();
        let places: Vec<i64> = all().map(|fact| fact.place).collect();
        let permits: Vec<i16> = all().map(|fact| fact.permit.bits().into()).collect();
        let at: Vec<Timestamp> = all().map(|fact| Timestamp(fact.at)).collect();
        transaction
            .execute_typed(
                "insert into avtryck.subject_day_part \
                 (subjects, sites, partners, kinds, names, counts, devices, places, permits, at) \
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                &[
                    (&subjects, Type::UUID_ARRAY),
                    (&sites, Type::TEXT_ARRAY),
                    (&partners, Type::TEXT_ARRAY),
                    (&kinds, Type::TEXT_ARRAY),
                    (&names, Type::TEXT_ARRAY),
                    (&counts, Type::INT4_ARRAY),
                    (&devices, Type::INT8_ARRAY),
                    (&places, Type::INT8_ARRAY),
                    (&permits, Type::INT2_ARRAY),
                    (&at, Type::TIMESTAMPTZ_ARRAY),
                ],
            )
            .await?;
        Ok(())
    }
}
