//! The tag as an npm package, put in by a tag manager, and told by attributes what the
//! configuration says otherwise.

use std::path::Path;

use tokio::process::Command;

use super::{LISTEN, Stage};
use crate::support::{root, until};

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
    assert_eq!(stage.made_since(0), ["/page", "early", "fence"]);

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

/// Pages as docs/tag.md has them, each with the script that it loads; `COLLECTOR` is filled in.
const PAGES: [(&str, &str, &str); 3] = [
    (
        "plain",
        "plain.js",
        "import { avtryck, start, outbound, scroll } from '@avtryck/tag';\n\
         start({ collector: 'COLLECTOR', site: 'demo', ask: false, keep: true }, [outbound, scroll]);\n\
         avtryck('event', 'of_plain', { product: 'x', price: 899 });\n",
    ),
    (
        "react",
        "react.jsx",
        "import { StrictMode, useEffect } from 'react';\n\
         import { createRoot } from 'react-dom/client';\n\
         import { avtryck, start, outbound } from '@avtryck/tag';\n\
         function Tag() {\n\
           useEffect(() => start({ collector: 'COLLECTOR', site: 'demo', ask: false }, [outbound]), []);\n\
           return null;\n\
         }\n\
         createRoot(document.getElementById('app')).render(<StrictMode><Tag /></StrictMode>);\n\
         avtryck('event', 'of_react');\n",
    ),
    (
        "vue",
        "vue.js",
        "import { createApp, h } from 'vue/dist/vue.runtime.esm-browser.prod.js';\n\
         import { avtryck, start, outbound } from '@avtryck/tag';\n\
         const tag = {\n\
           install(app) {\n\
             start({ collector: 'COLLECTOR', site: 'demo', ask: false }, [outbound]);\n\
             app.config.globalProperties.$avtryck = avtryck;\n\
           },\n\
         };\n\
         const App = { mounted() { this.$avtryck('event', 'of_vue'); }, render: () => h('p', 'Vue') };\n\
         createApp(App).use(tag).mount('#app');\n",
    ),
];

/// The component that docs/tag.md has, in the layout of an app of Next.js: files.
const NEXT: [(&str, &str); 4] = [
    (
        "app/tag.jsx",
        "'use client';\n\
         import { useEffect } from 'react';\n\
         import { avtryck, start, outbound } from '@avtryck/tag';\n\
         avtryck('event', 'of_next');\n\
         export function Tag() {\n\
           useEffect(() => start({ collector: 'COLLECTOR', site: 'demo', ask: false }, [outbound]), []);\n\
           return null;\n\
         }\n",
    ),
    (
        "app/layout.jsx",
        "import { Tag } from './tag';\n\
         export default function Layout({ children }) {\n\
           return <html lang=\"en\"><head><link rel=\"icon\" href=\"data:,\" /></head><body>{children}<Tag /></body></html>;\n\
         }\n",
    ),
    (
        "app/page.jsx",
        "import Link from 'next/link';\n\
         export default function Page() { return <Link id=\"on\" href=\"/second\">on</Link>; }\n",
    ),
    (
        "app/second/page.jsx",
        "export default function Page() { return <p id=\"second\">second</p>; }\n",
    ),
];

/// Makes a folder with the package installed, and with what `script/clients/vite` lists.
async fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let installed = dir.path().join("node_modules");
    std::fs::create_dir_all(installed.join("@avtryck")).expect("a folder");
    let package = installed.join("@avtryck/tag").display().to_string();
    run(&root().join("script/tag_package"), &[&package]).await;
    let fetched = root().join("assets/data/vite/node_modules");
    let fetched = std::fs::read_dir(fetched).expect("what script/fetch test gets");
    for entry in fetched {
        let entry = entry.expect("an entry");
        let link = installed.join(entry.file_name());
        std::os::unix::fs::symlink(entry.path(), link).expect("a link");
    }
    dir
}

/// Runs a program of Node.js in a folder, and returns whether it succeeds and what it says.
async fn run_node(dir: &Path, script: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new("node");
    let command = command.current_dir(dir).arg(script).args(arguments);
    command.env("NEXT_TELEMETRY_DISABLED", "1");
    let output = command.output().await.expect("Node.js");
    let words = [output.stdout, output.stderr].concat();
    let words = String::from_utf8_lossy(&words).into_owned();
    (output.status.success(), words)
}

