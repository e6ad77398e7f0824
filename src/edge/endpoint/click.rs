//! `GET /c`: an ad was clicked; `GET /r/tp2`: a link through Snowplow's collector was followed. The
//! reply is a redirect to the target, or a page that says why not.
//!
//! A valid target ([`crate::click`]) is always redirected to, whatever happens to the hit. A full
//! spool, an unknown site or partner, a permit that allows nothing or a request that breaks a rule
//! ([`lead_on`]) costs the row; it is counted and named in `Avtryck-Refusal`, and nothing else
//! happens.

use std::slice;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::Method;

use crate::click::{self, Target};
use crate::config::Site;
use crate::edge::Refusal;
use crate::edge::exchange::charge::Charge;
use crate::edge::exchange::reply::{self, Reply, WithCookie as _};
use crate::edge::exchange::{Exchange, Visit};
use crate::hit::{Flags, Kind, Permit};
use crate::protocol::{self, Draft};
use crate::refusal::Reason;
use crate::request::raw_value;

/// What must be permitted for a click to have an ID.
const ID_PERMIT: Permit = Permit::STORE.with(Permit::MEASURE);

pub(crate) async fn handle(exchange: &Exchange<'_>) -> Result<Reply, Refusal> {
    let (edge, query) = (exchange.edge, exchange.line.query);
    // A click that is refused here leads to its target all the same (`lead_on`).
    let charge = (!exchange.is_head())
        .then(|| exchange.charge())
        .transpose()?;
    let mut draft = protocol::read(&exchange.arrival());
    let site = site_of(exchange, draft.as_ref().ok());
    let target = find_target(exchange, site)?;
    let recorded = match (charge, &mut draft) {
        (Some(charge), Ok(draft)) => {
            if target.is_one_time {
                draft.hit.flags.set(Flags::ONE_TIME);
            }
            record(exchange, draft, charge).await
        }
        (None, Ok(_)) => Ok(Vec::new()),
        (_, Err(reason)) => Err(Refusal(*reason)),
    };
    let click_id = draft.as_ref().map_or("", |draft| &*draft.hit.click_id);
    let is_told = recorded.is_ok() && wants_id(query, site) && !click_id.is_empty();
    let location = target.location(is_told.then_some(click_id));
    let mut reply = reply::redirect(&location).ok_or(Refusal(Reason::ClickTarget))?;
    Ok(match recorded {
        Ok(cookies) => reply.with_cookie(cookies),
        Err(refusal) => {
            edge.metrics.refusal(refusal.0);
            reply::name_reason(&mut reply, refusal);
            reply
        }
    })
}

/// Returns the site that a draft names, or else that of the host.
fn site_of<'r>(exchange: &Exchange<'r>, draft: Option<&Draft<'_>>) -> Option<&'r Site> {
    let site = match draft {
        Some(Draft {
            claims: Some(claims),
            ..
        }) => exchange.site_of_tracker(&claims.site_alias),
        Some(draft) => exchange.site(&draft.hit.site),
        None => exchange.site(""),
    };
    site.ok()
}

fn find_target(exchange: &Exchange<'_>, site: Option<&Site>) -> Result<Target, click::Flaw> {
    let keyring = &exchange.edge.click_keyring;
    let hosts = site.map_or(&[][..], |site| &site.click_hosts);
    let name = exchange.endpoint.spec().target.unwrap_or_default();
    let target = click::target_named(name, exchange.line.query, keyring, hosts, exchange.now)?;
    if exchange.is_secure() {
        target.over_https()
    } else {
        Ok(target)
    }
}

/// Makes the redirect of a request that is refused for what is around its target; `None` if it is
/// not a click with a valid target.
pub(crate) fn lead_on(exchange: &Exchange<'_>) -> Option<Reply> {
    let leads_on = exchange.endpoint.spec().target.is_some()
        && (*exchange.line.method == Method::GET || exchange.is_head());
    if !leads_on {
        return None;
    }
    let draft = protocol::read(&exchange.arrival()).ok();
    let site = site_of(exchange, draft.as_ref());
    let target = find_target(exchange, site).ok()?;
    reply::redirect(&target.location(None))
}

/// Records the click under an ID of its own. Returns the cookies to set.
async fn record<'r>(
    exchange: &Exchange<'r>,
    draft: &mut Draft<'r>,
    charge: Charge,
) -> Result<Vec<String>, Refusal> {
    let mut visit = Visit::default();
    exchange.admit(draft, charge, &mut visit)?;
    if draft.hit.kind == Kind::Click && draft.hit.permit.allows(ID_PERMIT) {
        let mut id = [0; 16];
        if getrandom::fill(&mut id).is_ok() {
            draft.hit.click_id = URL_SAFE_NO_PAD.encode(id).into();
        }
    }
    exchange.record(slice::from_ref(draft)).await?;
    Ok(visit.cookies)
}

/// Returns whether the target is to be told the click's ID: as the URL says, or else as the site
/// does.
fn wants_id(query: &str, site: Option<&Site>) -> bool {
    match raw_value(query, "clid") {
        Some(asked) => asked == "1",
        None => site.is_some_and(|site| site.click_id),
    }
}

impl From<click::Flaw> for Refusal {
    fn from(flaw: click::Flaw) -> Refusal {
        Refusal(match flaw {
            click::Flaw::Target => Reason::ClickTarget,
            click::Flaw::Host => Reason::ClickHost,
            click::Flaw::Signature => Reason::ClickSignature,
            click::Flaw::Expired => Reason::ClickExpired,
        })
    }
}
