//! What every endpoint does with a request: site, permit, visitor, and into the spool.

use std::borrow::Cow;
use std::net::IpAddr;

use spool::AppendError;

use super::mint::Mint;
use crate::clock::{self, UnixMicros};
use crate::config::{Partner, ProxyHeader, Site};
use crate::consent::Signals;
use crate::consent::{self, PermitRules};
use crate::edge::{Edge, Peer, Refusal, Worker};
use crate::endpoint::Endpoint;
use crate::hit::{Flags, Hit, Kind, Permit, VisitorId};
use crate::protocol::native;
use crate::refusal::Reason;
use crate::request::{self, ForwardedHeader, Headers};
use crate::visitor::{Party, lies_within, set_cookie};

/// One request's circumstances, the same for each of its events.
pub(crate) struct Request<'r> {
    pub(crate) edge: &'r Edge,
    pub(crate) mint: &'r Mint,
    pub(crate) headers: &'r Headers<'r>,
    pub(crate) peer: Peer,
    /// The client's address, behind trusted proxies. It is in the spool whatever `privacy.client_ip` says,
    /// if the permit has `measure`, and gone with its chunk; what Postgres gets of it the loader decides.
    pub(crate) client: IpAddr,
    pub(crate) now: UnixMicros,
    /// Whatever happened, it is an ad that is measured (purpose 7 of TCF), not the page.
    pub(crate) is_about_ad: bool,
    /// A partner's server speaks: its address and its cookies are nobody's.
    pub(crate) is_from_server: bool,
}

/// The visitor that a request turned out to have. Decided once for a request, so that all events of
/// an array have one visitor.
#[derive(Default)]
pub(crate) struct Visit {
    visitor: Option<VisitorId>,
    is_new: bool,
    /// The `Set-Cookie` header of the reply.
    pub(crate) cookie: Option<String>,
}

