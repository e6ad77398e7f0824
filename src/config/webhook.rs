//! `[[webhook]]`, and what partners are sent.

use std::fmt;

use super::document::suggest;
use super::keys::{DELIVERY_URL, NAME, SECRET};
use super::read::{ConfigReader, name_table};
use super::table::keys;
use super::{Config, value};
use crate::export::ExportId;

keys! {
    /// `[[webhook]]`: one of the operator's own servers, which `avtryck export --webhook` tells who
    /// comes into segments and leaves them. See docs/export.md.
    #[derive(Clone)]
    pub struct Webhook in [webhook] {
        /// Its name on the command line.
        reload key: String = required(NAME, value::name);
        /// Where deliveries are sent.
        reload url: String = required(DELIVERY_URL, value::delivery_url);
        /// Signs them.
        reload secret: String = secret("", SECRET, value::secret);
        /// The segments that it is told of.
        reload segments: Vec<String> = list("keys of segments", value::name);
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("key", &self.key)
            .field("url", &self.url)
            .field("segments", &self.segments)
            .finish_non_exhaustive()
    }
}

/// Reports what is wrong with webhooks, and with what partners are sent.
pub(super) fn check(config: &Config, reader: &mut ConfigReader) {
    let segments: Vec<&str> = config.segments.iter().map(|known| &*known.key).collect();
    let knows_segments = reader.knows_all("segment", segments.iter().copied());
    for (index, webhook) in config.webhooks.iter().enumerate() {
        let own = name_table("webhook", index, &webhook.key);
        if webhook.secret.is_empty() {
            let error = format!("{own}, secret: none; {SECRET} would be right");
            reader.add_error(&format!("webhook[{index}].secret"), &error);
        }
        for (at, name) in webhook.segments.iter().enumerate() {
            if !knows_segments || segments.contains(&&**name) {
                continue;
            }
            let right = match suggest(segments.iter().copied(), name) {
                Some(nearest) => format!("did you mean {nearest}?"),
                None => "the key of one would be right".to_owned(),
            };
            let error = format!("{own}, segments: {name} is no segment; {right}");
            reader.add_error(&format!("webhook[{index}].segments[{at}]"), &error);
        }
    }
    for (index, partner) in config.partners.iter().enumerate() {
        let own = name_table("partner", index, &partner.key);
        let mut report = |field: &str, error: &str| {
            let error = format!("{own}, {field}: {error}");
            reader.add_error(&format!("partner[{index}].{field}"), &error);
        };
        if partner.export_id == ExportId::User && partner.export_key.is_empty() {
            report(
                "export_key",
                "none, and export_id is user; a key of this partner alone would be right",
            );
        }
        if !partner.export_url.is_empty() && partner.export_secret.is_empty() {
            report(
                "export_secret",
                "none, and deliveries are signed by it; one would be right",
            );
        }
        if !partner.export_url.is_empty() && partner.export_dir.is_some() {
            report(
                "export_dir",
                "export_url stands beside it; one of both would be right",
            );
        }
        let others = config.partners.iter().take(index);
        let mut same = others.filter(|other| other.export_key == partner.export_key);
        if let Some(other) = same.next().filter(|_| !partner.export_key.is_empty()) {
            let error = format!(
                "that of {}, so the two could join what they are told; another would be right",
                other.key
            );
            report("export_key", &error);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn two_partners_cannot_have_one_key_and_nothing_is_sent_unsigned() {
        let key = "export_key = \"0123456789abcdef\"";
        for (text, said) in [
            (
                format!("[[partner]]\nkey = \"a\"\n{key}\n[[partner]]\nkey = \"b\"\n{key}"),
                "line 6: partner b, export_key: that of a, so the two",
            ),
            (
                "[[partner]]\nkey = \"a\"\nexport_id = \"user\"".to_owned(),
                "partner a, export_key: none, and export_id is user",
            ),
            (
                "[[partner]]\nkey = \"a\"\nexport_url = \"https://a.example/in\"".to_owned(),
                "partner a, export_secret: none",
            ),
            (
                "[[partner]]\nkey = \"a\"\nexport_url = \"http://a.example/in\"".to_owned(),
                "an https URL, or an http URL of this machine would be right",
            ),
            (
                "[[webhook]]\nkey = \"a\"\nurl = \"https://a.example/in\"\nsegments = [\"x\"]"
                    .to_owned(),
                "webhook a, segments: x is no segment",
            ),
            (
                "[[webhook]]\nkey = \"a\"\nurl = \"https://a.example/in\"".to_owned(),
                "webhook a, secret: none",
            ),
        ] {
            let errors = Config::parse(&text, []).unwrap_err();
            assert!(
                errors.0.iter().any(|error| error.contains(said)),
                "{errors}"
            );
        }
    }
}
