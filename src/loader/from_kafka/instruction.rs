//! Withdrawals and erasures that come by Kafka.
//!
//! The topic is read twice, as the spool of instructions is. [`TopicAhead`] is the loader's: before
//! each batch it puts on the list of suppression whom new instructions name, so a withdrawal
//! overtakes the hits that wait. [`KafkaInstructions`] works beside it: it erases, and moves the
//! position of the topic's partitions in Postgres. What is on Postgres's list goes the other way,
//! so that collectors without Postgres learn of it.
//!
//! What was carried out is told by the position, and the position says nothing of a topic that was
//! made anew. So each session begins by reading all that the topic has, and takes for new what
//! Postgres's list lacks as well, wherever it stands. Within a session, the reader looks each time
//! for what it read last, and the session ends where that is not there any more.
//!
//! To erase takes the ID, and not its hash. It is in a header of the record, which is replaced by
//! one without it once it is carried out and as old as hits in the topic may get: until then
//! another database, or this one after it was restored from a backup, may need it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::producer::{BaseProducer, Producer as _};
use tokio_postgres::Client;

use super::{LoaderGroup, partition_id};
use crate::clock::{self, UnixMicros};
use crate::config::KafkaConfig;
use crate::hit::VisitorId;
use crate::hit::subject::Subject;
use crate::loader::sink::kafka::Suppressed;
use crate::loader::sink::kafka::client::{self, Reports};
use crate::loader::sink::kafka::instruction::{Instruction, InstructionReader, instruction_record};
use crate::loader::sink::{PostgresWriter, Writer as _};
use crate::loader::{PAUSE_MAX, PAUSE_MIN};
use crate::metrics::Metrics;
use crate::postgres::batch::position::{self, SpoolPosition};
use crate::postgres::server::silence::LONG_SILENCE_MAX;
use crate::postgres::subject::suppression::{self, Listed, Reason};
use crate::postgres::{Database, SilenceWatch, subject};

/// How often the topic is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// Instructions between two moves of the position.
const CARRIED_OUT_MAX: usize = 100;
/// Entries that are put on the list, or looked for, at one time.
const LISTED_MAX: usize = 1_000;
/// The kind of ID whose entries go from the list by age.
const VISITOR_KIND: &str = "visitor";
/// How long what is produced may take.
const PRODUCE_TIME_MAX: Duration = Duration::from_secs(30);

type SharedReader = Arc<Mutex<InstructionReader>>;

/// Reads what is new, on a thread that may block.
async fn read_new(reader: &SharedReader) -> anyhow::Result<Vec<Instruction>> {
    let reader = Arc::clone(reader);
    let read = move || {
        reader
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .read_new()
    };
    tokio::task::spawn_blocking(read).await?
}

/// Opens a reader, and returns it with the end of each partition.
async fn open(config: &Arc<KafkaConfig>) -> anyhow::Result<(SharedReader, BTreeMap<i32, i64>)> {
    let config = Arc::clone(config);
    let open = move || {
        let reader = InstructionReader::open(&config)?;
        let ends = reader.read_ends()?;
        anyhow::Ok((Arc::new(Mutex::new(reader)), ends))
    };
    tokio::task::spawn_blocking(open).await?
}

/// Returns up to where a partition is carried out, given what Postgres says of it. Where it ends
/// before that, it is another one.
fn carried_out(topic: &str, (partition, end): (i32, i64), position: u64) -> i64 {
    let next = position.cast_signed();
    if next <= end {
        return next;
    }
    tracing::warn!(
        topic,
        partition,
        "the topic of instructions was made anew: it ends at {end}, and was carried out up to {next}; all that it has is \
         carried out"
    );
    0
}

/// Returns whether an instruction may still be about somebody's hits. Postgres forgets the ID of a
/// visitor some time after the last cookie with it is gone.
fn is_in_force(instruction: &Instruction, now: UnixMicros) -> bool {
    let age = i64::from(suppression::VISITOR_DAYS_MIN) * 86_400_000;
    let is_recent = instruction.at_millis >= now.0 / 1_000 - age;
    is_recent || instruction.entry.id_kind != VISITOR_KIND
}

