//! Withdrawal, subject access and erasure: what the list of suppression keeps from being loaded,
//! and what `avtryck subject` exports and deletes.

use std::path::Path;
use std::process::Output;

use avtryck::postgres::server::embedded::Embedded;
use serde_json::{Value, json};

use crate::chaos::variable;
use crate::support::{Collector, Config, command, tampered, tempdir, until};

const PAGE: (&str, &str) = ("Origin", "https://www.open.example");
const MAID: &str = "38400000-8cf0-11bd-b23e-10b96e40000d";

/// Runs `avtryck subject` with the configuration in `dir`.
async fn subject(dir: &Path, arguments: &[&str]) -> Output {
    command(&["subject"])
        .args(arguments)
        .env("AVTRYCK_CONFIG", dir.join("avtryck.toml"))
        .output()
        .await
        .unwrap()
}

async fn succeeds(dir: &Path, arguments: &[&str]) -> String {
    let output = subject(dir, arguments).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn tables(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["table"].as_str().unwrap())
        .collect()
}

async fn new_visitor(collector: &Collector) -> String {
    let reply = collector.get("/id?site=open", &[]).await;
    reply.cookie().to_owned()
}

async fn hit(collector: &Collector, cookie: &str, more: &str) {
    let target = format!("/p.gif?site=open{more}");
    let reply = collector.get(&target, &[("Cookie", cookie)]).await;
    assert_eq!(reply.status, 200);
}

async fn withdraw(collector: &Collector, cookie: &str) {
    let reply = collector
        .request(
            "DELETE",
            "/consent?site=open",
            &[PAGE, ("Sec-Fetch-Site", "same-site"), ("Cookie", cookie)],
            "",
        )
        .await;
    assert_eq!(reply.status, 200);
}

fn uuid(cookie: &str) -> String {
    avtryck::hit::VisitorId(super::consent::visitor_of(cookie)).to_string()
}

/// A collector whose Postgres does not run yet, and the directory where it will run.
async fn without_postgres() -> (Collector, std::path::PathBuf) {
    let dir = tempdir();
    let later = dir.path().join("later");
    Config::sites().postgres_in(&later).write(&dir).await;
    (Collector::start_in(dir).await, later)
}

