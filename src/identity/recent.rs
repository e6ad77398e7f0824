//! A table of fixed size of what was stored lately. It takes 8 MiB, from its first use.

use crate::clock::UnixMicros;

const MINUTE_MICROS: i64 = 60_000_000;

/// What is remembered as stored: nine bits of it, and when.
#[derive(Clone, Copy)]
pub(crate) struct StoredSince(u32);

impl StoredSince {
    /// After that many minutes (8 years) they begin again.
    const MINUTES: u32 = 1 << 22;
    const VALUE_MASK: u32 = (1 << 9) - 1;

    /// Returns the minute of a time.
    pub(crate) fn minute(at: UnixMicros) -> u32 {
        let minute = at.0.div_euclid(MINUTE_MICROS);
        u32::try_from(minute.rem_euclid(i64::from(StoredSince::MINUTES))).unwrap_or_default()
    }

    /// Makes it of the lower nine bits of a value, stored in this minute.
    pub(crate) fn new(value: u16, minute: u32) -> StoredSince {
        StoredSince(minute << 9 | u32::from(value) & StoredSince::VALUE_MASK)
    }

    /// Returns the nine bits.
    pub(crate) fn value(self) -> u16 {
        u16::try_from(self.0 & StoredSince::VALUE_MASK).unwrap_or_default()
    }

    /// Returns its age in minutes. What lies ahead of a clock that was put back is very old.
    pub(crate) fn age(self, minute: u32) -> u32 {
        minute.wrapping_sub(self.0 >> 9) & (StoredSince::MINUTES - 1)
    }
}

/// A table of fixed size: four places for each hash. A place has the upper half of the hash and
/// what is stored of it with the bit [`Recent::USED`]; 0 where it is free.
pub(crate) struct Recent(Vec<[u64; Recent::WAYS]>);

impl Recent {
    const WAYS: usize = 4;
    /// Places for a million entries.
    const BUCKETS: usize = (1 << 20) / Recent::WAYS;
    const USED: u64 = 1 << 31;

    fn bucket(&mut self, hash: u64) -> &mut [u64] {
        if self.0.is_empty() {
            self.0 = vec![[0; Recent::WAYS]; Recent::BUCKETS];
        }
        let index = usize::try_from(hash % Recent::BUCKETS as u64).unwrap_or_default();
        self.0.get_mut(index).map_or(&mut [], |bucket| bucket)
    }

    /// Returns what is stored, where it is there.
    pub(crate) fn get(&mut self, hash: u64) -> Option<StoredSince> {
        let mut places = self.bucket(hash).iter();
        let place = places.find(|place| is_of(**place, hash))?;
        let stored = place & (Recent::USED - 1);
        u32::try_from(stored).ok().map(StoredSince)
    }

    /// Stores it, where need be in the place of the oldest of four.
    pub(crate) fn put(&mut self, hash: u64, stored: StoredSince) {
        let minute = stored.0 >> 9;
        let age = |place: &u64| match u32::try_from(place & (Recent::USED - 1)) {
            Ok(known) if *place != 0 => StoredSince(known).age(minute),
            _ => u32::MAX,
        };
        let bucket = self.bucket(hash);
        let index = bucket
            .iter()
            .position(|place| is_of(*place, hash))
            .or_else(|| (0..bucket.len()).max_by_key(|index| bucket.get(*index).map(age)));
        if let Some(place) = index.and_then(|index| bucket.get_mut(index)) {
            *place = hash >> 32 << 32 | Recent::USED | u64::from(stored.0);
        }
    }

    /// Forgets what is stored.
    pub(crate) fn remove(&mut self, hash: u64) {
        for place in self.bucket(hash) {
            if is_of(*place, hash) {
                *place = 0;
            }
        }
    }
}

#[cfg(test)]
impl Recent {
    /// Returns how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<[u64; Recent::WAYS]>()
    }
}

impl Default for Recent {
    /// Takes memory with its first use.
    fn default() -> Recent {
        Recent(Vec::new())
    }
}

fn is_of(place: u64, hash: u64) -> bool {
    place != 0 && place >> 32 == hash >> 32
}
