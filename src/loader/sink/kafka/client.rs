//! How brokers are reached, and what their topics must be like.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ConfigResourceResult};
use rdkafka::admin::{NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::OAuthToken;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaConfRes;
use tokio::runtime::{Builder, Runtime};

use super::token;
use crate::clock;
use crate::config::{KafkaConfig, Unusable};

/// How long a question to the brokers may take.
pub(in crate::loader) const ASK_TIME_MAX: Duration = Duration::from_secs(10);
/// How long to wait for what a client has to report.
const REPORT_TIME: Duration = Duration::from_millis(100);
/// Memory for messages that are on their way, in KiB. A batch is at most about that large.
const QUEUE_KIBIBYTES: &str = "65536";
/// For how long a topic that is made here keeps hits, if `privacy.retention` allows it.
const KEEP_MADE: Duration = Duration::from_hours(7 * 24);
/// For how long a segment of it takes messages, at most. Kafka deletes whole segments, by their
/// last message.
const SEGMENT_MADE: Duration = Duration::from_hours(24);

/// Keeps what the client reports last: an error of a call says little more than that time is up.
#[derive(Clone)]
pub(in crate::loader) struct Reports {
    last: Arc<Mutex<String>>,
    /// Messages that were not delivered.
    undelivered: Arc<AtomicU64>,
    /// Where a token is, if brokers ask for one.
    token_file: Option<PathBuf>,
}

impl Reports {
    /// Makes one for a client.
    pub(in crate::loader) fn new(config: &KafkaConfig) -> Reports {
        Reports {
            last: Arc::default(),
            undelivered: Arc::default(),
            token_file: config.oauth_token_file.clone(),
        }
    }

    /// Adds what was reported last to an error.
    pub(in crate::loader) fn explain(&self, error: &KafkaError) -> anyhow::Error {
        anyhow::anyhow!(self.add_to(&error.to_string()))
    }

    /// Fails if a message was not delivered.
    pub(in crate::loader) fn check_delivery(&self) -> anyhow::Result<()> {
        let undelivered = self.undelivered.load(Ordering::Acquire);
        ensure!(
            undelivered == 0,
            "{undelivered} messages were not delivered"
        );
        Ok(())
    }

    /// Adds what was reported last to a message.
    pub(in crate::loader) fn add_to(&self, message: &str) -> String {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.is_empty() {
            true => message.to_owned(),
            false => format!("{message} ({last})"),
        }
    }
}

/// No broker answers.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::loader) struct NotReached(String);

/// Checks for an error of a consumer that the client gets over by itself, such as the loss of one
/// of several brokers.
pub(in crate::loader) fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve
        )
    )
}

impl ClientContext for Reports {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let file = self.token_file.as_deref();
        let file = file.ok_or("kafka.oauth_token_file is not set")?;
        token::read(file, clock::now()).map_err(|error| format!("{error:#}").into())
    }

    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "librdkafka: {reason}");
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // That follows the reason why, and says less.
        let is_vague = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        if last.is_empty() || !is_vague {
            reason.clone_into(&mut last);
        }
    }
}

impl ConsumerContext for Reports {}

/// How long a new client may take to ask for its token.
const TOKEN_TIME: Duration = Duration::from_millis(200);

/// Gives a new producer its token, if it needs one: it asks for it when it is polled.
pub(in crate::loader) fn give_token(config: &KafkaConfig, producer: &BaseProducer<Reports>) {
    if config.takes_token() {
        producer.poll(TOKEN_TIME);
    }
}

