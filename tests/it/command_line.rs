//! The commands beside `serve`.

use crate::support::{Collector, command, config, tempdir};

#[tokio::test]
async fn a_wrong_configuration_ends_with_64_and_names_every_mistake() {
    let dir = tempdir();
    let file = dir.path().join("avtryck.toml");
    std::fs::write(
        &file,
        "[http]\nlisten = \"here\"\n[spool]\nack = \"maybe\"\n",
    )
    .unwrap();
    for arguments in ["check-config", "serve"] {
        let output = command(&[arguments, "--config"])
            .arg(&file)
            .output()
            .await
            .unwrap();
        assert_eq!(output.status.code(), Some(64));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("http.listen: \"here\"") && text.contains("spool.ack: \"maybe\""));
        assert!(text.contains("site: there is none"), "{text}");
    }
    std::fs::write(&file, config(dir.path(), crate::support::SITES)).unwrap();
    let output = command(&["check-config", "--config"])
        .arg(&file)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("batch_rows = 20000  # default"), "{text}");
}

#[tokio::test]
async fn verify_reports_each_chunk_and_ends_with_1_where_something_is_damaged() {
    let collector = Collector::open().await;
    for _ in 0..3 {
        assert_eq!(collector.get("/p.gif?site=open", &[]).await.status, 200);
    }
    let dir = collector.kill().await;
    let spool = dir.path().join("spool");
    let verify = async || {
        command(&["spool", "verify"])
            .arg(&spool)
            .output()
            .await
            .unwrap()
    };
    let sound = verify().await;
    assert!(sound.status.success(), "{sound:?}");
    assert!(String::from_utf8_lossy(&sound.stdout).contains(": 3 records, "));
    let chunk = spool.join("0000000000000001.chunk");
    let mut bytes = std::fs::read(&chunk).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&chunk, bytes).unwrap();
    let damaged = verify().await;
    assert_eq!(damaged.status.code(), Some(1));
    let text = String::from_utf8_lossy(&damaged.stdout).into_owned();
    assert!(
        text.contains(": 2 records, ") && text.contains("in 1 places"),
        "{text}"
    );
    let nowhere = command(&["spool", "verify", "/nowhere"])
        .output()
        .await
        .unwrap();
    assert!(!nowhere.status.success());
    // What is sound is loaded all the same, by a collector that adopts the Postgres left behind.
    let collector = Collector::start_in(dir).await;
    collector
        .wait_for("select count(*) from avtryck.hit_detail", 2)
        .await;
    assert!(collector.metric("avtryck_spool_damage_bytes_total").await > 0.0);
}
