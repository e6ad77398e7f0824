use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use maxminddb_writer::Database;
use maxminddb_writer::metadata::IpVersion;
use maxminddb_writer::paths::IpAddrWithMask;
use serde_json::{Value, json};

use super::*;
use crate::clock::{self, UnixMicros};
use crate::hit::{Flags, Hints, Kind, Permit};

mod devices;
mod geodata;
mod models;

/// Returns the path of a file that `script/fetch` gets.
fn fetched(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    assert!(
        path.exists(),
        "{} is missing: run script/fetch geodata rules test (make test does)",
        path.display()
    );
    path
}

fn rule_sources() -> TableFiles {
    TableFiles {
        rules: fetched("assets/data/rules/regexes.json"),
        crawlers: fetched("assets/data/rules/crawlers.json"),
        ..TableFiles::default()
    }
}

fn problems(errors: &[LoadError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn keys_of_dimensions_are_those_that_stand_in_databases() {
    let place = Place {
        country: "SE".into(),
        region: "AB".into(),
        city: "Solna".into(),
        postal_code: "169 03".into(),
        latitude: Some(59.36),
        longitude: Some(18.0),
        time_zone: "Europe/Stockholm".into(),
    };
    let network = Network {
        asn: Some(2119),
        name: "Telenor".into(),
    };
    let device = Device {
        class: DeviceClass::Phone,
        brand: "Samsung".into(),
        model: "SM-S918B".into(),
        os: "Android".into(),
        os_version: "16".into(),
        browser: "Chrome".into(),
        browser_version: "142".into(),
        is_bot: true,
    };
    let ad = Ad {
        partner: "adform",
        campaign: "spring",
        creative: "big",
        placement: "top",
        publisher: "dn.se",
    };
    let site = Site {
        site: "telenor.se",
        category: "shop",
    };
    // Computed by another implementation of SipHash, with the secret 0, 1, 2, ….
    let keyer = Keyer::of_tests();
    for (key, expected) in [
        (keyer.key(&place), 2_435_617_716_610_027_882),
        (keyer.key(&place.coarse()), -3_083_438_072_346_956_357),
        (keyer.key(&network), -8_451_720_021_433_480_840),
        (keyer.key(&device), -7_854_988_885_491_271_677),
        (keyer.key(&ad), 7_658_415_513_013_803_141),
        (keyer.key(&site), -2_510_727_766_113_384_031),
    ] {
        assert_eq!(key, expected);
    }
}

#[test]
fn facts_have_a_key_for_each_dimension_and_a_count_needs_only_what_the_hit_names() {
    let mut hit = Hit::new(UnixMicros(1), Kind::Impression, "shop");
    let tables = Tables::default();
    let keyer = Keyer::of_tests();
    let key = |facts: &Facts<'_>, table| facts.keys(&keyer)[table as usize];
    let site = keyer.key(&Site::of(&hit));
    let device = keyer.key(&Device::default());
    let facts = tables.facts(&hit, &mut DeviceBudget::of_batch());
    assert_eq!(key(&facts, DimensionTable::Place), None);
    assert_eq!(key(&facts, DimensionTable::Device), Some(device));
    assert_eq!(key(&facts, DimensionTable::Ad), None);
    assert_eq!(key(&facts, DimensionTable::Site), Some(site));
    drop(facts);
    hit.campaign = "spring".into();
    let ad = Ad::of(&hit).map(|ad| keyer.key(&ad));
    let facts = Facts::of_hit(&hit);
    assert_eq!(key(&facts, DimensionTable::Device), None);
    assert_eq!(key(&facts, DimensionTable::Ad), ad);
    assert_eq!(key(&facts, DimensionTable::Site), Some(site));

    #[derive(Default)]
    struct Visited(Vec<(&'static str, i64)>);
    impl FactVisitor for Visited {
        fn visit(&mut self, dimension: DimensionTable, found: &impl Found) {
            let key = found.key(&Keyer::of_tests());
            self.0.push((DIMENSIONS[dimension as usize], key));
        }
    }
    let mut visited = Visited::default();
    facts.visit(&mut visited);
    assert_eq!(visited.0, [("ad", ad.unwrap()), ("site", site)]);
}

#[test]
fn each_agent_is_known_for_what_it_is() {
    let (tables, errors) = load(&rule_sources());
    assert_eq!(problems(&errors), [""; 0]);
    let lines = include_str!("tests/agents.tsv").lines();
    let agents = lines.filter_map(|line| line.split_once('\t'));
    let mut wrong = Vec::new();
    let mut number = 0;
    for (sender, agent) in agents {
        let device = tables.device(agent, &Hints::default());
        let found = match device.value.class {
            DeviceClass::Bot => "machine",
            DeviceClass::MailProxy => "mail_proxy",
            _ => "person",
        };
        number += 1;
        if found != sender {
            wrong.push(format!("{found} instead of {sender}: {agent}"));
        }
    }
    assert!(number > 200, "{number}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_mail_proxy_says_nothing_of_the_device_and_is_flagged_apart_from_bots() {
    let (tables, _) = load(&rule_sources());
    let flags = |agent: &'static str| {
        let mut hit = Hit::new(UnixMicros(1), Kind::Impression, "shop");
        hit.user_agent = agent.into();
        let facts = tables.facts(&hit, &mut DeviceBudget::of_batch());
        let device = facts.device.as_ref().unwrap().value.clone();
        (tables.flags(&hit, &facts), device)
    };
    let gmail =
        "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)";
    let (flagged, device) = flags(gmail);
    assert_eq!(flagged, Flags::MAIL_PROXY);
    let of_it = (device.os.as_str(), device.brand.as_str(), device.is_bot);
    assert_eq!(of_it, ("", "", false));
    assert_eq!(flags("node").0, Flags::BOT);
    assert_eq!(flags("okhttp/4.12.0").0, Flags::default());
}

#[test]
fn our_own_list_works_without_the_fetched_one() {
    let tables = Tables::default();
    for (agent, class) in [
        ("GuzzleHttp/7", DeviceClass::Bot),
        ("Mozilla/5.0", DeviceClass::MailProxy),
        ("okhttp/4.12.0", DeviceClass::Other),
    ] {
        let device = tables.device(agent, &Hints::default());
        assert_eq!(device.value.class, class, "{agent}");
    }
}
