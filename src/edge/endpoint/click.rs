//! `GET /c`: an ad was clicked. The reply is a redirect to the target, or a page that says why not.
//!
//! Who clicks wants to get there: a target that is one ([`crate::click`]) is gone to whatever becomes of the
//! hit. A full spool, an unknown site or partner, a permit that allows nothing cost the row, are counted and
//! told in `Avtryck-Refusal`, and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::{HeaderName, HeaderValue};

use crate::click;
use crate::config::Site;
use crate::consent::Signals;
use crate::edge::exchange::admit::{Request, Visit};
use crate::edge::exchange::reply;
use crate::edge::exchange::reply::{Reply, WithCookie as _};
use crate::edge::{Refusal, Worker};
use crate::hit::{Flags, Hit, Kind, Permit};
use crate::protocol::native;
use crate::refusal::Reason;

/// What a click's ID takes to have.
const ID_PERMIT: Permit = Permit::STORE.with(Permit::MEASURE);

pub(crate) async fn answer(
    worker: &Worker,
    request: &Request<'_>,
    query: &str,
    record: bool,
) -> Result<Reply, Refusal> {
    let edge = request.edge;
    let mut hit = Hit::new(request.now, Kind::Click, "");
    let mut signals = request.headers.signals(&edge.config.cookie.choice_name);
    request.headers.fill(&mut hit);
    native::query(query, &mut hit, &mut signals);
    let site = request.site(&hit.site).ok();
    let hosts = site.map_or(&[][..], |site| &site.click_hosts);
    let target = click::target(query, &edge.click_keyring, hosts, request.now)?;
    if target.is_one_time {
        hit.flags.set(Flags::ONE_TIME);
    }
    let mut visit = Visit::default();
    let recorded = if record {
        recorded(worker, request, &mut hit, &signals, &mut visit).await
    } else {
        Ok(())
    };
    let click_id = (recorded.is_ok() && wants_id(query, site)).then_some(&*hit.click_id);
    let location = target.location(click_id.filter(|id| !id.is_empty()));
    let mut reply = reply::redirect(&location).ok_or(Refusal(Reason::ClickTarget))?;
    if let Err(refusal) = recorded {
        edge.metrics.refusal(refusal.0);
        reply.headers_mut().insert(
            HeaderName::from_static("avtryck-refusal"),
            HeaderValue::from_static(refusal.0.name()),
        );
    }
    let is_recorded = recorded.is_ok();
    Ok(reply.with_cookie(visit.cookie.filter(|_| is_recorded)))
}

async fn recorded<'r>(
    worker: &Worker,
    request: &Request<'r>,
    hit: &mut Hit<'r>,
    signals: &Signals<'_>,
    visit: &mut Visit,
) -> Result<(), Refusal> {
    // Its own ID comes from nobody else.
    hit.click_id = "".into();
    request.admit(hit, signals, visit)?;
    if hit.permit.allows(ID_PERMIT) {
        let mut id = [0; 16];
        if getrandom::fill(&mut id).is_ok() {
            hit.click_id = URL_SAFE_NO_PAD.encode(id).into();
        }
    }
    worker.record(std::slice::from_ref(hit)).await
}

/// Whether the target is to be told the click's ID: as the URL says, else as the site does.
fn wants_id(query: &str, site: Option<&Site>) -> bool {
    let said = query.split('&').find_map(|pair| pair.strip_prefix("clid="));
    match said {
        Some(said) => said == "1",
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
