//! What pages are told of their visitor's segments: requests in, replies out.

mod running;

use avtryck::callback::user::UserClaim;
use avtryck::hit::subject::Subject;
use avtryck::keys::UserKeyring;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::{Collector, Config, Reply, tampered, until};

const SIG_KEY: &str = "3:AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";
const USER_KEY: &str = "1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
const SAME_SITE: (&str, &str) = ("Sec-Fetch-Site", "same-site");
const PAGE: (&str, &str) = ("Origin", "https://www.open.example");

fn config() -> Config {
    Config::sites()
        .with(&format!(
            r#"
            [user]
            keys = ["{USER_KEY}"]
            [[segment]]
            key = "upgrade"
            where = "permits_link"
            expose = ["open", "shut"]
            [[segment]]
            key = "of-users"
            where = "permits_link"
            expose = ["open"]
            [[segment]]
            key = "too-small"
            where = "permits_link"
            expose = ["open"]
            [[segment]]
            key = "inner"
            where = "permits_link"
            "#
        ))
        .set(
            "site.open.user_sig_keys",
            toml::Value::Array(vec![SIG_KEY.into()]),
        )
}

async fn new_visitor(collector: &Collector) -> String {
    let reply = collector.get("/id?site=open", &[SAME_SITE]).await;
    reply.cookie().to_owned()
}

/// Names the visitor of a cookie by a hit of theirs.
async fn visitor_of(collector: &Collector, cookie: &str, name: &str) -> uuid::Uuid {
    let target = format!("/p.gif?site=open&e={name}");
    collector
        .get(&target, &[SAME_SITE, ("Cookie", cookie)])
        .await;
    let sql = format!("select count(*) from avtryck.hit_detail where event_name = '{name}'");
    collector.wait_for(&sql, 1).await;
    let sql = format!("select visitor_id from avtryck.hit_detail where event_name = '{name}'");
    collector.rows(&sql).await[0].get(0)
}

/// Puts subjects into segments, as the evaluation of their rules does.
async fn put(client: &Client, members: &[(&str, uuid::Uuid)]) {
    let sql = "insert into avtryck.segment (key, size, is_exposed) \
               select key, 1000, key <> 'too-small' \
               from unnest(array['upgrade', 'of-users', 'too-small', 'inner']) as key \
               on conflict (key) do update set size = excluded.size, is_exposed = excluded.is_exposed";
    client.execute(sql, &[]).await.unwrap();
    for (key, subject) in members {
        let sql = "insert into avtryck.segment_member (segment, subject, since, permit) \
                   select segment, $2, now(), 7 from avtryck.segment where key = $1";
        assert_eq!(client.execute(sql, &[key, subject]).await.unwrap(), 1);
    }
}

fn told(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(reply.cookies, [""; 0], "asking sets nothing");
    let body: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(body["ttl"], 300);
    body["segments"].clone()
}

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "it is one table of requests and what each is told"
)]
async fn a_page_is_told_what_consent_cookie_and_configuration_allow_and_every_reply_is_as_long() {
    let collector = Collector::start(config()).await;
    let (anna, berta) = (new_visitor(&collector).await, new_visitor(&collector).await);
    let visitor = visitor_of(&collector, &anna, "anna").await;
    let users = UserKeyring::new(&[(1, vec![7; 32])]);
    let user = Subject::User(users.hash("carl").unwrap()).key();
    let user = uuid::Uuid::from_bytes(user);
    let client = collector.database().await;
    let all = ["upgrade", "too-small", "inner"].map(|key| (key, visitor));
    put(&client, &[&[("of-users", user)], &all[..]].concat()).await;
    let cookie = |choice: &str| format!("{anna}{choice}");
    let ask = async |query: &str, cookie: &str, more: &[(&str, &str)]| {
        let headers = [&[SAME_SITE, ("Cookie", cookie)], more].concat();
        collector
            .get(&format!("/segments?site={query}"), &headers)
            .await
    };
    until(async || told(&ask("open", &anna, &[]).await) == json!(["upgrade"])).await;

    let claim = |user| UserClaim { site: "open", user };
    let expires = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap() + 60;
    let sign = |user| claim(user).sign((3, &[3; 32]), expires).unwrap();
    let (carl, dora) = (sign("carl"), sign("dora"));
    let both = json!(["upgrade", "of-users"]);
    let (own, users, none) = (json!(["upgrade"]), json!(["of-users"]), json!([]));
    let forged = tampered(&anna);
    let mut lengths = Vec::new();
    for (query, cookie, headers, expected) in [
        ("open", cookie(""), vec![], &own),
        ("open", cookie("; avchoice=store.profile"), vec![], &own),
        (
            "open",
            cookie("; avchoice=store.measure.match.link.locate"),
            vec![],
            &none,
        ),
        ("open", cookie("; avchoice=profile"), vec![], &none),
        ("open", cookie("; avchoice=none"), vec![], &none),
        ("open", cookie("; avchoice=broken!"), vec![], &none),
        ("open", cookie(""), vec![("Sec-GPC", "1")], &none),
        ("open&gdpr=1", cookie(""), vec![], &none),
        ("open&gdpr=1&gdpr_consent=broken", cookie(""), vec![], &none),
        ("open", berta.clone(), vec![], &none),
        ("open", String::new(), vec![], &none),
        ("open", forged, vec![], &none),
        // An address never says who is logged in.
        (
            &*format!("open&user=carl&user_sig={carl}"),
            cookie(""),
            vec![],
            &own,
        ),
    ] {
        let reply = ask(query, &cookie, &headers).await;
        assert_eq!(told(&reply), *expected, "{query} {cookie} {headers:?}");
        lengths.push(reply.bytes.len());
        assert!(
            reply.header("vary").contains("Origin, Cookie, Sec-GPC"),
            "{reply:?}"
        );
    }
    // Whoever is named is nobody without the site's signature.
    for (user, signature, cookie, expected) in [
        ("carl", "", String::new(), &none),
        ("carl", "", cookie(""), &own),
        ("carl", &*carl, cookie(""), &both),
        ("carl", &carl, String::new(), &users),
        ("carl", &dora, String::new(), &none),
        ("dora", &dora, cookie(""), &own),
        ("carl", &carl, cookie("; avchoice=store.profile"), &own),
        ("carl", &carl, cookie("; avchoice=none"), &none),
    ] {
        let body = json!({"user": user, "user_sig": signature}).to_string();
        let headers = [SAME_SITE, ("Cookie", &cookie)];
        let reply = collector.post("/segments?site=open", &headers, &body);
        let reply = reply.await;
        assert_eq!(told(&reply), *expected, "{user} {signature} {cookie}");
        lengths.push(reply.bytes.len());
    }
    for (body, status) in [
        ("", 400),
        ("[{},{}]", 400),
        ("{", 400),
        (&*"x".repeat(17_000), 413),
    ] {
        let reply = collector
            .post("/segments?site=open", &[SAME_SITE], body)
            .await;
        assert_eq!(reply.status, status, "{body:.9} {reply:?}");
    }
    lengths.dedup();
    assert_eq!(lengths.len(), 1, "{lengths:?}");
    // Where a site must ask, a visitor who has not answered has permitted nothing.
    let shut = [("Host", "shut.example")];
    assert_eq!(told(&ask("shut", &anna, &shut).await), none);
    let headers = [("Host", "shut.example")];
    let asked = format!("{anna}; avchoice=store.profile");
    assert_eq!(
        told(&ask("shut", &asked, &headers).await),
        none,
        "it is another host's cookie"
    );
    assert_eq!(told(&ask("rows-only", &anna, &[]).await), none);
}

