//! How quick pages are told the segments of their visitors, beside hits.
//!
//! A collector with Postgres holds the segments of a million visitors, or as many as are asked for.
//! Two open loops ask it at once: one sends hits, as the open loop of the other contenders does,
//! and one asks `/segments` for visitors, of whom most are members, some are not, and some bring no
//! cookie. Before that the latency of each loop alone is measured.
//!
//! Nobody evaluates meanwhile: the members are made here, and the lock of evaluations is held.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use avtryck::clock;
use avtryck::hit::VisitorId;
use avtryck::keys::CookieKeyring;
use loadtest::corpus::{Corpus, HOST, Request, SITE};
use loadtest::rig::collector::Collector;
use loadtest::rig::postgres::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::Client;

use crate::configuration::start_with;
use crate::open_loop::{self, Outcome};
use crate::tls::Files;

/// Requests a second, of hits and of pages that ask.
const RATE: u32 = 10_000;
/// Visitors who ask.
const ASKING: usize = 50_000;
/// The segments that the site may be told.
const SEGMENTS: usize = 12;
/// How long the collector may take to read all members.
const READ_TIME_MAX: Duration = Duration::from_secs(300);
/// The advisory lock under which segments are evaluated.
const EVALUATION: &str = "select pg_advisory_lock(x'7365676d656e7473'::bigint)";

