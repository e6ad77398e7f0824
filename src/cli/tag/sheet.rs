//! Tags of many ads: a row of CSV in, a row with its tags out.

use std::io::Read;
use std::path::Path;

use anyhow::Context as _;

use super::{AdTags, Tag};
use crate::cli::UsageError;

/// The most ads of one file: more than any campaign has.
const ADS_MAX: usize = 100_000;
/// The columns that are added.
const ADDED: [&str; 4] = ["network", "impression", "click_url", "vast"];

/// One ad of a file: the names of its columns, and its values.
pub(super) struct AdRow<'r> {
    columns: &'r csv::StringRecord,
    values: &'r csv::StringRecord,
}

impl AdRow<'_> {
    /// Returns the command as it is for this ad.
    pub(super) fn tag(&self, tag: &Tag) -> Result<Tag, UsageError> {
        let mut tag = tag.clone();
        for (name, value) in self.columns.iter().zip(self.values) {
            let (name, value) = (name.trim(), value.trim());
            let given = || (!value.is_empty()).then(|| value.to_owned());
            match name {
                "size" => tag.size = given().or(tag.size),
                "click" => tag.click = given().or(tag.click),
                _ => {
                    if !tag.ad.set(name, value) {
                        return Err(UsageError(format!(
                            "column {name}: is not known; campaign, creative, placement, publisher, size, click \
                             or site would be right"
                        )));
                    }
                }
            }
        }
        Ok(tag)
    }
}

/// Reads ads from a file, or from the standard input where it is called `-`, and writes them with
/// the tags that `make` makes of each.
pub(super) fn fill(
    file: &Path,
    make: impl Fn(&AdRow<'_>) -> Result<Vec<AdTags>, UsageError>,
) -> anyhow::Result<String> {
    let name = file.display();
    let input: Box<dyn Read> = match file.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => {
            let opened = std::fs::File::open(file);
            Box::new(opened.with_context(|| format!("opening {name}"))?)
        }
    };
    fill_rows(&name.to_string(), input, make)
}

fn fill_rows(
    name: &str,
    input: impl Read,
    make: impl Fn(&AdRow<'_>) -> Result<Vec<AdTags>, UsageError>,
) -> anyhow::Result<String> {
    let mut reader = csv::Reader::from_reader(input);
    let columns = reader.headers().with_context(|| name.to_owned())?.clone();
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns.iter().chain(ADDED))?;
    for (index, values) in reader.records().enumerate() {
        let values = values.with_context(|| name.to_owned())?;
        let line = values.position().map_or(0, csv::Position::line);
        if index >= ADS_MAX {
            let error = format!("{name}, line {line}: there are more than {ADS_MAX} ads");
            return Err(UsageError(error).into());
        }
        let row = AdRow {
            columns: &columns,
            values: &values,
        };
        let made = make(&row)
            .map_err(|UsageError(wrong)| UsageError(format!("{name}, line {line}: {wrong}")))?;
        for tags in made {
            let text = |part: Option<String>| part.unwrap_or_default();
            let added = [
                tags.network.to_owned(),
                text(tags.impression),
                text(tags.click),
                text(tags.vast),
            ];
            let given = values.iter().map(guard_formula);
            writer.write_record(given.chain(added))?;
        }
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

/// Keeps a spreadsheet from taking a value for a formula.
fn guard_formula(value: &str) -> String {
    match value.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{value}"),
        false => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> anyhow::Result<String> {
        fill_rows("ads.csv", text.as_bytes(), |row| {
            let place = row.columns.iter().position(|name| name == "placement");
            let place = place.and_then(|at| row.values.get(at)).unwrap_or_default();
            if place == "wrong" {
                return Err(UsageError(format!("{place} is wrong")));
            }
            Ok(vec![AdTags {
                network: "Net",
                impression: Some(format!("https://px.example/i.gif?placement={place}")),
                click: None,
                notices: Vec::new(),
                vast: None,
            }])
        })
    }

    #[test]
    fn a_row_comes_back_with_its_tags() {
        let out = filled("placement,campaign\ntop,\"a, b\"\nside,=1+1\n");
        assert_eq!(
            out.expect("CSV"),
            "placement,campaign,network,impression,click_url,vast\n\
             top,\"a, b\",Net,https://px.example/i.gif?placement=top,,\n\
             side,'=1+1,Net,https://px.example/i.gif?placement=side,,\n"
        );
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let wrong = filled("placement\ntop\nside\nwrong\n").expect_err("a mistake");
        assert_eq!(format!("{wrong:#}"), "ads.csv, line 4: wrong is wrong");
        assert!(filled("placement,x\ntop\n").is_err(), "a value is missing");
    }
}
