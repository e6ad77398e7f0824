//! Events of the operator's own systems: a shop's server, an app's backend, a call centre, a till.
//!
//! A body has one event as a JSON object or up to 1,000, in an array or one after the other, under
//! our own names and packed or not, as `POST /e` takes them. Each is an event of its own: a broken
//! one is refused alone. Beyond the parameters of `/e` there are
//!
//! | member | is |
//! | --- | --- |
//! | `occurred_at` | when it happened, as long ago as rows are kept |
//! | `permit` | what the person allows, a list; instead of the default, and narrows a string |
//!
//! The sender is a server: its address, agent and cookies say nothing about anybody, and what it
//! says of a client's address or agent (`client_ip`, `user_agent`) is not kept. It names no
//! visitor.
//!
//! Whether the system sent a request is decided before ([`crate::callback::system`]).

use std::time::Duration;

use super::native::{self, OfSystem, Owner, Reading};
use super::{Arrival, Draft, Drafts};
use crate::callback::Proof;
use crate::hit::{Flags, Kind};
use crate::refusal::Reason;

/// What the configuration says about the system that sends.
#[derive(Clone, Copy, Debug)]
pub struct SystemSender<'s> {
    /// The site of events that name none.
    pub site: &'s str,
    /// How long ago an event may have happened.
    pub past: Duration,
    /// What proves that the system sent this request.
    pub proof: Proof<'s>,
}

/// Reads an unpacked body.
///
/// # Errors
/// If the body is of no known type, or empty.
pub fn read<'r>(
    arrival: &Arrival<'_, 'r>,
    sender: SystemSender<'r>,
    body: &'r [u8],
) -> Result<Drafts<'r>, Reason> {
    if !native::may_be_events(arrival.headers.content_type, body) {
        return Err(Reason::ContentType);
    }
    let owner = Owner {
        partner: "",
        site: sender.site,
        proof: Some(sender.proof),
    };
    let reading = Reading {
        system: Some(OfSystem { past: sender.past }),
        ..Reading::default()
    };
    let mut draft = Draft::new(arrival.at, Kind::Event);
    draft.hit.flags = Flags::SYSTEM.with(Flags::PROVED);
    native::read_events(body, "", reading, draft, Some(owner))
}

#[cfg(test)]
mod tests;
