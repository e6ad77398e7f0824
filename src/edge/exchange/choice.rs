//! The cookies that keep the visitor's choice.

use super::{Exchange, Visit};
use crate::config::Site;
use crate::hit::{Kind, Permit};
use crate::visitor::{COOKIE_AGE_SECONDS, CookieKind};

impl Exchange<'_> {
    /// Makes the cookies that keep a choice. One without `store` withdraws first: the visitor
    /// cookie ends with it, so no later hit could refuse for what is kept under its ID. Where that
    /// cannot be recorded the choice is kept all the same, and the visitor cookie stays, by which
    /// it can be tried again.
    pub(crate) async fn keep_choice(&self, site: &Site, permit: Permit) -> (Vec<String>, bool) {
        let is_withdrawn =
            permit.allows(Permit::STORE) || self.instruct(site, Kind::Withdrawal).await.is_ok();
        self.make_cookies(site, permit, is_withdrawn)
    }

    /// Does the same for what the hits of a visit said.
    pub(crate) async fn keep_told_choice(&self, visit: &mut Visit<'_>) {
        if let Some(site) = visit.refuses_on {
            (visit.cookies, _) = Box::pin(self.keep_choice(site, Permit::NONE)).await;
        }
    }

    /// Makes the cookies that keep a choice, end every other one, and without `store` end the
    /// visitor cookie too. Returns them, and whether the choice is kept: a browser would not keep
    /// it over http in another site's page or under a name with a prefix.
    pub(crate) fn choice_cookies(&self, site: &Site, permit: Permit) -> (Vec<String>, bool) {
        self.make_cookies(site, permit, true)
    }

    fn make_cookies(&self, site: &Site, permit: Permit, is_withdrawn: bool) -> (Vec<String>, bool) {
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
        if !permit.allows(Permit::STORE) && is_withdrawn {
            cookies.extend(reach.end(CookieKind::Visitor, config.names()));
        }
        (cookies, is_kept)
    }
}
