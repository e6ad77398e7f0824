//! How many hits one client may send: a token bucket for each IPv4 address, and for IPv6 one for
//! each /64 and one for each /56, which holds [`SITE_FACTOR`] times as much.
//!
//! The buckets lie in a table of fixed size (1 MiB), so that no number of addresses makes it grow.
//! A key hashes, under a seed that nobody outside knows, to a set of [`WAYS`] buckets in one cache
//! line and to a tag of 16 bits in it. Where none has its tag, it takes the place of the one that
//! is nearest to full: a full bucket says the same as none, so a flood of new keys pushes out those
//! that have sent next to nothing and neither limits an honest client nor frees one that is over
//! its limit. Two keys share a bucket with a probability of 2⁻³⁰, times the keys that are busy.
//!
//! A bucket is one number, the time at which it will be full again (the generic cell rate
//! algorithm), and is changed by compare and swap: edge threads share the table without a lock.
//! Addresses are in no bucket.
//!
//! A hit costs 33 ns with ten million keys and 19 ns with one (`cargo test --lib -- allowance
//! --nocapture`).

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::config;
use crate::edge::transport::limits::{SITE_FACTOR, site, subscriber};

/// Buckets of a set: what fits a cache line.
const WAYS: usize = 8;
const SETS: usize = 1 << 14;
/// The bits of a bucket that hold its time: microseconds for nine years after the start.
const TIME_BITS: u32 = 48;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
/// Attempts to change a bucket that other threads change too; after that the hit is not counted.
const ATTEMPTS_MAX: u32 = 16;

/// The buckets of all clients.
pub(crate) struct Allowances {
    sets: Box<[Set]>,
    seed: RandomState,
    started: Instant,
    /// What a hit costs: the time in which a bucket gains one token.
    hit_micros: u64,
    /// How far from full a bucket may be for one more hit.
    debt_micros_max: u64,
}

/// What each client may send, and what it may send beyond that.
pub(crate) struct HitAllowances {
    within: Allowances,
    /// What is flagged and kept; `None` where that is everything.
    beyond: Option<Allowances>,
}

/// Where a hit stands in relation to its client's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AllowanceState {
    /// The client may send it.
    Within,
    /// It is one too many.
    Over,
    /// There are several times as many as the client may send.
    FarOver,
}

impl HitAllowances {
    /// Full buckets; `None` where the configuration sets no limit.
    pub(crate) fn new(limit: &config::Limit, started: Instant) -> Option<HitAllowances> {
        let within = Allowances::new(limit, started)?;
        let beyond = match limit.drop_above {
            0 => None,
            times => {
                let mut beyond = Allowances::new(limit, started)?;
                let times = times.saturating_sub(1).max(1);
                beyond.hit_micros = (within.hit_micros / times).max(1);
                beyond.debt_micros_max = beyond.hit_micros * (times * limit.burst - 1);
                Some(beyond)
            }
        };
        Some(HitAllowances { within, beyond })
    }

    /// Takes hits from what the client may send and, where nothing is left, from what it may send
    /// beyond that. A client within its limit is looked up once.
    pub(crate) fn spend(&self, client: IpAddr, now: Instant, hits: u64) -> AllowanceState {
        if self.within.spend_many(client, now, hits) {
            return AllowanceState::Within;
        }
        let is_kept = |beyond: &Allowances| beyond.spend_many(client, now, hits);
        if self.beyond.as_ref().is_none_or(is_kept) {
            AllowanceState::Over
        } else {
            AllowanceState::FarOver
        }
    }

    /// Takes hits only from what the client may send. Returns false if nothing is left.
    pub(crate) fn spend_within(&self, client: IpAddr, now: Instant, hits: u64) -> bool {
        self.within.spend_many(client, now, hits)
    }
}

#[derive(Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

