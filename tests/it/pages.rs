//! The small pages that people see at the collector's address, and what programs ask there.

use crate::support::{Collector, Config};

#[tokio::test]
async fn a_link_that_leads_nowhere_says_so_in_the_readers_language() {
    let collector = Collector::open().await;
    for (accepted, language, heading) in [
        ("sv-SE,sv;q=0.9,en;q=0.8", "sv", "Länken fungerar inte"),
        ("da, en;q=0.5", "da", "Linket virker ikke"),
        ("nn-NO", "nb", "Lenken virker ikke"),
        ("fi;q=0.3, de", "fi", "Linkki ei toimi"),
        ("de", "en", "This link does not work"),
        ("", "en", "This link does not work"),
    ] {
        let page = collector
            .get(
                "/c?site=open&to=elsewhere",
                &[("Accept-Language", accepted)],
            )
            .await;
        assert_eq!(
            (page.status, page.header("content-language")),
            (400, language)
        );
        assert!(page.body.contains(&format!("<h1>{heading}</h1>")));
        assert!(page.body.contains("<code>click_target</code>"));
        assert_eq!(page.header("avtryck-refusal"), "click_target");
        assert!(!page.body.contains("href="), "it links to nothing");
        assert!(!page.body.contains("elsewhere"), "it repeats nothing");
        assert_eq!(page.header("x-frame-options"), "DENY");
    }
}

#[tokio::test]
async fn the_address_itself_says_what_it_is_for_and_which_site_only_by_the_host() {
    let collector =
        Collector::start(Config::sites().set("site.open.hosts", vec!["px.open.example"])).await;
    let swedish = ("Accept-Language", "sv");
    let known = [("Host", "px.open.example"), swedish];
    let page = collector.get("/", &known).await;
    assert_eq!((page.status, page.header("content-language")), (200, "sv"));
    assert!(
        page.body
            .contains("<a id=\"privacy\" href=\"/privacy?site=open\">"),
        "{}",
        page.body
    );
    let page = collector.get("/", &[("Host", "other.example")]).await;
    assert_eq!(page.status, 200);
    assert!(!page.body.contains("href="), "{}", page.body);
    assert_eq!(collector.post("/", &[], "").await.status, 405);
}

#[tokio::test]
async fn a_visitors_page_without_a_site_leads_on_only_where_the_host_stands_for_one() {
    let collector =
        Collector::start(Config::sites().set("site.open.hosts", vec!["px.open.example"])).await;
    let lost = "/privacy?site=nobody&lang=en";
    let known = [("Host", "px.open.example")];
    let page = collector.get(lost, &known).await;
    assert_eq!(page.status, 400);
    let (_, rest) = page.body.split_once("<a id=\"back\" href=\"").unwrap();
    let target = rest.split('"').next().unwrap();
    assert_eq!(collector.get(target, &known).await.status, 200, "{target}");
    // Elsewhere that link would lead to the same page.
    let page = collector.get(lost, &[("Host", "other.example")]).await;
    assert_eq!(page.status, 400);
    assert!(!page.body.contains("id=\"back\""), "{}", page.body);
    let said = "The website that you visited has a link to what is kept about you.";
    assert!(page.body.contains(said), "{}", page.body);
}

#[tokio::test]
async fn crawlers_stay_away_and_browsers_find_an_icon_and_what_is_said_of_gpc() {
    let collector = Collector::open().await;
    let robots = collector.get("/robots.txt", &[]).await;
    assert_eq!(robots.body, "User-agent: *\nDisallow: /\n");
    let gpc = collector.get("/.well-known/gpc.json", &[]).await;
    assert_eq!(gpc.header("content-type"), "application/json");
    let said: serde_json::Value = serde_json::from_str(&gpc.body).expect("JSON");
    assert_eq!(said["gpc"], true);
    assert!(said["lastUpdate"].is_string());
    let icon = collector.get("/favicon.ico", &[]).await;
    assert_eq!(
        (icon.status, icon.header("content-type")),
        (200, "image/x-icon")
    );
    assert_eq!(icon.header("cache-control"), "public, max-age=86400");
}
