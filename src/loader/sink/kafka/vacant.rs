//! Takes out of the topic of positions what spools have left that nothing was ever written to.
//!
//! A spool without a chunk gets another ID at each start, and each session leaves a mark and
//! positions under its spool's ID, so the topic would grow with each start of a collector that has
//! an empty shard. A spool is vacant if it has no position but its very beginning, which is where
//! it would begin without one, and nobody has renewed its mark for [`VACANT_AGE`].
//!
//! Clocks may be wrong, so nothing depends on that age but whom this disturbs. The transactional ID
//! of the spool is taken over first, and the topic is read after that: whoever still has the spool
//! can commit nothing in between, finds no mark of another process, and goes on. The position of a
//! spool that ever produced a hit stays for good, for its folder may come back from a backup.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use spool::SpoolId;

use super::client::{self, Reports};
use super::mark::MARK;
use super::session::POSITION_PARTITION;
use super::topic::{Isolation, TopicReading, read_topic};
use crate::clock::{self, UnixMicros};
use crate::config::KafkaConfig;
use crate::loader::sink::Reached;

/// How old the mark of a vacant spool is: 30 times as old as one that somebody renews.
pub const VACANT_AGE: Duration = Duration::from_hours(30 * 24);
/// Spools that are cleared in one run, and those that are taken over together.
const CLEARED_MAX: usize = 512;
const TOGETHER_MAX: usize = 8;
/// How long it may take to take over a transactional ID, and to commit.
const STEP_TIME_MAX: Duration = Duration::from_secs(20);

/// What the topic has of one spool.
#[derive(Debug, Default)]
struct Left {
    keys: BTreeSet<String>,
    /// When its mark was written last.
    marked_at_millis: Option<i64>,
    /// Whether its position was ever another than its very beginning.
    has_moved: bool,
}

impl Left {
    fn is_vacant(&self, now: UnixMicros, age: Duration) -> bool {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let is_old = |at: i64| at <= (now.0 / 1_000).saturating_sub(age);
        !self.has_moved && self.marked_at_millis.is_some_and(is_old)
    }

    /// Notes a record; `None` takes out what was said before.
    fn note(&mut self, (key, of): (&str, &str), value: Option<&[u8]>, at_millis: i64) {
        let Some(value) = value else {
            self.keys.remove(key);
            if key.ends_with(MARK) {
                self.marked_at_millis = None;
            }
            return;
        };
        self.keys.insert(key.to_owned());
        let (producer, spool) = key.split_once(' ').unwrap_or_default();
        if spool == MARK {
            self.marked_at_millis = self.marked_at_millis.max(Some(at_millis));
        } else if producer == of && spool == of {
            let value = str::from_utf8(value).unwrap_or_default();
            let is_beginning = Reached::parse(value).is_ok_and(|at| at == Reached::default());
            self.has_moved |= !is_beginning;
        }
    }
}

/// Clears what vacant spools have left, except these; returns how many there were.
///
/// # Errors
/// If brokers do not answer. What was cleared by then stays so.
pub async fn clear_vacant(
    config: &Arc<KafkaConfig>,
    spared: BTreeSet<[u8; 16]>,
    age: Duration,
) -> anyhow::Result<usize> {
    let config = Arc::clone(config);
    let clear = move || clear(&config, &spared, age);
    tokio::task::spawn_blocking(clear).await?
}

fn clear(
    config: &KafkaConfig,
    spared: &BTreeSet<[u8; 16]>,
    age: Duration,
) -> anyhow::Result<usize> {
    let reports = Reports::new(config);
    let mut vacant = find(config, &reports, age)?;
    vacant.retain(|spool, _| !spared.contains(spool));
    let spools: Vec<[u8; 16]> = vacant.into_keys().take(CLEARED_MAX).collect();
    let mut cleared = 0;
    for some in spools.chunks(TOGETHER_MAX) {
        let producers = some
            .iter()
            .map(|spool| Ok((*spool, take_over(config, *spool)?)));
        let producers: Vec<_> = producers.collect::<anyhow::Result<_>>()?;
        // Whoever had one of them may have committed until now.
        let still = find(config, &reports, age)?;
        for (spool, (producer, reports)) in producers {
            let Some(left) = still.get(&spool) else {
                continue;
            };
            let explain = |error| reports.explain(&error);
            producer.begin_transaction().map_err(explain)?;
            for key in &left.keys {
                let record = BaseRecord::<[u8], [u8], ()>::to(&config.position_topic)
                    .partition(POSITION_PARTITION)
                    .key(key.as_bytes());
                producer.send(record).map_err(|(error, _)| explain(error))?;
            }
            producer
                .commit_transaction(STEP_TIME_MAX)
                .map_err(explain)?;
            cleared += 1;
        }
    }
    Ok(cleared)
}

