//! Files in MaxMind's format, read into memory whole.
//!
//! Two schemas of places are read: GeoIP2's, nested (`country.iso_code`,
//! `subdivisions[0].names.en`, …), and ip-location-db's, flat (`country_code`, `state1`, …, `""`
//! where missing). Networks come from an ASN file (`autonomous_system_number`,
//! `autonomous_system_organization`) or an ISP file (`isp` and `organization` as well). The first
//! records of a file tell which schema it has, and the first [`RECORDS_TRIED_MAX`] must decode, or
//! the file counts as broken.
//!
//! Records are shared between addresses, so an answer is cached by the offset of its record.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use maxminddb::{LookupResult, MaxMindDbError, Reader, WithinOptions};
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::source::{Origin, Problem, Report};
use crate::hit::limits::TEXT_BYTES_MAX;
use crate::row::dimension::{Dimension, Keyed};

/// Records decoded when a file is opened, in the order of their networks.
const RECORDS_TRIED_MAX: usize = 1_000;

/// Decoded records kept for each file.
const RECORDS_CACHED_MAX: usize = 16_384;

pub(super) type GeoRecord<'a> = LookupResult<'a, Vec<u8>>;
pub(super) type Decode<T> = fn(&GeoRecord<'_>) -> Result<T, MaxMindDbError>;

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

/// The keys of a record that tell its schema.
#[derive(Deserialize)]
pub(super) struct SchemaKeys {
    pub(super) country_code: Option<IgnoredAny>,
    pub(super) country: Option<IgnoredAny>,
    pub(super) registered_country: Option<IgnoredAny>,
    pub(super) city: Option<IgnoredAny>,
    pub(super) location: Option<IgnoredAny>,
    pub(super) autonomous_system_number: Option<IgnoredAny>,
    pub(super) autonomous_system_organization: Option<IgnoredAny>,
    pub(super) isp: Option<IgnoredAny>,
}

impl<T: Dimension + Default + PartialEq> GeoFile<T> {
    /// Opens a file and finds out how its records decode: `schema` tells by the keys of one.
    pub(super) fn open(
        path: &Path,
        wanted: &'static str,
        schema: impl Fn(&SchemaKeys) -> Option<Decode<T>>,
    ) -> Result<GeoFile<T>, Problem> {
        let reader = Reader::from_source(fs::read(path)?)?;
        let mut decode = None;
        for record in reader
            .networks(WithinOptions::default())?
            .take(RECORDS_TRIED_MAX)
        {
            let record = record?;
            if decode.is_none()
                && let Some(keys) = record.decode()?
            {
                decode = schema(&keys);
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

    /// Returns what the file says of an address. A record that does not decode says nothing.
    #[inline]
    pub(super) fn look_up(&self, ip: IpAddr) -> Option<Arc<Keyed<T>>> {
        let answers = match ip {
            IpAddr::V4(_) => self.answers_v4,
            IpAddr::V6(_) => self.answers_v6,
        };
        if !answers {
            return None;
        }
        let record = self.reader.lookup(ip).ok()?;
        let offset = record.offset()?;
        if let Some(answer) = self.decoded.get(&offset) {
            return answer;
        }
        let value = (self.decode)(&record).unwrap_or_default();
        let answer = (value != T::default()).then(|| Arc::new(Keyed::new(value)));
        self.decoded.insert(offset, answer.clone());
        answer
    }
}

impl<T> GeoFile<T> {
    /// Returns when it was built, in seconds since 1970.
    pub(super) fn built_seconds(&self) -> u64 {
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
            built_seconds: self.built_seconds(),
            networks,
        })
    }

    /// Returns whose data it holds, by its type and its name: the files of npm's packages state
    /// types such as `city ipv4`, which name nobody.
    pub(super) fn origin(&self) -> Option<Origin> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let words = format!("{} {name}", self.reader.metadata().database_type).to_lowercase();
        Origin::ALL
            .into_iter()
            .find(|origin| words.contains(origin.word()))
    }

    /// Returns the path that it was read from.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns a text of a record, cut like those of a hit.
pub(super) fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    text.get(..end).unwrap_or_default().to_owned()
}
