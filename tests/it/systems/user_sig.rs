//! What a site signs of who is logged in.

use avtryck::callback::user::UserClaim;

use super::{SIG_KEY, bytes_below, holds, now, systems};
use crate::support::{Collector, Reply};

/// The key of [`SIG_KEY`].
const KEY: (u8, &[u8]) = (3, &[3; 32]);

fn signature(site: &str, user: &str, expires_in: i64) -> String {
    let claim = UserClaim { site, user };
    claim.sign(KEY, now() + expires_in).unwrap()
}

async fn post(collector: &Collector, event: &serde_json::Value) -> Reply {
    let json = [("Content-Type", "application/json")];
    collector.post("/e", &json, &event.to_string()).await
}

/// The flags of each event about proofs, by its name.
async fn flags(collector: &Collector, name: &str) -> Vec<String> {
    let sql = format!(
        "select flag from avtryck.hit_detail, unnest(flags) as flag \
         where event_name = '{name}' and flag in ('proved', 'bad_user_sig', 'system') order by flag"
    );
    let rows = collector.rows(&sql).await;
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "it is one table of cases and what each gives"
)]
async fn a_user_is_proved_by_a_signature_of_the_site_that_has_not_expired() {
    let collector = Collector::start(systems()).await;
    let good = signature("open", "anna", 3600);
    let (proved, bad, none) = (&["proved"][..], &["bad_user_sig"][..], &[][..]);
    let cases = [
        ("valid", "open", "anna", good.clone(), proved),
        (
            "longest",
            "open",
            "anna",
            signature("open", "anna", 86_390),
            proved,
        ),
        (
            "number",
            "open",
            "4711",
            signature("open", "4711", 60),
            proved,
        ),
        (
            "letters",
            "open",
            "Åsa Öberg",
            signature("open", "Åsa Öberg", 60),
            proved,
        ),
        ("unsigned", "open", "anna", String::new(), none),
        (
            "too_long",
            "open",
            "anna",
            signature("open", "anna", 86_500),
            bad,
        ),
        (
            "expired",
            "open",
            "anna",
            signature("open", "anna", -1),
            bad,
        ),
        ("of_another_user", "open", "bo", good.clone(), bad),
        (
            "of_another_site",
            "open",
            "anna",
            signature("rows-only", "anna", 60),
            bad,
        ),
        (
            "of_another_key",
            "open",
            "anna",
            good.replacen("3.", "1.", 1),
            bad,
        ),
        (
            "broken",
            "open",
            "anna",
            "telltale-signature".to_owned(),
            bad,
        ),
        // It has no keys, or the permit has no room for a user.
        (
            "without_keys",
            "shut",
            "anna",
            signature("shut", "anna", 60),
            none,
        ),
        (
            "without_store",
            "rows-only",
            "anna",
            signature("rows-only", "anna", 60),
            none,
        ),
        ("without_user", "open", "", signature("open", "", 60), none),
    ];
    for (name, site, user, signature, _) in &cases {
        let event =
            serde_json::json!({"site": site, "e": name, "user": user, "user_sig": signature});
        assert_eq!(post(&collector, &event).await.status, 204, "{name}");
    }
    let number = serde_json::json!({
        "site": "open", "e": "as_number", "user": 4711, "user_sig": signature("open", "4711", 60)
    });
    assert_eq!(post(&collector, &number).await.status, 204);
    // All but the one that is only counted.
    let rows = i64::try_from(cases.len()).unwrap();
    collector
        .wait_for("select count(*) from avtryck.hit", rows)
        .await;
    for (name, _, _, _, expected) in &cases {
        assert_eq!(flags(&collector, name).await, *expected, "{name}");
    }
    assert_eq!(flags(&collector, "as_number").await, ["proved"]);
    let users = "select count(*) from avtryck.hit_detail where 'bad_user_sig' = any (flags) and user_key is null";
    assert_eq!(collector.number(users).await, 0);
    let metric = "avtryck_loader_flagged_total{flag=\"bad_user_sig\"}";
    collector.until_metric(metric, 6.0).await;
    let params = "select count(*) from avtryck.hit where params::text like '%sig%'";
    assert_eq!(collector.number(params).await, 0);
    let (_, dir, log) = collector.stop().await;
    let spool = bytes_below(&dir.path().join("spool"));
    assert!(holds(&spool, "of_another_user"));
    for (_, _, user, signature, _) in &cases {
        for hidden in [user, signature.as_str()]
            .into_iter()
            .filter(|text| text.len() > 8)
        {
            assert!(!holds(&spool, hidden) && !log.contains(hidden), "{hidden}");
        }
    }
    assert!(!log.contains(SIG_KEY));
}

