//! What counts as a page view.

use super::{LISTEN, Stage, name_of};

/// A page with the tag of the demo site and modules.
fn page_with(modules: &str) -> String {
    format!(
        "<!doctype html><link rel=icon href=data:,><script>{LISTEN}</script><script src=\"/tag.js?site=demo&with={modules}\"></script>"
    )
}

#[tokio::test]
async fn a_page_that_is_restored_from_the_cache_of_pages_is_a_view() {
    let stage = Stage::set().await;
    stage.open_html(&page_with("")).await;
    stage.until_sent(1).await;
    stage.until_row("kind = 'page_view'").await;
    stage.browser.run("window.kept = 1").await;
    stage.proxy.serve("/other", &page_with(""));
    stage.browser.open(&stage.proxy.url("/other")).await;
    stage.until_sent(2).await;
    stage.browser.client.back().await.expect("the page before");
    assert_eq!(
        stage.browser.run("return window.kept").await,
        1,
        "the page was restored"
    );
    stage.fence().await;
    assert_eq!(stage.made_since(0), ["/page", "/other", "/page", "fence"]);
    stage.close().await;
}

#[tokio::test]
async fn a_change_of_the_path_is_a_view_and_one_of_query_or_fragment_only_by_choice() {
    let stage = Stage::set().await;
    let type_and_go = "for (const typed of ['p', 'ph', 'pho', 'phon', 'phone']) history.replaceState(null, '', '?q=' + typed); \
        history.pushState(null, '', '?q=phones'); location.hash = '#secret'; location.hash = '#/route'; \
        history.pushState(null, '', '/path?q=1'); history.replaceState(null, '', '/path/2');";
    for (modules, expected) in [
        ("", vec!["/page", "/path?q=1", "/path/2", "fence"]),
        (
            "query",
            vec![
                "/page",
                "/page?q=p",
                "/page?q=ph",
                "/page?q=pho",
                "/page?q=phon",
                "/page?q=phone",
                "/page?q=phones",
                "/path?q=1",
                "/path/2",
                "fence",
            ],
        ),
        (
            "hash",
            vec![
                "/page",
                "/page?q=phones#/route",
                "/path?q=1",
                "/path/2",
                "fence",
            ],
        ),
    ] {
        let before = stage.sent().len();
        stage.open_html(&page_with(modules)).await;
        // A change of the fragment is told after it was made.
        let script = type_and_go.replace("history.pushState(null, '', '/path", "await new Promise(done => addEventListener('hashchange', () => location.hash === '#/route' && done())); history.pushState(null, '', '/path");
        let script = format!("return (async () => {{ {script} }})()");
        stage.browser.run(&script).await;
        stage.browser.run("avtryck('event', 'fence')").await;
        stage.until_sent(before + expected.len()).await;
        assert_eq!(stage.made_since(before), expected, "{modules:?}");
    }
    stage.close().await;
}

#[tokio::test]
async fn a_navigation_within_the_page_is_seen_by_a_module() {
    let stage = Stage::set().await;
    let navigate = "navigation.addEventListener('navigate', event => event.intercept()); \
        return navigation.navigate('/soft').finished.then(() => navigation.navigate('/soft/2', { history: 'replace' }).finished).then(() => 1)";
    for (modules, expected) in [
        ("", vec!["/page", "fence"]),
        ("navigation", vec!["/page", "/soft", "/soft/2", "fence"]),
    ] {
        let before = stage.sent().len();
        stage.open_html(&page_with(modules)).await;
        stage.browser.run(navigate).await;
        stage.browser.run("avtryck('event', 'fence')").await;
        stage.until_sent(before + expected.len()).await;
        assert_eq!(stage.made_since(before), expected, "{modules:?}");
    }
    let events = stage.proxy.events();
    let second = events.iter().find(|event| name_of(event) == "/soft/2");
    assert_eq!(second.expect("the view")["ref"], stage.proxy.url("/soft"));
    stage.close().await;
}

#[tokio::test]
async fn a_page_that_is_rendered_ahead_is_a_view_once_it_is_shown() {
    let stage = Stage::set().await;
    stage.proxy.serve("/ahead", &page_with(""));
    let rules = "<script type=speculationrules>{\"prerender\": [{\"source\": \"list\", \"urls\": [\"/ahead\"]}]}</script><a id=go href=/ahead>on</a>";
    stage.open_html(&(page_with("") + rules)).await;
    stage.fence().await;
    stage.browser.click("go").await;
    stage.until_sent(3).await;
    assert_eq!(stage.sent(), ["/page", "fence", "/ahead"]);
    stage.close().await;
}
