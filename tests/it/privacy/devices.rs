//! Which devices the page says are the visitor's, and what the visitor says against it.

use std::process::Stdio;
use std::time::UNIX_EPOCH;

use avtryck::callback::user::UserClaim;
use avtryck::postgres::identity::group::settle_some;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{SWEDISH, page, submit, token, uuid};
use crate::support::{Collector, Config, Reply, command};

const USER_KEY: &str = "1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
const SIG_KEY: &str = "3:AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";
const SECRET: &str = "a-secret-of-the-browser-network";
const MAID: &str = "38400000-8cf0-11bd-b23e-10b96e40000d";
const SAME_SITE: (&str, &str) = ("Sec-Fetch-Site", "same-site");
const AGENT: (&str, &str) = (
    "User-Agent",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0",
);

/// A site that signs who is logged in, and a partner whose IDs stand for a browser.
pub(super) fn config() -> Config {
    Config::sites()
        .with(&format!(
            r#"
            [user]
            keys = ["{USER_KEY}"]

            [[partner]]
            key = "browsers"
            secret = "{SECRET}"
            id_type = "browser"
            gvl_id = 2
            default_permit = ["store", "measure", "profile", "match", "link", "locate"]
            "#
        ))
        .set(
            "site.open.user_sig_keys",
            toml::Value::Array(vec![SIG_KEY.into()]),
        )
}

fn now() -> i64 {
    i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap()
}

/// A browser that has just seen a page.
pub(super) async fn browser(collector: &Collector) -> String {
    let reply = collector.get("/p.gif?site=open", &[AGENT, SAME_SITE]).await;
    reply.cookie().to_owned()
}

pub(super) async fn view(collector: &Collector, cookie: &str, more: &str) {
    let target = format!("/p.gif?site=open{more}");
    let headers = [AGENT, SAME_SITE, ("Cookie", cookie)];
    assert_eq!(collector.get(&target, &headers).await.status, 200);
}

/// Logs a browser in, which the site signs.
pub(super) async fn log_in(collector: &Collector, cookie: &str, user: &str) {
    let claim = UserClaim { site: "open", user };
    let signature = claim.sign((3, &[3; 32]), now() + 3600).unwrap();
    let event = json!({"site": "open", "e": "login", "user": user, "user_sig": signature});
    send(collector, cookie, &event).await;
}

pub(super) async fn send(collector: &Collector, cookie: &str, event: &Value) {
    let headers = [
        AGENT,
        SAME_SITE,
        ("Cookie", cookie),
        ("Content-Type", "application/json"),
    ];
    let reply = collector.post("/e", &headers, &event.to_string()).await;
    assert_eq!(reply.status, 204, "{}", reply.body);
}

/// Has the partner sign that its ID is a browser's.
async fn exchange(collector: &Collector, cookie: &str, uid: &str) {
    let (now, visitor) = (now(), uuid(cookie));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("avtryck sync 1\n{now}\n{visitor}\n{uid}\n").as_bytes());
    let mac = mac.finalize().into_bytes();
    let signature: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    let target = format!("/sync/browsers?site=open&uid={uid}&ts={now}&sig={signature}");
    let headers = [AGENT, SAME_SITE, ("Cookie", cookie)];
    assert_eq!(collector.get(&target, &headers).await.status, 200);
}

/// Waits until everything is loaded and tied, and groups it.
pub(super) async fn settle(collector: &Collector, ties: i64) {
    collector
        .wait_for("select count(*) from avtryck.link_edge", ties)
        .await;
    let mut client = collector.database().await;
    while settle_some(&mut client).await.unwrap().is_full() {}
}

async fn look(collector: &Collector, cookie: &str) -> Reply {
    let seen = page(collector, &[("Cookie", cookie), SWEDISH]).await;
    assert_eq!(seen.status, 200, "{}", seen.body);
    seen
}

/// The handles of the devices on a page, which also says that there is such a section.
fn handles(page: &Reply) -> Vec<&str> {
    assert!(page.body.contains("id=\"tied\""), "{}", page.body);
    let parts = page.body.split("name=\"device\" value=\"").skip(1);
    parts.map(|rest| rest.split('"').next().unwrap()).collect()
}

async fn say(collector: &Collector, cookie: &str, page: &Reply, wish: &str, device: &str) -> Reply {
    let body = format!("token={}&device={device}&wish={wish}", token(page));
    let reply = submit(collector, "device", cookie, &body).await;
    assert_eq!(reply.status, 303, "{}", reply.body);
    reply
}

