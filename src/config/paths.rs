//! `[path]`: where each endpoint answers, with the keys that the table of endpoints names.

use super::read::{Section, Table};
use super::value;
use crate::endpoint::{ENDPOINTS, Endpoint, Path as EndpointPath};

/// What is right for a path.
const RIGHT: &str = "a path such as /p.gif that is not /demo";
/// What is right for one that may be left out.
const RIGHT_OR_NONE: &str = "a path such as /v1 that is not /demo, or \"\" for none";

/// The paths of each endpoint that has a key in `[path]`.
#[derive(Clone, Debug)]
pub struct Paths([Vec<String>; ENDPOINTS.len()]);

impl Table for Paths {
    const NAME: &'static str = "path";

    fn read(section: &mut Section<'_>) -> Paths {
        let mut paths = Paths(ENDPOINTS.map(|spec| match spec.path {
            EndpointPath::At(key)
            | EndpointPath::AbovePartner(key)
            | EndpointPath::AboveSystem(key) => {
                let row = section.reload(key.name, key.meaning);
                vec![row.one(key.default, RIGHT, value::endpoint_path)]
            }
            EndpointPath::BelowKey(key, _) => {
                let row = section.reload(key.name, key.meaning);
                let path = row.one(key.default, RIGHT_OR_NONE, |text| match text {
                    "" => Some(None),
                    text => value::endpoint_path(text).map(Some),
                });
                path.into_iter().collect()
            }
            EndpointPath::AnyOf(key) => {
                let row = section.reload(key.name, key.meaning);
                row.list_or(key.default, RIGHT, value::endpoint_path)
            }
            EndpointPath::Below(..)
            | EndpointPath::Beside(..)
            | EndpointPath::Around(..)
            | EndpointPath::Demo(_)
            | EndpointPath::Fixed(_)
            | EndpointPath::Elsewhere => Vec::new(),
        }));
        for spec in ENDPOINTS {
            if let EndpointPath::Beside(other, tails) = spec.path
                && let Some((base, _)) = paths.of(other).rsplit_once('/')
            {
                let beside = tails.iter().map(|tail| format!("{base}/{tail}")).collect();
                if let Some(own) = paths.0.get_mut(spec.endpoint as usize) {
                    *own = beside;
                }
            }
        }
        paths
    }
}

impl Paths {
    /// Returns the path of an endpoint, the first one if it has several; empty for one without any.
    #[must_use]
    pub fn of(&self, endpoint: Endpoint) -> &str {
        self.all_of(endpoint).first().map_or("", String::as_str)
    }

    /// Returns every path of an endpoint.
    #[must_use]
    pub(crate) fn all_of(&self, endpoint: Endpoint) -> &[String] {
        self.0.get(endpoint as usize).map_or(&[], Vec::as_slice)
    }

    /// Returns every path below which an endpoint has paths of its own, and what is there.
    pub(super) fn parents(&self) -> impl Iterator<Item = (&str, &'static str)> {
        ENDPOINTS.iter().flat_map(|spec| {
            let (parent, what) = match spec.path {
                EndpointPath::AbovePartner(_) => (spec.endpoint, "the paths of partners"),
                EndpointPath::AboveSystem(_) => (spec.endpoint, "the paths of systems"),
                EndpointPath::Below(parent, _) => (parent, "its forms"),
                EndpointPath::BelowKey(..) => (spec.endpoint, "the paths of its calls"),
                _ => (spec.endpoint, ""),
            };
            let paths = self.all_of(parent).iter();
            paths
                .map(move |path| (path.as_str(), what))
                .filter(|(_, what)| !what.is_empty())
        })
    }

    /// Returns every path that follows from a key, with the key.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let paths = ENDPOINTS.iter().zip(&self.0);
        paths.flat_map(|(spec, paths)| {
            let owner = match spec.path {
                EndpointPath::Beside(other, _) => other.spec(),
                _ => spec,
            };
            let key = owner.path_key().unwrap_or_default();
            paths.iter().map(move |path| (key, path.as_str()))
        })
    }
}
