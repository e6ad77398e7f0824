//! `avtryck export`: what a partner's server gets, whatever cuts either of them off.

use std::collections::{BTreeSet, HashMap};
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use avtryck::callback::{Destination, Signed};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::tls::{self, Authority};
use crate::support::{Config, Dir, command, tempdir};
use crate::testing::TestDatabase;

const SECRET: &str = "a-secret-of-deliveries";
/// How long after a withdrawal what was on its way may arrive, on a machine that is busy.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

type Entry = (String, String);

/// A request as it arrived.
struct Arrival {
    at: Instant,
    head: Value,
    lines: Vec<Value>,
}

/// What a receiver knows that does as it is told.
#[derive(Default)]
struct Memory {
    arrivals: Vec<Arrival>,
    seen: HashMap<String, (u64, String)>,
    held: BTreeSet<Entry>,
    full: BTreeSet<Entry>,
    /// Deliveries that came again.
    repeated: usize,
}

impl Memory {
    fn take(&mut self, body: &str) {
        let mut lines = body.lines().map(|line| serde_json::from_str(line).unwrap());
        let head: Value = lines.next().unwrap();
        let lines: Vec<Value> = lines.collect();
        assert_eq!(head["lines"], lines.len(), "{head}");
        let id = head["delivery"].as_str().unwrap().to_owned();
        let kind = head["kind"].as_str().unwrap().to_owned();
        let number = head["number"].as_u64().unwrap();
        let known = self.seen.insert(id, (number, kind.clone()));
        let arrival = Arrival {
            at: Instant::now(),
            head: head.clone(),
            lines,
        };
        if let Some(known) = known {
            assert_eq!(known, (number, kind), "another delivery under the same ID");
            self.repeated += 1;
            self.arrivals.push(arrival);
            return;
        }
        for line in &arrival.lines {
            let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            let entry = (text("segment"), text("id"));
            match (&*kind, &*text("op")) {
                ("remove", "remove") => {
                    self.held.remove(&entry);
                    self.full.remove(&entry);
                }
                ("delta", "add") => assert!(self.held.insert(entry), "it has it already: {line}"),
                ("full", "add") => assert!(self.full.insert(entry), "twice in a list: {line}"),
                ("event", _) => {}
                _ => panic!("{head} {line}"),
            }
        }
        if kind == "full" {
            self.held.extend(self.full.iter().cloned());
            if head["is_last"] == true {
                self.held = std::mem::take(&mut self.full);
            }
        }
        self.arrivals.push(arrival);
    }
}

/// A server that takes deliveries, and what it does with the next ones.
struct Receiver {
    address: SocketAddr,
    memory: Arc<Mutex<Memory>>,
}

/// What becomes of one of a hundred requests: below the first number it is refused, below the
/// second it is taken and the answer is lost.
type Faults = (u8, u8);

impl Receiver {
    async fn start(faults: Faults, stem: Option<&Path>) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let memory = Arc::new(Mutex::new(Memory::default()));
        let acceptor = stem.map(tls::acceptor);
        let taken = Arc::clone(&memory);
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(7);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let fate = random.u8(..100);
                let fate = match fate {
                    fate if fate < faults.0 => 500,
                    fate if fate < faults.1 => 0,
                    _ => 200,
                };
                match &acceptor {
                    None => serve(stream, fate, &taken).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            serve(stream, fate, &taken).await;
                        }
                    }
                }
            }
        });
        Receiver { address, memory }
    }
}