/// A page without what tells two visitors apart who did the same: their ID, token and times.
pub(super) fn anonymous(page: &Reply, cookie: &str) -> String {
    let text = page.body.replace(&uuid(cookie), "ID");
    let text = text.replace(token(page), "TOKEN");
    let mut parts = text.split("<time ");
    let mut kept = parts.next().unwrap().to_owned();
    for part in parts {
        kept.push_str(part.split_once("</time>").unwrap().1);
    }
    kept
}

const FORBIDDEN: &str = "select count(*) from avtryck.link_forbidden";

#[tokio::test]
async fn a_login_that_the_site_signed_shows_the_other_browser_and_a_claimed_one_shows_nothing() {
    let collector = Collector::start(config()).await;
    let [anna, annas_other] = [browser(&collector).await, browser(&collector).await];
    for cookie in [&anna, &annas_other] {
        log_in(&collector, cookie, "anna").await;
    }
    settle(&collector, 2).await;
    // A stranger names her user and her MAID, and another one nothing.
    view(&collector, &anna, &format!("&maid={MAID}")).await;
    let [stranger, nobody] = [browser(&collector).await, browser(&collector).await];
    view(&collector, &nobody, "").await;
    view(&collector, &stranger, &format!("&maid={MAID}")).await;
    let mut event = json!({"site": "open", "e": "login"});
    send(&collector, &nobody, &event).await;
    event["user"] = "anna".into();
    send(&collector, &stranger, &event).await;
    settle(&collector, 5).await;
    let sql = "select count(*) from avtryck.hit where visitor_id is not null";
    collector.wait_for(sql, 11).await;

    let (hers, theirs) = (
        look(&collector, &stranger).await,
        look(&collector, &nobody).await,
    );
    assert_eq!(handles(&hers), [""; 0]);
    assert_eq!(anonymous(&hers, &stranger), anonymous(&theirs, &nobody));
    let seen = look(&collector, &annas_other).await;
    assert_eq!(handles(&seen).len(), 1);
    for text in [
        "Enheter som vi tror är dina",
        "En annan webbläsare",
        "samma inloggning har använts på båda",
        "Kopplad sedan",
    ] {
        assert!(seen.body.contains(text), "{text} in {}", seen.body);
    }
    for cookie in [&anna, &stranger, &nobody] {
        assert!(!seen.body.contains(&uuid(cookie)), "{}", seen.body);
    }
    assert!(!seen.body.contains(MAID));

    // The request's own consent decides, and so does what is stored of it.
    for refusal in [
        ("Sec-GPC", "1"),
        ("Cookie", "avchoice=store.measure.locate"),
    ] {
        let seen = page(&collector, &[("Cookie", &annas_other), refusal]).await;
        assert!(!seen.body.contains("id=\"tied\""), "{refusal:?}");
    }
    let permit = format!(
        "update avtryck.subject_permit set permit = 47, consent_source = 0 where subject = '{}'",
        uuid(&annas_other)
    );
    collector.rows(&permit).await;
    assert_eq!(handles(&look(&collector, &annas_other).await), [""; 0]);
}

#[tokio::test]
async fn a_device_that_several_people_use_shows_nothing_and_is_shown_to_nobody() {
    let collector = Collector::start(config()).await;
    let [tablet, annas, bos] = [
        browser(&collector).await,
        browser(&collector).await,
        browser(&collector).await,
    ];
    for (cookie, user) in [(&tablet, "anna"), (&annas, "anna"), (&bos, "bo")] {
        log_in(&collector, cookie, user).await;
    }
    settle(&collector, 3).await;
    assert_eq!(handles(&look(&collector, &annas).await).len(), 1);
    assert_eq!(handles(&look(&collector, &tablet).await).len(), 1);
    log_in(&collector, &tablet, "bo").await;
    settle(&collector, 4).await;
    for cookie in [&tablet, &annas, &bos] {
        assert_eq!(handles(&look(&collector, cookie).await), [""; 0]);
    }
}

