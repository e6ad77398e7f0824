//! `GET /demo`, in embedded mode only: a page to try the tag on. It uses the site `demo`, or else
//! the site that has its host, or else the first, and says which; the same for a partner.

use askama::Template;
use bytes::Bytes;
use hyper::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::{Partner, Site};
use crate::edge::Edge;
use crate::edge::exchange::Exchange;
use crate::edge::exchange::reply;
use crate::edge::exchange::reply::Reply;
use crate::endpoint::Endpoint;
use crate::hit::Permit;

/// What stands in the command's place until there is one.
const STARTING: &str = "the database is starting: load this page again";
/// The site and the partner of `make run`.
const SITE: &str = "demo";
const PARTNER: &str = "demo-network";

#[derive(Template)]
#[template(path = "demo.html")]
struct Page<'a> {
    /// The command that opens the embedded database.
    psql: &'a str,
    site: &'a str,
    /// Whether the site is one of the operator's own.
    is_own_site: bool,
    /// Whether the site permits to measure where the visitor has said nothing.
    measures_unasked: bool,
    paths: DemoPaths<'a>,
    /// The query of the ad's pixel.
    ad: String,
    /// Where the ad leads through the collector.
    click: String,
    /// The port of the admin listener, which the live view is on.
    admin_port: u16,
}

/// Where endpoints answer.
struct DemoPaths<'a> {
    tag: &'a str,
    event: &'a str,
    pixel: &'a str,
    impression: &'a str,
    consent: &'a str,
    privacy: &'a str,
}

/// Answers with the page.
pub(crate) fn serve_demo(exchange: &Exchange<'_>) -> Reply {
    let edge = exchange.edge;
    let config = &edge.config;
    let Some(site) = find_site(exchange) else {
        // A configuration without a site does not start.
        return reply::empty(StatusCode::NOT_FOUND);
    };
    let ad = ad_query(site, find_partner(&config.partners, site));
    let psql = edge.demo_psql.as_ref().and_then(|psql| psql.get());
    let path = |endpoint| config.path.of(endpoint);
    let page = Page {
        psql: psql.map_or(STARTING, String::as_str),
        site: &site.key,
        is_own_site: site.key != SITE,
        measures_unasked: site.default_permit.allows(Permit::MEASURE),
        paths: DemoPaths {
            tag: path(Endpoint::Tag),
            event: path(Endpoint::Event),
            pixel: path(Endpoint::Pixel),
            impression: path(Endpoint::Impression),
            consent: path(Endpoint::Consent),
            privacy: path(Endpoint::Privacy),
        },
        click: click_link(exchange, edge, &ad),
        ad,
        admin_port: config.admin.listen.port(),
    };
    let html = page
        .render()
        .expect("a template of texts can always be written to a string");
    reply::with_body(
        StatusCode::OK,
        "text/html; charset=utf-8",
        Bytes::from(html),
    )
}

fn find_site<'r>(exchange: &Exchange<'r>) -> Option<&'r Site> {
    let sites = &exchange.edge.config.sites;
    let demo = sites.iter().find(|site| site.key == SITE);
    demo.or_else(|| exchange.site("").ok())
        .or_else(|| sites.first())
}

fn find_partner<'c>(partners: &'c [Partner], site: &Site) -> Option<&'c Partner> {
    let demo = partners.iter().find(|partner| partner.key == PARTNER);
    let mut others = partners.iter();
    demo.or_else(|| others.find(|partner| partner.may_write_for(&site.key)))
}

fn ad_query(site: &Site, partner: Option<&Partner>) -> String {
    let partner = partner.map_or(String::new(), |partner| format!("&partner={}", partner.key));
    // No character of a key needs escaping.
    format!(
        "site={}{partner}&campaign=demo&creative=banner-1&placement=demo-top&publisher=demo",
        site.key
    )
}

/// Returns the signed link of the ad, which leads back to this page, where the phone can be bought.
fn click_link(exchange: &Exchange<'_>, edge: &Edge, ad: &str) -> String {
    let scheme = if exchange.is_secure() {
        "https"
    } else {
        "http"
    };
    let to = format!("{scheme}://{}/demo?from=ad#buy", exchange.authority());
    let to = utf8_percent_encode(&to, NON_ALPHANUMERIC);
    let signed = edge.click_keyring.sign(&format!("{ad}&clid=1&to={to}"));
    let path = edge.config.path.of(Endpoint::Click);
    format!("{path}?{}", signed.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_shown_as_text_whatever_it_holds() {
        let page = Page {
            psql: "psql -h '/tmp/a&b' <x>",
            site: "demo",
            is_own_site: false,
            measures_unasked: true,
            paths: DemoPaths {
                tag: "/tag.js",
                event: "/e",
                pixel: "/p.gif",
                impression: "/i.gif",
                consent: "/consent",
                privacy: "/privacy",
            },
            ad: String::new(),
            click: String::new(),
            admin_port: 8090,
        };
        let html = page.render().expect("the page");
        assert!(html.contains(">psql -h &#39;/tmp/a&#38;b&#39; &#60;x&#62;</code>"));
    }
}
