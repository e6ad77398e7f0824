//! Who is logged in: the sender's ID becomes a hash here, before anything is stored.

use std::borrow::Cow;
use std::mem;

use super::Exchange;
use crate::consent::{Personal, strip_personal};
use crate::hit::{Hit, Permit};

/// The permit that a user's hash needs.
const PERMIT: Permit = Permit::STORE.with(Permit::MEASURE);

impl Exchange<'_> {
    /// Puts the hash of the user into a hit that may have it. Takes from the hit what its permit
    /// does not allow, and the sender's ID of the user wherever it stands.
    pub(super) fn strip(&self, hit: &mut Hit<'_>, user: &mut Cow<'_, str>) {
        let user = mem::take(user);
        if !user.is_empty() && hit.permit.allows(PERMIT) {
            hit.user_key = self.edge.user_keyring.hash(&user);
        }
        let personal = Personal {
            user: &user,
            user_key: hit.user_key,
            keep_traits: &self.edge.config.protocol.keep_traits,
        };
        strip_personal(hit, &personal);
    }
}
