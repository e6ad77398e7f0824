//! `/tag.js`: what is served, in which form, and that it is what the minifier makes of its sources.

use std::fs;
use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tokio::process::Command;

use crate::support::{Collector, Config, IPHONE, Reply, root};

/// What the tag may take on the way to a browser.
const GZIPPED_BYTES_MAX: usize = 2048;
const GZIP: (&str, &str) = ("Accept-Encoding", "gzip");
/// What browsers send.
const USUAL: (&str, &str) = ("Accept-Encoding", "gzip, deflate, br, zstd");
/// What a module may take, fetched alone.
const MODULE_GZIPPED_BYTES_MAX: usize = 450;
pub(crate) const MODULES: [&str; 28] = [
    "chosen",
    "context",
    "debug",
    "downloads",
    "ecommerce",
    "engagement",
    "errors",
    "filter",
    "fit",
    "forms",
    "hash",
    "linked",
    "links",
    "media",
    "navigation",
    "notfound",
    "offline",
    "outbound",
    "platform",
    "query",
    "recorded",
    "rescue",
    "scroll",
    "segments",
    "set",
    "stored",
    "user",
    "vitals",
];

/// Checks whether the last cell of a row in Markdown is a number.
fn ends_with_number(row: &str) -> bool {
    let cell = row.trim_end_matches(" |").rsplit(' ').next();
    cell.is_some_and(|cell| cell.parse::<usize>().is_ok())
}

/// Returns the script without what its list of modules holds.
fn without_modules(script: &str) -> String {
    // The configuration is the last thing before it.
    let (core, modules) = script.split_once("},[").unwrap();
    assert!(modules.trim_end().ends_with("]);"), "{modules}");
    format!("{core}}},[]);\n")
}

/// Returns how many bytes a text takes, packed as the collector does.
fn gzip(text: &str) -> usize {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap().len()
}

