//! The attributes that callbacks bring, by their partners' manifests.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio_postgres::Client;

use crate::hit::Hit;
use crate::import::Manifest;
use crate::import::callback::DeclaredManifests;
use crate::keys::UserKeyring;
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
    declared: ArcSwap<DeclaredManifests>,
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
        let mut declared = DeclaredManifests::new(UserKeyring::new(&named.user_keys));
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

    /// Adds what a callback says of its subject to a batch.
    pub(super) fn find(&self, hit: &Hit<'_>, load: &mut Load) {
        if hit.attributes.is_empty() {
            return;
        }
        if let Some((import, row)) = self.declared.load().read(hit) {
            load.attributes(import, row);
        }
    }
}
