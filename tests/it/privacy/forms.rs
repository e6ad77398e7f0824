//! The forms of the page: a choice, the file, deletion.

use serde_json::Value;

use super::{FORM, OWN, SWEDISH, page, rows_of, submit, token, uuid, visitor};
use crate::consent::{holds, visitor_of};
use crate::support::{Collector, Config, Reply};

#[tokio::test]
async fn a_form_counts_only_from_this_page() {
    let collector = Collector::open().await;
    let (anna, bo) = (visitor(&collector).await, visitor(&collector).await);
    collector
        .get("/p.gif?site=open", &[("Cookie", &anna)])
        .await;
    rows_of(&collector, &anna, 1).await;
    let hers = page(&collector, &[("Cookie", &anna)]).await;
    let his = page(&collector, &[("Cookie", &bo)]).await;
    let body = format!("token={}&measure=on", token(&hers));
    let his = format!("token={}&measure=on", token(&his));
    let site = ("Origin", "https://www.open.example");
    let same = ("Sec-Fetch-Site", "same-origin");
    type Case<'t> = (&'t [(&'t str, &'t str)], &'t str, u16, &'t str);
    let cases: [Case<'_>; 14] = [
        (&[FORM], &body, 403, "origin"),
        (
            &[FORM, ("Origin", "https://evil.example")],
            &body,
            403,
            "origin",
        ),
        (&[FORM, ("Origin", "null")], &body, 403, "origin"),
        (
            &[FORM, ("Origin", "http://127.0.0.1:81")],
            &body,
            403,
            "origin",
        ),
        (&[FORM, site], &body, 403, "origin"),
        (
            &[FORM, OWN, ("Sec-Fetch-Site", "cross-site")],
            &body,
            403,
            "origin",
        ),
        (
            &[FORM, OWN, ("Sec-Fetch-Site", "same-site")],
            &body,
            403,
            "origin",
        ),
        (&[OWN, same], &body, 415, "content_type"),
        (
            &[OWN, ("Content-Type", "text/plain")],
            &body,
            415,
            "content_type",
        ),
        (&[FORM, OWN, same], "measure=on", 403, "token"),
        (&[FORM, OWN, same], &his, 403, "token"),
        (&[FORM, OWN, same], "token=&measure=on", 403, "token"),
        (&[FORM, OWN, same], "everything=on", 400, "form"),
        (&[FORM, OWN, same], &"x".repeat(2000), 413, "body_too_large"),
    ];
    for form in ["choice", "file", "erasure", "device", "home"] {
        for (headers, body, status, reason) in &cases {
            let mut headers = headers.to_vec();
            headers.push(("Cookie", &anna));
            headers.push(SWEDISH);
            let target = format!("/privacy/{form}?site=open");
            let reply = collector.post(&target, &headers, body).await;
            assert_eq!(
                (reply.status, reply.header("avtryck-refusal")),
                (*status, *reason),
                "{form} {headers:?}"
            );
            assert_eq!(reply.cookies, [""; 0]);
            assert!(reply.body.contains("inget har ändrats"), "{}", reply.body);
            assert!(!reply.body.contains(&uuid(&anna)));
            assert_eq!(reply.header("x-frame-options"), "DENY");
        }
        let reply = collector
            .get(&format!("/privacy/{form}?site=open"), &[])
            .await;
        assert_eq!(
            (reply.status, reply.header("allow")),
            (405, "POST, OPTIONS")
        );
    }
    assert!(
        collector
            .metric("avtryck_refusals_total{reason=\"token\"}")
            .await
            >= 9.0
    );
    rows_of(&collector, &anna, 1).await;
}

