//! `/privacy`: the visitor's own page. It says what is collected and why, shows what is held about
//! this browser and what is believed of it, and has forms: choose for each purpose, download a
//! file, delete everything, say that a belief is wrong. It works without scripts.
//!
//! - **`GET /privacy`** shows what is held under each visitor ID that a cookie of the request
//!   proves; a cookie whose MAC does not verify proves none. The thread with Postgres answers
//!   ([`crate::inquiry`]). If it does not, the page is shown anyway and says so; choice and
//!   deletion still work, because they need only the spool.
//! - **`POST /privacy/choice`** keeps the choice as `/consent` does.
//! - **`POST /privacy/file`** returns everything that is held, as JSON.
//! - **`GET /privacy?ask=erasure`** asks whether everything is to be deleted.
//! - **`POST /privacy/erasure`** records the request to be erased, on disk before the reply, and
//!   then ends the cookie and sets the choice to `none`.
//! - **`POST /privacy/device`** keeps a device apart that is not the visitor's, or has a tie
//!   forgotten; **`POST /privacy/home`** takes the device out of its household, or has none
//!   computed ever ([`belief`]).
//! - **`POST /privacy/group`** takes the visitor out of a group, or of all; **`POST
//!   /privacy/source`** objects to whoever imported data comes from ([`group`]).
//!
//! A form counts only from this page: the `Origin` must be the collector's own (a site's pages have
//! `/consent`), and a token binds the form to the visitor that it was made for. `Referrer-Policy`
//! is `same-origin` and not `no-referrer`, with which browsers would send `Origin: null` even to
//! ourselves (Fetch standard, section 3.2). No frame may show the page, and no other origin may
//! read it.
//!
//! Each view costs Postgres a query: [`VIEWS`] limits one client, and [`crate::inquiry`] all of
//! them together.

mod belief;
mod group;
mod page;
mod responsible;
mod time;

use askama::Template as _;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::consent::is_own_origin;
use super::notice::add_headers;
use crate::clock;
use crate::config::{self, Config, Site};
use crate::consent::{self, PermitRules};
use crate::edge::Refusal;
use crate::edge::exchange::reply;
use crate::edge::exchange::reply::{Reply, WithCookie as _};
use crate::edge::exchange::{Exchange, body};
use crate::edge::text::{self, Language};
use crate::edge::transport::limits::subscriber;
use crate::endpoint::Endpoint;
use crate::hit::belief::{PageScope, Wish};
use crate::hit::subject::Held;
use crate::hit::{ConsentSource, Kind, Permit};
use crate::inquiry::{ANSWER_TIME_MAX, Busy, Piece};
use crate::protocol;
use crate::refusal::Reason;
use crate::visitor::ProvedVisitor;
use page::{Body, ErasureQuestion, Notice, Page};

/// How often one client may ask Postgres: thirty pages or files at once, then one a second.
pub(crate) const VIEWS: config::Limit = config::Limit {
    hits_per_second: 1,
    burst: 30,
    drop: true,
    drop_above: 0,
};
/// The most visitors of one browser that the page shows. Unless somebody plants cookies there are
/// at most two, one of the site's domain and one of the host.
const VISITORS_SHOWN: usize = 2;
/// The page gives the time of retention in days.
const DAY_SECONDS: u64 = 86_400;

/// A form of the page, known by the last segment of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Choice,
    File,
    Erasure,
    Device,
    Home,
    Group,
    Source,
}

impl Form {
    const ALL: [(Form, &'static str); 7] = [
        (Form::Choice, "/choice"),
        (Form::File, "/file"),
        (Form::Erasure, "/erasure"),
        (Form::Device, "/device"),
        (Form::Home, "/home"),
        (Form::Group, "/group"),
        (Form::Source, "/source"),
    ];

    /// Returns the form that a path is for.
    pub(crate) fn of(config: &Config, path: &str) -> Option<Form> {
        let rest = path.strip_prefix(config.path.of(Endpoint::Privacy))?;
        let found = Form::ALL.into_iter().find(|(_, segment)| rest == *segment);
        found.map(|(form, _)| form)
    }

    fn segment(self) -> &'static str {
        let found = Form::ALL.into_iter().find(|(form, _)| *form == self);
        found.map_or("", |(_, segment)| segment)
    }
}

