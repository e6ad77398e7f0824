//! A broker of Apache Kafka with its own clients, from the jars that `script/fetch kafka` fetches.
//!
//! Where there are none, or no Java, tests say that they are skipped; in CI they fail.

mod user;

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value as Json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

use super::relay::Relay;
use super::tls::Authority;
use super::{Dir, PATIENCE, PAUSE, addresses, root, tempdir};
pub(crate) use user::User;

/// What a JVM may take: the broker of a test needs no more.
const BROKER_OPTIONS: &[&str] = &[
    "-Xms32m",
    "-Xmx192m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:MaxMetaspaceSize=128m",
];
/// Has the console consumer show a key as its bytes.
const BYTES: &str = "key.deserializer=org.apache.kafka.common.serialization.BytesDeserializer";
const CLIENT_OPTIONS: &[&str] = &["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// Runs a program until this process ends or closes the pipe, whichever is first: nothing outlives
/// a test that was killed.
const LEASH: &str = r#"exec 3<&0 </dev/null; "$@" 3<&- & cat <&3 >/dev/null; kill -9 $!"#;

/// A file of the classes of a broker as a JVM has them once they are loaded. One that is given it
/// starts in half the time.
static CLASSES: OnceCell<PathBuf> = OnceCell::const_new();
/// What Kafka's own tool puts into the folder of a broker that is the first of its cluster: the
/// same for each, so it runs once.
static FORMATTED: OnceCell<Vec<(OsString, Vec<u8>)>> = OnceCell::const_new();
/// Whether there is a Kafka to be started.
static IS_THERE: OnceCell<bool> = OnceCell::const_new();

/// A broker, which is a controller too.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    dir: Dir,
    process: Option<Child>,
}

/// What a broker is made with.
struct Node {
    id: usize,
    address: SocketAddr,
    controller: SocketAddr,
    /// Settings that take the place of those that every broker has.
    more: String,
    /// A user with a password.
    scram: Option<String>,
}

impl Node {
    fn new(id: usize) -> Node {
        // Chosen together: a broker takes no two listeners of the same port.
        let [address, controller] = addresses();
        Node {
            id,
            address,
            controller,
            more: String::new(),
            scram: None,
        }
    }
}

impl Broker {
    /// Starts one that is the whole cluster; `None` where there is no Kafka.
    pub(crate) async fn start() -> Option<Broker> {
        let mut brokers = Broker::start_cluster::<1>().await?;
        brokers.pop()
    }

    /// Starts one that has a listener for TLS beside the other, where a user must say who it is.
    pub(crate) async fn start_secured(
        authority: &Authority,
        user: User<'_>,
    ) -> Option<(Broker, SocketAddr)> {
        if !is_there().await {
            return None;
        }
        let [address, controller, secure] = addresses();
        let dir = tempdir();
        let stem = dir.path().join("broker");
        authority.issue(&stem, &[&secure.ip().to_string()], 2099);
        let read = |extension| std::fs::read_to_string(stem.with_extension(extension)).unwrap();
        let store = dir.path().join("keystore.pem");
        std::fs::write(&store, read("key") + &read("pem")).unwrap();
        let (protocol, asked) = (user.protocol(), user.properties(dir.path()));
        let node = Node {
            id: 1,
            address,
            controller,
            more: format!(
                "listeners=PLAINTEXT://{address},SECURE://{secure},CONTROLLER://{controller}\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:{protocol}\n\
                 {asked}\n\
                 listener.name.secure.ssl.keystore.type=PEM\n\
                 listener.name.secure.ssl.keystore.location={}\n",
                store.display()
            ),
            scram: user.scram(),
        };
        let mut broker = Broker::format(&node, std::slice::from_ref(&node), dir).await;
        broker.resume().await;
        Some((broker, secure))
    }

