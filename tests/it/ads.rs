//! Ad placements from outside: impressions, clicks and where they lead.

mod callbacks;
#[path = "../../examples/click_url.rs"]
#[allow(dead_code, reason = "the example's own arguments are not read here")]
mod click_url;
mod event_id;
mod tags;
mod targets;

use std::path::Path;

use crate::support::{Collector, Config, PATIENCE, command, root, tempdir};

/// Makes a configuration with lists of hosts that clicks may go to and keys that every run has.
pub(crate) fn sites() -> Config {
    let telling = r#"
        click.keys = ["3:AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM="]
        [[site]]
        key = "telling"
        click_hosts = ["www.shop.example"]
        click_id = true
        default_permit = ["store", "measure"]
    "#;
    let open = vec!["www.shop.example", "*.shop.example"];
    Config::sites()
        .set("site.open.click_hosts", open)
        .with(telling)
}

/// What `avtryck click-url` prints for a collector's configuration, without the origin.
pub(crate) async fn click_url(collector: &Collector, arguments: &[&str]) -> String {
    click_url_by(&collector.dir.path().join("avtryck.toml"), arguments).await
}

async fn click_url_by(file: &Path, arguments: &[&str]) -> String {
    let output = command(&["click-url", "--at", "https://px.example"])
        .args(arguments)
        .env("AVTRYCK_CONFIG", file)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let url = String::from_utf8(output.stdout).unwrap();
    url.trim()
        .strip_prefix("https://px.example")
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn an_ad_says_what_it_did_and_each_is_a_row_of_its_kind() {
    let collector = Collector::start(sites()).await;
    let ad = "/i.gif?site=open&partner=network&campaign=spring&creative=banner-1&placement=top";
    for more in [
        "&size=300x250&auction_id=a&price=1.5",
        "&ev=firstQuartile",
        "&ev=error&err=402",
        "&ev=click",
        "&ev=impression&preview=1",
        "&campaign=vår&cat=sport%2526fritid",
    ] {
        let reply = collector.get(&format!("{ad}{}", encode(more)), &[]).await;
        assert_eq!((reply.status, reply.bytes.len()), (200, 43), "{more}");
    }
    let bare = collector.get(ad, &[("User-Agent", "-")]).await;
    assert_eq!(bare.status, 200);
    let prefetched = collector.get(
        "/i.gif?site=shut&campaign=x",
        &[("Sec-Purpose", "prefetch")],
    );
    assert_eq!(prefetched.await.status, 200);
    let counted = collector.get("/i.gif?site=shut&campaign=x", &[]);
    assert_eq!(counted.await.status, 200);
    collector
        .wait_for("select count(*) from avtryck.hit", 7)
        .await;
    let kinds = "select count(*) from avtryck.hit_detail where partner = 'network' and campaign = 'spring' and \
         (kind, coalesce(event_name, ''), coalesce(params->>'err', '')) in \
         (('impression', '', ''), ('event', 'firstQuartile', ''), ('event', 'error', '402'), ('click', '', ''))";
    assert_eq!(collector.number(kinds).await, 7);
    let flagged = "select count(*) from avtryck.hit where flags & 256 <> 0 and flags & 512 = 0";
    assert_eq!(collector.number(flagged).await, 1);
    let bad = "select count(*) from avtryck.hit where flags & 512 <> 0";
    assert_eq!(collector.number(bad).await, 1);
    let decoded = "select count(*) from avtryck.hit_detail where site_category = 'sport&fritid'";
    assert_eq!(collector.number(decoded).await, 1);
    // What was fetched ahead without a permit is nothing at all.
    let counts = "select sum(hits)::bigint from avtryck.hit_count_detail where campaign = 'x'";
    collector.wait_for(counts, 1).await;
}

/// Spares tables the escapes.
fn encode(text: &str) -> String {
    text.replace('å', "%C3%A5")
}

#[tokio::test]
async fn a_click_goes_to_its_target_and_becomes_a_row() {
    let collector = Collector::start(sites()).await;
    let url = click_url(
        &collector,
        &[
            "--to",
            "https://landing.example/a?b=c#d",
            "--site",
            "open",
            "--partner",
            "network",
            "--campaign",
            "spring",
            "--click-id",
        ],
    )
    .await;
    let reply = collector
        .get(
            &format!("{url}&placement=top&creative=${{CREATIVE_ID}}"),
            &[],
        )
        .await;
    assert_eq!(reply.status, 302, "{reply:?}");
    let location = reply.header("location");
    let click_id = location
        .strip_prefix("https://landing.example/a?b=c&avclid=")
        .and_then(|rest| rest.strip_suffix("#d"))
        .unwrap_or_else(|| panic!("{location}"));
    assert_eq!(click_id.len(), 22);
    assert_eq!(reply.header("cache-control"), "no-store");
    assert!(reply.header("accept-ch").contains("Sec-CH-UA-Model"));
    assert!(reply.cookie().starts_with("avid="));
    assert_eq!(
        (reply.body.as_str(), reply.header("avtryck-refusal")),
        ("", "")
    );
    let row = "select count(*) from avtryck.hit_detail where kind = 'click' and partner = 'network' and campaign = 'spring' \
         and placement = 'top' and creative is null and visitor_id is not null \
         and params = '{\"to\": \"https://landing.example/a?b=c#d\"}'";
    collector.wait_for(row, 1).await;

    let listed = collector
        .get("/c?site=open&to=https://www.shop.example/x", &[])
        .await;
    assert_eq!(listed.header("location"), "https://www.shop.example/x");
    let told = collector
        .get("/c?site=telling&to=https://www.shop.example/x", &[])
        .await;
    assert!(
        told.header("location")
            .starts_with("https://www.shop.example/x?avclid="),
        "{told:?}"
    );
    let untold = collector
        .get("/c?site=telling&clid=0&to=https://www.shop.example/x", &[])
        .await;
    assert_eq!(untold.header("location"), "https://www.shop.example/x");
    let head = collector.request("HEAD", &url, &[], "").await;
    assert_eq!((head.status, head.cookies.len()), (302, 0));
    collector
        .wait_for("select count(*) from avtryck.hit where kind = 4", 4)
        .await;
}

#[tokio::test]
async fn a_click_that_cannot_be_recorded_still_reaches_its_target() {
    let config = sites()
        .without_postgres()
        .set("spool.chunk_bytes", "1MiB")
        .set("spool.max_bytes", "2MiB")
        .set("limit.hits_per_second", 0);
    let collector = Collector::start(config).await;
    let click = |more: &str| format!("/c?to=https://www.shop.example/{more}");
    let reached = async |target: &str, headers: &[(&str, &str)]| {
        let reply = collector.get(target, headers).await;
        assert_eq!(reply.status, 302, "{target} {reply:?}");
        assert_eq!(reply.header("location"), "https://www.shop.example/");
        (
            reply.header("avtryck-refusal").to_owned(),
            reply.cookies.len(),
        )
    };
    let none = String::new;
    assert_eq!(reached(&click("&site=open&clid=0"), &[]).await, (none(), 1));
    assert_eq!(
        reached(&click("&site=open&clid=1&gdpr=1&gdpr_consent=broken"), &[]).await,
        (none(), 0)
    );
    assert_eq!(
        reached(&click("&site=open&clid=1"), &[("Sec-GPC", "1")]).await,
        (none(), 0)
    );
    assert_eq!(
        reached(&click("&site=open&partner=nobody"), &[]).await,
        ("partner_unknown".to_owned(), 0)
    );
    // A signature needs no site: the one that it was made for may be gone since.
    let before = tempdir();
    let with_site = Config::read(collector.dir.path()).with("[[site]]\nkey = \"gone\"");
    with_site.write_as_it_is(before.path());
    let signed = click_url_by(
        &before.path().join("avtryck.toml"),
        &["--to", "https://www.shop.example/", "--site", "gone"],
    )
    .await;
    assert_eq!(reached(&signed, &[]).await, ("site_unknown".to_owned(), 0));

    let body = format!(
        "{{\"site\":\"open\",\"u\":\"https://{}\"}}",
        "x".repeat(2000)
    );
    let many = format!("[{}]", vec![body; 400].join(","));
    let started = std::time::Instant::now();
    while collector.post("/e", &[], &many).await.status != 503 {
        assert!(started.elapsed() < PATIENCE);
    }
    let wide = format!("&site=open&clid=1&x={}", "y".repeat(4000));
    let started = std::time::Instant::now();
    let outcome = loop {
        let outcome = reached_or_told(&collector, &click(&wide)).await;
        if outcome.0 == "spool_full" || started.elapsed() > PATIENCE {
            break outcome;
        }
    };
    assert_eq!(
        outcome,
        (
            "spool_full".to_owned(),
            "https://www.shop.example/".to_owned()
        )
    );
    assert!(
        collector
            .metric("avtryck_refusals_total{reason=\"spool_full\"}")
            .await
            > 0.0
    );
    assert!(
        collector
            .metric("avtryck_http_requests_total{endpoint=\"click\",status=\"302\"}")
            .await
            > 5.0
    );
}

/// What a click that may be recorded or not was told, and where it went.
async fn reached_or_told(collector: &Collector, target: &str) -> (String, String) {
    let reply = collector.get(target, &[]).await;
    assert_eq!(reply.status, 302);
    (
        reply.header("avtryck-refusal").to_owned(),
        reply.header("location").to_owned(),
    )
}

#[tokio::test]
async fn a_click_that_may_go_nowhere_gets_a_page_that_says_so() {
    let collector = Collector::start(sites()).await;
    let signed = click_url(
        &collector,
        &["--to", "https://landing.example", "--expires", "1h"],
    )
    .await;
    let forged = signed.replace("landing", "evil");
    for (target, reason) in [
        ("/c?site=open", "click_target"),
        ("/c?site=open&to=javascript:alert(1)", "click_target"),
        ("/c?site=open&to=https://evil.example", "click_host"),
        ("/c?site=shut&to=https://www.shop.example", "click_host"),
        ("/c?to=https://www.shop.example&site=nobody", "click_host"),
        (&forged, "click_signature"),
    ] {
        let reply = collector.get(target, &[]).await;
        assert_eq!(
            (reply.status, reply.header("avtryck-refusal")),
            (400, reason),
            "{target}"
        );
        assert_eq!(
            (reply.header("location"), reply.cookies.len()),
            ("", 0),
            "{target}"
        );
        assert_eq!(reply.header("content-type"), "text/html; charset=utf-8");
        assert!(
            reply
                .header("content-security-policy")
                .starts_with("default-src 'none'")
        );
        assert!(reply.body.contains("This link does not work") && reply.body.contains(reason));
        assert!(!reply.body.contains("evil"), "{}", reply.body);
    }
    assert_eq!(collector.get(&signed, &[]).await.status, 302);
    assert_eq!(collector.post("/c", &[], "").await.status, 405);
    assert!(
        collector
            .metric("avtryck_refusals_total{reason=\"click_target\"}")
            .await
            >= 2.0
    );
}

#[tokio::test]
async fn a_url_for_one_use_stays_used_whatever_is_added_to_it() {
    let collector = Collector::start(sites()).await;
    let url = click_url(
        &collector,
        &["--to", "https://landing.example", "--id", "7"],
    )
    .await;
    for added in [
        "&site=open",
        "&site=telling&clid=0",
        "&site=open&partner=network",
    ] {
        let reply = collector.get(&format!("{url}{added}"), &[]).await;
        assert_eq!(reply.header("location"), "https://landing.example/");
    }
    let rows = "select count(*) from avtryck.hit_detail where kind = 'click' and event_id = '7'";
    collector.wait_for(rows, 3).await;
    let first =
        format!("{rows} and site = 'open' and partner is null and not 'replayed' = any(flags)");
    assert_eq!(collector.number(&first).await, 1);
    let replayed = format!("{rows} and 'replayed' = any(flags)");
    assert_eq!(collector.number(&replayed).await, 2);
}

#[tokio::test]
async fn a_key_is_made_once_and_the_command_signs_with_it() {
    let collector = Collector::open().await;
    let file = collector.dir.path().join("spool/click.key");
    let key = std::fs::read_to_string(&file).unwrap();
    let url = click_url(&collector, &["--to", "https://landing.example"]).await;
    assert!(url.starts_with("/c?k=0&to="), "{url}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), key);
    assert_eq!(collector.get(&url, &[]).await.status, 302);
    for (option, said) in [
        (
            "--site",
            "--site opne: is not in the configuration; one of open, shut, rows-only would be right; did you mean open?",
        ),
        (
            "--partner",
            "--partner opne: is not in the configuration; one of network, asking-network would be right",
        ),
        (
            "--param=site=opne",
            "--param site=opne: is not in the configuration",
        ),
    ] {
        let mut unknown = command(&[
            "click-url",
            "--at",
            "https://px.example",
            "--to",
            "https://a.example",
        ]);
        unknown
            .arg(option)
            .env("AVTRYCK_CONFIG", collector.dir.path().join("avtryck.toml"));
        if !option.contains('=') {
            unknown.arg("opne");
        }
        let output = unknown.output().await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{text}");
        assert!(text.contains(said) && output.stdout.is_empty(), "{text}");
    }
    for (at, is_warned) in [
        ("https://px.example", true),
        ("http://127.0.0.1:8080", false),
    ] {
        let output = command(&["click-url", "--at", at, "--to", "https://a.example"])
            .env("AVTRYCK_CONFIG", collector.dir.path().join("avtryck.toml"))
            .output()
            .await
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        assert_eq!(
            text.starts_with("warning: --site is not given"),
            is_warned,
            "{text}"
        );
    }
    let wrong = command(&["click-url", "--at", "https://px.example", "--to", "ftp://x"])
        .env("AVTRYCK_CONFIG", collector.dir.path().join("avtryck.toml"))
        .output()
        .await
        .unwrap();
    assert_eq!(wrong.status.code(), Some(64));
    assert!(
        String::from_utf8(wrong.stderr)
            .unwrap()
            .contains("no click may go there")
    );
}

/// The lines of a fenced block of the README, by the language it says.
fn fenced(language: &str, mark: &str) -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = readme.split("```").skip(1).step_by(2);
    let block = blocks
        .filter_map(|block| block.strip_prefix(language))
        .find(|block| block.contains(mark));
    block
        .unwrap_or_else(|| panic!("no {language} with {mark}"))
        .to_owned()
}

#[tokio::test]
async fn the_signing_that_the_readme_and_the_example_show_is_believed_and_the_same() {
    let collector = Collector::start(sites()).await;
    let key = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";
    let python = format!(
        "{}\nprint(click_url('https://px.example/c', 3, '{key}', site='open', campaign='vår', to='https://landing.example/?å'))",
        fenced("python", "click_url")
    );
    let javascript = format!(
        "{}\nconsole.log(clickUrl('https://px.example/c', 3, '{key}', {{ site: 'open', campaign: 'vår', to: 'https://landing.example/?å' }}))",
        fenced("js", "clickUrl")
    );
    let params = [
        ("site", "open"),
        ("campaign", "vår"),
        ("to", "https://landing.example/?å"),
    ];
    let expected = click_url::click_url("https://px.example/c", 3, key, &params).unwrap();
    let mut shown = vec![("the example", expected.clone())];
    for (program, flag, text) in [("python3", "-c", python), ("node", "-e", javascript)] {
        let output = std::process::Command::new(program)
            .args([flag, &text])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let url = String::from_utf8(output.stdout).unwrap();
        shown.push((program, url.trim().to_owned()));
    }
    for (program, url) in shown {
        assert_eq!(url, expected, "{program}");
        let target = url.strip_prefix("https://px.example").unwrap();
        let reply = collector.get(target, &[]).await;
        assert_eq!(
            (reply.status, reply.header("location")),
            (302, "https://landing.example/?%C3%A5"),
            "{program}: {url}"
        );
    }
    let rows = "select count(*) from avtryck.hit_detail where kind = 'click' and campaign = 'vår'";
    collector.wait_for(rows, 3).await;
}
