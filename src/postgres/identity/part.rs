//! What a batch saw of ties and permits: kept in its transaction, added up later.

use std::collections::{HashMap, HashSet};

use tokio_postgres::types::Type;
use tokio_postgres::{Error, Transaction};
use uuid::Uuid;

use crate::clock::UnixMicros;
use crate::hit::subject::Subject;
use crate::hit::{ConsentSource, Permit, VisitorId};
use crate::identity::{Node, NodeKind, Tie};
use crate::postgres::batch::load::{Rows, right_time};
use crate::postgres::batch::position::PostgresNow;
use crate::postgres::timestamp::Timestamp;

/// What a batch saw of ties and permits.
#[derive(Debug, Default)]
pub struct Part {
    /// New ties, each with the byte at which its row begins, and with what forgets it.
    ties: Vec<(usize, u64, Tie<'static>)>,
    /// IDs that hits refused ties for, with the last time.
    refused: HashMap<Node, (NodeKind, UnixMicros)>,
    /// What subjects permit, each with the byte at which the row begins that says so, if it is one.
    permits: Vec<(Option<usize>, SubjectPermit)>,
    /// The ties that were not stored, once the batch is committed.
    pub(crate) dropped: Vec<u64>,
    /// The permits that were not stored.
    pub(crate) dropped_permits: Vec<SubjectPermit>,
}

/// What a subject permits on a site, or to a partner there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectPermit {
    /// The subject.
    pub node: Node,
    /// The kind of its ID.
    pub kind: NodeKind,
    /// The site.
    pub site: String,
    /// The partner whose rules decided; empty where the site's own did.
    pub partner: String,
    /// What is permitted.
    pub permit: Permit,
    /// The signal that decided it.
    pub consent_source: ConsentSource,
    /// When the hit was received.
    pub at: UnixMicros,
    /// The ID itself, of a kind that partners may know, where the permit has what they need.
    pub id: Option<String>,
}

impl SubjectPermit {
    /// What has to be permitted before a partner may be told of a subject.
    pub(crate) const EXPORT: Permit = Permit::STORE
        .with(Permit::MEASURE)
        .with(Permit::PROFILE)
        .with(Permit::MATCH);
}

impl Part {
    /// Empties it.
    pub fn clear(&mut self) {
        self.ties.clear();
        self.refused.clear();
        self.permits.clear();
        self.dropped.clear();
        self.dropped_permits.clear();
    }

    /// Adds a tie of the row that begins at a byte.
    pub fn tie(&mut self, start: usize, forget: u64, tie: Tie<'static>) {
        self.ties.push((start, forget, tie));
    }

    /// Adds that a hit refused ties for an ID.
    pub fn refuse(&mut self, kind: NodeKind, node: Node, at: UnixMicros) {
        let (_, last) = self.refused.entry(node).or_insert((kind, at));
        *last = at.max(*last);
    }

    /// Adds what a subject permits, as the row says that begins at a byte, or a hit without a row.
    pub fn permit(&mut self, start: Option<usize>, permit: SubjectPermit) {
        self.permits.push((start, permit));
    }

    /// Returns the keys of the list of suppression for the subjects of hits without a row.
    pub(crate) fn keys(&self) -> impl Iterator<Item = [u8; 16]> {
        let of_counts = self.permits.iter().filter(|(start, _)| start.is_none());
        of_counts.map(|(_, permit)| permit.key())
    }

    /// Drops the permits of hits that name an ID on the list of suppression: of rows that were left
    /// out for it, and of the subjects of hits without a row.
    pub(crate) fn leave_out(
        &mut self,
        left_out: &HashSet<usize>,
        is_listed: impl Fn(&[u8; 16]) -> bool,
    ) {
        let is_dropped = |(start, permit): &mut (Option<usize>, SubjectPermit)| match start {
            Some(start) => left_out.contains(start),
            None => is_listed(&permit.key()),
        };
        let dropped = self.permits.extract_if(.., is_dropped);
        self.dropped_permits
            .extend(dropped.map(|(_, permit)| permit));
    }

    /// Stores it as a row each of `link_part` and `permit_part`. Of rows that were left out, or got
    /// a flag that takes ties away, the ties are dropped.
    pub(crate) async fn keep(
        &mut self,
        transaction: &Transaction<'_>,
        rows: &Rows,
        (now, read_at): (PostgresNow, UnixMicros),
    ) -> Result<(), Error> {
        let dropped = &mut self.dropped;
        let mut flags_of = rows.flags_in_order();
        self.ties.retain(|(start, forget, _)| {
            let flags = flags_of(*start);
            let is_kept = flags.is_some_and(|flags| !flags.has_any(Tie::LATE));
            if !is_kept {
                dropped.push(*forget);
            }
            is_kept
        });
        let right = |at| right_time(at, now, read_at);
        self.keep_links(transaction, &right).await?;
        self.keep_permits(transaction, &right).await
    }

