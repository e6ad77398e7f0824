//! `avtryck device`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::{UsageError, complain, print};
use crate::config::Config;
use crate::enrich::{self, AliasKind, MakerAndName, ModelNames};

/// The longest text that is looked up, in bytes.
const TEXT_BYTES_MAX: usize = 128;
/// The most models that are printed.
const MODELS_MAX: usize = 50;

/// Print what a model of a device is called, by its code (SM-S918B, iPhone15,3) or its name: maker,
/// name, family, year and every other name. Exit status 1 if it is not known. It needs the file of
/// names and no database.
#[derive(clap::Args)]
pub(super) struct DeviceCommand {
    /// A code, a name with or without its maker, or a codename. Case does not matter.
    #[arg(required = true)]
    model: Vec<String>,
    /// The file of names, instead of device.models.
    #[arg(long)]
    models: Option<PathBuf>,
}

impl DeviceCommand {
    pub(super) fn run(self, file: Option<&Path>) -> anyhow::Result<ExitCode> {
        let text = self.model.join(" ");
        if text.trim().is_empty() || text.len() > TEXT_BYTES_MAX {
            return Err(UsageError(format!(
                "a code or a name of 1 to {TEXT_BYTES_MAX} bytes would be right"
            ))
            .into());
        }
        // Names of models need no site and no database, so other mistakes do not matter here.
        let configured = || Config::examine(file, std::env::vars_os()).0.device.models;
        let path = self.models.unwrap_or_else(configured);
        let (names, skipped) = enrich::open_models(&path)
            .context("the names of models cannot be read; script/fetch models makes the file")?;
        if let Some(skipped) = skipped {
            complain(&skipped.to_string());
        }
        Ok(print_models(&names, &text, &path))
    }
}

fn print_models(names: &ModelNames, text: &str, path: &Path) -> ExitCode {
    let models = describe(names, text);
    if models.is_empty() {
        let count = names.len();
        complain(&format!(
            "{text}: no model is known by this code or name; {} has {count} names",
            path.display()
        ));
        return ExitCode::FAILURE;
    }
    print(&models.join("\n"));
    ExitCode::SUCCESS
}

/// Returns a text about each model that may be meant.
fn describe(names: &ModelNames, text: &str) -> Vec<String> {
    let found = names.find(text);
    let mut models: Vec<MakerAndName> = Vec::new();
    for name in &found {
        let model = (name.maker.to_owned(), name.name.clone());
        if !models.contains(&model) {
            models.push(model);
        }
    }
    let left = models.len().saturating_sub(MODELS_MAX);
    models.truncate(MODELS_MAX);
    let wanted: HashSet<MakerAndName> = models.iter().cloned().collect();
    let aliases = names.aliases(&wanted);
    let mut texts: Vec<String> = Vec::new();
    for model in models {
        let (maker, name) = &model;
        let of_model = found
            .iter()
            .filter(|it| it.maker == maker && it.name == *name);
        let sources: Vec<String> = of_model
            .clone()
            .map(|it| format!("{} {}", it.source, it.source_version))
            .collect();
        let family = of_model.clone().map(|it| it.family.as_str()).next();
        let mut lines = vec![
            format!("maker     {maker}"),
            format!("name      {name}"),
            format!("family    {}", family.unwrap_or(name)),
        ];
        lines.extend(
            of_model
                .clone()
                .find_map(|it| it.released)
                .map(|year| format!("released  {year}")),
        );
        for (kind, title) in [
            (AliasKind::Code, "codes     "),
            (AliasKind::Name, "names     "),
            (AliasKind::Codename, "codenames "),
        ] {
            let of_kind = aliases.get(&model).into_iter().flatten();
            let of_kind = of_kind.filter(|(alias, its)| **its == kind && *alias != name);
            let of_kind: Vec<&str> = of_kind.map(|(alias, _)| alias.as_str()).collect();
            if !of_kind.is_empty() {
                lines.push(format!("{title}{}", of_kind.join("; ")));
            }
        }
        lines.push(format!("source    {}\n", sources.join(", ")));
        texts.push(lines.join("\n"));
    }
    if left > 0 {
        texts.push(format!("{left} more; add the maker or more of the name\n"));
    }
    texts
}
