//! What a batch saw of subjects, kept in its transaction.
//!
//! It is made for every hit that permits `profile`, so what a fact costs is what segments cost the
//! loader: texts are kept in one buffer, facts are sorted by eight bytes of their subject, and the
//! arrays are written as Postgres takes them (docs/performance.md).

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{IsNull, Kind, ToSql, Type, to_sql_checked};
use tokio_postgres::{Error, Transaction};

use crate::clock::UnixMicros;
use crate::hit::{Flags, Permit};
use crate::identity::Node;
use crate::postgres::batch::load::{Rows, day};
use crate::postgres::batch::new_name::TableKey;
use crate::postgres::timestamp::POSTGRES_EPOCH_MICROS;

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
    /// The key of its device.
    pub device: Option<i64>,
    /// The key of its place.
    pub place: Option<i64>,
}

/// What a batch saw of subjects.
#[derive(Debug, Default)]
pub struct ProfilePart {
    /// The texts of all facts, one after the other.
    texts: String,
    facts: Vec<Kept>,
}

/// A text among those of the batch: where it begins and how long it is.
#[derive(Clone, Copy, Debug)]
struct Text(u32, u32);

/// A fact of a batch.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// The byte at which its row begins.
    start: usize,
    subject: Node,
    day: i32,
    kind: FactKind,
    site: Text,
    partner: Text,
    name: Text,
    permit: Permit,
    at: UnixMicros,
    device: Option<i64>,
    place: Option<i64>,
}

/// Facts that are counted together, and the last of them.
struct Counted<'p> {
    last: &'p Kept,
    n: i32,
    permit: Permit,
}

impl ProfilePart {
    /// What a hit has to permit.
    pub(crate) const NEEDED: Permit = Permit::STORE.with(Permit::MEASURE).with(Permit::PROFILE);

    /// The flags that take a fact away, whoever sets them: of what no person did, of hits of one of
    /// too many, and of times that may be wrong.
    pub(crate) const WITHOUT: Flags = Flags::MACHINE
        .with(Flags::MAIL_PROXY)
        .with(Flags::OVER_LIMIT)
        .with(Flags::UNCLEAR_CONSENT)
        .with(Flags::REPLAYED)
        .with(Flags::WRONG_CLOCK);

    /// Empties it.
    pub fn clear(&mut self) {
        self.texts.clear();
        self.facts.clear();
    }

    /// Adds a fact of the row that begins at this byte, unless its permit does not allow it. Rows
    /// come in their order.
    pub fn push(&mut self, start: usize, fact: &ProfileFact<'_>) {
        if !fact.permit.allows(ProfilePart::NEEDED) {
            return;
        }
        let kept = Kept {
            start,
            subject: fact.subject,
            day: day(fact.at),
            kind: fact.kind,
            site: self.keep_text(fact.site),
            partner: self.keep_text(fact.partner),
            name: self.keep_text(fact.name),
            permit: fact.permit,
            at: fact.at,
            device: fact.device,
            place: fact.place,
        };
        self.facts.push(kept);
    }

    fn keep_text(&mut self, text: &str) -> Text {
        // A batch has far fewer bytes than that.
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let kept = Text(number(self.texts.len()), number(text.len()));
        self.texts.push_str(text);
        kept
    }

    fn text(&self, Text(start, length): Text) -> &str {
        let [start, length] = [start, length].map(|number| usize::try_from(number).unwrap_or(0));
        self.texts.get(start..start + length).unwrap_or_default()
    }

    /// Points facts to other devices and places than the rows that they were made of did.
    pub(crate) fn replace_keys(&mut self, tables: &[&str], replaced: &HashMap<TableKey, i64>) {
        let table = |name: &str| tables.iter().position(|table| *table == name);
        let (device, place) = (table("device"), table("place"));
        let replace = |table: Option<usize>, key: &mut Option<i64>| {
            let other = table.zip(*key).and_then(|of| replaced.get(&of));
            *key = other.copied().or(*key);
        };
        for fact in &mut self.facts {
            replace(device, &mut fact.device);
            replace(place, &mut fact.place);
        }
    }

    /// Compares by what is counted together.
    fn compare(&self, one: &Kept, other: &Kept) -> Ordering {
        let key = |kept: &Kept| (kept.subject, kept.day, kept.kind);
        let texts = |kept: &Kept| [kept.site, kept.partner, kept.name];
        let mut texts = texts(one).into_iter().zip(texts(other));
        key(one).cmp(&key(other)).then_with(|| {
            let compared = texts.find_map(|(one, other)| {
                let compared = self.text(one).cmp(self.text(other));
                compared.is_ne().then_some(compared)
            });
            compared.unwrap_or(Ordering::Equal)
        })
    }