/// Returns each file below a folder: its path from there, and its text.
fn files_below(dir: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let Ok(text) = std::fs::read_to_string(&path) else {
                    continue; // a picture
                };
                let name = path.strip_prefix(dir).expect("a path below");
                files.push((format!("/{}", name.display()), text));
            }
        }
    }
    files
}

#[tokio::test]
async fn pages_that_vite_builds_of_the_package_send_and_have_what_they_import() {
    let stage = Stage::set().await;
    let dir = project().await;
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text);
    for (name, script, text) in PAGES {
        let html = format!(
            "<!doctype html><link rel=icon href=data:,><title>{name}</title><div id=app></div>\
             <script type=module src=/{script}></script>"
        );
        write(&format!("{name}.html"), &html).expect("a page");
        write(script, &text.replace("COLLECTOR", &stage.proxy.url(""))).expect("a script");
    }
    let inputs = PAGES.map(|(name, ..)| format!("'{name}.html'")).join(", ");
    let config = format!(
        "export default {{ logLevel: 'warn', build: {{ rolldownOptions: {{ input: [{inputs}] }} }} }};\n"
    );
    write("vite.config.mjs", &config).expect("a configuration");
    let (is_built, words) = run_node(dir.path(), "node_modules/vite/bin/vite.js", &["build"]).await;
    assert!(is_built, "{words}");

    let files = files_below(&dir.path().join("dist"));
    let scripts = files.iter().filter(|(name, _)| name.ends_with(".js"));
    let built: String = scripts.map(|(_, text)| text.as_str()).collect();
    for imported in ["outbound_click", "percent_scrolled"] {
        assert!(built.contains(imported), "{imported}");
    }
    for of_others in [
        "file_download",
        "web_vitals",
        "js_error",
        "form_start",
        "media_start",
        "avlink",
        "avtryck_debug",
    ] {
        assert!(!built.contains(of_others), "{of_others}");
    }
    for (name, text) in &files {
        stage.proxy.serve(name, text);
    }
    for (name, ..) in PAGES {
        let page = stage.proxy.url(&format!("/{name}.html"));
        stage.browser.open(&page).await;
        stage.until_row(&format!("event_name = 'of_{name}'")).await;
        // Under React's StrictMode effects run twice, and the tag starts once.
        let view = format!("kind = 'page_view' and page_url like '%/{name}.html'");
        stage.until_row(&view).await;
        assert_eq!(stage.browser.console().await, Vec::<String>::new());
    }
    stage.close().await;
}

#[tokio::test]
async fn an_app_of_next_sends_each_route_as_a_page_view_and_nothing_on_the_server() {
    let stage = Stage::set().await;
    // Below the folder of what it imports, since it follows no link out of its own.
    let above = root().join("assets/data/next");
    let dir = tempfile::tempdir_in(&above).expect("script/fetch test makes the folder above");
    let package = dir.path().join("node_modules/@avtryck/tag");
    std::fs::create_dir_all(&package).expect("a folder");
    let script = root().join("script/tag_package");
    run(&script, &[&package.display().to_string()]).await;
    let config = format!(
        "export default {{ output: 'export', turbopack: {{ root: '{}' }} }};\n",
        above.display()
    );
    let files = [("next.config.mjs", &*config), ("package.json", "{}")];
    for (name, text) in NEXT.into_iter().chain(files) {
        let file = dir.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        let text = text.replace("COLLECTOR", &stage.proxy.url(""));
        std::fs::write(file, text).expect("a file");
    }
    let next = above.join("node_modules/next/dist/bin/next");
    let next = next.display().to_string();
    let (is_built, words) = run_node(dir.path(), &next, &["build"]).await;
    assert!(is_built, "{words}");
    for (name, text) in files_below(&dir.path().join("out")) {
        stage.proxy.serve(&name, &text);
        if let Some(page) = name.strip_suffix(".html") {
            stage.proxy.serve(page, &text);
        }
    }
    stage.browser.open(&stage.proxy.url("/index")).await;
    stage.until_row("event_name = 'of_next'").await;
    stage.browser.click("on").await;
    stage
        .until_row("kind = 'page_view' and page_url like '%/second'")
        .await;
    let views = "select count(*) from avtryck.hit_detail where kind = 'page_view'";
    assert_eq!(stage.collector.number(views).await, 2);
    stage.close().await;
}

