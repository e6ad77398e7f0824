//! A broker of Apache Kafka with its own clients, from the jars that `script/fetch kafka` fetches.
//!
//! Where there are none, or no Java, tests say that they are skipped; in CI they fail.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use serde_json::Value as Json;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::{Dir, PATIENCE, PAUSE, addresses, root, tempdir};

/// What a JVM may take: the broker of a test needs no more.
const BROKER_OPTIONS: &[&str] = &[
    "-Xms32m",
    "-Xmx192m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:MaxMetaspaceSize=128m",
];
const CLIENT_OPTIONS: &[&str] = &["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// Runs a program until this process ends or closes the pipe, whichever is first: nothing outlives
/// a test that was killed.
const LEASH: &str = r#"exec 3<&0 </dev/null; "$@" 3<&- & cat <&3 >/dev/null; kill -9 $!"#;

/// A cluster of one broker, which is its own controller.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    dir: Dir,
    process: Option<Child>,
}

impl Broker {
    /// Starts one; `None` where there is no Kafka.
    pub(crate) async fn start() -> Option<Broker> {
        let has_java = std::process::Command::new("java")
            .arg("-version")
            .stderr(Stdio::null())
            .status();
        if !has_java.is_ok_and(|status| status.success()) || !jars().is_dir() {
            assert!(
                std::env::var_os("KAFKA_REQUIRED").is_none(),
                "there is no Kafka: script/setup test and script/fetch kafka bring it"
            );
            eprintln!(
                "skipped: there is no Kafka (script/setup test and script/fetch kafka bring it)"
            );
            return None;
        }
        let [address, controller] = addresses();
        let dir = tempdir();
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\n\
             controller.quorum.bootstrap.servers={controller}\n\
             listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
             controller.listener.names=CONTROLLER\nlog.dirs={}\n\
             offsets.topic.replication.factor=1\noffsets.topic.num.partitions=2\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=2\ngroup.initial.rebalance.delay.ms=0\n\
             log.cleaner.dedupe.buffer.size=4194304\nauto.create.topics.enable=false\n",
            dir.path().join("data").display()
        );
        std::fs::write(dir.path().join("server.properties"), properties).unwrap();
        let mut broker = Broker {
            address,
            dir,
            process: None,
        };
        let file = broker.properties();
        let arguments = [
            "format",
            "-t",
            "AAAAAAAAAAAAAAAAAAAAAQ",
            "-c",
            &file,
            "--standalone",
        ];
        let mut formatted = java(CLIENT_OPTIONS, "kafka.tools.StorageTool", &arguments);
        let formatted = formatted.kill_on_drop(true).output().await.unwrap();
        assert!(formatted.status.success(), "{formatted:?}");
        broker.resume().await;
        Some(broker)
    }

    fn properties(&self) -> String {
        let path = self.dir.path().join("server.properties");
        path.display().to_string()
    }

    /// Starts it again, with what it has stored.
    pub(crate) async fn resume(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let mut leash = Command::new("bash");
        leash.args(["-c", LEASH, "bash", "java", "-cp", &class_path()]);
        let process = leash
            .args(BROKER_OPTIONS)
            .args(["kafka.Kafka", &self.properties()])
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.process = Some(process.unwrap());
        let started = Instant::now();
        while TcpStream::connect(self.address).await.is_err() {
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap();
            assert!(started.elapsed() < PATIENCE, "{}", log());
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Kills it.
    pub(crate) async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            process.wait().await.unwrap();
        }
    }

    /// Returns the keys and values that Kafka's own consumer reads in a topic, of what is
    /// committed, up to that many and until nothing comes for some seconds.
    pub(crate) async fn records(&self, topic: &str, most: usize) -> Vec<(Vec<u8>, String)> {
        let (address, most) = (self.address.to_string(), most.to_string());
        let arguments = [
            "--bootstrap-server",
            &address,
            "--topic",
            topic,
            "--from-beginning",
            "--isolation-level",
            "read_committed",
            "--timeout-ms",
            "6000",
            "--max-messages",
            &most,
            "--property",
            "print.key=true",
            "--property",
            "key.separator=\t",
            "--property",
            "key.deserializer=org.apache.kafka.common.serialization.BytesDeserializer",
        ];
        let class = "org.apache.kafka.tools.consumer.ConsoleConsumer";
        let mut consumer = java(CLIENT_OPTIONS, class, &arguments);
        let read = consumer.kill_on_drop(true).output().await.unwrap();
        let said = String::from_utf8_lossy(&read.stderr);
        assert!(said.contains("Processed a total of"), "{said}");
        let lines = read.stdout.split(|byte| *byte == b'\n');
        let records = lines.filter_map(|line| {
            let at = line.iter().position(|byte| *byte == b'\t')?;
            let value = String::from_utf8_lossy(&line[at + 1..]).into_owned();
            Some((line[..at].to_vec(), value))
        });
        records.collect()
    }

    /// The same for a topic whose values are JSON.
    pub(crate) async fn documents(&self, topic: &str, most: usize) -> Vec<Json> {
        let records = self.records(topic, most).await.into_iter();
        records
            .map(|(_, value)| serde_json::from_str(&value).unwrap())
            .collect()
    }
}

fn jars() -> PathBuf {
    root().join("assets/data/kafka")
}

fn class_path() -> String {
    format!("{}/*", jars().display())
}

fn java(options: &[&str], class: &str, arguments: &[&str]) -> Command {
    let mut java = Command::new("java");
    java.args(["-cp", &class_path()])
        .args(options)
        .arg(class)
        .args(arguments)
        .stdin(Stdio::null());
    java
}
