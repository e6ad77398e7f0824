//! `GET /tag.js?site=KEY`: the tag, with the site's configuration filled in.
//!
//! `assets/tag.min.js` is what `make tag` makes of `assets/tag.js`. It is the core: what every page
//! needs, in at most 2,048 bytes gzipped. What else there is are modules (`assets/module/`): those
//! that the site's `modules` and the query's `with=` name are in the file. The core fetches two of
//! them by itself, with `only=`, on pages that turn out to need them.
//!
//! The script that a site's configuration asks for is rendered and compressed when the
//! configuration is loaded, any other one when it is first asked for. A request only chooses
//! between the forms, or gets 304 if the browser has the one that it would get.

mod coding;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use askama::Template;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use serde::Serialize;
use serde_json::json;
use url::form_urlencoded;
use xxhash_rust::xxh3::xxh3_128;

use crate::config::{Config, ConsentPlatform, Site, TagModule};
use crate::edge::Refusal;
use crate::edge::exchange::Exchange;
use crate::edge::exchange::reply;
use crate::edge::exchange::reply::Reply;
use crate::endpoint::Endpoint;
use crate::hit::Permit;
use crate::refusal::Reason;
use coding::{Coding, elements};

/// How many scripts of a site are kept: a client can ask for as many as there are sets of modules.
/// Further ones are sent without being compressed.
const SCRIPTS_MAX: usize = 64;

/// The minified tag. The `json` filter writes `<`, `>`, `&` and `'` as escapes, so that no value
/// ends a script element that the tag is pasted into.
#[derive(Template)]
#[template(path = "tag.min.js", escape = "none")]
struct Tag<'a> {
    config: &'a TagConfig,
    modules: &'a str,
}

/// What the tag has to know of its site. What a site does not have is left out.
#[derive(Serialize)]
struct TagConfig {
    site: String,
    /// The path that takes events.
    event: String,
    /// The path of the tag itself.
    tag: String,
    /// The path and query that take a choice.
    consent: String,
    /// The name of the cookie that holds the visitor's choice.
    choice: String,
    /// The domain of that cookie. Without one: the page's own host.
    #[serde(skip_serializing_if = "str::is_empty")]
    domain: String,
    /// Nothing is sent before the visitor has chosen.
    #[serde(skip_serializing_if = "is_false")]
    ask: bool,
    /// Without a choice the click that led here may be remembered.
    #[serde(skip_serializing_if = "is_false")]
    keep: bool,
    /// The flags that a choice is made of.
    flags: Vec<&'static str>,
    /// Where hits are sent, if not to where the tag came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    collector: Option<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a field by reference"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl TagConfig {
    fn new(config: &Config, site: &Site) -> TagConfig {
        let path = |endpoint| config.path.of(endpoint).to_owned();
        TagConfig {
            site: site.key.clone(),
            event: path(Endpoint::Event),
            tag: path(Endpoint::Tag),
            consent: format!("{}?site={}", path(Endpoint::Consent), site.key),
            choice: config.cookie.choice_name.clone(),
            domain: site.cookie_domain.clone().unwrap_or_default(),
            ask: site.default_permit == Permit::NONE,
            keep: site.default_permit.allows(Permit::STORE),
            flags: Permit::ALL.names().collect(),
            collector: site.collector.clone(),
        }
    }
}

/// Returns what modules have to know, by their names: text that stands before a module, as one of
/// its own, so that the core has no byte of it.
fn settings(config: &Config, site: &Site) -> HashMap<&'static str, String> {
    let path = |endpoint| config.path.of(endpoint).to_owned();
    let mut settings = HashMap::from([("rescue", setting(&[("pixel", &path(Endpoint::Pixel))]))]);
    if let Some(platform) = site.wait_for {
        let function = match platform {
            ConsentPlatform::Tcf => "__tcfapi",
            ConsentPlatform::Gpp => "__gpp",
        };
        settings.insert("platform", setting(&[("wait", function)]));
    }
    let mut segments = config.segments.iter();
    if segments.any(|segment| segment.expose.contains(&site.key)) {
        let path = path(Endpoint::Segments);
        settings.insert("segments", setting(&[("segments", &path)]));
    }
    if !site.links.is_empty() {
        let link = format!("{}?site={}&", path(Endpoint::Link), site.key);
        let hosts = site.links.join(",");
        settings.insert("links", setting(&[("link", &link), ("hosts", &hosts)]));
    }
    settings
}