/// What was just done, which the page that follows confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Choice,
    Erasure,
    Parted,
    Forgotten,
    Left,
    Objected,
    /// Nothing: what the form named was not there any more.
    Nothing,
}

/// One request for the page or of one of its forms.
struct PrivacyRequest<'r> {
    request: &'r Exchange<'r>,
    map: &'r HeaderMap,
    site: Result<&'r Site, Refusal>,
    language: Language,
    done: Option<Done>,
    /// Whether the page is to ask if everything is to be deleted.
    asks_to_erase: bool,
    proved: Vec<ProvedVisitor>,
}

/// What the page says of what is held.
enum Holding {
    /// No cookie proves a visitor.
    Nobody,
    Held(Vec<Held>),
    /// It is not shown, for that reason.
    Refused(Reason),
}

pub(crate) async fn serve_privacy(request: &Exchange<'_>, parts: &Parts, body: Incoming) -> Reply {
    let asked = PrivacyRequest::read(
        request,
        &parts.headers,
        parts.uri.query().unwrap_or_default(),
    );
    let reply = match Form::of(&request.edge.config, parts.uri.path()) {
        None => asked.view(&parts.method).await,
        Some(form) => asked.submit(form, body).await,
    };
    let mut reply = reply.unwrap_or_else(|refusal| asked.refuse(refusal));
    add_headers(&mut reply, asked.language.code(), "same-origin");
    reply
}