async fn number(client: &tokio_postgres::Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_withdrawal_overtakes_waiting_hits_through_kills_and_without_postgres() {
    let (collector, later) = without_postgres().await;
    let [anna, berta] = [new_visitor(&collector).await, new_visitor(&collector).await];
    for n in 0..10 {
        hit(&collector, &anna, &format!("&e=anna-{n}&id=anna-{n}")).await;
        hit(&collector, &berta, &format!("&e=berta-{n}")).await;
    }
    withdraw(&collector, &anna).await;
    // Only the disk has it.
    let dir = collector.kill().await;
    let collector = Collector::start_in(dir).await;
    let metric = "avtryck_instruction_backlog_bytes";
    assert!(collector.metric(metric).await > 0.0);
    // A browser that kept its cookie, against the reply.
    hit(&collector, &anna, "&e=anna-later").await;
    let postgres = Embedded::start(&later).await.unwrap();
    collector
        .until_metric("avtryck_spool_backlog_bytes", 0.0)
        .await;
    collector.until_metric(metric, 0.0).await;
    let client = avtryck::postgres::connect(&postgres.config())
        .await
        .unwrap();
    for (sql, expected) in [
        ("select count(*) from avtryck.hit", 10),
        (
            "select count(*) from avtryck.hit where event_name like 'berta-%'",
            10,
        ),
        ("select sum(hits)::bigint from avtryck.hit_count", 11),
        ("select count(*) from avtryck.event_key", 0),
        (
            "select count(*) from avtryck.suppression where reason = 'withdrawal'",
            1,
        ),
    ] {
        assert_eq!(number(&client, sql).await, expected, "{sql}");
    }
    let metric = "avtryck_loader_suppressed_total";
    assert_eq!(collector.metric(metric).await, 11.0);
    // A hit after a restart becomes a count too.
    let collector = Collector::start_in(collector.kill().await).await;
    hit(&collector, &anna, "&e=anna-last").await;
    collector.until_metric(metric, 1.0).await;
    assert_eq!(
        number(&client, "select count(*) from avtryck.hit").await,
        10
    );
    let _dir = collector.kill().await;
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_cookie_that_is_not_ours_withdraws_nobody() {
    let collector = Collector::open().await;
    let cookie = new_visitor(&collector).await;
    let forged = tampered(&cookie);
    withdraw(&collector, &forged).await;
    hit(&collector, &cookie, "").await;
    let sql = "select count(*) from avtryck.hit";
    collector.wait_for(sql, 1).await;
    let metric = "avtryck_instructions_total";
    assert_eq!(collector.metric(metric).await, 0.0);
    // The operator's command does not accept it as a visitor's either.
    for command in ["export", "erase"] {
        let (_, value) = forged.split_once('=').unwrap();
        let output = subject(collector.dir.path(), &[command, "--visitor", value]).await;
        assert_eq!(output.status.code(), Some(64));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.starts_with("--visitor: neither a UUID"), "{told}");
        assert!(output.stdout.is_empty());
    }
    assert_eq!(collector.number(sql).await, 1);
}

#[tokio::test]
async fn an_export_beside_the_collector_has_every_table_and_leaves_the_database_running() {
    let collector = Collector::open().await;
    let anna = new_visitor(&collector).await;
    let ad = format!("&partner=network&campaign=spring&uid=u-1&maid={MAID}");
    hit(
        &collector,
        &anna,
        "&u=https%3A%2F%2Fwww.open.example%2Fanna",
    )
    .await;
    let target = format!("/i.gif?site=open{ad}");
    let reply = collector.get(&target, &[("Cookie", &anna)]).await;
    assert_eq!(reply.status, 200);
    // Somebody else's hit with the same partner.
    let other = target.replace("u-1", "u-2").replace(MAID, "other");
    assert_eq!(collector.get(&other, &[]).await.status, 200);
    collector
        .wait_for("select count(*) from avtryck.hit", 3)
        .await;
    // Ties, permits and facts are added up beside the loader, and groups twice a minute.
    let folded = "select count(*) from avtryck.link_node, avtryck.subject_permit \
                  join avtryck.subject_day using (subject) where node = subject and subject_permit.site = 'open'";
    until(async || collector.number(folded).await > 0).await;
    let dir = collector.dir.path();
    let (_, value) = anna.split_once('=').unwrap();
    let by_uuid = succeeds(dir, &["export", "--visitor", &uuid(&anna)]).await;
    let by_cookie = succeeds(dir, &["export", "--visitor", value]).await;
    assert_eq!(by_uuid, by_cookie);
    let held = lines(&by_uuid);
    let mut held_in = tables(&held);
    held_in.dedup();
    assert_eq!(held_in[..2], ["hit", "exposure"]);
    // Nobody vouched for her ties, which are not hers to see.
    assert!(!held_in.contains(&"link_edge"), "{held_in:?}");
    for table in ["subject_permit", "link_node", "subject_day", "subject_seen"] {
        assert!(held_in.contains(&table), "{held_in:?}");
    }
    assert_eq!(held[0]["page_url"], "https://www.open.example/anna");
    assert_eq!(held[0]["visitor_id"], uuid(&anna));
    assert_eq!(held[0]["device_brand"], "Apple");
    assert_eq!(held[1]["campaign"], "spring");
    let upper = MAID.to_uppercase();
    for (arguments, hits) in [
        (["export", "--maid", upper.as_str()], 1),
        (["export", "--partner-uid", "network:u-1"], 1),
        (["export", "--partner-uid", ":u-1"], 0),
        (
            [
                "export",
                "--visitor",
                "00000000-0000-0000-0000-000000000000",
            ],
            0,
        ),
    ] {
        let found = lines(&succeeds(dir, &arguments).await);
        let found = tables(&found).into_iter().filter(|table| *table == "hit");
        assert_eq!(found.count(), hits, "{arguments:?}");
    }
    for (arguments, told) in [
        (
            ["export", "--partner-uid", "u-1"],
            "--partner-uid: there is no colon",
        ),
        (
            ["erase", "--partner-uid", "network:"],
            "--partner-uid: the ID is empty",
        ),
        (["erase", "--maid", ""], "--maid: the ID is empty"),
        (["erase", "--visitor", "1"], "--visitor: neither"),
    ] {
        let output = subject(dir, &arguments).await;
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.starts_with(told), "{text}");
    }
    // None of that stopped the collector's own server.
    hit(&collector, &anna, "").await;
    collector
        .wait_for("select count(*) from avtryck.hit", 4)
        .await;
    assert_eq!(collector.metric("avtryck_postgres_errors_total").await, 0.0);
}

