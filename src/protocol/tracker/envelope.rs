//! A JSON object around a list of events.

use serde_json::value::RawValue;

use crate::protocol::native::Members;

/// The object around a list of events: the list as text, and the other members.
#[derive(Debug, Default)]
pub(in crate::protocol) struct Envelope<'b> {
    /// The list, from its bracket on; empty if there is none.
    pub(in crate::protocol) events: &'b [u8],
    /// The other members: their names, and values as JSON.
    pub(in crate::protocol) members: Vec<(String, &'b str)>,
}

impl<'b> Envelope<'b> {
    /// Opens a body whose events are in the member of that name. `None` if it is no object.
    pub(in crate::protocol) fn open(body: &'b [u8], list: &str) -> Option<Envelope<'b>> {
        let Members(members) = serde_json::from_slice(body).ok()?;
        let mut envelope = Envelope::default();
        for (name, value) in members {
            let value: &RawValue = value;
            if name == list && envelope.events.is_empty() {
                envelope.events = value.get().as_bytes();
            } else {
                envelope.members.push((name, value.get()));
            }
        }
        Some(envelope)
    }

    /// Returns a member's value as JSON.
    pub(in crate::protocol) fn member(&self, name: &str) -> Option<&'b str> {
        let mut members = self.members.iter();
        members
            .find(|(own, _)| own == name)
            .map(|(_, value)| *value)
    }
}