impl<'r> PrivacyRequest<'r> {
    fn read(request: &'r Exchange<'r>, map: &'r HeaderMap, query: &'r str) -> PrivacyRequest<'r> {
        let parameter = |wanted: &str| {
            query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| value)
        };
        let mut proved = request.proved_visitors();
        proved.truncate(VISITORS_SHOWN);
        PrivacyRequest {
            request,
            map,
            site: request.site_of(query),
            language: parameter("lang")
                .and_then(Language::from_name)
                .unwrap_or_else(|| request.language()),
            done: match parameter("done") {
                Some("choice") => Some(Done::Choice),
                Some("erasure") => Some(Done::Erasure),
                Some("not_mine") => Some(Done::Parted),
                Some("forget") => Some(Done::Forgotten),
                Some("leave_group" | "leave_groups") => Some(Done::Left),
                Some("object") => Some(Done::Objected),
                Some(belief::NOTHING_DONE) => Some(Done::Nothing),
                _ => None,
            },
            asks_to_erase: parameter("ask") == Some("erasure"),
            proved,
        }
    }

    /// Returns the address of the page, or of one of its forms, in a language.
    fn link(&self, segment: &str, language: Language) -> String {
        let path = self.request.edge.config.path.of(Endpoint::Privacy);
        let language = language.code();
        match self.site {
            // No character of a site's key needs escaping.
            Ok(site) => format!("{path}{segment}?site={}&lang={language}", site.key),
            Err(_) => format!("{path}{segment}?lang={language}"),
        }
    }

    async fn view(&self, method: &Method) -> Result<Reply, Refusal> {
        let site = self.site?;
        self.check_navigation()?;
        if self.asks_to_erase && !self.proved.is_empty() {
            let mut page = Page::new(self.language, |language| {
                format!("{}&ask=erasure", self.link("", language))
            });
            page.back = Some(self.link("", self.language));
            page.question = Some(ErasureQuestion {
                token: self.token(),
                action: self.link(Form::Erasure.segment(), self.language),
            });
            return Ok(render(StatusCode::OK, &page));
        }
        let holding = if *method == Method::HEAD {
            Holding::Nobody
        } else {
            self.ask_what_is_held().await
        };
        let mut page = Page::new(self.language, |language| self.link("", language));
        let (held, reason) = match holding {
            Holding::Nobody => (Vec::new(), None),
            Holding::Held(all) => (all, None),
            Holding::Refused(reason) => (Vec::new(), Some(reason)),
        };
        page.notices.extend(self.done_notice(page.t, &held));
        page.notices.extend(reason.map(|reason| Notice {
            text: notice(page.t, reason),
            is_good: false,
        }));
        page.body = Some(self.body(site, held));
        Ok(match reason {
            // Without Postgres the page is as complete as it can be; a client need not ask again.
            None | Some(Reason::DatabaseAway) => render(StatusCode::OK, &page),
            Some(reason) => {
                let refusal = Refusal(reason);
                let mut reply = render(refusal.status(), &page);
                reply::tell(&mut reply, refusal);
                reply
            }
        })
    }

    /// Refuses to be shown in a frame, or to be fetched by anything but a navigation. Browsers that
    /// do not say which it is are held off by the reply's own policy.
    fn check_navigation(&self) -> Result<(), Refusal> {
        let destination = self.map.get("sec-fetch-dest");
        if destination.is_none_or(|destination| destination == "document") {
            Ok(())
        } else {
            Err(Refusal(Reason::Framed))
        }
    }

    /// Asks the thread with Postgres what is held.
    async fn ask_what_is_held(&self) -> Holding {
        let edge = self.request.edge;
        if self.proved.is_empty() {
            return Holding::Nobody;
        }
        let refused = |reason| {
            edge.metrics.refusal(reason);
            Holding::Refused(reason)
        };
        if !self.spend_view() {
            return refused(Reason::OverLimit);
        }
        let visitors = self.proved.iter().map(|proved| proved.visitor).collect();
        let client = subscriber(self.request.client);
        let Ok(site) = self.site else {
            return Holding::Nobody;
        };
        let scope = self.scope(site);
        let Ok(answered) = edge.inquirer.ask_for_summary(visitors, scope, client) else {
            return refused(Reason::Busy);
        };
        match tokio::time::timeout(ANSWER_TIME_MAX, answered).await {
            Ok(Ok(Ok(held))) => Holding::Held(held),
            Ok(Ok(Err(Busy))) => refused(Reason::Busy),
            Ok(Err(_)) | Err(_) => refused(Reason::DatabaseAway),
        }
    }

    /// Takes one view from what this client may ask; false where it has none left.
    fn spend_view(&self) -> bool {
        let views = self.request.edge.views.as_ref();
        views.is_none_or(|views| views.spend(self.request.client, clock::monotonic()))
    }

    /// Returns what the request's own signals permit on a site, the signal that decided it, and
    /// whether it has Global Privacy Control.
    fn decide(&self, site: &Site) -> (Permit, ConsentSource, bool) {
        let edge = self.request.edge;
        let names = edge.config.cookie.choice_names();
        let signals = protocol::signals(self.request.headers, names);
        let rules = PermitRules::from(site);
        let (permit, source) = consent::decide(&signals, &rules, Kind::PageView, &edge.strings);
        (permit, source, signals.gpc)
    }

    fn scope(&self, site: &Site) -> PageScope {
        let (permit, ..) = self.decide(site);
        let site = site.key.clone();
        PageScope { site, permit }
    }

    fn body(&self, site: &Site, held: Vec<Held>) -> Body {
        let edge = self.request.edge;
        let (config, t) = (&edge.config, self.language.text());
        let (permit, source, has_gpc) = self.decide(site);
        let action = |form: Form| self.link(form.segment(), self.language);
        let own_word = match page::is_own_word(source) {
            true => permit,
            false => Permit::NONE,
        };
        let name = site.name.as_ref().unwrap_or(&site.key);
        let days = config.privacy.retention.as_secs() / DAY_SECONDS;
        Body {
            site: name.clone(),
            lead: text::fill(t.lead, name),
            responsible: responsible::name_responsible(t, site),
            cookies_why: page::cookies_why(t, config),
            address: page::address(t, config.privacy.client_ip),
            browsers: self
                .proved
                .iter()
                .map(|proved| page::browser(proved, self.request.now, self.language))
                .collect(),
            devices: self.show_devices(permit, &held),
            home: self.show_home(site, permit, &held),
            groups: group::show(permit, &held, self.language),
            held: (!held.is_empty()).then(|| page::show_held(held, self.language)),
            now: page::describe_choice(t, permit, source),
            has_gpc,
            token: self.token(),
            choice_action: action(Form::Choice),
            file_action: action(Form::File),
            ask_to_erase: format!("{}&ask=erasure", self.link("", self.language)),
            device_action: action(Form::Device),
            home_action: action(Form::Home),
            group_action: action(Form::Group),
            source_action: action(Form::Source),
            flags: page::flags(t, own_word),
            is_unticked: permit != own_word,
            origins: edge.tables.load().origins(),
            retention: text::fill(t.retention, &days.to_string()),
        }
    }

    /// Confirms what was done, if the cookies or what is stored bear it out: a link can claim
    /// anything.
    fn done_notice(&self, t: &text::Text, held: &[Held]) -> Option<Notice> {
        let config = &self.request.edge.config;
        let choice = protocol::signals(self.request.headers, config.cookie.choice_names()).choice;
        let text = match self.done? {
            Done::Choice if choice.is_some() => t.done_choice,
            Done::Erasure if choice == Some(Permit::NONE) && self.proved.is_empty() => {
                t.done_erasure
            }
            Done::Parted if held.iter().any(|held| held.beliefs.has_parted) => t.done_not_mine,
            Done::Forgotten if held.iter().any(|held| held.beliefs.has_forgotten) => t.done_forget,
            Done::Left if held.iter().any(|held| held.beliefs.groups.has_left) => t.done_left,
            Done::Objected if held.iter().any(|held| held.beliefs.groups.has_objected) => {
                t.done_objected
            }
            Done::Nothing => t.old_form,
            _ => return None,
        };
        Some(Notice {
            text,
            is_good: text != t.old_form,
        })
    }

    /// Returns what binds a form to its visitor; empty for a browser that has no ID.
    fn token(&self) -> String {
        let proved = self.proved.first();
        proved
            .and_then(|proved| self.request.edge.keyring.form_token(proved.visitor))
            .unwrap_or_default()
    }

    async fn submit(&self, form: Form, body: Incoming) -> Result<Reply, Refusal> {
        let site = self.site?;
        let headers = self.request.headers;
        let origin = headers.origin.ok_or(Refusal(Reason::Origin))?;
        let is_foreign = headers
            .fetch_site
            .is_some_and(|relation| relation != b"same-origin");
        if is_foreign || !is_own_origin(self.request, origin) {
            return Err(Refusal(Reason::Origin));
        }
        let content_type = headers.content_type.unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Refusal(Reason::ContentType));
        }
        let body = body::read(self.request, body).await?;
        let FormBody {
            token,
            permit,
            device,
            number,
            wish,
        } = parse_form(&body).ok_or(Refusal(Reason::Form))?;
        let keyring = &self.request.edge.keyring;
        let is_ours = match self.proved.first() {
            Some(proved) => keyring.is_form_token(proved.visitor, token),
            None => token.is_empty(),
        };
        if !is_ours {
            return Err(Refusal(Reason::Token));
        }
        let is_of_belief = !matches!(form, Form::Choice | Form::File | Form::Erasure);
        if wish.is_some() != is_of_belief {
            return Err(Refusal(Reason::Form));
        }
        match form {
            Form::Device | Form::Home | Form::Group | Form::Source => {
                self.contradict(site, form, (wish, device, number)).await
            }
            Form::Choice => {
                let (cookies, _) = self.request.keep_choice(site, permit).await;
                Ok(self.redirect(cookies, "choice"))
            }
            Form::File => self.file(site).await,
            Form::Erasure => {
                let recorded = self.request.instruct(site, Kind::Erasure).await?;
                let done = if recorded > 0 { "erasure" } else { "choice" };
                let (cookies, _) = self.request.choice_cookies(site, Permit::NONE);
                Ok(self.redirect(cookies, done))
            }
        }
    }

    /// Redirects to the page, with what was done.
    fn redirect(&self, cookies: Vec<String>, done: &str) -> Reply {
        let mut reply = reply::empty(StatusCode::SEE_OTHER);
        let target = format!("{}&done={done}", self.link("", self.language));
        if let Ok(target) = HeaderValue::try_from(target) {
            reply.headers_mut().insert(header::LOCATION, target);
        }
        reply.with_cookie(cookies)
    }

    /// Returns everything that is held, in pieces as Postgres gives it.
    async fn file(&self, site: &Site) -> Result<Reply, Refusal> {
        let edge = self.request.edge;
        if !self.spend_view() {
            return Err(Refusal(Reason::OverLimit));
        }
        let visitors = self.proved.iter().map(|proved| proved.visitor).collect();
        let mut pieces = edge
            .inquirer
            .ask_for_file(visitors, subscriber(self.request.client))
            .map_err(|Busy| Refusal(Reason::Busy))?;
        // The status waits for the first piece: without Postgres there is none.
        let first = tokio::time::timeout(ANSWER_TIME_MAX, pieces.recv()).await;
        let Ok(Some(Piece::Bytes(first))) = first else {
            return Err(Refusal(Reason::DatabaseAway));
        };
        let name = format!("attachment; filename=\"{}.json\"", site.key);
        let mut reply = reply::in_pieces("application/json", first, pieces);
        if let Ok(name) = HeaderValue::try_from(name) {
            reply
                .headers_mut()
                .insert(header::CONTENT_DISPOSITION, name);
        }
        Ok(reply)
    }

    /// Returns a page that gives the reason, with a link back.
    fn refuse(&self, refusal: Refusal) -> Reply {
        self.request.edge.metrics.refusal(refusal.0);
        let mut page = Page::new(self.language, |language| self.link("", language));
        // Without a site the link would lead to this page again, unless the host stands for one.
        let is_known = self.site.is_ok() || self.request.site("").is_ok();
        page.back = is_known.then(|| self.link("", self.language));
        page.notices.push(Notice {
            text: notice(page.t, refusal.0),
            is_good: false,
        });
        let mut reply = render(refusal.status(), &page);
        reply::tell(&mut reply, refusal);
        reply
    }
}

