//! From draft to hit: its site, its permit, its visitor. What the permit does not allow leaves it
//! here.

use std::borrow::Cow;

use super::Exchange;
use super::charge::Charge;
use super::claims::{self, Speaker};
use super::user::Login;
use crate::click;
use crate::config::{Conversions, Partner, Site, System};
use crate::consent::{self, PermitRules, Signals};
use crate::edge::Refusal;
use crate::endpoint::{Endpoint, Protocol};
use crate::hit::{ConsentSource, Flags, Hit, Kind, Permit, VisitorId};
use crate::protocol::Draft;
use crate::refusal::Reason;
use crate::visitor::{Chosen, CookieKind, Party, ProvedVisitor, set_cookie};

/// The visitor that a request turned out to have. It is decided once for a request, so that all
/// events of an array have one visitor.
#[derive(Default)]
pub(crate) struct Visit<'r> {
    is_decided: bool,
    visitor: Option<VisitorId>,
    is_new: bool,
    /// Whether the browser has a cookie of ours that is older than can be.
    is_impossible: bool,
    /// The `Set-Cookie` headers of the reply.
    pub(crate) cookies: Vec<String>,
    /// The site on which a record of a dialogue said that the visitor refuses.
    pub(super) refuses_on: Option<&'r Site>,
    /// What the last event of the same signals was decided, in an array of events.
    verdict: Option<Box<Verdict>>,
    party: Option<(&'r Site, Party<'r>)>,
    is_array: bool,
}

/// The rules that decide, and those that have to allow it as well.
type Rules = (PermitRules, Option<PermitRules>);

/// What was decided of an event, and of what.
struct Verdict {
    signals: [Option<(*const u8, usize)>; 4],
    choice: Option<Permit>,
    rules: Rules,
    kind: Kind,
    permit: Permit,
    source: ConsentSource,
}

impl Visit<'_> {
    /// Returns the visit of an array of events, which outlives them all.
    pub(crate) fn of_array() -> Self {
        Visit {
            is_array: true,
            ..Visit::default()
        }
    }

    /// Decides, unless the event before had the very same signals: those of the address, and the
    /// same choice, which a system's event may bring itself.
    fn decide(
        &mut self,
        signals: &Signals<'_>,
        rules: &Rules,
        kind: Kind,
        decide: impl FnOnce() -> (Permit, ConsentSource),
    ) -> (Permit, ConsentSource) {
        let texts = [&signals.gdpr, &signals.tcf, &signals.gpp, &signals.gpp_sid];
        // A text of the event's own may be gone when another one lies at its place.
        let are_lent = texts
            .iter()
            .all(|text| !matches!(text, Some(Cow::Owned(_))));
        if !self.is_array || signals.is_unclear || !are_lent {
            return decide();
        }
        let texts = texts.map(|text| text.as_deref().map(|text| (text.as_ptr(), text.len())));
        if let Some(known) = &self.verdict
            && known.signals == texts
            && known.choice == signals.choice
            && known.rules == *rules
            && known.kind == kind
        {
            return (known.permit, known.source);
        }
        let (permit, source) = decide();
        self.verdict = Some(Box::new(Verdict {
            signals: texts,
            choice: signals.choice,
            rules: *rules,
            kind,
            permit,
            source,
        }));
        (permit, source)
    }
}

