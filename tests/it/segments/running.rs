//! A collector that runs and brings its segments up to date by itself, and the commands that tell
//! of them.

use std::process::Output;

use super::*;
use crate::reload::APPLIED;
use crate::support::command;

/// How often a collector evaluates. Waiting begins after it: a test waits no longer than that.
const PERIOD: std::time::Duration = std::time::Duration::from_mins(1);
const VISITORS: usize = 60;

fn looked(condition: &str) -> Config {
    Config::sites().with(&format!(
        "[[segment]]\nkey = \"looked\"\nwhere = \"{condition}\"\nexpose = [\"open\"]\nmin_size = 50\n"
    ))
}

async fn segment(collector: &Collector, arguments: &[&str]) -> Output {
    let config = collector.dir.path().join("avtryck.toml");
    let mut command = command(&["segment"]);
    command.args(arguments).env("AVTRYCK_CONFIG", config);
    command.output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The numbers of members that a preview prints, each to two digits.
fn told_sizes(line: &str) -> Vec<u64> {
    let about = line.split("about ").skip(1);
    about
        .map(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap()
        })
        .collect()
}

#[tokio::test]
async fn a_collector_evaluates_what_the_last_reload_says_and_pages_metrics_and_commands_tell_of_it()
{
    // Nobody would be in it, had the reload no effect.
    let collector = Collector::start(looked("events('nothing', '3 days') > 0")).await;
    collector
        .configure(|config| config.set("segment.looked.where", "events('look', '3 days') > 0"));
    collector.reload(APPLIED).await;
    let mut cookies = Vec::new();
    for _ in 0..VISITORS {
        let cookie = new_visitor(&collector).await;
        let headers = [SAME_SITE, ("Cookie", &*cookie)];
        collector.get("/p.gif?site=open&e=look", &headers).await;
        cookies.push(cookie);
    }
    let other = new_visitor(&collector).await;
    let headers = [SAME_SITE, ("Cookie", &*other)];
    collector.get("/p.gif?site=open&e=other", &headers).await;
    let looks = "select count(*) from avtryck.hit where event_name in ('look', 'other')";
    collector.wait_for(looks, VISITORS as i64 + 1).await;

    tokio::time::sleep(PERIOD).await;
    let members = "avtryck_segment_members{segment=\"looked\"}";
    let is_told = async || collector.admin("/metrics").await.body.contains(members);
    until(is_told).await;
    collector.until_metric(members, VISITORS as f64).await;
    for (name, is_right) in [
        ("failed", &(|value| value == 0.0) as &dyn Fn(f64) -> bool),
        ("behind_seconds", &|age| (0.0..120.0).contains(&age)),
        ("full_age_seconds", &|age| (0.0..120.0).contains(&age)),
    ] {
        let name = format!("avtryck_segment_{name}{{segment=\"looked\"}}");
        let value = collector.metric(&name).await;
        assert!(is_right(value), "{name} {value}");
    }
    let ask = async |cookie: &str| {
        let headers = [SAME_SITE, ("Cookie", cookie)];
        told(&collector.get("/segments?site=open", &headers).await)
    };
    for cookie in [&cookies[0], &cookies[VISITORS - 1]] {
        until(async || ask(cookie).await == json!(["looked"])).await;
    }
    assert_eq!(ask(&other).await, json!([]));

    let listed = segment(&collector, &["list"]).await;
    assert_eq!(listed.status.code(), Some(0));
    let lines = text(&listed.stdout);
    let cells: Vec<&str> = lines.lines().nth(1).unwrap().split("  ").collect();
    let cells: Vec<&str> = cells
        .into_iter()
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect();
    assert_eq!(
        cells[..4],
        ["looked", "fresh", "about 60", "yes"],
        "{lines}"
    );
    // A segment that has failed is told by the exit status and with the reason.
    let fail = "update avtryck.segment set state = 'failed', error = 'division by zero'";
    collector
        .database()
        .await
        .batch_execute(fail)
        .await
        .unwrap();
    let failed = segment(&collector, &["list"]).await;
    assert_eq!(failed.status.code(), Some(1));
    let said = text(&failed.stdout);
    assert!(
        said.contains("looked keeps the members of before: division by zero"),
        "{said}"
    );
}

#[tokio::test]
async fn a_preview_tells_rounded_sizes_with_an_interval_and_nothing_of_few_and_changes_nothing() {
    let collector = Collector::start(looked("permits_link")).await;
    let client = collector.database().await;
    let people = "insert into avtryck.subject_permit (subject, site, partner, permit, consent_source, at) \
                  select md5(n::text)::uuid, 'open', '', 63, 2, now() from generate_series(1, 20000) as n; \
                  insert into avtryck.subject_seen \
                  select md5(n::text)::uuid, 0, 0, current_date, current_date, 7 from generate_series(1, 20000) as n";
    client.batch_execute(people).await.unwrap();
    let file = collector.dir.path().join("wanted.toml");
    let preview = async |text: &str| {
        std::fs::write(&file, text).unwrap();
        segment(&collector, &["preview", &file.display().to_string()]).await
    };
    let found = preview(
        "[[segment]]\nkey = \"all\"\nwhere = \"days_since_last < 9\"\n\
         [[segment]]\nkey = \"few\"\nwhere = \"days_since_last < 9 and device_class = 'tv'\"\n",
    )
    .await;
    let said = text(&found.stdout);
    assert_eq!(
        found.status.code(),
        Some(0),
        "{said} {}",
        text(&found.stderr)
    );
    let (all, few) = said.split_once("few\n").unwrap();
    let line = all.lines().find(|line| line.contains("members: ")).unwrap();
    let sizes = told_sizes(line);
    let [members, low, high] = sizes[..] else {
        panic!("{said}")
    };
    assert!(low <= members && members <= high, "{said}");
    // Five standard deviations of a sample of six ranges; the interval itself misses one in 20.
    assert!((15_500..24_500).contains(&members) && low < high, "{said}");
    for size in sizes {
        assert_eq!(size % 1000, 0, "it has more than two digits: {said}");
    }
    assert!(all.contains("who: ") && all.contains("vem: "), "{said}");
    assert!(few.contains("members: < 100 (95 %: < 100 to "), "{said}");
    assert!(
        few.contains("nobody would be told of it, and the rest is not shown"),
        "{said}"
    );
    let mut shares = few.lines().map(str::trim_start);
    let is_share = |line: &str| line.starts_with("device ") || line.starts_with("region ");
    assert!(!shares.any(is_share), "{said}");
    // Members and history are of a segment that is stored.
    let sql = "select count(*) from avtryck.segment where key in ('all', 'few')";
    assert_eq!(collector.number(sql).await, 0);
    // What is wrong is said with its place in the file.
    for (wrong, part) in [
        (
            "[[segment]]\nkey = \"a\"\nwhere = \"shoe_size > 40\"\n",
            "shoe_size",
        ),
        (
            "[[segment]]\nkey = \"a\"\nwhere = \"exists (select 1)\"\n",
            "wanted.toml:3: segment a, where: line 1, column 9",
        ),
        ("# nothing\n", "the file has no [[segment]]"),
    ] {
        let refused = preview(wrong).await;
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(64), "{said}");
        assert!(said.contains(part) && refused.stdout.is_empty(), "{said}");
    }
}
