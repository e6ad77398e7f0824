//! `GET, POST /cb/{partner}`: an ad network's server reports what became of an ad.
//!
//! The partner proves itself first ([`crate::callback`]); nothing of a request that it did not make
//! is read. [`crate::protocol::partner`] says what a callback may look like. A callback with an
//! `id` may be repeated until it is answered, because it is stored once. So is a signed one without
//! an `id`, for as long as its signature holds.

use hyper::body::Incoming;
use hyper::header::HeaderMap;

use crate::callback::{Claim, Destination, Proof, Secrets, Signed};
use crate::config::Partner;
use crate::edge::exchange::charge::Bill;
use crate::edge::exchange::reply::Reply;
use crate::edge::exchange::{Exchange, body};
use crate::edge::{Refusal, router};
use crate::protocol::partner::{self, Sender};
use crate::protocol::{Draft, Drafts};

pub(crate) async fn handle(
    exchange: &Exchange<'_>,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Reply, Refusal> {
    let partner = exchange.partner(router::partner_key_of(exchange))?;
    let secrets = secrets(partner);
    let claim = claim(headers, exchange.line.query);
    let proof = secrets.check(&claim)?;
    let bill = Bill::open(exchange)?;
    let body = body::read(exchange, body).await?;
    let signed = Signed {
        timestamp: claim.timestamp,
        method: exchange.line.method.as_str(),
        target: exchange.line.target,
        body: &body,
    };
    let destination = Destination {
        host: exchange.authority(),
        content_type: exchange.headers.content_type.unwrap_or_default(),
    };
    secrets.verify(proof, &signed, &destination, exchange.now)?;
    let body = body.unpack(exchange.headers.content_encoding).await?;
    let mut drafts = partner::read(&exchange.arrival(), sender(partner), &body)?;
    name_events(&mut drafts, proof);
    exchange.record_body(drafts, bill).await
}

/// Gives an event ID to callbacks that bring none, where the proof stands for this request alone.
fn name_events(drafts: &mut Drafts<'_>, proof: Proof<'_>) {
    let name = |(index, draft): (usize, &mut Draft<'_>)| {
        if draft.hit.event_id.is_empty()
            && let Some(id) = proof.event_id(index)
        {
            draft.hit.event_id = id.into();
        }
    };
    match drafts {
        Drafts::One(draft) => name((0, draft)),
        Drafts::Each(drafts) => {
            let numbered = drafts.iter_mut().enumerate();
            numbered
                .filter_map(|(index, draft)| Some((index, draft.as_mut().ok()?)))
                .for_each(name);
        }
    }
}

fn secrets(partner: &Partner) -> Secrets<'_> {
    Secrets {
        secret: &partner.secret,
        token: &partner.token,
        window_seconds: partner.timestamp_window.as_secs(),
    }
}

fn sender(partner: &Partner) -> Sender<'_> {
    Sender {
        key: &partner.key,
        site: &partner.site,
        fields: partner.names(),
        trusts_client: partner.trusted_client,
    }
}

fn claim<'r>(headers: &'r HeaderMap, query: &'r str) -> Claim<'r> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    Claim {
        signature: text("avtryck-signature"),
        timestamp: text("avtryck-timestamp").unwrap_or_default(),
        authorization: text("authorization"),
        query,
    }
}