/// Does the same for a new consumer that has nothing assigned.
pub(in crate::loader) fn give_token_to_reader<C: ConsumerContext>(
    config: &KafkaConfig,
    consumer: &BaseConsumer<C>,
) {
    if config.takes_token() {
        // What it reports is with its context.
        drop(consumer.poll(TOKEN_TIME));
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    /// In a transaction, a message that is not delivered makes the commit fail.
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            tracing::debug!(%error, "a message was not delivered");
            self.undelivered.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Returns what every client is configured with.
pub(in crate::loader) fn client_config(config: &KafkaConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    let protocol = match (config.tls, config.sasl_mechanism.is_empty()) {
        (false, true) => "plaintext",
        (true, true) => "ssl",
        (false, false) => "sasl_plaintext",
        (true, false) => "sasl_ssl",
    };
    client
        .set("bootstrap.servers", config.brokers.join(","))
        .set("client.id", "avtryck")
        .set("security.protocol", protocol)
        .set("socket.keepalive.enable", "true")
        .set("reconnect.backoff.max.ms", "2000");
    let mut set = |key: &str, value: &str| {
        if !value.is_empty() {
            client.set(key, value);
        }
    };
    if config.tls {
        let path = |path: &Option<std::path::PathBuf>| {
            let path = path.as_ref().map(|path| path.display().to_string());
            path.unwrap_or_default()
        };
        set("ssl.ca.location", &path(&config.ca));
        set("ssl.certificate.location", &path(&config.certificate));
        set("ssl.key.location", &path(&config.key));
    }
    set("sasl.mechanism", &config.sasl_mechanism);
    set("sasl.username", &config.sasl_username);
    set("sasl.password", &config.sasl_password);
    for (key, value) in &config.client {
        client.set(key, value);
    }
    client
}

/// Returns what of `kafka.client` the client does not take.
pub(crate) fn check_client(config: &KafkaConfig) -> Vec<Unusable> {
    let flaw = |(name, value): &(String, String)| {
        let tried = ClientConfig::new().set(name, value).create_native_config();
        // What librdkafka says of it may hold the value, which may be a secret.
        let why = match tried.err()? {
            KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..) => "is unknown",
            _ => "has a value that it does not take",
        };
        let what = format!("{name} {why}; a name of librdkafka with its value would be right");
        Some(Unusable::new("kafka.client", what))
    };
    config.client.iter().filter_map(flaw).collect()
}

/// Returns what a producer of one transactional ID is configured with.
pub(super) fn producer_config(config: &KafkaConfig, transactional_id: &str) -> ClientConfig {
    let mut client = client_config(config);
    let defaults = [
        ("compression.type", config.compression.as_str()),
        ("linger.ms", "5"),
        ("queue.buffering.max.kbytes", QUEUE_KIBIBYTES),
        // The one of Java's clients, so that a subject is in the same partition whoever produces.
        ("partitioner", "murmur2_random"),
        ("transaction.timeout.ms", "60000"),
        ("transactional.id", transactional_id),
    ];
    for (key, value) in defaults {
        if client.get(key).is_none() {
            client.set(key, value);
        }
    }
    client
}

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Hits or counts, which go by age.
    Hits,
    /// What is to be known for good: the newest record of each key.
    State,
}

/// The key that says whether a topic forgets by age or keeps the newest record of each key.
const POLICY: &str = "cleanup.policy";

/// How often brokers are asked how topics are configured before what they say counts, and how long
/// between.
const DESCRIBE_TRIES: u32 = 30;
const DESCRIBE_PAUSE: Duration = Duration::from_millis(100);

/// Makes the topics that are missing, and checks them all. It waits for brokers on the thread that
/// asks.
///
/// # Errors
/// Where a topic would keep hits for longer than may be, or forget what has to be known.
pub(in crate::loader) fn prepare_topics(
    config: &KafkaConfig,
    retention: Duration,
    reports: &Reports,
) -> anyhow::Result<()> {
    runtime()?.block_on(prepare(config, retention, reports))
}

/// A runtime that can wait until brokers are asked again.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_time().build()
}

