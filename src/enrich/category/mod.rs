//! The dimension `page_domain`: the registrable domain of the page that a hit was made on, or of
//! its publisher, and what the operator's lists say that it is about.
//!
//! Lists are asked in their order, and the first that knows the domain answers. Of one list the
//! longest entry counts: `blog.example.se` before `example.se`. An entry never goes beyond what
//! somebody registered: one for `github.io` says nothing of `somebody.github.io`.
//!
//! An answer is kept by the text that named the host, so a domain that is known costs a hash and no
//! allocation. How many are kept is limited, and so is how many rows a site's hits may add in a day
//! (`loader.new_names_per_day`): anybody can invent domains.

mod domain;
mod index;
mod list;
mod sensitive;
mod taxonomy;

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::Arc;

use quick_cache::sync::Cache;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::source::{LoadError, TableFile, TableFiles};
use super::{DeviceBudget, Find, NameScope, OTHER, Tables};
use crate::hit::Hit;
use crate::row::dimension::{Keyed, StandIn};
use crate::row::{Keyer, PageDomain};
use index::Label;
use list::CategoryList;
pub(crate) use sensitive::Sensitive;
use taxonomy::Taxonomy;

/// Domains that are kept, by how a hit names them.
const DOMAINS_CACHED_MAX: usize = 32_768;

/// What stands between the names of several categories.
const BETWEEN: &str = "; ";

impl Find for PageDomain {
    const NAMES_NOBODY: &'static str = "domains of pages";

    type Found<'h> = Arc<Keyed<PageDomain>>;

    fn find(tables: &Tables, hit: &Hit<'_>, _: &mut DeviceBudget) -> Option<Self::Found<'static>> {
        tables.page_domain(&hit.page_url, &hit.publisher)
    }

    fn stand_in(named: &NameScope<'_>, keyer: &Keyer) -> Option<StandIn> {
        let other = PageDomain {
            domain: OTHER.to_owned(),
            ..PageDomain::default()
        };
        Some(StandIn::new(named.site_and_partner(), keyer, &other))
    }
}

impl Tables {
    /// Returns the domain of a page, or else of a publisher that is a URL or a domain.
    #[must_use]
    pub fn page_domain(&self, page_url: &str, publisher: &str) -> Option<Arc<Keyed<PageDomain>>> {
        let of_page = domain::authority(page_url);
        let of_page = of_page.and_then(|authority| self.categories.of_authority(authority));
        if of_page.is_some() || publisher.is_empty() {
            return of_page;
        }
        match domain::authority(publisher) {
            Some(authority) => self.categories.of_authority(authority),
            None => self.categories.of_bare(publisher),
        }
    }

    /// Returns how many domains the lists of categories have.
    #[must_use]
    pub(crate) fn listed_domains(&self) -> usize {
        let lists = self.categories.lists.iter();
        lists.map(|list| list.index.len()).sum()
    }

    /// Returns when the oldest list of categories was written, in seconds since 1970; 0 without
    /// one.
    #[must_use]
    pub(crate) fn lists_written(&self) -> u64 {
        let lists = self.categories.lists.iter();
        lists.map(|list| list.written).min().unwrap_or_default()
    }

    /// Returns whether lists were asked about a domain, and none knows it.
    #[must_use]
    pub(crate) fn lacks_category(&self, found: Option<&Arc<Keyed<PageDomain>>>) -> bool {
        !self.categories.lists.is_empty()
            && found.is_none_or(|found| found.value.category.is_empty())
    }
}

/// The lists, and the answers that were found already.
pub(super) struct Categories {
    lists: Vec<Arc<CategoryList>>,
    taxonomy: Option<Arc<Taxonomy>>,
    sensitive: Sensitive,
    found: Cache<u128, Option<Arc<Keyed<PageDomain>>>>,
    /// The seeds of the cache's hashes, of authorities and of bare publishers: nobody outside knows
    /// which texts share one.
    seeds: [u64; 2],
}

impl Default for Categories {
    fn default() -> Categories {
        Categories::new(Vec::new(), None, &[])
    }
}

impl Categories {
    fn new(
        lists: Vec<Arc<CategoryList>>,
        taxonomy: Option<Arc<Taxonomy>>,
        sensitive: &[String],
    ) -> Categories {
        Categories {
            lists,
            taxonomy,
            sensitive: Sensitive::new(sensitive),
            found: Cache::new(DOMAINS_CACHED_MAX),
            seeds: [0, 1].map(|seed| RandomState::new().hash_one(seed)),
        }
    }

