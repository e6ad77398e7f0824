//! What an import tells while it runs and afterwards, and what it keeps to itself.

use std::fmt::Write as _;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::*;

/// Rows of three portions, so that it is told more than once how far it is.
const ROWS: u32 = 45_000;
/// How long a portion is held up: longer than the time between two lines.
const HELD_UP: Duration = Duration::from_millis(10_500);
/// Memory that an import may take, whatever the file's size.
const MEMORY_MAX: u64 = 100 << 20;

fn rows(count: u32) -> String {
    let mut csv = "nr,typ,kr\n".to_owned();
    for number in 0..count {
        writeln!(csv, "n{number},house,{}", number % 7).unwrap();
    }
    csv
}

#[tokio::test]
async fn a_terminal_shows_a_bar_with_the_rate_and_the_time_that_is_left() {
    let (dir, _database) = stage().await;
    std::fs::write(dir.path().join("f.csv"), rows(ROWS)).unwrap();
    let avtryck = env!("CARGO_BIN_EXE_avtryck");
    let run = format!("{avtryck} import f.csv --manifest m.toml");
    // `script` gives it a terminal and prints what is shown there.
    let mut script = tokio::process::Command::new("script");
    script
        .args(["-qec", &run, "/dev/null"])
        .current_dir(dir.path())
        .env("AVTRYCK_CONFIG", dir.path().join("avtryck.toml"))
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    let output = script.output().await.unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}");
    for part in ["checking", "storing", "of 45,000 rows", "/s", " left"] {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
    assert!(!shown.contains("\"progress\""), "{shown}");
    assert!(shown.contains("\"state\":\"taken\""), "{shown}");
}

#[tokio::test]
async fn without_a_terminal_a_line_of_json_tells_how_far_it_is() {
    let (dir, database) = stage().await;
    std::fs::write(dir.path().join("f.csv"), rows(ROWS)).unwrap();
    let hold_up = "begin; lock table avtryck.attribute_value in exclusive mode";
    database.client.batch_execute(hold_up).await.unwrap();
    let mut run = command(&["import", "f.csv", "--manifest", "m.toml"]);
    run.current_dir(dir.path())
        .env("AVTRYCK_CONFIG", dir.path().join("avtryck.toml"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut run = run.spawn().unwrap();
    let other = database.connect().await;
    let waits = "select count(*) from pg_locks where not granted \
                 and database = (select oid from pg_database where datname = current_database())";
    until(async || other.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) > 0).await;
    tokio::time::sleep(HELD_UP).await;
    database.client.batch_execute("commit").await.unwrap();
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines();
    let mut told = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        told.extend(line.get("progress").is_some().then_some(line));
    }
    assert!(run.wait().await.unwrap().success());
    let storing = told.iter().find(|line| line["progress"] == "storing");
    let counts = &storing.unwrap_or_else(|| panic!("{told:?}"))["counts"];
    assert_eq!(
        (&counts["read"], &counts["new"]),
        (&20_000.into(), &20_000.into())
    );
}

/// The most memory that a process held, which the kernel counts until it ends.
async fn memory_of(mut run: tokio::process::Child) -> u64 {
    let path = format!("/proc/{}/status", run.id().unwrap());
    let mut most = 0;
    loop {
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        most = kilobytes.unwrap_or(0).max(most);
        let pause = Duration::from_millis(5);
        if let Ok(ended) = tokio::time::timeout(pause, run.wait()).await {
            assert!(ended.unwrap().success());
            return most * 1024;
        }
    }
}

