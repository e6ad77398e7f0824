//! The collector, as `make build` builds it, with the configuration of the bench.

use std::path::Path;

use anyhow::Context as _;
use loadtest::corpus::{HOST, PARTNER, SITE};
use loadtest::rig::collector::{Collector, geodata};
use loadtest::rig::process::root;

use crate::tls::Files;

/// A database that cannot be reached: the edge is alone.
pub(crate) const NO_DATABASE: &str = "postgres://nobody@127.0.0.1:1/none?connect_timeout=1";

/// Starts one whose files are in `dir`. `plain` is its `http.plain`.
pub(crate) async fn start(
    dir: &Path,
    database_url: &str,
    plain: bool,
    key: &str,
    certificate: &Files,
) -> anyhow::Result<Collector> {
    start_with(dir, database_url, plain, key, certificate, "").await
}

/// The same with further settings.
pub(crate) async fn start_with(
    dir: &Path,
    database_url: &str,
    plain: bool,
    key: &str,
    certificate: &Files,
    settings: &str,
) -> anyhow::Result<Collector> {
    let program = root().join("target/release/avtryck");
    let configuration = configuration(dir, database_url, plain, key, certificate)? + settings;
    Collector::start(&program, dir, &configuration).await
}

fn configuration(
    dir: &Path,
    database_url: &str,
    plain: bool,
    key: &str,
    certificate: &Files,
) -> anyhow::Result<String> {
    let path = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .context("a path is not UTF-8")
    };
    let [ipv4, ipv6] = geodata();
    let all = r#"["store", "measure", "profile", "match", "link", "locate"]"#;
    Ok(format!(
        r#"[http]
listen = "127.0.0.1:0"
plain = {plain}
trusted_proxies = ["127.0.0.1"]
[tls]
listen = "127.0.0.1:0"
[[certificate]]
chain = "{chain}"
key = "{chain_key}"
[admin]
listen = "127.0.0.1:0"
[spool]
dir = "{dir}/spool"
[database]
url = "{database_url}"
[geoip]
city = ["{ipv4}", "{ipv6}"]
network = ["{root}/assets/data/test/mmdb/GeoLite2-ASN-Test.mmdb"]
[device]
rules = "{root}/assets/data/rules/regexes.json"
crawlers = "{root}/assets/data/rules/crawlers.json"
[cookie]
keys = ["{key}"]
[user]
keys = ["{key}"]
[[site]]
key = "{SITE}"
hosts = ["{HOST}"]
cookie_domain = "shop.example"
origins = ["https://www.shop.example"]
default_permit = {all}
gvl_id = 2
[[partner]]
key = "{PARTNER}"
default_permit = {all}
gvl_id = 2
"#,
        dir = path(dir)?,
        chain = path(&certificate.chain)?,
        chain_key = path(&certificate.key)?,
        root = path(&root())?,
        ipv4 = path(&ipv4)?,
        ipv6 = path(&ipv6)?,
    ))
}
