//! `[kafka]`: how hits are produced to Kafka, beside Postgres.

use std::fmt;
use std::path::PathBuf;

use super::Config;
use super::keys::PEM;
use super::read::{ConfigReader, report_repeats};
use super::table::keys;
use super::value::{self, HitSink, KafkaFormat};

const OAUTHBEARER: &str = "OAUTHBEARER";
const TOPIC: &str = "1 to 249 letters, digits, . _ -";

keys! {
    /// `[kafka]`: from the spool to Kafka as well. See docs/kafka.md.
    #[derive(Clone)]
    pub struct KafkaConfig in [kafka] {
        /// Brokers of the cluster that hits are produced to, besides Postgres. Empty: nowhere.
        restart brokers: Vec<String> = list("HOST:PORT", value::broker);
        /// The topic of hits. Topics that are missing are made, if the cluster lets the user.
        restart topic: String = one("avtryck.hit", TOPIC, value::topic);
        /// The topic of hits that are only counted.
        restart count_topic: String = one("avtryck.count", TOPIC, value::topic);
        /// The topic of withdrawals and erasures: compacted, by the hash of the ID.
        restart instruction_topic: String = one("avtryck.instruction", TOPIC, value::topic);
        /// The topic that says how far each spool is: compacted.
        restart position_topic: String = one("avtryck.position", TOPIC, value::topic);
        /// The consumer group of `avtryck load`: one for each database that is loaded.
        restart group: String = one("avtryck-load", TOPIC, value::topic);
        /// Partitions of the topics of hits and of counts, where they are made.
        restart partitions: i32 = one("12", "1 to 1000", value::whole(1..=1000));
        /// How messages are written: as proto/row.proto has it, or as JSON.
        restart format: KafkaFormat = one("protobuf", "protobuf or json", value::kafka_format);
        /// How they are compressed.
        restart compression: String =
            one("zstd", "zstd, lz4, snappy, gzip or none", value::word(&["zstd", "lz4", "snappy", "gzip", "none"]));
        /// Whether brokers are spoken to over TLS. Their names and certificates are checked.
        restart tls: bool = flag();
        /// The certificates that theirs may lead to. Empty: those of the system.
        restart ca: Option<PathBuf> = optional(PEM, value::path);
        /// The collector's own certificate, where brokers ask for one.
        restart certificate: Option<PathBuf> = optional(PEM, value::path);
        /// Its private key.
        restart key: Option<PathBuf> = optional(PEM, value::path);
        /// How the collector says who it is. Empty: not, or by its certificate.
        restart sasl_mechanism: String =
            one("", "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or nothing", value::word(&["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]));
        /// The name of its user.
        restart sasl_username: String = one("", "a name", value::parse);
        /// The user's password.
        restart sasl_password: String = secret("", "a password", value::parse);
        /// The file with the token of OAUTHBEARER, replaced before the token ends.
        restart oauth_token_file: Option<PathBuf> = optional("a file", value::path);
        /// What else the client is to be told, by librdkafka's names, such as "linger.ms".
        restart client: Vec<(String, String)> = pairs("names of librdkafka with texts: { \"linger.ms\" = \"5\" }");
    }
}

impl KafkaConfig {
    /// Returns whether hits go to Kafka.
    #[must_use]
    pub(crate) fn is_used(&self) -> bool {
        !self.brokers.is_empty()
    }

    /// Returns whether brokers are told by a token who this process is.
    #[must_use]
    pub(crate) fn takes_token(&self) -> bool {
        self.sasl_mechanism == OAUTHBEARER
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

/// What the collector says to Kafka's client itself: exactly once and the position depend on it, or
/// a key of `[kafka]` says it.
const OWN_OF_KAFKA: [&str; 25] = [
    "acks",
    "bootstrap.servers",
    "compression.codec",
    "compression.type",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "metadata.broker.list",
    "partitioner",
    "request.required.acks",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "transactional.id",
];

/// Reports what of `[kafka]` does not go together.
pub(super) fn check(config: &Config, reader: &mut ConfigReader) {
    let kafka = &config.kafka;
    let mut wrong = |key: &str, error: &str| {
        let name = format!("kafka.{key}");
        reader.add_error(&name, &format!("{name}: {error}"));
    };
    for (name, _) in &kafka.client {
        if OWN_OF_KAFKA.contains(&name.as_str()) {
            wrong(
                "client",
                &format!("{name} is said by the collector itself; leaving it out would be right"),
            );
        }
    }
    if kafka.sasl_mechanism == "PLAIN" && !kafka.tls {
        wrong(
            "sasl_mechanism",
            "PLAIN sends the password as it is; tls = true, or SCRAM-SHA-512, would be right",
        );
    }
    if kafka.takes_token() && !kafka.tls {
        wrong(
            "sasl_mechanism",
            "OAUTHBEARER sends the token as it is; tls = true would be right",
        );
    }
    if kafka.takes_token() != kafka.oauth_token_file.is_some() {
        wrong(
            "oauth_token_file",
            "goes with kafka.sasl_mechanism = \"OAUTHBEARER\"; both or neither would be right",
        );
    }
    let has_name = !kafka.sasl_mechanism.is_empty() && !kafka.takes_token();
    if has_name == kafka.sasl_username.is_empty() {
        wrong(
            "sasl_username",
            "goes with PLAIN and SCRAM of kafka.sasl_mechanism; both or neither would be right",
        );
    }
    if kafka.certificate.is_some() != kafka.key.is_some() {
        wrong(
            "key",
            "goes with kafka.certificate; both or neither would be right",
        );
    }
    if !kafka.tls && (kafka.ca.is_some() || kafka.certificate.is_some()) {
        wrong(
            "tls",
            "is not true, so no certificate is used; tls = true would be right",
        );
    }
    let sinks = &config.loader.sink;
    let is_alone = !config.loads_into_postgres();
    if sinks.contains(&HitSink::Kafka) && !kafka.is_used() {
        wrong(
            "brokers",
            "loader.sink names kafka, and there are none; HOST:PORT of each broker would be right",
        );
    }
    if is_alone && kafka.format == KafkaFormat::Json {
        wrong(
            "format",
            "is json, which avtryck load does not read; protobuf would be right where loader.sink is kafka alone",
        );
    }
    let topics = [
        &kafka.topic,
        &kafka.count_topic,
        &kafka.instruction_topic,
        &kafka.position_topic,
    ];
    let named = topics
        .iter()
        .map(|topic| ("kafka.topic".to_owned(), (*topic).clone()));
    report_repeats(reader, "kafka, the topics", named.collect());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a section.
    fn mistakes(kafka: &str) -> String {
        let text =
            format!("[[site]]\nkey = 'shop'\n[kafka]\nbrokers = ['kafka.example:9093']\n{kafka}");
        let mistakes = Config::parse(&text, []).err();
        mistakes.map_or_else(String::new, |mistakes| mistakes.0.join("\n"))
    }

    #[test]
    fn what_would_break_a_promise_or_send_a_password_in_clear_is_refused() {
        for (kafka, expected) in [
            (
                "sasl_mechanism = 'PLAIN'\nsasl_username = 'a'",
                "PLAIN sends the password",
            ),
            (
                "sasl_mechanism = 'SCRAM-SHA-512'",
                "goes with PLAIN and SCRAM",
            ),
            (
                "sasl_mechanism = 'GSSAPI'",
                "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or nothing",
            ),
            (
                "sasl_mechanism = 'OAUTHBEARER'\noauth_token_file = 'a'",
                "OAUTHBEARER sends the token as it is",
            ),
            (
                "tls = true\nsasl_mechanism = 'OAUTHBEARER'",
                "kafka.oauth_token_file: goes with",
            ),
            (
                "tls = true\nsasl_mechanism = 'OAUTHBEARER'\noauth_token_file = 'a'\nsasl_username = 'a'",
                "goes with PLAIN and SCRAM",
            ),
            (
                "oauth_token_file = 'a'",
                "kafka.oauth_token_file: goes with",
            ),
            ("tls = true\nkey = 'a.pem'", "goes with kafka.certificate"),
            ("ca = 'a.pem'", "so no certificate is used"),
            (
                "client = { 'acks' = '1' }",
                "acks is said by the collector itself",
            ),
            (
                "client = { 'transactional.id' = 'x' }",
                "transactional.id is said by",
            ),
            ("count_topic = 'avtryck.hit'", "kafka, the topics"),
            ("topic = 'a/b'", "kafka.topic"),
            ("compression = 'zip'", "zstd, lz4, snappy, gzip or none"),
        ] {
            let mistakes = mistakes(kafka);
            assert!(mistakes.contains(expected), "{kafka}: {mistakes}");
        }
        for kafka in [
            "",
            "tls = true\nsasl_mechanism = 'PLAIN'\nsasl_username = 'a'\nsasl_password = 'b'",
            "tls = true\nca = 'ca.pem'\ncertificate = 'a.pem'\nkey = 'a.key'",
            "tls = true\nsasl_mechanism = 'OAUTHBEARER'\noauth_token_file = 'a'",
            "client = { 'linger.ms' = '20' }",
        ] {
            assert_eq!(mistakes(kafka), "", "{kafka}");
        }
    }

    #[test]
    fn brokers_are_hosts_with_ports() {
        for broker in ["kafka:9092", "10.0.0.1:1", "[::1]:65535"] {
            assert_eq!(value::broker(broker).as_deref(), Some(broker));
        }
        for wrong in [
            "kafka",
            "kafka:",
            ":9092",
            "kafka:0",
            "kafka:70000",
            "ssl://kafka:1",
            "a,b:1",
        ] {
            assert_eq!(value::broker(wrong), None, "{wrong}");
        }
    }
}