#[tokio::test]
async fn a_file_of_five_times_the_size_takes_no_more_memory() {
    let (dir, _database) = stage().await;
    let mut most = Vec::new();
    for count in [30_000, 150_000] {
        std::fs::write(dir.path().join("f.csv"), rows(count)).unwrap();
        let mut run = command(&["import", "f.csv", "--manifest", "m.toml"]);
        run.current_dir(dir.path())
            .env("AVTRYCK_CONFIG", dir.path().join("avtryck.toml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        most.push(memory_of(run.spawn().unwrap()).await);
    }
    eprintln!("{most:?} bytes");
    assert!(most[0] > 1 << 20 && most[1] < MEMORY_MAX, "{most:?}");
    // Both fill portions; what is left is how the allocator happens to keep pages.
    assert!(most[1] < most[0] + (8 << 20), "{most:?}");
}

/// Every row of every table, as text.
async fn everything(client: &Client) -> String {
    let sql =
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = 'avtryck'";
    let mut all = String::new();
    for table in client.query(sql, &[]).await.unwrap() {
        let table: String = table.get(0);
        let sql = format!("select coalesce(string_agg(held::text, ' '), '') from {table} as held");
        all.push_str(
            &client
                .query_one(&sql, &[])
                .await
                .unwrap()
                .get::<_, String>(0),
        );
    }
    all
}

#[tokio::test]
async fn no_customer_number_is_in_the_database_the_log_the_reply_or_the_file_of_rejects() {
    let (dir, database) = stage().await;
    let objection =
        "insert into avtryck.objection (subject, kind, name) values ($1, 'supplier', 'a register')";
    let client = &database.client;
    client
        .execute(objection, &[&user("kund4711-c")])
        .await
        .unwrap();
    let long = format!("kund4711-{}", "x".repeat(600));
    let (mut said, mut ended) = (Vec::new(), Vec::new());
    for (csv, options) in [
        // New, suppressed, and wrong in a value, in the key and in the number of columns.
        (
            format!(
                "nr,typ,kr\nkund4711-a,house,1\nkund4711-c,flat,1\nkund4711-d,flat,kund4711-e\n{long},flat,1\nkund4711-f\n"
            ),
            &["--max-rejects", "80%", "--rejects", "rejects.csv"][..],
        ),
        ("nr,typ,kr\nkund4711-a,flat,2\n".to_owned(), &["--dry-run"]),
        (
            "nr,typ,kr\nkund4711-a,flat,2\nkund4711-b,flat,2\n".to_owned(),
            &["--replace", "--max-ended", "100%"],
        ),
        (
            "nr,typ,kr\nkund4711-b,flat,2\n".to_owned(),
            &["--replace", "--max-ended", "100%"],
        ),
        // Refused as a whole, with an error that could quote what it read.
        ("nr;typ;kr\nkund4711-a;house;1\n".to_owned(), &[]),
        ("nr,typ,kr\n\"kund4711-a,house,1\n".to_owned(), &[]),
    ] {
        std::fs::write(dir.path().join("f.csv"), csv).unwrap();
        let mut run = command(&["import", "f.csv", "--manifest", "m.toml"]);
        run.args(options)
            .current_dir(dir.path())
            .env("AVTRYCK_CONFIG", dir.path().join("avtryck.toml"))
            .env("AVTRYCK_LOG", "debug");
        let output = run.output().await.unwrap();
        ended.push(output.status.code());
        said.extend([output.stdout, output.stderr].concat());
    }
    said.extend(std::fs::read(dir.path().join("rejects.csv")).unwrap());
    let said = String::from_utf8_lossy(&said).into_owned();
    let held = everything(client).await;
    // What was looked through is what was written.
    assert_eq!(ended, [0, 0, 0, 0, 65, 65].map(Some), "{said}");
    assert!(
        said.contains("line,column,reason") && said.contains("\"suppressed\":1"),
        "{said}"
    );
    assert!(held.contains(&user("kund4711-b").to_string()), "{held}");
    // Bytes are shown in hexadecimal.
    let hidden: String = "kund4711"
        .bytes()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    for text in [&said, &held] {
        assert!(
            !text.contains("kund4711") && !text.contains(&hidden),
            "{text}"
        );
    }
}
