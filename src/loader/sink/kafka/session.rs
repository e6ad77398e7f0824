//! The blocking part of the sink, on a thread of its own: one producer from `init_transactions` to
//! its first error.
//!
//! After an error nothing is tried again on the same producer. Its transaction is ended, as far as
//! possible, and the next session reads from Kafka what became of it. If the error says that Kafka
//! takes nothing more from this producer, the next session first finds out whether another process
//! has the spool ([`Doubt`]).

use std::collections::HashMap;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use spool::SpoolId;
use tokio::sync::oneshot;

use super::client::{self, Reports};
use super::instruction::{self, instruction_record};
use super::mark::{Doubt, MARK, SessionMark};
use super::message::SCHEMA;
use super::topic::{Isolation, TopicReading, read_topic};
use super::{KafkaBatch, KafkaSink, Suppressed};
use crate::clock;
use crate::config::{KafkaConfig, KafkaFormat};
use crate::hit::Kind;
use crate::loader::sink::Reached;
use crate::postgres::subject::suppression::Listed;

/// How long a transaction may take to begin, to be sent and to be committed.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(45);
/// How long the end of a transaction that failed may take.
const ABORT_TIME_MAX: Duration = Duration::from_secs(5);
/// How often a producer without work is polled: its token may be due.
const IDLE_PERIOD: Duration = Duration::from_secs(1);
/// How long to wait for room in the client's queue before it is asked again.
const ROOM_PAUSE: Duration = Duration::from_millis(20);
/// How often the mark of a session is written again, so that nobody takes its spool for one that
/// nobody has.
const MARK_PERIOD: Duration = Duration::from_hours(24);
/// The partition of the topic of positions that is used.
pub(super) const POSITION_PARTITION: i32 = 0;

/// Whose position of which spool: a producer follows its own spool of hits, and the spool of
/// instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PositionKey {
    pub(super) producer: [u8; 16],
    pub(super) spool: [u8; 16],
}

impl PositionKey {
    fn text(&self) -> String {
        format!("{} {}", SpoolId(self.producer), SpoolId(self.spool))
    }
}

/// What is committed together.
pub(super) struct Transaction {
    pub(super) batch: KafkaBatch,
    pub(super) positions: Vec<(PositionKey, Reached)>,
    pub(super) instructions: Vec<Listed>,
    /// The spool that it is of.
    pub(super) spool: [u8; 16],
    pub(super) format: KafkaFormat,
}

type Outcome = anyhow::Result<u64>;
type Order = (Transaction, oneshot::Sender<(Transaction, Outcome)>);

/// The thread, which ends with its first error and when this is dropped.
pub(super) struct ProducerThread {
    orders: mpsc::Sender<Order>,
    thread: thread::JoinHandle<()>,
}

impl ProducerThread {
    /// Starts a session, and returns it with the positions that it begins at.
    pub(super) async fn start(
        sink: &KafkaSink,
    ) -> anyhow::Result<(ProducerThread, HashMap<PositionKey, Reached>)> {
        let (orders, received) = mpsc::channel::<Order>();
        let (opened, open) = oneshot::channel();
        let own = Opening {
            config: Arc::clone(&sink.config),
            retention: sink.retention,
            spool_id: sink.spool_id,
            suppressed: Arc::clone(&sink.suppressed),
            doubt: Arc::clone(&sink.doubt),
        };
        let doubt = Arc::clone(&sink.doubt);
        let thread = thread::Builder::new()
            .name("kafka".to_owned())
            .spawn(move || {
                let mut session = match own.open() {
                    Ok((session, positions)) => {
                        if opened.send(Ok(positions)).is_err() {
                            return;
                        }
                        session
                    }
                    // If nobody waits any more, nobody needs to know.
                    Err(error) => {
                        note_doubt(&doubt, &error);
                        return drop(opened.send(Err(error)));
                    }
                };
                loop {
                    if let Err(error) = session.renew_mark() {
                        tracing::debug!("a session ends at its mark: {error:#}");
                        return note_doubt(&doubt, &error);
                    }
                    let (transaction, reply) = match received.recv_timeout(IDLE_PERIOD) {
                        Ok(order) => order,
                        Err(RecvTimeoutError::Timeout) => {
                            session.producer.poll(Duration::ZERO);
                            continue;
                        }
                        Err(RecvTimeoutError::Disconnected) => return,
                    };
                    let outcome = session.commit(&transaction);
                    let ends = outcome.is_err();
                    if let Err(error) = &outcome {
                        note_doubt(&doubt, error);
                    }
                    drop(reply.send((transaction, outcome)));
                    if ends {
                        return;
                    }
                }
            })
            .context("starting a thread")?;
        let positions = open.await.context("the thread that produces panicked")??;
        Ok((ProducerThread { orders, thread }, positions))
    }