    /// Starts one with two more listeners, each behind a relay: one for edges, one for loaders.
    pub(crate) async fn start_behind_relays() -> Option<(Broker, [Relay; 2])> {
        if !is_there().await {
            return None;
        }
        let [address, controller, edge, loader, to_edge, to_loader] = addresses();
        let node = Node {
            id: 1,
            address,
            controller,
            more: format!(
                "listeners=PLAINTEXT://{address},EDGE://{edge},LOADER://{loader},CONTROLLER://{controller}\n\
                 advertised.listeners=PLAINTEXT://{address},EDGE://{to_edge},LOADER://{to_loader}\n\
                 listener.security.protocol.map=\
                 PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,EDGE:PLAINTEXT,LOADER:PLAINTEXT\n"
            ),
            scram: None,
        };
        let mut broker = Broker::format(&node, std::slice::from_ref(&node), tempdir()).await;
        broker.resume().await;
        let relays = [
            Relay::start(to_edge, edge).await,
            Relay::start(to_loader, loader).await,
        ];
        Some((broker, relays))
    }

    /// Starts a cluster; `None` where there is no Kafka.
    pub(crate) async fn start_cluster<const BROKERS: usize>() -> Option<Vec<Broker>> {
        if !is_there().await {
            return None;
        }
        let nodes: Vec<Node> = (1..=BROKERS).map(Node::new).collect();
        let mut brokers = Vec::new();
        for node in &nodes {
            brokers.push(Broker::format(node, &nodes, tempdir()).await);
        }
        Broker::resume_all(&mut brokers).await;
        Some(brokers)
    }

    /// Runs one for a moment, which writes its classes to a file when it ends.
    async fn write_classes(file: &Path) {
        let node = Node::new(1);
        let broker = Broker::format(&node, std::slice::from_ref(&node), tempdir()).await;
        let archive = format!("-XX:ArchiveClassesAtExit={}", file.display());
        let options = [BROKER_OPTIONS, &[archive.as_str()]].concat();
        let mut java = java(&options, "kafka.Kafka", &[&broker.properties()]);
        java.stdout(Stdio::null()).stderr(Stdio::null());
        let mut java = java.kill_on_drop(true).spawn().unwrap();
        broker.until_listening().await;
        let id = Pid::from_raw(java.id().unwrap().cast_signed());
        kill(id, Signal::SIGTERM).unwrap();
        java.wait().await.unwrap();
    }

    async fn format(node: &Node, nodes: &[Node], dir: Dir) -> Broker {
        let voters = nodes
            .iter()
            .map(|node| format!("{}@{}", node.id, node.controller));
        let voters: Vec<String> = voters.collect();
        let (replicas, in_sync) = (nodes.len(), nodes.len().div_ceil(2));
        let Node {
            id,
            address,
            controller,
            more,
            scram,
        } = node;
        let properties = format!(
            "process.roles=broker,controller\nnode.id={id}\ncontroller.quorum.voters={}\n\
             listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
             controller.listener.names=CONTROLLER\nlog.dirs={}\n\
             default.replication.factor={replicas}\nmin.insync.replicas={in_sync}\n\
             offsets.topic.replication.factor={replicas}\noffsets.topic.num.partitions=2\n\
             transaction.state.log.replication.factor={replicas}\ntransaction.state.log.min.isr={in_sync}\n\
             transaction.state.log.num.partitions=2\n\
             transaction.abort.timed.out.transaction.cleanup.interval.ms=500\ngroup.initial.rebalance.delay.ms=0\n\
             log.cleaner.dedupe.buffer.size=4194304\nauto.create.topics.enable=false\n{more}\n",
            voters.join(","),
            dir.path().join("data").display()
        );
        std::fs::write(dir.path().join("server.properties"), properties).unwrap();
        let broker = Broker {
            address: *address,
            dir,
            process: None,
        };
        if let (1, None) = (*id, scram) {
            let formatted = FORMATTED.get_or_init(|| broker.format_first()).await;
            std::fs::create_dir_all(broker.data()).unwrap();
            for (name, bytes) in formatted {
                std::fs::write(broker.data().join(name), bytes).unwrap();
            }
        } else {
            broker.format_folder(scram.as_deref()).await;
        }
        broker
    }

