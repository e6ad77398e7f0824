//! What is not permitted is not stored.

mod spelling;

use std::path::Path;

use crate::support::{Collector, Config, consent_string};

/// Everything that a refused hit could be known by, in one request; consent strings come on top.
const TELLTALES: [&str; 11] = [
    "telltale-url",
    "telltale-ref",
    "telltale-uid",
    "telltale-maid",
    "telltale-did",
    "telltale-event",
    "telltale-id",
    "telltale-ua",
    "telltale-param",
    "telltale-model",
    // The address that follows is documentation's; neither it nor what it would be cut to may be
    // there.
    "203.0.113.",
];

async fn send(collector: &Collector, site: &str, headers: &[(&str, &str)], more: &str) -> String {
    let target = format!(
        "/i.gif?site={site}&campaign=spring&u=telltale-url&ref=telltale-ref&uid=telltale-uid&maid=telltale-maid&did=telltale-did&e=telltale-event&id=telltale-id&own=telltale-param&ch_model=telltale-model{more}"
    );
    let mut all = vec![
        ("User-Agent", "telltale-ua"),
        ("X-Forwarded-For", "203.0.113.77"),
    ];
    all.extend_from_slice(headers);
    let reply = collector.get(&target, &all).await;
    assert_eq!(reply.status, 200, "a refused hit is answered as any other");
    reply.header("set-cookie").to_owned()
}

/// Whether any file below `dir` holds these bytes.
pub(crate) fn holds(dir: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, bytes);
        }
        std::fs::read(&path).is_ok_and(|text| text.windows(bytes.len()).any(|part| part == bytes))
    })
}

/// Every row of every table, partitions included, as text.
pub(crate) async fn dump(collector: &Collector) -> String {
    let tables = collector
        .rows(
            "select format('%I.%I', schemaname, tablename) from pg_tables \
             where schemaname not in ('pg_catalog', 'information_schema') order by 1",
        )
        .await;
    let mut dump = String::new();
    for table in &tables {
        let table: String = table.get(0);
        dump.push_str(&format!("{table}\n"));
        for row in collector
            .rows(&format!("select t::text from {table} t"))
            .await
        {
            dump.push_str(row.get::<_, &str>(0));
            dump.push('\n');
        }
    }
    dump
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The ID in a visitor cookie's value.
pub(crate) fn visitor_of(cookie: &str) -> [u8; 16] {
    use base64::Engine as _;
    let (_, value) = cookie.split_once('=').unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(value)
        .unwrap();
    bytes[5..21].try_into().unwrap()
}

#[tokio::test]
async fn without_a_permit_a_hit_is_a_count_and_nothing_else_anywhere() {
    let collector = Collector::start_logging(Config::sites().embedded(), "debug").await;
    let cookie = collector
        .get("/id?site=open", &[])
        .await
        .cookie()
        .to_owned();
    let choice = format!("{cookie}; avchoice=none");
    // No consent at all, another vendor's, and one that was made for an older policy.
    let refused = consent_string("refused");
    let undisclosed = consent_string("made since TCF 2.3, another disclosed");
    let old = consent_string("policy 2, sparse, as ranges, all disclosed");
    let gpp = consent_string("GPP with the USA: policy 5, none, all disclosed");
    let strings = [
        &refused,
        &undisclosed,
        &old,
        &gpp,
        &format!("{gpp}x"),
        "DBAA",
    ]
    .map(String::from);
    let sender = ("Cookie", cookie.as_str());
    let mut hits = 0;
    for (site, headers, more) in [
        ("shut", vec![], String::new()),
        ("shut", vec![sender], String::new()),
        ("shut", vec![sender], "&partner=asking-network".to_owned()),
        ("open", vec![sender], "&partner=asking-network".to_owned()),
        ("open", vec![sender, ("Sec-GPC", "1")], String::new()),
        ("open", vec![("Cookie", choice.as_str())], String::new()),
        ("open", vec![sender], "&gdpr=1".to_owned()),
        ("open", vec![sender], format!("&gdpr_consent={refused}")),
        (
            "open",
            vec![sender],
            format!("&gdpr=1&gdpr_consent={undisclosed}&partner=network"),
        ),
        ("open", vec![sender], format!("&gdpr=0&gdpr_consent={old}")),
        ("open", vec![sender], format!("&gpp={gpp}&gpp_sid=2")),
        (
            "open",
            vec![sender],
            format!("&gpp={gpp}x&gpp_sid=2&addtl_consent=telltale-param"),
        ),
        ("open", vec![sender], "&gpp=DBAA".to_owned()),
    ] {
        let set = send(&collector, site, &headers, &more).await;
        assert_eq!(set, "", "no cookie without a permit: {more}");
        hits += 1;
    }
    let total = "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count";
    collector.wait_for(total, hits).await;
    let rows = "select count(*) from avtryck.hit_detail";
    assert_eq!(collector.number(rows).await, 0);
    let counts = collector
        .rows(
            "select site, kind, partner, campaign, sum(hits)::bigint from avtryck.hit_count_detail \
             group by 1, 2, 3, 4 order by 1, 3 nulls first",
        )
        .await;
    let counts: Vec<(String, String, Option<String>, String, i64)> = counts
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4)))
        .collect();
    let count = |site: &str, partner: Option<&str>, hits| {
        let partner = partner.map(str::to_owned);
        (
            site.to_owned(),
            "impression".to_owned(),
            partner,
            "spring".to_owned(),
            hits,
        )
    };
    assert_eq!(
        counts,
        [
            count("open", None, 8),
            count("open", Some("asking-network"), 1),
            count("open", Some("network"), 1),
            count("shut", None, 2),
            count("shut", Some("asking-network"), 1),
        ]
    );
    let texts = TELLTALES
        .iter()
        .map(|text| (*text).to_owned())
        .chain(strings.into_iter().filter(|text| text.len() > 8));
    leaves_no_trace(collector, texts.collect(), &cookie).await;
}