    /// Commits a transaction; returns it with the number of messages, or why it failed.
    pub(super) async fn commit(
        &self,
        transaction: Transaction,
    ) -> anyhow::Result<(Transaction, Outcome)> {
        let (reply, committed) = oneshot::channel();
        let is_sent = self.orders.send((transaction, reply)).is_ok();
        ensure!(is_sent, "the thread that produces has ended");
        committed.await.context("the thread that produces panicked")
    }

    /// Fails if the session has ended.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            !self.thread.is_finished(),
            "the thread that produces has ended"
        );
        Ok(())
    }
}

/// Kafka has given the producer's transactional ID to a newer one.
#[derive(Debug, thiserror::Error)]
#[error("Kafka takes nothing more from this producer: {0}")]
struct Superseded(String);

/// Has the next session find out by whom this one was superseded, if it was.
fn note_doubt(doubt: &Doubt, error: &anyhow::Error) {
    if error.chain().any(|error| error.is::<Superseded>()) {
        doubt.raise();
    }
}

/// What a session is opened with.
struct Opening {
    config: Arc<KafkaConfig>,
    retention: Duration,
    spool_id: [u8; 16],
    suppressed: Arc<Suppressed>,
    doubt: Arc<Doubt>,
}

impl Opening {
    fn open(self) -> anyhow::Result<(Session, HashMap<PositionKey, Reached>)> {
        let reports = Reports::new(&self.config);
        client::prepare_topics(&self.config, self.retention, &reports)?;
        self.doubt.settle(self.spool_id, (&self.config, &reports))?;
        let transactional_id = format!("avtryck-{}", SpoolId(self.spool_id));
        let config = client::producer_config(&self.config, &transactional_id);
        let producer: BaseProducer<Reports> = config.create_with_context(reports.clone())?;
        client::give_token(&self.config, &producer);
        let session = Session {
            producer,
            config: self.config,
            reports,
            mark: SessionMark::new(self.spool_id)?,
            marked_at: clock::monotonic(),
        };
        session
            .producer
            .init_transactions(COMMIT_TIME_MAX)
            .map_err(|error| session.explain(&error))
            .context("beginning as the only producer of this spool")?;
        session.put_mark()?;
        let positions = session.read_positions(self.spool_id)?;
        session.read_instructions(&self.suppressed)?;
        Ok((session, positions))
    }
}

/// One producer.
struct Session {
    producer: BaseProducer<Reports>,
    config: Arc<KafkaConfig>,
    reports: Reports,
    mark: SessionMark,
    /// When the mark was written last.
    marked_at: Instant,
}

impl Session {
    /// Returns an error with its cause; [`Superseded`] where there is a newer producer.
    fn explain(&self, error: &KafkaError) -> anyhow::Error {
        let fatal = self.producer.client().fatal_error();
        let codes = error.rdkafka_error_code().into_iter();
        let mut codes = codes.chain(fatal.as_ref().map(|(code, _)| *code));
        let is_superseded = codes.any(|code| {
            matches!(
                code,
                RDKafkaErrorCode::Fenced
                    | RDKafkaErrorCode::ProducerFenced
                    | RDKafkaErrorCode::InvalidProducerEpoch
            )
        });
        if is_superseded {
            let reason = fatal.map_or_else(|| error.to_string(), |(_, reason)| reason);
            return Superseded(reason).into();
        }
        self.reports.explain(error)
    }

    /// Commits a transaction; returns how many messages it had.
    fn commit(&self, transaction: &Transaction) -> Outcome {
        self.transact(|| self.put(transaction))
    }

    fn transact<T>(&self, put: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let explain = |error: KafkaError| self.explain(&error);
        self.producer.begin_transaction().map_err(explain)?;
        let done = put().and_then(|done| {
            let committed = self.producer.commit_transaction(COMMIT_TIME_MAX);
            committed.map_err(explain).map(|()| done)
        });
        if done.is_err() && self.producer.client().fatal_error().is_none() {
            // Readers of committed messages would wait for its end. If this fails, the next session
            // ends it.
            drop(self.producer.abort_transaction(ABORT_TIME_MAX));
        }
        done
    }

    fn put(&self, transaction: &Transaction) -> Outcome {
        let batch = &transaction.batch;
        let config = &*self.config;
        let of =
            |range: &std::ops::Range<usize>| batch.bytes.get(range.clone()).unwrap_or_default();
        for entry in &transaction.instructions {
            self.send(|| instruction_record(&config.instruction_topic, entry))?;
        }
        for row in &batch.rows {
            let (value, site) = (of(&row.value), of(&row.site));
            self.send(|| {
                BaseRecord::to(&config.topic)
                    .key(row.key.as_slice())
                    .payload(value)
                    .headers(headers(row.kind, site))
            })?;
        }
        let mut value = Vec::new();
        let half = *transaction.spool.first_chunk().unwrap_or(&[0; 8]);
        for (count, tally) in &batch.counts {
            for (hits, said) in tally.parts() {
                value.clear();
                count.encode((hits, half), said, transaction.format, &mut value);
                let site = count.site.site.as_bytes();
                self.send(|| {
                    BaseRecord::to(&config.count_topic)
                        .key(site)
                        .payload(value.as_slice())
                        .headers(headers(count.kind, site))
                })?;
            }
        }
        for (key, reached) in &transaction.positions {
            self.put_position(&key.text(), &reached.to_text())?;
        }
        Ok((batch.rows.len() + batch.counts.len()) as u64)
    }

