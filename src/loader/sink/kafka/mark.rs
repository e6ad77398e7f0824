//! Marks in the topic of positions: who began a session with a spool, and where the topic ended
//! then.
//!
//! A session writes one first, in a transaction of its own. It serves three questions:
//!
//! | question | answer |
//! | --- | --- |
//! | is what the sessions before have committed read? | once the session's own mark is read among what is committed |
//! | does anybody still have this spool? | who does writes its mark again each day, so one whose mark is old is nobody's (`vacant`) |
//! | Kafka takes nothing more from this producer: why? | if the spool's last mark is another process's, that one has the spool. If it is this process's own, nobody else began: Kafka ended a transaction that took too long, since the process or the brokers stood still |

use std::borrow::Cow;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use spool::SpoolId;

use super::Fenced;
use super::client::Reports;
use super::topic::{Isolation, TopicReading, read_topic};
use crate::config::KafkaConfig;

/// The word that a mark's key has in the place of a spool.
pub(super) const MARK: &str = "mark";

/// A record that a session begins with.
pub(super) struct SessionMark {
    pub(super) key: String,
    /// This process and this session, as two numbers of 32 hex digits.
    pub(super) value: String,
}

fn random_id() -> anyhow::Result<SpoolId> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).context("reading random bytes")?;
    Ok(SpoolId(id))
}

/// Returns what stands for this process in its marks.
fn process() -> anyhow::Result<SpoolId> {
    static PROCESS: OnceLock<SpoolId> = OnceLock::new();
    let new = random_id()?;
    Ok(*PROCESS.get_or_init(|| new))
}

fn key_of(spool: SpoolId) -> String {
    format!("{spool} {MARK}")
}

/// Returns whether a mark's value names a process.
fn is_of(value: &str, process: SpoolId) -> bool {
    value
        .split_once(' ')
        .is_some_and(|(of, _)| of == process.to_string())
}

impl SessionMark {
    /// Makes a new one.
    pub(super) fn new(spool_id: [u8; 16]) -> anyhow::Result<SessionMark> {
        Ok(SessionMark {
            key: key_of(SpoolId(spool_id)),
            value: format!("{} {}", process()?, random_id()?),
        })
    }
}

/// Whether Kafka has refused a producer of this process for a newer one, and nobody knows yet whose
/// that is.
#[derive(Debug, Default)]
pub(crate) struct Doubt(AtomicBool);

impl Doubt {
    pub(super) fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Finds out which process has the spool, if that is in doubt. This has to be known before a
    /// session begins, because a session takes the spool.
    ///
    /// # Errors
    /// [`Fenced`] if another process has it; others if that cannot be found out now.
    pub(super) fn settle(
        &self,
        spool_id: [u8; 16],
        (config, reports): (&KafkaConfig, &Reports),
    ) -> anyhow::Result<()> {
        if !self.0.load(Ordering::Acquire) {
            return Ok(());
        }
        let key = key_of(SpoolId(spool_id));
        let mut last = None;
        // What another process has begun counts, whether it is committed or not.
        let read = read_topic(
            (config, reports),
            &config.position_topic,
            Isolation::Uncommitted,
            |record| {
                match record {
                    None => return Ok(TopicReading::EndsHere),
                    Some(record) if record.key == key.as_bytes() => {
                        let value = record.value.map(String::from_utf8_lossy);
                        last = value.map(Cow::into_owned);
                    }
                    Some(_) => {}
                }
                Ok(TopicReading::GoesOn)
            },
        );
        read.context("finding out who has this spool")?;
        let own = process()?;
        if let Some(last) = last.filter(|last| !is_of(last, own)) {
            let whose = last.split(' ').next().unwrap_or_default();
            return Err(Fenced(format!("its last session is of the process {whose}")).into());
        }
        tracing::warn!(
            "a transaction took longer than Kafka waits for one, so Kafka has ended it, or a collector whose clock is wrong \
             has taken this spool for one that nobody has; this process still has the spool, and goes on from the position"
        );
        self.0.store(false, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_of_the_process_that_made_it() {
        let (one, other) = (
            SessionMark::new([1; 16]).unwrap(),
            SessionMark::new([1; 16]).unwrap(),
        );
        assert_eq!(one.key, other.key);
        assert_eq!(one.key, "01010101010101010101010101010101 mark");
        assert_ne!(one.value, other.value, "each session has its own");
        let own = process().unwrap();
        assert!(is_of(&one.value, own) && is_of(&other.value, own));
        assert!(!is_of(&one.value, SpoolId([0; 16])));
        // Those of versions before this one name no process.
        assert!(!is_of(&own.to_string(), own));
        assert!(!is_of("", own));
    }
}