/// Takes one request, whose signature must be right; a killed sender may send part of one.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    status: u16,
    memory: &Mutex<Memory>,
) {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        let mut buffer = [0; 65_536];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length = header(&head, "content-length").parse::<usize>().unwrap();
        if bytes.len() == end + 4 + length {
            break (head, bytes.split_off(end + 4));
        }
    };
    let (timestamp, host) = (header(&head, "avtryck-timestamp"), header(&head, "host"));
    let signed = Signed {
        timestamp: &timestamp,
        method: "POST",
        target: "/in?from=us",
        body: &body,
    };
    let destination = Destination {
        host: &host,
        content_type: &header(&head, "content-type"),
    };
    assert!(head.starts_with("POST /in?from=us HTTP/1.1\r\n"), "{head}");
    let signature = signed.signature_2(&destination, SECRET.as_bytes());
    assert_eq!(Some(header(&head, "avtryck-signature")), signature);
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains(&header(&head, "avtryck-delivery")));
    if status == 500 {
        let answer = b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n";
        drop(stream.write_all(answer).await);
        return;
    }
    memory.lock().unwrap().take(&body);
    if status == 200 {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        drop(stream.write_all(answer).await);
        drop(stream.flush().await);
        drop(stream.read(&mut [0]).await);
    }
}

fn header(head: &str, name: &str) -> String {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let found = lines.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found
        .unwrap_or_else(|| panic!("no {name} in {head}"))
        .1
        .to_owned()
}

/// A folder with a configuration of its own database, in which a partner is told of one segment.
async fn stage(settings: &str) -> (Dir, TestDatabase) {
    let (dir, database) = (tempdir(), TestDatabase::migrated().await);
    let config = Config::sites().with(&format!(
        "[[partner]]\nkey = \"net\"\nexport_id = \"partner\"\nexport_secret = \"{SECRET}\"\n{settings}\n\
         [[segment]]\nkey = \"one\"\nwhere = \"true\"\npartners = [\"net\"]\n"
    ));
    config.database_of(&database).write(&dir).await;
    let sql =
        "insert into avtryck.segment (key, size, is_exposed, min_size) values ('one', 99, true, 1)";
    database.client.batch_execute(sql).await.unwrap();
    (dir, database)
}

/// Puts a visitor into the segment who permits everything, and whose ID the partner signed.
async fn add(client: &Client, subject: Uuid) {
    let uid = format!("uid-{subject}");
    for sql in [
        "insert into avtryck.subject_permit (subject, site, partner, permit, consent_source, at) \
         values ($1, 'open', 'net', 15, 2, now())",
        "insert into avtryck.segment_member (segment, subject, since, permit) \
         select segment, $1, now(), 7 from avtryck.segment",
    ] {
        client.execute(sql, &[&subject]).await.unwrap();
    }
    let sql = "insert into avtryck.partner_id (visitor_id, first_seen, last_seen, partner, partner_uid, is_proved) \
               values ($1, now(), now(), 'net', $2, true)";
    client.execute(sql, &[&subject, &uid]).await.unwrap();
}

fn exporter(dir: &Path, arguments: &[&str]) -> tokio::process::Command {
    let mut command = command(&["export", "--partner", "net"]);
    command
        .args(arguments)
        .env("AVTRYCK_CONFIG", dir.join("avtryck.toml"))
        .stdout(Stdio::null());
    command
}

async fn export_once(dir: &Path, arguments: &[&str]) -> Output {
    let arguments = [&["--once"], arguments].concat();
    exporter(dir, &arguments).output().await.unwrap()
}

async fn pass_an_hour(client: &Client) {
    let sql = "update avtryck.export_target set compared_at = now() - interval '2 hours'";
    client.batch_execute(sql).await.unwrap();
}

/// Changes something by chance. Returns whoever withdrew.
async fn live(client: &Client, random: &mut fastrand::Rng, people: &mut Vec<Uuid>) -> Vec<Uuid> {
    for _ in 0..random.usize(..20) {
        let subject = Uuid::from_u128(random.u128(..));
        add(client, subject).await;
        people.push(subject);
    }
    let mut gone = Vec::new();
    for _ in 0..random.usize(..6).min(people.len()) {
        let subject = people.swap_remove(random.usize(..people.len()));
        let sql = match random.bool() {
            true => "update avtryck.subject_permit set permit = 3 where subject = $1",
            false => "delete from avtryck.subject_permit where subject = $1",
        };
        client.execute(sql, &[&subject]).await.unwrap();
        gone.push(subject);
    }
    for _ in 0..random.usize(..4).min(people.len()) {
        // Out of the segment, and back some time.
        let subject = people[random.usize(..people.len())];
        let sql = "delete from avtryck.segment_member where subject = $1";
        if client.execute(sql, &[&subject]).await.unwrap() == 0 {
            let sql = "insert into avtryck.segment_member (segment, subject, since, permit) \
                       select segment, $1, now(), 7 from avtryck.segment";
            client.execute(sql, &[&subject]).await.unwrap();
        }
    }
    pass_an_hour(client).await;
    if random.u8(..4) == 0 {
        let sql = "update avtryck.export_target set full_at = null";
        client.batch_execute(sql).await.unwrap();
    }
    gone
}

