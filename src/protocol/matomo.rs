use super::native;
use super::tracker::{Told, Translate};
use super::{Arrival, Drafts};
use crate::refusal::Reason;

pub(super) fn read<'r>(_arrival: &Arrival<'_, 'r>) -> Result<Told<'r>, Reason> {
    Err(Reason::Json)
}

pub(super) fn read_body<'r>(
    arrival: &Arrival<'_, 'r>,
    body: &'r [u8],
) -> Result<Drafts<'r>, Reason> {
    native::read_tracker(arrival, body, Box::new(Events))
}

struct Events;

impl Translate for Events {
    fn translate<'e>(&'e self, _event: &'e str) -> Option<Told<'e>> {
        None
    }
}
