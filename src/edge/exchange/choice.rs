//! The cookies that keep the visitor's choice.

use super::Exchange;
use crate::config::Site;
use crate::hit::Permit;
use crate::visitor::{COOKIE_AGE_SECONDS, CookieKind};

impl Exchange<'_> {
    /// Makes the cookies that keep a choice, end every other one, and without `store` end the
    /// visitor cookie too. Returns them, and whether the choice is kept: a browser would not keep
    /// it over http in another site's page or under a name with a prefix.
    pub(crate) fn choice_cookies(&self, site: &Site, permit: Permit) -> (Vec<String>, bool) {
        let config = &self.edge.config.cookie;
        let host = self.lower_host();
        let reach = self.reach(self.party(site), &host);
        let mut cookies = reach.replace(
            CookieKind::Choice,
            config.choice_names(),
            &permit.to_string(),
            COOKIE_AGE_SECONDS,
        );
        let is_kept = !cookies.is_empty();
        if !permit.allows(Permit::STORE) {
            cookies.extend(reach.end(CookieKind::Visitor, config.names()));
        }
        (cookies, is_kept)
    }
}
