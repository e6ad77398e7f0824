//! `[path]`: where each endpoint answers, with the keys that the table of endpoints names.

use super::read::Section;
use super::table::Table;
use super::value;
use crate::endpoint::{ENDPOINTS, Endpoint, Path as EndpointPath};

/// What is right for a path.
const RIGHT: &str = "a path such as /p.gif that is not /demo";

/// The paths of the endpoints that have a key in `[path]`.
#[derive(Clone, Debug)]
pub struct Paths([String; ENDPOINTS.len()]);

impl Table for Paths {
    const NAME: &'static str = "path";

    fn read(section: &mut Section<'_>) -> Paths {
        Paths(ENDPOINTS.map(|spec| match spec.path_key() {
            Some(key) => {
                let row = section.reload(key.name, key.meaning);
                row.one(key.default, RIGHT, value::endpoint_path)
            }
            None => String::new(),
        }))
    }
}

impl Paths {
    /// Returns the path of an endpoint; empty for one without a key in `[path]`.
    #[must_use]
    pub fn of(&self, endpoint: Endpoint) -> &str {
        self.0.get(endpoint as usize).map_or("", String::as_str)
    }

    /// Returns every path below which an endpoint has paths of its own, and what is there.
    pub(super) fn parents(&self) -> impl Iterator<Item = (&str, &'static str)> {
        ENDPOINTS.iter().filter_map(|spec| match spec.path {
            EndpointPath::AbovePartner(_) => {
                Some((self.of(spec.endpoint), "the paths of partners"))
            }
            EndpointPath::Below(parent, _) => Some((self.of(parent), "its forms")),
            _ => None,
        })
    }

    /// Returns every path that a key gives, with the key.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let paths = ENDPOINTS.iter().zip(&self.0);
        paths.filter_map(|(spec, path)| Some((spec.path_key()?.name, path.as_str())))
    }
}
