//! What the pages that visitors see say, in each of their languages.
//!
//! [`Text`] is the only list of the texts. Each language has a file with all of them, which would
//! not compile without one; a test holds the placeholders of the languages together.

mod danish;
mod english;
mod finnish;
mod norwegian;
mod swedish;

use crate::attribute::LEGAL_BASES;

/// A language of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Swedish,
    English,
    Danish,
    /// Bokmål.
    Norwegian,
    Finnish,
}

impl Language {
    /// Every language, in the order in which the pages offer them. `*` stands for the first of them
    /// that a header does not name, beginning with English.
    pub(crate) const ALL: [Language; 5] = [
        Language::Swedish,
        Language::English,
        Language::Danish,
        Language::Norwegian,
        Language::Finnish,
    ];

    /// Returns its tag of BCP 47, its own name for itself, what else it is called, and its texts.
    fn spec(
        self,
    ) -> (
        &'static str,
        &'static str,
        &'static [&'static str],
        &'static Text,
    ) {
        match self {
            Language::Swedish => ("sv", "Svenska", &[], &swedish::TEXT),
            Language::English => ("en", "English", &[], &english::TEXT),
            Language::Danish => ("da", "Dansk", &[], &danish::TEXT),
            // Readers of nynorsk read bokmål more easily than any other of these.
            Language::Norwegian => ("nb", "Norsk", &["no", "nn"], &norwegian::TEXT),
            Language::Finnish => ("fi", "Suomi", &[], &finnish::TEXT),
        }
    }

    /// Returns the tag of BCP 47.
    pub(crate) fn code(self) -> &'static str {
        self.spec().0
    }

    /// Returns the language's own name for itself.
    pub(crate) fn name(self) -> &'static str {
        self.spec().1
    }

    pub(crate) fn text(self) -> &'static Text {
        self.spec().3
    }

    /// Returns the language of a tag, whatever its region.
    pub(crate) fn from_name(tag: &str) -> Option<Language> {
        let primary = tag.split('-').next().unwrap_or_default();
        Language::ALL.into_iter().find(|language| {
            let (code, _, others, _) = language.spec();
            let mut names = others.iter().chain([&code]);
            names.any(|name| primary.eq_ignore_ascii_case(name))
        })
    }

    /// Returns the language that `Accept-Language` (RFC 9110, section 12.5.4) prefers of those that
    /// the pages have. `*` stands for every language that the header does not name. English is used
    /// where none is acceptable, as most readers of none of them know some English.
    pub(crate) fn choose(header: &str) -> Language {
        let ranges: Vec<(&str, u16)> = header.split(',').filter_map(parse_range).collect();
        let (mut best, mut best_weight) = (Language::English, 0);
        for (tag, weight) in &ranges {
            let language = match *tag {
                "*" => [Language::English]
                    .into_iter()
                    .chain(Language::ALL)
                    .find(|language| {
                        let mut tags = ranges.iter().map(|(tag, _)| Language::from_name(tag));
                        !tags.any(|named| named == Some(*language))
                    }),
                tag => Language::from_name(tag),
            };
            if let Some(language) = language
                && *weight > best_weight
            {
                (best, best_weight) = (language, *weight);
            }
        }
        best
    }
}

/// Parses one range of `Accept-Language` with its weight in thousandths; `None` if its weight is
/// none that RFC 9110, section 12.4.2, knows.
fn parse_range(range: &str) -> Option<(&str, u16)> {
    let (tag, weight) = range.split_once(';').unwrap_or((range, "q=1"));
    let (name, weight) = weight.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, part) = weight.trim().split_once('.').unwrap_or((weight.trim(), ""));
    let is_number = part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths: u16 = format!("{part:0<3}").parse().ok().filter(|_| is_number)?;
    match whole {
        "0" => Some((tag.trim(), thousandths)),
        "1" if thousandths == 0 => Some((tag.trim(), 1000)),
        _ => None,
    }
}

/// Replaces the first `{}` with a value.
pub(crate) fn fill(text: &str, value: &str) -> String {
    text.replacen("{}", value, 1)
}

