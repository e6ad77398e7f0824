//! The modules of the tag: parts of it that are in the file only where they are asked for.

/// Makes the table of [`TagModule`] from the names. `make tag` makes the minified files.
macro_rules! modules {
    ($($name:literal)+) => {
        /// Each module: its name, and its text, a function that takes the tag.
        const MODULES: [(&str, &str); [$($name),+].len()] = [$((
            $name,
            include_str!(concat!("../../assets/module/", $name, ".min.js")).trim_ascii(),
        )),+];
    };
}

modules! {
    "chosen" "context" "debug" "downloads" "ecommerce" "engagement" "errors" "filter" "fit" "forms" "hash"
    "linked" "links" "media" "navigation" "notfound" "offline" "outbound" "platform" "query"
    "recorded" "rescue" "scroll" "segments" "set" "stored" "user" "vitals"
}

/// What is right as the name of a module.
pub(super) const NAMES: &str = "chosen, context, debug, downloads, ecommerce, engagement, errors, filter, \
     fit, forms, hash, linked, links, media, navigation, notfound, offline, outbound, platform, query, \
     recorded, rescue, scroll, segments, set, stored, user or vitals";

/// A module of the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagModule(usize);

impl TagModule {
    /// Returns every module.
    pub fn all() -> impl Iterator<Item = TagModule> {
        (0..MODULES.len()).map(TagModule)
    }

    /// Returns the module of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<TagModule> {
        TagModule::all().find(|module| module.name() == name)
    }

    fn row(self) -> (&'static str, &'static str) {
        MODULES.get(self.0).copied().unwrap_or_default()
    }

    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Returns its text: a function in JavaScript that takes the tag.
    #[must_use]
    pub fn text(self) -> &'static str {
        self.row().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_module_is_found_by_its_name_and_named_where_a_name_is_wrong() {
        let names: Vec<&str> = NAMES
            .split(", ")
            .flat_map(|part| part.split(" or "))
            .collect();
        let known: Vec<&str> = TagModule::all().map(TagModule::name).collect();
        assert_eq!(names, known);
        for module in TagModule::all() {
            assert_eq!(TagModule::from_name(module.name()), Some(module));
            assert!(module.text().contains("=>"), "{}", module.text());
        }
        assert_eq!(TagModule::from_name("clairvoyance"), None);
    }
}
