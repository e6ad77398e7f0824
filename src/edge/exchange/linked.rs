//! A page that a link from another site led to: its token becomes the other visitor's ID here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::Url;

use super::{Exchange, cors};
use crate::config::Site;
use crate::edge::Refusal;
use crate::endpoint::Endpoint;
use crate::hit::{Flags, Hit, Kind};
use crate::identity::LinkPermit;
use crate::refusal::Reason;
use crate::visitor::link::LinkScope;

impl Exchange<'_> {
    /// Makes a hit that brought the token of a link a sync of two visitors: its own, and the one of
    /// the page with the link, as long as the permit lets them be tied. Nothing else of it stays
    /// but the page.
    ///
    /// # Errors
    /// If the page does not belong to the site, or the token is not for this page and browser.
    pub(super) fn name_linked(
        &self,
        hit: &mut Hit<'_>,
        site: &Site,
        token: &str,
    ) -> Result<(), Refusal> {
        let page = self.page_origin().ok_or(Refusal(Reason::Origin))?;
        if !cors::is_known(std::slice::from_ref(site), &page) {
            return Err(Refusal(Reason::Origin));
        }
        let from = origin_of(&hit.referrer).unwrap_or_default();
        let scope = LinkScope {
            from: &from,
            to: page.split_once("://").map_or("", |(_, host)| host),
            user_agent: self.headers.user_agent,
        };
        let opened = self.edge.keyring.open_link(token, &scope, self.now);
        let opened = opened.ok_or(Refusal(Reason::LinkToken))?;
        let may_link = LinkPermit::new(hit.permit).is_some();
        let linked = Some(opened.visitor).filter(|linked| may_link && hit.visitor != Some(*linked));
        *hit = Hit {
            permit: hit.permit,
            consent_source: hit.consent_source,
            flags: hit.flags.with(Flags::ONE_TIME),
            visitor: hit.visitor,
            client_ip: hit.client_ip,
            user_agent: std::mem::take(&mut hit.user_agent),
            hints: std::mem::take(&mut hit.hints),
            page_url: std::mem::take(&mut hit.page_url),
            referrer: std::mem::take(&mut hit.referrer),
            // By which a second use is known, as by a click's.
            event_id: URL_SAFE_NO_PAD.encode(opened.nonce).into(),
            occurred_at: Some(opened.sealed_at),
            partner_uid: linked.map(|id| id.to_string()).unwrap_or_default().into(),
            ..Hit::new(hit.received_at, Kind::Sync, std::mem::take(&mut hit.site))
        };
        Ok(())
    }

    /// Returns whether hits may bring the token of a link: those that pages send themselves.
    pub(super) fn takes_links(&self) -> bool {
        matches!(self.endpoint, Endpoint::Event | Endpoint::Pixel)
    }

    /// Returns the origin of the page that sends, as its browser says it: a picture's request says
    /// it in `Referer` alone.
    fn page_origin(&self) -> Option<String> {
        match self.headers.origin {
            Some(origin) => Some(origin.to_owned()),
            None => origin_of(str::from_utf8(self.headers.referer).ok()?),
        }
    }
}

/// Returns the origin of an address, as browsers write it.
fn origin_of(address: &str) -> Option<String> {
    let origin = Url::parse(address).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}
