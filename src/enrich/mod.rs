//! Where a hit came from, and on what device: [`Tables`] answer from memory.
//!
//! The one door is [`Tables::facts`]: it finds the row of each dimension in the list `dimensions!`.
//! A dimension is a type with [`Dimension`] (its table, columns and key), [`Find`] (how a hit's
//! row is found, and what is decided of its rows) and [`ReadColumns`], in a file of its own, and
//! one line of that list. Keys, new rows and their limit, the column of `avtryck.hit`, messages to
//! Kafka and the job that deletes rows follow; a migration adds the table and the column
//! `<table>_key`.
//!
//! All reading happens in [`load`] and [`reload`]; a lookup does no I/O, reads no clock and cannot
//! fail. A file that is missing or broken costs its own part only: its answers are unknown, and the
//! caller gets a [`LoadError`] that names it. Reloading never makes things worse: for a file that
//! has become unreadable, the part read earlier stays in use.

mod agents;
mod bot;
mod category;
mod device;
mod geo;
mod model;
mod named;
mod network;
mod place;
mod schema;
mod source;
mod words;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use quick_cache::sync::Cache;

use bot::Crawlers;
use category::Categories;
pub(crate) use category::Sensitive;
use device::{CachedDevices, DeviceRules};
pub use device::{Device, DeviceBudget, DeviceClass};
use geo::GeoFile;
pub(crate) use model::MakerAndName;
pub use model::{AliasKind, ModelName, ModelNames};
pub use network::Network;
pub use place::Place;
pub use source::{LoadError, Origin, Problem, Report, TableFile, TableFiles, load, reload, verify};
pub(crate) use source::{check, open_models};

use crate::hit::Hit;
use crate::row::dimension::{
    Dimension, Found, Keyed, ReadColumns, StandIn, Stored, new_key_of_stored,
};
use crate::row::{Ad, Keyer, PageDomain, Site};
use crate::schema::Schemas;

/// Places without their cities that are kept; a file tells apart a few thousand regions.
const COARSE_PLACES_CACHED_MAX: usize = 16_384;

/// How a dimension's row is found for a hit, and what is decided of its rows.
pub trait Find: Dimension {
    /// Why no text of its rows says who a visitor is. Export and erasure pass them over.
    const NAMES_NOBODY: &'static str;
    /// The rows that are deleted once nothing points to them any more, as a condition in SQL.
    const DELETED: &'static str = "true";

    /// The row, with its key: borrowed from the hit, or shared with the tables.
    type Found<'h>: Found;

    /// Finds the row; `None` if the hit has none. What must be looked up at length is, within the
    /// budget.
    fn find<'h>(
        tables: &Tables,
        hit: &'h Hit<'_>,
        budget: &mut DeviceBudget,
    ) -> Option<Self::Found<'h>>;

    /// Returns what stands for rows beyond the limit of new ones; `None` if no stranger can make
    /// rows, because files have all of them.
    fn stand_in(named: &NameScope<'_>, keyer: &Keyer) -> Option<StandIn>;
}

/// What a row beyond the limit of new ones is called.
const OTHER: &str = "other";

/// What a hit names, by which new rows are counted.
#[derive(Clone, Copy, Debug)]
pub struct NameScope<'a> {
    site: &'a str,
    category: &'a str,
    partner: &'a str,
}

impl<'a> NameScope<'a> {
    /// Returns what a hit names.
    #[must_use]
    pub(crate) fn of(facts: &Facts<'a>) -> NameScope<'a> {
        let site = facts.site.as_ref().map(|site| site.value);
        let site = site.unwrap_or_default();
        NameScope {
            site: site.site,
            category: site.category,
            partner: facts.ad.as_ref().map_or("", |ad| ad.value.partner),
        }
    }

    fn site_and_partner(&self) -> String {
        format!("{}/{}", self.site, self.partner)
    }
}

/// Takes the facts of a hit, one by one.
pub trait FactVisitor {
    /// Takes the row of one dimension.
    fn visit(&mut self, dimension: DimensionTable, found: &impl Found);
}

/// Reads the rows that were found of a hit elsewhere.
pub(crate) trait FactReader {
    /// Why a row cannot be read.
    type Error;