    async fn keep_links(
        &self,
        transaction: &Transaction<'_>,
        right: &impl Fn(UnixMicros) -> UnixMicros,
    ) -> Result<(), Error> {
        let count = self.ties.len() + self.refused.len();
        if count == 0 {
            return Ok(());
        }
        let mut links = Links::default();
        for (_, _, tie) in &self.ties {
            links.nodes(tie.a, tie.b, (tie.a_kind, tie.b_kind));
            links.partners.push(&tie.partner);
            links.at.push(Timestamp(right(tie.at)));
            links.permits.push(tie.permit.permit().bits().into());
            links
                .consent_sources
                .push(tie.consent_source.number().into());
            links.sources.push(tie.source as i16);
            links.are_proved.push(tie.is_proved);
            links.are_removals.push(false);
        }
        for (node, (kind, at)) in &self.refused {
            links.nodes(*node, *node, (*kind, *kind));
            links.partners.push("");
            links.at.push(Timestamp(right(*at)));
            links.permits.push(0);
            links.consent_sources.push(0);
            links.sources.push(0);
            links.are_proved.push(false);
            links.are_removals.push(true);
        }
        links.insert(transaction).await
    }

    async fn keep_permits(
        &self,
        transaction: &Transaction<'_>,
        right: &impl Fn(UnixMicros) -> UnixMicros,
    ) -> Result<(), Error> {
        if self.permits.is_empty() {
            return Ok(());
        }
        let permits = || self.permits.iter().map(|(_, permit)| permit);
        let subjects: Vec<Uuid> = permits().map(|said| uuid(said.node)).collect();
        let sites: Vec<&str> = permits().map(|said| &*said.site).collect();
        let partners: Vec<&str> = permits().map(|said| &*said.partner).collect();
        let bits: Vec<i16> = permits().map(|said| said.permit.bits().into()).collect();
        let number = |said: &SubjectPermit| said.consent_source.number().into();
        let sources: Vec<i16> = permits().map(number).collect();
        let at = |said: &SubjectPermit| Timestamp(right(said.at));
        let at: Vec<Timestamp> = permits().map(at).collect();
        let kinds: Vec<i16> = permits().map(|said| said.kind as i16).collect();
        let ids: Vec<Option<&str>> = permits().map(|said| said.id.as_deref()).collect();
        transaction
            .execute_typed(
                "insert into avtryck.permit_part \
                 (subjects, sites, partners, permits, consent_sources, at, kinds, ids) \
                 values ($1, $2, $3, $4, $5, $6, $7, $8)",
                &[
                    (&subjects, Type::UUID_ARRAY),
                    (&sites, Type::TEXT_ARRAY),
                    (&partners, Type::TEXT_ARRAY),
                    (&bits, Type::INT2_ARRAY),
                    (&sources, Type::INT2_ARRAY),
                    (&at, Type::TIMESTAMPTZ_ARRAY),
                    (&kinds, Type::INT2_ARRAY),
                    (&ids, Type::TEXT_ARRAY),
                ],
            )
            .await?;
        Ok(())
    }
}

impl SubjectPermit {
    /// Returns the subject's key on the list of suppression.
    fn key(&self) -> [u8; 16] {
        match self.kind {
            NodeKind::Visitor => Subject::Visitor(VisitorId(self.node.0)).key(),
            _ => self.node.0,
        }
    }
}

/// The columns of a row of `link_part`.
#[derive(Default)]
struct Links<'p> {
    a: Vec<Uuid>,
    b: Vec<Uuid>,
    a_kinds: Vec<i16>,
    b_kinds: Vec<i16>,
    partners: Vec<&'p str>,
    at: Vec<Timestamp>,
    permits: Vec<i16>,
    consent_sources: Vec<i16>,
    sources: Vec<i16>,
    are_proved: Vec<bool>,
    are_removals: Vec<bool>,
}

impl Links<'_> {
    fn nodes(&mut self, a: Node, b: Node, (a_kind, b_kind): (NodeKind, NodeKind)) {
        self.a.push(uuid(a));
        self.b.push(uuid(b));
        self.a_kinds.push(a_kind as i16);
        self.b_kinds.push(b_kind as i16);
    }

    async fn insert(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        transaction
            .execute_typed(
                "insert into avtryck.link_part \
                 (a, b, a_kinds, b_kinds, partners, at, permits, consent_sources, sources, are_proved, are_removals) \
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
                &[
                    (&self.a, Type::UUID_ARRAY),
                    (&self.b, Type::UUID_ARRAY),
                    (&self.a_kinds, Type::INT2_ARRAY),
                    (&self.b_kinds, Type::INT2_ARRAY),
                    (&self.partners, Type::TEXT_ARRAY),
                    (&self.at, Type::TIMESTAMPTZ_ARRAY),
                    (&self.permits, Type::INT2_ARRAY),
                    (&self.consent_sources, Type::INT2_ARRAY),
                    (&self.sources, Type::INT2_ARRAY),
                    (&self.are_proved, Type::BOOL_ARRAY),
                    (&self.are_removals, Type::BOOL_ARRAY),
                ],
            )
            .await?;
        Ok(())
    }
}

fn uuid(node: Node) -> Uuid {
    Uuid::from_bytes(node.0)
}
