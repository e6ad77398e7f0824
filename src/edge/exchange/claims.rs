//! What trackers of other makers claim: which site they are about, what the visitor agreed to, and
//! whom the request speaks for. A claim only ever narrows what the configuration allows without it,
//! but for those that the site's own configuration says to believe.

use std::borrow::Cow;
use std::mem;

use super::Exchange;
use crate::config::Site;
use crate::edge::Refusal;
use crate::endpoint::{EndpointSpec, Protocol};
use crate::hit::limits::USER_AGENT_BYTES_MAX;
use crate::hit::{ConsentSource, Flags, Hit, Permit};
use crate::protocol::Claims;
use crate::protocol::text::clean;
use crate::refusal::Reason;
use crate::request::agent;

/// The category by which Matomo's tracker says that it has consent.
const MATOMO_CONSENT: &str = "consent";

/// How much of an alias is shown, in bytes.
const ALIAS_SHOWN_BYTES: usize = 64;

/// Returns what a protocol's trackers call the field that names their site.
pub(super) fn site_field(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Native => "",
        Protocol::Snowplow => "aid",
        Protocol::Segment => "writeKey",
        Protocol::Matomo => "idsite",
        Protocol::Plausible => "domain",
    }
}

/// Returns what the live view shows of the site that a tracker names. A write key is not shown.
pub(super) fn shown_site<'c>(claims: &'c Claims, protocol: Protocol) -> &'c str {
    let alias = match protocol {
        Protocol::Segment => "",
        _ => &claims.site_alias,
    };
    let end = alias.floor_char_boundary(ALIAS_SHOWN_BYTES);
    alias.get(..end).unwrap_or_default()
}

/// Whom a request speaks for.
#[derive(Clone, Copy)]
pub(super) struct Speaker {
    /// Its address and its cookies are the visitor's.
    pub(super) is_visitor: bool,
    /// It keeps a new cookie.
    pub(super) keeps_cookies: bool,
    /// Nothing may be kept of who it is.
    pub(super) is_anonymous: bool,
}

impl Speaker {
    /// Returns who sends to an endpoint of our own.
    pub(super) fn of(spec: &EndpointSpec) -> Speaker {
        Speaker {
            is_visitor: !spec.is_from_server,
            keeps_cookies: true,
            is_anonymous: false,
        }
    }
}

impl<'r> Exchange<'r> {
    /// Finds the site that a tracker names or, if it names none, the one that has the request's
    /// host.
    pub(super) fn site_of_tracker(&self, claims: &Claims) -> Result<&'r Site, Refusal> {
        let alias = &claims.site_alias;
        if alias.is_empty() {
            return self.site("");
        }
        let is_named = |site: &&Site| site.key == *alias || site.aliases.contains(alias);
        let mut sites = self.edge.config.sites.iter();
        sites.find(is_named).ok_or(Refusal(Reason::SiteUnknown))
    }

    /// Returns whether the client is a server that some site lets speak for its visitors.
    pub(super) fn is_trusted_by_any(&self) -> bool {
        self.endpoint.spec().protocol != Protocol::Native
            && self
                .edge
                .config
                .sites
                .iter()
                .any(|site| self.is_trusted_by(site))
    }

    fn is_trusted_by(&self, site: &Site) -> bool {
        let mut senders = site.trusted_senders.iter();
        senders.any(|network| network.contains(&self.client))
    }

    /// Narrows a hit's permit by what its tracker claims and, if the sender may say them, gives it
    /// the visitor's address and agent.
    pub(super) fn weigh(&self, claims: &Claims, site: &Site, hit: &mut Hit<'_>) -> Speaker {
        narrow(claims, self.endpoint.spec(), site, hit);
        let is_trusted = self.is_trusted_by(site);
        if is_trusted {
            take_client(claims, hit);
        }
        Speaker {
            is_visitor: !is_trusted,
            keeps_cookies: claims.keeps_cookies,
            is_anonymous: claims.is_anonymous,
        }
    }
}

/// Returns whether Matomo's tracker says that it has consent, and the site believes it.
pub(super) fn has_matomo_consent(claims: &Claims, spec: &EndpointSpec, site: &Site) -> bool {
    let is_given = |(name, is_given): &(String, bool)| name == MATOMO_CONSENT && *is_given;
    spec.protocol == Protocol::Matomo
        && site.matomo_consent_permit != Permit::NONE
        && claims.categories.iter().any(is_given)
}

/// Takes from a hit's permit what the claims do not allow.
fn narrow(claims: &Claims, spec: &EndpointSpec, site: &Site, hit: &mut Hit<'_>) {
    if spec.protocol == Protocol::Matomo {
        if has_matomo_consent(claims, spec, site) && hit.consent_source == ConsentSource::Default {
            hit.consent_source = ConsentSource::Choice;
        }
    } else if let Some((permit, source)) = permit_of_categories(&claims.categories, site) {
        let both = hit.permit.and(permit);
        if both != hit.permit {
            hit.consent_source = source;
        }
        if source == ConsentSource::Unclear {
            hit.flags.set(Flags::UNCLEAR_CONSENT);
        }
        hit.permit = both;
    }
    if claims.is_anonymous {
        hit.permit = hit.permit.and(Permit::MEASURE);
        hit.flags.set(Flags::ANONYMOUS);
    }
}

/// Returns what the categories of a consent tool allow at most, and whether that is understood;
/// `None` if they take nothing away. What a refused category takes away is not known on a site that
/// does not say it.
fn permit_of_categories(
    categories: &[(String, bool)],
    site: &Site,
) -> Option<(Permit, ConsentSource)> {
    let known = &site.consent_categories;
    if known.is_empty() {
        let is_refused = categories.iter().any(|(_, is_given)| !is_given);
        return is_refused.then_some((Permit::NONE, ConsentSource::Unclear));
    }
    let given = categories.iter().filter(|(_, is_given)| *is_given);
    let permits = given.flat_map(|(name, _)| known.iter().filter(move |(known, _)| known == name));
    let permit = permits.fold(Permit::NONE, |all, (_, permit)| all.with(*permit));
    (!categories.is_empty()).then_some((permit, ConsentSource::Choice))
}

/// Gives a hit the address and the agent that a trusted sender says. Those of the request are the
/// sender's own.
fn take_client(claims: &Claims, hit: &mut Hit<'_>) {
    hit.client_ip = claims.client_ip;
    let own = mem::take(&mut hit.user_agent);
    if agent::is_impossible(&own) {
        hit.flags = hit.flags.without(Flags::BAD_AGENT);
    }
    let told = Cow::Owned(claims.user_agent.clone());
    hit.user_agent = clean(told, USER_AGENT_BYTES_MAX, &mut hit.flags);
    if !hit.user_agent.is_empty() && agent::is_impossible(&hit.user_agent) {
        hit.flags.set(Flags::BAD_AGENT);
    }
}
