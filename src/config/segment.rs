//! `[[segment]]`: groups of subjects.

use std::path::Path;

use super::document::{ConfigText, suggest};
use super::in_force::Kept;
use super::keys::NAME;
use super::read::{ConfigReader, name_table};
use super::table::keys;
use super::{Config, ConfigErrors, value};
use crate::enrich::Sensitive;
use crate::segment::{Book, Definition, Guards, Mistake, SegmentScope};

keys! {
    /// `[[segment]]`: a group of subjects, by what is known of them. See docs/segments.md.
    #[derive(Clone, Debug)]
    pub struct SegmentConfig in [segment] {
        /// What pages and partners know it by. It leaves the house, so it should say little.
        reload key: String = required(NAME, value::name);
        /// What visitors are told that it is called, in Swedish; the key if there is no name.
        reload name_sv: String = one("", value::TITLE, value::title);
        /// The same in English.
        reload name_en: String = one("", value::TITLE, value::title);
        /// Who is in it: an expression in SQL over the view `profile`, such as
        /// events('view_phone', '14 days') >= 3.
        reload expression as "where": String = required(value::EXPRESSION, value::expression);
        /// Whose facts count: the device's; the owner's, with all of their devices; or the
        /// household's, which has attributes only.
        reload scope: SegmentScope =
            one("device", "device, owner or household", SegmentScope::from_name);
        /// The sites whose pages may be told who is in it.
        reload expose: Vec<String> = list("keys of sites", value::name);
        /// The partners that may be told.
        reload partners: Vec<String> = list("keys of partners", value::name);
        /// With fewer members nobody is told of it.
        reload min_size: u64 = one("100", "50 to 1000000", value::whole(50..=1_000_000));
        /// The last day on which it is used. Empty: no end.
        reload until: Option<jiff::civil::Date> =
            optional("a date such as 2027-06-01", value::parse);
        /// What allows a segment of special, credit or minor attributes.
        reload is_consented as "basis": bool =
            one("", "explicit_consent, or nothing", value::basis);
    }
}

impl Config {
    /// Reads the segments of a file as if they stood here, in place of those with the same keys and
    /// before the others. Returns the configuration with them, and how many they are.
    ///
    /// # Errors
    /// All mistakes at once.
    pub(crate) fn with_segments_of(&self, file: &Path) -> Result<(Config, usize), ConfigErrors> {
        let mut reader = ConfigReader::new(&ConfigText::read(Some(file)), [], Kept::new());
        let added: Vec<SegmentConfig> = reader.tables();
        let (mut config, count) = (self.clone(), added.len());
        let is_replaced = |known: &SegmentConfig| added.iter().any(|new| new.key == known.key);
        config.segments.retain(|known| !is_replaced(known));
        // The places of those that the file has are those of the file.
        config.segments.splice(0..0, added);
        if reader.file_was_read() {
            if count == 0 {
                let error = "segment: the file has no [[segment]]; one would be right";
                reader.add_error("segment", error);
            }
            check(&config, &mut reader);
        }
        let (_, mistakes) = reader.finish();
        mistakes.into_result().map(|()| (config, count))
    }

    /// Reads the segments.
    ///
    /// # Errors
    /// The mistakes, each with the index of its segment.
    pub fn book(&self) -> Result<Book, Vec<(usize, Mistake)>> {
        let definitions = self.segments.iter().map(|segment| Definition {
            key: &segment.key,
            names: segment.names(),
            expression: &segment.expression,
            scope: segment.scope,
            is_consented: segment.is_consented,
            min_size: segment.min_size,
            is_exported: !segment.partners.is_empty(),
            last_day: segment.until.map(days_since_1970),
        });
        let sensitive = Sensitive::new(&self.category.sensitive);
        let guards = Guards {
            classes: &self.import.classes,
            is_sensitive: &|category| sensitive.has(category),
        };
        Book::read(&definitions.collect::<Vec<_>>(), &guards)
    }
}

impl SegmentConfig {
    /// Returns what visitors are told that it is called, in Swedish and in English.
    #[must_use]
    pub fn names(&self) -> [&str; 2] {
        [&self.name_sv, &self.name_en].map(|name| match &**name {
            "" => &*self.key,
            name => name,
        })
    }
}

fn days_since_1970(date: jiff::civil::Date) -> i32 {
    let span = date.since((jiff::Unit::Day, jiff::civil::date(1970, 1, 1)));
    span.map_or(i32::MAX, |span| span.get_days())
}

