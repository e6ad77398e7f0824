//! What SIGHUP changes in a collector that runs, and what it does not.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use loadtest::Plan;
use tokio::sync::watch;

use crate::support::{Collector, Config, root};

pub(crate) const APPLIED: &str = "avtryck_config_reloads_total{outcome=\"applied\"}";
const REFUSED: &str = "avtryck_config_reloads_total{outcome=\"refused\"}";

impl Collector {
    /// Changes the configuration in its file.
    pub(crate) fn configure(&self, change: impl FnOnce(Config) -> Config) {
        let dir = self.dir.path();
        change(Config::read(dir)).write_as_it_is(dir);
    }

    /// Has it read the file again, and waits until it has.
    pub(crate) async fn reload(&self, outcome: &str) {
        let before = self.metric(outcome).await;
        self.signal("HUP");
        self.until_metric(outcome, before + 1.0).await;
    }
}

fn key(id: u8) -> String {
    format!("{id}:{}", STANDARD.encode([id; 32]))
}

#[tokio::test]
async fn sites_come_and_go_under_load_and_no_connection_notices() {
    let collector = Collector::open().await;
    let (stop, stopping) = watch::channel(false);
    let plan = Plan {
        address: collector.http,
        site: "open".to_owned(),
        prefix: "during".to_owned(),
        connections: 8,
        rate: Some(400.0),
        padding: 0,
        fresh: false,
    };
    let load = tokio::spawn(loadtest::send(plan, stopping));
    let status = async |site: &str| {
        let reply = collector.get(&format!("/p.gif?site={site}"), &[]).await;
        (reply.status, reply.header("avtryck-refusal").to_owned())
    };
    let unknown = (400, "site_unknown".to_owned());
    assert_eq!(status("late").await, unknown);
    assert_eq!(status("rows-only").await, (200, String::new()));
    // A connection that is open across the reload is by the new configuration at its next request.
    collector.configure(|config| config.set("site.rows-only.key", "late"));
    collector.reload(APPLIED).await;
    assert_eq!(status("late").await, (200, String::new()));
    assert_eq!(status("rows-only").await, unknown);
    assert_eq!(collector.get("/tag.js?site=late", &[]).await.status, 200);
    for vendor in 1..=3 {
        collector.configure(|config| config.set("site.late.gvl_id", vendor));
        collector.reload(APPLIED).await;
    }
    stop.send_replace(true);
    let outcome = load.await.unwrap();
    assert!(outcome.acknowledged.len() > 100, "{outcome:?}");
    assert_eq!((outcome.broken, outcome.refused.len()), (0, 0));
    let loaded = "select count(*) from avtryck.hit where event_name like 'during-%'";
    let sent = i64::try_from(outcome.acknowledged.len()).unwrap();
    collector.wait_for(loaded, sent).await;
}

#[tokio::test]
async fn a_file_with_a_mistake_changes_nothing_and_every_mistake_is_logged() {
    let collector = Collector::open().await;
    let sound = Config::read(collector.dir.path());
    let late = "[[site]]\nkey = \"late\"\ndefault_permit = [\"measure\"]\n";
    collector.configure(|config| {
        config
            .set("http.threads", "many")
            .with(late)
            .with("[colour]")
            .with("[[webhook]]\nkey = \"crm\"\nsecret = \"0123456789abcdef\"\n")
            .set("cookie.name", "avchoice")
    });
    collector.reload(REFUSED).await;
    let late_status = async || collector.get("/p.gif?site=late", &[]).await.status;
    assert_eq!(late_status().await, 400);
    assert!(
        collector
            .get("/id?site=open", &[])
            .await
            .cookie()
            .starts_with("avid=")
    );
    // A file that it names for the first time is one of its mistakes, if it cannot be read.
    collector.configure(|_| {
        sound
            .clone()
            .set("geoip.city", vec!["/nowhere/city.mmdb"])
            .set("geoip.network", vec!["/nowhere/network.mmdb"])
            .with(late)
    });
    collector.reload(REFUSED).await;
    assert_eq!(late_status().await, 400);
    collector.configure(|_| sound.with(late));
    collector.reload(APPLIED).await;
    assert_eq!(late_status().await, 200);
    assert_eq!(collector.metric(REFUSED).await, 2.0);
    let (_, _, log) = collector.stop().await;
    for mistake in [
        "http.threads: \\\"many\\\" is wrong; 0 (one per core) to 256 would be right",
        "colour: is no section",
        "webhook[0].url: is missing; an https URL",
        "cookie.choice_name: the same as cookie.name",
        "/nowhere/city.mmdb: ",
        "/nowhere/network.mmdb: ",
    ] {
        let logged = log
            .lines()
            .filter(|line| line.contains("the configuration is wrong") && line.contains(mistake));
        assert_eq!(logged.count(), 1, "{mistake} in {log}");
    }
    assert_eq!(log.matches("nothing was reloaded").count(), 2, "{log}");
}

