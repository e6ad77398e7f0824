//! The examples of docs/systems.md, as they stand there.

use std::process::Output;

use super::{SECRET, TOKEN, systems};
use crate::support::{Collector, root};

/// The fenced blocks of the page in a language.
fn blocks(language: &str) -> Vec<String> {
    let page = std::fs::read_to_string(root().join("docs/systems.md")).unwrap();
    let blocks = page.split("```").skip(1).step_by(2);
    let blocks = blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'));
    blocks.map(str::to_owned).collect()
}

/// The one that has a mark in it.
fn block(language: &str, mark: &str) -> String {
    let mut blocks = blocks(language).into_iter();
    let found = blocks.find(|block| block.contains(mark));
    found.unwrap_or_else(|| panic!("no {language} with {mark}"))
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output: Output = std::process::Command::new(program)
        .args(arguments)
        .env("SECRET", SECRET)
        .env("TOKEN", TOKEN)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn each_event_of_the_page_is_taken_by_both_proofs() {
    let collector = Collector::start(systems()).await;
    let host = collector.http.to_string();
    let shell = |mark| {
        let text = block("sh", mark);
        let text = text.replace("https://", "http://");
        text.replace("px.shop.example", &host)
    };
    let events = blocks("json");
    let names: Vec<String> = events
        .iter()
        .map(|event| {
            let event: serde_json::Value = serde_json::from_str(event).unwrap();
            event["e"].as_str().unwrap().to_owned()
        })
        .collect();
    for known in [
        "customer_new",
        "account_created",
        "support_contact",
        "store_visit",
        "social_contact",
        "service_used",
        "purchase",
    ] {
        assert!(names.iter().any(|name| name == known), "{known}");
    }
    for (function, mark) in [("send", "Bearer"), ("send_signed", "openssl")] {
        for event in &events {
            // The page's site and dates are its own.
            let event = event.replace("\"shop\"", "\"open\"");
            let script = format!("{}\n{function} \"$0\"", shell(mark));
            let script = script.replace("curl ", "curl --silent --show-error ");
            let told = run("bash", &["-c", &script, event.trim()]);
            assert_eq!(told, "", "{event}");
        }
    }
    // Whichever way it came, an event with an ID is one row.
    let rows = "select count(*) from avtryck.hit_detail where flags @> '{system,proved}'";
    let expected = i64::try_from(events.len()).unwrap();
    collector.wait_for(rows, expected).await;
    let in_spool = "avtryck_hits_total";
    assert!(collector.metric(in_spool).await >= 14.0);
}

#[tokio::test]
async fn a_signature_by_the_pages_functions_proves_the_user() {
    let collector = Collector::start(systems()).await;
    let key = super::SIG_KEY.split_once(':').unwrap().1;
    let python = format!(
        "{}\nprint(user_sig(3, '{key}', 'open', 'Åsa'), end='')",
        block("python", "def user_sig")
    );
    let javascript = format!(
        "{}\nprocess.stdout.write(userSig(3, '{key}', 'open', 'Åsa'))",
        block("js", "userSig")
    );
    for (program, flag, text) in [("python3", "-c", python), ("node", "-e", javascript)] {
        let signature = run(program, &[flag, &text]);
        let event = serde_json::json!({
            "site": "open", "e": program, "user": "Åsa", "user_sig": signature
        });
        let json = [("Content-Type", "application/json")];
        let reply = collector.post("/e", &json, &event.to_string()).await;
        assert_eq!(reply.status, 204);
    }
    let proved = "select count(*) from avtryck.hit_detail where flags @> '{proved}'";
    collector.wait_for(proved, 2).await;
}
