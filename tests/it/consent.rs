//! What is not permitted is not stored.

use std::path::Path;

use crate::support::Collector;

/// Everything that a refused hit could be known by, in one request.
const TELLTALES: [&str; 7] = [
    "telltale-url",
    "telltale-ref",
    "telltale-uid",
    "telltale-maid",
    "telltale-event",
    "telltale-ua",
    "telltale-param",
];

async fn send(collector: &Collector, site: &str, headers: &[(&str, &str)]) -> String {
    let target = format!(
        "/i.gif?site={site}&partner=network&campaign=spring&u=telltale-url&ref=telltale-ref&uid=telltale-uid&maid=telltale-maid&e=telltale-event&own=telltale-param"
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
fn holds(dir: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, bytes);
        }
        std::fs::read(&path).is_ok_and(|text| text.windows(bytes.len()).any(|part| part == bytes))
    })
}

#[tokio::test]
async fn without_a_permit_a_hit_is_a_count_and_nothing_else_anywhere() {
    let collector = Collector::open().await;
    let cookie = collector
        .get("/id?site=open", &[])
        .await
        .cookie()
        .to_owned();
    let choice = format!("{cookie}; avchoice=none");
    for (site, headers) in [
        ("shut", vec![]),
        ("shut", vec![("Cookie", cookie.as_str())]),
        ("open", vec![("Sec-GPC", "1")]),
        ("open", vec![("Cookie", choice.as_str())]),
    ] {
        assert_eq!(
            send(&collector, site, &headers).await,
            "",
            "no cookie without a permit"
        );
    }
    collector
        .get("/p.gif?site=open&gdpr=1&gdpr_consent=telltale-param", &[])
        .await;
    let total = "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count";
    collector.wait_for(total, 5).await;
    assert_eq!(
        collector
            .number("select count(*) from avtryck.hit_detail")
            .await,
        0
    );
    let rows = collector
        .rows(
            "select site, kind, partner, campaign, sum(hits)::bigint from avtryck.hit_count_detail \
             where kind = 'impression' group by 1, 2, 3, 4 order by 1",
        )
        .await;
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (rows[0].get::<_, &str>(0), rows[0].get::<_, i64>(4)),
        ("open", 2)
    );
    assert_eq!(
        (rows[1].get::<_, &str>(0), rows[1].get::<_, i64>(4)),
        ("shut", 2)
    );
    assert_eq!(
        (rows[0].get::<_, &str>(2), rows[0].get::<_, &str>(3)),
        ("network", "spring")
    );
    let (status, dir, log) = collector.stop().await;
    assert!(status.success());
    let cookie_value = cookie.split_once('=').unwrap().1;
    for telltale in TELLTALES
        .iter()
        .copied()
        .chain([cookie_value, "203.0.113.77"])
    {
        assert!(
            !holds(&dir.path().join("spool"), telltale.as_bytes()),
            "{telltale} in the spool"
        );
        assert!(
            !holds(&dir.path().join("postgres"), telltale.as_bytes()),
            "{telltale} in Postgres"
        );
        assert!(!log.contains(telltale), "{telltale} in the log");
    }
}

#[tokio::test]
async fn a_choice_made_on_the_site_gives_just_what_it_names() {
    let collector = Collector::open().await;
    let with = |choice: &'static str| [("Cookie", choice)];
    let cookie = send(&collector, "shut", &with("avchoice=store.measure")).await;
    assert!(cookie.starts_with("avid="));
    assert_eq!(
        send(&collector, "open", &with("avchoice=measure")).await,
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
