//! The tag as an npm package, put in by a tag manager, and told by attributes what the
//! configuration says otherwise.

use std::path::Path;

use tokio::process::Command;

use super::{LISTEN, Stage};
use crate::support::root;

/// Runs a program, which has to succeed.
async fn run(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().await;
    let output = output.expect("the program");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {words}", program.display());
    String::from_utf8(output.stdout).expect("a text")
}

#[tokio::test]
async fn a_bundle_has_the_modules_of_the_package_that_it_imports_and_sends() {
    let stage = Stage::set().await;
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name).display().to_string();
    run(&root().join("script/tag_package"), &[&path("package")]).await;
    let collector = stage.proxy.url("");
    let page = format!(
        "import {{ avtryck, start, scroll }} from './package/index.js';\n\
         avtryck('event', 'early', {{ n: 1 }});\n\
         start({{ collector: '{collector}', site: 'demo', ask: false, keep: true }}, [scroll]);\n"
    );
    std::fs::write(path("page.js"), page).expect("the page");
    let esbuild = root().join("assets/data/minifier/esbuild");
    let bundle = run(&esbuild, &[&path("page.js"), "--bundle", "--format=esm"]).await;
    assert!(bundle.contains("percent_scrolled"));
    for of_others in ["file_download", "web_vitals", "js_error"] {
        assert!(!bundle.contains(of_others), "{of_others}");
    }
    let icon = "<!doctype html><link rel=icon href=data:,>";
    stage
        .open_html(&format!("{icon}<script type=module>{bundle}</script>"))
        .await;
    stage.fence().await;
    assert_eq!(stage.sent(), ["/page", "early", "fence"]);

    let script = std::fs::read_to_string(path("package/script.js")).expect("the script");
    let start = format!(
        "avtryckTag.start({{ collector: '{collector}', site: 'second', ask: false }}, [avtryckTag.hash])"
    );
    stage
        .open_html(&format!(
            "{icon}<script>{script}</script><script>{start}</script>"
        ))
        .await;
    stage
        .until_row("site = 'second' and kind = 'page_view'")
        .await;
    stage.close().await;
}

#[tokio::test]
async fn a_tag_manager_may_put_the_tag_in_and_attributes_say_what_the_configuration_may() {
    let stage = Stage::set().await;
    let put_in = "<!doctype html><link rel=icon href=data:,><script>\
        (function () {\
          window.avtryck = window.avtryck || function () { (avtryck.q = avtryck.q || []).push(arguments); };\
          var script = document.createElement('script');\
          script.async = true;\
          script.src = '/tag.js?site=demo';\
          script.dataset.choice = 'ours';\
          document.head.appendChild(script);\
          avtryck('event', 'from_the_manager');\
        })();</script>";
    stage.open_html(put_in).await;
    stage.until_row("event_name = 'from_the_manager'").await;
    stage.browser.run("avtryck('consent', ['measure'])").await;
    let cookie = stage.browser.cookie("ours").await;
    assert_eq!(cookie.as_deref(), Some("measure"));
    let module = format!(
        "<!doctype html><link rel=icon href=data:,><script>{LISTEN}</script>\
         <script type=module src=\"/tag.js?site=demo\" data-collector=\"{}\" data-choice=\"theirs\"></script>",
        stage.proxy.url("")
    );
    stage.open_html(&module).await;
    stage.browser.run("avtryck('consent', ['store'])").await;
    assert_eq!(
        stage.browser.cookie("theirs").await.as_deref(),
        Some("store")
    );
    stage.close().await;
}