/// Returns a time by which nothing is taken for older than it is, if one clock is wrong: the
/// earlier one of this process's and of Postgres's, and the beginning while that is in doubt.
async fn read_careful_now(client: &Client) -> anyhow::Result<UnixMicros> {
    let postgres = position::read_now(client).await?;
    Ok(match postgres.is_in_doubt {
        true => UnixMicros(0),
        false => clock::now().min(postgres.at),
    })
}

/// The loader's look ahead at the instructions.
pub(in crate::loader) struct TopicAhead {
    reader: SharedReader,
    /// How far Postgres had each partition when the session began.
    from: BTreeMap<i32, i64>,
    /// Whether the topic was read from its beginning.
    has_read: bool,
}

impl TopicAhead {
    pub(super) async fn new(
        config: &Arc<KafkaConfig>,
        group: &LoaderGroup,
        writer: &PostgresWriter,
    ) -> anyhow::Result<TopicAhead> {
        let (reader, ends) = open(config).await?;
        let cluster = group.cluster().await?;
        let topic = &config.instruction_topic;
        let mut from = BTreeMap::new();
        for (partition, end) in ends {
            let id = partition_id(&cluster, topic, partition);
            let position = writer.position(id).await?;
            let next = position.map_or(0, |reached| reached.position.offset);
            from.insert(partition, carried_out(topic, (partition, end), next));
        }
        Ok(TopicAhead {
            reader,
            from,
            has_read: false,
        })
    }

    /// Suppresses the subjects whom the instructions since the last call name.
    pub(super) async fn suppress_new(&mut self, writer: &mut PostgresWriter) -> anyhow::Result<()> {
        let read = read_new(&self.reader)
            .await
            .context("reading the instructions")?;
        let is_new = |instruction: &Instruction| {
            let from = self.from.get(&instruction.partition).copied();
            instruction.offset >= from.unwrap_or(0)
        };
        let (new, old): (Vec<_>, Vec<_>) = read.into_iter().partition(is_new);
        if !self.has_read {
            let now = clock::now();
            let old = old.into_iter().filter(|old| is_in_force(old, now));
            let old: Vec<Listed> = old.map(|instruction| instruction.entry).collect();
            for some in old.chunks(LISTED_MAX) {
                let missing = writer.find_missing(some).await?;
                writer.suppress_listed(&missing).await?;
                if !missing.is_empty() {
                    tracing::warn!(
                        subjects = missing.len(),
                        "the topic of instructions names subjects whom Postgres does not know although its position lies \
                         after them: the topic was made anew, or an erasure is not carried out yet"
                    );
                }
            }
        }
        let entries: Vec<Listed> = new
            .into_iter()
            .map(|instruction| instruction.entry)
            .collect();
        for some in entries.chunks(LISTED_MAX) {
            writer.suppress_listed(some).await?;
        }
        self.has_read = true;
        Ok(())
    }
}

/// Carries out the instructions of the topic.
pub(crate) struct KafkaInstructions {
    /// The member of the consumer group, which knows the cluster.
    pub group: Arc<LoaderGroup>,
    /// How Kafka is reached.
    pub config: Arc<KafkaConfig>,
    /// For how long a topic may keep hits.
    pub retention: Duration,
    /// The database.
    pub database: Arc<Database>,
    /// Who is on the list, of the topic and of Postgres.
    pub suppressed: Arc<Suppressed>,
    /// Every metric.
    pub metrics: Arc<Metrics>,
}

/// What one session knows.
struct Session {
    client: Client,
    watch: SilenceWatch,
    cluster: String,
    reader: SharedReader,
    positions: BTreeMap<i32, Option<SpoolPosition>>,
    /// Up to where each partition is carried out, unless it was made anew.
    next: BTreeMap<i32, i64>,
    /// Whether the topic was read from its beginning.
    has_read: bool,
    /// The newest record of each subject that has an ID, with when it was produced.
    named: HashMap<[u8; 16], (i64, Listed)>,
}

