//! `avtryck import`: files in, values out, whatever cuts it off.

mod callback;
mod files;
mod told;

use std::collections::HashMap;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use avtryck::hit::subject::Subject;
use avtryck::keys::UserKeyring;
use serde_json::Value;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::{Collector, Config, Dir, command, tempdir, until};
use crate::testing::TestDatabase;

const USER_KEY: &str = "1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
const MANIFEST: &str = r#"
name = "register"
supplier = "a register"
legal_basis = "legitimate_interest"
purpose = ["profile"]
key = { kind = "user", column = "nr" }
valid_until = "2099-01-01"
[column.typ]
attribute = "housing_type"
[column.kr]
attribute = "income"
"#;

/// A folder with a configuration of its own database, and a manifest that is valid for a year.
async fn stage() -> (Dir, TestDatabase) {
    let (dir, database) = (tempdir(), TestDatabase::migrated().await);
    let config = Config::sites().with(&format!("[user]\nkeys = [\"{USER_KEY}\"]"));
    config.database_of(&database).write(&dir).await;
    write_manifest(&dir, MANIFEST);
    (dir, database)
}

fn write_manifest(dir: &Dir, text: &str) {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 365 * 86_400;
    let until = jiff::Timestamp::from_second(i64::try_from(now).unwrap()).unwrap();
    let text = text.replace("2099-01-01", &until.to_string()[..10]);
    std::fs::write(dir.path().join("m.toml"), text).unwrap();
}

fn user(number: &str) -> Uuid {
    let keys = UserKeyring::new(&[(1, vec![7; 32])]);
    Uuid::from_bytes(Subject::User(keys.hash(number).unwrap()).key())
}

async fn import(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = command(&["import"]);
    command
        .args(arguments)
        .current_dir(dir)
        .env("AVTRYCK_CONFIG", dir.join("avtryck.toml"));
    command.output().await.unwrap()
}

/// Takes a file with that text; returns what is printed, and the exit status.
async fn take(dir: &Dir, csv: &str, options: &[&str]) -> (Value, i32) {
    std::fs::write(dir.path().join("f.csv"), csv).unwrap();
    let arguments = [&["f.csv", "--manifest", "m.toml"], options].concat();
    let output = import(dir.path(), &arguments).await;
    let printed = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let outcome = serde_json::from_str(&printed).unwrap_or(Value::String(said));
    (outcome, output.status.code().unwrap())
}

