//! The member of a consumer group: a consumer, and which partitions it has.
//!
//! The consumer lives as long as the process, because whoever leaves a group and joins it again has
//! everybody else wait. A session takes it ([`LoaderGroup::join`]), sets it to the positions in
//! Postgres and reads; when the session ends, the next one takes it.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use super::Partition;
use super::witness::MadeAnew;
use crate::clock;
use crate::config::{KafkaConfig, KafkaFormat};
use crate::loader::sink::Reached;
use crate::loader::sink::kafka::client::{self, ASK_TIME_MAX, NotReached, Reports, is_passing};
use crate::metrics::Metrics;

/// How long a session waits for the one before it to give the consumer back.
const TAKE_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a session waits for the group to assign something. With more members than partitions
/// some get nothing, which is no error.
const JOIN_TIME_MAX: Duration = Duration::from_secs(15);
const POLL_TIME: Duration = Duration::from_millis(50);
/// How long brokers may take to answer that they are there.
const LIVE_TIME_MAX: Duration = Duration::from_secs(1);

/// The group has given this member other partitions.
#[derive(Debug, thiserror::Error)]
#[error("the consumer group has assigned the partitions anew")]
pub(crate) struct Rebalanced;

/// Counts the changes of what is assigned.
#[derive(Clone)]
pub(super) struct GroupContext {
    reports: Reports,
    changes: Arc<AtomicU64>,
}

impl ClientContext for GroupContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.reports.generate_oauth_token(config)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reports.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reports.error(error, reason);
    }
}

impl ConsumerContext for GroupContext {
    /// Does what the client does by itself, but for the offsets: there are none of the group, and
    /// the client would report that of each partition. What comes before the session has set them
    /// is not used.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let is_assigned = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let done = match is_assigned {
            true => partitions
                .set_all_offsets(Offset::End)
                .and_then(|()| consumer.incremental_assign(partitions)),
            false => consumer.incremental_unassign(partitions),
        };
        if let Err(error) = done {
            // The session that begins now fails, and says why.
            tracing::debug!(%error, "what the group has changed could not be taken over");
        }
        let rebalance = match error {
            _ if is_assigned => Rebalance::Assign(partitions),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => Rebalance::Revoke(partitions),
            error => Rebalance::Error(KafkaError::Rebalance(error.into())),
        };
        self.post_rebalance(consumer, &rebalance);
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let has_changed = match rebalance {
            Rebalance::Assign(partitions) | Rebalance::Revoke(partitions) => partitions.count() > 0,
            Rebalance::Error(_) => true,
        };
        if has_changed {
            self.changes.fetch_add(1, Ordering::AcqRel);
        }
    }
}

type GroupConsumer = BaseConsumer<GroupContext>;

/// A member of the group of all that load from the same topics into the same database.
pub(crate) struct LoaderGroup {
    config: Arc<KafkaConfig>,
    context: GroupContext,
    /// While no session has it.
    consumer: Mutex<Option<GroupConsumer>>,
    cluster: tokio::sync::OnceCell<String>,
    /// Whether the brokers answered when they were last asked.
    is_reached: AtomicBool,
    /// Partitions that this process has.
    assigned: AtomicUsize,
    /// Up to where messages are counted that Kafka deleted before they were loaded.
    lost_up_to: Mutex<BTreeMap<Partition, i64>>,
    /// How many these are.
    lost: AtomicU64,
    metrics: Arc<Metrics>,
}