fn unpack(reply: &Reply) -> String {
    let mut bytes = Vec::new();
    match reply.header("content-encoding") {
        "gzip" => {
            let mut decoder = GzDecoder::new(reply.bytes.as_slice());
            decoder.read_to_end(&mut bytes).unwrap();
        }
        "br" => brotli::BrotliDecompress(&mut reply.bytes.as_slice(), &mut bytes).unwrap(),
        _ => bytes.clone_from(&reply.bytes),
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn the_tag_is_served_for_its_site_and_paths_can_be_chosen() {
    let config = Config::sites().set("path.pixel", "/logo.png");
    let collector = Collector::start(config).await;
    let tag = collector.get("/tag.js?site=shut", &[]).await;
    assert_eq!(tag.status, 200);
    assert!(tag.header("content-type").starts_with("text/javascript"));
    assert!(tag.body.contains(r#""ask":true"#) && !tag.body.contains("/logo.png"));
    // Only the module that sends pixels has to know.
    let rescue = collector.get("/tag.js?site=shut&only=rescue", &[]).await;
    assert!(
        rescue.body.contains(r#"t.pixel="/logo.png""#),
        "{}",
        rescue.body
    );
    assert_eq!(
        collector
            .get("/logo.png?site=open", &[("User-Agent", IPHONE)])
            .await
            .status,
        200
    );
    assert_eq!(collector.get("/p.gif?site=open", &[]).await.status, 404);
    assert_eq!(collector.get("/tag.js?site=nowhere", &[]).await.status, 400);
}

#[tokio::test]
async fn a_client_that_accepts_gzip_gets_the_same_script_in_at_most_2048_bytes() {
    let config = Config::sites()
        .set("site.shut.cookie_domain", "shut.example")
        .set("site.shut.links", vec!["www.news.example"])
        .set("site.rows-only.wait_for", "gpp")
        .set("site.rows-only.collector", "https://px.shop.example")
        // Everything that a core can be told, of a usual length.
        .with(
            r#"
            [[site]]
            key = "whole"
            default_permit = []
            cookie_domain = "shop.example"
            collector = "https://px.shop.example"
            wait_for = "tcf"
            "#,
        );
    let collector = Collector::start(config).await;
    for site in ["shut", "open", "rows-only", "whole"] {
        let target = format!("/tag.js?site={site}");
        let plain = collector.get(&target, &[]).await;
        let packed = collector.get(&target, &[GZIP]).await;
        let smallest = collector.get(&target, &[USUAL]).await;
        let refused = collector.get(&target, &[("Accept-Encoding", "gzip;q=0, br;q=0, *")]);
        assert_eq!((plain.status, packed.status), (200, 200));
        assert_eq!(plain.header("content-encoding"), "");
        assert_eq!(packed.header("content-encoding"), "gzip");
        assert_eq!(smallest.header("content-encoding"), "br");
        assert_eq!(refused.await.bytes, plain.bytes);
        for reply in [&plain, &packed, &smallest] {
            assert_eq!(reply.header("vary"), "Accept-Encoding");
            assert_eq!(reply.header("cache-control"), "public, max-age=300");
            assert_eq!(
                reply.header("content-length"),
                reply.bytes.len().to_string()
            );
        }
        assert_ne!(plain.header("etag"), packed.header("etag"));
        assert_ne!(smallest.header("etag"), packed.header("etag"));
        assert_eq!(unpack(&packed), plain.body);
        assert_eq!(unpack(&smallest), plain.body);
        eprintln!(
            "tag of {site}: {} bytes, {} by gzip, {} by brotli",
            plain.bytes.len(),
            packed.bytes.len(),
            smallest.bytes.len()
        );
        let core = gzip(&without_modules(&plain.body));
        eprintln!("its core: {core} bytes");
        assert!(core <= GZIPPED_BYTES_MAX, "{site}");
        assert!(smallest.bytes.len() < packed.bytes.len(), "{site}");
    }
}

#[tokio::test]
async fn a_client_that_has_the_script_gets_304_until_the_form_or_the_script_is_another_one() {
    let collector = Collector::open().await;
    let target = "/tag.js?site=open";
    let plain = collector.get(target, &[]).await;
    let packed = collector.get(target, &[GZIP]).await;
    let smallest = collector.get(target, &[USUAL]).await;
    let (plain_etag, packed_etag) = (plain.header("etag"), packed.header("etag"));
    let smallest_etag = smallest.header("etag");
    let other_site = collector.get("/tag.js?site=shut", &[GZIP]).await;
    assert_ne!(other_site.header("etag"), packed_etag);
    let weak = format!("\"other\", W/{packed_etag}");
    let known = |etag: &'static str| ("If-None-Match", etag);
    for (method, more, expected) in [
        ("GET", vec![GZIP, ("If-None-Match", packed_etag)], 304),
        ("GET", vec![GZIP, ("If-None-Match", &weak)], 304),
        ("GET", vec![("If-None-Match", plain_etag)], 304),
        ("HEAD", vec![GZIP, ("If-None-Match", packed_etag)], 304),
        ("GET", vec![USUAL, ("If-None-Match", smallest_etag)], 304),
        ("GET", vec![USUAL, ("If-None-Match", packed_etag)], 200),
        ("GET", vec![GZIP, ("If-None-Match", plain_etag)], 200),
        ("GET", vec![("If-None-Match", packed_etag)], 200),
        ("GET", vec![GZIP, known("\"other\"")], 200),
    ] {
        let reply = collector.request(method, target, &more, "").await;
        assert_eq!(reply.status, expected, "{method} {more:?}");
        assert_eq!(reply.header("vary"), "Accept-Encoding");
        assert_eq!(reply.header("cache-control"), "public, max-age=300");
        let etags = [plain_etag, packed_etag, smallest_etag];
        assert!(etags.contains(&reply.header("etag")));
        assert_eq!(reply.bytes.is_empty(), expected == 304, "{method} {more:?}");
    }
}

#[tokio::test]
async fn head_gets_the_header_of_the_form_that_get_would_get() {
    let collector = Collector::open().await;
    for headers in [vec![], vec![GZIP], vec![USUAL]] {
        let target = "/tag.js?site=open";
        let whole = collector.get(target, &headers).await;
        let head = collector.request("HEAD", target, &headers, "").await;
        assert_eq!((head.status, head.bytes.len()), (200, 0));
        for name in [
            "content-type",
            "content-encoding",
            "content-length",
            "etag",
            "vary",
            "cache-control",
        ] {
            assert_eq!(head.header(name), whole.header(name), "{name}");
        }
    }
}

#[tokio::test]
async fn a_module_is_in_the_file_where_the_query_or_the_configuration_names_it() {
    let config = Config::sites()
        .set("site.shut.modules", vec!["hash"])
        .set("site.shut.wait_for", "tcf")
        .set("site.shut.collector", "https://px.example");
    let collector = Collector::start(config).await;
    let get = async |target: &str| collector.get(target, &[GZIP]).await;
    let core = unpack(&get("/tag.js?site=open").await);
    let core_of_shut = unpack(&get("/tag.js?site=shut").await);
    let docs = fs::read_to_string(root().join("docs/tag.md")).unwrap();
    for name in MODULES {
        let alone = get(&format!("/tag.js?site=open&only={name}")).await;
        let text = unpack(&alone);
        eprintln!("module {name}: {} bytes by gzip", alone.bytes.len());
        assert!(alone.bytes.len() <= MODULE_GZIPPED_BYTES_MAX, "{name}");
        let mut rows = docs.lines();
        let row =
            rows.find(|line| line.starts_with(&format!("| `{name}` |")) && ends_with_number(line));
        let told = row.expect(name).trim_end_matches(" |").rsplit(' ').next();
        let told: usize = told.unwrap().parse().unwrap();
        assert!(
            told.abs_diff(alone.bytes.len()) <= 10,
            "{name}: {told} in docs/tag.md"
        );
        let module = text.strip_prefix("avtryck.q[\"@open\"](").unwrap();
        let module = module.strip_suffix(");").unwrap();
        // Where a module has settings, they are one of their own before it.
        let module = module.rsplit("avtryck.q[\"@open\"](").next().unwrap();
        let whole = unpack(&get(&format!("/tag.js?site=open&with={name}")).await);
        assert!(whole.contains(module) && !core.contains(module), "{name}");
        assert_eq!(
            core_of_shut.contains(module),
            ["hash", "platform"].contains(&name)
        );
    }
    assert!(core_of_shut.contains(r#""collector":"https://px.example""#));
    assert!(core_of_shut.contains(r#"t.wait="__tcfapi""#));
    let two = get("/tag.js?site=open&with=offline,hash").await;
    let other_order = get("/tag.js?site=open&with=hash%2Coffline").await;
    assert_eq!(two.header("etag"), other_order.header("etag"));
    for target in [
        "with=nothing",
        "with=hash,nothing",
        "only=nothing",
        "only=hash,query",
    ] {
        let reply = get(&format!("/tag.js?site=open&{target}")).await;
        assert_eq!(
            (reply.status, reply.header("avtryck-refusal")),
            (400, "module_unknown")
        );
    }
}

#[tokio::test]
async fn a_minified_file_is_what_the_minifier_makes_of_its_source() {
    let kept = |path: &str| fs::read_to_string(root().join("assets").join(path)).unwrap();
    let minify = async |arguments: &[&str]| {
        let mut command = Command::new(root().join("script/minify_tag"));
        let output = command.args(arguments).output().await.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors} (make test fetches it)");
        String::from_utf8(output.stdout).unwrap()
    };
    let core = kept("tag.min.js");
    assert_eq!(
        minify(&[]).await,
        core,
        "assets/tag.js was changed: run make tag"
    );
    assert_eq!(core.matches("{{ config|json }},[{{ modules }}]").count(), 1);
    for name in MODULES {
        let module = kept(&format!("module/{name}.min.js"));
        assert_eq!(
            minify(&[name]).await,
            module,
            "{name} was changed: run make tag"
        );
    }
    let files = fs::read_dir(root().join("assets/module")).unwrap();
    assert_eq!(files.count(), 2 * MODULES.len());
}
