//! The attributes that callbacks bring, by their partners' manifests.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio_postgres::Client;

use crate::hit::{Flags, Hit, Kind};
use crate::import::Manifest;
use crate::import::callback::CallbackManifests;
use crate::keys::UserKeyring;
use crate::metrics::Metrics;
use crate::postgres::{Load, import};

/// What the configuration says of the attributes of callbacks.
#[derive(Default)]
pub struct NamedManifests {
    /// The manifests, by the partner's key.
    pub manifests: Vec<(String, Manifest)>,
    /// The keys of hashes, with their IDs.
    pub user_keys: Vec<(u8, Vec<u8>)>,
}

/// What is needed to read the attributes of callbacks.
#[derive(Default)]
pub struct CallbackAttributes {
    /// Exchanged on a reload.
    pub named: ArcSwap<NamedManifests>,
    /// Those of them that the database knows.
    declared: ArcSwap<CallbackManifests>,
    /// What these are of.
    known: Mutex<Option<Arc<NamedManifests>>>,
}

impl CallbackAttributes {
    /// Notes imports in a database, where the configuration names others than before. One that
    /// cannot be noted is told of, and its callbacks bring nothing.
    ///
    /// # Errors
    /// Where the connection is lost.
    pub(super) async fn declare(&self, client: &Client) -> anyhow::Result<()> {
        let named = self.named.load_full();
        let is_known = |known: &Arc<NamedManifests>| Arc::ptr_eq(known, &named);
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if lock().as_ref().is_some_and(is_known) {
            return Ok(());
        }
        let mut is_whole = true;
        let mut declared = CallbackManifests::new(UserKeyring::new(&named.user_keys));
        for (partner, manifest) in &named.manifests {
            match import::part::declare(client, manifest).await {
                Ok(number) => declared.add(partner.clone(), number, manifest.clone()),
                Err(error) if client.is_closed() => return Err(error),
                Err(error) => {
                    // What Postgres could not do it may do later; what a manifest says stays wrong.
                    is_whole &= !error.is::<tokio_postgres::Error>();
                    tracing::error!("attributes of the callbacks of {partner}: {error:#}");
                }
            }
        }
        self.declared.store(Arc::new(declared));
        *lock() = is_whole.then_some(named);
        Ok(())
    }

    /// Adds what a callback says of its subject to a batch, if its sender has shown who it is.
    pub(super) fn find(&self, hit: &Hit<'_>, flags: Flags, load: &mut Load, metrics: &Metrics) {
        if hit.kind != Kind::Callback || !flags.with(hit.flags).has(Flags::PROVED) {
            return;
        }
        match self.declared.load().read(hit) {
            Some((import, Ok(row))) => load.attributes(import, row),
            Some((_, Err(_))) => metrics.attributes_rejected.increment(1),
            None => {}
        }
    }
}
