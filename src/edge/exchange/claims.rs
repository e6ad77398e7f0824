//! What trackers of other makers claim: which site they are about, what the visitor agreed to, and
//! whom the request speaks for. A claim only ever narrows what the configuration allows without it,
//! but for those that the site's own configuration says to believe.

use std::borrow::Cow;
use std::mem;

use uuid::Uuid;

use super::Exchange;
use crate::config::Site;
use crate::edge::Refusal;
use crate::endpoint::{EndpointSpec, Protocol};
use crate::hit::limits::{TRACKER_PARAMS_BYTES_MAX, USER_AGENT_BYTES_MAX};
use crate::hit::{ConsentSource, Flags, Hit, Permit};
use crate::protocol::Claims;
use crate::protocol::text::clean;
use crate::refusal::Reason;
use crate::request::{Headers, agent};

/// The category by which Matomo's tracker says that it has consent.
const MATOMO_CONSENT: &str = "consent";

/// The cookie in which Snowplow's collector kept its ID of a browser, the name of that ID in
/// `params`, and the bytes that they take there.
const SNOWPLOW_COOKIE: &str = "sp";
const NETWORK_USER: &str = "\"network_userid\"";
const NETWORK_USER_BYTES: usize = 64;

/// How much of an alias is shown, in bytes.
const ALIAS_SHOWN_BYTES: usize = 64;