/// Returns a module that gives the tag these values. An attribute on the page takes precedence over
/// them. A function is only a placeholder for a module that has not been loaded yet.
fn setting(values: &[(&str, &str)]) -> String {
    // As in the template, no value ends a script element.
    let quoted = |text: &str| json!(text).to_string().replace('<', "\\u003c");
    let set = values.iter().map(|(name, value)| {
        let value = quoted(value);
        format!("if(t.{name}==null||t.{name}.call)t.{name}={value};")
    });
    format!("t=>{{{}}}", set.collect::<String>())
}

/// Checks whether links of another site lead to pages of this one.
fn is_linked_to(config: &Config, site: &Site) -> bool {
    let mut hosts = site
        .origins
        .iter()
        .filter_map(|origin| origin.split_once("://"));
    let is_listed = |host: &str| {
        let mut links = config.sites.iter().flat_map(|site| &site.links);
        links.any(|listed| listed == host)
    };
    hosts.any(|(_, host)| is_listed(host))
}

/// Which script a request is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Wanted {
    /// The core with these modules.
    Whole(BTreeSet<TagModule>),
    /// One module, for a core that is on the page.
    Only(TagModule),
}

/// A script in the forms that it is sent in, in the order of [`Coding::ALL`]. One that is not
/// compressed has the plain form only.
struct Script(Vec<Representation>);

#[derive(Clone)]
struct Representation {
    coding: Coding,
    body: Bytes,
    /// A strong entity tag: it differs wherever a byte of the body does.
    etag: HeaderValue,
}

/// The scripts of one site.
struct SiteScripts {
    config: TagConfig,
    /// The modules that the site's configuration asks for.
    modules: BTreeSet<TagModule>,
    made: Mutex<HashMap<Wanted, Arc<Script>>>,
    settings: HashMap<&'static str, String>,
}

/// The scripts of all sites.
pub(crate) struct Scripts(Vec<SiteScripts>);

impl Scripts {
    /// Renders and compresses the script that the configuration of each site asks for.
    pub(crate) fn new(config: &Config) -> Scripts {
        let of_site = |site: &Site| {
            let mut modules: BTreeSet<_> = site.modules.iter().copied().collect();
            if site.wait_for.is_some() {
                modules.extend(TagModule::from_name("platform"));
            }
            if !site.links.is_empty() {
                modules.extend(TagModule::from_name("links"));
            }
            if is_linked_to(config, site) {
                modules.extend(TagModule::from_name("linked"));
            }
            let scripts = SiteScripts {
                config: TagConfig::new(config, site),
                modules,
                made: Mutex::default(),
                settings: settings(config, site),
            };
            scripts.script(Wanted::Whole(scripts.modules.clone()));
            scripts
        };
        Scripts(config.sites.iter().map(of_site).collect())
    }

    fn of(&self, site: &str) -> Option<&SiteScripts> {
        self.0.iter().find(|scripts| scripts.config.site == site)
    }
}