async fn prepare(
    config: &KafkaConfig,
    retention: Duration,
    reports: &Reports,
) -> anyhow::Result<()> {
    let client = client_config(config);
    let topics = [
        (&config.topic, Purpose::Hits),
        (&config.count_topic, Purpose::Hits),
        (&config.instruction_topic, Purpose::State),
        (&config.position_topic, Purpose::State),
    ];
    // Of the two clients only this one tells why brokers do not answer.
    let asking: BaseProducer<Reports> = client.create_with_context(reports.clone())?;
    give_token(config, &asking);
    let metadata = asking.client().fetch_metadata(None, ASK_TIME_MAX);
    if metadata.is_err() {
        asking.poll(REPORT_TIME);
    }
    let metadata = metadata.map_err(|error| NotReached(reports.add_to(&error.to_string())))?;
    let exists = |name: &str| metadata.topics().iter().any(|topic| topic.name() == name);
    let segment = SEGMENT_MADE.min(retention / 2);
    let keep = (retention - segment).min(KEEP_MADE);
    let [keep, segment] = [keep, segment].map(|time| time.as_millis().to_string());
    let missing: Vec<NewTopic<'_>> = topics
        .iter()
        .filter(|(name, _)| !exists(name))
        .map(|(name, purpose)| match purpose {
            Purpose::Hits => NewTopic::new(name, config.partitions, TopicReplication::Fixed(-1))
                .set(POLICY, "delete")
                .set("retention.ms", &keep)
                .set("segment.ms", &segment),
            Purpose::State => {
                NewTopic::new(name, 1, TopicReplication::Fixed(-1)).set(POLICY, "compact")
            }
        })
        .collect();
    if config.takes_token() {
        return without_admin(missing.first());
    }
    let admin: AdminClient<Reports> = client.create_with_context(reports.clone())?;
    let options = AdminOptions::new().operation_timeout(Some(ASK_TIME_MAX));
    if !missing.is_empty() {
        let made = admin.create_topics(&missing, &options).await;
        for outcome in made.map_err(|error| reports.explain(&error))? {
            match outcome {
                Ok(name) => tracing::info!("made the topic {name} in Kafka"),
                // Another collector made it at the same time.
                Err((_, rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, error)) => {
                    bail!("the topic {name} is missing, and making it failed: {error}")
                }
            }
        }
    }
    let resources = topics.map(|(name, _)| ResourceSpecifier::Topic(name));
    let described = until_told(async || {
        let described = admin.describe_configs(&resources, &options).await;
        described.map_err(|error| reports.explain(&error))
    });
    let described = described.await?;
    for ((name, purpose), described) in topics.into_iter().zip(described) {
        let described = described.map_err(|error| anyhow::anyhow!("{error}"));
        let described =
            described.with_context(|| format!("reading how the topic {name} is configured"))?;
        check_topic(name, purpose, &described, retention)?;
    }
    Ok(())
}

/// Says what cannot be done where brokers ask for a token: the client for administration takes
/// none.
fn without_admin(missing: Option<&NewTopic<'_>>) -> anyhow::Result<()> {
    static SAYS: Once = Once::new();
    if let Some(topic) = missing {
        bail!(
            "the topic {} is missing, and with OAUTHBEARER it cannot be made from here; docs/kafka.md#topics says how it has \
             to be",
            topic.name
        );
    }
    SAYS.call_once(|| {
        tracing::warn!(
            "with OAUTHBEARER nobody checks here for how long the topics keep hits: see to it that they do as \
             docs/kafka.md#topics says"
        );
    });
    Ok(())
}

/// Asks how topics are configured until brokers say so of each, or have been asked often enough.
async fn until_told(
    mut ask: impl AsyncFnMut() -> anyhow::Result<Vec<ConfigResourceResult>>,
) -> anyhow::Result<Vec<ConfigResourceResult>> {
    let mut tries = 0;
    loop {
        let described = ask().await?;
        tries += 1;
        if described.iter().all(is_told) || tries == DESCRIBE_TRIES {
            return Ok(described);
        }
        tokio::time::sleep(DESCRIBE_PAUSE).await;
    }
}

/// Returns whether a broker says how a topic is configured. One that has not heard of it yet, since
/// it was just made, says nothing.
fn is_told(topic: &ConfigResourceResult) -> bool {
    let policy = topic.as_ref().ok().and_then(|topic| topic.get(POLICY));
    policy.is_some_and(|entry| entry.value.as_ref().is_some_and(|value| !value.is_empty()))
}