#[tokio::test]
async fn an_erasure_leaves_nothing_in_the_database_and_nothing_comes_after_it() {
    let collector = Collector::open().await;
    let [anna, berta] = [new_visitor(&collector).await, new_visitor(&collector).await];
    let rows = "select count(*) from avtryck.hit";
    for n in 0..5 {
        hit(
            &collector,
            &anna,
            &format!("&e=telltale-{n}&uid=telltale-uid"),
        )
        .await;
        hit(&collector, &berta, "").await;
    }
    collector.wait_for(rows, 10).await;
    let dir = collector.dir.path();
    let id = uuid(&anna);
    // Hits before, while and after it runs: wherever a batch begins and ends, none of them may be
    // left.
    let sending = async {
        for n in 5..200 {
            hit(&collector, &anna, &format!("&e=telltale-{n}")).await;
        }
    };
    let erase = ["erase", "--visitor", id.as_str()];
    let ((), told) = tokio::join!(sending, succeeds(dir, &erase));
    assert!(told.lines().any(|line| line.starts_with("hit: ")), "{told}");
    hit(&collector, &anna, "&e=telltale-last").await;
    hit(&collector, &berta, "&e=end").await;
    let end = "select count(*) from avtryck.hit where event_name = 'end'";
    collector.wait_for(end, 1).await;
    assert_eq!(collector.number(rows).await, 6);
    let dump = super::consent::dump(&collector).await;
    let hex = id.replace('-', "");
    for telltale in ["telltale", &id, &hex] {
        assert!(!dump.contains(telltale), "{telltale} in\n{dump}");
    }
    // Each of her hits is a count, or was a row that is gone.
    let removed: i64 = collector
        .number("select (removed->>'hit')::bigint from avtryck.erasure")
        .await;
    let counted = collector
        .number("select sum(hits)::bigint from avtryck.hit_count")
        .await;
    assert_eq!(removed + counted, 201);
    // Again: nothing is left, and the request is on record.
    let again = succeeds(dir, &erase).await;
    let nothing = |line| line == "hit: 0 rows removed";
    assert!(again.lines().any(nothing), "{again}");
    let held = lines(&succeeds(dir, &["export", "--visitor", &id]).await);
    assert_eq!(tables(&held), ["suppression", "erasure", "erasure"]);
    let (_, _, log) = collector.stop().await;
    assert!(!log.contains(&id) && !log.contains(&hex), "{log}");
}

/// Two keys that hash users.
const KEYS: [&str; 2] = [
    "1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
    "2:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
];

async fn send(collector: &Collector, event: Value) {
    let reply = collector
        .post("/e?site=open", &[], &event.to_string())
        .await;
    assert_eq!(reply.status, 204, "{reply:?}");
}

/// How many hits an export has.
async fn hits(dir: &Path, option: &str, id: &str) -> usize {
    let held = lines(&succeeds(dir, &["export", option, id]).await);
    let hits = tables(&held).into_iter().filter(|table| *table == "hit");
    hits.count()
}

#[tokio::test]
async fn a_user_is_looked_up_under_the_keys_of_the_database_or_not_at_all() {
    let config = Config::sites().set("user.keys", vec![KEYS[0]]);
    let collector = Collector::start(config).await;
    send(&collector, json!({"e": "login", "user": "anna"})).await;
    let rows = "select count(*) from avtryck.hit where user_key is not null";
    collector.wait_for(rows, 1).await;
    let dir = collector.dir.path();
    let set_keys = |keys: &[&str]| {
        let config = Config::read(dir).set("user.keys", keys.to_vec());
        config.write_as_it_is(dir);
    };
    let makers = "select count(*) from avtryck.user_key_maker";
    assert_eq!(collector.number(makers).await, 1);
    set_keys(&KEYS[1..]);
    for what in ["export", "erase"] {
        let output = subject(dir, &[what, "--user", "anna"]).await;
        assert_eq!(output.status.code(), Some(1));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let refusal = "user.keys: the database has hashes of another key, so nobody would be found; \
                       the keys of the collectors would be right";
        assert!(told.contains(refusal), "{told}");
        assert!(output.stdout.is_empty());
    }
    assert_eq!(collector.number(rows).await, 1);
    let erasures = "select count(*) from avtryck.erasure";
    assert_eq!(collector.number(erasures).await, 0);
    // Other IDs need no key.
    assert_eq!(hits(dir, "--did", "d-1").await, 0);
    // A key that collectors do not have yet becomes none of the database.
    set_keys(&[KEYS[1], KEYS[0]]);
    assert_eq!(hits(dir, "--user", "anna").await, 1);
    let told = succeeds(dir, &["erase", "--user", "anna"]).await;
    assert!(told.contains("hit: 1 rows removed"), "{told}");
    assert_eq!(collector.number(makers).await, 1);
}