/// Who the partner is to know.
async fn wanted(client: &Client) -> BTreeSet<Entry> {
    let sql = "select 'uid-' || member.subject from avtryck.segment_member as member \
               join avtryck.subject_permit as permit using (subject) where permit.permit = 15";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter()
        .map(|row| ("one".to_owned(), row.get(0)))
        .collect()
}

#[tokio::test]
async fn a_partner_has_each_delivery_once_and_nothing_of_whoever_withdrew_wherever_it_is_killed() {
    let receiver = Receiver::start((15, 30), None).await;
    let url = format!("export_url = \"http://{}/in?from=us\"", receiver.address);
    let (dir, database) = stage(&url).await;
    let client = &database.client;
    let kills = crate::chaos::variable("EXPORT_KILLS").unwrap_or(12);
    let mut random = fastrand::Rng::with_seed(19);
    let (mut people, mut withdrawn, mut killed) = (Vec::new(), HashMap::new(), 0);
    while killed < kills {
        let mut run = exporter(dir.path(), &[])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_millis(random.u64(20..2500));
        while Instant::now() < until {
            for subject in live(client, &mut random, &mut people).await {
                withdrawn.insert(format!("uid-{subject}"), Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(random.u64(1..400))).await;
        }
        killed += u64::from(run.try_wait().unwrap().is_none());
        run.kill().await.unwrap();
    }
    // Whoever waited behind a removal comes with the second comparison.
    for _ in 0..2 {
        pass_an_hour(client).await;
        let mut tries = 0;
        while !export_once(dir.path(), &[]).await.status.success() {
            tries += 1;
            assert!(tries < 100, "it never ends");
        }
    }

    let wanted = wanted(client).await;
    let open = "select count(*) from avtryck.export_delivery where delivered_at is null";
    let open = client.query_one(open, &[]).await.unwrap();
    assert_eq!(open.get::<_, i64>(0), 0);
    let memory = receiver.memory.lock().unwrap();
    assert_eq!(memory.held, wanted);
    let numbers: BTreeSet<u64> = memory.seen.values().map(|(number, _)| *number).collect();
    assert_eq!(numbers.len(), memory.seen.len(), "a number for each");
    let mut latest = Duration::ZERO;
    for arrival in &memory.arrivals {
        for line in arrival.lines.iter().filter(|line| line["op"] == "add") {
            let since = withdrawn.get(line["id"].as_str().unwrap());
            let late = since.map(|since| arrival.at.saturating_duration_since(*since));
            latest = latest.max(late.unwrap_or_default());
            assert!(
                late.is_none_or(|late| late < ON_ITS_WAY),
                "{late:?} {}",
                arrival.head
            );
        }
    }
    assert!(!withdrawn.is_empty() && memory.seen.len() > 5);
    eprintln!(
        "{killed} kills, {} deliveries, {} of them came again under the same ID, {} withdrew, of whom nothing \
         came later than {latest:?}",
        memory.seen.len(),
        memory.repeated,
        withdrawn.len()
    );
}

#[tokio::test]
async fn files_are_whole_and_numbered_and_a_full_list_can_be_asked_for() {
    let files = tempdir();
    let folder = files.path().display().to_string();
    let (dir, database) = stage(&format!("export_dir = \"{folder}\"")).await;
    add(&database.client, Uuid::from_u128(1)).await;
    for arguments in [&[][..], &[], &["--full"]] {
        let output = export_once(dir.path(), arguments).await;
        assert!(output.status.success(), "{output:?}");
    }
    let mut names: Vec<String> = std::fs::read_dir(files.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    // Behind that are the delivery's ID and the ending.
    let begin: Vec<&str> = names.iter().map(|name| &name[..19]).collect();
    assert_eq!(begin, ["net-0000000001-full", "net-0000000002-full"]);
    let packed = std::fs::File::open(files.path().join(&names[1])).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed)
        .read_to_string(&mut text)
        .unwrap();
    let mut memory = Memory::default();
    memory.take(&text);
    assert_eq!(memory.held, wanted(&database.client).await);
    assert_eq!(memory.held.len(), 1);
}

#[tokio::test]
async fn https_goes_to_whom_the_machine_trusts_and_to_nobody_else() {
    let authority = Authority::new();
    let stem = tempdir();
    authority.issue(&stem.path().join("a"), &["localhost"], 2100);
    authority.write(&stem.path().join("ca.pem"));
    Authority::new().write(&stem.path().join("other.pem"));
    let receiver = Receiver::start((0, 0), Some(&stem.path().join("a"))).await;
    let port = receiver.address.port();
    let url = format!("export_url = \"https://localhost:{port}/in?from=us\"");
    let (dir, database) = stage(&url).await;
    add(&database.client, Uuid::from_u128(1)).await;
    for (trusted, arrives) in [("other.pem", false), ("ca.pem", true)] {
        let output = exporter(dir.path(), &["--once"])
            .env("SSL_CERT_FILE", stem.path().join(trusted))
            .output()
            .await
            .unwrap();
        assert_eq!(output.status.success(), arrives, "{output:?}");
        let taken = receiver.memory.lock().unwrap().arrivals.len();
        assert_eq!(taken, usize::from(arrives));
    }
}

#[tokio::test]
async fn a_webhook_is_told_of_entries_and_exits_and_unknown_receivers_are_named() {
    let receiver = Receiver::start((0, 0), None).await;
    let url = format!("http://{}/in?from=us", receiver.address);
    let (dir, database) = stage(&format!(
        "[[webhook]]\nkey = \"crm\"\nurl = \"{url}\"\nsecret = \"{SECRET}\"\nsegments = [\"one\"]"
    ))
    .await;
    let run = async |arguments: &[&str]| {
        let mut command = command(&["export", "--once"]);
        command
            .args(arguments)
            .env("AVTRYCK_CONFIG", dir.path().join("avtryck.toml"));
        let output = command.output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), said)
    };
    let (status, said) = run(&["--webhook", "crm"]).await;
    assert_eq!(status, 0, "{said}");
    let sql = "insert into avtryck.segment_change (at, segment, subject, is_entry, reason) \
               select '2026-11-27 22:00Z', segment, $1, $2, 'rule' from avtryck.segment";
    for is_entry in [true, false] {
        let subject = Uuid::from_u128(1);
        database
            .client
            .execute(sql, &[&subject, &is_entry])
            .await
            .unwrap();
        assert_eq!(run(&["--webhook", "crm"]).await.0, 0);
    }
    {
        let memory = receiver.memory.lock().unwrap();
        let [Arrival { head, lines, .. }, left] = &memory.arrivals[..] else {
            panic!("{}", memory.arrivals.len());
        };
        assert_eq!(
            (&head["to"], &head["kind"]),
            (&"crm".into(), &"event".into())
        );
        assert_eq!(
            lines[0].to_string(),
            r#"{"at":"2026-11-27T22:00:00Z","event":"entry","reason":"rule","segment":"one","subject":"00000000-0000-0000-0000-000000000001"}"#
        );
        assert_eq!((lines.len(), left.lines.len()), (1, 1));
        assert_eq!(left.lines[0]["event"], "exit");
    }
    for (arguments, said) in [
        (
            &["--partner", "nobody"][..],
            "nobody is the key of no [[partner]]",
        ),
        (
            &["--webhook", "nobody"],
            "nobody is the key of no [[webhook]]",
        ),
        (
            &["--partner", "net"],
            "partner net has no export_url and no export_dir",
        ),
    ] {
        let (status, text) = run(arguments).await;
        assert!(status == 64 && text.contains(said), "{status} {text}");
    }
}

