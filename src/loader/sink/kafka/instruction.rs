//! The topic of instructions: who withdrew, and who asked for their erasure.
//!
//! The key of a record is the subject's hash, its value `withdrawal` or `erasure`, and the header
//! `id_kind` says of which kind of ID that is. Where `avtryck load` carries out what visitors ask,
//! the header `visitor` has their ID: nobody could delete what is known by a hash alone. That
//! record is replaced by one without the header later ([`crate::loader::from_kafka`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::topic_partition_list::Offset;

use super::Suppressed;
use super::client::{self, ASK_TIME_MAX, Reports};
use super::witness::Witness;
use crate::clock;
use crate::config::KafkaConfig;
use crate::hit::VisitorId;
use crate::hit::subject::Subject;
use crate::postgres::subject::suppression::{Listed, Reason};

/// How long a reading may take.
const READ_TIME_MAX: Duration = Duration::from_secs(60);
/// How often a collector without Postgres looks at the topic.
const FOLLOW_PERIOD: Duration = Duration::from_secs(2);

/// Returns the reason that a value names.
pub(super) fn reason(value: &[u8]) -> anyhow::Result<Reason> {
    let reasons = [Reason::Withdrawal, Reason::Erasure].into_iter();
    let mut named = reasons.filter(|reason| reason.name().as_bytes() == value);
    named.next().context("an instruction that is not known")
}

/// Returns the record of an entry.
pub(in crate::loader) fn instruction_record<'r>(
    topic: &'r str,
    entry: &'r Listed,
) -> BaseRecord<'r, [u8], [u8], ()> {
    let mut headers = OwnedHeaders::new().insert(Header {
        key: "id_kind",
        value: Some(entry.id_kind.as_bytes()),
    });
    if let Some(VisitorId(id)) = &entry.visitor {
        headers = headers.insert(Header {
            key: "visitor",
            value: Some(id),
        });
    }
    BaseRecord::to(topic)
        .key(entry.key.as_slice())
        .payload(entry.reason.name().as_bytes())
        .headers(headers)
}

/// A record of the topic.
#[derive(Clone)]
pub(in crate::loader) struct Instruction {
    pub(in crate::loader) partition: i32,
    pub(in crate::loader) offset: i64,
    /// When it was produced, in milliseconds since 1970.
    pub(in crate::loader) at_millis: i64,
    pub(in crate::loader) entry: Listed,
}

impl Instruction {
    fn read(message: &BorrowedMessage<'_>) -> anyhow::Result<Option<Instruction>> {
        let Some((key, value)) = message.key().zip(message.payload()) else {
            return Ok(None);
        };
        let header = |name: &str| {
            let headers = message.headers()?;
            let mut named = headers.iter().filter(|header| header.key == name);
            named.next()?.value
        };
        let visitor = header("visitor").and_then(|id| id.try_into().ok());
        let id_kind = header("id_kind").and_then(|kind| str::from_utf8(kind).ok());
        Ok(Some(Instruction {
            partition: message.partition(),
            offset: message.offset(),
            at_millis: message.timestamp().to_millis().unwrap_or_default(),
            entry: Listed {
                key: key.try_into().context("a key that is no subject's")?,
                id_kind: Subject::kind_named(id_kind.unwrap_or_default()),
                reason: reason(value)?,
                visitor: visitor.map(VisitorId),
            },
        }))
    }
}

/// Reads the topic from its beginning, and then what is new.
///
/// What was said in a transaction that is open or was given up counts as well: it will be said
/// again.
pub(in crate::loader) struct InstructionReader {
    consumer: BaseConsumer<Reports>,
    reports: Reports,
    topic: String,
    /// The last message that was read of each partition.
    last: BTreeMap<i32, Option<Witness>>,
}

/// What was read last of the topic of instructions is not there any more.
#[derive(Debug, thiserror::Error)]
#[error(
    "partition {partition} of {topic} does not have what was read of it last: the topic was made anew or compacted, and is \
     read from its beginning"
)]
struct ReadAnew {
    topic: String,
    partition: i32,
}

impl InstructionReader {
    pub(in crate::loader) fn open(config: &KafkaConfig) -> anyhow::Result<InstructionReader> {
        let reports = Reports::new(config);
        let mut settings = client::client_config(config);
        settings
            // Named because the client wants a name; nothing is committed for it.
            .set("group.id", "avtryck")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_uncommitted")
            // What has no end to wait for is read many times a second.
            .set("fetch.wait.max.ms", "5");
        let consumer: BaseConsumer<Reports> = settings.create_with_context(reports.clone())?;
        client::give_token_to_reader(config, &consumer);
        let mut reader = InstructionReader {
            consumer,
            reports,
            topic: config.instruction_topic.clone(),
            last: BTreeMap::new(),
        };
        let found = reader.find_partitions();
        found.map_err(|error| reader.reports.explain(&error))?;
        let topic = &reader.topic;
        ensure!(
            !reader.last.is_empty(),
            "the topic {topic} has no partitions"
        );
        Ok(reader)
    }