impl SiteScripts {
    /// Reads which script a query string asks for.
    fn read_wanted(&self, query: &str) -> Result<Wanted, Refusal> {
        let first = |wanted| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs.find_map(|(name, value)| (name == wanted).then_some(value))
        };
        let named = |name: &str| TagModule::from_name(name).ok_or(Refusal(Reason::ModuleUnknown));
        if let Some(name) = first("only") {
            return named(&name).map(Wanted::Only);
        }
        let mut modules = self.modules.clone();
        for name in first("with").unwrap_or_default().split(',') {
            let name = name.trim();
            if !name.is_empty() {
                modules.insert(named(name)?);
            }
        }
        Ok(Wanted::Whole(modules))
    }

    /// Returns a script, from those made before if it is there.
    fn script(&self, wanted: Wanted) -> Arc<Script> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(script) = made.get(&wanted) {
            return Arc::clone(script);
        }
        let text = self.render(&wanted);
        if made.len() >= SCRIPTS_MAX {
            return Arc::new(Script::new(&text, &[Coding::Identity]));
        }
        let script = Arc::new(Script::new(&text, &Coding::ALL));
        made.insert(wanted, Arc::clone(&script));
        script
    }

    /// Returns the text of a module, with what it has to know before it.
    fn texts(&self, module: TagModule) -> impl Iterator<Item = &str> {
        let setting = self.settings.get(module.name()).map(String::as_str);
        setting.into_iter().chain([module.text()])
    }

    fn render(&self, wanted: &Wanted) -> String {
        match wanted {
            Wanted::Whole(modules) => {
                let texts = modules.iter().flat_map(|module| self.texts(*module));
                let tag = Tag {
                    config: &self.config,
                    modules: &texts.collect::<Vec<&str>>().join(","),
                };
                tag.render()
                    .expect("a template of texts and flags can always be written to a string")
            }
            // The key of a site needs no escape.
            Wanted::Only(module) => {
                let texts = self.texts(*module);
                let calls =
                    texts.map(|text| format!("avtryck.q[\"@{}\"]({text});", self.config.site));
                calls.collect()
            }
        }
    }
}

impl Script {
    fn new(text: &str, codings: &[Coding]) -> Script {
        let encode = |coding: &Coding| {
            let body = coding.encode(text.as_bytes());
            let etag = format!("\"{:032x}\"", xxh3_128(&body));
            Representation {
                coding: *coding,
                etag: HeaderValue::try_from(etag)
                    .expect("hexadecimal digits in quotes are a header"),
                body: Bytes::from(body),
            }
        };
        Script(codings.iter().map(encode).collect())
    }

    /// Returns the form that a client prefers, or the plain one if there is no other.
    fn choose_for(&self, headers: &HeaderMap) -> &Representation {
        let coding = Coding::choose_for(headers);
        let found = self.0.iter().find(|form| form.coding == coding);
        found.or(self.0.last()).expect("a script has a plain form")
    }
}

/// Answers with the script of the site that the query names.
pub(crate) fn serve_tag(request: &Exchange<'_>, parts: &Parts) -> Result<Reply, Refusal> {
    let query = parts.uri.query().unwrap_or_default();
    let site = request.site_of(query)?;
    let scripts = request.edge.scripts.of(&site.key);
    let scripts = scripts.expect("each site of the configuration has scripts");
    let script = scripts.script(scripts.read_wanted(query)?);
    Ok(respond(&script, &parts.headers))
}

