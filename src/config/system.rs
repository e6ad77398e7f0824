//! `[[system]]`: the operator's own servers that send events.

use std::fmt;

use super::Site;
use super::keys::{NAME, PERMITS, SECRET};
use super::table::keys;
use super::value;
use crate::callback::system::SystemSecrets;
use crate::consent::PermitRules;
use crate::hit::Permit;

keys! {
    /// `[[system]]`: one of the operator's own servers.
    #[derive(Clone)]
    pub struct System in [system] {
        /// The name in the path, `/s/KEY`. A system that is not listed here is refused.
        reload key: String = required(NAME, value::name);
        /// Sign the system's requests; each of them verifies. A system needs one of these or a
        /// token.
        reload secrets: Vec<String> = secret_list(SECRET, value::some_secret);
        /// Stand in `Authorization: Bearer` of its requests if they are not signed; each of them
        /// counts.
        reload tokens: Vec<String> = secret_list(SECRET, value::some_secret);
        /// What is allowed where an event says nothing of the visitor's consent, instead of the
        /// site's. Consent strings are read with the site's gvl_id, and `gdpr=0` means what the
        /// site's gdpr_0_permit says.
        reload default_permit: Permit = permits(PERMITS);
        /// The site of its events that name none.
        reload site: String = one("", NAME, value::name_or_none);
        /// The sites that it may write for. Empty: every site. An event that names another one is
        /// refused.
        reload sites: Vec<String> = list("keys of sites", value::name);
    }
}

impl System {
    /// Returns what its requests are proved with.
    #[must_use]
    pub fn secrets(&self) -> SystemSecrets<'_> {
        SystemSecrets {
            secrets: &self.secrets,
            tokens: &self.tokens,
        }
    }

    /// Returns whether it may write for the site of that key.
    #[must_use]
    pub(crate) fn may_write_for(&self, site: &str) -> bool {
        self.sites.is_empty() || self.sites.iter().any(|known| known == site)
    }

    /// Returns the rules of its events about a site: the operator's vendor ID is the site's.
    #[must_use]
    pub(crate) fn rules_for(&self, site: &Site) -> PermitRules {
        PermitRules {
            default_permit: self.default_permit,
            ..PermitRules::from(site)
        }
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System")
            .field("key", &self.key)
            .field("secrets", &self.secrets.len())
            .field("tokens", &self.tokens.len())
            .finish_non_exhaustive()
    }
}
