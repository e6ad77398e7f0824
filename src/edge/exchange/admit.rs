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
use crate::visitor::{CookieKind, Party, ProvedVisitor, set_cookie};

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

    /// Returns the rules of the partner that the hit names, or else those of its site.
    fn rules(&self, site: &Site, partner: &str) -> Result<PermitRules, Refusal> {
        if partner.is_empty() {
            return Ok(PermitRules::from(site));
        }
        self.partner(partner).map(PermitRules::from)
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
        let config = &self.edge.config;
        let values = self.headers.cookies(&config.cookie.name);
        if let Some((known, differ)) = self.edge.keyring.choose(values, self.now) {
            if known.is_impossible(self.now) {
                return Visit {
                    is_impossible: true,
                    ..Visit::default()
                };
            }
            if !known.is_expired {
                let cookies = if differ {
                    self.keep_alone(known, party)
                } else {
                    Vec::new()
                };
                return Visit {
                    visitor: Some(known.visitor),
                    cookies,
                    ..Visit::default()
                };
            }
        }
        let age_seconds = self.cookie_age_seconds();
        let cookie = self.worker.mint.id().and_then(|visitor| {
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
                cookies: vec![cookie],
                ..Visit::default()
            },
            None => Visit::default(),
        }
    }

    /// Makes the cookies that leave a browser with several IDs only the one that holds, for the
    /// rest of its time.
    fn keep_alone(&self, known: ProvedVisitor, party: Party<'_>) -> Vec<String> {
        let age_seconds = self.now.seconds() - known.made_at.seconds();
        let left_seconds = (self.cookie_age_seconds() - age_seconds).max(0);
        let value = self.edge.keyring.sign(known.visitor, known.made_at);
        let name = &self.edge.config.cookie.name;
        value.map_or_else(Vec::new, |value| {
            self.reach(party, &self.lower_host()).replace(
                CookieKind::Visitor,
                name,
                &value,
                left_seconds,
            )
        })
    }

    fn cookie_age_seconds(&self) -> i64 {
        i64::try_from(self.edge.config.cookie.max_age.as_secs()).unwrap_or(0)
    }
}