#[tokio::test]
async fn a_device_that_is_not_mine_stays_apart_whatever_comes_after() {
    let collector = Collector::start(config()).await;
    let [anna, other] = [browser(&collector).await, browser(&collector).await];
    for cookie in [&anna, &other] {
        exchange(&collector, cookie, "u-4711-4711").await;
    }
    settle(&collector, 2).await;
    let seen = look(&collector, &anna).await;
    let found = handles(&seen).len();
    assert_eq!(found, 2, "the number and the other browser: {}", seen.body);
    for text in [
        "annonsnätverket browsers",
        "de har setts tillsammans",
        "båda har samma nummer",
    ] {
        assert!(seen.body.contains(text), "{text} in {}", seen.body);
    }
    let (_, of_other) = seen.body.split_once("En annan webbläsare").unwrap();
    let (_, handle) = of_other.split_once("name=\"device\" value=\"").unwrap();
    let handle = handle.split('"').next().unwrap();

    // Neither the handle of another's page nor one of nobody does anything, nor a refused request.
    let elsewhere = look(&collector, &other).await;
    let foreign = handles(&elsewhere)[1].to_owned();
    for device in [&*foreign, "", "AAAAAAAAAAAAAAAA", token(&seen)] {
        for wish in ["not_mine", "forget"] {
            let reply = say(&collector, &anna, &seen, wish, device).await;
            let after = collector
                .get(reply.header("location"), &[("Cookie", &anna)])
                .await;
            assert!(!after.body.contains("notice good"), "{}", after.body);
        }
    }
    let form = format!("token={}&device={handle}&wish=not_mine", token(&seen));
    let refused = format!("{anna}; avchoice=store.measure");
    assert_eq!(
        submit(&collector, "device", &refused, &form).await.status,
        303
    );
    assert_eq!(collector.number(FORBIDDEN).await, 0);
    assert_eq!(handles(&look(&collector, &anna).await).len(), 2);

    let reply = say(&collector, &anna, &seen, "not_mine", handle).await;
    let target = "/privacy?site=open&lang=sv&done=not_mine";
    assert_eq!(reply.header("location"), target);
    let after = collector.get(target, &[("Cookie", &anna)]).await;
    assert!(after.body.contains("Det är noterat."), "{}", after.body);
    assert!(
        !after.body.contains("En annan webbläsare"),
        "{}",
        after.body
    );
    assert_eq!(collector.number(FORBIDDEN).await, 1);
    let sql = "select count(*) from avtryck.link_change where reason = 'not_mine'";
    assert!(collector.number(sql).await > 0);
    // A second time does nothing.
    say(&collector, &anna, &seen, "not_mine", handle).await;
    assert_eq!(collector.number(FORBIDDEN).await, 1);

    // Not the same evidence, nor finding all anew, nor a restart brings it back.
    let (_, dir, _) = collector.stop().await;
    let collector = Collector::start_in(dir).await;
    for cookie in [&anna, &other] {
        exchange(&collector, cookie, "u-4711-4711").await;
        log_in(&collector, cookie, "anna").await;
    }
    settle(&collector, 4).await;
    let rebuild = command(&["link", "rebuild"])
        .env("AVTRYCK_CONFIG", collector.dir.path().join("avtryck.toml"))
        .stdout(Stdio::null())
        .status();
    assert!(rebuild.await.unwrap().success());
    for (cookie, stranger) in [(&anna, &other), (&other, &anna)] {
        let seen = look(&collector, cookie).await;
        assert!(!seen.body.contains("En annan webbläsare"), "{}", seen.body);
        assert!(!seen.body.contains(&uuid(stranger)));
    }
    let sql = format!(
        "select count(distinct device_group) from avtryck.link_node where node in ('{}', '{}')",
        uuid(&anna),
        uuid(&other)
    );
    assert_eq!(collector.number(&sql).await, 2);
}

#[tokio::test]
async fn a_tie_that_is_forgotten_is_gone_until_the_two_are_seen_together_again() {
    let collector = Collector::start(config()).await;
    let [anna, other, third] = [
        browser(&collector).await,
        browser(&collector).await,
        browser(&collector).await,
    ];
    for cookie in [&anna, &other, &third] {
        log_in(&collector, cookie, "anna").await;
    }
    settle(&collector, 3).await;
    let seen = look(&collector, &anna).await;
    let handle = handles(&seen)[0].to_owned();
    assert_eq!(handles(&seen).len(), 2);
    let reply = say(&collector, &anna, &seen, "forget", &handle).await;
    let after = collector
        .get(reply.header("location"), &[("Cookie", &anna)])
        .await;
    assert!(
        after.body.contains("Kopplingen är raderad."),
        "{}",
        after.body
    );
    assert_eq!(handles(&after).len(), 1);
    assert_eq!(
        collector
            .number("select count(*) from avtryck.link_edge")
            .await,
        2
    );
    assert_eq!(collector.number(FORBIDDEN).await, 0);
    // A replay does not take another one.
    say(&collector, &anna, &seen, "forget", &handle).await;
    assert_eq!(
        collector
            .number("select count(*) from avtryck.link_edge")
            .await,
        2
    );
    for cookie in [&other, &third] {
        log_in(&collector, cookie, "anna").await;
    }
    settle(&collector, 3).await;
    assert_eq!(handles(&look(&collector, &anna).await).len(), 2);
}
