//! The commands beside `serve`.

use std::process::Stdio;

use crate::support::{Collector, Config, command, root, tempdir, until};

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
        assert!(text.contains("site: no [[site]] is configured"), "{text}");
    }
    Config::sites().write(&dir).await;
    let mut check = command(&["check-config", "--config"]);
    check.arg(&file);
    let output = check.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let loud = check.env("AVTRYCK_LOG", "loud").output().await.unwrap();
    assert_eq!(loud.status.code(), Some(64));
    let wrong = String::from_utf8_lossy(&loud.stderr).into_owned();
    assert!(wrong.starts_with("AVTRYCK_LOG: \"loud\" is wrong; off, error"));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("batch_rows = 20000  # default"), "{text}");
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with(&format!("# {} is good: http on 127.", file.display())),
        "{last}"
    );
    assert!(
        last.contains("3 sites, 2 partners; hits are kept in "),
        "{last}"
    );
}

#[tokio::test]
async fn check_config_refuses_what_serve_would_go_without_and_both_say_the_same() {
    let dir = tempdir();
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(at("empty.mmdb"), "").unwrap();
    std::fs::write(at("no.mmdb"), "no geodata").unwrap();
    std::fs::write(at("no.json"), "[{").unwrap();
    std::fs::create_dir(at("folder.mmdb")).unwrap();
    let cities = ["none.mmdb", "empty.mmdb", "folder.mmdb"].map(at).to_vec();
    let config = Config::sites()
        .without_postgres()
        .set("geoip.city", cities)
        .set("geoip.network", vec![at("no.mmdb")])
        .set("device.rules", at("none.json"))
        .set("device.crawlers", at("no.json"));
    config.write(&dir).await;
    let file = dir.path().join("avtryck.toml");
    let check = command(&["check-config", "--config"])
        .arg(&file)
        .output()
        .await
        .unwrap();
    assert_eq!(check.status.code(), Some(64), "{check:?}");
    let checked = String::from_utf8(check.stderr).unwrap();
    let collector = Collector::start_in(dir).await;
    collector
        .until_metric("avtryck_reload_errors_total", 6.0)
        .await;
    let (_, dir, log) = collector.stop().await;
    let at = |name: &str| dir.path().join(name).display().to_string();
    for said in [
        format!(
            "geoip.city: {}: No such file or directory (os error 2)",
            at("none.mmdb")
        ),
        format!("geoip.city: {}: broken geodata: ", at("empty.mmdb")),
        format!(
            "geoip.city: {}: Is a directory (os error 21)",
            at("folder.mmdb")
        ),
        format!("geoip.network: {}: broken geodata: ", at("no.mmdb")),
        format!(
            "device.rules: {}: No such file or directory (os error 2)",
            at("none.json")
        ),
        format!(
            "device.crawlers: {}: not the expected JSON: ",
            at("no.json")
        ),
    ] {
        assert!(checked.contains(&said), "no {said} in\n{checked}");
        assert!(log.contains(&said), "no {said} in\n{log}");
    }
    assert!(
        checked.contains(&format!("{}:", file.display())),
        "{checked}"
    );
    assert!(!log.contains("geodata and device rules loaded"), "{log}");
}