    /// Formats its folder, with a user if one is given.
    async fn format_folder(&self, scram: Option<&str>) {
        let file = self.properties();
        let mut arguments = vec!["format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", &file];
        if let Some(scram) = scram {
            arguments.extend(["--add-scram", scram]);
        }
        run_tool("kafka.tools.StorageTool", &arguments).await;
    }

    /// Formats its folder, and returns what is in it then.
    async fn format_first(&self) -> Vec<(OsString, Vec<u8>)> {
        self.format_folder(None).await;
        let files = std::fs::read_dir(self.data()).unwrap();
        let files = files.map(|entry| entry.unwrap());
        files
            .map(|file| (file.file_name(), std::fs::read(file.path()).unwrap()))
            .collect()
    }

    /// The folder of its partitions.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Returns what the files of a topic's messages hold.
    pub(crate) fn segments(&self, topic: &str) -> Vec<Vec<u8>> {
        let of_topic = format!("{topic}-");
        let partitions = std::fs::read_dir(self.data()).unwrap();
        let partitions = partitions.map(|entry| entry.unwrap());
        let partitions =
            partitions.filter(|entry| entry.file_name().to_string_lossy().starts_with(&of_topic));
        let files = partitions.flat_map(|entry| std::fs::read_dir(entry.path()).unwrap());
        let paths = files.map(|entry| entry.unwrap().path());
        let logs = paths.filter(|path| path.extension().is_some_and(|kind| kind == "log"));
        logs.map(|path| std::fs::read(path).unwrap()).collect()
    }

    fn properties(&self) -> String {
        let path = self.dir.path().join("server.properties");
        path.display().to_string()
    }

    /// Starts it again, with what it has stored.
    pub(crate) async fn resume(&mut self) {
        Broker::resume_all(std::slice::from_mut(self)).await;
    }

    /// Starts several again. None listens before most brokers of its cluster are there.
    pub(crate) async fn resume_all(brokers: &mut [Broker]) {
        for broker in &mut *brokers {
            broker.spawn();
        }
        for broker in brokers {
            broker.until_listening().await;
        }
    }

    fn spawn(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let mut leash = Command::new("bash");
        leash.args(["-c", LEASH, "bash", "java", "-cp", &class_path()]);
        let process = leash
            .args(classes_option())
            .args(BROKER_OPTIONS)
            .args(["kafka.Kafka", &self.properties()])
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.process = Some(process.unwrap());
    }

    async fn until_listening(&self) {
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
        let shown = ["print.key=true", "key.separator=\t", BYTES];
        let (stdout, _) = self.consume(topic, most, &shown).await;
        let lines = stdout.split(|byte| *byte == b'\n');
        let records = lines.filter_map(|line| {
            let at = line.iter().position(|byte| *byte == b'\t')?;
            let value = String::from_utf8_lossy(&line[at + 1..]).into_owned();
            Some((line[..at].to_vec(), value))
        });
        records.collect()
    }

    /// Returns how many messages Kafka's own consumer counts in a topic, of what is committed.
    pub(crate) async fn count(&self, topic: &str) -> usize {
        let (_, said) = self.consume(topic, 100_000_000, &[]).await;
        let (_, rest) = said.split_once("Processed a total of ").unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    }

