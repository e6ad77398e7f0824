//! `/tag.js`: what is served, in which form, and that it is what the minifier makes of its source.

use std::fs;
use std::io::Read as _;

use flate2::read::GzDecoder;
use tokio::process::Command;

use crate::support::{Collector, Config, IPHONE, Reply, root};

/// What the tag may take on the way to a browser.
const GZIPPED_BYTES_MAX: usize = 2048;
const GZIP: (&str, &str) = ("Accept-Encoding", "gzip, deflate, br, zstd");

fn unpack(reply: &Reply) -> String {
    let mut text = String::new();
    let mut decoder = GzDecoder::new(reply.bytes.as_slice());
    decoder.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn the_tag_is_served_for_its_site_and_paths_can_be_chosen() {
    let config = Config::sites().set("path.pixel", "/logo.png");
    let collector = Collector::start(config).await;
    let tag = collector.get("/tag.js?site=shut", &[]).await;
    assert_eq!(tag.status, 200);
    assert!(tag.header("content-type").starts_with("text/javascript"));
    assert!(tag.body.contains(r#""ask":true"#) && tag.body.contains(r#""pixel":"/logo.png""#));
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
    let collector = Collector::open().await;
    for site in ["shut", "open", "rows-only"] {
        let target = format!("/tag.js?site={site}");
        let plain = collector.get(&target, &[]).await;
        let packed = collector.get(&target, &[GZIP]).await;
        let refused = collector.get(&target, &[("Accept-Encoding", "gzip;q=0, *")]);
        assert_eq!((plain.status, packed.status), (200, 200));
        assert_eq!(plain.header("content-encoding"), "");
        assert_eq!(packed.header("content-encoding"), "gzip");
        assert_eq!(refused.await.bytes, plain.bytes);
        for reply in [&plain, &packed] {
            assert_eq!(reply.header("vary"), "Accept-Encoding");
            assert_eq!(reply.header("cache-control"), "public, max-age=3600");
            assert_eq!(
                reply.header("content-length"),
                reply.bytes.len().to_string()
            );
        }
        assert_ne!(plain.header("etag"), packed.header("etag"));
        assert_eq!(unpack(&packed), plain.body);
        eprintln!(
            "tag of {site}: {} bytes, {} gzipped",
            plain.bytes.len(),
            packed.bytes.len()
        );
        assert!(packed.bytes.len() <= GZIPPED_BYTES_MAX, "{site}");
    }
}

#[tokio::test]
async fn a_client_that_has_the_script_gets_304_until_the_form_or_the_script_is_another_one() {
    let collector = Collector::open().await;
    let target = "/tag.js?site=open";
    let plain = collector.get(target, &[]).await;
    let packed = collector.get(target, &[GZIP]).await;
    let (plain_etag, packed_etag) = (plain.header("etag"), packed.header("etag"));
    let other_site = collector.get("/tag.js?site=shut", &[GZIP]).await;
    assert_ne!(other_site.header("etag"), packed_etag);
    let weak = format!("\"other\", W/{packed_etag}");
    let known = |etag: &'static str| ("If-None-Match", etag);
    for (method, more, expected) in [
        ("GET", vec![GZIP, ("If-None-Match", packed_etag)], 304),
        ("GET", vec![GZIP, ("If-None-Match", &weak)], 304),
        ("GET", vec![("If-None-Match", plain_etag)], 304),
        ("HEAD", vec![GZIP, ("If-None-Match", packed_etag)], 304),
        ("GET", vec![GZIP, ("If-None-Match", plain_etag)], 200),
        ("GET", vec![("If-None-Match", packed_etag)], 200),
        ("GET", vec![GZIP, known("\"other\"")], 200),
    ] {
        let reply = collector.request(method, target, &more, "").await;
        assert_eq!(reply.status, expected, "{method} {more:?}");
        assert_eq!(reply.header("vary"), "Accept-Encoding");
        assert_eq!(reply.header("cache-control"), "public, max-age=3600");
        assert!([plain_etag, packed_etag].contains(&reply.header("etag")));
        assert_eq!(reply.bytes.is_empty(), expected == 304, "{method} {more:?}");
    }
}

#[tokio::test]
async fn head_gets_the_header_of_the_form_that_get_would_get() {
    let collector = Collector::open().await;
    for headers in [vec![], vec![GZIP]] {
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
async fn the_minified_tag_is_what_the_minifier_makes_of_its_source() {
    let output = Command::new(root().join("script/minify_tag"))
        .output()
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{} (make test fetches it)",
        String::from_utf8_lossy(&output.stderr)
    );
    let kept = fs::read_to_string(root().join("assets/tag.min.js")).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        kept,
        "assets/tag.js was changed: run make tag"
    );
    assert_eq!(kept.matches("{{ config|json }}").count(), 1);
}