#[tokio::test]
async fn a_signature_in_an_address_is_not_believed_and_leaves_wherever_it_stands() {
    let collector = Collector::start(systems()).await;
    let sig = signature("open", "anna", 3600);
    let digits = sig.rsplit('.').next().unwrap();
    let page = format!("https://www.open.example/a?user_sig={sig}%26x=1");
    for target in [
        format!("/p.gif?site=open&e=query&user=anna&user_sig={sig}"),
        format!(
            "/p.gif?site=open&e=page&u=https%3A%2F%2Fwww.open.example%2F%3Fa%3D1%26user_sig%3D{sig}"
        ),
        format!(
            "/p.gif?site=open&e=referrer&ref=https%3A%2F%2Fwww.open.example%2F%3FuserSig%3D{sig}%23x"
        ),
        format!(
            "/p.gif?site=open&e=json&json=%7B%22user%22%3A%22anna%22%2C%22user_sig%22%3A%22{sig}%22%7D"
        ),
    ] {
        assert_eq!(collector.get(&target, &[]).await.status, 200, "{target}");
    }
    let by_referer = "/p.gif?site=open&e=referer";
    let by_referer = collector.get(by_referer, &[("Referer", &page)]).await;
    assert_eq!(by_referer.status, 200);
    for event in [
        serde_json::json!({"site": "open", "e": "params", "params": {"user_sig": sig, "a": 1}}),
        serde_json::json!({"site": "open", "e": "deep", "auth": {"user_sig": sig, "kept": "telltale"}}),
        serde_json::json!({"site": "open", "e": "text", "auth": format!("a=1&user_sig={sig}")}),
        serde_json::json!({"site": "open", "e": "object", "user": {"id": 1}, "user_sig": sig}),
    ] {
        assert_eq!(post(&collector, &event).await.status, 204, "{event}");
    }
    let refused = format!("/p.gif?site=nowhere&user_sig={sig}");
    assert_eq!(collector.get(&refused, &[]).await.status, 400);
    collector
        .wait_for("select count(*) from avtryck.hit", 9)
        .await;
    let proved = "select count(*) from avtryck.hit_detail where 'proved' = any (flags)";
    assert_eq!(collector.number(proved).await, 0);
    let kept = "select count(*) from avtryck.hit where hit::text like '%telltale%'";
    assert_eq!(collector.number(kept).await, 1);
    let database = format!("select count(*) from avtryck.hit where hit::text like '%{digits}%'");
    assert_eq!(collector.number(&database).await, 0);
    let (_, dir, log) = collector.stop().await;
    let spool = bytes_below(&dir.path().join("spool"));
    assert!(holds(&spool, "telltale"));
    assert!(!holds(&spool, digits) && !log.contains(digits));
}

#[tokio::test]
async fn a_signed_callback_is_proved_and_one_with_a_token_is_not() {
    let collector = Collector::start(systems().with(
        r#"
        [[partner]]
        key = "adform"
        secret = "a-secret-of-the-crm-1"
        token = "0123456789abcdef-crm"
        site = "open"
        default_permit = ["store", "measure", "link"]
        "#,
    ))
    .await;
    let body = br#"{"ev":"win","uid":"u-1","user_sig":"telltale"}"#;
    let signing = super::Signing {
        target: "/cb/adform",
        body,
        ..super::RIGHT
    };
    for headers in [super::sign(&signing), super::bearer()] {
        let reply = super::post(&collector, "/cb/adform", &headers, body).await;
        assert_eq!(reply.status, 204);
    }
    let rows = "select count(*) from avtryck.hit_detail where kind = 'callback'";
    collector.wait_for(rows, 2).await;
    let proved = format!("{rows} and 'proved' = any (flags) and event_id like 'signature-%'");
    assert_eq!(collector.number(&proved).await, 1);
    let all_proved = format!("{rows} and 'proved' = any (flags)");
    assert_eq!(collector.number(&all_proved).await, 1);
    let kept = format!("{rows} and params::text like '%telltale%'");
    assert_eq!(collector.number(&kept).await, 0);
}