/// What was measured.
pub(crate) struct Told {
    members: u64,
    loops: Vec<(&'static str, Outcome)>,
    memory_bytes: u64,
}

impl Told {
    /// Returns a table for a terminal.
    pub(crate) fn terminal(&self) -> String {
        let mut lines = vec![format!(
            "{} members, {RATE} requests a second in each loop, resident at most {} MiB\n\
             {:32} {:>9} {:>9} {:>9} {:>9} {:>8}",
            self.members,
            self.memory_bytes >> 20,
            "milliseconds",
            "p50",
            "p99",
            "p99.9",
            "largest",
            "failed"
        )];
        for (name, outcome) in &self.loops {
            let [p50, p99, p999, most] = [0.5, 0.99, 0.999, 1.0].map(|at| outcome.millis(at));
            lines.push(format!(
                "{name:32} {p50:9.2} {p99:9.2} {p999:9.2} {most:9.2} {:8}",
                outcome.failed
            ));
        }
        lines.join("\n")
    }
}

/// Somebody who asks, and whether they are in segments.
struct Asker {
    visitor: VisitorId,
    is_member: bool,
    request: Request,
}

/// Measures it in a database of its own.
pub(crate) async fn measure(
    (dir, server): (&Path, &Server),
    (hits, keyring, key): (Corpus, &CookieKeyring, &str),
    members: u64,
    time: Duration,
) -> anyhow::Result<Told> {
    let client = server.client("segments").await?;
    client.query_one(EVALUATION, &[]).await?;
    let certificate = Files::make(dir).await?;
    let mut settings = String::new();
    for number in 0..SEGMENTS {
        settings += &format!(
            "[[segment]]\nkey = \"segment-{number}\"\nwhere = \"days_active > {number}\"\nexpose = [\"{SITE}\"]\n"
        );
    }
    let url = server.url("segments").await?;
    let own = dir.join("segments");
    let collector = start_with(&own, &url, true, key, &certificate, &settings).await?;
    let askers = make_askers(keyring)?;
    fill(&client, &askers, members).await?;
    wait_until_told(&collector, &askers).await?;

    let requests = askers.into_iter().map(|asker| asker.request).collect();
    let asks = Arc::new(Corpus { requests });
    let hits = Arc::new(hits);
    let send = |corpus: &Arc<Corpus>, send: u64| {
        let corpus = Arc::clone(corpus);
        open_loop::run(collector.http, corpus, send * 10_000_000, RATE, time)
    };
    let alone = send(&asks, 0).await?;
    let hits_alone = send(&hits, 1).await?;
    let (beside, hits_beside) = tokio::try_join!(send(&asks, 0), send(&hits, 2))?;
    let told = Told {
        members,
        loops: vec![
            ("/segments alone", alone),
            ("hits alone", hits_alone),
            ("/segments beside hits", beside),
            ("hits beside /segments", hits_beside),
        ],
        memory_bytes: collector.memory_bytes_max()?,
    };
    collector.stop().await?;
    Ok(told)
}

/// Makes those who ask: of ten seven are members, two are none, and one has no cookie.
fn make_askers(keyring: &CookieKeyring) -> anyhow::Result<Vec<Asker>> {
    let mut random = fastrand::Rng::with_seed(10);
    let now = clock::now();
    let mut askers = Vec::with_capacity(ASKING);
    for number in 0..ASKING {
        let visitor = VisitorId(random.u128(..).to_be_bytes());
        let value = keyring.sign(visitor, now).context("a cookie")?;
        let cookie = match number % 10 {
            9 => String::new(),
            _ => format!("Cookie: _ga=GA1.2.1.2; avid={value}\r\n"),
        };
        let text = format!(
            "GET /segments?site={SITE} HTTP/1.1\r\nHost: {HOST}\r\nConnection: keep-alive\r\n\
             User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36\r\n\
             Accept: */*\r\nOrigin: https://www.shop.example\r\nReferer: https://www.shop.example/\r\n\
             Accept-Encoding: gzip, deflate, br\r\nAccept-Language: sv-SE,sv;q=0.9\r\n{cookie}\
             X-Forwarded-For: 78.{}.{}.{}\r\n\r\n",
            64 + random.u8(..16),
            random.u8(..),
            random.u8(1..255),
        );
        askers.push(Asker {
            visitor,
            is_member: number % 10 < 7,
            request: Request {
                text,
                serial_at: None,
                client_ip: [78, 64, 0, 1].into(),
            },
        });
    }
    Ok(askers)
}

/// Puts members into segments: the askers who are some, and as many others as are wanted.
async fn fill(client: &Client, askers: &[Asker], members: u64) -> anyhow::Result<()> {
    let begun = Instant::now();
    let is_there = "select to_regclass('avtryck.segment_member') is not null";
    while !client
        .query_one(is_there, &[])
        .await?
        .try_get::<_, bool>(0)?
    {
        anyhow::ensure!(
            begun.elapsed() < READ_TIME_MAX,
            "the collector makes no schema"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let sql = format!(
        "insert into avtryck.segment (key, size, is_exposed, min_size) \
         select 'segment-' || n, {members}, true, 100 from generate_series(0, {SEGMENTS} - 1) as n"
    );
    client.batch_execute(&sql).await?;
    let ids = askers.iter().filter(|asker| asker.is_member);
    let ids: Vec<String> = ids.map(|asker| asker.visitor.to_string()).collect();
    // One in three segments or so each, in a few hundred different sets.
    let sql = "insert into avtryck.segment_member (segment, subject, since, permit) \
               select segment, member.subject, now(), 7 \
               from (select subject::uuid, row_number() over () as n from unnest($1::text[]) as subject \
                     union all \
                     select gen_random_uuid(), n from generate_series(1, $2::bigint) as n) as member \
               join avtryck.segment on (member.n * 7 + segment * segment) % 11 < 4 or segment.key = 'segment-0'";
    let others = i64::try_from(members.saturating_sub(ids.len() as u64))?;
    client.execute(sql, &[&ids, &others]).await?;
    client
        .batch_execute("analyze avtryck.segment_member")
        .await?;
    Ok(())
}

/// Waits until the collector tells the members what they are, and others nothing.
async fn wait_until_told(collector: &Collector, askers: &[Asker]) -> anyhow::Result<()> {
    let begun = Instant::now();
    for (number, asker) in askers.iter().enumerate().take(2_000) {
        let has_cookie = number % 10 < 9;
        let is_told = asker.is_member && has_cookie;
        while ask(collector, asker).await?.contains("segment-0") != is_told {
            anyhow::ensure!(
                begun.elapsed() < READ_TIME_MAX,
                "the collector does not tell what it should"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}

async fn ask(collector: &Collector, asker: &Asker) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(collector.http).await?;
    let text = asker.request.text.replace("keep-alive", "close");
    stream.write_all(text.as_bytes()).await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    anyhow::ensure!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    Ok(reply)
}