fn counts(outcome: &Value) -> [u64; 7] {
    [
        "read",
        "new",
        "changed",
        "unchanged",
        "rejected",
        "suppressed",
        "ended",
    ]
    .map(|name| {
        outcome[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{outcome}"))
    })
}

/// What is known now of each subject, by attribute_now.
async fn known(client: &Client) -> HashMap<Uuid, Vec<(String, String)>> {
    let sql = "select subject, key, value from avtryck.attribute_now \
               join avtryck.attribute using (attribute) order by 1, 2";
    let mut known: HashMap<_, Vec<_>> = HashMap::new();
    for row in client.query(sql, &[]).await.unwrap() {
        let value = (row.get(1), row.get(2));
        known.entry(row.get(0)).or_default().push(value);
    }
    known
}

#[tokio::test]
async fn a_file_is_taken_once_and_the_next_one_changes_what_differs() {
    let (dir, database) = stage().await;
    let first = "nr,typ,kr\na,house,100\nb,flat,\nc,,7.50\n";
    let (outcome, status) = take(&dir, first, &[]).await;
    assert_eq!(
        (outcome["state"].as_str(), status),
        (Some("taken"), 0),
        "{outcome}"
    );
    assert_eq!(counts(&outcome), [3, 3, 0, 0, 0, 0, 0]);
    let all = known(&database.client).await;
    let text = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        all[&user("a")],
        [text("housing_type", "house"), text("income", "100")]
    );
    assert_eq!(all[&user("c")], [text("income", "7.5")]);
    let (again, status) = take(&dir, first, &[]).await;
    assert_eq!(
        (again["state"].as_str(), status),
        (Some("already taken"), 0)
    );
    assert_eq!(counts(&again), counts(&outcome));

    let second = "nr,typ,kr\nb,house,1\na,house,100.0\nd,farm,2\n";
    write_manifest(&dir, &MANIFEST.replace("a register", "another"));
    let supplier = async || {
        let sql = "select supplier from avtryck.import";
        let row = database.client.query_one(sql, &[]).await.unwrap();
        row.get::<_, String>(0)
    };
    let (trial, _) = take(
        &dir,
        second,
        &["--dry-run", "--replace", "--max-ended", "50%"],
    )
    .await;
    assert_eq!(
        (trial["state"].as_str(), counts(&trial)),
        (Some("trial"), [3, 1, 1, 1, 0, 0, 1])
    );
    assert_eq!(known(&database.client).await, all, "a trial stores nothing");
    let (refused, status) = take(&dir, second, &["--replace"]).await;
    assert_eq!((refused["state"].as_str(), status), (Some("refused"), 65));
    assert_eq!(
        known(&database.client).await,
        all,
        "nothing of it is stored"
    );
    assert_eq!(supplier().await, "a register", "nor what its manifest says");
    let (outcome, _) = take(&dir, second, &["--replace", "--max-ended", "50%"]).await;
    assert_eq!(counts(&outcome), [3, 1, 1, 1, 0, 0, 1], "{outcome}");
    assert_eq!(supplier().await, "another");
    let all = known(&database.client).await;
    assert!(!all.contains_key(&user("c")) && all.contains_key(&user("d")));
    // A file that comes again after another is what holds.
    let (outcome, _) = take(&dir, first, &[]).await;
    assert_eq!(
        (outcome["state"].as_str(), counts(&outcome)),
        (Some("taken"), [3, 0, 2, 1, 0, 0, 0])
    );
    let (outcome, _) = take(&dir, first, &[]).await;
    assert_eq!(outcome["state"].as_str(), Some("already taken"));
    let (outcome, _) = take(&dir, second, &["--replace", "--max-ended", "50%"]).await;
    assert_eq!(counts(&outcome), [3, 0, 1, 2, 0, 0, 1], "{outcome}");
    // Of a subject that is there twice the last row holds.
    let third = "nr,typ,kr\nc,house,1\nc,flat,2\na,house,100\n";
    let (outcome, _) = take(&dir, third, &[]).await;
    assert_eq!(counts(&outcome), [3, 0, 2, 1, 0, 0, 0], "{outcome}");
    let values = &known(&database.client).await[&user("c")];
    assert_eq!(*values, [text("housing_type", "flat"), text("income", "2")]);
    // What was taken so ends nobody; asked to, it does, once.
    let ending = ["--replace", "--max-ended", "100%"];
    let (trial, _) = take(&dir, third, &[&["--dry-run"][..], &ending].concat()).await;
    assert_eq!(trial["state"].as_str(), Some("trial"), "{trial}");
    let (outcome, _) = take(&dir, third, &ending).await;
    assert_eq!(counts(&outcome), [3, 0, 2, 1, 0, 0, 2], "{outcome}");
    let left = known(&database.client).await;
    assert!(left.len() == 2 && left.contains_key(&user("a")) && left.contains_key(&user("c")));
    for options in [&ending[..], &[]] {
        let (again, _) = take(&dir, third, options).await;
        assert_eq!(again["state"].as_str(), Some("already taken"));
    }
}

#[tokio::test]
async fn what_is_wrong_is_named_without_the_row_and_too_much_of_it_stores_nothing() {
    let (dir, database) = stage().await;
    let wrong = "nr,typ,kr\nsecret-4711,castle,1\nb,flat,x\nc,flat,1\n";
    let options = ["--rejects", "rejects.csv"];
    let (outcome, status) = take(&dir, wrong, &options).await;
    assert_eq!(
        (outcome["state"].as_str(), status),
        (Some("refused"), 65),
        "{outcome}"
    );
    assert_eq!(known(&database.client).await.len(), 0);
    assert_eq!(outcome["rejects"], "rejects.csv");
    let path = dir.path().join("rejects.csv");
    let rejects = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        rejects,
        "line,column,reason\n2,typ,a value that the manifest does not name\n\
         3,kr,\"no number: digits, and decimals as the manifest says, would be right\"\n"
    );
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let (outcome, status) = take(&dir, wrong, &["--max-rejects", "70%"]).await;
    assert_eq!(
        (counts(&outcome), status),
        ([3, 1, 0, 0, 2, 0, 0], 0),
        "{outcome}"
    );
    for (manifest, csv, options, said, code) in [
        (
            MANIFEST.to_owned(),
            "nr;typ;kr\n",
            &[][..],
            "is the delimiter another one?",
            65,
        ),
        (
            MANIFEST.replace("income", "credit_band"),
            "nr,typ,kr\n",
            &[],
            "import.classes does not allow",
            64,
        ),
        (
            MANIFEST.replace("\"typ\"", "\"x\"").replace("typ]", "x]"),
            "nr,typ,kr\n",
            &[],
            "there is no column x",
            65,
        ),
        (
            MANIFEST.replace("[column.kr]\nattribute = \"income\"", ""),
            "nr,typ,kr\nq,house,1\n",
            &[],
            "has other columns",
            1,
        ),
        (
            MANIFEST.to_owned(),
            "nr,typ,kr\n",
            &["--max-rejects", "5"],
            "would be right",
            2,
        ),
    ] {
        write_manifest(&dir, &manifest);
        let (outcome, status) = take(&dir, csv, options).await;
        let text = outcome.to_string();
        assert!(text.contains(said) && status == code, "{status} {text}");
    }
    // No raw number is anywhere in the database.
    let sql =
        "select coalesce(string_agg(held::text, ' '), '') from avtryck.attribute_value as held";
    let text: String = database.client.query_one(sql, &[]).await.unwrap().get(0);
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn whoever_is_erased_loses_their_values_and_gets_none_again() {
    let (dir, database) = stage().await;
    take(&dir, "nr,typ,kr\na,house,1\nb,flat,2\n", &[]).await;
    let subject = |what: &'static str| {
        let mut command = command(&["subject", what, "--user", "a"]);
        command.env("AVTRYCK_CONFIG", dir.path().join("avtryck.toml"));
        async move { command.output().await.unwrap() }
    };
    let exported = String::from_utf8(subject("export").await.stdout).unwrap();
    let line = exported
        .lines()
        .find(|line| line.contains("attribute_value"))
        .unwrap();
    for said in [
        "a register",
        "legitimate_interest",
        "housing_type",
        "house",
        "valid_until",
    ] {
        assert!(line.contains(said), "{line}");
    }
    assert!(subject("erase").await.status.success());
    let sql = "select count(*) from avtryck.attribute_value";
    let rows: i64 = database.client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(rows, 1);
    let (outcome, _) = take(&dir, "nr,typ,kr\na,house,9\nb,flat,9\n", &[]).await;
    assert_eq!(counts(&outcome), [2, 0, 1, 0, 0, 1, 0], "{outcome}");
    assert_eq!(known(&database.client).await.len(), 1);
}

