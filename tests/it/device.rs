//! What a device is called: a real agent in, the name in `hit_detail` out, and `avtryck device`.

use crate::support::{Collector, Config, command, root, tempdir};

const ANDROID: &str = "Mozilla/5.0 (Linux; Android 15; MODEL) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36";
const REDUCED: &str = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36";

async fn send(collector: &Collector, id: &str, headers: &[(&str, &str)]) {
    let target = format!("/p.gif?site=open&id={id}");
    let reply = collector.get(&target, headers).await;
    assert_eq!(reply.status, 200);
}

/// Returns what each hit's device is called.
async fn called(collector: &Collector) -> Vec<(String, Option<String>)> {
    let sql = "select event_id, device_name from avtryck.hit_detail order by event_id";
    let rows = collector.rows(sql).await;
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn a_hit_shows_what_people_call_its_device() {
    let models = root().join("assets/data/models/models.ndjson");
    let config = Config::sites().set("device.models", models.to_str().unwrap());
    let collector = Collector::start(config).await;
    let agent = |model: &str| ANDROID.replace("MODEL", model);
    for (id, agent) in [
        ("1", agent("SM-S918B")),
        ("2", agent("Pixel 9 Pro XL")),
        (
            "3",
            "Shop/7.1 (iPhone15,3; iOS 17.5.1; Scale/3.00)".to_owned(),
        ),
        (
            "4",
            "Shop/7.1 (iPhone18,2; iOS 26.1; Scale/3.00)".to_owned(),
        ),
        ("5", agent("XQ-NOBODY77")),
    ] {
        send(&collector, id, &[("user-agent", &agent)]).await;
    }
    let hints = [
        ("user-agent", REDUCED),
        ("sec-ch-ua-platform", "\"Android\""),
        ("sec-ch-ua-model", "\"23127PN0CC\""),
    ];
    send(&collector, "6", &hints).await;
    collector
        .wait_for("select count(*) from avtryck.hit", 6)
        .await;
    let database = collector.database().await;
    let (_, dir, _) = collector.stop().await;
    // Jobs run when a collector starts, and then once a minute. If the first run came late, it has
    // named some of them already.
    let forget = "update avtryck.device set named_by = null";
    database.execute(forget, &[]).await.unwrap();
    let collector = Collector::start_in(dir).await;
    let to_do = "select count(*) from avtryck.device where model is not null and named_by is null";
    collector.wait_for(to_do, 0).await;
    let name = |id: &str, name: &str| (id.to_owned(), Some(name.to_owned()));
    let expect = [
        name("1", "Galaxy S23 Ultra"),
        name("2", "Pixel 9 Pro XL"),
        name("3", "iPhone 14 Pro Max"),
        name("4", "iPhone 17 Pro Max"),
        ("5".to_owned(), None),
        name("6", "14"),
    ];
    assert_eq!(called(&collector).await, expect);
    let unnamed = "avtryck_device_models_total{result=\"unnamed\"}";
    collector.until_metric(unnamed, 1.0).await;
    let aliases = "select count(*) from avtryck.device_alias \
        where maker = 'Samsung' and name = 'Galaxy S23 Ultra' \
        and (lower(alias), kind) in (('sm-s918b', 'code'), ('sc-52d', 'code'), ('dm3q', 'codename'))";
    assert_eq!(collector.number(aliases).await, 3);
    let sources =
        "select count(distinct source) from avtryck.device_model where model = 'SM-S918B'";
    assert_eq!(collector.number(sources).await, 2);
}

/// Runs `avtryck device`; returns its status, what it printed and what it complained of.
async fn device(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = command(&["device"]);
    let output = command.args(arguments).current_dir(root()).output();
    let output = output.await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[tokio::test]
async fn the_command_knows_a_model_by_code_and_by_name_without_a_database() {
    for model in [
        &["SM-S918B"][..],
        &["sm-s918b"],
        &["Galaxy S23 Ultra"],
        &["samsung", "galaxy", "s23", "ultra"],
        &["DM3Q"],
    ] {
        let (status, printed, complaint) = device(model).await;
        assert_eq!((status, complaint.as_str()), (Some(0), ""), "{model:?}");
        for line in [
            "maker     Samsung\nname      Galaxy S23 Ultra\nfamily    Galaxy S23\n",
            "SC-52D; SCG20; SM-S918; SM-S9180; SM-S918B;",
            "\ncodenames dm3q\n",
            "device-detector 6.5.1",
        ] {
            assert!(printed.contains(line), "{model:?}: no {line} in {printed}");
        }
        assert_eq!(printed.matches("maker ").count(), 1, "{printed}");
    }
    let (_, printed, _) = device(&["iPhone18,2"]).await;
    assert!(
        printed.contains("name      iPhone 17 Pro Max\n") && printed.contains("released  2025\n"),
        "{printed}"
    );
    // The number on an iPad's back is a phone's code too.
    let (status, printed, _) = device(&["A1601"]).await;
    assert_eq!(status, Some(0));
    assert!(printed.matches("maker ").count() > 1, "{printed}");
}

#[tokio::test]
async fn the_command_says_what_it_does_not_know_and_which_file_it_lacks() {
    let (status, printed, complaint) = device(&["XQ-NOBODY77"]).await;
    assert_eq!((status, printed.as_str()), (Some(1), ""));
    let expect = "XQ-NOBODY77: no model is known by this code or name; ";
    assert!(complaint.starts_with(expect), "{complaint}");
    let (status, _, complaint) = device(&[" "]).await;
    assert_eq!(status, Some(64), "{complaint}");

    let dir = tempdir();
    let file = dir.path().join("names").display().to_string();
    let (status, _, complaint) = device(&["--models", &file, "SM-S918B"]).await;
    assert_eq!(status, Some(1));
    assert!(
        complaint.contains("script/fetch models makes the file"),
        "{complaint}"
    );
    std::fs::write(&file, "{}").unwrap();
    let (status, _, complaint) = device(&["--models", &file, "SM-S918B"]).await;
    assert_eq!(status, Some(1));
    assert!(complaint.contains("no names of models"), "{complaint}");

    // The configuration names the file, and need not be right in all else.
    let good = "{\"format\":1}\n{\"source\":\"a\",\"version\":\"1\"}\n{\"maker\":\"M\",\"name\":\"N 1\",\"codes\":[\"ABC-1\"]}\n{\n";
    std::fs::write(&file, good).unwrap();
    Config::new().set("device.models", file).write(&dir).await;
    let config = dir.path().join("avtryck.toml").display().to_string();
    let (status, printed, complaint) = device(&["--config", &config, "abc-1x"]).await;
    assert_eq!(status, Some(0), "{complaint}");
    assert!(
        printed.starts_with("maker     M\nname      N 1\n"),
        "{printed}"
    );
    assert!(
        complaint.contains("1 of 3 lines skipped, the first is line 4: "),
        "{complaint}"
    );
}
