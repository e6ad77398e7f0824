//! Keeps a [`Witness`] of each partition in Postgres, and asks for it when a session begins.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Partition;
use crate::clock;
use crate::config::KafkaConfig;
use crate::loader::sink::kafka::client::{self, ASK_TIME_MAX, Reports, is_passing};
use crate::loader::sink::kafka::witness::Witness;

/// How often witnesses are kept in Postgres.
const KEEP_PERIOD: Duration = Duration::from_mins(1);
/// How long a session may take to find all of them.
const FIND_TIME_MAX: Duration = Duration::from_secs(30);

/// A partition is not the one that was read before.
#[derive(Debug, thiserror::Error)]
#[error(
    "partition {number} of {topic} was read up to {next}, and what is at {at} now was not there then: the topic was made \
     anew; docs/runbook.md#avtryckloadstuck says what to do"
)]
pub(super) struct MadeAnew {
    topic: String,
    number: i32,
    next: i64,
    at: i64,
}

impl MadeAnew {
    pub(super) fn new(partition: &Partition, next: i64, at: i64) -> MadeAnew {
        let Partition { topic, number } = partition.clone();
        MadeAnew {
            topic,
            number,
            next,
            at,
        }
    }
}

/// The newest message of each partition, from the thread that reads to the one that stores.
#[derive(Debug, Default)]
pub(crate) struct Witnesses(Mutex<BTreeMap<Partition, Noted>>);

#[derive(Debug)]
struct Noted {
    newest: Witness,
    /// When Postgres got one of the partition.
    kept_at: Option<Instant>,
}

impl Witnesses {
    fn noted(&self) -> MutexGuard<'_, BTreeMap<Partition, Noted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was read.
    pub(super) fn note(&self, partition: &Partition, newest: Witness) {
        let mut noted = self.noted();
        match noted.get_mut(partition) {
            Some(known) => known.newest = newest,
            None => {
                let kept_at = None;
                noted.insert(partition.clone(), Noted { newest, kept_at });
            }
        }
    }

    /// Returns those that are to be kept in Postgres now.
    pub(super) fn take_due(&self) -> BTreeMap<Partition, Witness> {
        let now = clock::monotonic();
        let mut due = BTreeMap::new();
        for (partition, noted) in self.noted().iter_mut() {
            if noted.kept_at.is_none_or(|at| now - at >= KEEP_PERIOD) {
                noted.kept_at = Some(now);
                due.insert(partition.clone(), noted.newest);
            }
        }
        due
    }
}

/// Checks that each partition has its witness, unless Kafka has deleted it by age.
///
/// # Errors
/// [`MadeAnew`] if one has another message there; others if brokers do not answer.
pub(super) async fn check(
    config: &Arc<KafkaConfig>,
    witnesses: BTreeMap<Partition, Witness>,
) -> anyhow::Result<()> {
    if witnesses.is_empty() {
        return Ok(());
    }
    let config = Arc::clone(config);
    let find = move || find_all(&config, witnesses);
    tokio::task::spawn_blocking(find).await?
}

fn find_all(
    config: &KafkaConfig,
    mut witnesses: BTreeMap<Partition, Witness>,
) -> anyhow::Result<()> {
    // One topic after the other: at the end of a partition the client tells its number alone.
    while let Some(topic) = witnesses.keys().next().map(|first| first.topic.clone()) {
        let rest = witnesses.split_off(&Partition {
            topic: format!("{topic}\0"),
            number: 0,
        });
        find_in(config, &topic, witnesses)?;
        witnesses = rest;
    }
    Ok(())
}

fn find_in(
    config: &KafkaConfig,
    topic: &str,
    mut witnesses: BTreeMap<Partition, Witness>,
) -> anyhow::Result<()> {
    let reports = Reports::new(config);
    let mut settings = client::client_config(config);
    settings
        // Named because the client wants a name; nothing is committed for it.
        .set("group.id", config.group.as_str())
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed");
    let consumer: BaseConsumer<Reports> = settings.create_with_context(reports.clone())?;
    client::give_token_to_reader(config, &consumer);
    let explain = |error: KafkaError| reports.explain(&error);
    let ask = |number| {
        let marks = consumer.fetch_watermarks(topic, number, ASK_TIME_MAX);
        marks.map_err(explain)
    };
    let mut from = TopicPartitionList::new();
    let mut asked = BTreeMap::new();
    for (partition, witness) in std::mem::take(&mut witnesses) {
        let (first, end) = ask(partition.number)?;
        if witness.offset >= end {
            return Err(MadeAnew::new(&partition, witness.offset + 1, end).into());
        }
        if witness.offset >= first {
            let offset = Offset::Offset(witness.offset);
            from.add_partition_offset(topic, partition.number, offset)?;
            asked.insert(partition.number, (partition, witness));
        }
    }
    consumer.assign(&from).map_err(explain)?;
    let begun = clock::monotonic();
    while !asked.is_empty() {
        ensure!(
            clock::time_since(begun) < FIND_TIME_MAX,
            "the last messages that were read of {topic} could not be asked for in {FIND_TIME_MAX:?}"
        );
        let (number, found) = match consumer.poll(ASK_TIME_MAX) {
            None => continue,
            Some(Err(KafkaError::PartitionEOF(number))) => (number, None),
            Some(Err(error)) if is_passing(&error) => continue,
            Some(Err(error)) => return Err(explain(error)),
            Some(Ok(message)) => (message.partition(), Some(Witness::of(&message))),
        };
        let Some((partition, witness)) = asked.remove(&number) else {
            continue;
        };
        // It may have been deleted meanwhile.
        if found != Some(witness) && ask(number)?.0 <= witness.offset {
            let at = found.map_or(witness.offset, |found| found.offset);
            return Err(MadeAnew::new(&partition, witness.offset + 1, at).into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_of_each_partition_is_kept_at_once_and_later_ones_now_and_then() {
        let partition = |number| Partition {
            topic: "t".to_owned(),
            number,
        };
        let witness = |offset| Witness {
            offset,
            at_millis: 1,
        };
        let witnesses = Witnesses::default();
        assert!(witnesses.take_due().is_empty());
        witnesses.note(&partition(0), witness(3));
        witnesses.note(&partition(0), witness(4));
        assert_eq!(
            witnesses.take_due(),
            BTreeMap::from([(partition(0), witness(4))])
        );
        witnesses.note(&partition(0), witness(5));
        witnesses.note(&partition(1), witness(9));
        assert_eq!(
            witnesses.take_due(),
            BTreeMap::from([(partition(1), witness(9))])
        );
        assert!(witnesses.take_due().is_empty());
    }
}