    /// Checks whether one of the categories is sensitive that a sender names.
    pub(super) fn are_sensitive(&self, names: &str) -> bool {
        !names.is_empty() && names.split([';', ',']).any(|name| self.sensitive.has(name))
    }

    /// Reads the lists. One that cannot be read stays as it is in `old`, if that has read it.
    pub(super) fn read(
        sources: &TableFiles,
        old: &Categories,
        errors: &mut Vec<LoadError>,
    ) -> Categories {
        if sources.categories.is_empty() {
            return Categories::new(Vec::new(), None, &sources.sensitive);
        }
        let taxonomy = match Taxonomy::open(&sources.taxonomy) {
            Ok(taxonomy) => Some(Arc::new(taxonomy)),
            Err(problem) => {
                errors.push(problem.of(TableFile::Taxonomy, &sources.taxonomy));
                old.taxonomy.clone()
            }
        };
        let names = taxonomy.clone().unwrap_or_default();
        let mut error = |(path, problem): (PathBuf, super::Problem)| {
            errors.push(problem.of(TableFile::Category, &path));
        };
        let lists = sources
            .categories
            .iter()
            .filter_map(|path| match list::open(path, &names) {
                Ok((list, skipped)) => {
                    skipped.into_iter().for_each(&mut error);
                    Some(Arc::new(list))
                }
                Err(problem) => {
                    error(problem);
                    old.lists.iter().find(|list| list.path == *path).cloned()
                }
            });
        let lists = lists.collect();
        Categories::new(lists, taxonomy, &sources.sensitive)
    }

    fn of_authority(&self, authority: &str) -> Option<Arc<Keyed<PageDomain>>> {
        self.remember(authority, self.seeds[0], domain::name_of)
    }

    fn of_bare(&self, publisher: &str) -> Option<Arc<Keyed<PageDomain>>> {
        self.remember(publisher, self.seeds[1], domain::bare_name)
    }

    fn remember(
        &self,
        text: &str,
        seed: u64,
        name: fn(&str) -> Option<String>,
    ) -> Option<Arc<Keyed<PageDomain>>> {
        let key = xxh3_128_with_seed(text.as_bytes(), seed);
        if let Some(found) = self.found.get(&key) {
            return found;
        }
        let found = name(text).and_then(|name| self.find(&name));
        let found = found.map(|found| Arc::new(Keyed::new(found)));
        self.found.insert(key, found.clone());
        found
    }

    /// Finds the domain of a host, and what the first list that knows it says.
    fn find(&self, name: &str) -> Option<PageDomain> {
        let domain = domain::registrable(name)?;
        let labels = self.lists.iter().find_map(|list| {
            let mut names = std::iter::successors(Some(name), |name| {
                name.split_once('.').map(|(_, parent)| parent)
            })
            .take_while(|name| name.len() >= domain.len());
            names.find_map(|name| list.index.find(name))
        });
        let labels = labels.unwrap_or_default();
        Some(PageDomain {
            domain: domain.to_owned(),
            category: join(labels, |label| &label.category),
            source: join(labels, |label| &label.source),
            is_sensitive: labels
                .iter()
                .any(|label| self.sensitive.has(&label.category)),
        })
    }
}

/// Joins what labels have, each once.
fn join(labels: &[Label], of: fn(&Label) -> &String) -> String {
    let mut texts: Vec<&str> = Vec::new();
    for text in labels.iter().map(of) {
        if !texts.contains(&text.as_str()) {
            texts.push(text);
        }
    }
    // As many as fit whole.
    while texts.join(BETWEEN).len() > crate::hit::limits::TEXT_BYTES_MAX {
        texts.pop();
    }
    texts.join(BETWEEN)
}