/// Declares [`Text`] with its fields, and lists them for the tests.
macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident: $shape:ty,)*) => {
        /// Every text of the pages; [`fill`] replaces each `{}`.
        pub(crate) struct Text {
            $($(#[$doc])* pub(crate) $name: $shape,)*
        }

        #[cfg(test)]
        impl Text {
            /// Returns each field's name with the texts that it holds.
            fn fields(&self) -> Vec<(&'static str, Vec<&'static str>)> {
                vec![$((stringify!($name), tests::Flat::flat(&self.$name)),)*]
            }
        }
    };
}

texts! {
    title: &'static str,
    language: &'static str,
    contents: &'static str,
    lead: &'static str,
    who: &'static str,
    /// `{}` is the controller.
    controller: &'static str,
    contact: &'static str,
    policy: &'static str,
    /// `{}` is the authority.
    authority: &'static str,
    authority_unnamed: &'static str,
    why: &'static str,
    why_intro: &'static str,
    cookies: &'static str,
    /// `{}` is the name of the visitor cookie, then that of the choice cookie.
    cookies_why: &'static str,
    visits: &'static str,
    visits_why: &'static str,
    ads: &'static str,
    ads_why: &'static str,
    place: &'static str,
    place_why: &'static str,
    /// What is stored of the address: nothing, its beginning, all of it.
    address: [&'static str; 3],
    device: &'static str,
    device_why: &'static str,
    partner_id: &'static str,
    partner_id_why: &'static str,
    stored: &'static str,
    no_cookie: &'static str,
    nothing: &'static str,
    number: &'static str,
    made: &'static str,
    /// How long ago: today, yesterday, days ago.
    ago: [&'static str; 3],
    /// `{}` is the day of the month, the month, the year.
    day: &'static str,
    hits: &'static str,
    /// `{}` is how many are shown, then how many there are in all.
    hits_shown: &'static str,
    /// Where there are more than are counted: what takes the place of how many there are, and what
    /// follows.
    more_than: [&'static str; 2],
    kinds: [(&'static str, &'static str); 6],
    devices: [(&'static str, &'static str); 9],
    /// Shown once and shown more often; then the same for clicks.
    seen: [&'static str; 2],
    clicked: [&'static str; 2],
    ad_without_name: &'static str,
    tied: &'static str,
    tied_why: &'static str,
    tied_nothing: &'static str,
    /// What a device is called, by its kind; `{}` is the partner.
    tied_kinds: [(&'static str, &'static str); 4],
    /// `{}` is the reasons.
    tied_because: &'static str,
    tie_reasons: [(&'static str, &'static str); 6],
    /// The reason if none of these applies.
    tie_indirect: &'static str,
    /// `{}` is the first day, then the last.
    tied_since: &'static str,
    not_mine: &'static str,
    forget: &'static str,
    tied_buttons: &'static str,
    home: &'static str,
    home_why: &'static str,
    home_nothing: &'static str,
    home_never: &'static str,
    /// `{}` is with how many others, then on how many days, then at how many addresses.
    home_shared: &'static str,
    /// One other, two or three, four or more.
    home_others: [&'static str; 3],
    /// One day, more days.
    home_days: [&'static str; 2],
    /// One address, more addresses.
    home_addresses: [&'static str; 2],
    home_leave: &'static str,
    home_refuse: &'static str,
    groups: &'static str,
    groups_why: &'static str,
    groups_nothing: &'static str,
    groups_never: &'static str,
    /// `{}` is the day.
    group_since: &'static str,
    /// `{}` is the condition in words.
    group_because: &'static str,
    group_leave: &'static str,
    groups_leave: &'static str,
    groups_buttons: &'static str,
    sources: &'static str,
    sources_why: &'static str,
    /// `{}` is the supplier.
    source_supplier: &'static str,
    /// `{}` is the day, then the ground, then the last day.
    source_dates: &'static str,
    source_hashed: &'static str,
    source_object: &'static str,
    sources_buttons: &'static str,
    refused: &'static str,
    /// `{}` is the group.
    group_left: &'static str,
    /// `{}` is the supplier.
    source_objected: &'static str,
    take_back: &'static str,
    take_back_why: &'static str,
    /// In the order of the list of grounds.
    legal_bases: [&'static str; LEGAL_BASES.len()],
    choose: &'static str,
    /// `{}` is what is allowed, then what decided it.
    now: &'static str,
    now_nothing: &'static str,
    /// What decided it: the site, the visitor, GPC, a consent platform.
    by_default: &'static str,
    by_choice: &'static str,
    by_gpc: &'static str,
    by_platform: &'static str,
    /// Said where the site permits something that the visitor has not said yes to.
    unticked: &'static str,
    gpc: &'static str,
    allow: &'static str,
    /// For each flag of the permit: its name, its label, what it allows.
    flags: [(&'static str, &'static str, &'static str); 6],
    save: &'static str,
    platform: &'static str,
    download: &'static str,
    download_why: &'static str,
    download_button: &'static str,
    delete: &'static str,
    delete_why: &'static str,
    delete_button: &'static str,
    delete_ask: &'static str,
    delete_yes: &'static str,
    delete_no: &'static str,
    retention: &'static str,
    elsewhere: &'static str,
    places_from: &'static str,
    networks_from: &'static str,
    back: &'static str,
    done_choice: &'static str,
    done_erasure: &'static str,
    done_not_mine: &'static str,
    done_forget: &'static str,
    done_left: &'static str,
    done_objected: &'static str,
    away: &'static str,
    busy: &'static str,
    old_form: &'static str,
    framed: &'static str,
    site_unknown: &'static str,
    not_kept: &'static str,
    wrong: &'static str,
    months: [&'static str; 12],
    /// What a link that leads nowhere says: its heading, the reasons, what to do.
    link_title: &'static str,
    link_wrong: &'static str,
    link_old: &'static str,
    link_later: &'static str,
    link_back: &'static str,
    link_maker: &'static str,
    /// What the collector's own address says of it.
    root_title: &'static str,
    root_why: &'static str,
    root_privacy: &'static str,
    root_elsewhere: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hit::Permit;

    /// A text, or several in a fixed order.
    pub(super) trait Flat {
        fn flat(&self) -> Vec<&'static str>;
    }

    impl Flat for &'static str {
        fn flat(&self) -> Vec<&'static str> {
            vec![self]
        }
    }

    impl<T: Flat, const N: usize> Flat for [T; N] {
        fn flat(&self) -> Vec<&'static str> {
            self.iter().flat_map(Flat::flat).collect()
        }
    }

    impl Flat for (&'static str, &'static str) {
        fn flat(&self) -> Vec<&'static str> {
            vec![self.0, self.1]
        }
    }

    impl Flat for (&'static str, &'static str, &'static str) {
        fn flat(&self) -> Vec<&'static str> {
            vec![self.0, self.1, self.2]
        }
    }

    #[test]
    fn every_language_has_every_text_with_the_same_placeholders() {
        let english = Language::English.text().fields();
        for language in Language::ALL {
            for ((name, texts), (_, of_english)) in language.text().fields().iter().zip(&english) {
                assert_eq!(texts.len(), of_english.len(), "{name}");
                for (text, other) in texts.iter().zip(of_english) {
                    let places = |text: &str| text.matches("{}").count();
                    assert!(!text.trim().is_empty(), "{language:?} {name}");
                    assert_eq!(places(text), places(other), "{language:?} {name}: {text}");
                    assert_eq!(text.trim(), *text, "{language:?} {name}");
                    assert_eq!(text.matches(['{', '}']).count(), places(text) * 2, "{text}");
                }
            }
        }
    }

    #[test]
    fn what_a_program_looks_up_by_name_has_the_same_names_in_each_language() {
        let names = |t: &Text| {
            let mut names: Vec<&str> = t.kinds.iter().map(|(name, _)| *name).collect();
            names.extend(t.devices.iter().map(|(name, _)| *name));
            names.extend(t.tied_kinds.iter().map(|(name, _)| *name));
            names.extend(t.tie_reasons.iter().map(|(name, _)| *name));
            names
        };
        for language in Language::ALL {
            assert_eq!(names(language.text()), names(Language::English.text()));
        }
    }

    #[test]
    fn the_language_is_the_one_that_the_reader_prefers() {
        for (header, language) in [
            ("sv-SE,sv;q=0.9,en-US;q=0.8,en;q=0.7", Language::Swedish),
            ("en-GB,en;q=0.9,sv;q=0.8", Language::English),
            ("de,sv;q=0.3", Language::Swedish),
            ("SV", Language::Swedish),
            ("sv;q=0.4, en;q=0.5", Language::English),
            ("sv;q=0", Language::English),
            ("svx", Language::English),
            ("de", Language::English),
            ("*", Language::English),
            ("", Language::English),
            ("sv;q=x,;;,=", Language::English),
            ("en;q=0.5, sv;q=inf", Language::English),
            ("en;q=0.5, sv;q=nan", Language::English),
            ("en;q=0.5, sv;q=7", Language::English),
            ("en;q=0.5, sv;q=1.001", Language::English),
            ("en;q=0.5, sv;q=0.5001", Language::English),
            ("en;q=0.5, sv;q=-1", Language::English),
            ("en;q=0.5 , sv ; Q = 0.501", Language::Swedish),
            ("en;q=0.9, sv;q=1.000", Language::Swedish),
            ("en;q=0, *", Language::Swedish),
            ("sv;q=0.2, *;q=0.8", Language::English),
            ("sv;q=0.8, *;q=0.2", Language::Swedish),
            ("en;q=0.1, *", Language::Swedish),
            ("sv, en", Language::Swedish),
            ("sv-FI", Language::Swedish),
            ("da-DK,da;q=0.9,en;q=0.8", Language::Danish),
            (
                "nb-NO,nb;q=0.9,no;q=0.8,nn;q=0.7,en;q=0.5",
                Language::Norwegian,
            ),
            ("nn", Language::Norwegian),
            ("no", Language::Norwegian),
            ("fi-FI,fi;q=0.9,sv;q=0.5", Language::Finnish),
            ("fil, is, et;q=0.9", Language::English),
            ("en;q=0, sv;q=0, da;q=0, nb;q=0, *;q=0.1", Language::Finnish),
        ] {
            assert_eq!(Language::choose(header), language, "{header}");
        }
    }

    #[test]
    fn each_language_explains_each_flag_in_the_order_of_the_permit() {
        for language in Language::ALL {
            let names = language.text().flags.map(|(name, ..)| name);
            assert_eq!(names, Permit::NAMED.map(|(name, _)| name));
        }
    }
}
