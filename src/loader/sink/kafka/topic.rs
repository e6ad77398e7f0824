//! Reads a topic that holds state from its beginning.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;

use super::client::{self, ASK_TIME_MAX, Reports};
use crate::clock;
use crate::config::KafkaConfig;

/// How long a topic may take to be read from its beginning: other producers' open transactions
/// hold up the topic of positions until they end.
const READ_TIME_MAX: Duration = Duration::from_secs(90);

/// Which records are read.
#[derive(Clone, Copy)]
pub(super) enum Isolation {
    /// Those of transactions that were committed, up to the first that is open.
    Committed,
    /// All of them.
    Uncommitted,
}

/// How the reading goes on.
pub(super) enum TopicReading {
    GoesOn,
    /// With the other partitions.
    EndsHere,
    Ends,
}

/// A record that has a key.
pub(super) struct TopicRecord<'m> {
    pub(super) key: &'m [u8],
    /// `None` takes out what was said of the key before.
    pub(super) value: Option<&'m [u8]>,
    /// When it was produced, in milliseconds since 1970.
    pub(super) at_millis: i64,
}

/// Reads a topic. `take` gets each record, and `None` at the present end of a partition.
pub(super) fn read_topic(
    (config, reports): (&KafkaConfig, &Reports),
    topic: &str,
    isolation: Isolation,
    mut take: impl FnMut(Option<TopicRecord<'_>>) -> anyhow::Result<TopicReading>,
) -> anyhow::Result<()> {
    let explain = |error: KafkaError| reports.explain(&error);
    let mut settings = client::client_config(config);
    let isolation = match isolation {
        Isolation::Committed => "read_committed",
        Isolation::Uncommitted => "read_uncommitted",
    };
    settings
        // Named because the client wants a name; nothing is committed for it.
        .set("group.id", "avtryck")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        // Where the beginning cannot be asked for, it is asked for again: the end would not do.
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", isolation);
    let consumer: BaseConsumer<Reports> = settings
        .create_with_context(reports.clone())
        .map_err(explain)?;
    client::give_token_to_reader(config, &consumer);
    let metadata = consumer
        .fetch_metadata(Some(topic), ASK_TIME_MAX)
        .map_err(explain)?;
    let topics = metadata.topics().iter();
    let partitions: Vec<i32> = topics
        .flat_map(|topic| topic.partitions())
        .map(|partition| partition.id())
        .collect();
    ensure!(
        !partitions.is_empty(),
        "the topic {topic} has no partitions"
    );
    let mut assignment = TopicPartitionList::new();
    for partition in &partitions {
        assignment
            .add_partition_offset(topic, *partition, Offset::Beginning)
            .map_err(explain)?;
    }
    consumer.assign(&assignment).map_err(explain)?;
    let begun = clock::monotonic();
    let mut left = partitions;
    while !left.is_empty() {
        ensure!(
            clock::time_since(begun) < READ_TIME_MAX,
            "the topic {topic} could not be read to its end within {READ_TIME_MAX:?}"
        );
        let reading = match consumer.poll(ASK_TIME_MAX) {
            None => continue,
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                let reading = take(None)?;
                if matches!(reading, TopicReading::EndsHere) {
                    left.retain(|other| *other != partition);
                }
                reading
            }
            Some(Err(error)) => return Err(explain(error)),
            Some(Ok(message)) => {
                let record = message.key().map(|key| TopicRecord {
                    key,
                    value: message.payload(),
                    at_millis: message.timestamp().to_millis().unwrap_or_default(),
                });
                match record {
                    Some(record) => take(Some(record)).with_context(|| {
                        format!("the topic {topic}, offset {}", message.offset())
                    })?,
                    None => TopicReading::GoesOn,
                }
            }
        };
        if matches!(reading, TopicReading::Ends) {
            return Ok(());
        }
    }
    Ok(())
}