    /// Reads the row of one dimension; `None` where the hit has none.
    fn read<D: ReadColumns + Send + Sync + 'static>(
        &mut self,
        dimension: DimensionTable,
    ) -> Result<Option<Arc<Keyed<D>>>, Self::Error>;
}

/// Returns the key that a stored row of a dimension would have now.
pub(crate) type NewKeyOf<S> = fn(&Keyer, &S) -> Result<i64, <S as Stored>::Error>;

/// Makes the list of dimensions, and what follows from it.
macro_rules! dimensions {
    ($($(#[$doc:meta])* $fact:ident: $dimension:ident $(in $field:literal)?,)+) => {
        /// A dimension, as a place in [`DIMENSIONS`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is named like its type")]
        pub enum DimensionTable { $($dimension),+ }

        impl DimensionTable {
            /// Every dimension, in the order of [`DIMENSIONS`].
            pub const ALL: [DimensionTable; [$(DimensionTable::$dimension),+].len()] =
                [$(DimensionTable::$dimension),+];

            /// Returns its table in the schema `avtryck`.
            #[must_use]
            pub(crate) const fn table(self) -> &'static str {
                match self {
                    $(DimensionTable::$dimension => <$dimension as Dimension>::TABLE),+
                }
            }

            /// Returns the number of its field in messages to Kafka; `None` where the hit's own
            /// fields say it all.
            #[must_use]
            pub(crate) const fn field(self) -> Option<u32> {
                match self {
                    $(DimensionTable::$dimension => {
                        const FIELD: &[u32] = &[$($field)?];
                        FIELD.first().copied()
                    })+
                }
            }

            /// Returns the condition in SQL of the rows that are deleted once nothing points to
            /// them any more.
            #[must_use]
            pub(crate) const fn deleted(self) -> &'static str {
                match self {
                    $(DimensionTable::$dimension => <$dimension as Find>::DELETED),+
                }
            }

            /// Returns what stands for its rows beyond the limit of new ones; `None` if it has no
            /// limit.
            #[must_use]
            pub(crate) fn stand_in(self, named: &NameScope<'_>, keyer: &Keyer) -> Option<StandIn> {
                match self {
                    $(DimensionTable::$dimension => <$dimension as Find>::stand_in(named, keyer)),+
                }
            }

            /// Returns the name of its type, and why no text of its rows says who a visitor is.
            #[cfg(test)]
            pub(crate) fn describe(self) -> (&'static str, &'static str) {
                match self {
                    $(DimensionTable::$dimension => {
                        (stringify!($dimension), <$dimension as Find>::NAMES_NOBODY)
                    })+
                }
            }

            /// Gives the columns of an empty row.
            #[cfg(test)]
            pub(crate) fn give_columns(self, to: &mut impl crate::row::dimension::Columns) {
                match self {
                    $(DimensionTable::$dimension => <$dimension>::default().columns(to)),+
                }
            }
        }

        /// The tables of the dimensions, in the order of the keys of a row.
        pub const DIMENSIONS: [&str; DimensionTable::ALL.len()] =
            [$(<$dimension as Dimension>::TABLE),+];

        /// Returns the key that stored rows of each dimension would have now, in the order of
        /// [`DIMENSIONS`].
        #[must_use]
        pub fn new_keys<S: Stored>() -> [NewKeyOf<S>; DIMENSIONS.len()] {
            [$(new_key_of_stored::<$dimension, S>),+]
        }

        /// What is found of a hit: the row of each dimension; `None` where it has none.
        #[derive(Default)]
        pub struct Facts<'h> {
            $($(#[$doc])* pub $fact: Option<<$dimension as Find>::Found<'h>>,)+
        }

        impl Tables {
            /// Finds everything that the tables and the hit itself say, within the budget of a
            /// batch.
            #[must_use]
            pub fn facts<'h>(&self, hit: &'h Hit<'_>, budget: &mut DeviceBudget) -> Facts<'h> {
                Facts { $($fact: <$dimension as Find>::find(self, hit, budget)),+ }
            }
        }

        impl<'h> Facts<'h> {
            /// Reads what was found of a hit elsewhere.
            ///
            /// # Errors
            /// If a row cannot be read.
            pub(crate) fn read<R: FactReader>(
                hit: &'h Hit<'_>,
                reader: &mut R,
            ) -> Result<Facts<'h>, R::Error> {
                Ok(Facts {
                    $($($fact: {
                        const _: u32 = $field;
                        reader.read::<$dimension>(DimensionTable::$dimension)?
                    },)?)+
                    ..Facts::of_hit(hit)
                })
            }
        }

        impl Facts<'_> {
            /// Returns the keys of a hit's row, in the order of [`DIMENSIONS`].
            #[must_use]
            pub fn keys(&self, keyer: &Keyer) -> [Option<i64>; DIMENSIONS.len()] {
                [$(self.$fact.as_ref().map(|found| found.key(keyer))),+]
            }

            /// Gives each fact to a visitor.
            pub fn visit(&self, visitor: &mut impl FactVisitor) {
                $(if let Some(found) = &self.$fact {
                    visitor.visit(DimensionTable::$dimension, found);
                })+
            }
        }
    };
}

