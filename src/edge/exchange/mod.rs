//! One request and its reply: what every endpoint does with them.
//!
//! [`respond`] has the rules that hold for every request. An endpoint that records hits lets the
//! protocol read drafts, [`Exchange::admit`]s them and [`Exchange::record`]s them.

mod admit;
pub(crate) mod allowance;
pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod charge;
mod check;
mod choice;
mod claims;
pub(crate) mod cors;
pub(crate) mod https;
pub(crate) mod instruction;
mod linked;
pub(crate) mod mint;
mod record;
pub(crate) mod reply;
pub(crate) mod respond;
mod user;

use std::net::IpAddr;
use std::time::Instant;

use hyper::{Method, StatusCode, Version};

pub(crate) use admit::Visit;

use crate::admin::live::RefusedRequest;
use crate::clock::{self, UnixMicros};
use crate::config::{Partner, ProxyHeader, Site, System};
use crate::edge::text::Language;
use crate::edge::{Edge, Peer, Refusal, Worker, router};
use crate::endpoint::{Endpoint, Protocol};
use crate::protocol::{Arrival, native};
use crate::refusal::Reason;
use crate::request::{self, ForwardedHeader, Headers};
use crate::visitor::{HostKeyring, Party, ProvedVisitor, Reach, lies_within};

/// One request with its circumstances, which are the same for each of its events.
pub(crate) struct Exchange<'r> {
    pub(crate) worker: &'r Worker,
    pub(crate) edge: &'r Edge,
    pub(crate) headers: &'r Headers<'r>,
    pub(crate) line: Line<'r>,
    pub(crate) endpoint: Endpoint,
    pub(crate) peer: Peer,
    /// The client's address, behind trusted proxies. If the permit has `measure`, the spool holds
    /// it whatever `privacy.client_ip` says, until its chunk is deleted; the loader decides
    /// how much of it Postgres gets.
    pub(crate) client: IpAddr,
    pub(crate) now: UnixMicros,
    started: Instant,
}

/// What a refused event names.
#[derive(Clone, Copy, Default)]
pub(crate) struct Mentioned<'m> {
    /// Its site and its partner. Where they are empty, the query string tells.
    pub(crate) site: &'m str,
    pub(crate) partner: &'m str,
    /// The field that is to blame, by its tracker's own name.
    pub(crate) field: &'m str,
}

/// What the first line of a request says, and in HTTP/2 the headers in its place.
#[derive(Clone, Copy)]
pub(crate) struct Line<'r> {
    pub(crate) method: &'r Method,
    pub(crate) version: Version,
    /// The scheme in the request's target, as requests to proxies and HTTP/2 have it.
    pub(crate) scheme: Option<&'r str>,
    /// The host in the target, as they have it.
    pub(crate) authority: Option<&'r str>,
    /// Path and query, as sent.
    pub(crate) target: &'r str,
    pub(crate) path: &'r str,
    pub(crate) query: &'r str,
    /// How many bytes the request's header has, this line included.
    pub(crate) header_bytes: usize,
}

