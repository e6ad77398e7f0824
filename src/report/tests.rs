#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use super::*;
use crate::postgres::server::embedded::testing::TestDatabase;

const HITS: &str = include_str!("../postgres/tests/report.sql");

/// Reads the report of a campaign of `report.sql`, as it is written in a format.
async fn written(campaign: &str, format: ReportForm) -> String {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    client.batch_execute(HITS).await.unwrap();
    let hostile = "update avtryck.ad set placement = '=1+1,\"<b>' where key = 1; \
                   insert into avtryck.ad (key, campaign) values (9, 'a<script>&b'); \
                   insert into avtryck.hit_count values ('2026-11-24T00:00Z', 1, 9, 7, 3)";
    client.batch_execute(hostile).await.unwrap();
    let days = ["2026-11-23", "2026-11-24"].map(|day| day.parse().unwrap());
    let contents = Contents::read(client, campaign, days.into()).await;
    let contents = Contents {
        read_at: "2026-11-25 08:00".to_owned(),
        ..contents.unwrap()
    };
    for (chapter, rows) in CHAPTERS.iter().zip(&contents.rows) {
        for row in rows {
            assert_eq!(row.len(), chapter.columns.len(), "{}", chapter.key);
        }
    }
    contents.write(format).unwrap()
}

#[tokio::test]
async fn the_report_has_the_figures_that_the_views_have() {
    let text = written("spring", ReportForm::Json).await;
    let report: Value = serde_json::from_str(&text).unwrap();
    let rows = |key: &str| {
        let mut chapters = report["chapters"].as_array().unwrap().iter();
        let chapter = chapters.find(|chapter| chapter["key"] == key).unwrap();
        chapter["rows"].to_string()
    };
    assert_eq!(rows("totals"), "[[6,5,12,2,2.0,2,1,20.0,1]]");
    assert_eq!(
        rows("days"),
        "[[\"2026-11-23\",1,0,0,7],[\"2026-11-24\",4,1,1,5]]"
    );
    assert_eq!(rows("frequency"), "[[\"1\",1],[\"3\",1]]");
    assert_eq!(rows("devices"), "[[\"phone\",2,4,2.0]]");
    assert_eq!(rows("invalid"), "[[\"bot\",1,0],[\"no_impression\",0,1]]");
    assert_eq!(rows("value"), "[[\"\",1,0,null,null,null]]");
    assert_eq!(report["read_at"], "2026-11-25T08:00Z");
}

#[tokio::test]
async fn a_page_shows_names_as_text_and_needs_nothing_from_elsewhere() {
    let page = written("a<script>&b", ReportForm::Html).await;
    assert!(page.contains("<h1>a&#60;script&#62;&#38;b</h1>"), "{page}");
    let page = written("spring", ReportForm::Html).await;
    assert!(page.contains("=1+1,&#34;&#60;b&#62;"), "{page}");
    for elsewhere in ["<script", "http://", "https://", "<img", "<link", "url("] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
    for shown in [
        "<polyline",
        "<rect",
        "unmeasured impressions",
        "no_impression",
        "What the figures count",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
}

#[tokio::test]
async fn a_table_for_spreadsheets_has_no_formula_of_a_senders() {
    let text = written("spring", ReportForm::Csv).await;
    assert!(text.starts_with("campaign,spring\r\ndays,2026-11-23,2026-11-24\r\n"));
    assert!(
        text.contains("dn.se,\"'=1+1,\"\"<b>\",big,5,1,20.0,1,"),
        "{text}"
    );
    assert!(text.contains("\r\n2026-11-24,4,1,1,5\r\n"), "{text}");
}

#[tokio::test]
async fn a_campaign_without_hits_has_no_report() {
    assert_eq!(written("winter", ReportForm::Html).await, "");
}

/// Returns a chart as a file of its own, in the colours of the page.
fn picture(chart: &str) -> String {
    let page = include_str!("../../assets/report.html");
    let (_, style) = page.split_once("<style>").unwrap();
    let (style, _) = style.split_once("</style>").unwrap();
    let starts = [
        ":root",
        "@media (prefers",
        ".bar ",
        ".line",
        ".base ",
        ".axis ",
        ".legend",
    ];
    let style: Vec<&str> = style
        .lines()
        .filter(|line| starts.iter().any(|start| line.starts_with(start)))
        .collect();
    let (head, body) = chart.split_once('>').unwrap();
    let size = head.split('"').nth(1).unwrap();
    let [_, _, width, height] = size.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{head}")
    };
    let body = body.replace("<text", "\n<text").replace("<rect", "\n<rect");
    format!(
        "{head} xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\">\n<style>\n{}\n\
         svg {{ font: 13px system-ui, sans-serif; fill: var(--text); }}\n</style>\n\
         <rect width=\"100%\" height=\"100%\" style=\"fill: var(--back)\"/>{body}\n",
        style.join("\n")
    )
}

#[tokio::test]
async fn the_pictures_in_the_documentation_are_what_the_report_draws() {
    let database = TestDatabase::migrated().await;
    let client = &database.client;
    client
        .batch_execute(include_str!("pictured.sql"))
        .await
        .unwrap();
    let days = ["2026-11-01", "2026-11-30"].map(|day| day.parse().unwrap());
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
    let page = std::fs::read_to_string(format!("{docs}/reports.md")).unwrap();
    let mut pictures = 0;
    for chapter in &CHAPTERS {
        let rows = chapter::read(client, chapter, "spring", days.into())
            .await
            .unwrap();
        let chart = html::draw(chapter.chart, &rows, chapter.columns);
        if chart.is_empty() {
            continue;
        }
        let made = picture(&chart);
        let path = format!("{docs}/report/{}.svg", chapter.key);
        if std::env::var_os("WRITE_DOCS").is_some() {
            std::fs::create_dir_all(format!("{docs}/report")).unwrap();
            std::fs::write(&path, &made).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == made, "{path} is old: make report-pictures");
        let shown = format!("](report/{}.svg)", chapter.key);
        assert!(page.contains(&shown), "docs/reports.md has no {shown}");
        pictures += 1;
    }
    assert_eq!(pictures, 7);
}