#[tokio::test]
async fn the_types_of_the_package_take_what_it_understands_and_nothing_else() {
    let dir = project().await;
    let start = "import { avtryck, start, outbound, stored, linked } from '@avtryck/tag';\n\
                 start({ collector: 'https://px.example', site: 'shop' }, [outbound, stored, linked]);\n";
    for (line, is_right) in [
        (
            "avtryck('event', 'sold', { value: 1 }, { id: 'o-1' });",
            true,
        ),
        ("avtryck('page', {}, { u: 'https://shop.example/' });", true),
        (
            "avtryck('consent', ['store', 'link']); avtryck('consent', { store: true });",
            true,
        ),
        (
            "avtryck('set', { plan: 'pro' }); avtryck('user', null); avtryck('user', 'a', 'b');",
            true,
        ),
        (
            "avtryck('filter', hit => hit.e !== 'x'); avtryck('recorded', (hit, reason) => reason.trim());",
            true,
        ),
        ("avtryck('segments', keys => keys.join());", true),
        ("start({ site: 'shop' });", false),
        (
            "start({ collector: 'a', site: 'shop', wait: 'cmp' });",
            false,
        ),
        ("avtryck('evnt', 'sold');", false),
        ("avtryck('consent', ['everything']);", false),
        ("avtryck('user', 7);", false),
        (
            "import { clairvoyance } from '@avtryck/tag'; start({ collector: 'a', site: 'b' }, [clairvoyance]);",
            false,
        ),
    ] {
        std::fs::write(dir.path().join("page.ts"), format!("{start}{line}\n")).expect("a page");
        let arguments = [
            "--noEmit",
            "--strict",
            "--module",
            "esnext",
            "--moduleResolution",
            "bundler",
            "--target",
            "es2020",
            "--lib",
            "es2020,dom",
            "page.ts",
        ];
        let compiler = "node_modules/typescript/bin/tsc";
        let (is_accepted, words) = run_node(dir.path(), compiler, &arguments).await;
        assert_eq!(is_accepted, is_right, "{line}: {words}");
    }
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

#[tokio::test]
async fn the_packed_package_has_what_it_says_and_no_more_and_is_installed_by_npm() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name).display().to_string();
    run(&root().join("script/tag_package"), &[&path("package")]).await;
    let packed = path("package.tgz");
    let list = run(Path::new("tar"), &["-tzf", &packed]).await;
    let mut files: Vec<&str> = list.lines().collect();
    files.sort_unstable();
    let manifest = std::fs::read(path("package/package.json")).expect("the manifest");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
    let named = manifest["files"].as_array().expect("a list").iter();
    let named = named.map(|file| format!("package/{}", file.as_str().expect("a name")));
    let mut expected: Vec<String> = named.chain(["package/package.json".to_owned()]).collect();
    expected.sort_unstable();
    assert_eq!(files, expected);
    assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(manifest.get("dependencies"), None);

    // As somebody installs it who has no line.
    std::fs::write(
        path("package.json"),
        "{\"private\":true,\"type\":\"module\"}",
    )
    .expect("a project");
    let mut npm = Command::new("npm");
    let npm = npm
        .current_dir(dir.path())
        .args(["install", "--offline", "--no-audit", "--no-fund"]);
    let output = npm.arg(&packed).output().await.expect("npm");
    assert!(output.status.success(), "{output:?}");
    let script = "import * as all from '@avtryck/tag'; \
                  all.start({ collector: 'https://px.example', site: 'shop' }, [all.outbound]); all.avtryck('event', 'none'); \
                  console.log(Object.keys(all).sort().join())";
    std::fs::write(path("server.js"), script).expect("a script");
    let (is_run, exports) = run_node(dir.path(), "server.js", &[]).await;
    assert!(is_run, "{exports}");
    let mut modules: Vec<&str> = super::super::super::tag::MODULES.to_vec();
    modules.extend(["avtryck", "start"]);
    modules.sort_unstable();
    assert_eq!(exports.trim(), modules.join(","));
}

