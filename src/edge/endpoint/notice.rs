//! Pages of a few words, in the reader's language: why a link leads nowhere, and `GET /`, which
//! says what the collector's address is for.

use std::sync::LazyLock;

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{self, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};

use crate::edge::Refusal;
use crate::edge::exchange::Exchange;
use crate::edge::exchange::reply::{self, Reply};
use crate::edge::text::{Language, Text};
use crate::endpoint::Endpoint;
use crate::refusal::Reason;

/// The style of every page that visitors see.
pub(super) const STYLE: &str = include_str!("../../../assets/privacy.css");

/// A page loads nothing but its own style, known by its hash, and no frame may show it.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; style-src 'sha256-{}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        STANDARD.encode(Sha256::digest(STYLE))
    )
});

#[derive(Template)]
#[template(path = "notice.html")]
struct Page {
    code: &'static str,
    style: &'static str,
    heading: &'static str,
    sentences: Vec<&'static str>,
    /// What is said to whoever made the link: a sentence and the reason.
    maker: Option<(&'static str, &'static str)>,
    /// A link with its words.
    link: Option<(String, &'static str)>,
}

impl Page {
    fn new(language: Language, heading: &'static str) -> Page {
        Page {
            code: language.code(),
            style: STYLE,
            heading,
            sentences: Vec::new(),
            maker: None,
            link: None,
        }
    }

    fn into_reply(self, status: StatusCode) -> Reply {
        // Writing the template to a text cannot fail.
        let html = self.render().unwrap_or_default();
        let mut reply = reply::with_body(status, "text/html; charset=utf-8", Bytes::from(html));
        add_headers(&mut reply, self.code, "no-referrer");
        reply
    }
}

/// Adds the headers that every page for visitors has.
pub(super) fn add_headers(reply: &mut Reply, language: &'static str, referrer: &'static str) {
    let headers = reply.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, referrer),
        (header::CONTENT_LANGUAGE, language),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
}

/// Makes a page that says why a link does not work. It repeats nothing of the request and links to
/// nothing.
pub(crate) fn refuse_link(status: StatusCode, refusal: Refusal, language: Language) -> Reply {
    let t = language.text();
    let mut page = Page::new(language, t.link_title);
    page.sentences = vec![explain(t, refusal), t.link_back];
    page.maker = Some((t.link_maker, refusal.0.name()));
    page.into_reply(status)
}

fn explain(t: &Text, refusal: Refusal) -> &'static str {
    match refusal.0 {
        Reason::ClickExpired => t.link_old,
        _ if refusal.status().is_server_error() => t.link_later,
        Reason::OverLimit => t.link_later,
        _ => t.link_wrong,
    }
}

/// Says what the collector's address is for, with a link to the visitor's own page where the host
/// stands for a site. Which sites there are is not told.
pub(crate) fn serve_root(exchange: &Exchange<'_>) -> Reply {
    let language = exchange.language();
    let t = language.text();
    let mut page = Page::new(language, t.root_title);
    page.sentences = vec![t.root_why];
    match exchange.site("") {
        Ok(site) => {
            let path = exchange.edge.config.path.of(Endpoint::Privacy);
            let link = format!("{path}?site={}", site.key);
            page.link = Some((link, t.root_privacy));
        }
        Err(_) => page.sentences.push(t.root_elsewhere),
    }
    page.into_reply(StatusCode::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_link_page_says_fits_the_reason() {
        let t = Language::English.text();
        for reason in Reason::ALL {
            let said = explain(t, Refusal(reason));
            let is_for_later = [429, 500, 503].contains(&Refusal(reason).status().as_u16());
            let expected = match reason {
                Reason::ClickExpired => t.link_old,
                _ if is_for_later => t.link_later,
                _ => t.link_wrong,
            };
            assert_eq!(said, expected, "{}", reason.name());
        }
    }
}