/// Makes a producer that takes the place of any other that has the spool.
fn take_over(
    config: &KafkaConfig,
    spool: [u8; 16],
) -> anyhow::Result<(BaseProducer<Reports>, Reports)> {
    let spool = SpoolId(spool);
    let reports = Reports::new(config);
    let settings = client::producer_config(config, &format!("avtryck-{spool}"));
    let producer: BaseProducer<Reports> = settings.create_with_context(reports.clone())?;
    client::give_token(config, &producer);
    let taken = producer.init_transactions(STEP_TIME_MAX);
    taken.map_err(|error| reports.explain(&error))?;
    Ok((producer, reports))
}

/// Finds the vacant spools. What a transaction wrote that is open or was given up counts as well:
/// it can only keep a spool from being vacant.
fn find(
    config: &KafkaConfig,
    reports: &Reports,
    age: Duration,
) -> anyhow::Result<BTreeMap<[u8; 16], Left>> {
    let mut all: BTreeMap<[u8; 16], Left> = BTreeMap::new();
    let topic = &config.position_topic;
    read_topic((config, reports), topic, Isolation::Uncommitted, |record| {
        let Some(record) = record else {
            return Ok(TopicReading::EndsHere);
        };
        // What somebody else wrote there stays.
        let key = str::from_utf8(record.key).unwrap_or_default();
        let (producer, _) = key.split_once(' ').unwrap_or_default();
        let id = u128::from_str_radix(producer, 16).ok();
        if let Some(id) = id.filter(|_| producer.len() == 32) {
            let left = all.entry(id.to_be_bytes()).or_default();
            left.note((key, producer), record.value, record.at_millis);
        }
        Ok(TopicReading::GoesOn)
    })?;
    let now = clock::now();
    all.retain(|_, left| left.is_vacant(now, age));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: &str = "01010101010101010101010101010101";
    const DAY: Duration = Duration::from_hours(24);
    const DAY_MILLIS: i64 = 86_400_000;

    fn left(records: &[(&str, Option<&str>, i64)]) -> Left {
        let mut left = Left::default();
        for (spool, value, day) in records {
            let key = format!("{OF} {spool}");
            let value = value.map(str::as_bytes);
            left.note((&key, OF), value, day * DAY_MILLIS);
        }
        left
    }

    #[test]
    fn a_spool_is_vacant_if_nothing_was_produced_of_it_and_its_mark_is_old() {
        let of_instructions = "02020202020202020202020202020202";
        let usual = [
            (MARK, Some("a b"), 1),
            (OF, Some("0 0 0"), 1),
            (of_instructions, Some("3 40 7"), 2),
        ];
        let is_vacant = |more: &[(&str, Option<&str>, i64)], day: i64| {
            let now = UnixMicros(day * DAY_MILLIS * 1_000);
            left(&[&usual, more].concat()).is_vacant(now, 30 * DAY)
        };
        assert!(is_vacant(&[], 31));
        assert!(!is_vacant(&[], 30));
        assert!(is_vacant(&[(MARK, Some("c d"), 5)], 35));
        assert!(!is_vacant(&[(MARK, Some("c d"), 5)], 34), "renewed");
        for moved in ["0 0 1", "1 64 0", "what is this"] {
            assert!(!is_vacant(&[(OF, Some(moved), 1)], 400), "{moved}");
            let back = [(OF, Some(moved), 1), (OF, Some("0 0 0"), 1)];
            assert!(!is_vacant(&back, 400), "{moved}");
        }
        // What is cleared is not cleared again.
        assert!(!is_vacant(&[(MARK, None, 31), (OF, None, 31)], 400));
        assert_eq!(left(&usual).keys.len(), 3);
    }

    #[test]
    fn what_ended_before_its_first_position_goes_and_what_has_no_mark_stays() {
        let now = UnixMicros(400 * DAY_MILLIS * 1_000);
        assert!(left(&[(MARK, Some("a b"), 1)]).is_vacant(now, DAY));
        assert!(!left(&[(OF, Some("0 0 0"), 1)]).is_vacant(now, DAY));
    }
}