    /// Returns the headers of each message of a topic, in the consumer's spelling, sorted.
    pub(crate) async fn headers(&self, topic: &str) -> Vec<String> {
        let shown = ["print.headers=true", "print.value=false"];
        let (stdout, _) = self.consume(topic, 1000, &shown).await;
        let text = String::from_utf8(stdout).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("schema:"));
        let mut headers: Vec<String> = lines.map(str::to_owned).collect();
        headers.sort();
        headers
    }

    /// What Kafka's own consumer writes, of what is to be shown of a message, and what it says.
    async fn consume(&self, topic: &str, most: usize, shown: &[&str]) -> (Vec<u8>, String) {
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
        ];
        let properties = shown.iter().flat_map(|property| ["--property", property]);
        let arguments: Vec<&str> = arguments.into_iter().chain(properties).collect();
        let class = "org.apache.kafka.tools.consumer.ConsoleConsumer";
        let mut consumer = java(CLIENT_OPTIONS, class, &arguments);
        let read = consumer.kill_on_drop(true).output().await.unwrap();
        let said = String::from_utf8_lossy(&read.stderr).into_owned();
        assert!(said.contains("Processed a total of"), "{said}");
        (read.stdout, said)
    }

    /// Has Kafka's own producer write texts to a topic.
    pub(crate) async fn produce(&self, topic: &str, texts: &[&str]) {
        self.produce_by(topic, texts, &[]).await;
    }

    /// The same for texts with a key before a colon.
    pub(crate) async fn produce_with_keys(&self, topic: &str, texts: &[&str]) {
        let keys = [
            "--property",
            "parse.key=true",
            "--property",
            "key.separator=:",
        ];
        self.produce_by(topic, texts, &keys).await;
    }

    async fn produce_by(&self, topic: &str, texts: &[&str], more: &[&str]) {
        let address = self.address.to_string();
        let arguments = ["--bootstrap-server", &address, "--topic", topic];
        let arguments = [&arguments[..], more].concat();
        let class = "org.apache.kafka.tools.ConsoleProducer";
        let mut producer = java(CLIENT_OPTIONS, class, &arguments);
        producer.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut producer = producer.kill_on_drop(true).spawn().unwrap();
        let mut input = producer.stdin.take().unwrap();
        let lines = texts.join("\n") + "\n";
        input.write_all(lines.as_bytes()).await.unwrap();
        drop(input);
        assert!(producer.wait().await.unwrap().success());
    }

    /// Makes a topic.
    pub(crate) async fn make(&self, topic: &str, partitions: usize, settings: &[&str]) {
        let partitions = partitions.to_string();
        let mut how = vec!["--create", "--if-not-exists", "--partitions", &partitions];
        for setting in settings {
            how.extend(["--config", setting]);
        }
        self.change(topic, &how).await;
    }

    /// Deletes a topic, and makes another one of the same name.
    pub(crate) async fn make_anew(&self, topic: &str, partitions: usize, settings: &[&str]) {
        self.change(topic, &["--delete"]).await;
        self.make(topic, partitions, settings).await;
    }

    /// Adds partitions, up to that many.
    pub(crate) async fn add_partitions(&self, topic: &str, partitions: usize) {
        let partitions = partitions.to_string();
        self.change(topic, &["--alter", "--partitions", &partitions])
            .await;
    }

    /// Sets one of a topic's settings.
    pub(crate) async fn set_config(&self, topic: &str, setting: &str) {
        let address = self.address.to_string();
        let arguments = [
            "--bootstrap-server",
            &address,
            "--topic",
            topic,
            "--alter",
            "--add-config",
            setting,
        ];
        run_tool("kafka.admin.ConfigCommand", &arguments).await;
    }

    /// Deletes all that a topic has, as its retention does.
    pub(crate) async fn delete_records(&self, topic: &str, partitions: usize) {
        let all = (0..partitions)
            .map(|number| serde_json::json!({ "topic": topic, "partition": number, "offset": -1 }));
        let all: Vec<Json> = all.collect();
        let asked = serde_json::json!({ "partitions": all, "version": 1 });
        let file = self.dir.path().join("delete.json");
        std::fs::write(&file, asked.to_string()).unwrap();
        let (address, file) = (self.address.to_string(), file.display().to_string());
        let arguments = ["--bootstrap-server", &address, "--offset-json-file", &file];
        run_tool("org.apache.kafka.tools.DeleteRecordsCommand", &arguments).await;
    }

    async fn change(&self, topic: &str, how: &[&str]) {
        let address = self.address.to_string();
        let which = ["--bootstrap-server", &address, "--topic", topic];
        let arguments = [&which[..], how].concat();
        run_tool("org.apache.kafka.tools.TopicCommand", &arguments).await;
    }

    /// Ends what a producer has open, and gives its transactional ID to a newer one, as the broker
    /// does with a transaction that takes too long.
    pub(crate) async fn supersede(&self, transactional_id: &str) {
        let address = self.address.to_string();
        let arguments = [
            "--bootstrap-server",
            &address,
            "forceTerminateTransaction",
            "--transactionalId",
            transactional_id,
        ];
        run_tool("org.apache.kafka.tools.TransactionsCommand", &arguments).await;
    }

    /// Returns the documents of a topic once they satisfy a check, or the last ones that were read:
    /// a transaction's end may reach the partitions some seconds after its producer was told.
    pub(crate) async fn documents_until(
        &self,
        topic: &str,
        check: impl Fn(&[Json]) -> bool,
    ) -> Vec<Json> {
        let started = Instant::now();
        loop {
            let documents = self.documents(topic, 1000).await;
            if check(&documents) || started.elapsed() >= PATIENCE {
                return documents;
            }
        }
    }

    /// The same for a topic whose values are JSON.
    pub(crate) async fn documents(&self, topic: &str, most: usize) -> Vec<Json> {
        let records = self.records(topic, most).await.into_iter();
        records
            .map(|(_, value)| serde_json::from_str(&value).unwrap())
            .collect()
    }
}