#[tokio::test]
async fn no_command_that_asks_what_is_stored_makes_an_embedded_database() {
    let dir = tempdir();
    Config::sites().embedded().write(&dir).await;
    let place = dir.path().join("postgres");
    let run = async |arguments: &[&str]| {
        let mut command = command(arguments);
        command.env("AVTRYCK_CONFIG", dir.path().join("avtryck.toml"));
        command.output().await.unwrap()
    };
    for arguments in [
        &["subject", "export", "--maid", MAID][..],
        &["subject", "erase", "--maid", MAID],
        &["import", "list"],
        &["segment", "list"],
        &["link", "rebuild"],
    ] {
        let output = run(arguments).await;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let refusal = format!(
            "database.dir: {} holds no database; the folder of the collector would be right",
            place.display()
        );
        assert!(told.contains(&refusal), "{told}");
        assert!(output.stdout.is_empty() && !place.exists(), "{output:?}");
    }
    let output = run(&["migrate"]).await;
    assert!(output.status.success(), "{output:?}");
    succeeds(dir.path(), &["erase", "--maid", MAID]).await;
}

#[tokio::test]
async fn an_id_with_control_characters_is_found_as_its_sender_writes_it_and_as_it_is_stored() {
    let config = Config::sites().set("user.keys", vec![KEYS[0]]);
    let collector = Collector::start(config).await;
    let long = "ab1".repeat(1_000);
    send(
        &collector,
        json!({"e": "login", "did": "dev\u{1}ice-12345", "user": "an\u{7}na-4711"}),
    )
    .await;
    send(&collector, json!({"e": "login", "did": long})).await;
    let target = "/i.gif?site=open&partner=network&campaign=spring&uid=u%1b-4711";
    assert_eq!(collector.get(target, &[]).await.status, 200);
    let rows = "select count(*) from avtryck.hit";
    collector.wait_for(rows, 3).await;
    let dir = collector.dir.path();
    let sql = "select device_id from avtryck.hit where user_key is not null";
    let stored: String = collector.rows(sql).await[0].get(0);
    assert!(stored.starts_with("dev\u{fffd}ice-12345~"), "{stored}");
    for (option, id, expected) in [
        ("--did", "dev\u{1}ice-12345", 1),
        ("--did", &*stored, 1),
        ("--did", "dev\u{2}ice-12345", 0),
        ("--did", "dev\u{fffd}ice-12345", 0),
        ("--did", &*long, 1),
        ("--user", "an\u{7}na-4711", 1),
        ("--user", "an\u{8}na-4711", 0),
        ("--partner-uid", "network:u\u{1b}-4711", 1),
        ("--partner-uid", "network:u-4711", 0),
    ] {
        let found = hits(dir, option, id).await;
        assert_eq!(found, expected, "{option} {}", id.escape_debug());
    }
    let told = succeeds(dir, &["erase", "--user", "an\u{7}na-4711"]).await;
    assert!(told.contains("hit: 1 rows removed"), "{told}");
    // A typo finds nothing, and says so; it may also be the key of a partner that is one no longer.
    for (id, removed, is_unknown) in [
        ("networks:u\u{1b}-4711", 0, true),
        (":u\u{1b}-4711", 0, false),
        ("network:u\u{1b}-4711", 1, false),
    ] {
        let output = subject(dir, &["erase", "--partner-uid", id]).await;
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = format!("hit: {removed} rows removed");
        assert!(told.lines().any(|told| told == line), "{told}");
        let warned = String::from_utf8_lossy(&output.stderr).into_owned();
        let warning = "networks is the key of no [[partner]]";
        assert_eq!(warned.contains(warning), is_unknown, "{warned}");
    }
    assert_eq!(collector.number(rows).await, 1);
}