    /// Finds the partitions of the topic: somebody may add some while it is read.
    fn find_partitions(&mut self) -> Result<(), KafkaError> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(&self.topic), ASK_TIME_MAX)?;
        let topics = metadata.topics().iter();
        for partition in topics.flat_map(|topic| topic.partitions()) {
            self.last.entry(partition.id()).or_default();
        }
        Ok(())
    }

    /// Returns the partitions of the topic.
    pub(in crate::loader) fn partitions(&self) -> Vec<i32> {
        self.last.keys().copied().collect()
    }

    /// Returns the offset after the last record of each partition.
    pub(in crate::loader) fn read_ends(&self) -> anyhow::Result<BTreeMap<i32, i64>> {
        let ends = self.partitions().into_iter().map(|partition| {
            let marks = self
                .consumer
                .fetch_watermarks(&self.topic, partition, ASK_TIME_MAX);
            let (_, end) = marks.map_err(|error| self.reports.explain(&error))?;
            Ok((partition, end))
        });
        ends.collect()
    }

    /// Returns what came since the last call, all that the topic has now. It fails where the topic
    /// does not have what was read last: then it is another one, or may be.
    ///
    /// Partitions are assigned anew each time: each then reports an end that it has reached after
    /// this call began.
    pub(in crate::loader) fn read_new(&mut self) -> anyhow::Result<Vec<Instruction>> {
        match self.find_partitions() {
            Err(error) if !client::is_passing(&error) => return Err(self.reports.explain(&error)),
            // What follows waits for the brokers.
            _ => {}
        }
        let explain = |error: KafkaError| self.reports.explain(&error);
        let mut assignment = TopicPartitionList::new();
        for (partition, last) in &self.last {
            let from = last.map_or(Offset::Beginning, |last| Offset::Offset(last.offset));
            let added = assignment.add_partition_offset(&self.topic, *partition, from);
            added.map_err(explain)?;
        }
        self.consumer.assign(&assignment).map_err(explain)?;
        let begun = clock::monotonic();
        let mut left = self.partitions();
        // Those whose last message has yet to be found again.
        let mut doubtful: BTreeMap<i32, Witness> = self
            .last
            .iter()
            .filter_map(|(partition, last)| Some((*partition, (*last)?)))
            .collect();
        let read_anew = |partition| ReadAnew {
            topic: self.topic.clone(),
            partition,
        };
        let mut read = Vec::new();
        while !left.is_empty() {
            if clock::time_since(begun) >= READ_TIME_MAX {
                let topic = &self.topic;
                let late =
                    format!("the topic {topic} was not read to its end in {READ_TIME_MAX:?}");
                bail!("{}", self.reports.add_to(&late));
            }
            match self.consumer.poll(ASK_TIME_MAX) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    if doubtful.contains_key(&partition) {
                        return Err(read_anew(partition).into());
                    }
                    left.retain(|other| *other != partition);
                }
                Some(Err(error)) if client::is_passing(&error) => {}
                Some(Err(error)) => return Err(explain(error)),
                Some(Ok(message)) => {
                    let (partition, found) = (message.partition(), Witness::of(&message));
                    if let Some(expected) = doubtful.remove(&partition) {
                        if found != expected {
                            return Err(read_anew(partition).into());
                        }
                        continue;
                    }
                    match Instruction::read(&message) {
                        Ok(instruction) => read.extend(instruction),
                        Err(error) => tracing::error!(
                            topic = self.topic,
                            offset = found.offset,
                            "an instruction is passed over: {error:#}"
                        ),
                    }
                    self.last.insert(partition, Some(found));
                }
            }
        }
        self.consumer.unassign().map_err(explain)?;
        Ok(read)
    }
}

/// Adds what the topic has, and then what comes. Never returns: that is how a collector without
/// Postgres learns what was asked of others.
pub(crate) async fn follow_topic(suppressed: Arc<Suppressed>, config: Arc<KafkaConfig>) {
    let mut open = None;
    loop {
        let (config, reader) = (Arc::clone(&config), open.take());
        let read = tokio::task::spawn_blocking(move || {
            let mut reader = match reader {
                Some(reader) => reader,
                None => InstructionReader::open(&config)?,
            };
            let read = reader.read_new()?;
            anyhow::Ok((reader, read))
        });
        match read.await {
            Ok(Ok((reader, read))) => {
                for instruction in read {
                    suppressed.add_known(instruction.entry.key, instruction.entry.reason);
                }
                open = Some(reader);
            }
            Ok(Err(error)) => tracing::debug!("the instructions cannot be read: {error:#}"),
            Err(error) => tracing::error!(%error, "reading the instructions panicked"),
        }
        tokio::time::sleep(FOLLOW_PERIOD).await;
    }
}