fn check_topic(
    name: &str,
    purpose: Purpose,
    topic: &ConfigResource,
    retention: Duration,
) -> anyhow::Result<()> {
    let value = |key: &str| {
        let entry = topic.get(key).and_then(|entry| entry.value.as_deref());
        entry.unwrap_or_default().to_owned()
    };
    let policy = value(POLICY);
    if purpose == Purpose::State {
        ensure!(
            policy == "compact",
            "the topic {name} has cleanup.policy = {policy}: it would forget; compact would be right"
        );
        return Ok(());
    }
    ensure!(
        policy == "delete",
        "the topic {name} has cleanup.policy = {policy}: it would keep hits for good; delete would be right"
    );
    // A segment goes as a whole, once its last message is that old.
    let [kept, segment] = ["retention.ms", "segment.ms"].map(value);
    let times = kept.parse::<u64>().ok().zip(segment.parse::<u64>().ok());
    let is_short = times.is_some_and(|(kept, segment)| {
        u128::from(kept) + u128::from(segment) <= retention.as_millis()
    });
    ensure!(
        is_short,
        "the topic {name} has retention.ms = {kept} and segment.ms = {segment}: it would keep hits for longer than \
         privacy.retention; at most {} together would be right",
        retention.as_millis()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use rdkafka::admin::{ConfigEntry, ConfigSource, OwnedResourceSpecifier};

    use super::*;

    fn topic(entries: &[(&str, &str)]) -> ConfigResource {
        let entry = |(name, value): &(&str, &str)| ConfigEntry {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
            source: ConfigSource::DynamicTopic,
            is_read_only: false,
            is_default: false,
            is_sensitive: false,
        };
        ConfigResource {
            specifier: OwnedResourceSpecifier::Topic("t".to_owned()),
            entries: entries.iter().map(entry).collect(),
        }
    }

    #[test]
    fn brokers_that_have_not_heard_of_a_new_topic_are_asked_again() {
        let told = || Ok(topic(&[(POLICY, "delete")]));
        let unknown = || Err(RDKafkaErrorCode::UnknownTopicOrPartition);
        let silent = [
            vec![told(), Ok(topic(&[]))],
            vec![told(), Ok(topic(&[(POLICY, "")]))],
            vec![unknown(), told()],
        ];
        let runtime = runtime().unwrap();
        let mut replies = silent.into_iter().chain([vec![told(), told()]]);
        let described = runtime.block_on(until_told(async || Ok(replies.next().unwrap())));
        assert!(described.unwrap().iter().all(is_told));
        assert!(replies.next().is_none());

        let mut asked = 0;
        let described = runtime.block_on(until_told(async || {
            asked += 1;
            Ok(vec![unknown()])
        }));
        assert!(!is_told(&described.unwrap()[0]));
        assert_eq!(asked, DESCRIBE_TRIES);
        let refused = runtime.block_on(until_told(async || bail!("no")));
        assert_eq!(refused.unwrap_err().to_string(), "no");
    }

    #[test]
    fn a_topic_may_keep_hits_no_longer_than_postgres_and_state_for_good() {
        let day = Duration::from_hours(24);
        let check = |purpose, policy: &str, (kept, segment): (&str, &str)| {
            let topic = topic(&[
                (POLICY, policy),
                ("retention.ms", kept),
                ("segment.ms", segment),
            ]);
            check_topic("t", purpose, &topic, day).is_ok()
        };
        assert!(check(Purpose::Hits, "delete", ("82800000", "3600000")));
        for (policy, times) in [
            ("delete", ("82800001", "3600000")),
            ("delete", ("82800000", "3600001")),
            ("delete", ("1000", "604800000")),
            ("delete", ("-1", "1000")),
            ("delete", ("", "1000")),
            ("delete", ("1000", "")),
            ("compact", ("1000", "1000")),
            ("compact,delete", ("1000", "1000")),
        ] {
            assert!(!check(Purpose::Hits, policy, times), "{policy} {times:?}");
        }
        let for_good = ("-1", "604800000");
        assert!(check(Purpose::State, "compact", ("1000", "604800000")));
        assert!(!check(Purpose::State, "compact,delete", for_good));
        assert!(!check(Purpose::State, "delete", for_good));
    }
}
