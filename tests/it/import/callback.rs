//! Attributes that come with callbacks.

use std::collections::HashMap;

use avtryck::callback::Signed;
use avtryck::hit::subject::Subject;
use uuid::Uuid;

use super::{MANIFEST, import, known, write_manifest};
use crate::support::{Collector, Config, command, tempdir};

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "it is one table of callbacks and what each of them brings"
)]
async fn callbacks_of_a_partner_bring_attributes_by_its_manifest_and_nothing_else_does() {
    let dir = tempdir();
    let manifest = r#"
name = "net-household"
supplier = "an ad network"
legal_basis = "consent"
purpose = ["profile"]
key = { kind = "partner_uid", column = "uid", partner = "net" }
valid_until = "2099-01-01"
[column.hh_income]
attribute = "income_band"
values = { "1" = "low", "9" = "high" }
[column.home]
attribute = "housing_type"
"#;
    write_manifest(&dir, manifest);
    let path = dir.path().join("m.toml").display().to_string();
    let all = r#"["store", "measure", "profile", "match", "link", "locate"]"#;
    let config = Config::sites().with(&format!(
        "[[partner]]\nkey = \"net\"\nsecret = \"a-secret-of-the-partner\"\ntoken = \"0123456789abcdef\"\nsite = \"open\"\ndefault_permit = {all}\n\
         attributes = \"{path}\"\n"
    ));
    config.write(&dir).await;
    let collector = Collector::start_in(dir).await;
    let client = collector.database().await;
    let send = async |name: &str, uid: &str, more: &str| {
        let target = format!("/cb/net?ev={name}&uid={uid}{more}");
        let timestamp = std::time::UNIX_EPOCH
            .elapsed()
            .unwrap()
            .as_secs()
            .to_string();
        let signed = Signed {
            timestamp: &timestamp,
            method: "GET",
            target: &target,
            body: b"",
        };
        let signature = signed.signature(b"a-secret-of-the-partner").unwrap();
        let mut headers = vec![
            ("Avtryck-Timestamp", &*timestamp),
            ("Avtryck-Signature", &signature),
        ];
        if name == "token" {
            headers = vec![("Authorization", "Bearer 0123456789abcdef")];
        }
        assert_eq!(
            collector.get(&target, &headers).await.status,
            204,
            "{target}"
        );
        let sql = format!("select count(*) from avtryck.hit_detail where event_name = '{name}'");
        let is_row = i64::from(name != "refused");
        collector.wait_for(&sql, is_row).await;
    };
    send("first", "uid-one-1", "&hh_income=9&other=x").await;
    send("second", "uid-one-1", "&home=flat").await;
    send("wrong", "uid-two-2", "&hh_income=5").await;
    send("refused", "uid-three-3", "&hh_income=9&gdpr=1").await;
    // A browser that names the partner brings none.
    collector
        .get(
            "/p.gif?site=open&partner=net&uid=uid-four-4&hh_income=9&e=claim",
            &[],
        )
        .await;
    // A token stands in a URL that others may have seen.
    send("token", "uid-six-6", "&hh_income=9").await;
    send("last", "uid-five-5", "&hh_income=1").await;
    collector
        .wait_for("select count(*) from avtryck.attribute_value", 2)
        .await;
    let uid = |uid| {
        let subject = Subject::PartnerUid {
            partner: "net",
            uid,
        };
        Uuid::from_bytes(subject.key())
    };
    // What the manifest names is in no row, whether it could be used or not.
    let sql = "select event_name, coalesce(params::text, '') from avtryck.hit_detail \
               where kind = 'callback' order by 1";
    let rows = client.query(sql, &[]).await.unwrap();
    let params: HashMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(params["first"], "{\"other\": \"x\"}");
    for name in ["second", "wrong", "token", "last"] {
        assert_eq!(params[name], "", "{name}");
    }
    let text = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let known = known(&client).await;
    assert_eq!(
        known[&uid("uid-one-1")],
        [text("housing_type", "flat"), text("income_band", "high")]
    );
    assert_eq!(known[&uid("uid-five-5")], [text("income_band", "low")]);
    assert_eq!(
        collector
            .metric("avtryck_callback_attributes_rejected_total")
            .await,
        1.0
    );
    // It is listed as an import is, and whoever objects to it or is erased loses it.
    let listed = import(collector.dir.path(), &["show", "net-household"]).await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains("an ad network") && listed.contains("\"subjects\": 2"),
        "{listed}"
    );
    let sql = "insert into avtryck.objection (subject, kind, name) values ($1, 'supplier', 'an ad network')";
    client.execute(sql, &[&uid("uid-one-1")]).await.unwrap();
    send("again", "uid-one-1", "&hh_income=1").await;
    send("more", "uid-five-5", "&home=house").await;
    let sql = "select count(*) from avtryck.attribute_value where 'house' = any(\"values\")";
    collector.wait_for(sql, 1).await;
    assert_eq!(
        collector
            .number("select count(*) from avtryck.attribute_value")
            .await,
        1
    );
}