/// Rows of many visitors over 90 days: each visitor's hundred lie on as many days as there are.
const INSERT: &str = "
    insert into avtryck.hit (received_at, site_key, device_key, ad_key, flags, kind, permit,
        consent_source, hit_id, visitor_id, page_url, partner_uid, maid)
    select '2026-08-01T00:00Z'::timestamptz + n * (interval '90 days' / $rows), 1, 1, 1, 0, 1 + n % 3, 3, 1,
        md5('hit' || n)::uuid, md5('visitor' || n % ($rows / 100))::uuid,
        'https://www.open.example/mobiltelefoner/' || n,
        case when n % 10 < 3 then 'uid-' || n % ($rows / 100) end,
        case when n % 10 > 7 then md5('maid' || n % ($rows / 100))::uuid::text end
    from generate_series(0, $rows - 1) as n";

/// Rows in `make test`.
const ROWS: u64 = 10_000;

/// `make subject` takes ten million rows (`SUBJECT_ROWS`) and is about how long it takes.
/// Anybody can put the ID of a visitor into an address, where a partner's ID would be.
#[tokio::test]
async fn a_visitor_whose_id_others_name_has_none_of_their_rows() {
    let collector = Collector::open().await;
    let (mine, other) = (new_visitor(&collector).await, new_visitor(&collector).await);
    let named = format!("&e=named&uid={}", uuid(&mine));
    hit(&collector, &mine, "&e=mine").await;
    hit(&collector, &other, &named).await;
    let rows = "select count(*) from avtryck.hit where event_name in ('mine', 'named')";
    collector.wait_for(rows, 2).await;
    let dir = collector.dir.path();
    let exported = succeeds(dir, &["export", "--visitor", &uuid(&mine)]).await;
    assert!(exported.contains("\"mine\""), "{exported}");
    assert!(!exported.contains(&uuid(&other)), "{exported}");
    succeeds(dir, &["erase", "--visitor", &uuid(&mine)]).await;
    collector.wait_for(rows, 1).await;
    let left = "select count(*) from avtryck.hit where event_name = 'named'";
    assert_eq!(collector.number(left).await, 1);
}

#[tokio::test]
async fn a_subject_with_rows_on_ninety_days_is_exported_and_erased_by_each_of_its_ids() {
    let large = variable("SUBJECT_ROWS");
    let rows = large.unwrap_or(ROWS);
    let dir = tempdir();
    Config::sites().embedded().write(&dir).await;
    let place = dir.path().join("postgres");
    let postgres = Embedded::start(&place).await.unwrap();
    let mut client = avtryck::postgres::connect(&postgres.config())
        .await
        .unwrap();
    avtryck::postgres::migrate(&mut client).await.unwrap();
    client
        .batch_execute(
            "insert into avtryck.site values (1, 'open', null); \
             insert into avtryck.device (key, class, is_bot) values (1, 'phone', false); \
             insert into avtryck.ad (key, partner) values (1, 'network'); \
             select avtryck.make_hit_day(date '2026-08-01' + n) from generate_series(0, 89) as n",
        )
        .await
        .unwrap();
    let sql = INSERT.replace("$rows", &rows.to_string());
    client.batch_execute(&sql).await.unwrap();
    client
        .batch_execute("vacuum analyze avtryck.hit")
        .await
        .unwrap();
    let id: String = client
        .query_one("select md5('visitor1')::uuid::text", &[])
        .await
        .unwrap()
        .get(0);
    let maid: String = client
        .query_one("select md5('maid8')::uuid::text", &[])
        .await
        .unwrap()
        .get(0);
    drop(client);
    let selectors = [
        ("--visitor", id.as_str(), 100),
        ("--maid", maid.as_str(), 100),
        ("--partner-uid", "network:uid-2", 100),
    ];
    for (option, id, expected) in selectors {
        // The server's own buffers are empty.
        postgres.clone().stop().await.unwrap();
        Embedded::start(&place).await.unwrap();
        for run in ["the first time", "again"] {
            let started = std::time::Instant::now();
            let held = lines(&succeeds(dir.path(), &["export", option, id]).await);
            let took = started.elapsed();
            assert_eq!(held.len(), expected, "{option}");
            eprintln!("{rows} rows: export {option} {run}: {took:?}");
            let is_soon = took.as_secs() < 2;
            assert!(large.is_none() || is_soon, "{option} {run}: {took:?}");
        }
    }
    for (option, id, expected) in selectors {
        let started = std::time::Instant::now();
        let told = succeeds(dir.path(), &["erase", option, id]).await;
        eprintln!("{rows} rows: erase {option}: {:?}", started.elapsed());
        let removed = format!("hit: {expected} rows removed");
        assert!(told.lines().any(|line| line == removed), "{told}");
    }
    Embedded::start(&place).await.unwrap().stop().await.unwrap();
}
