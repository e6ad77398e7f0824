//! Who is responsible for a site's data, as the configuration says it.

use crate::config::Site;
use crate::edge::text::{Text, fill};

/// Who is responsible for a site's data.
#[derive(Default)]
pub(super) struct Responsible {
    pub(super) controller: Option<String>,
    /// Its words, and where it leads.
    pub(super) contact: Option<(String, String)>,
    pub(super) authority: String,
    pub(super) policy: Option<String>,
}

/// Returns what the page says of who is responsible for a site's data.
pub(super) fn name_responsible(t: &Text, site: &Site) -> Responsible {
    let contact = site.contact.as_ref().map(|contact| {
        let link = match contact.contains("://") {
            true => contact.clone(),
            false => format!("mailto:{contact}"),
        };
        (contact.clone(), link)
    });
    let controller = site.controller.as_ref();
    Responsible {
        controller: controller.map(|controller| fill(t.controller, controller)),
        contact,
        authority: match &site.authority {
            Some(authority) => fill(t.authority, authority),
            None => t.authority_unnamed.to_owned(),
        },
        policy: site.policy.clone(),
    }
}