#[tokio::test]
async fn a_callback_that_comes_again_with_other_attributes_is_stored_once_and_none_is_on_disk() {
    let dir = tempdir();
    let manifest = MANIFEST
        .replace(
            "kind = \"user\"",
            "kind = \"partner_uid\", partner = \"net\"",
        )
        .replace("column.typ", "column.hh_home");
    write_manifest(&dir, &manifest);
    let path = dir.path().join("m.toml").display().to_string();
    let config = Config::sites().with(&format!(
        "[[partner]]\nkey = \"net\"\ntoken = \"0123456789abcdef\"\nsite = \"open\"\nattributes = \"{path}\"\n\
         default_permit = [\"store\", \"measure\", \"profile\"]\n"
    ));
    config.write(&dir).await;
    let collector = Collector::start_in(dir).await;
    let token = [("Authorization", "Bearer 0123456789abcdef")];
    let json = [token[0], ("Content-Type", "application/json")];
    let first = "/cb/net?ev=won&uid=uid-one-1&id=order-1&hh_home=farm-of-one&x=1";
    assert_eq!(collector.get(first, &token).await.status, 204);
    let again = r#"[{"ev":"won","uid":"uid-one-1","id":"order-1","x":"1","hh_home":{"is":"farm-of-two"},"kr":9},
                    {"ev":"last","uid":"uid-one-1","id":"order-2","kr":1}]"#;
    assert_eq!(collector.post("/cb/net", &json, again).await.status, 204);
    collector
        .wait_for("select count(*) from avtryck.hit", 2)
        .await;
    let mut spooled = Vec::new();
    let mut folders = vec![collector.dir.path().join("spool")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(end) if end == "chunk" => spooled.extend(std::fs::read(path).unwrap()),
                _ => {}
            }
        }
    }
    let is_in = |text: &str| {
        spooled
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(is_in("order-1") && is_in("order-2"));
    assert!(!is_in("farm-of") && !is_in("hh_home"));
}

#[tokio::test]
async fn a_manifest_of_callbacks_that_is_wrong_is_named_and_keeps_no_collector_from_starting() {
    let dir = tempdir();
    write_manifest(&dir, MANIFEST);
    let path = dir.path().join("m.toml").display().to_string();
    let config = Config::sites().set("partner.network.attributes", path);
    config.write(&dir).await;
    let output = command(&["check-config"])
        .env("AVTRYCK_CONFIG", dir.path().join("avtryck.toml"))
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(
        said.contains("attributes") && said.contains("key.kind: user, which callbacks do not name"),
        "{said}"
    );
    let collector = Collector::start_in(dir).await;
    collector.get("/p.gif?site=open", &[]).await;
    collector
        .wait_for("select count(*) from avtryck.hit", 1)
        .await;
}
