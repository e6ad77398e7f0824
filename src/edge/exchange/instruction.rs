//! What a visitor asks for besides hits: to withdraw, or to be erased.
//!
//! It goes into a spool of its own, always synced before the reply, which the loader empties before
//! it takes hits: from the reply on, no hit of that visitor that waits in the spool becomes a row,
//! even if it came before.
//!
//! That spool is small, and while Postgres is away nothing leaves it. So an instruction that is
//! there already ([`KnownInstructions`]) is not recorded again, and what is recorded is charged to
//! the network that it comes from: one network alone needs hours to fill the spool ([`NETWORK`]).

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use spool::Position;

use super::Exchange;
use super::allowance::Allowances;
use crate::clock;
use crate::config::{self, Site};
use crate::consent;
use crate::edge::Refusal;
use crate::hit::{Hit, Kind, VisitorId};
use crate::identity::Node;
use crate::refusal::Reason;

/// How many instructions one network, a /24 or /48, may have recorded: three times what a header
/// holds at once, then ten a second. At that rate a full spool takes nine hours.
pub(crate) const NETWORK: config::Limit = config::Limit {
    hits_per_second: 10,
    burst: 1000,
    drop: true,
    drop_above: 0,
};
/// The most instructions that are remembered: more than their spool holds.
const KNOWN_MAX: usize = 1 << 19;

/// The instructions that are on disk and perhaps not yet carried out.
///
/// Beyond [`KNOWN_MAX`], and after a restart, an instruction is recorded once more.
#[derive(Default)]
pub(crate) struct KnownInstructions(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    recent: HashSet<(VisitorId, Kind)>,
    older: HashSet<(VisitorId, Kind)>,
    /// Where the last of the older ones lies, or after it.
    older_until: Position,
}

impl KnownInstructions {
    /// Returns those of `visitors` for whom no such instruction waits.
    fn select_new(&self, visitors: &[VisitorId], kind: Kind) -> Vec<VisitorId> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = |visitor: &&VisitorId| {
            let key = (**visitor, kind);
            !known.recent.contains(&key) && !known.older.contains(&key)
        };
        visitors.iter().filter(is_new).copied().collect()
    }

    /// Remembers instructions that the disk has.
    fn remember(&self, visitors: &[VisitorId], kind: Kind) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KNOWN_MAX.saturating_sub(known.recent.len() + known.older.len());
        let keys = visitors.iter().map(|visitor| (*visitor, kind));
        known.recent.extend(keys.take(room));
    }

    /// Forgets what is carried out, which is everything before `carried_out`. `committed` tells
    /// where the spool ends.
    pub(crate) fn forget(&self, carried_out: Position, committed: impl FnOnce() -> Position) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if carried_out >= known.older_until {
            known.older = std::mem::take(&mut known.recent);
            // It is read under the lock: whatever is remembered lies before it.
            known.older_until = committed();
        }
    }
}

impl Exchange<'_> {
    /// Puts an instruction ([`Kind::is_instruction`]) for every visitor ID that the request proves
    /// into the spool and waits until it is there. Returns how many IDs there were. A cookie whose
    /// MAC does not verify names nobody.
    pub(crate) async fn instruct(&self, site: &Site, kind: Kind) -> Result<usize, Refusal> {
        let recorded = self.record_instructions(site, kind).await;
        if recorded.is_err() {
            self.worker.metrics.instructions_unrecorded.increment(1);
        }
        recorded
    }

    async fn record_instructions(&self, site: &Site, kind: Kind) -> Result<usize, Refusal> {
        let edge = self.edge;
        let proved = self.proved_visitors();
        let visitors: Vec<VisitorId> = proved.iter().map(|proved| proved.visitor).collect();
        if visitors.is_empty() {
            return Ok(0);
        }
        let new = edge.known_instructions.select_new(&visitors, kind);
        let may_spend = |allowed: &Option<Arc<Allowances>>, client| {
            let spend = |allowed: &Arc<Allowances>| allowed.spend(client, clock::monotonic());
            allowed.as_ref().is_none_or(spend)
        };
        let network = network(self.client);
        let is_allowed = may_spend(&edge.instructions, self.client)
            && new
                .iter()
                .all(|_| may_spend(&edge.instruction_networks, network));
        if !is_allowed {
            return Err(Refusal(Reason::OverLimit));
        }
        if new.is_empty() {
            return Ok(visitors.len());
        }
        let instruction = |visitor: &VisitorId| {
            let mut hit = Hit::new(self.now, kind, site.key.as_str());
            hit.visitor = Some(*visitor);
            consent::strip(&mut hit);
            move |out: &mut Vec<u8>| hit.encode(out)
        };
        let pending = self
            .worker
            .instructions
            .append_all(new.iter().map(instruction))?;
        pending.await?;
        edge.known_instructions.remember(&new, kind);
        for visitor in &new {
            edge.segments.deny(Node(visitor.0));
        }
        Ok(visitors.len())
    }
}

/// Returns the first address of the network that an address is charged to: its /24 or /48.
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(ip) => {
            let [a, b, c, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position { chunk: 1, offset }
    }

    fn visitor(number: u32) -> VisitorId {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        VisitorId(id)
    }

    #[test]
    fn an_instruction_is_new_until_it_is_remembered_and_again_once_it_is_carried_out() {
        let known = KnownInstructions::default();
        let (one, other) = (visitor(1), visitor(2));
        assert_eq!(
            known.select_new(&[one, other], Kind::Withdrawal),
            [one, other]
        );
        known.remember(&[one], Kind::Withdrawal);
        assert_eq!(known.select_new(&[one, other], Kind::Withdrawal), [other]);
        // To be erased is another wish.
        assert_eq!(known.select_new(&[one], Kind::Erasure), [one]);
        // It lies before 50, and nothing is carried out yet.
        known.forget(at(0), || at(50));
        known.forget(at(49), || at(80));
        assert_eq!(known.select_new(&[one], Kind::Withdrawal), []);
        known.forget(at(50), || at(80));
        known.remember(&[other], Kind::Withdrawal);
        assert_eq!(known.select_new(&[one, other], Kind::Withdrawal), [one]);
        known.forget(at(79), || at(90));
        assert_eq!(known.select_new(&[other], Kind::Withdrawal), []);
    }

    #[test]
    fn no_number_of_visitors_makes_the_memory_of_instructions_grow() {
        let known = KnownInstructions::default();
        let many: Vec<_> = (0..600_000).map(visitor).collect();
        for part in many.chunks(50_000) {
            known.remember(part, Kind::Withdrawal);
            known.forget(at(0), || at(u64::MAX));
        }
        let new = known.select_new(&many, Kind::Withdrawal);
        assert_eq!(new.len(), 600_000 - KNOWN_MAX);
    }

    #[test]
    fn a_network_is_a_24_or_a_48() {
        for (client, network_is) in [
            ("203.0.113.77", "203.0.113.0"),
            ("2a00:801:1:2:3:4:5:6", "2a00:801:1::"),
        ] {
            let client: IpAddr = client.parse().unwrap();
            assert_eq!(network(client).to_string(), network_is);
        }
    }
}
