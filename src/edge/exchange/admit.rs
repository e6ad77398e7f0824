//! From draft to hit: its site, its permit, its visitor. What the permit does not allow leaves it
//! here.

use std::borrow::Cow;

use super::Exchange;
use crate::clock;
use crate::config::Site;
use crate::consent::{self, PermitRules};
use crate::edge::Refusal;
use crate::hit::{Flags, Hit, Kind, Permit, VisitorId};
use crate::protocol::Draft;
use crate::refusal::Reason;
use crate::visitor::{Chosen, CookieKind, Party, ProvedVisitor, set_cookie};

/// The visitor that a request turned out to have. It is decided once for a request, so that all
/// events of an array have one visitor.
#[derive(Default)]
pub(crate) struct Visit {
    visitor: Option<VisitorId>,
    is_new: bool,
    /// Whether the browser has a cookie of ours that is older than can be.
    is_impossible: bool,
    /// The `Set-Cookie` headers of the reply.
    pub(crate) cookies: Vec<String>,
}

impl<'r> Exchange<'r> {
    /// Decides the permit of a draft's hit and takes from the hit what the permit does not allow.
    /// What is left may be recorded.
    pub(crate) fn admit(&self, draft: &mut Draft<'r>, visit: &mut Visit) -> Result<(), Refusal> {
        let Draft { hit, signals } = draft;
        let spec = self.endpoint.spec();
        let site = self.site(&hit.site)?;
        hit.site = Cow::Borrowed(&site.key);
        let rules = self.rules(site, &hit.partner)?;
        self.spend_allowance(hit)?;
        let measured = if spec.is_about_ad {
            Kind::Impression
        } else {
            hit.kind
        };
        (hit.permit, hit.consent_source) =
            consent::decide(signals, &rules, measured, &self.edge.strings);
        if hit.permit.allows(Permit::STORE) && !spec.is_from_server {
            self.identify(site, hit, visit);
        }
        if hit.permit.allows(Permit::MEASURE) && !spec.is_from_server {
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

    /// Returns the rules of the partner that the hit names, or else those of its site. The partner
    /// must be one that may write for the site.
    fn rules(&self, site: &Site, partner: &str) -> Result<PermitRules, Refusal> {
        if partner.is_empty() {
            return Ok(PermitRules::from(site));
        }
        let partner = self.partner(partner)?;
        if partner.may_write_for(&site.key) {
            Ok(PermitRules::from(partner))
        } else {
            Err(Refusal(Reason::PartnerSite))
        }
    }

    /// Takes the hit from what its client may send. A hit over the limit is flagged or, if the
    /// configuration says so, refused. A click is never refused, because somebody waits for the
    /// page behind it. A callback spends nothing: it comes from a partner's server, which
    /// speaks for many clients.
    fn spend_allowance(&self, hit: &mut Hit<'_>) -> Result<(), Refusal> {
        let Some(allowances) = &self.edge.allowances else {
            return Ok(());
        };
        if hit.kind == Kind::Callback || allowances.spend(self.client, clock::monotonic()) {
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
            *visit = self.find_visitor(party);
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

    /// Verifies the visitor's cookie or, if there is none to believe, makes a new one.
    fn find_visitor(&self, party: Party<'_>) -> Visit {
        let names = self.edge.config.cookie.names();
        let cookies = self.headers.find_cookies(names);
        let keyring = self.keyring();
        if let Some(known) = keyring.choose(cookies, self.now) {
            if known.proved.is_impossible(self.now) {
                return Visit {
                    is_impossible: true,
                    ..Visit::default()
                };
            }
            if !known.proved.is_expired {
                return Visit {
                    visitor: Some(known.proved.visitor),
                    cookies: self.keep(&known, party),
                    ..Visit::default()
                };
            }
        }
        let age_seconds = self.cookie_age_seconds();
        let cookie = self.worker.mint.id().and_then(|visitor| {
            let value = keyring.sign(visitor, party.domain(), self.now)?;
            let secure = self.is_secure();
            let cookie = set_cookie(names.name, &value, party, secure, age_seconds)?;
            Some((visitor, cookie))
        });
        match cookie {
            Some((visitor, cookie)) => Visit {
                visitor: Some(visitor),
                is_new: true,
                cookies: vec![cookie],
                ..Visit::default()
            },
            None => Visit::default(),
        }
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