#[tokio::test]
async fn a_choice_by_the_form_holds_from_the_next_hit() {
    let collector = Collector::open().await;
    let cookie = visitor(&collector).await;
    let seen = page(&collector, &[("Cookie", &cookie)]).await;
    let body = format!("token={}&store=on&measure=on", token(&seen));
    let reply = submit(&collector, "choice", &cookie, &body).await;
    assert_eq!(
        (reply.status, reply.header("location")),
        (303, "/privacy?site=open&lang=sv&done=choice")
    );
    assert_eq!(
        reply.cookies,
        ["avchoice=store.measure; Path=/; Max-Age=33696000; SameSite=Lax"]
    );
    let chosen = format!("{cookie}; avchoice=store.measure");
    let after = collector
        .get(reply.header("location"), &[("Cookie", &chosen)])
        .await;
    assert!(after.body.contains("Ditt val är sparat."), "{}", after.body);
    assert!(
        after
            .body
            .contains("Just nu tillåtet: igenkänning, mätning. Det har du själv valt.")
    );
    let checked = |name: &str| {
        let input = format!("name=\"{name}\" aria-describedby=\"{name}-why\"");
        after.body.contains(&format!("{input} checked>"))
    };
    let flags = ["store", "measure", "profile", "match", "link", "locate"];
    assert_eq!(flags.map(checked), [true, true, false, false, false, false]);
    collector
        .get("/p.gif?site=open", &[("Cookie", &chosen)])
        .await;
    rows_of(&collector, &cookie, 1).await;
    let row = &collector
        .rows("select array_to_string(permit, ' '), consent_source, city from avtryck.hit_detail")
        .await[0];
    let got: (&str, &str, Option<&str>) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(got, ("store measure", "choice", None));

    // Without recognition the cookie ends; a link alone proves nothing.
    let reply = submit(
        &collector,
        "choice",
        &chosen,
        &format!("token={}", token(&seen)),
    )
    .await;
    assert_eq!(
        reply.cookies,
        [
            "avchoice=none; Path=/; Max-Age=33696000; SameSite=Lax",
            "avid=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax",
        ]
    );
    for done in ["choice", "erasure"] {
        let target = format!("/privacy?site=open&lang=sv&done={done}");
        let claimed = collector.get(&target, &[("Cookie", &cookie)]).await;
        assert!(
            !claimed.body.contains("role=\"status\""),
            "{}",
            claimed.body
        );
    }
    // A browser without an ID can choose as well.
    let reply = submit(&collector, "choice", "", "token=&measure=on").await;
    assert_eq!(reply.status, 303);
    assert!(reply.cookies[0].starts_with("avchoice=measure;"));
}

/// The body of a reply with chunked transfer coding.
fn unchunked(reply: &Reply) -> String {
    let (mut rest, mut body) = (reply.bytes.as_slice(), Vec::new());
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let length = std::str::from_utf8(&rest[..end]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return String::from_utf8(body).unwrap();
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 4 + length..];
    }
}

#[tokio::test]
async fn the_file_holds_every_row_and_not_only_the_last_ones() {
    let config = Config::sites().set("limit.hits_per_second", 0);
    let collector = Collector::start(config).await;
    let cookie = visitor(&collector).await;
    let other = visitor(&collector).await;
    collector
        .get("/p.gif?site=open", &[("Cookie", &other)])
        .await;
    rows_of(&collector, &other, 1).await;
    let empty = page(&collector, &[("Cookie", &cookie), SWEDISH]).await;
    assert!(empty.body.contains("Inget är sparat än."), "{}", empty.body);
    let body = format!("token={}", token(&empty));
    let reply = submit(&collector, "file", &cookie, &body).await;
    assert_eq!(unchunked(&reply), "[\n]\n");

    // More than the page shows, and more than one piece of the file holds.
    let padding = "x".repeat(2000);
    let event = |number: usize| serde_json::json!({ "site": "open", "e": "step", "id": number.to_string(), "u": format!("https://open.example/{padding}") });
    let events: Vec<Value> = (1..=500).map(event).collect();
    for events in events.chunks(250) {
        let posted = serde_json::to_string(&events).unwrap();
        let reply = collector.post("/e", &[("Cookie", &cookie)], &posted).await;
        assert_eq!(reply.status, 204, "{}", reply.body);
    }
    rows_of(&collector, &cookie, 500).await;
    let reply = submit(&collector, "file", &cookie, &body).await;
    assert_eq!(
        (
            reply.status,
            reply.header("content-type"),
            reply.header("content-disposition"),
            reply.header("cache-control"),
        ),
        (
            200,
            "application/json",
            "attachment; filename=\"open.json\"",
            "no-store"
        )
    );
    let mut rows: Vec<Value> = serde_json::from_str(&unchunked(&reply)).unwrap();
    let beside = ["subject_permit", "subject_day", "subject_seen"];
    rows.retain(|row| !beside.iter().any(|table| row["table"] == *table));
    assert_eq!(rows.len(), 500);
    let id = uuid(&cookie);
    assert!(
        rows.iter()
            .all(|row| row["visitor_id"] == id && row["table"] == "hit")
    );
    let mut ids: Vec<usize> = rows
        .iter()
        .map(|row| row["event_id"].as_str().unwrap().parse().unwrap())
        .collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(1..=500));
}