impl Allowances {
    /// Full buckets; `None` where the configuration sets no limit.
    pub(crate) fn new(limit: &config::Limit, started: Instant) -> Option<Allowances> {
        let hit_micros = 1_000_000_u64.checked_div(limit.hits_per_second)?;
        Some(Allowances {
            sets: (0..SETS).map(|_| Set::default()).collect(),
            seed: RandomState::new(),
            started,
            hit_micros,
            debt_micros_max: hit_micros * limit.burst.saturating_sub(1),
        })
    }

    /// Takes a hit from the client's bucket. Returns false if none is left in it.
    pub(crate) fn spend(&self, client: IpAddr, now: Instant) -> bool {
        self.spend_many(client, now, 1)
    }

    /// Takes hits from the client's bucket. Returns false if none is left in it. If there is one
    /// the client gets them all, and waits the longer for the next.
    pub(crate) fn spend_many(&self, client: IpAddr, now: Instant, hits: u64) -> bool {
        let now = now.saturating_duration_since(self.started).as_micros();
        let now = u64::try_from(now).unwrap_or(TIME_MASK) & TIME_MASK;
        let cost_micros = self.hit_micros.saturating_mul(hits);
        let debt_micros_max = self.debt_micros_max;
        if !self.take(subscriber(client), now, cost_micros, debt_micros_max) {
            return false;
        }
        // The site pays a part of it, which comes to the same as a larger bucket.
        site(client).is_none_or(|site| {
            let part = |micros: u64| micros / SITE_FACTOR as u64;
            let whole = debt_micros_max + self.hit_micros - part(self.hit_micros);
            self.take(site, now, part(cost_micros), whole)
        })
    }

    fn take(&self, key: IpAddr, now: u64, cost_micros: u64, debt_micros_max: u64) -> bool {
        let (at, tag) = self.place(key);
        let Some(Set(buckets)) = usize::try_from(at).ok().and_then(|at| self.sets.get(at)) else {
            return true;
        };
        for _ in 0..ATTEMPTS_MAX {
            let Some((bucket, old)) = find(buckets, tag) else {
                return true;
            };
            let full_at = if old & !TIME_MASK == tag {
                (old & TIME_MASK).max(now)
            } else {
                now
            };
            if full_at - now > debt_micros_max {
                return false;
            }
            let new = tag | ((full_at + cost_micros).min(TIME_MASK));
            if bucket
                .compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
            {
                return true;
            }
        }
        true
    }

    /// The number of a key's set, and its tag in that set.
    fn place(&self, key: IpAddr) -> (u64, u64) {
        let hash = self.seed.hash_one(key);
        (hash % SETS as u64, hash & !TIME_MASK)
    }
}

