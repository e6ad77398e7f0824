//! What an event's documents are by their JSON schemas.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Tables;
use super::source::Problem;
use crate::endpoint::Protocol;
use crate::hit::{Flags, Hit};
use crate::schema::{Checked, SchemaUri, Schemas};

/// How deep the files lie in a folder of schemas: vendor, name, format, version.
const DEPTH: usize = 4;
/// The most files of a folder that are read.
const FILES_MAX: usize = 20_000;
/// The largest schema, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The member of `params` that has the first error.
const ERROR: &str = "schema_error";

impl Tables {
    /// Checks the documents of a hit by their schemas. Returns nothing where there are no schemas.
    #[must_use]
    pub(crate) fn check_documents(&self, hit: &Hit<'_>) -> Checked {
        match &self.schemas {
            Some(schemas) if hit.protocol == Protocol::Snowplow => schemas.check(&hit.params),
            _ => Checked::default(),
        }
    }

    /// Returns a hit with the flag `schema` and the first error among its `params`, if one of its
    /// documents breaks its schema.
    #[must_use]
    pub(crate) fn mark_broken<'h>(hit: &'h Hit<'_>, checked: &Checked) -> Option<Hit<'h>> {
        let error = serde_json::to_string(checked.error.as_ref()?).ok()?;
        // The last of a repeated name counts in Postgres, so nobody else writes it.
        let members = hit.params.strip_suffix('}')?;
        let mut marked = hit.clone();
        marked.params = Cow::Owned(format!("{members},\"{ERROR}\":{error}}}"));
        marked.flags.set(Flags::SCHEMA);
        Some(marked)
    }
}

/// Reads every schema of a folder. Returns the files that are none, with the reason.
pub(super) fn read(folder: &Path, schemas: &mut Schemas) -> Vec<(PathBuf, Problem)> {
    let mut failed = Vec::new();
    let mut files = Vec::new();
    if let Err(problem) = list(folder, DEPTH, &mut files) {
        failed.push((folder.to_owned(), problem.into()));
    }
    files.sort();
    for path in files {
        // What else lies there, a README say, is left alone.
        let inner = path.strip_prefix(folder).ok();
        if let Some(uri) = inner.and_then(SchemaUri::of_path)
            && let Err(problem) = read_one(&path, &uri, schemas)
        {
            failed.push((path, problem));
        }
    }
    failed
}

fn read_one(path: &Path, uri: &SchemaUri, schemas: &mut Schemas) -> Result<(), Problem> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge).into());
    }
    schemas.add(uri, &fs::read_to_string(path)?)?;
    Ok(())
}

/// Lists the files that lie so deep in a folder.
fn list(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if depth == 1 && files.len() < FILES_MAX {
            files.push(path);
        } else if depth > 1 && path.is_dir() {
            list(&path, depth - 1, files)?;
        }
    }
    Ok(())
}
