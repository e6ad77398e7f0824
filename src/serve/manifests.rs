//! The manifests of partners' callbacks.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::clock;
use crate::config::{Config, Partner, Unusable};
use crate::import::Manifest;
use crate::import::callback::{CallbackManifests, PartnerManifest};
use crate::loader::sink::NamedManifests;

/// Reads them. One that is wrong, or whose time is over, is told of; the collector starts without
/// it, for hits matter more, and keeps nothing of what it names.
pub(super) fn read(config: &Config) -> CallbackManifests {
    let mut all = CallbackManifests::default();
    for (partner, path) in find_manifests(config) {
        let known = match read_one(config, partner, path) {
            Ok(manifest) => PartnerManifest::Right(Box::new(manifest)),
            Err(error) => {
                tracing::error!(
                    "the callbacks of {} bring no attributes: {error}",
                    partner.key
                );
                match fs::read_to_string(path) {
                    Ok(text) => PartnerManifest::wrong(&text),
                    Err(_) => PartnerManifest::Unreadable,
                }
            }
        };
        all.0.insert(partner.key.clone(), known);
    }
    all
}

/// Returns those that the loader is to work with.
pub(super) fn for_loader(config: &Config, all: &CallbackManifests) -> NamedManifests {
    let right = all.0.iter().filter_map(|(partner, known)| match known {
        PartnerManifest::Right(manifest) => Some((partner.clone(), Manifest::clone(manifest))),
        PartnerManifest::Wrong(_) | PartnerManifest::Unreadable => None,
    });
    NamedManifests {
        manifests: right.collect(),
        user_keys: config.user.keys.clone(),
    }
}

/// Returns what is wrong with them.
pub(super) fn check(config: &Config) -> Vec<Unusable> {
    let wrong = find_manifests(config).filter_map(|(partner, path)| {
        let error = read_one(config, partner, path).err()?;
        let at = config
            .partners
            .iter()
            .position(|known| known.key == partner.key)?;
        Some(Unusable::new(format!("partner[{at}].attributes"), error))
    });
    wrong.collect()
}

fn find_manifests(config: &Config) -> impl Iterator<Item = (&Partner, &Path)> {
    let partners = config.partners.iter();
    partners.filter_map(|partner| Some((partner, partner.attributes.as_deref()?)))
}

/// Returns the UTC day.
fn today() -> Result<Date, String> {
    let now = Timestamp::from_microsecond(clock::now().0);
    let now = now.map_err(|error| error.to_string())?;
    Ok(TimeZone::UTC.to_datetime(now).date())
}

fn read_one(config: &Config, partner: &Partner, path: &Path) -> Result<Manifest, String> {
    let of_file = |error: String| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| of_file(error.to_string()))?;
    let manifest = Manifest::parse(&text, today()?, &config.import.classes)
        .map_err(|error| of_file(error.to_string()))?;
    manifest
        .check_for_callbacks(&partner.key)
        .map_err(of_file)?;
    Ok(manifest)
}
