//! Disk space that spools share.

use std::sync::{Arc, Mutex, Weak};

use crate::spool::{Shared, lock};

/// The disk space of the chunks of all spools that were opened with it.
///
/// Where a new chunk needs room, the chunk that was read completely longest ago makes it, whichever
/// spool that belongs to.
#[derive(Clone, Debug)]
pub struct Room(Arc<Shares>);

#[derive(Debug)]
struct Shares {
    bytes_max: u64,
    spools: Mutex<Vec<Weak<Shared>>>,
}

impl Room {
    /// Makes a room of `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: u64) -> Room {
        Room(Arc::new(Shares {
            bytes_max,
            spools: Mutex::default(),
        }))
    }

    /// Returns the disk space of all chunks, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        spools(&mut lock(&self.0.spools))
            .iter()
            .map(|spool| spool.used_bytes())
            .sum()
    }

    pub(crate) fn join(&self, spool: &Arc<Shared>) {
        lock(&self.0.spools).push(Arc::downgrade(spool));
    }

    /// Reserves room for one more chunk of a spool, and returns whether there was any.
    pub(crate) fn take(&self, of: &Shared, number: u64) -> bool {
        // Held to the end, so that no two spools take the same room.
        let mut shares = lock(&self.0.spools);
        let spools = spools(&mut shares);
        let bytes = of.options.chunk_bytes;
        let used = || spools.iter().map(|spool| spool.used_bytes()).sum::<u64>();
        while used() + bytes > self.0.bytes_max {
            let kept = spools.iter().filter_map(|spool| {
                let (number, since) = spool.oldest_kept()?;
                Some((since, spool, number))
            });
            let Some((_, spool, number)) = kept.min_by_key(|(since, ..)| *since) else {
                return false;
            };
            lock(&spool.loaded).remove(&number);
            if spool.delete(number).is_err() {
                return false;
            }
        }
        lock(&of.chunks).insert(number, bytes);
        true
    }
}

/// Returns the spools that are still there, and forgets the others.
fn spools(shares: &mut Vec<Weak<Shared>>) -> Vec<Arc<Shared>> {
    shares.retain(|spool| spool.strong_count() > 0);
    shares.iter().filter_map(Weak::upgrade).collect()
}
