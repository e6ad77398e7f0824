//! Which IDs the hits of a batch tie together, and what their subjects permit.
//!
//! What was stored lately is not stored again ([`TieMemory`]). A batch counts as stored when it is
//! encoded, because the memory goes with the encoder if the batch is not committed. What its
//! transaction left out, and what other loaders changed, comes back by way of [`Told`].

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio_postgres::Client;

use crate::clock::UnixMicros;
use crate::hit::{Flags, Hit, Outcome};
use crate::identity::{Ids, NodeKind, Novelty, Tie, TieMemory, TieRules, is_refusal};
use crate::postgres::identity::part::SubjectPermit;
use crate::postgres::identity::{self, Changed, Follower};
use crate::postgres::{Load, SilenceWatch};

/// The flags of machines that never return with the visitor's ID that they were given: what they
/// permit is nobody's permit.
const OF_NOBODY: Flags = Flags::BOT.with(Flags::MAIL_PROXY);

/// What the transactions of a session found out, for the encoder.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Ties that were left out.
    pub(super) dropped: Vec<u64>,
    /// Sightings that were left out.
    pub(super) dropped_sightings: Vec<u64>,
    /// Permits of hits that were left out.
    pub(super) dropped_permits: Vec<SubjectPermit>,
    /// Permits that others changed.
    pub(super) changed: Vec<Changed>,
}

/// [`Told`], between the threads.
pub(super) type SharedTold = Arc<Mutex<Told>>;

/// Tells the encoder what the transaction of a batch left out.
pub(super) fn tell_dropped(told: &SharedTold, load: &mut Load) {
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    told.dropped.append(&mut load.identity.dropped);
    told.dropped_sightings.append(&mut load.sightings.dropped);
    told.dropped_permits
        .append(&mut load.identity.dropped_permits);
}

/// Adds up what batches saw, and tells the encoder what others changed.
pub(super) struct TieFolder {
    follower: tokio::sync::Mutex<Follower>,
    told: SharedTold,
    wake: Arc<Notify>,
}

impl TieFolder {
    pub(super) fn new(told: SharedTold, wake: Arc<Notify>) -> TieFolder {
        TieFolder {
            follower: tokio::sync::Mutex::default(),
            told,
            wake,
        }
    }

    pub(super) async fn fold(&self, client: &Client, watch: &SilenceWatch) -> anyhow::Result<()> {
        let fold = Box::pin(async {
            if identity::fold(client).await? {
                self.wake.notify_one();
            }
            let mut follower = self.follower.lock().await;
            Ok(follower.read(client).await?)
        });
        let changed = watch.watch(fold).await.context("adding up ties")?;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.changed.extend(changed);
        Ok(())
    }
}

/// Finds the ties and the permits of hits, for one session.
pub(super) struct TieFinder {
    rules: Arc<ArcSwap<TieRules>>,
    in_force: Arc<TieRules>,
    memory: TieMemory,
    told: SharedTold,
    /// Whether the database takes users.
    takes_users: bool,
}

impl TieFinder {
    pub(super) fn new(
        rules: &Arc<ArcSwap<TieRules>>,
        told: &SharedTold,
        takes_users: bool,
    ) -> TieFinder {
        // What an earlier session was told is of a memory that is gone.
        *told.lock().unwrap_or_else(PoisonError::into_inner) = Told::default();
        TieFinder {
            in_force: rules.load_full(),
            rules: Arc::clone(rules),
            memory: TieMemory::new(std::hash::RandomState::new()),
            told: Arc::clone(told),
            takes_users,
        }
    }

    /// Returns the rules of the batch.
    pub(super) fn rules(&self) -> &TieRules {
        &self.in_force
    }

    /// Returns what the session remembers.
    pub(super) fn memory(&mut self) -> &mut TieMemory {
        &mut self.memory
    }

    /// Begins a batch that is read at this time.
    pub(super) fn begin(&mut self, read_at: UnixMicros) {
        self.in_force = self.rules.load_full();
        self.memory.set_now(read_at);
        let told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        for tie in told.dropped {
            self.memory.forget_tie(tie);
        }
        for sighting in told.dropped_sightings {
            self.memory.forget_sighting(sighting);
        }
        for permit in told.dropped_permits {
            let rules = (&*permit.site, &*permit.partner);
            self.memory.forget_permit(permit.node, rules);
        }
        for changed in told.changed {
            let rules = (&*changed.site, &*changed.partner);
            let (permit, source) = (changed.permit, changed.consent_source);
            self.memory
                .correct_permit(changed.node, rules, permit, source);
        }
    }

    /// Adds to a batch what a hit says of its IDs. Where the hit is a row, its row is the last one.
    pub(super) fn find(&mut self, hit: &Hit<'_>, flags: Flags, load: &mut Load) {
        let ids = Ids::of(hit, &self.in_force);
        self.find_ids(hit, flags, ids, load);
    }

    /// Adds to a batch what a hit says of IDs.
    pub(super) fn find_ids(&mut self, hit: &Hit<'_>, flags: Flags, mut ids: Ids, load: &mut Load) {
        if !self.takes_users {
            ids.remove(NodeKind::User);
        }
        if ids.is_empty() {
            return;
        }
        let is_refusal = is_refusal(hit.permit, hit.consent_source);
        if is_refusal || !flags.has_any(OF_NOBODY) {
            self.note_permits(hit, &ids, load);
        }
        if is_refusal {
            let at = time_of(hit);
            for (kind, node) in ids.each() {
                self.memory.unlink(node);
                load.identity.refuse(kind, node, at);
            }
            return;
        }
        for tie in Tie::of(hit, flags, &ids, &self.in_force)
            .into_iter()
            .flatten()
        {
            if let Novelty::New(forget) = self.memory.note_tie(&tie) {
                load.tie(forget, tie.into_owned());
            }
        }
    }

    fn note_permits(&mut self, hit: &Hit<'_>, ids: &Ids, load: &mut Load) {
        let (permit, consent_source) = (hit.permit, hit.consent_source);
        let is_row = hit.outcome() == Outcome::Row;
        let row = load.last_start().filter(|_| is_row);
        for (kind, node) in ids.each() {
            let rules = (&*hit.site, &*hit.partner);
            if self.memory.note_permit(node, rules, permit, consent_source) {
                let permit = SubjectPermit {
                    node,
                    kind,
                    site: hit.site.to_string(),
                    partner: hit.partner.to_string(),
                    permit,
                    consent_source,
                    at: time_of(hit),
                    id: id_for_partners(hit, kind),
                };
                load.identity.permit(row, permit);
            }
        }
    }
}

/// Returns an ID of a hit as partners may know it, if the hit permits that they are told of it.
fn id_for_partners(hit: &Hit<'_>, kind: NodeKind) -> Option<String> {
    if !hit.permit.allows(SubjectPermit::EXPORT) {
        return None;
    }
    match kind {
        NodeKind::Maid => Some(hit.maid.to_ascii_lowercase()),
        NodeKind::PartnerUid => Some(hit.partner_uid.to_string()),
        NodeKind::User => hit.user_key.map(|user| user.to_string()),
        NodeKind::Visitor | NodeKind::DeviceId => None,
    }
}

/// Returns when a hit was received. Of one that is only counted its minute is known: what it says
/// holds from the end of the minute, so that a refusal outweighs what came before it.
fn time_of(hit: &Hit<'_>) -> UnixMicros {
    const MINUTE_MICROS: i64 = 60_000_000;
    match hit.outcome() {
        Outcome::Row => hit.received_at,
        _ => UnixMicros(hit.received_at.0.saturating_add(MINUTE_MICROS - 1)),
    }
}