#[tokio::test]
async fn deletion_removes_everything_from_the_database() {
    let collector = Collector::open().await;
    let (anna, bo) = (visitor(&collector).await, visitor(&collector).await);
    for who in [&anna, &bo] {
        for target in ["/p.gif?site=open", "/i.gif?site=open&campaign=spring"] {
            collector.get(target, &[("Cookie", who)]).await;
        }
        rows_of(&collector, who, 2).await;
    }
    let seen = page(&collector, &[("Cookie", &anna)]).await;
    let body = format!("token={}", token(&seen));
    let reply = submit(&collector, "erasure", &anna, &body).await;
    assert_eq!(
        (reply.status, reply.header("location")),
        (303, "/privacy?site=open&lang=sv&done=erasure")
    );
    assert_eq!(
        reply.cookies,
        [
            "avchoice=none; Path=/; Max-Age=33696000; SameSite=Lax",
            "avid=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax",
        ]
    );
    rows_of(&collector, &anna, 0).await;
    rows_of(&collector, &bo, 2).await;
    let gone = [("Cookie", "avchoice=none"), SWEDISH];
    let after = collector.get(reply.header("location"), &gone).await;
    assert!(
        after.body.contains("Raderingen är registrerad."),
        "{}",
        after.body
    );
    assert!(after.body.contains("ingen kaka") && after.body.contains("ingenting"));
    // A browser that kept the cookie anyway finds nothing there, now and later.
    collector
        .get("/p.gif?site=open", &[("Cookie", &anna)])
        .await;
    collector
        .wait_for(
            "select coalesce(sum(hits), 0)::bigint from avtryck.hit_count",
            1,
        )
        .await;
    let kept = page(&collector, &[("Cookie", &anna), SWEDISH]).await;
    assert!(kept.body.contains("Inget är sparat än."), "{}", kept.body);
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_shown_less_and_can_still_choose() {
    let collector = Collector::open().await;
    let cookie = visitor(&collector).await;
    collector
        .get(
            "/p.gif?site=open&u=https://open.example/",
            &[("Cookie", &cookie)],
        )
        .await;
    rows_of(&collector, &cookie, 1).await;
    let client = ("X-Forwarded-For", "2.64.0.9");
    let asked = [client, ("Cookie", &cookie), SWEDISH];
    let mut told = 0;
    let refused = loop {
        let seen = page(&collector, &asked).await;
        if seen.status != 200 {
            break seen;
        }
        assert!(seen.body.contains("https://open.example/"));
        told += 1;
        assert!(told < 1000);
    };
    assert!(told >= 30, "{told}");
    assert_eq!(
        (
            refused.status,
            refused.header("avtryck-refusal"),
            refused.header("retry-after")
        ),
        (429, "over_limit", "1")
    );
    assert!(!refused.body.contains("https://open.example/"));
    assert!(refused.body.contains("många förfrågningar") && refused.body.contains("id=\"erase\""));
    let body = format!("token={}&store=on", token(&refused));
    let target = "/privacy/choice?site=open";
    let headers = [client, OWN, FORM, ("Cookie", &cookie)];
    assert_eq!(collector.post(target, &headers, &body).await.status, 303);
    assert_eq!(collector.get("/p.gif?site=open", &asked).await.status, 200);
    // Deletion has an allowance of its own, like everything that costs Postgres work.
    let wish = format!("token={}", token(&refused));
    let mut taken = 0;
    let target = "/privacy/erasure?site=open";
    let refused = loop {
        let done = collector.post(target, &headers, &wish).await;
        if done.status != 303 {
            break done;
        }
        taken += 1;
        assert!(taken < 1000);
    };
    assert!(taken >= 30, "{taken}");
    assert_eq!(
        (refused.status, refused.header("avtryck-refusal")),
        (429, "over_limit")
    );
    // A planted cookie takes nobody's withdrawal away: as many are taken as a header holds.
    let mut planted = cookie.clone();
    for _ in 0..20 {
        planted = format!("{planted}; {}", visitor(&collector).await);
    }
    let elsewhere = [("X-Forwarded-For", "2.64.0.10"), OWN, ("Cookie", &planted)];
    let many = collector
        .request("DELETE", "/consent?site=open", &elsewhere, "")
        .await;
    assert_eq!(many.status, 200);
    // Clients elsewhere are not held up.
    assert_eq!(page(&collector, &[("Cookie", &cookie)]).await.status, 200);
}

#[tokio::test]
async fn without_postgres_the_page_is_shown_and_choice_and_deletion_are_kept() {
    let collector = Collector::start(Config::sites().without_postgres()).await;
    let cookie = visitor(&collector).await;
    let seen = page(&collector, &[("Cookie", &cookie), SWEDISH]).await;
    assert_eq!(seen.status, 200);
    assert!(
        seen.body.contains("Databasen svarar inte just nu"),
        "{}",
        seen.body
    );
    assert!(seen.body.contains(&uuid(&cookie)) && seen.body.contains("id=\"erase\""));
    let body = format!("token={}", token(&seen));
    let file = submit(&collector, "file", &cookie, &body).await;
    assert_eq!(
        (file.status, file.header("avtryck-refusal")),
        (503, "database_away")
    );
    assert!(file.header("content-type").starts_with("text/html"));
    let choice = submit(&collector, "choice", &cookie, &format!("{body}&store=on")).await;
    assert_eq!((choice.status, choice.cookie()), (303, "avchoice=store"));
    let instructions = collector.dir.path().join("spool/instruction");
    let is_recorded = || holds(&instructions, &visitor_of(&cookie));
    assert!(!is_recorded());
    let erasure = submit(&collector, "erasure", &cookie, &body).await;
    assert_eq!(
        (erasure.status, erasure.cookies[0].split(';').next()),
        (303, Some("avchoice=none"))
    );
    assert!(is_recorded(), "the wish is there once the reply is");
}
