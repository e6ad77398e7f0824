//! Files in MaxMind's format, read into memory whole.
//!
//! Two schemas of places are read: GeoIP2's, nested (`country.iso_code`, `subdivisions[0].names.en`,
//! …), and ip-location-db's, flat (`country_code`, `state1`, …, `""` where missing). Networks come
//! from an ASN file (`autonomous_system_number`, `autonomous_system_organization`) or an ISP file
//! (`isp` and `organization` as well). Which one a file has is found from its first records, and
//! the first [`RECORDS_TRIED_MAX`] must decode, or the file counts as broken.
//!
//! Records are shared between addresses, so an answer is cached by the offset of its record.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use maxminddb::{LookupResult, MaxMindDbError, Reader, WithinOptions};
use quick_cache::sync::Cache;
use serde::de::{IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Keyed, Origin, Problem, Report};
use crate::hit::limits::TEXT_BYTES_MAX;
use crate::row::{Dimension, Network, Place};

/// Records decoded at the opening of a file, in the order of their networks.
const RECORDS_TRIED_MAX: usize = 1_000;

/// Decoded records kept per file.
const RECORDS_CACHED_MAX: usize = 16_384;

type Record<'a> = LookupResult<'a, Vec<u8>>;
type Decode<T> = fn(&Record<'_>) -> Result<T, MaxMindDbError>;

/// One file and the answers already decoded.
pub(super) struct GeoFile<T> {
    path: PathBuf,
    reader: Reader<Vec<u8>>,
    decode: Decode<T>,
    answers_v4: bool,
    answers_v6: bool,
    /// By the offset of the record; `None` for a record that says nothing.
    decoded: Cache<usize, Option<Arc<Keyed<T>>>>,
}

/// Opens a file of places.
pub(super) fn open_places(path: &Path) -> Result<GeoFile<Place>, Problem> {
    GeoFile::open(path, "places", |found| {
        if found.country_code.is_some() {
            Some(flat_place)
        } else if found.country.is_some()
            || found.registered_country.is_some()
            || found.city.is_some()
            || found.location.is_some()
        {
            Some(nested_place)
        } else {
            None
        }
    })
}

/// Opens a file of networks.
pub(super) fn open_networks(path: &Path) -> Result<GeoFile<Network>, Problem> {
    GeoFile::open(path, "networks", |found| {
        let known = found.autonomous_system_number.is_some()
            || found.autonomous_system_organization.is_some()
            || found.isp.is_some();
        known.then_some(network as Decode<Network>)
    })
}

/// Which of the telling keys a record has.
#[derive(Deserialize)]
struct Found {
    country_code: Option<IgnoredAny>,
    country: Option<IgnoredAny>,
    registered_country: Option<IgnoredAny>,
    city: Option<IgnoredAny>,
    location: Option<IgnoredAny>,
    autonomous_system_number: Option<IgnoredAny>,
    autonomous_system_organization: Option<IgnoredAny>,
    isp: Option<IgnoredAny>,
}

impl<T: Dimension + Default + PartialEq> GeoFile<T> {
    fn open(
        path: &Path,
        wanted: &'static str,
        schema: impl Fn(&Found) -> Option<Decode<T>>,
    ) -> Result<GeoFile<T>, Problem> {
        let reader = Reader::from_source(fs::read(path)?)?;
        let mut decode = None;
        for record in reader
            .networks(WithinOptions::default())?
            .take(RECORDS_TRIED_MAX)
        {
            let record = record?;
            if decode.is_none()
                && let Some(found) = record.decode()?
            {
                decode = schema(&found);
            }
            if let Some(decode) = decode {
                decode(&record)?;
            }
        }
        let metadata = reader.metadata();
        let decode = decode.ok_or_else(|| Problem::Schema {
            database_type: metadata.database_type.clone(),
            wanted,
        })?;
        // In an IPv6 tree without the branch of IPv4 addresses, an IPv4 lookup ends in whatever
        // IPv6 network lies at `::`, whose record says nothing about it.
        let answers_v4 = reader
            .lookup(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
            .and_then(|record| record.network())
            .is_ok_and(|network| network.is_ipv4());
        Ok(GeoFile {
            path: path.to_owned(),
            answers_v4,
            answers_v6: metadata.ip_version == 6,
            decode,
            reader,
            decoded: Cache::new(RECORDS_CACHED_MAX),
        })
    }

    /// What the file says of an address. A record that does not decode says nothing.
    pub(super) fn lookup(&self, ip: IpAddr) -> Option<Arc<Keyed<T>>> {
        let answers = match ip {
            IpAddr::V4(_) => self.answers_v4,
            IpAddr::V6(_) => self.answers_v6,
        };
        if !answers {
            return None;
        }
        let record = self.reader.lookup(ip).ok()?;
        let offset = record.offset()?;
        if let Some(known) = self.decoded.get(&offset) {
            return known;
        }
        let value = (self.decode)(&record).unwrap_or_default();
        let answer = (value != T::default()).then(|| Arc::new(Keyed::new(value)));
        self.decoded.insert(offset, answer.clone());
        answer
    }
}

impl<T> GeoFile<T> {
    /// When it was built, in seconds since 1970.
    pub(super) fn built(&self) -> u64 {
        self.reader.metadata().build_epoch
    }

    /// Reads the file to its end, which opening it does not.
    pub(super) fn report(&self, about: &'static str) -> Result<Report, Problem> {
        let mut networks = 0;
        for record in self.reader.networks(WithinOptions::default())? {
            (self.decode)(&record?)?;
            networks += 1;
        }
        Ok(Report {
            about,
            database_type: self.reader.metadata().database_type.clone(),
            built_seconds: self.built(),
            networks,
        })
    }

    /// Whose data it holds, as its type or name tells: npm's packages state types such as `city ipv4`
    /// whosever they are.
    pub(super) fn origin(&self) -> Option<Origin> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let told = format!("{} {name}", self.reader.metadata().database_type).to_lowercase();
        Origin::ALL
            .into_iter()
            .find(|origin| told.contains(origin.word()))
    }

    /// Where it was read from.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Flat<'a> {
    country_code: &'a str,
    state1: &'a str,
    city: &'a str,
    postcode: &'a str,
    latitude: Degrees,
    longitude: Degrees,
    timezone: &'a str,
}

fn flat_place(record: &Record<'_>) -> Result<Place, MaxMindDbError> {
    let flat: Flat<'_> = record.decode()?.unwrap_or_default();
    Ok(Place {
        country: text(flat.country_code),
        region: text(flat.state1),
        city: text(flat.city),
        postal_code: text(flat.postcode),
        latitude: flat.latitude.within(90.0),
        longitude: flat.longitude.within(180.0),
        time_zone: text(flat.timezone),
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Nested<'a> {
    #[serde(borrow)]
    country: Country<'a>,
    subdivisions: Vec<Named<'a>>,
    city: Named<'a>,
    postal: Postal<'a>,
    location: Location<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Country<'a> {
    iso_code: &'a str,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named<'a> {
    #[serde(borrow)]
    names: Names<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Names<'a> {
    en: &'a str,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Postal<'a> {
    code: &'a str,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Location<'a> {
    latitude: Degrees,
    longitude: Degrees,
    time_zone: &'a str,
}

fn nested_place(record: &Record<'_>) -> Result<Place, MaxMindDbError> {
    let nested: Nested<'_> = record.decode()?.unwrap_or_default();
    let region = nested
        .subdivisions
        .first()
        .map_or("", |region| region.names.en);
    let Location {
        latitude,
        longitude,
        time_zone,
    } = nested.location;
    Ok(Place {
        country: text(nested.country.iso_code),
        region: text(region),
        city: text(nested.city.names.en),
        postal_code: text(nested.postal.code),
        latitude: latitude.within(90.0),
        longitude: longitude.within(180.0),
        time_zone: text(time_zone),
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Owner<'a> {
    autonomous_system_number: Option<u32>,
    autonomous_system_organization: &'a str,
    isp: &'a str,
}

fn network(record: &Record<'_>) -> Result<Network, MaxMindDbError> {
    let owner: Owner<'_> = record.decode()?.unwrap_or_default();
    let name = if owner.isp.is_empty() {
        owner.autonomous_system_organization
    } else {
        owner.isp
    };
    Ok(Network {
        asn: owner.autonomous_system_number,
        name: text(name),
    })
}

/// A text of a record, cut like those of a hit.
fn text(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    text.get(..end).unwrap_or_default().to_owned()
}

/// A coordinate, in single precision (flat files) or double (nested ones).
#[derive(Clone, Copy, Default)]
struct Degrees(Option<f64>);

impl Degrees {
    /// The degrees to four places (11 m, what the files state), so that either precision gives one
    /// dimension row; `None` for what is no coordinate.
    fn within(self, limit: f64) -> Option<f64> {
        self.0
            .filter(|degrees| (-limit..=limit).contains(degrees))
            // Adding zero makes the negative zero positive: they are one place.
            .map(|degrees| (degrees * 1e4).round() / 1e4 + 0.0)
    }
}

impl<'de> Deserialize<'de> for Degrees {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Degrees, D::Error> {
        deserializer.deserialize_any(DegreesVisitor)
    }
}

struct DegreesVisitor;

impl Visitor<'_> for DegreesVisitor {
    type Value = Degrees;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("degrees")
    }

    fn visit_f64<E>(self, degrees: f64) -> Result<Degrees, E> {
        Ok(Degrees(Some(degrees)))
    }

    fn visit_f32<E>(self, degrees: f32) -> Result<Degrees, E> {
        Ok(Degrees(Some(f64::from(degrees))))
    }
}