/// Attributes with a module, a command, and a part of what the page then asks for.
const ASKED: [(&str, &str, &str, &str); 6] = [
    ("data-event=/hits2", "", "", "/hits2"),
    ("data-event=/gone data-pixel=/dot", "", "", "/dot?json="),
    (
        "data-tag=/more.js",
        "",
        "avtryck('set', { a: 1 })",
        "/more.js?site=demo&only=set",
    ),
    (
        "data-consent=/told",
        "",
        "avtryck('consent', ['measure'])",
        "/told",
    ),
    (
        "data-segments=/groups2",
        "segments",
        "avtryck('segments', () => {})",
        "/groups2?site=demo",
    ),
    (
        "data-link=\"/link2?\" data-hosts=\"a.example,b.example\"",
        "links",
        "document.getElementById('b').dispatchEvent(new MouseEvent('pointerover', { bubbles: true }))",
        "/link2?to=b.example",
    ),
];

#[tokio::test]
async fn each_attribute_takes_the_place_of_what_the_configuration_says() {
    let stage = Stage::set().await;
    for path in ["/hits2", "/dot", "/told", "/groups2", "/link2"] {
        stage.proxy.serve(path, "");
    }
    stage.proxy.serve("/more.js", "");
    stage.proxy.block("/gone");
    let collector = stage.proxy.url("");
    let open_of = async |site: &str, attributes: &str, module: &str, before: &str| {
        stage
            .open_html(&format!(
                "<!doctype html><link rel=icon href=data:,><script>{LISTEN}{before}</script>\
                 <script data-collector=\"{collector}\" {attributes} src=\"/tag.js?site={site}&with={module}\"></script>\
                 <a id=b href=https://b.example/>b</a>"
            ))
            .await;
    };
    let open = async |attributes: &str, module: &str, before: &str| {
        open_of("demo", attributes, module, before).await;
    };
    let before = stage.sent().len();
    open_of("asks", "data-ask=\"\"", "", "").await;
    stage.until_sent(before + 1).await;
    for (attributes, module, command, target) in ASKED {
        let before = stage.proxy.count(target);
        open(attributes, module, "").await;
        stage.browser.run(command).await;
        until(async || stage.proxy.count(target) > before).await;
        stage
            .browser
            .run("document.cookie = 'avchoice=;path=/;max-age=0'")
            .await;
    }
    // Whether the ID of a click may be kept.
    for (attributes, kept) in [("data-keep=\"\"", "null"), ("data-keep=1", "\"c-1\"")] {
        stage.browser.run("sessionStorage.clear()").await;
        open(
            attributes,
            "",
            "history.replaceState({}, '', '?avclid=c-1');",
        )
        .await;
        stage.fence_again().await;
        let found = stage
            .browser
            .run("return sessionStorage.getItem('avclid')")
            .await;
        assert_eq!(found.to_string(), kept, "{attributes}");
    }
    // What waits goes once the platform that is named has answered, or somebody has chosen.
    for (attributes, answer) in [
        (
            "data-wait=__gpp",
            "window.__gpp = (command, listener) => listener({ pingData: { signalStatus: 'ready', gppString: '', applicableSections: [] } })",
        ),
        ("data-ask=1", "avtryck('consent', ['store', 'measure'])"),
    ] {
        // The page before may say that it was left.
        let went = || {
            let sent = stage.sent();
            let waits = |name: &&String| *name == "waits" || name.starts_with('/');
            sent.iter().filter(waits).count()
        };
        let before = went();
        open(attributes, "platform", "").await;
        stage.browser.run("avtryck('event', 'waits')").await;
        // Longer than the tag waits for a platform that nobody named.
        tokio::time::sleep(std::time::Duration::from_millis(3500)).await;
        assert_eq!(went(), before, "{attributes}");
        stage.browser.run(answer).await;
        until(async || went() == before + 2).await;
        // A page that is left sends again what was not answered.
        stage.settle().await;
    }
    // The page's own words come back from the cookie's setter.
    let cookies = "Object.defineProperty(document, 'cookie', { get: () => '', set: text => words.push(text) });";
    open("data-domain=0.0.1", "", cookies).await;
    stage.browser.run("avtryck('consent', ['store'])").await;
    let words = stage.words().await;
    assert!(
        words.iter().any(|word| word.contains(";domain=0.0.1")),
        "{words:?}"
    );
    stage.close().await;
}
