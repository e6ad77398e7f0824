//! Who is logged in: the sender's ID becomes a hash here, before anything is stored, and what the
//! site signed of it is verified and gone.

use std::borrow::Cow;
use std::mem;

use super::Exchange;
use crate::callback::user::UserClaim;
use crate::config::Site;
use crate::consent::{Personal, strip_personal};
use crate::hit::{Flags, Hit, Permit};

/// The permit that a user's hash needs.
const PERMIT: Permit = Permit::STORE.with(Permit::MEASURE);

/// Who is logged in, as a draft says it.
pub(super) struct Login<'l, 'd> {
    /// The sender's ID.
    pub(super) user: &'l mut Cow<'d, str>,
    /// What the site signed of it; empty if it did not.
    pub(super) signature: &'l mut Cow<'d, str>,
}

impl Exchange<'_> {
    /// Puts the hash of the user into a hit that may have it, and says whether the site vouches for
    /// that. Takes from the hit what its permit does not allow, and the sender's ID of the user
    /// wherever it stands.
    pub(super) fn strip(&self, hit: &mut Hit<'_>, site: &Site, login: Login<'_, '_>) {
        let user = mem::take(login.user);
        let signature = mem::take(login.signature);
        if !user.is_empty() && hit.permit.allows(PERMIT) {
            hit.user_key = self.edge.user_keyring.hash(&user);
            hit.older_user_keys = self.edge.user_keyring.older_hashes(&user).collect();
        }
        if !signature.is_empty() && hit.user_key.is_some() {
            let claim = UserClaim {
                site: &site.key,
                user: &user,
            };
            let keys = &site.user_sig_keys;
            hit.flags
                .set(match claim.is_proved_by(&signature, keys, self.now) {
                    true => Flags::PROVED,
                    false => Flags::BAD_USER_SIG,
                });
        }
        let personal = Personal {
            user: &user,
            user_key: hit.user_key,
            keep_traits: &self.edge.config.protocol.keep_traits,
            site_signs: !site.user_sig_keys.is_empty(),
        };
        strip_personal(hit, &personal);
    }
}