/// Stops the collector; neither its spool, nor its database in files and in rows, nor its log holds
/// a text, the visitor of the cookie or the address.
async fn leaves_no_trace(collector: Collector, mut texts: Vec<String>, cookie: &str) {
    let dump = dump(&collector).await;
    assert!(
        dump.contains("spring") && dump.contains("avtryck.rejected_hit"),
        "the dump reads the tables"
    );
    let (status, dir, log) = collector.stop().await;
    assert!(status.success());
    assert!(
        holds(&dir.path().join("spool"), b"spring"),
        "what was permitted is still in the spool"
    );
    assert!(log.contains("\"starting\""), "the log tells what it can");
    let visitor = visitor_of(cookie);
    let uuid = hex(&visitor);
    texts.push(cookie.split_once('=').unwrap().1.to_owned());
    for text in texts {
        for (place, found) in [
            (
                "the spool",
                holds(&dir.path().join("spool"), text.as_bytes()),
            ),
            (
                "Postgres",
                holds(&dir.path().join("postgres"), text.as_bytes()),
            ),
            (
                "a table",
                dump.contains(&text) || dump.contains(&hex(text.as_bytes())),
            ),
            ("the log", log.contains(&text)),
        ] {
            assert!(!found, "{text} in {place}");
        }
    }
    assert!(!holds(&dir.path().join("spool"), &visitor));
    assert!(!holds(&dir.path().join("spool"), &[203, 0, 113, 77]));
    assert!(!holds(&dir.path().join("postgres"), &visitor));
    assert!(!dump.replace('-', "").contains(&uuid) && !log.contains(&uuid));
}

#[tokio::test]
async fn a_string_of_a_consent_platform_gives_just_what_its_visitor_allowed() {
    let collector = Collector::open().await;
    let string = |name: &str| consent_string(name);
    let cases = [
        // Everything, to a site that asks; and the sale is off with GPC.
        (
            1,
            "shut",
            "",
            "policy 4, few, as bits, all disclosed",
            "gdpr_consent",
            None,
            "tcf",
            "store measure profile match link locate",
        ),
        (
            2,
            "shut",
            "",
            "policy 4, few, as bits, all disclosed",
            "gdpr_consent",
            Some(("Sec-GPC", "1")),
            "tcf",
            "store measure locate",
        ),
        (
            3,
            "shut",
            "",
            "policy 4, few, as bits, all disclosed",
            "gdpr_consent",
            Some(("Cookie", "avchoice=measure")),
            "choice",
            "measure",
        ),
        // The default counts no more once a string has come.
        (
            4,
            "open",
            "",
            "ads without profiles",
            "gdpr_consent",
            None,
            "tcf",
            "store measure match link locate",
        ),
        // A partner's own vendor, by GPP.
        (
            5,
            "shut",
            "&partner=asking-network&gpp_sid=2",
            "GPP with the USA: policy 4, long ranges, some disclosed, publisher's own",
            "gpp",
            None,
            "gpp",
            "store measure profile match link locate",
        ),
        (
            6,
            "shut",
            "&gdpr=0",
            "interest in 7 alone",
            "gdpr_consent",
            None,
            "tcf",
            "store measure match link locate",
        ),
    ];
    for (number, site, more, name, parameter, header, ..) in &cases {
        let target = format!(
            "/i.gif?site={site}&publisher=p{number}{more}&uid=u{number}&{parameter}={}",
            string(name)
        );
        let headers: Vec<_> = header.iter().copied().collect();
        assert_eq!(collector.get(&target, &headers).await.status, 200);
    }
    collector
        .wait_for("select count(*) from avtryck.hit_detail", 6)
        .await;
    let rows = collector
        .rows("select publisher, consent_source, array_to_string(permit, ' '), partner_uid, city from avtryck.hit_detail order by 1")
        .await;
    for (row, (number, .., source, permit)) in rows.iter().zip(cases) {
        assert_eq!(row.get::<_, String>(0), format!("p{number}"));
        assert_eq!(
            (row.get::<_, &str>(1), row.get::<_, &str>(2)),
            (source, permit)
        );
        let uid = permit.contains("store").then(|| format!("u{number}"));
        assert_eq!(row.get::<_, Option<String>>(3), uid);
        let city = row.get::<_, Option<String>>(4);
        assert_eq!(city.is_some(), permit.contains("locate"), "{number}");
    }
}

