//! Into the spool: one hit, or the hits of a list, each of which is recorded or refused alone.

use std::slice;

use bytes::Bytes;
use hyper::StatusCode;
use spool::AppendError;

use super::answer::{self, ReplyForm};
use super::charge::{Bill, RECORDS_TIMES_MAX};
use super::claims;
use super::reply::{self, Reply, WithCookie as _};
use super::{Exchange, Mentioned, Visit};
use crate::admin::live::ChosenHits;
use crate::edge::Refusal;
use crate::endpoint::{Protocol, Shape};
use crate::protocol::native::{Events, SplitEvent};
use crate::protocol::{Draft, Drafts};
use crate::refusal::Reason;

/// How much is read and written before other connections have their turn, in bytes: a tenth of a
/// millisecond's work.
const PIECE_BYTES: usize = 32 * 1024;
/// What an event costs beside its bytes, in bytes that cost as much.
const EVENT_WORK_BYTES: usize = 512;
/// How many refused events a reply names; the count covers all.
const REFUSED_NAMED_MAX: usize = 20;

impl<'r> Exchange<'r> {
    /// Puts the hits of admitted drafts into the spool and waits until it holds them.
    pub(crate) async fn record(&self, drafts: &[Draft<'_>]) -> Result<(), Refusal> {
        let hits = drafts.iter().map(|draft| &draft.hit);
        let encode = hits.map(|hit| move |out: &mut Vec<u8>| hit.encode(out));
        let chosen = self.choose(drafts);
        let pending = self.worker.appender.append_all(encode)?;
        pending.await?;
        self.count_recorded(drafts, chosen);
        Ok(())
    }

    /// Chooses which hits are shown. They are known before the spool has them, because a loader
    /// may have them before this task goes on.
    fn choose(&self, drafts: &[Draft<'_>]) -> ChosenHits<'_> {
        self.edge.live.choose(drafts.iter().map(|draft| &draft.hit))
    }

    /// Counts and shows hits that the spool holds.
    fn count_recorded(&self, drafts: &[Draft<'_>], chosen: ChosenHits<'_>) {
        let hits = drafts.iter().map(|draft| &draft.hit);
        hits.for_each(|hit| self.worker.metrics.hit(hit));
        chosen.show();
    }

    /// Admits and records what a body holds. The reply is 204 if all of it was recorded; if some
    /// events were refused 200, and if all were the status of the first refusal, with JSON that
    /// says which and why. Trackers of other makers get the replies of [`answer`].
    pub(crate) async fn record_body(
        &self,
        drafts: Drafts<'r>,
        mut bill: Bill<'_, 'r>,
        form: ReplyForm,
    ) -> Result<Reply, Refusal> {
        let is_native = self.endpoint.spec().protocol == Protocol::Native;
        let events = match drafts {
            Drafts::One(mut draft) => {
                let mut visit = Visit::default();
                let charge = bill.add_event()?;
                self.admit(&mut draft, charge, &mut visit)?;
                self.keep_told_choice(&mut visit).await;
                self.record(slice::from_ref(&draft)).await?;
                let reply = match is_native {
                    true => reply::hit(Shape::Empty),
                    false => answer::reply(self, form, 1, &[]),
                };
                return Ok(reply.with_cookie(visit.cookies));
            }
            Drafts::Each(events) => events,
        };
        let records_bytes_max = RECORDS_TIMES_MAX * self.endpoint.spec().body_bytes_max;
        let mut batch = Batch::new(bill, records_bytes_max);
        batch.read(self, &events).await;
        self.keep_told_choice(&mut batch.visit).await;
        if !batch.admitted.is_empty() {
            let chosen = self.choose(&batch.admitted);
            self.worker.appender.append_all(batch.records())?.await?;
            self.count_recorded(&batch.admitted, chosen);
        }
        for (_, refusal) in &batch.refused {
            self.edge.metrics.refusal(refusal.0);
        }
        let reply = match batch.refused.first() {
            _ if !is_native => answer::reply(self, form, batch.admitted.len(), &batch.refused),
            None => reply::hit(Shape::Empty),
            Some((_, first)) => list_refused(batch.admitted.len(), &batch.refused, *first),
        };
        Ok(reply.with_cookie(batch.visit.cookies))
    }
}

/// What became of the events of one body so far.
struct Batch<'x, 'r, 'd> {
    bill: Bill<'x, 'r>,
    records_bytes_max: usize,
    visit: Visit<'r>,
    admitted: Vec<Draft<'d>>,
    refused: Vec<(usize, Refusal)>,
    /// The admitted hits, encoded, and where each ends.
    encoded: Vec<u8>,
    ends: Vec<usize>,
    /// Whether a record was one too many, so that no further event is read.
    is_full: bool,
}

impl<'x, 'r: 'd, 'd> Batch<'x, 'r, 'd> {
    fn new(bill: Bill<'x, 'r>, records_bytes_max: usize) -> Self {
        Batch {
            bill,
            records_bytes_max,
            visit: Visit::of_array(),
            admitted: Vec::new(),
            refused: Vec::new(),
            encoded: Vec::new(),
            ends: Vec::new(),
            is_full: false,
        }
    }

    /// Reads and admits each event. Other connections have their turn after each [`PIECE_BYTES`].
    async fn read(&mut self, exchange: &Exchange<'r>, events: &'d Events<'r>) {
        let (mut index, mut work) = (0, 0);
        while let Some(event) = events.split_next() {
            let encoded_before = self.encoded.len();
            if let Err(refusal) = self.take(exchange, events, event) {
                self.refused.push((index, refusal));
            }
            index += 1;
            work += EVENT_WORK_BYTES + event.bytes() + self.encoded.len() - encoded_before;
            if work >= PIECE_BYTES {
                work = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    fn take(
        &mut self,
        exchange: &Exchange<'r>,
        events: &'d Events<'r>,
        event: SplitEvent<'r>,
    ) -> Result<(), Refusal> {
        let show = |reason: Reason, mentioned: Mentioned<'_>| {
            exchange.show_refusal(reason, mentioned);
            Refusal(reason)
        };
        let nothing = Mentioned::default();
        if self.is_full {
            return Err(show(Reason::OverLimit, nothing));
        }
        let charge = self.bill.add_event();
        let charge = charge.map_err(|refusal| show(refusal.0, nothing))?;
        let draft = events.read(event);
        let mut draft = draft.map_err(|reason| {
            let has_viewer = exchange.edge.live.viewers() > 0;
            let field = if has_viewer { events.blame(event) } else { "" };
            show(reason, Mentioned { field, ..nothing })
        })?;
        let admitted = exchange.admit(&mut draft, charge, &mut self.visit);
        admitted
            .and_then(|()| self.encode(&draft))
            .map_err(|refusal| {
                let claims = draft.claims.as_deref();
                let mentioned = Mentioned {
                    site: claims.map_or(&*draft.hit.site, |claims| {
                        claims::site_to_show(claims, draft.hit.protocol)
                    }),
                    partner: &draft.hit.partner,
                    field: "",
                };
                show(refusal.0, mentioned)
            })?;
        self.admitted.push(draft);
        Ok(())
    }

    /// Encodes a hit, as far as there is room and the client may store so much.
    fn encode(&mut self, draft: &Draft<'_>) -> Result<(), Refusal> {
        let before = self.encoded.len();
        draft.hit.encode(&mut self.encoded);
        let is_room = self.encoded.len() <= self.records_bytes_max;
        let paid = if is_room {
            self.bill.add_record(self.encoded.len() - before)
        } else {
            Err(Refusal(Reason::OverLimit))
        };
        match paid {
            Ok(()) => self.ends.push(self.encoded.len()),
            Err(_) => {
                self.encoded.truncate(before);
                self.is_full = true;
            }
        }
        paid
    }

    /// Returns what writes each record.
    fn records(&self) -> impl Iterator<Item = impl FnOnce(&mut Vec<u8>)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| {
            let record = self.encoded.get(start..*end).unwrap_or_default();
            move |out: &mut Vec<u8>| out.extend_from_slice(record)
        })
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