#[tokio::test]
async fn pages_of_the_site_may_read_the_reply_and_others_get_none() {
    let collector = Collector::start(config()).await;
    let reply = collector.get("/segments?site=open", &[PAGE]).await;
    assert_eq!(told(&reply), json!([]));
    assert_eq!(reply.header("access-control-allow-origin"), PAGE.1);
    assert_eq!(reply.header("access-control-allow-credentials"), "true");
    for origin in ["https://www.shut.example", "https://evil.example", "null"] {
        let reply = collector
            .get("/segments?site=open", &[("Origin", origin)])
            .await;
        assert_eq!(
            (reply.status, reply.header("avtryck-refusal")),
            (403, "origin")
        );
        assert_eq!(reply.header("access-control-allow-origin"), "");
    }
    for (target, status, reason) in [
        ("/segments?site=nowhere", 400, "site_unknown"),
        ("/segments", 200, ""),
    ] {
        let reply = collector.get(target, &[]).await;
        assert_eq!(
            (reply.status, reply.header("avtryck-refusal")),
            (status, reason),
            "{target}"
        );
    }
    let preflight = [PAGE, ("Access-Control-Request-Method", "GET")];
    let reply = collector
        .request("OPTIONS", "/segments?site=open", &preflight, "")
        .await;
    assert_eq!(
        (reply.status, reply.header("access-control-allow-origin")),
        (204, PAGE.1)
    );
    let reply = collector
        .request("DELETE", "/segments?site=open", &[PAGE], "")
        .await;
    assert_eq!(
        (reply.status, reply.header("allow")),
        (405, "GET, HEAD, POST, OPTIONS")
    );
    let reply = collector
        .request("HEAD", "/segments?site=open", &[PAGE], "")
        .await;
    assert_eq!((reply.status, &*reply.body), (200, ""));
    collector.settle().await;
    assert_eq!(
        collector.number("select count(*) from avtryck.hit").await,
        1,
        "nothing is recorded"
    );
}

#[tokio::test]
async fn whoever_withdraws_is_told_nothing_at_once_even_by_a_copy_of_the_cookie() {
    let collector = Collector::start(config()).await;
    let anna = new_visitor(&collector).await;
    let visitor = visitor_of(&collector, &anna, "anna").await;
    let client = collector.database().await;
    put(&client, &[("upgrade", visitor)]).await;
    let ask = async || {
        let headers = [SAME_SITE, ("Cookie", &*anna)];
        told(&collector.get("/segments?site=open", &headers).await)
    };
    until(async || ask().await == json!(["upgrade"])).await;
    let headers = [PAGE, SAME_SITE, ("Cookie", &*anna)];
    let reply = collector
        .request("DELETE", "/consent?site=open", &headers, "")
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(ask().await, json!([]));
}

#[tokio::test]
async fn without_postgres_pages_are_told_of_no_segment() {
    let collector = Collector::start(config().without_postgres()).await;
    let reply = collector.get("/segments?site=open", &[]).await;
    assert_eq!(told(&reply), json!([]));
}
