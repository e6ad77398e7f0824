//! Into the spool: one hit, or the hits of a list, each of which is recorded or refused alone.

use std::slice;

use bytes::Bytes;
use hyper::StatusCode;
use spool::AppendError;

use super::reply::{self, Reply, WithCookie as _};
use super::{Exchange, Visit};
use crate::edge::Refusal;
use crate::endpoint::Shape;
use crate::protocol::{Draft, Drafts};
use crate::refusal::Reason;

/// How many refused events a reply names; the count covers all.
const REFUSED_NAMED_MAX: usize = 20;

impl<'r> Exchange<'r> {
    /// Puts the hits of admitted drafts into the spool and waits until it holds them.
    pub(crate) async fn record(&self, drafts: &[Draft<'_>]) -> Result<(), Refusal> {
        let hits = || drafts.iter().map(|draft| &draft.hit);
        let pending = self
            .worker
            .appender
            .append_all(hits().map(|hit| move |out: &mut Vec<u8>| hit.encode(out)))?;
        pending.await?;
        hits().for_each(|hit| self.worker.metrics.hit(hit));
        self.edge.live.show_hits(hits());
        Ok(())
    }

    /// Admits and records what a body holds. The reply is 204 if all of it was recorded; if some
    /// events were refused 200, and if all were the status of the first refusal, with JSON that
    /// says which and why.
    pub(crate) async fn record_body(&self, drafts: Drafts<'r>) -> Result<Reply, Refusal> {
        let mut visit = Visit::default();
        let drafts = match drafts {
            Drafts::One(mut draft) => {
                self.admit(&mut draft, &mut visit)?;
                self.record(slice::from_ref(&draft)).await?;
                return Ok(reply::hit(Shape::Empty).with_cookie(visit.cookies));
            }
            Drafts::Each(drafts) => drafts,
        };
        let mut admitted = Vec::with_capacity(drafts.len());
        let mut refused = Vec::new();
        for (index, draft) in drafts.into_iter().enumerate() {
            match self.admit_event(draft, &mut visit) {
                Ok(draft) => admitted.push(draft),
                Err(refusal) => refused.push((index, refusal)),
            }
        }
        if !admitted.is_empty() {
            self.record(&admitted).await?;
        }
        for (_, refusal) in &refused {
            self.edge.metrics.refusal(refusal.0);
        }
        let reply = match refused.first() {
            None => reply::hit(Shape::Empty),
            Some((_, first)) => list_refused(admitted.len(), &refused, *first),
        };
        Ok(reply.with_cookie(visit.cookies))
    }

    fn admit_event(
        &self,
        draft: Result<Draft<'r>, Reason>,
        visit: &mut Visit,
    ) -> Result<Draft<'r>, Refusal> {
        let mut draft = draft.map_err(|reason| {
            self.show_refusal(reason, "", "");
            Refusal(reason)
        })?;
        match self.admit(&mut draft, visit) {
            Ok(()) => Ok(draft),
            Err(refusal) => {
                self.show_refusal(refusal.0, &draft.hit.site, &draft.hit.partner);
                Err(refusal)
            }
        }
    }
}

/// Makes the reply to a list of which some events were refused.
fn list_refused(taken: usize, refused: &[(usize, Refusal)], first: Refusal) -> Reply {
    let named: Vec<_> = refused
        .iter()
        .take(REFUSED_NAMED_MAX)
        .map(|(index, refusal)| serde_json::json!({ "index": index, "reason": refusal.0.name() }))
        .collect();
    let body = serde_json::json!({ "taken": taken, "refused": refused.len(), "first": named });
    let status = if taken == 0 {
        first.status()
    } else {
        StatusCode::OK
    };
    let mut reply = reply::with_body(status, "application/json", Bytes::from(body.to_string()));
    reply::tell(&mut reply, first);
    reply
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Refusal {
        Refusal(match error {
            AppendError::Full => Reason::SpoolFull,
            AppendError::Io => Reason::SpoolFailed,
            AppendError::TooLarge => Reason::HitTooLarge,
            AppendError::Closed => Reason::Stopping,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_says_how_many_refused_events_are_named() {
        let page = include_str!("../../../docs/parameters.md");
        assert!(page.contains(&format!("(at most {REFUSED_NAMED_MAX} named)")));
    }
}