impl<'r> Request<'r> {
    /// Of a request for `endpoint`.
    pub(crate) fn new(
        worker: &'r Worker,
        edge: &'r Edge,
        headers: &'r Headers<'r>,
        peer: Peer,
        endpoint: Endpoint,
    ) -> Request<'r> {
        let http = &edge.config.http;
        Request {
            edge,
            mint: &worker.mint,
            headers,
            peer,
            client: request::client_ip(
                peer.ip,
                headers,
                http.forwarded_header.into(),
                &http.trusted_proxies,
            ),
            now: clock::now(),
            is_about_ad: matches!(
                endpoint,
                Endpoint::Impression | Endpoint::Click | Endpoint::Callback
            ),
            is_from_server: endpoint == Endpoint::Callback,
        }
    }

    /// The site that the hit names or, where it names none, the one that has the request's host.
    pub(crate) fn site(&self, named: &str) -> Result<&'r Site, Refusal> {
        let sites = &self.edge.config.sites;
        if !named.is_empty() {
            return sites
                .iter()
                .find(|site| site.key == named)
                .ok_or(Refusal(Reason::SiteUnknown));
        }
        let host = self.host();
        sites
            .iter()
            .find(|site| {
                site.hosts
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(host))
            })
            .ok_or(Refusal(Reason::SiteMissing))
    }

    /// The site that a query string names or that has the request's host.
    pub(crate) fn site_of(&self, query: &'r str) -> Result<&'r Site, Refusal> {
        let mut hit = Hit::new(self.now, Kind::PageView, "");
        native::query(query, &mut hit, &mut Signals::default());
        self.site(&hit.site)
    }

    /// The host without its port.
    fn host(&self) -> &'r str {
        let host = self.headers.host.unwrap_or_default();
        match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        }
    }

    /// Decides the permit of a hit and takes from the hit what it does not allow.
    pub(crate) fn admit(
        &self,
        hit: &mut Hit<'r>,
        signals: &Signals<'_>,
        visit: &mut Visit,
    ) -> Result<(), Refusal> {
        let site = self.site(&hit.site)?;
        hit.site = Cow::Borrowed(&site.key);
        let rules = self.rules(site, &hit.partner)?;
        self.spend(hit)?;
        let measured = if self.is_about_ad {
            Kind::Impression
        } else {
            hit.kind
        };
        (hit.permit, hit.consent_source) =
            consent::decide(signals, &rules, measured, &self.edge.strings);
        if hit.permit.allows(Permit::STORE) && !self.is_from_server {
            self.identify(site, hit, visit);
        }
        if hit.permit.allows(Permit::MEASURE) && !self.is_from_server {
            hit.client_ip = Some(self.client);
            if let Some(origin) = self.headers.origin
                && !site.origins.is_empty()
                && !site.origins.iter().any(|known| known == origin)
            {
                hit.flags.set(Flags::FOREIGN_ORIGIN);
            }
        }
        consent::strip(hit);
        Ok(())
    }

    /// The partner of that key.
    pub(crate) fn partner(&self, key: &str) -> Result<&'r Partner, Refusal> {
        let partners = &self.edge.config.partners;
        partners
            .iter()
            .find(|known| known.key == key)
            .ok_or(Refusal(Reason::PartnerUnknown))
    }

    /// The rules of the partner that the hit names, else those of its site.
    fn rules(&self, site: &Site, partner: &str) -> Result<PermitRules, Refusal> {
        if partner.is_empty() {
            return Ok(PermitRules::from(site));
        }
        self.partner(partner).map(PermitRules::from)
    }

    /// Takes the hit from what its client may send. One that is over the limit is flagged or, if the
    /// configuration says so, refused; but not a click, behind which somebody waits for a page. A callback
    /// comes from a partner's server, which speaks for many clients.
    fn spend(&self, hit: &mut Hit<'_>) -> Result<(), Refusal> {
        let Some(allowances) = &self.edge.allowances else {
            return Ok(());
        };
        if hit.kind == Kind::Callback || allowances.take(self.client, clock::monotonic()) {
            return Ok(());
        }
        self.edge.metrics.over_limit.increment(1);
        if self.edge.config.limit.drop && hit.kind != Kind::Click {
            return Err(Refusal(Reason::OverLimit));
        }
        hit.flags.set(Flags::OVER_LIMIT);
        Ok(())
    }

    fn identify(&self, site: &Site, hit: &mut Hit<'_>, visit: &mut Visit) {
        let party = self.party(site);
        if visit.visitor.is_none() {
            *visit = self.visit(party);
        }
        hit.visitor = visit.visitor;
        if visit.is_new {
            hit.flags.set(Flags::NEW_VISITOR);
        }
        if party == Party::Third {
            hit.flags.set(Flags::THIRD_PARTY);
        }
    }

    fn visit(&self, party: Party<'_>) -> Visit {
        let config = &self.edge.config;
        let known = self
            .headers
            .cookies(&config.cookie.name)
            .find_map(|value| self.edge.keyring.verify(value, self.now));
        if known.is_some() {
            return Visit {
                visitor: known,
                ..Visit::default()
            };
        }
        let age_seconds = i64::try_from(config.cookie.max_age.as_secs()).unwrap_or(0);
        let cookie = self.mint.id().and_then(|visitor| {
            let value = self.edge.keyring.sign(visitor, self.now)?;
            let cookie = set_cookie(
                &config.cookie.name,
                &value,
                party,
                self.is_secure(),
                age_seconds,
            )?;
            Some((visitor, cookie))
        });
        match cookie {
            Some((visitor, cookie)) => Visit {
                visitor: Some(visitor),
                is_new: true,
                cookie: Some(cookie),
            },
            None => Visit::default(),
        }
    }

    /// Whether the request came by https, as far as the connection or a trusted proxy tells.
    pub(crate) fn is_secure(&self) -> bool {
        self.peer.tls
            || request::forwarded_https(
                self.peer.ip,
                self.headers,
                &self.edge.config.http.trusted_proxies,
            )
    }

    /// First party where the browser says so, or where the page's host lies in the site's domain.
    pub(crate) fn party<'s>(&self, site: &'s Site) -> Party<'s> {
        let host = self.host();
        let domain = site
            .cookie_domain
            .as_deref()
            .filter(|domain| lies_within(host, domain));
        let first_party = match self.headers.fetch_site {
            Some(relation) => matches!(relation, "same-origin" | "same-site" | "none"),
            None => match self.headers.page_host() {
                Some(page) => {
                    page == host || domain.is_some_and(|domain| lies_within(page, domain))
                }
                None => true,
            },
        };
        if first_party {
            Party::First { domain }
        } else {
            Party::Third
        }
    }
}

impl Worker {
    /// Puts hits into the spool and waits until it holds them.
    pub(crate) async fn record(&self, hits: &[Hit<'_>]) -> Result<(), Refusal> {
        let pending = self.appender.append_all(
            hits.iter()
                .map(|hit| move |out: &mut Vec<u8>| hit.encode(out)),
        )?;
        pending.await?;
        hits.iter().for_each(|hit| self.metrics.hit(hit));
        self.edge.get().live.hits(hits);
        Ok(())
    }
}

impl From<ProxyHeader> for ForwardedHeader {
    fn from(header: ProxyHeader) -> ForwardedHeader {
        match header {
            ProxyHeader::XForwardedFor => ForwardedHeader::XForwardedFor,
            ProxyHeader::Forwarded => ForwardedHeader::Forwarded,
        }
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Refusal {
        Refusal(match error {
            AppendError::Full => Reason::SpoolFull,
            AppendError::Io => Reason::SpoolFailed,
            AppendError::TooLarge => Reason::HitTooLarge,
            AppendError::Closed => Reason::Stopping,
        })
    }
}