fn respond(script: &Script, asked: &HeaderMap) -> Reply {
    let form = script.choose_for(asked);
    let mut reply = if has_etag(asked, &form.etag) {
        reply::empty(StatusCode::NOT_MODIFIED)
    } else {
        let content_type = "text/javascript; charset=utf-8";
        let mut reply = reply::with_body(StatusCode::OK, content_type, form.body.clone());
        if let Some(coding) = form.coding.header() {
            let headers = reply.headers_mut();
            headers.insert(header::CONTENT_ENCODING, coding);
        }
        reply
    };
    let headers = reply.headers_mut();
    headers.insert(header::ETAG, form.etag.clone());
    for (name, value) in [
        // After a change of the configuration no page runs on the former one for longer than this.
        // What has not changed costs a 304.
        (header::CACHE_CONTROL, "public, max-age=300"),
        (header::VARY, "Accept-Encoding"),
        // A script of type module, and an import, are read across origins. It holds no secret.
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "cross-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    reply
}

/// Checks whether the client has the body already (RFC 9110, section 13.1.2: a weak comparison).
fn has_etag(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    elements(headers, header::IF_NONE_MATCH).any(|known| {
        let known = known.strip_prefix("W/").unwrap_or(known);
        known == "*" || known.as_bytes() == etag.as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_tag_is_found_alone_in_a_list_and_marked_as_weak() {
        let etag = HeaderValue::from_static("\"0a\"");
        for (known, expected) in [
            ("\"0a\"", true),
            ("W/\"0a\"", true),
            ("\"1b\", \"0a\"", true),
            ("*", true),
            ("\"1b\"", false),
            ("0a", false),
            ("", false),
        ] {
            let value = HeaderValue::from_static(known);
            let asked = HeaderMap::from_iter([(header::IF_NONE_MATCH, value)]);
            assert_eq!(has_etag(&asked, &etag), expected, "{known:?}");
        }
    }

    fn scripts(site: &str) -> SiteScripts {
        let text = format!("[[site]]\nkey = \"a\"\n{site}");
        let config = Config::parse(&text, []).expect("a configuration");
        let mut scripts = Scripts::new(&config);
        scripts.0.remove(0)
    }

    fn modules(scripts: &SiteScripts, query: &str) -> Result<Vec<&'static str>, Reason> {
        match scripts.read_wanted(query) {
            Ok(Wanted::Whole(modules)) => Ok(modules.into_iter().map(TagModule::name).collect()),
            Ok(Wanted::Only(module)) => Ok(vec!["only", module.name()]),
            Err(refusal) => Err(refusal.0),
        }
    }

    #[test]
    fn modules_come_from_the_sites_configuration_and_from_the_query() {
        let plain = scripts("");
        let unknown = Err(Reason::ModuleUnknown);
        for (query, expected) in [
            ("", Ok(vec![])),
            ("with=", Ok(vec![])),
            ("with=hash", Ok(vec!["hash"])),
            ("with=query,hash,hash", Ok(vec!["hash", "query"])),
            ("site=a&with=hash%2C+query,", Ok(vec!["hash", "query"])),
            ("with=hash&with=clairvoyance", Ok(vec!["hash"])),
            ("with=clairvoyance", unknown.clone()),
            ("with=Hash", unknown.clone()),
            ("with=hash;query", unknown.clone()),
            ("only=rescue", Ok(vec!["only", "rescue"])),
            ("only=", unknown.clone()),
            ("only=hash,query", unknown),
        ] {
            assert_eq!(modules(&plain, query), expected, "{query}");
        }
        let waits = scripts("modules = [\"offline\"]\nwait_for = \"gpp\"");
        let expected = Ok(vec!["hash", "offline", "platform"]);
        assert_eq!(modules(&waits, "with=hash"), expected);
        let text = waits.render(&Wanted::Whole(waits.modules.clone()));
        assert!(text.contains("t.wait=\"__gpp\""), "{text}");
    }

    #[test]
    fn a_script_beyond_the_limit_is_sent_as_it_is_and_not_kept() {
        let scripts = scripts("");
        let all: Vec<TagModule> = TagModule::all().collect();
        let sets = (0..1_u32 << all.len()).map(|set| {
            let chosen = all.iter().enumerate();
            let chosen = chosen.filter(|(at, _)| set >> at & 1 == 1);
            Wanted::Whole(chosen.map(|(_, module)| *module).collect())
        });
        let made = sets.take(SCRIPTS_MAX + 3);
        let forms: Vec<usize> = made.map(|set| scripts.script(set).0.len()).collect();
        let (kept, further) = forms.split_at(SCRIPTS_MAX);
        assert!(kept.iter().all(|forms| *forms == Coding::ALL.len()));
        assert_eq!(further, [1, 1, 1]);
        assert_eq!(scripts.made.lock().expect("the scripts").len(), SCRIPTS_MAX);
    }

    #[test]
    fn no_value_ends_the_script_or_one_of_its_strings() {
        let hostile = "</script><!--'\"\\\u{2028}&";
        let mut scripts = scripts("");
        scripts.config.choice = hostile.to_owned();
        let text = scripts.render(&Wanted::Whole(BTreeSet::new()));
        let (_, argument) = text.rsplit_once("})(").expect("the call");
        let argument = argument.trim_end().strip_suffix(",[]);").expect("its end");
        for forbidden in ['<', '>', '&', '\''] {
            assert!(!argument.contains(forbidden), "{argument}");
        }
        let read: serde_json::Value = serde_json::from_str(argument).expect("JSON");
        assert_eq!(read["choice"], hostile);
    }
}