impl<'r> Exchange<'r> {
    /// Decides the permit of a draft's hit and takes from the hit what the permit does not allow.
    /// What is left may be recorded.
    pub(crate) fn admit<'d>(
        &self,
        draft: &mut Draft<'d>,
        charge: Charge,
        visit: &mut Visit<'r>,
    ) -> Result<(), Refusal>
    where
        'r: 'd,
    {
        let Draft {
            hit,
            signals,
            user,
            user_sig,
            link,
            claims,
        } = draft;
        let spec = self.endpoint.spec();
        hit.protocol = spec.protocol;
        let claims = claims.as_deref();
        let site = match claims {
            None => self.site(&hit.site),
            Some(claims) => self.site_of_tracker(&claims.site_alias),
        }?;
        hit.site = Cow::Borrowed(&site.key);
        let system = self.system_for(site, hit)?;
        let partner = self.partner_for(site, &hit.partner)?;
        charge.flag(hit);
        let of_site = match system {
            None => PermitRules::from(site),
            Some(system) => system.rules_for(site),
        };
        let (mut rules, measured) = self.rules(hit, of_site, partner);
        let has_consent =
            claims.is_some_and(|claims| claims::has_matomo_consent(claims, spec, site));
        if has_consent && partner.is_none() {
            rules.0.default_permit = site.matomo_consent_permit;
        }
        (hit.permit, hit.consent_source) = visit.decide(signals, &rules, measured, || {
            let (first, strings) = (&rules.0, &self.edge.strings);
            match &rules.1 {
                None => consent::decide(signals, first, measured, strings),
                Some(both) => consent::decide_by_both(signals, (both, first), measured, strings),
            }
        });
        let speaker = match claims {
            None => Speaker::of(spec),
            Some(claims) => self.weigh(claims, site, hit),
        };
        if speaker.is_anonymous {
            self.end_visitor(site, visit);
        }
        if claims.is_some_and(|claims| claims.keeps_cookies && claims::refuses(claims, site)) {
            visit.refuses_on = Some(site);
            visit.is_decided = true;
        }
        if hit.permit.allows(Permit::STORE) && speaker.is_visitor {
            self.identify(site, hit, visit, speaker.keeps_cookies);
            if spec.protocol == Protocol::Snowplow && visit.is_new {
                claims::carry_over(self.headers, hit);
            }
        }
        if hit.permit.allows(Permit::MEASURE) && speaker.is_visitor {
            hit.client_ip = Some(self.client);
            if let Some(origin) = self.headers.origin
                && !site.origins.is_empty()
                && !site.origins.iter().any(|known| known == origin)
            {
                hit.flags.set(Flags::FOREIGN_ORIGIN);
            }
        }
        self.note_proof(hit, site);
        if claims.is_some_and(|claims| claims.is_event_id_personal)
            && !hit.permit.allows(Permit::STORE)
        {
            hit.event_id = Cow::Borrowed("");
        }
        if !link.is_empty() && self.takes_links() {
            self.name_linked(hit, site, link)?;
            *user = Cow::Borrowed("");
        }
        let login = Login {
            user,
            signature: user_sig,
        };
        self.strip(hit, site, login);
        if partner.is_some_and(|partner| partner.attributes.is_some()) {
            let taken = self.edge.manifests.take(hit, &self.edge.user_keyring);
            if taken.is_err() {
                self.edge.metrics.attributes_rejected.increment(1);
            }
        }
        Ok(())
    }

    /// Returns the partner that a hit names, which must be one that may write for the site.
    fn partner_for(&self, site: &Site, key: &str) -> Result<Option<&Partner>, Refusal> {
        if key.is_empty() {
            return Ok(None);
        }
        let partner = self.partner(key)?;
        match partner.may_write_for(&site.key) {
            true => Ok(Some(partner)),
            false => Err(Refusal(Reason::PartnerSite)),
        }
    }

    /// Returns the system that sends, which must be one that may write for the site, and its event
    /// one with a name; `None` if no system does.
    fn system_for(&self, site: &Site, hit: &Hit<'_>) -> Result<Option<&System>, Refusal> {
        if self.endpoint != Endpoint::System {
            return Ok(None);
        }
        let system = self.system()?;
        if !system.may_write_for(&site.key) {
            return Err(Refusal(Reason::SystemSite));
        }
        match hit.event_name.is_empty() {
            true => Err(Refusal(Reason::SystemEvent)),
            false => Ok(Some(system)),
        }
    }

    /// Returns the rules of the partner that the hit names, or else those of its site or system,
    /// and as what kind of hit it is judged. What happened on the site's pages needs both, because
    /// a sender names what it likes.
    fn rules(
        &self,
        hit: &Hit<'_>,
        of_site: PermitRules,
        partner: Option<&Partner>,
    ) -> (Rules, Kind) {
        let is_about_ad = self.endpoint.spec().is_about_ad;
        let kind = if is_about_ad {
            Kind::Impression
        } else {
            hit.kind
        };
        let Some(partner) = partner else {
            return ((of_site, None), kind);
        };
        let is_of_site = match hit.kind {
            Kind::PageView => true,
            // An ad pixel sends the events of a video, but a conversion is one of the site's.
            Kind::Event => !is_about_ad || hit.is_conversion(),
            _ => false,
        };
        let rules = (PermitRules::from(partner), is_of_site.then_some(of_site));
        (rules, kind)
    }

    /// Notes whether a click or a conversion counts as net only with a proof, and whether a
    /// conversion has one: a pixel may, and what a system reports does. A callback is proved by its
    /// kind.
    fn note_proof(&self, hit: &mut Hit<'_>, site: &Site) {
        let is_conversion = hit.is_conversion();
        if !is_conversion && hit.kind != Kind::Click {
            return;
        }
        if site.conversions == Conversions::Signed {
            hit.flags.set(Flags::SIGNED_ONLY);
        }
        if hit.flags.has(Flags::SYSTEM) {
            hit.flags.set(Flags::SIGNED);
        }
        // A body could replace what the address says, so only a pixel's address is believed.
        if is_conversion && self.endpoint == Endpoint::Pixel {
            let keyring = &self.edge.click_keyring;
            if click::is_signed_conversion(self.line.query, keyring, &site.key, self.now) {
                hit.flags.set(Flags::SIGNED);
            }
        }
    }

    /// Finds the hit's visitor. A new one is made only if `makes_new`.
    fn identify(&self, site: &'r Site, hit: &mut Hit<'_>, visit: &mut Visit<'r>, makes_new: bool) {
        let party = match visit.party {
            Some((known, party)) if std::ptr::eq(known, site) => party,
            _ => self.party(site),
        };
        visit.party = Some((site, party));
        if !visit.is_decided {
            self.find_visitor(party, visit, makes_new);
            visit.is_decided = true;
        }
        hit.visitor = visit.visitor;
        if visit.is_impossible {
            // To forget the ID could undo a withdrawal, and to use it could be too late.
            hit.permit = Permit::NONE;
        }
        if visit.is_new {
            hit.flags.set(Flags::NEW_VISITOR);
        }
        if party == Party::Third {
            hit.flags.set(Flags::THIRD_PARTY);
        }
    }

    /// Verifies the visitor's cookie. If there is none to believe and `makes_new` is set, makes a
    /// new one.
    fn find_visitor(&self, party: Party<'_>, visit: &mut Visit<'_>, makes_new: bool) {
        let names = self.edge.config.cookie.names();
        let cookies = self.headers.find_cookies(names);
        let keyring = self.keyring();
        if let Some(known) = keyring.choose(cookies, self.now) {
            if known.proved.is_impossible(self.now) {
                visit.is_impossible = true;
                return;
            }
            if !known.proved.is_expired {
                visit.visitor = Some(known.proved.visitor);
                visit.cookies = self.keep(&known, party);
                return;
            }
        }
        if !makes_new {
            return;
        }
        let age_seconds = self.cookie_age_seconds();
        let cookie = self.worker.mint.id().and_then(|visitor| {
            let value = keyring.sign(visitor, party.domain(), self.now)?;
            let secure = self.is_secure();
            let cookie = set_cookie(names.name, &value, party, secure, age_seconds)?;
            Some((visitor, cookie))
        });
        if let Some((visitor, cookie)) = cookie {
            visit.visitor = Some(visitor);
            visit.is_new = true;
            visit.cookies = vec![cookie];
        }
    }

    /// Ends the visitor's cookie, once for a request that has one.
    fn end_visitor(&self, site: &Site, visit: &mut Visit<'_>) {
        let names = self.edge.config.cookie.names();
        if visit.is_decided || self.headers.find_cookies(names).next().is_none() {
            return;
        }
        visit.is_decided = true;
        let host = self.lower_host();
        let reach = self.reach(self.party(site), &host);
        visit.cookies = reach.end(CookieKind::Visitor, names);
    }

    /// Makes the cookies that keep a visitor's ID for the rest of its time; none where it is kept
    /// as it should be. A renamed cookie gets its new name, and a value that is bound to the scope.
    fn keep(&self, known: &Chosen<'_>, party: Party<'_>) -> Vec<String> {
        let ProvedVisitor {
            visitor, made_at, ..
        } = known.proved;
        let value = if known.is_to_be_moved {
            let keyring = self.keyring();
            keyring
                .sign(visitor, party.domain(), made_at)
                .map(Cow::Owned)
        } else {
            known
                .is_one_of_unbound
                .then_some(Cow::Borrowed(known.value))
        };
        let Some(value) = value else {
            return Vec::new();
        };
        let left_seconds = self.cookie_age_seconds() - (self.now.seconds() - made_at.seconds());
        let names = self.edge.config.cookie.names();
        self.reach(party, &self.lower_host()).replace(
            CookieKind::Visitor,
            names,
            &value,
            left_seconds.max(0),
        )
    }

    fn cookie_age_seconds(&self) -> i64 {
        i64::try_from(self.edge.config.cookie.max_age.as_secs()).unwrap_or(0)
    }
}