#[tokio::test]
async fn a_key_that_takes_a_restart_is_named_and_the_others_hold_at_once() {
    let config = Config::sites().embedded().set("limit.burst", 1000);
    let collector = Collector::start(config).await;
    let began = collector.metric("avtryck_config_timestamp_seconds").await;
    assert!(began > 1.7e9, "{began}");
    collector.configure(|config| {
        config
            .set("http.threads", 1)
            .with("limit = { burst = 1, hits_per_second = 1, drop = true }")
            .set("database.url", "postgres://me:hush@127.0.0.1:1/x")
    });
    collector.reload(APPLIED).await;
    let statuses = [
        collector.get("/p.gif?site=open", &[]).await.status,
        collector.get("/p.gif?site=open", &[]).await.status,
    ];
    assert_eq!(statuses, [200, 429]);
    // The database is the one that it was.
    collector
        .wait_for("select count(*) from avtryck.hit", 1)
        .await;
    let (_, _, log) = collector.stop().await;
    for line in [
        "http.threads waits for a restart: 2 is in force, 1 is in the configuration",
        "database.url waits for a restart: \\\"embedded\\\" is in force, \\\"(not shown)\\\" is in the configuration",
    ] {
        assert!(log.contains(line), "no {line} in {log}");
    }
    assert_eq!(log.matches("waits for a restart").count(), 2);
    assert!(!log.contains("hush"));
}

#[tokio::test]
async fn a_new_cookie_key_signs_at_once_and_the_one_behind_it_still_verifies() {
    let config = Config::sites().set("cookie.keys", vec![key(1)]);
    let collector = Collector::start(config).await;
    let sign_with = async |keys: &[u8]| {
        let keys: Vec<String> = keys.iter().map(|id| key(*id)).collect();
        collector.configure(|config| config.set("cookie.keys", keys));
        collector.reload(APPLIED).await;
    };
    let cookie = async || {
        collector
            .get("/id?site=open", &[])
            .await
            .cookie()
            .to_owned()
    };
    let is_known = async |cookie: &str| {
        let reply = collector.get("/id?site=open", &[("Cookie", cookie)]).await;
        reply.cookies.is_empty()
    };
    let key_id = |cookie: &str| {
        let value = cookie.split_once('=').unwrap().1;
        URL_SAFE_NO_PAD.decode(value).unwrap()[0]
    };
    let old = cookie().await;
    assert_eq!((key_id(&old), is_known(&old).await), (1, true));
    sign_with(&[2, 1]).await;
    let new = cookie().await;
    assert_eq!(key_id(&new), 2);
    assert!(is_known(&old).await && is_known(&new).await);
    sign_with(&[2]).await;
    assert!(!is_known(&old).await && is_known(&new).await);
}

#[tokio::test]
async fn partners_geodata_and_data_centres_are_new_for_the_next_hits() {
    let collector = Collector::start(Config::sites().real_geodata()).await;
    // What becomes of a hit from an address of GeoIP2-City-Test.mmdb, and from one of
    // GeoLite2-ASN-Test.mmdb.
    let rows = async |round: &str| {
        for address in ["175.16.199.1", "1.128.0.1"] {
            let target = format!("/p.gif?site=open&e={round}");
            let from = [("X-Forwarded-For", address)];
            collector.get(&target, &from).await;
        }
        let of_round = format!("event_name = '{round}'");
        let count = format!("select count(*) from avtryck.hit where {of_round}");
        collector.wait_for(&count, 2).await;
        let sql = format!(
            "select city, flags @> '{{data_centre}}' from avtryck.hit_detail where {of_round} order by received_at"
        );
        let rows = collector.rows(&sql).await;
        let city = rows[0].get::<_, Option<String>>(0).unwrap_or_default();
        (city, rows[1].get::<_, bool>(1))
    };
    let callback = async || {
        let target = "/cb/network?site=open&kind=click&token=0123456789abcdef";
        collector.get(target, &[]).await.status
    };
    // Whose data places are from is said where their licences ask for it.
    let credits = async || {
        let page = collector.get("/privacy?site=open", &[]).await.body;
        [
            page.contains(
                "<a href=\"https://db-ip.com\" rel=\"noreferrer\">IP Geolocation by DB-IP</a>",
            ),
            page.contains("This product includes GeoLite2 Data created by MaxMind"),
        ]
    };
    let (city, is_data_centre) = rows("before").await;
    assert_eq!(credits().await, [true, true]);
    assert_ne!(city, "Changchun");
    assert!(!is_data_centre);
    assert_eq!(callback().await, 403);
    let file = root().join("assets/data/test/mmdb/GeoIP2-City-Test.mmdb");
    collector.configure(|config| {
        config
            .set("geoip.city", vec![file.display().to_string()])
            .set("partner.network.token", "0123456789abcdef")
            .set("traffic.data_centre_asns", vec![1221])
    });
    collector.reload(APPLIED).await;
    assert_eq!(rows("after").await, ("Changchun".to_owned(), true));
    assert_eq!(callback().await, 204);
    assert_eq!(credits().await, [false, true]);
}
