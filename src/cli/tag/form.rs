//! The form of the admin listener that makes the same tags as the command.

use askama::Template;

use super::{AdTags, Tag, check_origin};
use crate::cli::UsageError;
use crate::cli::ad::{AdOptions, find_partner};
use crate::config::Config;
use crate::keys::ClickKeyring;

/// The fields of the form that name the ad, with what is written beside them.
const AD_FIELDS: [(&str, &str); 4] = [
    ("campaign", "Campaign"),
    ("creative", "Creative"),
    ("placement", "Placement"),
    ("publisher", "Publisher"),
];

/// The command's options that a message may begin with, with what the form calls them.
const OPTIONS: [(&str, &str); 3] = [
    ("--at", "Where the collector is reached"),
    ("--site", "Site"),
    ("--size", "Size"),
];

#[derive(Template)]
#[template(path = "tags.html")]
struct Page<'p> {
    sites: Vec<Choice<'p>>,
    partners: Vec<Choice<'p>>,
    /// Where the collector is reached, the size, the target.
    at: String,
    size: String,
    click: String,
    wants_click_id: bool,
    fields: Vec<Field>,
    wrong: Option<String>,
    warnings: Vec<String>,
    made: Vec<AdTags>,
}

struct Choice<'p> {
    key: &'p str,
    is_chosen: bool,
    /// What to know of it before it is chosen.
    remark: &'static str,
}

struct Field {
    name: &'static str,
    label: &'static str,
    value: String,
}

/// Returns the page for what a query says, with the tags if it says enough.
pub(crate) fn make_page(config: &Config, keyring: &ClickKeyring, query: &str) -> String {
    let read: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name.into_owned(), value.trim().to_owned()))
        .collect();
    let value = |name: &str| {
        let found = read.iter().find(|(known, _)| known == name);
        found.map_or_else(String::new, |(_, value)| value.clone())
    };
    let given = |name: &str| Some(value(name)).filter(|value| !value.is_empty());
    let mut ad = AdOptions::default();
    for name in ["site", "campaign", "creative", "placement", "publisher"] {
        ad.set(name, &value(name));
    }
    let tag = Tag {
        at: value("at"),
        partner: given("partner"),
        protocol: None,
        ad,
        size: given("size"),
        click: given("click"),
        click_id: given("click_id").is_some(),
        csv: None,
    };
    let (made, warnings, wrong) = match query.is_empty() {
        true => (Vec::new(), Vec::new(), None),
        false => match make(&tag, config, keyring) {
            Ok((made, warnings)) => {
                let warnings = warnings.into_iter().map(name_field).collect();
                (made, warnings, None)
            }
            Err(UsageError(wrong)) => (Vec::new(), Vec::new(), Some(name_field(wrong))),
        },
    };
    let chosen = |name: &str, key: &str| value(name) == key;
    let page = Page {
        sites: config
            .sites
            .iter()
            .map(|site| Choice {
                key: &site.key,
                is_chosen: chosen("site", &site.key),
                remark: "",
            })
            .collect(),
        partners: config
            .partners
            .iter()
            .map(|partner| Choice {
                key: &partner.key,
                is_chosen: chosen("partner", &partner.key),
                remark: match (partner.mapping, partner.gvl_id) {
                    (None, _) => " (no mapping)",
                    (_, None) => " (no gvl_id)",
                    _ => "",
                },
            })
            .collect(),
        at: tag.at,
        size: value("size"),
        click: value("click"),
        wants_click_id: tag.click_id,
        fields: AD_FIELDS
            .iter()
            .map(|(name, label)| Field {
                name,
                label,
                value: value(name),
            })
            .collect(),
        wrong,
        warnings,
        made,
    };
    // Writing the template to a text cannot fail.
    page.render().unwrap_or_default()
}

/// Names the form's field in a message that begins with the command's option.
fn name_field(message: String) -> String {
    let named = OPTIONS.iter().find_map(|(option, label)| {
        let rest = message.strip_prefix(option)?;
        rest.starts_with(' ').then(|| format!("“{label}”{rest}"))
    });
    named.unwrap_or(message)
}

fn make(
    tag: &Tag,
    config: &Config,
    keyring: &ClickKeyring,
) -> Result<(Vec<AdTags>, Vec<String>), UsageError> {
    check_origin(&tag.at)?;
    let key = tag.partner.as_deref().unwrap_or_default();
    let partner = find_partner(config, "partner ", key)?;
    let made = tag.make(config, partner, keyring)?;
    Ok((made, tag.warnings(config, partner)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[[site]]\nkey = \"shop\"\n\
        [[partner]]\nkey = \"net\"\nmapping = \"ttd\"\nsite = \"shop\"\n\
        [[partner]]\nkey = \"known\"\nmapping = \"adform\"\ngvl_id = 50\nsite = \"shop\"\n";

    fn page(query: &str) -> String {
        let config = Config::parse(CONFIG, []).expect("a right configuration");
        let keyring = ClickKeyring::new([(1, &[7; 32][..])]);
        make_page(&config, &keyring, query)
    }

    #[test]
    fn the_form_makes_the_tags_of_the_command_and_warns_where_a_vendor_is_missing() {
        let empty = page("");
        assert!(!empty.contains("<pre") && !empty.contains("role=\"alert\""));
        assert!(empty.contains("net (no gvl_id)"), "{empty}");
        let made = page(
            "at=https%3A%2F%2Fpx.example&partner=net&campaign=spring&click=https%3A%2F%2Fshop.example%2F",
        );
        assert!(made.contains("partner=net&#38;campaign=spring"), "{made}");
        assert!(made.contains("%%TTD_CLK%%https://px.example/c?"), "{made}");
        assert!(made.contains("partner net has no gvl_id"), "{made}");
        let known = page("at=https%3A%2F%2Fpx.example&partner=known");
        assert!(known.contains("${GDPR_CONSENT_50}"), "{known}");
        assert!(!known.contains("role=\"alert\""), "{known}");
    }

    #[test]
    fn what_is_not_known_is_refused_in_words_and_shown_as_text() {
        for (query, said) in [
            ("at=https://px.example&partner=nte", "did you mean net?"),
            ("at=https://px.example&partner=", "one of net, known"),
            (
                "at=https://px.example&partner=net&site=shpo",
                "did you mean shop?",
            ),
            (
                "at=px.example&partner=net",
                "“Where the collector is reached” px.example: an origin such as",
            ),
            (
                "at=https://px.example&partner=net&size=big",
                "“Size” big: a size such as",
            ),
            (
                "at=https://px.example&partner=net&site=shpo",
                "“Site” shpo: is not in the configuration",
            ),
            (
                "at=https://px.example&partner=%3Cscript%3E",
                "&#60;script&#62;",
            ),
        ] {
            let page = page(query);
            assert!(page.contains("role=\"alert\""), "{query}");
            assert!(page.contains(said), "{query}: {page}");
            assert!(!page.contains("<script>") && !page.contains("<pre"));
            let (_, said) = page.split_once("role=\"alert\">").expect("an alert");
            assert!(!said.starts_with("--"), "the command's words: {said}");
        }
    }
}