/// A server that gives one connection after another an answer of a list, and reads each request.
/// Returns its address, and the ID of each delivery that came, with when that was.
async fn answer_by_list(answers: Vec<Vec<u8>>) -> (SocketAddr, Arc<Mutex<Vec<(String, Instant)>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let came = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&came);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut bytes, mut buffer) = (Vec::new(), [0; 65_536]);
            let is_whole = |bytes: &[u8]| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
                    body.len() == header(head, "content-length").parse::<usize>().unwrap()
                })
            };
            while !is_whole(&bytes) {
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(read) => bytes.extend_from_slice(&buffer[..read]),
                }
            }
            let head = String::from_utf8_lossy(&bytes).into_owned();
            let id = header(&head, "avtryck-delivery");
            noted.lock().unwrap().push((id, Instant::now()));
            // Who does not read on to the end of a body closes.
            drop(stream.write_all(&answer).await);
        }
    });
    (address, came)
}

#[tokio::test]
async fn an_answer_that_is_none_of_success_has_the_same_delivery_sent_again_there_and_nowhere_else()
{
    let (elsewhere, elsewhere_came) = answer_by_list(vec![Vec::new(); 3]).await;
    let huge = [
        b"HTTP/1.1 500 No\r\ncontent-length: 1000000000\r\n\r\n".to_vec(),
        vec![b'x'; 8 << 20],
    ]
    .concat();
    let endless = [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'x'; 8 << 20]].concat();
    let answers: Vec<Vec<u8>> = vec![
        format!("HTTP/1.1 301 Moved\r\nlocation: http://{elsewhere}/in\r\n\r\n").into_bytes(),
        format!("HTTP/1.1 307 Moved\r\nlocation: http://{elsewhere}/in\r\n\r\n").into_bytes(),
        b"HTTP/1.1 401 No\r\nwww-authenticate: Basic\r\n\r\n".to_vec(),
        b"HTTP/1.1 413 No\r\n\r\n".to_vec(),
        b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(),
        b"HTTP/1.1 2".to_vec(),
        b"220 mail.example ESMTP\r\n".to_vec(),
        Vec::new(),
        huge,
        endless,
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\nx".to_vec(),
    ];
    let tries = answers.len();
    let (address, came) = answer_by_list(answers).await;
    let url = format!("export_url = \"http://{address}/in?from=us\"");
    let (dir, database) = stage(&url).await;
    add(&database.client, Uuid::from_u128(1)).await;
    for number in 1..=tries {
        let outcome = export_once(dir.path(), &[]).await;
        let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
        assert_eq!(
            outcome.status.success(),
            number == tries,
            "{number}: {said}"
        );
        assert!(!said.contains("panicked"), "{said}");
    }
    let came = came.lock().unwrap();
    assert_eq!(came.len(), tries);
    assert!(came.iter().all(|(id, _)| *id == came[0].0), "{came:?}");
    assert!(elsewhere_came.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_receiver_that_asks_to_be_left_alone_is_left_alone_for_as_long() {
    let busy = b"HTTP/1.1 429 Later\r\nretry-after: 4\r\n\r\n".to_vec();
    let (address, came) = answer_by_list(vec![busy, b"HTTP/1.1 204 Yes\r\n\r\n".to_vec()]).await;
    let url = format!("export_url = \"http://{address}/in?from=us\"");
    let (dir, database) = stage(&url).await;
    add(&database.client, Uuid::from_u128(1)).await;
    let mut run = exporter(dir.path(), &[])
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while came.lock().unwrap().len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    run.kill().await.unwrap();
    let came = came.lock().unwrap();
    let pause = came[1].1 - came[0].1;
    assert!(pause >= Duration::from_secs(4), "{pause:?}");
    assert_eq!(came[0].0, came[1].0);
}