#[tokio::test]
async fn gdpr_0_counts_where_the_configuration_says_what_it_allows() {
    let believed = r#"
[[site]]
key = "far"
gdpr_0_permit = ["measure"]

[[partner]]
key = "abroad"
gdpr_0_permit = ["store", "measure"]
"#;
    let collector = Collector::start(Config::sites().with(believed)).await;
    for (target, headers) in [
        ("site=far&gdpr=0&gdpr_consent=x&publisher=1", vec![]),
        ("site=shut&partner=abroad&gdpr=0&publisher=2", vec![]),
        ("site=far&gdpr=0&publisher=3", vec![("Sec-GPC", "1")]),
        ("site=far&publisher=4", vec![]),
        ("site=shut&gdpr=0&publisher=5", vec![]),
    ] {
        collector.get(&format!("/i.gif?{target}"), &headers).await;
    }
    collector
        .wait_for(
            "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count",
            3,
        )
        .await;
    collector
        .wait_for("select count(*) from avtryck.hit_detail", 2)
        .await;
    let rows = collector
        .rows("select publisher, consent_source, array_to_string(permit, ' ') from avtryck.hit_detail order by 1")
        .await;
    let got: Vec<(&str, &str, &str)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    assert_eq!(
        got,
        [("1", "gdpr_0", "measure"), ("2", "gdpr_0", "store measure")]
    );
}

#[tokio::test]
async fn a_choice_made_on_the_site_gives_just_what_it_names() {
    let collector = Collector::open().await;
    let with = |choice: &'static str| [("Cookie", choice)];
    let cookie = send(&collector, "shut", &with("avchoice=store.measure"), "").await;
    assert!(cookie.starts_with("avid="));
    assert_eq!(
        send(&collector, "open", &with("avchoice=measure"), "").await,
        ""
    );
    collector
        .wait_for("select count(*) from avtryck.hit_detail", 2)
        .await;
    let rows = collector
        .rows(
            "select site, permit, consent_source, visitor_id is not null, partner_uid, maid, city \
             from avtryck.hit_detail order by site",
        )
        .await;
    assert_eq!(rows[0].get::<_, Vec<String>>(1), ["measure"]);
    assert_eq!(rows[0].get::<_, &str>(2), "choice");
    assert!(!rows[0].get::<_, bool>(3));
    assert_eq!(rows[0].get::<_, Option<String>>(4), None);
    assert_eq!(rows[0].get::<_, Option<String>>(5), None);
    assert!(rows[1].get::<_, bool>(3));
    assert_eq!(rows[1].get::<_, Option<&str>>(4), Some("telltale-uid"));
    assert_eq!(
        rows[1].get::<_, Option<String>>(6),
        None,
        "no city without the permit to locate"
    );
}

#[tokio::test]
async fn without_the_permit_to_locate_only_country_and_region_are_stored() {
    let collector = Collector::open().await;
    collector.get("/p.gif?site=rows-only", &[]).await;
    collector
        .wait_for("select count(*) from avtryck.hit_detail", 1)
        .await;
    let row = &collector
        .rows(
            "select country, city, latitude, postal_code, visitor_id::text from avtryck.hit_detail",
        )
        .await[0];
    assert_eq!(row.get::<_, &str>(0), "SE");
    assert_eq!(row.get::<_, Option<String>>(1), None);
    assert_eq!(row.get::<_, Option<f64>>(2), None);
    assert_eq!(row.get::<_, Option<String>>(3), None);
    assert_eq!(row.get::<_, Option<String>>(4), None);
}