/// Returns what the live view shows of the site that a tracker names. A secret is not shown.
pub(super) fn site_to_show(claims: &Claims, protocol: Protocol) -> &str {
    let alias = match protocol.spec().is_site_secret {
        true => "",
        false => &claims.site_alias,
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
    /// Returns who sends requests to an endpoint of our own.
    pub(super) fn of(spec: &EndpointSpec) -> Speaker {
        Speaker {
            is_visitor: !spec.is_from_server,
            keeps_cookies: true,
            is_anonymous: false,
        }
    }
}

impl<'r> Exchange<'r> {
    /// Finds the site that a tracker calls so or, if it names none, the one that has the request's
    /// host.
    pub(crate) fn site_of_tracker(&self, alias: &str) -> Result<&'r Site, Refusal> {
        if alias.is_empty() {
            return self.site("");
        }
        let is_named =
            |site: &&Site| site.key == alias || site.aliases.iter().any(|own| own == alias);
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

/// Returns whether the visitor refuses by what the tracker records, and the site believes it.
pub(super) fn refuses(claims: &Claims, site: &Site) -> bool {
    claims.refuses && site.snowplow_consent_narrows
}

/// Keeps, among the further parameters of a new visitor's hit, the ID that Snowplow's collector
/// gave before: rows of both can then be joined. It is never taken for the visitor.
pub(super) fn carry_over(headers: &Headers<'_>, hit: &mut Hit<'_>) {
    let mut found = headers.find_cookies(SNOWPLOW_COOKIE.into());
    let Some(id) = found.find_map(|cookie| Uuid::try_parse_ascii(cookie.value).ok()) else {
        return;
    };
    let members = match &*hit.params {
        "" => "{",
        params => params.strip_suffix('}').unwrap_or_default(),
    };
    let is_known = members.contains(NETWORK_USER);
    let is_room = members.len() + NETWORK_USER_BYTES <= TRACKER_PARAMS_BYTES_MAX;
    if id.is_nil() || is_known || !is_room || members.is_empty() {
        return;
    }
    let comma = if members == "{" { "" } else { "," };
    hit.params = Cow::Owned(format!("{members}{comma}{NETWORK_USER}:\"{id}\"}}"));
}

/// Takes from a hit's permit what the claims do not allow.
fn narrow(claims: &Claims, spec: &EndpointSpec, site: &Site, hit: &mut Hit<'_>) {
    if spec.protocol == Protocol::Matomo {
        if has_matomo_consent(claims, spec, site) && hit.consent_source == ConsentSource::Default {
            hit.consent_source = ConsentSource::Choice;
        }
        // A refusal needs no configuration to be believed.
        if claims.categories.iter().any(|(_, is_given)| !is_given) {
            hit.permit = Permit::NONE;
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
    if refuses(claims, site) {
        hit.permit = Permit::NONE;
        hit.consent_source = ConsentSource::Choice;
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

/// Gives a hit the address and the agent that a trusted sender says, and the time, however long ago
/// that is. Those of the request are the sender's own.
fn take_client(claims: &Claims, hit: &mut Hit<'_>) {
    if claims.needs_trust_for_time
        && let Some((occurred_at, is_clamped)) = claims.occurred_at(hit.received_at)
    {
        hit.occurred_at = Some(occurred_at);
        hit.made_at = claims.recordable_made_at();
        if !is_clamped {
            hit.flags = hit.flags.without(Flags::CLOCK);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMicros;
    use crate::config::Config;
    use crate::endpoint::Endpoint;
    use crate::hit::Kind;

    const BOTH: Permit = Permit::STORE.with(Permit::MEASURE);

    fn site(keys: &str) -> Site {
        let text = format!("[[site]]\nkey = \"shop\"\n{keys}");
        let config = Config::parse(&text, []).expect("a right configuration");
        config.sites.into_iter().next().expect("a site")
    }

    fn hit() -> Hit<'static> {
        let mut hit = Hit::new(UnixMicros(1), Kind::PageView, "shop");
        hit.permit = BOTH.with(Permit::PROFILE);
        hit
    }

    fn categories(names: &[(&str, bool)]) -> Claims {
        let categories = names
            .iter()
            .map(|(name, is_given)| ((*name).to_owned(), *is_given));
        Claims {
            categories: categories.collect(),
            ..Claims::default()
        }
    }

    fn narrowed(claims: &Claims, endpoint: Endpoint, site: &Site) -> (Permit, ConsentSource) {
        let mut hit = hit();
        narrow(claims, endpoint.spec(), site, &mut hit);
        (hit.permit, hit.consent_source)
    }

    #[test]
    fn categories_only_narrow_and_only_those_with_consent_permit() {
        let site = site(
            "consent_categories = { Analytics = [\"measure\"], Ads = [\"store\", \"match\"], None = [] }",
        );
        let (by_default, all) = (ConsentSource::Default, hit().permit);
        let by_choice = ConsentSource::Choice;
        for (names, decided) in [
            (&[][..], (all, by_default)),
            (&[("Analytics", true)], (Permit::MEASURE, by_choice)),
            (&[("Analytics", false)], (Permit::NONE, by_choice)),
            (&[("Analytics", true), ("Ads", true)], (BOTH, by_choice)),
            (
                &[("Analytics", true), ("Ads", false)],
                (Permit::MEASURE, by_choice),
            ),
            (&[("Other", true)], (Permit::NONE, by_choice)),
            (
                &[("analytics", true), ("None", true)],
                (Permit::NONE, by_choice),
            ),
        ] {
            let claims = categories(names);
            assert_eq!(
                narrowed(&claims, Endpoint::Segment, &site),
                decided,
                "{names:?}"
            );
        }
    }

    #[test]
    fn a_refused_category_that_no_table_explains_permits_nothing() {
        let site = site("");
        let given = categories(&[("A", true), ("B", true)]);
        let refused = categories(&[("A", true), ("B", false)]);
        let untouched = (hit().permit, ConsentSource::Default);
        assert_eq!(narrowed(&given, Endpoint::Segment, &site), untouched);
        let nothing = (Permit::NONE, ConsentSource::Unclear);
        assert_eq!(narrowed(&refused, Endpoint::Segment, &site), nothing);
    }

    #[test]
    fn matomos_consent_counts_where_the_site_says_what_it_allows() {
        let given = categories(&[("consent", true)]);
        let spec = Endpoint::Matomo.spec();
        let site_with = site("matomo_consent_permit = [\"measure\"]");
        assert!(has_matomo_consent(&given, spec, &site_with));
        assert!(!has_matomo_consent(&given, spec, &site("")));
        assert!(!has_matomo_consent(&Claims::default(), spec, &site_with));
        assert!(!has_matomo_consent(
            &given,
            Endpoint::Segment.spec(),
            &site_with
        ));
        // A table for the categories of other trackers takes nothing from it.
        let both = site(
            "matomo_consent_permit = [\"measure\"]\nconsent_categories = { A = [\"measure\"] }",
        );
        let (permit, source) = narrowed(&given, Endpoint::Matomo, &both);
        assert_eq!((permit, source), (hit().permit, ConsentSource::Choice));
    }

    #[test]
    fn an_anonymous_hit_keeps_measure_at_most() {
        let claims = Claims {
            is_anonymous: true,
            ..Claims::default()
        };
        let mut hit = hit();
        narrow(&claims, Endpoint::Snowplow.spec(), &site(""), &mut hit);
        assert_eq!(hit.permit, Permit::MEASURE);
        assert!(hit.flags.has(Flags::ANONYMOUS));
        hit.permit = Permit::STORE;
        narrow(&claims, Endpoint::Snowplow.spec(), &site(""), &mut hit);
        assert_eq!(hit.permit, Permit::NONE);
    }

    #[test]
    fn a_servers_own_address_and_agent_stand_for_no_visitor() {
        let own = || {
            let mut hit = hit();
            hit.user_agent = "node-fetch".into();
            hit.client_ip = Some([10, 0, 0, 1].into());
            hit
        };
        let mut silent = own();
        take_client(&Claims::default(), &mut silent);
        assert_eq!((&*silent.user_agent, silent.client_ip), ("", None));
        let claims = Claims {
            client_ip: Some([192, 0, 2, 7].into()),
            user_agent: "Mozilla/5.0 (X11)\u{7}".to_owned(),
            ..Claims::default()
        };
        let mut told = own();
        told.user_agent = "".into();
        told.flags.set(Flags::BAD_AGENT);
        take_client(&claims, &mut told);
        assert!(told.user_agent.starts_with("Mozilla/5.0 (X11)"));
        assert_eq!(told.client_ip, claims.client_ip);
        assert_eq!(told.flags, Flags::CLEANED);
        let bad = Claims {
            user_agent: "null".to_owned(),
            ..Claims::default()
        };
        let mut told = own();
        take_client(&bad, &mut told);
        assert!(told.flags.has(Flags::BAD_AGENT));
    }

    #[test]
    fn a_long_name_of_a_site_is_shown_in_part_and_a_write_key_never() {
        let claims = Claims {
            site_alias: "\u{e5}".repeat(100),
            ..Claims::default()
        };
        let shown = site_to_show(&claims, Protocol::Snowplow);
        assert_eq!(shown.len(), ALIAS_SHOWN_BYTES);
        assert_eq!(site_to_show(&claims, Protocol::Segment), "");
    }
}
