//! What a visitor asks for beyond hits: to withdraw, to be erased.
//!
//! It goes into a spool of its own, always synced before the reply, which the loader empties before it
//! takes hits: from the reply on, what waits in the spool of that visitor becomes no row, though it
//! came before.

use std::sync::Arc;

use super::allowance::Allowances;
use crate::clock;
use crate::config::Site;
use crate::consent;
use crate::edge::exchange::admit::Request;
use crate::edge::{Refusal, Worker};
use crate::hit::{Hit, Kind, VisitorId};
use crate::refusal::Reason;

/// Visitors of one request: a browser has two at the most, unless somebody plants cookies.
const VISITORS_MAX: usize = 4;

impl Worker {
    /// Puts an instruction ([`Kind::is_instruction`]) for every visitor ID that the request proves into
    /// the spool and waits until it is there: a browser may have a cookie of the site's domain and one of
    /// the collector's host. How many there were. A cookie whose MAC does not verify names nobody.
    pub(crate) async fn instruct(
        &self,
        request: &Request<'_>,
        site: &Site,
        kind: Kind,
    ) -> Result<usize, Refusal> {
        let edge = request.edge;
        let mut visitors: Vec<VisitorId> = Vec::new();
        for value in request.headers.cookies(&edge.config.cookie.name) {
            let visitor = edge.keyring.verify(value, request.now);
            visitors.extend(visitor.filter(|visitor| !visitors.contains(visitor)));
        }
        if visitors.is_empty() {
            return Ok(0);
        }
        // Each is work for Postgres, and their spool is small.
        let is_over = |allowed: &Arc<Allowances>| !allowed.take(request.client, clock::monotonic());
        if visitors.len() > VISITORS_MAX || edge.instructions.as_ref().is_some_and(is_over) {
            return Err(Refusal(Reason::OverLimit));
        }
        let instruction = |visitor: &VisitorId| {
            let mut hit = Hit::new(request.now, kind, site.key.as_str());
            hit.visitor = Some(*visitor);
            consent::strip(&mut hit);
            move |out: &mut Vec<u8>| hit.encode(out)
        };
        let pending = self
            .instructions
            .append_all(visitors.iter().map(instruction))?;
        pending.await?;
        Ok(visitors.len())
    }
}