#[tokio::test]
async fn what_keeps_serve_from_starting_is_found_by_check_config_too() {
    let dir = tempdir();
    let spool = dir.path().join("spool");
    Config::sites().without_postgres().write(&dir).await;
    let file = dir.path().join("avtryck.toml");
    let both = async |said: &str| {
        for arguments in ["check-config", "serve"] {
            let mut command = command(&[arguments, "--config"]);
            let output = command.arg(&file).output().await.unwrap();
            assert_eq!(output.status.code(), Some(64), "{arguments}: {output:?}");
            let text = String::from_utf8(output.stderr).unwrap();
            assert!(text.contains(said), "{arguments}: no {said} in\n{text}");
        }
    };
    std::fs::write(&spool, "a file").unwrap();
    both("spool is no directory; a directory would be right").await;
    std::fs::remove_file(&spool).unwrap();
    std::fs::create_dir(&spool).unwrap();
    for damaged in ["", "c2hvcnQ=", "no base64"] {
        std::fs::write(spool.join("cookie.key"), damaged).unwrap();
        both("cookie.key: it is damaged; 32 bytes in base64 would be right").await;
    }
    std::fs::remove_file(spool.join("cookie.key")).unwrap();
    std::fs::create_dir(spool.join("click.key")).unwrap();
    both("click.key: Is a directory (os error 21)").await;
    std::fs::remove_dir(spool.join("click.key")).unwrap();
    let shared = Config::sites().embedded();
    let shared = shared
        .set("spool.dir", "data")
        .set("database.dir", "./data/");
    shared.write_as_it_is(dir.path());
    both("./data/ is spool.dir as well; a directory of its own would be right").await;
}

#[tokio::test]
async fn who_has_read_enough_ends_no_command_with_an_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = async |stdout: Stdio| {
        let mut command = command(&["example-config"]);
        let child = command.stdout(stdout).stderr(Stdio::piped()).spawn();
        child.unwrap().wait_with_output().await.unwrap()
    };
    let mut mistaken = command(&["check-config", "--config", "/nonexistent"]);
    mistaken.stderr(writer.try_clone().unwrap());
    assert_eq!(mistaken.status().await.unwrap().code(), Some(64));
    let output = ended(writer.into()).await;
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = ended(full.into()).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        said,
        "writing the answer: No space left on device (os error 28)\n"
    );
}

#[tokio::test]
async fn an_admin_listener_beyond_this_machine_is_warned_of() {
    let dir = tempdir();
    let config = Config::sites().without_postgres();
    config.write(&dir).await;
    let port = Config::read(dir.path()).address("admin").unwrap().port();
    let config = Config::read(dir.path()).set("admin.listen", format!("0.0.0.0:{port}"));
    config.write_as_it_is(dir.path());
    let file = dir.path().join("avtryck.toml");
    let check = command(&["check-config", "--config"])
        .arg(&file)
        .output()
        .await
        .unwrap();
    assert!(check.status.success(), "{check:?}");
    let warned = String::from_utf8(check.stderr).unwrap();
    let said = format!("admin.listen: 0.0.0.0:{port} is not this machine's own address");
    assert!(
        warned.starts_with("warning: ") && warned.contains(&said),
        "{warned}"
    );
    let collector = Collector::start_in(dir).await;
    let (_, _, log) = collector.stop().await;
    assert!(log.contains(&said), "{log}");
}

#[tokio::test]
async fn an_error_of_the_system_is_said_once() {
    let dir = tempdir();
    let config = Config::sites().without_postgres();
    // Nobody, not even root, makes a folder there.
    config.set("spool.dir", "/proc/spool").write(&dir).await;
    let output = command(&["serve", "--config"])
        .arg(dir.path().join("avtryck.toml"))
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    let last = text.lines().last().unwrap();
    assert_eq!(last.matches("(os error ").count(), 1, "{last}");
    assert!(last.contains("/proc/spool cannot be used: "), "{last}");
}

#[tokio::test]
async fn verify_reports_each_chunk_and_ends_with_1_where_something_is_damaged() {
    let config = Config::sites().set("spool.shards", 1);
    let collector = Collector::start(config).await;
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
    until(async || collector.metric("avtryck_spool_damage_bytes_total").await > 0.0).await;
}