/// Reports what is wrong with segments.
pub(super) fn check(config: &Config, reader: &mut ConfigReader) {
    let sites: Vec<&str> = config.sites.iter().map(|site| &*site.key).collect();
    let partners: Vec<&str> = config.partners.iter().map(|known| &*known.key).collect();
    for (index, segment) in config.segments.iter().enumerate() {
        for (field, what, named, known) in [
            ("expose", "site", &segment.expose, &sites),
            ("partners", "partner", &segment.partners, &partners),
        ] {
            if !reader.knows_all(what, known.iter().copied()) {
                continue;
            }
            for (at, name) in named.iter().enumerate() {
                if known.contains(&&**name) {
                    continue;
                }
                let right = match suggest(known.iter().copied(), name) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => "the key of one would be right".to_owned(),
                };
                let own = name_table("segment", index, &segment.key);
                let error = format!("{own}, {field}: {name} is no {what}; {right}");
                reader.add_error(&format!("segment[{index}].{field}[{at}]"), &error);
            }
        }
    }
    let keys = config.segments.iter().map(|segment| &*segment.key);
    let knows_segments = reader.knows_all("segment", keys);
    for (index, mistake) in config.book().err().into_iter().flatten() {
        let key = config
            .segments
            .get(index)
            .map_or("", |segment| &segment.key);
        let mistake = mistake.to_string();
        // The name may be that of a segment whose key is missing or wrong.
        if !knows_segments && mistake.contains(" is no segment;") {
            continue;
        }
        let error = format!("{}, where: {mistake}", name_table("segment", index, key));
        reader.add_error(&format!("segment[{index}].where"), &error);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const SITE: &str = "[[site]]\nkey = \"shop\"\n";

    fn segment(key: &str, rest: &str) -> String {
        format!("[[segment]]\nkey = \"{key}\"\n{rest}\n")
    }

    #[test]
    fn a_mistake_in_a_condition_has_the_line_of_the_file_and_its_own() {
        let text = format!(
            "{SITE}{}{}",
            segment("a", "where = \"\"\"\ndays_active > 3\nand os = 4\"\"\""),
            segment("b", "where = \"in_segment('c')\"\nexpose = [\"shpo\"]")
        );
        let errors = Config::parse(&text, []).unwrap_err();
        assert_eq!(
            errors.0,
            [
                "line 5: segment a, where: line 2, column 10: 4 is a number; a text would be right",
                "line 10: segment b, where: line 1, column 1: c is no segment; the key of one would be right",
                "line 11: segment b, expose: shpo is no site; did you mean shop?",
            ]
        );
    }

    #[test]
    fn what_the_configuration_allows_decides_which_classes_a_segment_may_use() {
        let consented = "where = \"credit_band = 'low'\"\nbasis = \"explicit_consent\"";
        let text = format!("{SITE}{}", segment("a", consented));
        assert!(Config::parse(&text, []).is_err());
        let allowed = format!("[import]\nclasses = [\"credit\"]\n{text}");
        assert_eq!(Config::parse(&allowed, []).unwrap().segments.len(), 1);
        let sensitive = segment("b", "where = \"pages('Religion', '9 days') > 0\"");
        let errors = Config::parse(&format!("{SITE}{sensitive}"), []).unwrap_err();
        assert!(errors.0[0].contains("a sensitive category"), "{errors}");
    }

    #[test]
    fn a_file_of_segments_is_read_beside_those_of_the_configuration() {
        let running = format!("{SITE}{}", segment("a", "where = \"true\""));
        let config = Config::parse(&running, []).unwrap();
        let read = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            config.with_segments_of(file.path()).map(|(config, count)| {
                let keys = config.segments.into_iter().map(|segment| segment.key);
                (keys.collect::<Vec<_>>(), count)
            })
        };
        let both = segment("b", "where = \"not in_segment('a')\"");
        assert_eq!(
            read(&both).unwrap(),
            (vec!["b".to_owned(), "a".to_owned()], 1)
        );
        let same = segment("a", "where = \"false\"");
        assert_eq!(read(&same).unwrap(), (vec!["a".to_owned()], 1));
        for wrong in [
            "",
            "[[segment]]\nkey = \"c\"",
            &segment("a", "where = \"in_segment('a')\""),
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