impl<'r> Exchange<'r> {
    /// Takes in a request for `endpoint`.
    pub(crate) fn new(
        (worker, edge): (&'r Worker, &'r Edge),
        peer: Peer,
        endpoint: Endpoint,
        line: Line<'r>,
        headers: &'r Headers<'r>,
    ) -> Exchange<'r> {
        let http = &edge.config.http;
        let client = request::client_ip(
            peer.ip,
            headers,
            http.forwarded_header.into(),
            &http.trusted_proxies,
        );
        Exchange {
            worker,
            edge,
            headers,
            line,
            endpoint,
            peer,
            client,
            now: clock::now(),
            started: clock::monotonic(),
        }
    }

    /// Returns what a protocol reads of the request.
    pub(crate) fn arrival(&self) -> Arrival<'r, 'r> {
        Arrival {
            endpoint: self.endpoint,
            at: self.now,
            headers: self.headers,
            path: self.line.path,
            query: self.line.query,
            choice_cookie: self.edge.config.cookie.choice_names(),
            meta_names: &self.edge.config.protocol.meta_names,
        }
    }

    /// Returns whether the request asks what a GET would say, and nobody saw anything.
    pub(crate) fn is_head(&self) -> bool {
        *self.line.method == Method::HEAD
    }

    /// Returns the language that the reader of a page prefers.
    pub(crate) fn language(&self) -> Language {
        let accepted = str::from_utf8(self.headers.accept_language);
        Language::choose(accepted.unwrap_or_default())
    }

    /// Finds the site of that key or, for an empty key, the one that has the request's host.
    pub(crate) fn site(&self, key: &str) -> Result<&'r Site, Refusal> {
        let sites = &self.edge.config.sites;
        if !key.is_empty() {
            return sites
                .iter()
                .find(|site| site.key == key)
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

    /// Finds the site that a query string names or that has the request's host.
    pub(crate) fn site_of(&self, query: &'r str) -> Result<&'r Site, Refusal> {
        self.site(&native::read_names(query).site)
    }

    /// Finds the partner of that key.
    pub(crate) fn partner(&self, key: &str) -> Result<&'r Partner, Refusal> {
        let partners = &self.edge.config.partners;
        partners
            .iter()
            .find(|known| known.key == key)
            .ok_or(Refusal(Reason::PartnerUnknown))
    }

    /// Finds the system whose key the request's path ends with.
    pub(crate) fn system(&self) -> Result<&'r System, Refusal> {
        let key = router::sender_key_of(self);
        let mut systems = self.edge.config.systems.iter();
        systems
            .find(|known| known.key == key)
            .ok_or(Refusal(Reason::SystemUnknown))
    }

    /// Returns the host that the request is for, with its port: that of the target, if it names
    /// one, whatever the header says (RFC 9112, section 3.2.2).
    pub(crate) fn authority(&self) -> &'r str {
        let named = self.line.authority.or(self.headers.host);
        named.unwrap_or_default()
    }

    /// Returns the host without its port.
    fn host(&self) -> &'r str {
        request::host_of(self.authority())
    }

    /// Returns whether the request came by https, as far as the connection or a trusted proxy
    /// tells.
    pub(crate) fn is_secure(&self) -> bool {
        self.peer.tls
            || request::forwarded_https(
                self.peer.ip,
                self.headers,
                &self.edge.config.http.trusted_proxies,
            )
    }

    /// Returns whether nobody on the way could read the request: it came by https, or from this
    /// machine. What a trusted proxy says of it counts.
    pub(crate) fn is_confidential(&self) -> bool {
        let trusted = &self.edge.config.http.trusted_proxies;
        let said = request::forwarded_is_https(self.peer.ip, self.headers, trusted);
        https::is_confidential(self.peer, said)
    }

    /// Decides whose cookie the visitor's is: the site's own where the browser says so, or where
    /// the page's host lies in the site's domain.
    pub(crate) fn party<'s>(&self, site: &'s Site) -> Party<'s> {
        let host = self.host();
        let domain = site
            .cookie_domain
            .as_deref()
            .filter(|domain| lies_within(host, domain));
        let first_party = match self.headers.fetch_site {
            Some(relation) => matches!(relation, b"same-origin" | b"same-site" | b"none"),
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

    /// Returns the keys of the visitor cookie as the request's host uses them.
    pub(crate) fn keyring(&self) -> HostKeyring<'r> {
        self.edge.keyring.at(self.host())
    }

    /// Returns every visitor whom a cookie of the request proves, that of its hits first. An
    /// expired cookie is still its visitor's, who may ask by it whatever our clock says. There are
    /// no more than a header holds.
    pub(crate) fn proved_visitors(&self) -> Vec<ProvedVisitor> {
        let names = self.edge.config.cookie.names();
        let cookies = self.headers.find_cookies(names);
        self.keyring().read_all(cookies, self.now)
    }

    /// Returns the host as cookies have it.
    pub(crate) fn lower_host(&self) -> String {
        self.host().to_ascii_lowercase()
    }

    /// Returns what decides where the cookies of `party` are kept; `host` is
    /// [`Exchange::lower_host`].
    pub(crate) fn reach<'h>(&self, party: Party<'h>, host: &'h str) -> Reach<'h> {
        Reach {
            host,
            party,
            secure: self.is_secure(),
        }
    }

    /// Shows viewers of the live view that the request, or an event of it, was refused.
    pub(crate) fn show_refusal(&self, reason: Reason, event: Mentioned<'_>) {
        let spec = self.endpoint.spec();
        let is_native = spec.protocol == Protocol::Native;
        let status = match is_native {
            true => reason.status(),
            false => answer::status(spec.protocol, reason).unwrap_or(StatusCode::OK),
        };
        let names_site = matches!(reason, Reason::SiteUnknown | Reason::SiteMissing);
        self.edge.live.show_refusal(&RefusedRequest {
            at: self.now,
            spec,
            reason,
            status,
            field: match names_site {
                true => spec.protocol.spec().site_field,
                false => event.field,
            },
            site: event.site,
            partner: event.partner,
            host: self.authority(),
            origin: self.headers.origin.unwrap_or_default(),
            path: self.line.path,
            // A partner's token may stand in its query, and a tracker has other names.
            query: match spec.is_from_server || !is_native {
                true => "",
                false => self.line.query,
            },
        });
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