/// A key that was put before the first, which has leaked.
const NEWER_KEY: &str = "2:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

#[tokio::test]
async fn whoever_is_refused_stays_so_when_another_key_makes_the_hashes() {
    let (dir, database) = stage().await;
    let client = &database.client;
    let object =
        "insert into avtryck.objection (subject, kind, name) values ($1, 'supplier', 'a register')";
    client.execute(object, &[&user("a")]).await.unwrap();
    let mut erase = command(&["subject", "erase", "--user", "b"]);
    erase.env("AVTRYCK_CONFIG", dir.path().join("avtryck.toml"));
    assert!(erase.status().await.unwrap().success());
    let renewed = vec![NEWER_KEY, USER_KEY];
    let config = Config::read(dir.path()).set("user.keys", renewed);
    config.write_as_it_is(dir.path());
    let rows = "nr,typ,kr\na,house,1\nb,flat,2\nc,flat,3\nb,flat,4\n";
    let (outcome, status) = take(&dir, rows, &["--dry-run"]).await;
    assert_eq!(
        (status, &outcome["suppressed"]),
        (0, &3.into()),
        "{outcome}"
    );
    // A trial makes no key that of the database: collectors with the former one go on.
    let makers = "select count(*) from avtryck.user_key_maker";
    let number = async || -> i64 { client.query_one(makers, &[]).await.unwrap().get(0) };
    assert_eq!(number().await, 0);
    let (outcome, status) = take(&dir, rows, &[]).await;
    assert_eq!(status, 0, "{outcome}");
    assert_eq!(counts(&outcome), [4, 1, 0, 0, 0, 3, 0], "{outcome}");
    assert_eq!(number().await, 1);
    assert_eq!(known(client).await.len(), 1);
}

#[tokio::test]
async fn imports_are_listed_and_ended_and_expire_by_themselves() {
    let (dir, database) = stage().await;
    take(&dir, "nr,typ,kr\na,house,1\n", &[]).await;
    let listed = import(dir.path(), &["list"]).await;
    let line: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(
        (&line["name"], &line["state"]),
        (&"register".into(), &"in force".into())
    );
    assert_eq!(
        (&line["subjects"], &line["attributes"][0]),
        (&1.into(), &"housing_type".into())
    );
    let expire =
        "update avtryck.import set valid_from = current_date - 9, valid_until = current_date";
    database.client.execute(expire, &[]).await.unwrap();
    assert_eq!(known(&database.client).await.len(), 0);
    let shown = import(dir.path(), &["show", "register"]).await;
    assert!(
        String::from_utf8(shown.stdout)
            .unwrap()
            .contains("\"expired\"")
    );
    assert_eq!(
        import(dir.path(), &["end", "nothing"]).await.status.code(),
        Some(64)
    );
    let ended = import(dir.path(), &["end", "register"]).await;
    assert!(ended.status.success(), "{ended:?}");
    let (outcome, status) = take(&dir, "nr,typ,kr\na,house,2\n", &[]).await;
    assert!(
        status == 1 && outcome.to_string().contains("was ended"),
        "{outcome}"
    );
}