// The number is that of the dimension's field in messages to Kafka (`proto/row.proto`), which was
// never used for another; those of `Facts::of_hit` have none.
dimensions! {
    /// Where it came from; without the permit to locate, country and region alone.
    place: Place in 67,
    /// Whose network it came from.
    network: Network in 68,
    /// The device that it was made on.
    device: Device in 69,
    /// The ad that it is about.
    ad: Ad,
    /// The site that it was made on.
    site: Site,
    /// The domain of the page that it was made on.
    page_domain: PageDomain in 70,
}

impl<'h> Facts<'h> {
    /// Finds what a hit itself says, without any table: all that is kept of a hit that is only
    /// counted.
    #[must_use]
    pub(crate) fn of_hit(hit: &'h Hit<'_>) -> Facts<'h> {
        Facts {
            site: Some(Keyed::new(Site::of(hit))),
            ad: Ad::of(hit).map(Keyed::new),
            ..Facts::default()
        }
    }
}

/// Everything that lookups answer from.
pub struct Tables {
    places: Vec<Arc<GeoFile<Place>>>,
    /// By a hash of country and region.
    coarse_places: Cache<u64, Arc<Keyed<Place>>>,
    networks: Vec<Arc<GeoFile<Network>>>,
    device_rules: Option<Arc<DeviceRules>>,
    cached_devices: CachedDevices,
    crawlers: Option<Arc<Crawlers>>,
    models: Option<Arc<ModelNames>>,
    /// The numbers of data centres' autonomous systems.
    data_centres: Arc<HashSet<u32>>,
    schemas: Option<Schemas>,
    categories: Categories,
}

impl Default for Tables {
    /// Makes tables that know nothing.
    fn default() -> Tables {
        Tables {
            places: Vec::new(),
            coarse_places: Cache::new(COARSE_PLACES_CACHED_MAX),
            networks: Vec::new(),
            device_rules: None,
            cached_devices: CachedDevices::default(),
            crawlers: None,
            models: None,
            data_centres: Arc::default(),
            schemas: None,
            categories: Categories::default(),
        }
    }
}

impl Tables {
    /// Returns when the oldest file of places and of networks was built, in seconds since 1970; 0
    /// without one.
    #[must_use]
    pub(crate) fn built_seconds(&self) -> [u64; 2] {
        let places = self.places.iter().map(|file| file.built_seconds()).min();
        let networks = self.networks.iter().map(|file| file.built_seconds()).min();
        [places, networks].map(Option::unwrap_or_default)
    }

    /// Checks whether a page is of a sensitive category, as its sender or a list says.
    #[must_use]
    pub fn is_sensitive_page(&self, hit: &Hit<'_>, facts: &Facts<'_>) -> bool {
        let found = facts.page_domain.as_ref();
        found.is_some_and(|found| found.value.is_sensitive)
            || self.categories.are_sensitive(&hit.category)
    }

    /// Returns the names of models, which no hit is looked up in.
    #[must_use]
    pub fn models(&self) -> Option<&Arc<ModelNames>> {
        self.models.as_ref()
    }

    /// Returns whose geodata are in use, of those who ask for a link.
    #[must_use]
    pub fn origins(&self) -> Vec<Origin> {
        let places = self.places.iter().filter_map(|file| file.origin());
        let networks = self.networks.iter().filter_map(|file| file.origin());
        let found: Vec<Origin> = places.chain(networks).collect();
        let is_found = |origin: &Origin| found.contains(origin);
        Origin::ALL.into_iter().filter(is_found).collect()
    }
}