#[tokio::test]
async fn a_new_key_has_a_free_id_and_signs_once_it_stands_first() {
    let new = async |arguments: &[&str]| {
        let output = command(arguments).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let first = new(&["keys", "new"]).await;
    let again = new(&["keys", "new"]).await;
    assert!(first.starts_with("1:") && first != again, "{first}");
    let dir = tempdir();
    let file = dir.path().join("avtryck.toml");
    let with_keys = |keys: &[&String]| {
        let keys: Vec<String> = keys.iter().copied().cloned().collect();
        Config::sites().set("cookie.keys", keys)
    };
    with_keys(&[&first]).write(&dir).await;
    let second = new(&["keys", "new", "--config", file.to_str().unwrap()]).await;
    assert!(second.starts_with("2:"), "{second}");

    // The old key's cookie is still believed, and the new one signs.
    let collector = Collector::start_in(dir).await;
    let old = collector
        .get("/id?site=open", &[])
        .await
        .cookie()
        .to_owned();
    let (_, dir, _) = collector.stop().await;
    with_keys(&[&second, &first]).write(&dir).await;
    let collector = Collector::start_in(dir).await;
    assert_eq!(
        collector
            .get("/id?site=open", &[("Cookie", &old)])
            .await
            .cookies,
        [""; 0]
    );
    let new = collector
        .get("/id?site=open", &[])
        .await
        .cookie()
        .to_owned();
    let key_id = |cookie: &str| {
        use base64::Engine as _;
        let value = cookie.split_once('=').unwrap().1;
        base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(value)
            .unwrap()[0]
    };
    assert_eq!((key_id(&old), key_id(&new)), (1, 2));
}

#[tokio::test]
async fn a_configuration_without_keys_makes_one_that_only_its_owner_may_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let collector = Collector::open().await;
    let cookie = collector
        .get("/id?site=open", &[])
        .await
        .cookie()
        .to_owned();
    let key = collector.dir.path().join("spool/cookie.key");
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (_, dir, _) = collector.stop().await;
    let collector = Collector::start_in(dir).await;
    let again = collector.get("/id?site=open", &[("Cookie", &cookie)]).await;
    assert_eq!(again.cookies, [""; 0], "the same key after a restart");
}

#[tokio::test]
async fn the_example_configuration_is_printed_and_right() {
    let output = command(&["example-config"]).output().await.unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let committed = std::fs::read_to_string(root().join("avtryck.example.toml")).unwrap();
    assert_eq!(printed, committed);
}

#[tokio::test]
async fn check_config_refuses_households_where_addresses_are_kept() {
    let dir = tempdir();
    let address = "privacy.client_ip: site open has household = true";
    let spool = "spool.keep: site open has household = true";
    for (has_households, client_ip, keep, refusals) in [
        (true, "full", "15d", vec![address, spool]),
        (true, "none", "337h", vec![spool]),
        (true, "truncated", "14d", vec![]),
        (false, "full", "15d", vec![]),
    ] {
        let config = Config::sites()
            .without_postgres()
            .set("site.open.household", has_households)
            .set("privacy.client_ip", client_ip)
            .set("spool.keep", keep);
        config.write(&dir).await;
        let mut check = command(&["check-config", "--config"]);
        check.arg(dir.path().join("avtryck.toml"));
        let output = check.output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let case = format!("{has_households}, {client_ip}, {keep}: {text}");
        let code = if refusals.is_empty() { 0 } else { 64 };
        assert_eq!(output.status.code(), Some(code), "{case}");
        for refusal in [address, spool] {
            assert_eq!(
                text.contains(refusal),
                refusals.contains(&refusal),
                "{case}"
            );
        }
    }
}

#[tokio::test]
async fn household_check_says_that_there_is_too_little_truth_and_link_check_what_would_change() {
    let collector = Collector::open().await;
    collector.settle().await;
    let file = collector.dir.path().join("avtryck.toml");
    for (arguments, told) in [
        (
            ["household", "check"],
            "recall: too little truth: 0 users with 0 pairs; 30 users are needed",
        ),
        (
            ["household", "check"],
            "0 members of households refuse to be in one",
        ),
        (
            ["link", "check"],
            "0 ties would be left out because of a cap",
        ),
    ] {
        let mut command = command(&arguments);
        command.arg("--config").arg(&file);
        let output = command.output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains(told), "{text}");
    }
}