/// Rows of a random file, and what the whole of it makes of what was there: a map is the oracle.
struct Random {
    csv: String,
    counts: [u64; 7],
}

fn random_file(random: &mut fastrand::Rng, held: &mut HashMap<String, (String, u32)>) -> Random {
    let mut csv = "nr,typ,kr\n".to_owned();
    let mut counts = [0; 7];
    for _ in 0..random.usize(1..60_000) {
        let nr = format!("n{}", random.u32(..40_000));
        let typ = ["house", "flat", "castle"][if random.u8(..200) == 0 {
            2
        } else {
            random.usize(..2)
        }];
        let kr = random.u32(..3);
        csv.push_str(&format!("{nr},{typ},{kr}\n"));
        counts[0] += 1;
        if typ == "castle" || !["house", "flat"].contains(&typ) {
            counts[4] += 1;
            continue;
        }
        let value = (typ.to_owned(), kr);
        let at = match held.insert(nr, value.clone()) {
            None => 1,
            Some(old) if old != value => 2,
            Some(_) => 3,
        };
        counts[at] += 1;
    }
    Random { csv, counts }
}

#[tokio::test]
async fn a_run_that_is_killed_anywhere_goes_on_and_ends_as_one_that_was_not() {
    let (dir, database) = stage().await;
    let mut random = fastrand::Rng::with_seed(5);
    let mut held = HashMap::new();
    let kills = crate::chaos::variable("IMPORT_KILLS").unwrap_or(12);
    let mut killed = 0;
    while killed < kills {
        let file = random_file(&mut random, &mut held);
        std::fs::write(dir.path().join("f.csv"), &file.csv).unwrap();
        // Cut off some times, then left to end.
        for _ in 0..3 {
            let mut run = command(&["import"]);
            run.args(["f.csv", "--manifest", "m.toml", "--max-rejects", "9%"])
                .current_dir(dir.path())
                .env("AVTRYCK_CONFIG", dir.path().join("avtryck.toml"))
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null());
            let mut run = run.spawn().unwrap();
            let pause = Duration::from_millis(random.u64(20..2500));
            if tokio::time::timeout(pause, run.wait()).await.is_err() {
                run.kill().await.unwrap();
                killed += 1;
            }
        }
        let (outcome, status) = take(&dir, &file.csv, &["--max-rejects", "9%"]).await;
        assert_eq!((counts(&outcome), status), (file.counts, 0), "{outcome}");
        let known = known(&database.client).await;
        assert_eq!(known.len(), held.len());
        for (nr, (typ, kr)) in held.iter().step_by(17) {
            let values = &known[&user(nr)];
            assert_eq!((&values[0].1, &values[1].1), (typ, &kr.to_string()), "{nr}");
        }
    }
}

#[tokio::test]
async fn the_collector_hashes_a_customer_as_the_import_does() {
    let (dir, _database) = stage().await;
    let (outcome, _) = take(&dir, "nr,typ,kr\n4711,house,1\n", &[]).await;
    assert_eq!(outcome["new"], 1, "{outcome}");
    let collector = Collector::start_in(dir).await;
    let json = [
        ("Content-Type", "application/json"),
        ("Sec-Fetch-Site", "same-site"),
    ];
    collector
        .post("/e?site=open", &json, r#"{"e":"login","user":"4711"}"#)
        .await;
    let sql =
        "select count(*) from avtryck.subject_permit join avtryck.attribute_value using (subject)";
    collector.wait_for(sql, 1).await;
}

#[tokio::test]
async fn rows_of_whoever_objects_to_the_supplier_are_counted_as_suppressed_and_not_stored() {
    let (dir, database) = stage().await;
    let sql = "insert into avtryck.objection (subject, kind, name) values \
               ($1, 'supplier', 'a register'), ($2, 'supplier', 'another one'), ($3, 'segments', '')";
    let client = &database.client;
    client
        .execute(sql, &[&user("a"), &user("b"), &user("c")])
        .await
        .unwrap();
    let (outcome, status) = take(&dir, "nr,typ,kr\na,house,1\nb,flat,2\nc,flat,3\n", &[]).await;
    assert_eq!(status, 0, "{outcome}");
    assert_eq!(counts(&outcome), [3, 2, 0, 0, 0, 1, 0]);
    let known = known(client).await;
    assert!(!known.contains_key(&user("a")));
    assert_eq!(known.len(), 2);
}
