//! What a file of an import is, what it is known by, and where its rejects may go.

use super::*;

/// Runs an import; returns what is printed or said, and the exit status.
async fn run(dir: &Dir, arguments: &[&str]) -> (String, i32) {
    let output = import(dir.path(), arguments).await;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    (said, output.status.code().unwrap())
}

async fn income_of(client: &Client, number: &str) -> String {
    let values = known(client).await.remove(&user(number)).unwrap();
    let mut income = values.into_iter().filter(|(key, _)| key == "income");
    income.next().unwrap().1
}

#[tokio::test]
async fn a_manifest_that_is_corrected_takes_the_same_file_again() {
    let (dir, database) = stage().await;
    let client = &database.client;
    let coded = |house: &str| {
        let values = format!("values = {{ \"1\" = \"{house}\" }}\n[column.kr]");
        MANIFEST.replace("[column.kr]", &values)
    };
    let csv = "nr,typ,kr,kr2\na,1,5,6\nb,1,5,6\n";
    write_manifest(&dir, &coded("flat"));
    let (outcome, _) = take(&dir, csv, &[]).await;
    assert_eq!(counts(&outcome), [2, 2, 0, 0, 0, 0, 0], "{outcome}");
    let (again, _) = take(&dir, csv, &[]).await;
    assert_eq!(again["state"], "already taken");

    write_manifest(&dir, &coded("house"));
    let (outcome, _) = take(&dir, csv, &[]).await;
    assert_eq!(outcome["state"], "taken", "{outcome}");
    assert_eq!(counts(&outcome), [2, 0, 2, 0, 0, 0, 0], "{outcome}");
    let values = &known(client).await[&user("a")];
    assert_eq!(values[0], ("housing_type".to_owned(), "house".to_owned()));

    write_manifest(&dir, &coded("house").replace("column.kr]", "column.kr2]"));
    let (outcome, _) = take(&dir, csv, &[]).await;
    assert_eq!(counts(&outcome), [2, 0, 2, 0, 0, 0, 0], "{outcome}");
    assert_eq!(income_of(client, "b").await, "6");
    let (again, _) = take(&dir, csv, &[]).await;
    assert_eq!(again["state"], "already taken");
}

#[tokio::test]
async fn a_run_that_was_cut_off_goes_on_by_the_same_manifest_only() {
    let (dir, database) = stage().await;
    let client = &database.client;
    let csv = "nr,typ,kr,kr2\na,,1,9\nb,,2,9\n";
    take(&dir, csv, &[]).await;
    // As if the run had been cut off after its first row.
    let cut = "update avtryck.import_file set done_at = null, rows_read = 1, new = 1";
    assert_eq!(client.execute(cut, &[]).await.unwrap(), 1);
    write_manifest(&dir, &MANIFEST.replace("column.kr]", "column.kr2]"));
    let (outcome, _) = take(&dir, csv, &[]).await;
    assert_eq!(counts(&outcome), [2, 0, 2, 0, 0, 0, 0], "{outcome}");
    assert_eq!(income_of(client, "a").await, "9");
    // What was cut off before is not what the import waits for.
    let (listed, _) = run(&dir, &["list"]).await;
    assert!(listed.contains("\"in force\""), "{listed}");

    let cut = "update avtryck.import_file set done_at = null, rows_read = 1, changed = 1 \
               where file = (select max(file) from avtryck.import_file)";
    assert_eq!(client.execute(cut, &[]).await.unwrap(), 1);
    let (outcome, _) = take(&dir, csv, &[]).await;
    assert_eq!(outcome["state"], "taken", "{outcome}");
    assert_eq!(counts(&outcome), [2, 0, 1, 1, 0, 0, 0], "it goes on");
}

#[tokio::test]
async fn rejects_never_overwrite_what_is_read_and_name_the_file_where_there_are_several() {
    let (dir, _database) = stage().await;
    let at = |name: &str| dir.path().join(name);
    let (first, second) = ("nr,typ,kr\na,castle,1\n", "nr,typ,kr\nb,flat,x\n");
    std::fs::write(at("a.csv"), first).unwrap();
    std::fs::write(at("b.csv"), second).unwrap();
    std::fs::hard_link(at("b.csv"), at("link.csv")).unwrap();
    let manifest = std::fs::read_to_string(at("m.toml")).unwrap();
    let both = ["a.csv", "b.csv", "--manifest", "m.toml", "--rejects"];
    for rejects in ["a.csv", "./b.csv", "link.csv", "m.toml"] {
        let (said, status) = run(&dir, &[&both[..], &[rejects]].concat()).await;
        assert!(
            status == 64 && said.contains("which would be overwritten"),
            "{status} {said}"
        );
    }
    assert_eq!(std::fs::read_to_string(at("a.csv")).unwrap(), first);
    assert_eq!(std::fs::read_to_string(at("b.csv")).unwrap(), second);
    assert_eq!(std::fs::read_to_string(at("m.toml")).unwrap(), manifest);
    let (said, status) = run(&dir, &[&both[..], &["wrong.csv"]].concat()).await;
    assert_eq!(status, 65, "{said}");
    assert_eq!(
        std::fs::read_to_string(at("wrong.csv")).unwrap(),
        "file,line,column,reason\na.csv,2,typ,a value that the manifest does not name\n\
         b.csv,2,kr,\"no number: digits, and decimals as the manifest says, would be right\"\n"
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_taken_whole_is_refused_before_anything_is_stored() {
    let (dir, database) = stage().await;
    let before = "nr,typ,kr\na,house,1\nb,house,2\n";
    take(&dir, before, &[]).await;
    let all = known(&database.client).await;
    let rows: String = (0..500).map(|at| format!("n{at},flat,1\n")).collect();
    let open = format!("nr,typ,kr\n{rows}x,\"h1950,1\n{rows}");
    let (outcome, status) = take(&dir, &open, &["--replace", "--max-ended", "100%"]).await;
    let reason = outcome["reason"].as_str().unwrap();
    assert!(
        status == 65 && reason.contains("line 502: a quote is not closed"),
        "{outcome}"
    );
    let (said, status) = run(&dir, &["/dev/null", "--manifest", "m.toml"]).await;
    assert!(
        status == 64 && said.contains("is no regular file"),
        "{status} {said}"
    );
    write_manifest(
        &dir,
        &MANIFEST.replace("valid_until", "format = \"ndjson\"\nvalid_until"),
    );
    let (outcome, status) = take(&dir, "", &[]).await;
    assert!(
        status == 65 && outcome.to_string().contains("the file has no row"),
        "{outcome}"
    );
    assert_eq!(known(&database.client).await, all);
}

#[tokio::test]
async fn customers_that_differ_in_the_last_digit_are_two_and_are_found() {
    let (dir, database) = stage().await;
    write_manifest(
        &dir,
        &MANIFEST.replace("valid_until", "format = \"ndjson\"\nvalid_until"),
    );
    let json = "{\"nr\":89460123456789012345,\"kr\":1}\n{\"nr\":89460123456789012346,\"kr\":2}\n";
    let (outcome, _) = take(&dir, json, &[]).await;
    assert_eq!(counts(&outcome), [2, 2, 0, 0, 0, 0, 0], "{outcome}");
    let client = &database.client;
    assert_eq!(income_of(client, "89460123456789012345").await, "1");
    assert_eq!(income_of(client, "89460123456789012346").await, "2");
    let (outcome, status) = take(&dir, "{\"nr\":true,\"kr\":1}\n", &[]).await;
    assert_eq!((status, &outcome["rejected"]), (65, &1.into()), "{outcome}");
}