impl KafkaInstructions {
    /// Carries out what comes. Never returns.
    pub(crate) async fn run(self) {
        let mut pause = PAUSE_MIN;
        loop {
            let Err(error) = Box::pin(self.session(&mut pause)).await;
            if pause == PAUSE_MIN {
                tracing::warn!("erasures wait in Kafka: {error:#}");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn session(&self, pause: &mut Duration) -> anyhow::Result<std::convert::Infallible> {
        let mut session = self.open().await?;
        loop {
            // What the topic says itself, with an ID, is not replaced: it is read after this.
            let news = self.suppressed.take_news();
            let done = self.go_through(&mut session, &news).await;
            if done.is_err() {
                self.suppressed.put_back(news);
            }
            done?;
            *pause = PAUSE_MIN;
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn go_through(&self, session: &mut Session, news: &[Listed]) -> anyhow::Result<()> {
        let read = read_new(&session.reader).await?;
        let read_keys: HashSet<[u8; 16]> = read.iter().map(|read| read.entry.key).collect();
        self.carry_out_all(session, read).await?;
        let is_said = |entry: &&Listed| {
            read_keys.contains(&entry.key) || session.named.contains_key(&entry.key)
        };
        let news = news.iter().filter(|entry| !is_said(entry));
        self.produce(session, news.cloned().collect()).await
    }

    async fn open(&self) -> anyhow::Result<Session> {
        let cluster = self.group.cluster().await?;
        self.group.check_topics(self.retention).await?;
        let (reader, ends) = open(&self.config).await?;
        let (client, watch) = SilenceWatch::connect(&self.database, LONG_SILENCE_MAX).await?;
        self.metrics.postgres_connects.increment(1);
        let (mut positions, mut next) = (BTreeMap::new(), BTreeMap::new());
        let topic = &self.config.instruction_topic;
        for (partition, end) in ends {
            let id = partition_id(&cluster, topic, partition);
            let read = async { Ok(position::read(&client, id).await?) };
            let position = watch.watch(read).await?;
            let known = position.map_or(0, |known| known.position.1);
            next.insert(partition, carried_out(topic, (partition, end), known));
            positions.insert(partition, position);
        }
        Ok(Session {
            client,
            watch,
            cluster,
            reader,
            positions,
            next,
            has_read: false,
            named: HashMap::new(),
        })
    }

    async fn carry_out_all(
        &self,
        session: &mut Session,
        read: Vec<Instruction>,
    ) -> anyhow::Result<()> {
        let mut by_partition: BTreeMap<i32, Vec<Instruction>> = BTreeMap::new();
        for instruction in read {
            let Listed { key, reason, .. } = instruction.entry;
            self.suppressed.add_known(key, reason);
            match instruction.entry.visitor {
                Some(_) => {
                    let named = (instruction.at_millis, instruction.entry.clone());
                    session.named.insert(key, named);
                }
                None => {
                    session.named.remove(&key);
                }
            }
            let of_partition = by_partition.entry(instruction.partition).or_default();
            of_partition.push(instruction);
        }
        let is_first = !session.has_read;
        for (partition, instructions) in by_partition {
            let next = session.next.get(&partition).copied().unwrap_or(0);
            let (new, old): (Vec<_>, Vec<_>) = instructions
                .iter()
                .partition(|instruction| instruction.offset >= next);
            if is_first {
                Box::pin(self.make_up(session, partition, &old)).await?;
            }
            for some in new.chunks(CARRIED_OUT_MAX) {
                Box::pin(self.carry_out(session, partition, some)).await?;
            }
        }
        session.has_read = true;
        Ok(())
    }

    /// Carries out what the position says was carried out, and Postgres's list lacks.
    async fn make_up(
        &self,
        session: &mut Session,
        partition: i32,
        old: &[&Instruction],
    ) -> anyhow::Result<()> {
        let client = &session.client;
        let now = session.watch.watch(read_careful_now(client)).await?;
        let in_force = old.iter().copied();
        let in_force: Vec<&Instruction> = in_force.filter(|old| is_in_force(old, now)).collect();
        for some in in_force.chunks(LISTED_MAX) {
            let entries: Vec<Listed> = some.iter().map(|old| old.entry.clone()).collect();
            let client = &session.client;
            let find = async { Ok(suppression::find_missing(client, &entries).await?) };
            let missing = session.watch.watch(find).await?;
            let is_missing = |old: &&&Instruction| missing.contains(&old.entry);
            let missing: Vec<&Instruction> = some.iter().filter(is_missing).copied().collect();
            if missing.is_empty() {
                continue;
            }
            tracing::warn!(
                topic = self.config.instruction_topic,
                partition,
                instructions = missing.len(),
                "instructions are carried out that Postgres does not know although its position lies after them: the \
                 topic was made anew"
            );
            for some in missing.chunks(CARRIED_OUT_MAX) {
                Box::pin(self.carry_out(session, partition, some)).await?;
            }
        }
        Ok(())
    }

    async fn carry_out(
        &self,
        session: &mut Session,
        partition: i32,
        instructions: &[&Instruction],
    ) -> anyhow::Result<()> {
        let Some(last) = instructions.last() else {
            return Ok(());
        };
        let carried_out = session.next.get(&partition).copied().unwrap_or(0);
        let next = carried_out.max(last.offset + 1);
        session.next.insert(partition, next);
        let next = next.cast_unsigned();
        let to = SpoolPosition {
            position: (0, next),
            records: next,
        };
        let id = partition_id(&session.cluster, &self.config.instruction_topic, partition);
        let from = session.positions.get(&partition).copied().flatten();
        let client = &mut session.client;
        let work = async {
            let entries: Vec<Listed> = instructions
                .iter()
                .map(|instruction| instruction.entry.clone())
                .collect();
            suppression::add_listed(client, &entries).await?;
            let mut erased: Vec<(VisitorId, subject::Removed)> = Vec::new();
            for entry in &entries {
                let Some(visitor) = entry.visitor else {
                    continue;
                };
                let is_done = erased.iter().any(|(done, _)| *done == visitor);
                if entry.reason == Reason::Erasure && !is_done {
                    let subject = Subject::Visitor(visitor);
                    let removed = Box::pin(subject::remove(client, &subject)).await?;
                    erased.push((visitor, removed));
                }
            }
            let from = from.map(|from| from.position);
            subject::finish(client, id, from, to, &erased).await
        };
        session.watch.watch(work).await?;
        session.positions.insert(partition, Some(to));
        Ok(())
    }

    /// Produces what came onto Postgres's list, and takes the IDs out of old records.
    async fn produce(&self, session: &mut Session, news: Vec<Listed>) -> anyhow::Result<()> {
        let age = i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX);
        let before = |now: UnixMicros| (now.0 / 1_000).saturating_sub(age);
        let mut limit = before(clock::now());
        // An ID that is taken out too soon is missing where a database is restored from a backup.
        if session.named.values().any(|(at, _)| *at < limit) {
            let client = &session.client;
            limit = before(session.watch.watch(read_careful_now(client)).await?);
        }
        let old = session.named.values().filter(|(at, _)| *at < limit);
        let old: Vec<Listed> = old
            .map(|(_, entry)| Listed {
                visitor: None,
                ..entry.clone()
            })
            .collect();
        if old.is_empty() && news.is_empty() {
            return Ok(());
        }
        let all: Vec<Listed> = old.iter().chain(&news).cloned().collect();
        let config = Arc::clone(&self.config);
        let produced = tokio::task::spawn_blocking(move || produce(&config, &all)).await?;
        produced.context("producing instructions")?;
        for entry in old {
            session.named.remove(&entry.key);
        }
        Ok(())
    }
}

fn produce(config: &KafkaConfig, entries: &[Listed]) -> anyhow::Result<()> {
    let reports = Reports::new(config);
    let mut settings = client::client_config(config);
    settings
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "20000")
        .set("partitioner", "murmur2_random");
    let producer: BaseProducer<Reports> = settings.create_with_context(reports.clone())?;
    client::give_token(config, &producer);
    for entry in entries {
        let record = instruction_record(&config.instruction_topic, entry);
        let sent = producer.send(record);
        sent.map_err(|(error, _)| reports.explain(&error))?;
    }
    producer
        .flush(PRODUCE_TIME_MAX)
        .map_err(|error| reports.explain(&error))?;
    reports.check_delivery()
}
