//! The dimension `place`: where a hit came from, by its IP address.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use maxminddb::MaxMindDbError;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::geo::{Decode, GeoFile, GeoRecord, cut};
use super::{DeviceBudget, Find, NameScope, Problem, Tables};
use crate::hit::{Hit, Permit};
use crate::row::Keyer;
use crate::row::dimension::{ColumnValues, Columns, Dimension, Keyed, ReadColumns, StandIn};

/// Where a hit came from. Empty texts and `None` mean unknown.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are the columns of `avtryck.place`")]
pub struct Place {
    pub country: String,
    pub region: String,
    pub city: String,
    pub postal_code: String,
    pub latitude: Option<f64>,
    pub longitude: Option<f64>,
    pub time_zone: String,
}

impl Place {
    /// Returns what is left without the permit to locate: country and region.
    #[must_use]
    pub(crate) fn coarse(&self) -> Place {
        Place {
            country: self.country.clone(),
            region: self.region.clone(),
            ..Place::default()
        }
    }
}

impl Dimension for Place {
    const TABLE: &'static str = "place";

    fn columns(&self, to: &mut impl Columns) {
        to.text("country", &self.country);
        to.text("region", &self.region);
        to.text("city", &self.city);
        to.text("postal_code", &self.postal_code);
        to.text("time_zone", &self.time_zone);
        to.real("latitude", self.latitude);
        to.real("longitude", self.longitude);
    }
}

impl ReadColumns for Place {
    fn read(from: &mut impl ColumnValues) -> Place {
        Place {
            country: from.text(),
            region: from.text(),
            city: from.text(),
            postal_code: from.text(),
            time_zone: from.text(),
            latitude: from.real(),
            longitude: from.real(),
        }
    }
}

impl Find for Place {
    const NAMES_NOBODY: &'static str = "places";

    type Found<'h> = Arc<Keyed<Place>>;

    fn find(tables: &Tables, hit: &Hit<'_>, _: &mut DeviceBudget) -> Option<Arc<Keyed<Place>>> {
        let place = tables.place(hit.client_ip?)?;
        match hit.permit.allows(Permit::LOCATE) {
            true => Some(place),
            false => Some(tables.coarse_place(&place)),
        }
    }

    fn stand_in(_: &NameScope<'_>, _: &Keyer) -> Option<StandIn> {
        None
    }
}

impl Tables {
    /// Returns the place of an address; `None` if no file knows it.
    #[must_use]
    pub fn place(&self, ip: IpAddr) -> Option<Arc<Keyed<Place>>> {
        let ip = ip.to_canonical();
        self.places.iter().find_map(|file| file.look_up(ip))
    }

    fn coarse_place(&self, place: &Keyed<Place>) -> Arc<Keyed<Place>> {
        // The file's own texts: nobody chooses them.
        let country = xxh3_64(place.value.country.as_bytes());
        let hash = xxh3_64_with_seed(place.value.region.as_bytes(), country);
        if let Some(coarse) = self.coarse_places.get(&hash) {
            return coarse;
        }
        let coarse = Arc::new(Keyed::new(place.value.coarse()));
        self.coarse_places.insert(hash, Arc::clone(&coarse));
        coarse
    }
}

/// Opens a file of places.
pub(super) fn open(path: &Path) -> Result<GeoFile<Place>, Problem> {
    GeoFile::open(path, "places", |keys| {
        if keys.country_code.is_some() {
            Some(decode_flat as Decode<Place>)
        } else if keys.country.is_some()
            || keys.registered_country.is_some()
            || keys.city.is_some()
            || keys.location.is_some()
        {
            Some(decode_nested)
        } else {
            None
        }
    })
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

fn decode_flat(record: &GeoRecord<'_>) -> Result<Place, MaxMindDbError> {
    let flat: Flat<'_> = record.decode()?.unwrap_or_default();
    Ok(Place {
        country: cut(flat.country_code),
        region: cut(flat.state1),
        city: cut(flat.city),
        postal_code: cut(flat.postcode),
        latitude: flat.latitude.within(90.0),
        longitude: flat.longitude.within(180.0),
        time_zone: cut(flat.timezone),
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

fn decode_nested(record: &GeoRecord<'_>) -> Result<Place, MaxMindDbError> {
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
        country: cut(nested.country.iso_code),
        region: cut(region),
        city: cut(nested.city.names.en),
        postal_code: cut(nested.postal.code),
        latitude: latitude.within(90.0),
        longitude: longitude.within(180.0),
        time_zone: cut(time_zone),
    })
}

/// A coordinate, in single precision (flat files) or double (nested ones).
#[derive(Clone, Copy, Default)]
struct Degrees(Option<f64>);

impl Degrees {
    /// Returns the degrees to four places (11 m, what the files state), so that either precision
    /// gives one dimension row; `None` for what is not a coordinate.
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