fn render(status: StatusCode, page: &Page) -> Reply {
    // Writing the template to a text cannot fail.
    let html = page.render().unwrap_or_default();
    reply::with_body(status, "text/html; charset=utf-8", Bytes::from(html))
}

/// What a form says.
#[derive(Debug, Default, PartialEq, Eq)]
struct FormBody<'b> {
    token: &'b str,
    permit: Permit,
    /// The handle of a device.
    device: &'b str,
    /// The number of a group or of an import.
    number: i32,
    wish: Option<Wish>,
}

/// Parses a form.
fn parse_form(body: &[u8]) -> Option<FormBody<'_>> {
    let mut form = FormBody::default();
    let pairs = str::from_utf8(body).ok()?.split('&');
    for pair in pairs.filter(|pair| !pair.is_empty()) {
        match pair.split_once('=')? {
            ("token", value) => form.token = value,
            ("device", value) => form.device = value,
            ("number", value) => form.number = value.parse().ok()?,
            ("wish", value) => form.wish = Some(belief::find_wish(value)?),
            (name, "on") => form.permit = form.permit.with(Permit::from_name(name)?),
            _ => return None,
        }
    }
    Some(form)
}

/// Returns what the page says of a refusal.
fn notice(t: &text::Text, reason: Reason) -> &'static str {
    match reason {
        Reason::DatabaseAway => t.away,
        Reason::Busy | Reason::OverLimit => t.busy,
        Reason::Token => t.old_form,
        Reason::Framed => t.framed,
        Reason::SiteMissing | Reason::SiteUnknown => t.site_unknown,
        Reason::SpoolFull | Reason::SpoolFailed | Reason::Stopping => t.not_kept,
        _ => t.wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Path;

    #[test]
    fn the_forms_are_those_that_the_table_of_endpoints_has() {
        let Path::Below(Endpoint::Privacy, segments) = Endpoint::PrivacyForm.spec().path else {
            panic!("forms lie below the page");
        };
        let forms = Form::ALL.map(|(_, segment)| segment.trim_start_matches('/'));
        assert_eq!(segments, forms);
    }

    #[test]
    fn a_form_has_a_token_flags_a_device_or_number_and_a_wish_and_nothing_else() {
        let of = |token, permit| {
            Some(FormBody {
                token,
                permit,
                ..FormBody::default()
            })
        };
        for (body, read) in [
            ("", of("", Permit::NONE)),
            ("token=a-_", of("a-_", Permit::NONE)),
            (
                "token=x&store=on&locate=on",
                of("x", Permit::STORE.with(Permit::LOCATE)),
            ),
            (
                "device=ab&wish=not_mine",
                Some(FormBody {
                    device: "ab",
                    wish: Some(Wish::NotMine),
                    ..FormBody::default()
                }),
            ),
            (
                "number=7&wish=leave_group",
                Some(FormBody {
                    number: 7,
                    wish: Some(Wish::LeaveGroup),
                    ..FormBody::default()
                }),
            ),
            ("number=7x", None),
            ("number=4294967296", None),
            ("wish=mine", None),
            ("wish=", None),
            ("store=off", None),
            ("everything=on", None),
            ("store", None),
            ("token=\u{fffd}", of("\u{fffd}", Permit::NONE)),
        ] {
            assert_eq!(parse_form(body.as_bytes()), read, "{body}");
        }
        assert_eq!(parse_form(b"token=\xff"), None);
    }
}
