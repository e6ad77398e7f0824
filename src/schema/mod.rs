//! JSON schemas of documents, as Snowplow's trackers name them: `iglu:VENDOR/NAME/FORMAT/VERSION`,
//! in a folder of the operator's that has a file at `VENDOR/NAME/FORMAT/VERSION`. Pure.

mod check;
mod view;

use std::fmt;
use std::path::{Path, PathBuf};

pub use check::SchemaError;
pub(crate) use check::{Checked, Schemas};
pub(crate) use view::write_view;

/// The URI of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SchemaUri {
    vendor: String,
    name: String,
    format: String,
    version: String,
}

impl SchemaUri {
    /// Reads a URI. `None` if it is none, or if a part of it could not be the name of a file.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<SchemaUri> {
        let mut parts = text.strip_prefix("iglu:")?.split('/');
        let mut part = || {
            let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            let part = parts.next()?;
            let is_name = part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            (is_name && part.chars().all(is_of_name)).then(|| part.to_owned())
        };
        let uri = SchemaUri {
            vendor: part()?,
            name: part()?,
            format: part()?,
            version: part()?,
        };
        let mut numbers = uri.version.split('-');
        let are_numbers = numbers.all(|number| number.parse::<u32>().is_ok());
        let is_version = uri.version.split('-').count() == 3 && are_numbers;
        (is_version && parts.next().is_none()).then_some(uri)
    }

    /// Reads the URI of the schema whose file lies at a path in the folder.
    #[must_use]
    pub(crate) fn of_path(path: &Path) -> Option<SchemaUri> {
        SchemaUri::parse(&format!("iglu:{}", path.to_str()?))
    }

    /// Returns where its file lies in the folder of schemas.
    #[must_use]
    pub(crate) fn path(&self) -> PathBuf {
        [&self.vendor, &self.name, &self.format, &self.version]
            .iter()
            .collect()
    }

    /// Returns the first number of its version: what has another one is not compatible.
    fn model(&self) -> &str {
        self.version.split('-').next().unwrap_or_default()
    }
}

impl fmt::Display for SchemaUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SchemaUri {
            vendor,
            name,
            format,
            version,
        } = self;
        write!(f, "iglu:{vendor}/{name}/{format}/{version}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_a_path_and_nothing_leads_out_of_the_folder() {
        let uri = "iglu:com.acme/viewed_product/jsonschema/1-0-2";
        let parsed = SchemaUri::parse(uri).expect("a URI");
        assert_eq!(parsed.to_string(), uri);
        assert_eq!(
            parsed.path(),
            PathBuf::from("com.acme/viewed_product/jsonschema/1-0-2")
        );
        for wrong in [
            "",
            "com.acme/a/jsonschema/1-0-0",
            "iglu:com.acme/a/jsonschema",
            "iglu:com.acme/a/jsonschema/1-0",
            "iglu:com.acme/a/jsonschema/1-0-x",
            "iglu:com.acme/a/jsonschema/1-0-0/b",
            "iglu:../a/jsonschema/1-0-0",
            "iglu:com.acme/../jsonschema/1-0-0",
            "iglu:com.acme//jsonschema/1-0-0",
            "iglu:com.acme/a\\b/jsonschema/1-0-0",
            "iglu:com.acme/a b/jsonschema/1-0-0",
        ] {
            assert_eq!(SchemaUri::parse(wrong), None, "{wrong}");
        }
    }
}
