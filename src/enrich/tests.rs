use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use maxminddb_writer::Database;
use maxminddb_writer::metadata::IpVersion;
use maxminddb_writer::paths::IpAddrWithMask;
use serde_json::{Value, json};

use super::*;
use crate::clock::UnixMicros;
use crate::hit::{Hints, Kind, Permit};

mod devices;
mod geodata;

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

fn rule_sources() -> Sources {
    Sources {
        rules: fetched("assets/data/rules/regexes.json"),
        crawlers: fetched("assets/data/rules/crawlers.json"),
        ..Sources::default()
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
    // Computed by the reference implementation of XXH3, as the module `dimension` describes it.
    for (key, expected) in [
        (place.key(), 4_552_538_558_609_589_739),
        (place.coarse().key(), -2_157_069_267_883_070_226),
        (network.key(), 2_415_783_190_559_705_578),
        (device.key(), 1_868_831_782_196_319_691),
        (ad.key(), 6_789_436_421_725_171_814),
        (site.key(), 8_915_723_135_672_456_003),
    ] {
        assert_eq!(key, expected);
    }
}

#[test]
fn facts_have_a_key_for_each_dimension_and_a_count_needs_only_what_the_hit_names() {
    let mut hit = Hit::new(UnixMicros(1), Kind::Impression, "shop");
    let tables = Tables::default();
    let key = |facts: &Facts<'_>, table| facts.keys()[table as usize];
    let site = Site::of(&hit).key();
    let device = Device::default().key();
    let facts = tables.facts(&hit);
    assert_eq!(key(&facts, DimensionTable::Place), None);
    assert_eq!(key(&facts, DimensionTable::Device), Some(device));
    assert_eq!(key(&facts, DimensionTable::Ad), None);
    assert_eq!(key(&facts, DimensionTable::Site), Some(site));
    drop(facts);
    hit.campaign = "spring".into();
    let ad = Ad::of(&hit).map(|ad| ad.key());
    let facts = Facts::named(&hit);
    assert_eq!(key(&facts, DimensionTable::Device), None);
    assert_eq!(key(&facts, DimensionTable::Ad), ad);
    assert_eq!(key(&facts, DimensionTable::Site), Some(site));

    #[derive(Default)]
    struct Visited(Vec<(&'static str, i64)>);
    impl FactVisitor for Visited {
        fn visit(&mut self, dimension: DimensionTable, found: &impl Found) {
            self.0.push((DIMENSIONS[dimension as usize], found.key()));
        }
    }
    let mut visited = Visited::default();
    facts.visit(&mut visited);
    assert_eq!(visited.0, [("ad", ad.unwrap()), ("site", site)]);
}