impl LoaderGroup {
    /// Makes a member; it joins the group when a session begins.
    ///
    /// # Errors
    /// If the client's configuration is wrong.
    pub(crate) fn new(
        config: &Arc<KafkaConfig>,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<LoaderGroup> {
        ensure!(
            config.format == KafkaFormat::Protobuf,
            "avtryck load reads proto/row.proto; kafka.format = \"protobuf\" would be right, here and at the collectors"
        );
        let context = GroupContext {
            reports: Reports::new(config),
            changes: Arc::default(),
        };
        let mut settings = client::client_config(config);
        let own = [
            ("group.id", config.group.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
            // Where Kafka deletes what is about to be read, the session ends, and the next one
            // counts what is lost.
            ("auto.offset.reset", "error"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("queued.max.messages.kbytes", "32768"),
        ];
        for (key, value) in own {
            settings.set(key, value);
        }
        let defaults = [
            ("session.timeout.ms", "10000"),
            ("fetch.wait.max.ms", "100"),
            // The client waits as long for its place in the group: with a connection that is half
            // open then, this process has no partition until the time is up.
            ("max.poll.interval.ms", "120000"),
        ];
        for (key, value) in defaults {
            if settings.get(key).is_none() {
                settings.set(key, value);
            }
        }
        let consumer: GroupConsumer = settings.create_with_context(context.clone())?;
        consumer
            .subscribe(&[&config.topic, &config.count_topic])
            .context("subscribing to the topics of hits and of counts")?;
        Ok(LoaderGroup {
            config: Arc::clone(config),
            context,
            consumer: Mutex::new(Some(consumer)),
            cluster: tokio::sync::OnceCell::new(),
            is_reached: AtomicBool::new(true),
            assigned: AtomicUsize::new(0),
            lost_up_to: Mutex::default(),
            lost: AtomicU64::new(0),
            metrics: Arc::clone(metrics),
        })
    }

    /// Returns whether the group has given this process any partition.
    #[must_use]
    pub(crate) fn has_partitions(&self) -> bool {
        self.assigned.load(Ordering::Relaxed) > 0
    }

    /// Returns how many messages Kafka has deleted since the start before they were loaded, at
    /// most.
    #[must_use]
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Counts what Kafka has deleted of a partition, from the position up to the first message that
    /// is left. Each is counted once, however many sessions find it missing.
    fn note_lost(&self, partition: &Partition, next: i64, first: i64) {
        let mut known = self
            .lost_up_to
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let counted = known.entry(partition.clone()).or_insert(next);
        let lost = (first - next.max(*counted)).max(0);
        *counted = first.max(*counted);
        if lost == 0 {
            return;
        }
        let Partition { topic, number } = partition;
        tracing::error!(
            topic,
            partition = number,
            "Kafka has deleted up to {lost} messages that were not loaded"
        );
        self.lost.fetch_add(lost.unsigned_abs(), Ordering::Relaxed);
        self.metrics.load_lost.increment(lost.unsigned_abs());
    }

    /// Returns whether the brokers answered when they were last asked.
    #[must_use]
    pub(crate) fn is_reached(&self) -> bool {
        self.is_reached.load(Ordering::Relaxed)
    }

    /// Notes whether the brokers answer, and says so where that has changed.
    pub(super) fn note_answer<T, E: std::fmt::Display>(&self, answer: &Result<T, E>) {
        let is_reached = answer.is_ok();
        let was_reached = self.is_reached.swap(is_reached, Ordering::Relaxed);
        self.metrics.load_connected.set(u8::from(is_reached));
        match answer {
            Err(error) if was_reached => {
                let reason = self.context.reports.add_to(&error.to_string());
                tracing::warn!(
                    "Kafka is not reached, hits wait there and at the collectors: {reason}"
                );
            }
            Ok(_) if !was_reached => tracing::info!("Kafka is reached again"),
            _ => {}
        }
    }

    /// Makes the topics that are missing, and checks for how long they keep what they hold.
    pub(super) async fn check_topics(&self, retention: Duration) -> anyhow::Result<()> {
        let (config, reports) = (Arc::clone(&self.config), self.context.reports.clone());
        let prepare = move || client::prepare_topics(&config, retention, &reports);
        let checked = tokio::task::spawn_blocking(prepare).await?;
        match &checked {
            Err(error) if !error.is::<NotReached>() => {}
            answer => self.note_answer(answer),
        }
        checked
    }

    /// Asks the brokers for anything, and notes whether they answer.
    fn ask(&self, consumer: &GroupConsumer) {
        let answer = consumer.fetch_metadata(Some(&self.config.topic), LIVE_TIME_MAX);
        self.note_answer(&answer);
    }

    /// Returns the ID of the cluster: positions in another one mean nothing here.
    pub(super) async fn cluster(&self) -> anyhow::Result<String> {
        let config = Arc::clone(&self.config);
        let ask = || async move {
            let ask = move || {
                let reports = Reports::new(&config);
                let consumer: BaseConsumer<Reports> =
                    client::client_config(&config).create_with_context(reports.clone())?;
                client::give_token_to_reader(&config, &consumer);
                let cluster = consumer.client().fetch_cluster_id(ASK_TIME_MAX);
                cluster.context(reports.add_to("asking for the ID of the cluster"))
            };
            tokio::task::spawn_blocking(ask).await?
        };
        self.cluster.get_or_try_init(ask).await.cloned()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<GroupConsumer>> {
        self.consumer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the consumer for a session, and waits until the group has assigned it something, for a
    /// while.
    pub(super) async fn join(self: &Arc<Self>) -> anyhow::Result<HeldConsumer> {
        let group = Arc::clone(self);
        tokio::task::spawn_blocking(move || group.take_and_poll()).await?
    }

    fn take_and_poll(self: Arc<Self>) -> anyhow::Result<HeldConsumer> {
        let begun = clock::monotonic();
        let consumer = loop {
            if let Some(consumer) = self.slot().take() {
                break consumer;
            }
            ensure!(
                clock::time_since(begun) < TAKE_TIME_MAX,
                "the session before has not given the consumer back"
            );
            std::thread::sleep(POLL_TIME);
        };
        let mut member = HeldConsumer {
            consumer: Some(consumer),
            changes: 0,
            partitions: Vec::new(),
            group: self,
        };
        let begun = clock::monotonic();
        loop {
            // What is read here is read again from the position.
            member.poll(POLL_TIME)?;
            member.changes = member.count_changes();
            member.partitions = member.read_assignment()?;
            let assigned = member.partitions.len();
            member.group.assigned.store(assigned, Ordering::Relaxed);
            if assigned > 0 || clock::time_since(begun) >= JOIN_TIME_MAX {
                return Ok(member);
            }
        }
    }
}

/// A session's hold of the consumer.
pub(super) struct HeldConsumer {
    group: Arc<LoaderGroup>,
    consumer: Option<GroupConsumer>,
    changes: u64,
    partitions: Vec<Partition>,
}

impl HeldConsumer {
    /// Returns what is assigned.
    pub(super) fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// Returns the offset after the last message of each partition, and notes whether the brokers
    /// answer; `None` if they do not.
    pub(super) fn read_ends(&self) -> Option<Vec<(Partition, i64)>> {
        let consumer = self.consumer().ok()?;
        if self.partitions.is_empty() {
            self.group.ask(consumer);
            return self.group.is_reached().then(Vec::new);
        }
        let mut ends = Vec::with_capacity(self.partitions.len());
        for partition in &self.partitions {
            let Partition { topic, number } = partition;
            let marks = consumer.fetch_watermarks(topic, *number, LIVE_TIME_MAX);
            self.group.note_answer(&marks);
            ends.push((partition.clone(), marks.ok()?.1));
        }
        Some(ends)
    }

    pub(super) fn consumer(&self) -> anyhow::Result<&GroupConsumer> {
        self.consumer.as_ref().context("the consumer is gone")
    }

    fn count_changes(&self) -> u64 {
        self.group.context.changes.load(Ordering::Acquire)
    }

    /// Fails with [`Rebalanced`] if something else is assigned than when the session began.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        match self.count_changes() == self.changes {
            true => Ok(()),
            false => Err(Rebalanced.into()),
        }
    }

    /// Lets the client work, and drops what it read.
    fn poll(&self, time: Duration) -> anyhow::Result<()> {
        match self.consumer()?.poll(time) {
            Some(Err(KafkaError::PartitionEOF(_))) | Some(Ok(_)) | None => Ok(()),
            Some(Err(error)) => self.explain(&error),
        }
    }

    /// Returns an error with its cause, unless it passes.
    pub(super) fn explain(&self, error: &KafkaError) -> anyhow::Result<()> {
        match is_passing(error) {
            true => Ok(()),
            false => Err(self.group.context.reports.explain(error)),
        }
    }

    fn read_assignment(&self) -> anyhow::Result<Vec<Partition>> {
        let assigned = self
            .consumer()?
            .assignment()
            .context("reading the assignment")?;
        let elements = assigned.elements();
        let partitions = elements.iter().map(|element| Partition {
            topic: element.topic().to_owned(),
            number: element.partition(),
        });
        Ok(partitions.collect())
    }

    /// Sets the consumer to where Postgres is.
    pub(super) async fn seek(
        self,
        positions: BTreeMap<Partition, Option<Reached>>,
        cluster: &str,
    ) -> anyhow::Result<(HeldConsumer, Positions)> {
        let cluster = cluster.to_owned();
        let seek = move || {
            let mut from = TopicPartitionList::new();
            let mut partitions = BTreeMap::new();
            for (partition, reached) in positions {
                let next = self.find_next(&partition, reached)?;
                let Partition { topic, number } = &partition;
                from.add_partition_offset(topic, *number, Offset::Offset(next))?;
                partitions.insert(partition, (reached, next));
            }
            self.check()?;
            if from.count() > 0 {
                let consumer = self.consumer()?;
                let began = "setting the consumer to the positions";
                consumer.incremental_unassign(&from).context(began)?;
                consumer.incremental_assign(&from).context(began)?;
            }
            Ok((
                self,
                Positions {
                    cluster,
                    partitions,
                },
            ))
        };
        tokio::task::spawn_blocking(seek).await?
    }

    /// Returns the offset to go on from.
    fn find_next(&self, partition: &Partition, reached: Option<Reached>) -> anyhow::Result<i64> {
        let Partition { topic, number } = partition;
        let marks = self
            .consumer()?
            .fetch_watermarks(topic, *number, ASK_TIME_MAX);
        let (first, end) = marks.map_err(|error| self.group.context.reports.explain(&error))?;
        let Some(reached) = reached else {
            tracing::info!(
                topic,
                partition = number,
                from = first,
                "Postgres has no position of this partition yet: it begins with the first message there is"
            );
            return Ok(first);
        };
        let next = i64::try_from(reached.position.offset)?;
        if next > end {
            return Err(MadeAnew::new(partition, next, end).into());
        }
        if next < first {
            self.group.note_lost(partition, next, first);
        }
        Ok(next.max(first))
    }
}

impl Drop for HeldConsumer {
    fn drop(&mut self) {
        *self.group.slot() = self.consumer.take();
    }
}

/// Where Postgres is.
pub(super) struct Positions {
    /// The cluster that they are of.
    pub(super) cluster: String,
    /// Of each partition that is assigned, with the offset to go on from.
    pub(super) partitions: BTreeMap<Partition, (Option<Reached>, i64)>,
}