/// The bucket with that tag, else the one that is nearest to full, with what it holds.
fn find(buckets: &[AtomicU64; WAYS], tag: u64) -> Option<(&AtomicU64, u64)> {
    let held = || {
        buckets
            .iter()
            .map(|bucket| (bucket, bucket.load(Ordering::Relaxed)))
    };
    held()
        .find(|(_, held)| held & !TIME_MASK == tag)
        .or_else(|| held().min_by_key(|(_, held)| held & TIME_MASK))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use super::*;
    use crate::clock;

    fn allowances(hits_per_second: u64, burst: u64) -> Allowances {
        let limit = config::Limit {
            hits_per_second,
            burst,
            drop: false,
            drop_above: 0,
        };
        Allowances::new(&limit, clock::monotonic()).expect("a limit")
    }

    fn client(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn a_client_has_its_burst_and_then_its_rate_and_no_other_pays_for_it() {
        let buckets = allowances(10, 5);
        let at = |millis| buckets.started + Duration::from_millis(millis);
        let taken = |number, millis, times: u32| {
            (0..times)
                .filter(|_| buckets.spend(client(number), at(millis)))
                .count()
        };
        assert_eq!(taken(1, 0, 50), 5);
        assert_eq!(taken(2, 0, 50), 5);
        assert_eq!(taken(1, 99, 50), 0);
        assert_eq!(taken(1, 100, 50), 1);
        assert_eq!(taken(1, 10_000, 50), 5);
        let none = config::Limit {
            hits_per_second: 0,
            burst: 1,
            drop: false,
            drop_above: 0,
        };
        assert!(Allowances::new(&none, clock::monotonic()).is_none());
    }

    #[test]
    fn an_ipv6_subscriber_has_one_bucket_however_many_addresses_it_uses() {
        let buckets = allowances(1, 3);
        let address = |subnet: u64, host: u64| {
            let bits = (u128::from(subnet) << 64) | u128::from(host);
            IpAddr::from(Ipv6Addr::from_bits(bits))
        };
        let taken = |subnet| {
            (0..100)
                .filter(|host| buckets.spend(address(subnet, *host), buckets.started))
                .count()
        };
        assert_eq!(taken(0x2a00_0801_0000_0001), 3);
        assert_eq!(taken(0x2a00_0801_0000_0002), 3);
    }

    #[test]
    fn ten_million_spoofed_keys_take_no_memory_limit_no_honest_client_and_free_no_other() {
        let buckets = allowances(100, 1000);
        let bytes = size_of_val(&*buckets.sets);
        let (mut honest_refused, mut spoofed_refused, mut heavy_taken) = (0_usize, 0_usize, 0);
        let honest = |number: u32| client(0x0200_0000 | number);
        let spoofed = |number: u32| client(0x4000_0000 | number);
        let heavy = client(0x0100_0000);
        // Of all these, one in 2³⁰ shares the bucket of the one that is over its limit.
        let shares = |key: &IpAddr| buckets.place(*key) == buckets.place(heavy);
        let spoofed_sharing = (0..10_000_000).map(spoofed).filter(shares).count();
        let honest_sharing = (0..1000).map(honest).filter(shares).count();
        // Ten seconds: a million new keys in each, a thousand clients with ten hits a second, and
        // one with a hundred times what it may send.
        for step in 0..10_000_000_u32 {
            let at = buckets.started + Duration::from_micros(u64::from(step));
            spoofed_refused += usize::from(!buckets.spend(spoofed(step), at));
            if step % 100 == 0 {
                honest_refused += usize::from(!buckets.spend(honest(step / 100 % 1000), at));
                heavy_taken += u32::from(buckets.spend(heavy, at));
            }
        }
        eprintln!(
            "{bytes} bytes; of 10,000,000 spoofed keys {spoofed_refused} over the limit, of 100,000 honest hits \
             {honest_refused}; of 100,000 hits of one client {heavy_taken} within it"
        );
        assert_eq!(bytes, 1 << 20);
        assert!(spoofed_sharing <= 3, "{spoofed_sharing} share a bucket");
        assert!(
            spoofed_refused <= spoofed_sharing,
            "{spoofed_sharing} share a bucket"
        );
        assert!(
            honest_refused <= 100 * honest_sharing,
            "{honest_sharing} share a bucket"
        );
        assert!((1990..=2000).contains(&heavy_taken), "{heavy_taken}");
    }

    #[test]
    fn threads_that_share_a_bucket_take_no_more_than_it_holds() {
        let buckets = allowances(1, 1000);
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..1000)
                            .filter(|_| buckets.spend(client(7), buckets.started))
                            .count()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .sum()
        });
        // A hit that loses every attempt goes uncounted, which takes more threads than these.
        assert!((1000..=1010).contains(&taken), "{taken}");
    }

    #[test]
    fn what_a_hit_costs_is_printed() {
        const HITS: u32 = 2_000_000;
        for (keys, spread) in [(1, 0), (10_000_000, 2_654_435_761_u32)] {
            let buckets = allowances(100, 1000);
            let started = clock::monotonic();
            let mut taken = 0;
            for number in 0..HITS {
                let key = client(number.wrapping_mul(spread) % 10_000_000);
                taken += u32::from(buckets.spend(key, started));
            }
            let nanos = started.elapsed().as_nanos() / u128::from(HITS);
            eprintln!("{nanos} ns a hit with {keys} keys, {taken} of {HITS} within the limit");
            assert!(taken > 0);
        }
    }
}
