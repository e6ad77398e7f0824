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
use crate::edge::exchange::answer::ReplyForm;
use crate::edge::exchange::charge::Bill;
use crate::edge::exchange::reply::Reply;
use crate::edge::exchange::{Exchange, body};
use crate::edge::{Refusal, router};
use crate::protocol::partner::{self, Sender};

pub(crate) async fn handle(
    exchange: &Exchange<'_>,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Reply, Refusal> {
    let partner = exchange.partner(router::sender_key_of(exchange))?;
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
    let sender = sender(partner, proof);
    let drafts = partner::read(&exchange.arrival(), sender, &body)?;
    exchange
        .record_body(drafts, bill, ReplyForm::default())
        .await
}

fn secrets(partner: &Partner) -> Secrets<'_> {
    Secrets {
        secret: &partner.secret,
        token: &partner.token,
        window_seconds: partner.timestamp_window.as_secs(),
    }
}

fn sender<'r>(partner: &'r Partner, proof: Proof<'r>) -> Sender<'r> {
    Sender {
        key: &partner.key,
        site: &partner.site,
        fields: partner.names(),
        trusts_client: partner.trusted_client,
        proof: Some(proof),
    }
}

pub(super) fn claim<'r>(headers: &'r HeaderMap, query: &'r str) -> Claim<'r> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    Claim {
        signature: text("avtryck-signature"),
        timestamp: text("avtryck-timestamp").unwrap_or_default(),
        authorization: text("authorization"),
        query,
    }
}
