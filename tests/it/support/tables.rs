//! Files of few rows: real geodata and names of models take longest of all that a collector reads
//! when it starts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use avtryck::clock;
use maxminddb_writer::Database;
use maxminddb_writer::metadata::IpVersion;
use maxminddb_writer::paths::IpAddrWithMask;

use super::root;

/// Geodata of Swedish networks, a file for each version of IP, that was built when the first test
/// asked for it.
pub(crate) static FEW_NETWORKS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let v4: &[&str] = &["2.64.0.0/15", "2.249.0.0/16", "81.224.0.0/16"];
    vec![
        make("city-ipv4.mmdb", |path| write(path, IpVersion::V4, v4)),
        make("city-ipv6.mmdb", |path| {
            write(path, IpVersion::V6, &["2a00:801::/32"]);
        }),
    ]
});

/// The names of one model.
pub(crate) static FEW_MODELS: LazyLock<String> = LazyLock::new(|| {
    let lines = [
        r#"{"format":1}"#,
        r#"{"source":"test","version":"1"}"#,
        r#"{"maker":"Nobody","name":"None 1","codes":["NOBODY-1"]}"#,
    ];
    make("models.ndjson", |path| {
        std::fs::write(path, lines.join("\n")).unwrap();
    })
});

/// Makes a file, and returns its path.
fn make(name: &str, write: impl FnOnce(&Path)) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(name);
    // Another process may be reading it.
    let made = tempfile::Builder::new().tempfile_in(folder).unwrap();
    write(made.path());
    made.persist(&file).unwrap();
    file.display().to_string()
}

/// Writes geodata, built just now, in which all these networks are at one place.
fn write(path: &Path, version: IpVersion, networks: &[&str]) {
    let mut file = Database::default();
    file.metadata.ip_version = version;
    file.metadata.database_type = "few networks".to_owned();
    file.metadata.binary_format_major_version = 2;
    file.metadata.build_epoch = clock::now().seconds().cast_unsigned();
    let place = BTreeMap::from([
        ("country_code", "SE"),
        ("state1", "Stockholm"),
        ("city", "Farsta"),
    ]);
    let place = file.insert_value(&place).unwrap();
    for network in networks {
        file.insert_node(network.parse::<IpAddrWithMask>().unwrap(), place);
    }
    std::fs::write(path, file.write_to(Vec::new()).unwrap()).unwrap();
}

/// The files that `script/fetch geodata` fetches.
pub(crate) fn real_geodata() -> Vec<String> {
    let file = |version| format!("geoip/data/dbip-city-{version}.mmdb");
    let paths = ["ipv4", "ipv6"].map(|version| root().join(file(version)));
    paths.map(|path| path.display().to_string()).to_vec()
}
