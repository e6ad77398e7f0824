//! The live view: what a person at the admin listener sees of hits as they arrive.

use futures_util::future::join_all;
use memchr::memmem;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Collector, PATIENCE, raw, until};

/// A viewer that reads the stream.
struct Viewer {
    stream: TcpStream,
    text: String,
}

impl Viewer {
    /// Watches, and is there once the stream has begun.
    async fn start(collector: &Collector) -> Viewer {
        Viewer::look_for(collector, "").await
    }

    /// Watches with a filter, which is a query string.
    async fn look_for(collector: &Collector, filter: &str) -> Viewer {
        let mut stream = TcpStream::connect(collector.admin).await.unwrap();
        stream
            .write_all(format!("GET /live{filter} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut viewer = Viewer {
            stream,
            text: String::new(),
        };
        // The first whole second: from then on samples are given out.
        viewer.until(|text| text.contains("event: second")).await;
        assert!(viewer.text.starts_with("HTTP/1.1 200 OK\r\n"));
        viewer
    }

    async fn until(&mut self, found: impl Fn(&str) -> bool) {
        let read = async {
            while !found(&self.text) {
                let mut bytes = [0; 4096];
                let length = self.stream.read(&mut bytes).await.unwrap();
                assert_ne!(length, 0, "the stream ended: {}", self.text);
                self.text
                    .push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        };
        let read = tokio::time::timeout(PATIENCE, read).await;
        assert!(read.is_ok(), "no more came than {}", self.text);
    }

    /// The data of every event of that name so far.
    fn events(&self, name: &str) -> Vec<Value> {
        let start = format!("event: {name}\ndata: ");
        // The last event may not be there as a whole yet.
        let whole = self.text.rfind("\n\n").unwrap_or_default();
        self.text[..whole]
            .split(&start)
            .skip(1)
            .map(|rest| serde_json::from_str(rest.lines().next().unwrap()).unwrap())
            .collect()
    }
}

#[tokio::test]
async fn what_becomes_of_each_hit_is_shown_without_ids_and_addresses() {
    let collector = Collector::open().await;
    // Places are known once geodata and rules are read.
    until(async || {
        collector
            .metric("avtryck_geodata_build_timestamp_seconds")
            .await
            > 0.0
    })
    .await;
    let mut viewer = Viewer::start(&collector).await;
    let seen = collector
        .get(
            "/p.gif?site=open&u=https%3A%2F%2Fwww.open.example%2F&id=telltale-1",
            &[],
        )
        .await;
    collector
        .get(
            "/i.gif?site=open&partner=network&campaign=spring&creative=b1&uid=telltale-2&maid=telltale-3&did=telltale-4",
            &[("Cookie", seen.cookie())],
        )
        .await;
    collector
        .get("/p.gif?site=shut&u=https%3A%2F%2Ftelltale.example%2F", &[])
        .await;
    collector
        .get("/p.gif?site=nowhere&uid=telltale-5", &[])
        .await;
    collector
        .get(
            "/pixel.gif/telltale-6?u=telltale-7",
            &[("User-Agent", "telltale-8")],
        )
        .await;
    let events = r#"[{"site":"open","e":"good"},{"site":"open","partner":"unheard","e":"bad"}]"#;
    collector.post("/e", &[], events).await;
    viewer
        .until(|text| {
            text.matches("event: hit").count() == 4 && text.matches("event: refused").count() == 3
        })
        .await;

    let hits = viewer.events("hit");
    let shown = |at: usize, name: &str| hits[at][name].as_str().unwrap().to_owned();
    assert_eq!(
        [
            shown(0, "kind"),
            shown(0, "becomes"),
            shown(0, "visitor"),
            shown(0, "class"),
            shown(0, "source")
        ],
        ["page_view", "row", "new", "phone", "default"]
    );
    assert!(shown(0, "place").ends_with("SE"), "{}", hits[0]);
    assert!(shown(0, "permit").starts_with("store.measure"));
    assert_eq!(
        [
            shown(1, "kind"),
            shown(1, "becomes"),
            shown(1, "partner"),
            shown(1, "ad")
        ],
        ["impression", "row", "network", "spring · b1"]
    );
    assert_eq!([shown(2, "site"), shown(2, "becomes")], ["shut", "count"]);
    assert_eq!(
        (&hits[2]["place"], &hits[2]["page"]),
        (&Value::Null, &Value::from(""))
    );
    assert_eq!([shown(3, "kind"), shown(3, "event")], ["event", "good"]);

    let refused = viewer.events("refused");
    let why: Vec<[&str; 3]> = refused
        .iter()
        .map(|one| ["reason", "site", "path"].map(|name| one[name].as_str().unwrap()))
        .collect();
    assert_eq!(
        why,
        [
            ["site_unknown", "nowhere", "/p.gif"],
            ["unknown_path", "", "/pixel.gif"],
            ["partner_unknown", "open", "/e"],
        ]
    );
    let value = seen.cookie().split_once('=').unwrap().1;
    for hidden in ["telltale", "2.64.0.1", value] {
        assert!(!viewer.text.contains(hidden), "{hidden} in {}", viewer.text);
    }
}

#[tokio::test]
async fn many_hits_are_sampled_and_a_viewer_that_does_not_read_holds_nothing_up() {
    let collector = Collector::open().await;
    let mut reading = Viewer::start(&collector).await;
    let stalled = Viewer::start(&collector).await;
    const HITS: usize = 3000;
    let mut connection = TcpStream::connect(collector.http).await.unwrap();
    let (mut from, mut to) = connection.split();
    let long = "x".repeat(1500);
    let request = format!(
        "GET /p.gif?site=open&u=https://www.open.example/{long} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    );
    let send = async {
        for _ in 0..HITS {
            to.write_all(request.as_bytes()).await.unwrap();
        }
    };
    let read = async {
        let mut text = Vec::new();
        while memmem::find_iter(&text, b"HTTP/1.1 200 OK").count() < HITS {
            assert_ne!(from.read_buf(&mut text).await.unwrap(), 0);
        }
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(send, read) })
        .await
        .expect("every hit is answered");
    // What was not shown is told, once for each second.
    let passed_over = |text: &str| {
        text.split("\"passed_over\":")
            .skip(1)
            .filter_map(|rest| rest.split('}').next()?.parse::<usize>().ok())
            .sum::<usize>()
    };
    reading
        .until(|text| passed_over(text) + text.matches("event: hit").count() >= HITS)
        .await;
    let shown = reading.events("hit").len();
    assert!((1..HITS / 2).contains(&shown), "{shown} of {HITS} shown");
    drop(stalled);
}

#[tokio::test]
async fn a_site_with_few_hits_is_found_among_many_and_its_hits_are_told_their_outcome() {
    let collector = Collector::open().await;
    let mut viewer = Viewer::look_for(&collector, "?site=rows-only&kind=event").await;
    let loud: String = (0..500).map(|_| r#"{"site":"open","e":"loud"},"#).collect();
    let loud = format!("[{}]", loud.trim_end_matches(','));
    let few = r#"{"site":"rows-only","e":"sale","id":"order-1","params":{"product":"phone-12","mail":"anna@shop.example"}}"#;
    // An event that is over its sender's limit uses no ID up.
    let elsewhere = [("X-Forwarded-For", "81.224.0.1")];
    let (status, replies) = tokio::join!(
        collector.post("/e", &[], few),
        join_all((0..4).map(|_| collector.post("/e", &elsewhere, &loud)))
    );
    assert_eq!(status.status, 204);
    assert!(replies.iter().all(|reply| reply.status == 204));
    viewer
        .until(|text| text.contains("\"outcome\":\"stored\"}"))
        .await;
    collector.post("/e", &[], few).await;
    viewer
        .until(|text| text.contains("\"outcome\":\"repeated\"}"))
        .await;
    let hits = viewer.events("hit");
    assert_eq!(hits.len(), 2, "only what was looked for");
    assert!(hits.iter().all(|hit| hit["site"] == "rows-only"));
    assert_eq!(hits[0]["fields"]["product"], "phone-12");
    assert!(!viewer.text.contains("anna"), "{}", viewer.text);
    let outcomes = viewer.events("outcome");
    let of = |hit: &Value| {
        let mut told = outcomes.iter().filter(|told| told["id"] == hit["id"]);
        told.next().map(|told| told["outcome"].clone())
    };
    assert_eq!(of(&hits[0]), Some(Value::from("stored")));
    assert_eq!(of(&hits[1]), Some(Value::from("repeated")));
    // Nothing else was left out for it: what did not fit was not missed.
    assert!(
        viewer
            .events("second")
            .iter()
            .all(|second| second["passed_over"] == 0)
    );
    let today = raw(
        collector.admin,
        b"GET /today HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    )
    .await;
    let today: Value = serde_json::from_str(&today.body).unwrap();
    assert_eq!(
        (&today["recorded"], &today["counted"]),
        (&Value::from(2002.0), &Value::from(0.0))
    );
    // What Postgres does not take is told too.
    let database = collector.database().await;
    let refuse = "alter table avtryck.hit add constraint none check (event_name <> 'refused')";
    database.batch_execute(refuse).await.unwrap();
    let refused = r#"{"site":"rows-only","e":"refused"}"#;
    collector.post("/e", &[], refused).await;
    viewer
        .until(|text| text.contains("\"outcome\":\"rejected\"}"))
        .await;
}

#[tokio::test]
async fn it_answers_to_its_own_names_to_a_few_viewers_and_never_on_the_public_listener() {
    let collector = Collector::open().await;
    let ask = async |path: &str, host: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        raw(collector.admin, request.as_bytes()).await
    };
    let page = ask("/", "127.0.0.1:8090").await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    assert!(
        page.header("content-security-policy")
            .starts_with("default-src 'none'; script-src 'sha256-")
    );
    assert!(page.body.contains("avtryck live"));
    for path in ["/", "/live", "/today"] {
        assert_eq!(ask(path, "evil.example").await.status, 403);
    }
    for path in ["/live", "/today"] {
        assert_eq!(collector.get(path, &[]).await.status, 404);
    }
    let public = collector.get("/", &[]).await;
    assert!(!public.body.contains("avtryck live"), "{}", public.body);
    let mut viewers = join_all((0..8).map(|_| Viewer::start(&collector))).await;
    assert_eq!(ask("/live", "localhost").await.status, 503);
    drop(viewers.pop());
    // The place is free once the collector has seen that the connection is closed.
    let again = async { while ask_head(&collector).await != 200 {} };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
}

/// Opens a stream and leaves at once; the status that it got.
async fn ask_head(collector: &Collector) -> u16 {
    let mut stream = TcpStream::connect(collector.admin).await.unwrap();
    stream
        .write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    str::from_utf8(&start[9..]).unwrap().parse().unwrap()
}
