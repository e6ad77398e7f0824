//! What a request costs its client, decided before anything of it is read but the address.
//!
//! A hit costs one of the client's allowance. A body costs one for each [`HIT_BYTES`] before it is
//! unpacked or split; they pay for its first events, and each further event costs one more when its
//! turn comes. A record larger than [`HIT_BYTES`], as one with a long address in an array of events
//! is, costs one more for each: what is stored many times is paid for many times.
//!
//! A hit over the limit is flagged or, if the configuration says so, refused; but a click is not,
//! because somebody waits for the page behind it. What is far over the limit is refused in any
//! case, and a click then leads to its target without being recorded. A callback costs nothing: it
//! comes from a partner's server, which speaks for many clients and has proved itself. Nor does
//! what an own system sends, or a tracker from one of a site's `trusted_senders`. An attempt to
//! speak for a system costs its client a hit, and so does the visitor's own page with its forms,
//! which takes the time of two or three pixels; it is refused only far over the limit.

use super::Exchange;
use super::allowance::{AllowanceState, HitAllowances};
use crate::clock;
use crate::edge::Refusal;
use crate::hit::{Flags, Hit};
use crate::refusal::Reason;

/// The bytes that one hit may have, before and after it is read, until it counts as two.
pub(crate) const HIT_BYTES: usize = 2048;
/// How many times as large as the largest body the records of one body may be, whoever sends it.
pub(crate) const RECORDS_TIMES_MAX: usize = 2;

/// A hit that is paid for.
#[derive(Clone, Copy)]
pub(crate) struct Charge {
    is_over: bool,
}

impl Charge {
    /// Flags the hit if it is over its client's limit.
    pub(super) fn flag(self, hit: &mut Hit<'_>) {
        if self.is_over {
            hit.flags.set(Flags::OVER_LIMIT);
        }
    }
}

impl Exchange<'_> {
    /// Charges the client for one hit.
    pub(crate) fn charge(&self) -> Result<Charge, Refusal> {
        self.take_hit(self.spend(1))
    }

    /// Charges the client for a request that records nothing. Only what is far over the limit is
    /// refused.
    pub(crate) fn charge_request(&self) -> Result<(), Refusal> {
        let standing = match self.edge.allowances.as_deref() {
            Some(allowances) => allowances.spend(self.client, clock::monotonic(), 1),
            None => AllowanceState::Within,
        };
        if standing != AllowanceState::FarOver {
            return Ok(());
        }
        self.edge.metrics.over_limit.increment(1);
        Err(Refusal(Reason::OverLimit))
    }

    /// Charges the client for a request that has not proved to be a system's. Returns why it is
    /// refused.
    pub(crate) fn charge_attempt(&self, reason: Reason) -> Refusal {
        self.charge_request().err().unwrap_or(Refusal(reason))
    }

    /// Takes hits from what the client may send.
    fn spend(&self, hits: u64) -> AllowanceState {
        match self.allowances() {
            Some(allowances) => allowances.spend(self.client, clock::monotonic(), hits),
            None => AllowanceState::Within,
        }
    }

    /// Returns what a hit with that standing is charged, if it is not refused.
    fn take_hit(&self, standing: AllowanceState) -> Result<Charge, Refusal> {
        if standing == AllowanceState::Within {
            return Ok(Charge { is_over: false });
        }
        self.edge.metrics.over_limit.increment(1);
        let is_dropped = self.edge.config.limit.drop && self.endpoint.spec().target.is_none();
        if is_dropped || standing == AllowanceState::FarOver {
            return Err(Refusal(Reason::OverLimit));
        }
        Ok(Charge { is_over: true })
    }

    /// Returns what the client may send; `None` if there is no limit.
    fn allowances(&self) -> Option<&HitAllowances> {
        let allowances = self.edge.allowances.as_deref()?;
        let is_server = self.endpoint.spec().is_from_server || self.is_trusted_by_any();
        (!is_server).then_some(allowances)
    }
}

/// What the events of one body have cost so far.
pub(crate) struct Bill<'x, 'r> {
    exchange: &'x Exchange<'r>,
    /// The events that were charged for ahead, and how they stand.
    prepaid: u64,
    standing: AllowanceState,
}

impl<'x, 'r> Bill<'x, 'r> {
    /// Charges for the first event, before the body has come. Only what is far over the limit is
    /// refused as a whole.
    pub(crate) fn open(exchange: &'x Exchange<'r>) -> Result<Bill<'x, 'r>, Refusal> {
        let mut bill = Bill {
            exchange,
            prepaid: 0,
            standing: AllowanceState::Within,
        };
        bill.add_bytes(1)?;
        Ok(bill)
    }

    /// Charges for a body's bytes, before they are looked at.
    pub(crate) fn add_bytes(&mut self, bytes: usize) -> Result<(), Refusal> {
        let hits = hits_of(bytes);
        if hits > self.prepaid {
            self.standing = self.exchange.spend(hits - self.prepaid);
            self.prepaid = hits;
        }
        if self.standing == AllowanceState::FarOver {
            self.exchange.take_hit(self.standing)?;
        }
        Ok(())
    }

    /// Charges for the next event, before it is read.
    pub(super) fn add_event(&mut self) -> Result<Charge, Refusal> {
        match self.prepaid.checked_sub(1) {
            Some(left) => {
                self.prepaid = left;
                self.exchange.take_hit(self.standing)
            }
            None => self.exchange.charge(),
        }
    }

    /// Charges for a record of that size, of which one hit is paid for.
    pub(super) fn add_record(&self, bytes: usize) -> Result<(), Refusal> {
        let further = hits_of(bytes).saturating_sub(1);
        if further == 0 {
            return Ok(());
        }
        let now = clock::monotonic();
        let pay = |allowances: &HitAllowances| {
            allowances.spend_within(self.exchange.client, now, further)
        };
        if self.exchange.allowances().is_none_or(pay) {
            Ok(())
        } else {
            self.exchange.edge.metrics.over_limit.increment(1);
            Err(Refusal(Reason::OverLimit))
        }
    }
}

/// Returns how many hits so many bytes count as.
fn hits_of(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(HIT_BYTES)).unwrap_or(u64::MAX)
}
