//! What is in the log, and what is not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::process::Command;

use crate::support::{Collector, Config, IPHONE, tempdir};

const SECRET: &str = "hush-hush-hush-hush";

#[tokio::test]
async fn the_log_begins_with_the_configuration_and_holds_neither_secrets_nor_hits_at_any_level() {
    let key = STANDARD.encode([7; 32]);
    let config = Config::sites()
        .set("partner.asking-network.secret", SECRET)
        .set("partner.asking-network.token", SECRET)
        .set("cookie.keys", vec![format!("1:{key}")]);
    let collector = Collector::start_logging(config, "trace").await;
    let new = collector.get("/id?site=open", &[]).await;
    let cookie = [("Cookie", new.cookie())];
    for n in 0..60 {
        let target = format!("/i.gif?site=open&partner=network&uid=telltale-uid-{n}&maid=telltale");
        assert_eq!(collector.get(&target, &cookie).await.status, 200);
    }
    let hits = "select count(*) from avtryck.hit";
    collector.wait_for(hits, 60).await;
    // A visitor's ID is a parameter of what this has Postgres do.
    let of_the_page = [cookie[0], ("Origin", "https://www.open.example")];
    let withdrawn = collector
        .request("DELETE", "/consent?site=open", &of_the_page, "")
        .await;
    assert_eq!(withdrawn.status, 200);
    let suppressed = "select count(*) from avtryck.suppression";
    collector.wait_for(suppressed, 1).await;
    let (_, _, log) = collector.stop().await;

    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    let first = &lines[0]["fields"];
    assert_eq!(first["message"], "starting");
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    let in_force = first["config"].as_str().unwrap();
    for entry in [
        "spool.ack = \"disk\" (default), ",
        "loader.batch_wait = \"50ms\" (file), ",
        "cookie.keys = [\"(not shown)\"] (file), ",
        "partner.secret = \"(not shown)\" (file), ",
    ] {
        assert!(in_force.contains(entry), "no {entry} in {in_force}");
    }
    let id = new.cookie().split_once('=').unwrap().1;
    for text in [
        SECRET,
        &key,
        "telltale",
        id,
        IPHONE,
        "2.64.0.1",
        "parameters",
    ] {
        assert!(!log.contains(text), "{text} is in {log}");
    }
    assert!(lines.len() < 40, "nothing is logged for each hit: {log}");
}

#[tokio::test]
async fn what_postgres_tells_of_a_row_that_it_refuses_is_not_logged() {
    let collector = Collector::open().await;
    let planted =
        "alter table avtryck.subject_permit add constraint planted check (false) not valid";
    collector
        .database()
        .await
        .batch_execute(planted)
        .await
        .unwrap();
    collector.get("/p.gif?site=open", &[]).await;
    collector.until_logged("planted").await;
    let (_, _, log) = collector.stop().await;
    assert!(!log.contains("Failing row"), "{log}");
    assert!(!log.contains("DETAIL"), "{log}");
}

#[tokio::test]
async fn on_a_terminal_the_log_is_for_people() {
    let dir = tempdir();
    // An address of nobody's, so that it ends by itself.
    let config = Config::sites().set("http.listen", "192.0.2.1:80");
    config.without_postgres().write(&dir).await;
    let file = dir.path().join("avtryck.toml");
    // `script` gives a command a terminal of its own.
    let serve = format!("{} serve", env!("CARGO_BIN_EXE_avtryck"));
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &serve, "/dev/null"])
        .env("AVTRYCK_CONFIG", &file)
        .env_remove("AVTRYCK_LOG")
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains("INFO"), "{shown}");
    assert!(shown.contains("starting"), "{shown}");
    assert!(shown.contains("http.listen: cannot listen on 192.0.2.1:80"));
    assert!(!shown.contains("{\""), "{shown}");
    // The configuration in force would fill the screen.
    assert!(!shown.contains("spool.ack"), "{shown}");
    assert!(shown.lines().all(|line| line.len() < 250), "{shown}");
}