    /// Counts what rows say that are stored, in the order of subjects.
    fn count(&self, rows: &Rows) -> Vec<Counted<'_>> {
        let mut stored = self.find_stored(rows);
        stored.sort_unstable_by(|(prefix, one), (other_prefix, other)| {
            prefix.cmp(other_prefix).then_with(|| {
                let later = || (one.at, one.start).cmp(&(other.at, other.start));
                self.compare(one, other).then_with(later)
            })
        });
        let mut counted: Vec<Counted<'_>> = Vec::with_capacity(stored.len());
        for (_, fact) in stored {
            match counted.last_mut() {
                Some(counted) if self.compare(counted.last, fact).is_eq() => {
                    counted.last = fact;
                    counted.n = counted.n.saturating_add(1);
                    counted.permit = counted.permit.and(fact.permit);
                }
                _ => counted.push(Counted {
                    last: fact,
                    n: 1,
                    permit: fact.permit,
                }),
            }
        }
        counted
    }

    /// Returns the facts whose rows are stored and say so still, each with the first bytes of its
    /// subject. Facts and rows are both in the order in which they were made.
    fn find_stored(&self, rows: &Rows) -> Vec<(u64, &Kept)> {
        let mut stored = Vec::with_capacity(self.facts.len());
        let mut left = rows.each().peekable();
        for fact in &self.facts {
            while left.next_if(|(start, _)| *start < fact.start).is_some() {}
            let is_kept = |(start, row): &&(usize, &[u8])| {
                *start == fact.start && !Rows::flags_in(row).has_any(ProfilePart::WITHOUT)
            };
            if left.peek().filter(is_kept).is_some() {
                let prefix = fact.subject.0.first_chunk().copied();
                stored.push((u64::from_be_bytes(prefix.unwrap_or_default()), fact));
            }
        }
        stored
    }

    /// Stores what rows say that are stored, as one row of `subject_day_part`.
    pub(crate) async fn keep(
        &self,
        transaction: &Transaction<'_>,
        rows: &Rows,
    ) -> Result<(), Error> {
        if self.facts.is_empty() {
            return Ok(());
        }
        let facts = &*self.count(rows);
        if facts.is_empty() {
            return Ok(());
        }
        let subjects = Column::new(facts, |fact, out| out.put_slice(&fact.last.subject.0));
        let text = |out: &mut BytesMut, text: Text| out.put_slice(self.text(text).as_bytes());
        let sites = Column::new(facts, |fact, out| text(out, fact.last.site));
        let partners = Column::new(facts, |fact, out| text(out, fact.last.partner));
        let kinds = Column::new(facts, |fact, out| {
            out.put_slice(fact.last.kind.name().as_bytes());
        });
        let names = Column::new(facts, |fact, out| text(out, fact.last.name));
        let counts = Column::new(facts, |fact, out| out.put_i32(fact.n));
        let key = |out: &mut BytesMut, key: Option<i64>| out.put_i64(key.unwrap_or_default());
        let devices = Column::new(facts, |fact, out| key(out, fact.last.device));
        let places = Column::new(facts, |fact, out| key(out, fact.last.place));
        let permits = Column::new(facts, |fact, out| out.put_i16(fact.permit.bits().into()));
        let at = Column::new(facts, |fact, out| {
            out.put_i64(fact.last.at.0.saturating_sub(POSTGRES_EPOCH_MICROS));
        });
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

/// An array with an element a fact, whose bytes a function appends: Postgres's binary format of an
/// array of one dimension without nulls.
struct Column<'c, F>(&'c [Counted<'c>], F);

impl<'c, F: Fn(&Counted<'_>, &mut BytesMut)> Column<'c, F> {
    fn new(facts: &'c [Counted<'c>], put: F) -> Column<'c, F> {
        Column(facts, put)
    }
}

impl<F: Fn(&Counted<'_>, &mut BytesMut) + Sync> ToSql for Column<'_, F> {
    fn to_sql(
        &self,
        array: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Kind::Array(element) = array.kind() else {
            return Err("no array".into());
        };
        let Column(facts, put) = self;
        let (dimensions, has_nulls, first) = (1, 0, 1);
        out.put_i32(dimensions);
        out.put_i32(has_nulls);
        out.put_u32(element.oid());
        out.put_i32(i32::try_from(facts.len())?);
        out.put_i32(first);
        for fact in *facts {
            let at = out.len();
            out.put_i32(0);
            put(fact, out);
            let length = i32::try_from(out.len() - at - 4)?;
            if let Some(place) = out.get_mut(at..at + 4) {
                place.copy_from_slice(&length.to_be_bytes());
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        matches!(of.kind(), Kind::Array(_))
    }

    to_sql_checked!();
}

impl<F> fmt::Debug for Column<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} elements", self.0.len())
    }
}
