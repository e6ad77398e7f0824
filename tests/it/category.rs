//! Categories of sites: hits in, what the operator's lists say of their pages out.

use std::fs;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::support::{Collector, Config, root, tempdir, until};

const OWN: &str = "domain,category,source\n\
    example.se,News\n\
    blog.example.se,459,hand\n\
    knit.se,Needlework\n\
    broken line\n";

/// The page of a hit, what else the hit says, and what becomes of it: domain, the sender's
/// category, category, whose word that is, and whether it is sensitive.
const PAGES: [(&str, &str, [&str; 5]); 9] = [
    (
        "https://WWW.example.se:443/a",
        "",
        ["example.se", "", "News", "own", "false"],
    ),
    (
        "https://me@blog.example.se./",
        "",
        ["example.se", "", "Christianity", "hand", "true"],
    ),
    (
        "https://www.example.se/",
        "&cat=mobil",
        ["example.se", "mobil", "mobil", "own", "false"],
    ),
    (
        "https://www.bet.co.uk/",
        "",
        ["bet.co.uk", "", "gambling", "ut1", "true"],
    ),
    (
        "https://knit.se/",
        "",
        ["knit.se", "", "Needlework", "own", "true"],
    ),
    (
        "https://somebody.github.io/",
        "",
        ["somebody.github.io", "", "", "", "false"],
    ),
    (
        "about:blank",
        "&publisher=www.bet.co.uk",
        ["bet.co.uk", "", "gambling", "ut1", "true"],
    ),
    (
        "app://start",
        "&publisher=com.example.app",
        ["", "", "", "", ""],
    ),
    ("http://192.0.2.1/", "", ["", "", "", "", ""]),
];

/// Starts a collector with `own.csv` and `ut1` in its folder.
async fn start() -> Collector {
    let dir = tempdir();
    fs::write(dir.path().join("own.csv"), OWN).unwrap();
    let ut1 = dir.path().join("ut1");
    for (category, domain) in [("gambling", "bet.co.uk"), ("press", "example.se")] {
        fs::create_dir_all(ut1.join(category)).unwrap();
        fs::write(ut1.join(category).join("domains"), format!("{domain}\n")).unwrap();
    }
    let at = |name: &str| dir.path().join(name).display().to_string();
    let taxonomy = root().join("assets/data/rules/taxonomy.json");
    Config::sites()
        .set("category.lists", vec![at("own.csv"), at("ut1")])
        .set("category.sensitive", vec!["needlework"])
        .set("category.taxonomy", taxonomy.display().to_string())
        .write(&dir)
        .await;
    let collector = Collector::start_in(dir).await;
    collector
        .until_metric("avtryck_category_domains", 5.0)
        .await;
    collector
}

/// Sends a hit, and returns what `hit_detail` has of its page.
async fn send(collector: &Collector, event: &str, page: &str, rest: &str) -> [String; 5] {
    let page = utf8_percent_encode(page, NON_ALPHANUMERIC);
    let target = format!("/p.gif?site=open&e={event}&u={page}{rest}");
    assert_eq!(collector.get(&target, &[]).await.status, 200);
    let count = format!("select count(*) from avtryck.hit where event_name = '{event}'");
    collector.wait_for(&count, 1).await;
    stored(collector, event).await
}

async fn stored(collector: &Collector, event: &str) -> [String; 5] {
    let sql = format!(
        "select page_domain, site_category, page_category, page_category_source, is_sensitive_page::text \
         from avtryck.hit_detail where event_name = '{event}'"
    );
    let rows = collector.rows(&sql).await;
    std::array::from_fn(|index| {
        let text: Option<String> = rows[0].get(index);
        text.unwrap_or_default()
    })
}

#[tokio::test]
async fn pages_have_domains_and_categories_of_lists_and_the_senders_category_wins() {
    let collector = start().await;
    for (number, (page, rest, expected)) in PAGES.into_iter().enumerate() {
        let found = send(&collector, &format!("e{number}"), page, rest).await;
        assert_eq!(found, expected.map(str::to_owned), "{page}{rest}");
    }
    let unknown = PAGES
        .iter()
        .filter(|(_, _, expected)| expected[3].is_empty());
    let misses = collector
        .metric("avtryck_enrich_misses_total{table=\"category\"}")
        .await;
    assert_eq!(misses.to_string(), unknown.count().to_string());
}

#[tokio::test]
async fn a_changed_list_counts_for_the_next_hits_and_an_unreadable_one_stays_in_use() {
    let collector = start().await;
    let own = collector.dir.path().join("own.csv");
    let category = async |event: &str| {
        let [_, _, category, _, _] = send(&collector, event, "https://example.se/", "").await;
        category
    };
    assert_eq!(category("first").await, "News");
    fs::write(&own, "example.se,Sports\n").unwrap();
    collector.signal("HUP");
    collector
        .until_metric("avtryck_category_domains", 3.0)
        .await;
    assert_eq!(category("second").await, "Sports");
    let [_, _, first, _, _] = stored(&collector, "first").await;
    assert_eq!(first, "News", "a row that is stored keeps what it was");
    fs::write(&own, [0x1f, 0x8b, 0, 0]).unwrap();
    collector.signal("HUP");
    until(async || collector.metric("avtryck_reload_errors_total").await > 0.5).await;
    assert_eq!(category("third").await, "Sports");
    let (_, dir, log) = collector.stop().await;
    for said in [
        "own.csv: 1 of 4 lines skipped, the first is line 5: not domain,category or domain,category,source",
        "not loaded, so what an earlier load gave stays in use",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    drop(dir);
}
