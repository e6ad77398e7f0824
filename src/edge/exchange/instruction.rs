//! What a visitor asks for besides hits: to withdraw, or to be erased.
//!
//! It goes into a spool of its own, always synced before the reply, which the loader empties before
//! it takes hits: from the reply on, no hit of that visitor that waits in the spool becomes a row,
//! even if it came before.

use std::sync::Arc;

use super::Exchange;
use super::allowance::Allowances;
use crate::clock;
use crate::config::Site;
use crate::consent;
use crate::edge::Refusal;
use crate::hit::{Hit, Kind, VisitorId};
use crate::refusal::Reason;

/// The most visitors of one request. A browser has at most two, unless somebody plants cookies.
const VISITORS_MAX: usize = 4;

impl Exchange<'_> {
    /// Puts an instruction ([`Kind::is_instruction`]) for every visitor ID that the request proves
    /// into the spool and waits until it is there. A browser may have one cookie of the site's
    /// domain and one of the collector's host. Returns how many IDs there were. A cookie whose
    /// MAC does not verify names nobody.
    pub(crate) async fn instruct(&self, site: &Site, kind: Kind) -> Result<usize, Refusal> {
        let edge = self.edge;
        let mut visitors: Vec<VisitorId> = Vec::new();
        for value in self.headers.cookies(&edge.config.cookie.name) {
            // An expired cookie is still its visitor's, who may object by it whatever our clock
            // says.
            let proved = edge.keyring.read(value, self.now);
            let visitor = proved.map(|proved| proved.visitor);
            visitors.extend(visitor.filter(|visitor| !visitors.contains(visitor)));
        }
        if visitors.is_empty() {
            return Ok(0);
        }
        // Each is work for Postgres, and their spool is small.
        let is_over = |allowed: &Arc<Allowances>| !allowed.spend(self.client, clock::monotonic());
        if visitors.len() > VISITORS_MAX || edge.instructions.as_ref().is_some_and(is_over) {
            return Err(Refusal(Reason::OverLimit));
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
            .append_all(visitors.iter().map(instruction))?;
        pending.await?;
        Ok(visitors.len())
    }
}