/// Returns whether there is a Kafka to be started, and says that tests are skipped where there is
/// none.
async fn is_there() -> bool {
    let is_there = *IS_THERE.get_or_init(prepare).await;
    assert!(
        is_there || std::env::var_os("KAFKA_REQUIRED").is_none(),
        "there is no Kafka: script/setup test and script/fetch kafka bring it"
    );
    if !is_there {
        eprintln!("skipped: there is no Kafka (script/setup test and script/fetch kafka bring it)");
    }
    is_there
}

/// Returns whether there are Java and Kafka, and if so has the file of [`CLASSES`] ready.
async fn prepare() -> bool {
    let java = Command::new("java").arg("-version").output().await;
    let java = java.ok().filter(|java| java.status.success());
    let Some(java) = java.filter(|_| jars().is_dir()) else {
        return false;
    };
    CLASSES.get_or_init(|| classes(&java.stderr)).await;
    true
}

fn jars() -> PathBuf {
    root().join("assets/data/kafka")
}

/// Returns the file of [`CLASSES`] for a version of Java.
async fn classes(version: &[u8]) -> PathBuf {
    let names = std::fs::read_dir(jars()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let mut hasher = DefaultHasher::new();
    (version, names).hash(&mut hasher);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(format!("kafka-{:x}.jsa", hasher.finish()));
    if !file.exists() {
        let made = tempfile::Builder::new().tempdir_in(folder).unwrap();
        let made = made.path().join("classes");
        Broker::write_classes(&made).await;
        // A JVM that cannot write one starts without.
        drop(std::fs::rename(&made, &file));
    }
    file
}

fn class_path() -> String {
    format!("{}/*", jars().display())
}

fn classes_option() -> Option<String> {
    let file = CLASSES.get().filter(|file| file.exists())?;
    Some(format!("-XX:SharedArchiveFile={}", file.display()))
}

async fn run_tool(class: &str, arguments: &[&str]) {
    let mut tool = java(CLIENT_OPTIONS, class, arguments);
    let done = tool.kill_on_drop(true).output().await.unwrap();
    assert!(done.status.success(), "{done:?}");
}

fn java(options: &[&str], class: &str, arguments: &[&str]) -> Command {
    let mut java = Command::new("java");
    java.args(["-cp", &class_path()])
        .args(classes_option())
        .args(options)
        .arg(class)
        .args(arguments)
        .stdin(Stdio::null());
    java
}