    fn put_position(&self, key: &str, value: &str) -> anyhow::Result<()> {
        self.send(|| {
            BaseRecord::to(&self.config.position_topic)
                .partition(POSITION_PARTITION)
                .key(key.as_bytes())
                .payload(value.as_bytes())
        })
    }

    /// Hands a message to the client, once that has room for it.
    fn send<'r>(&self, record: impl Fn() -> BaseRecord<'r, [u8], [u8], ()>) -> anyhow::Result<()> {
        let begun = clock::monotonic();
        loop {
            match self.producer.send(record()) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _))
                    if clock::time_since(begun) < COMMIT_TIME_MAX =>
                {
                    self.producer.poll(ROOM_PAUSE);
                }
                Err((error, _)) => return Err(self.explain(&error)),
            }
        }
    }

    /// Returns what topics are read with.
    fn ask(&self) -> (&KafkaConfig, &Reports) {
        (&self.config, &self.reports)
    }

    fn put_mark(&self) -> anyhow::Result<()> {
        self.transact(|| self.put_position(&self.mark.key, &self.mark.value))
            .context("marking where the positions end")
    }

    /// Writes the mark again, if that is due.
    fn renew_mark(&mut self) -> anyhow::Result<()> {
        if clock::time_since(self.marked_at) < MARK_PERIOD {
            return Ok(());
        }
        self.put_mark()?;
        self.marked_at = clock::monotonic();
        Ok(())
    }

    /// Reads the positions of a producer up to its mark.
    fn read_positions(&self, spool_id: [u8; 16]) -> anyhow::Result<HashMap<PositionKey, Reached>> {
        let mark = &self.mark;
        let producer = SpoolId(spool_id).to_string();
        let mut positions = HashMap::new();
        let topic = &self.config.position_topic;
        let read = read_topic(self.ask(), topic, Isolation::Committed, |record| {
            let Some(record) = record else {
                return Ok(TopicReading::GoesOn);
            };
            // What somebody else wrote there is nothing to this producer.
            let key = str::from_utf8(record.key).unwrap_or_default();
            let (of, spool) = key.split_once(' ').unwrap_or_default();
            if of != producer {
                return Ok(TopicReading::GoesOn);
            }
            let value = record.value.map(str::from_utf8).transpose()?;
            if spool == MARK {
                let is_own = key == mark.key && value == Some(&*mark.value);
                return Ok(if is_own {
                    TopicReading::Ends
                } else {
                    TopicReading::GoesOn
                });
            }
            let spool = u128::from_str_radix(spool, 16)?.to_be_bytes();
            let key = PositionKey {
                producer: spool_id,
                spool,
            };
            match value {
                Some(value) => positions.insert(key, Reached::parse(value)?),
                None => positions.remove(&key),
            };
            Ok(TopicReading::GoesOn)
        });
        read.context("reading the positions")?;
        Ok(positions)
    }

    /// Reads who is on the list. What was said in a transaction that was given up counts as well:
    /// it will be said again.
    fn read_instructions(&self, suppressed: &Suppressed) -> anyhow::Result<()> {
        let topic = &self.config.instruction_topic;
        let read = read_topic(self.ask(), topic, Isolation::Uncommitted, |record| {
            let Some(record) = record else {
                return Ok(TopicReading::EndsHere);
            };
            let Some(value) = record.value else {
                return Ok(TopicReading::GoesOn);
            };
            match (record.key.try_into(), instruction::reason(value)) {
                (Ok(key), Ok(reason)) => suppressed.add_known(key, reason),
                _ => tracing::error!(topic, "an instruction that cannot be read is passed over"),
            }
            Ok(TopicReading::GoesOn)
        });
        read.context("reading the instructions")
    }
}

fn headers(kind: Kind, site: &[u8]) -> OwnedHeaders {
    let schema = ("schema", SCHEMA.as_bytes());
    let all = [schema, ("kind", kind.name().as_bytes()), ("site", site)];
    let headers = OwnedHeaders::new_with_capacity(all.len());
    all.into_iter().fold(headers, |headers, (key, value)| {
        let value = Some(value);
        headers.insert(Header { key, value })
    })
}
