//! `avtryck schema`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::{UsageError, print};
use crate::schema::{SchemaUri, write_view};

#[derive(clap::Subcommand)]
pub(super) enum SchemaCommand {
    /// Print a view in SQL, with a typed column for each property of a schema: what happened by
    /// that schema, and the contexts that have it.
    View {
        /// The schema, such as iglu:com.acme/viewed_product/jsonschema/1-0-0.
        uri: String,
        /// The folder of schemas, with files at VENDOR/NAME/jsonschema/VERSION.
        #[arg(long, value_name = "DIR")]
        folder: PathBuf,
    },
}

impl SchemaCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let SchemaCommand::View { uri, folder } = self;
        let uri = SchemaUri::parse(&uri).ok_or_else(|| {
            let right = "iglu:VENDOR/NAME/jsonschema/MODEL-REVISION-ADDITION";
            UsageError(format!("{uri} is not a schema; right is {right}"))
        })?;
        let path = folder.join(uri.path());
        let about = || format!("the schema {}", path.display());
        let text = std::fs::read_to_string(&path).with_context(about)?;
        print(&write_view(&uri, &text).with_context(about)?);
        Ok(ExitCode::SUCCESS)
    }
}
