//! The reasons for which a request is not recorded: one table.
//!
//! The reason decides the status of the reply and whether the connection ends. It is the header
//! `Avtryck-Refusal`, the label of a metric, the advice in the live view, and a row in
//! docs/endpoints.md.

use std::time::Duration;

use hyper::StatusCode;

use crate::endpoint::{
    BODY_BYTES_MAX, BODY_TIME_MAX, EVENTS_MAX, HEADER_BYTES_MAX, TRACKER_BODY_BYTES_MAX,
    TRACKER_HEADER_BYTES_MAX, TRACKER_URI_BYTES_MAX, URI_BYTES_MAX,
};

/// What becomes of the connection after a refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    /// It may bring further requests.
    StaysOpen,
    /// It ends: what follows may be a smuggled request.
    Closes,
}

/// What the table says about one reason.
struct ReasonSpec {
    name: &'static str,
    status: StatusCode,
    connection: Connection,
    /// With `{uri_bytes}` and the like in place of limits.
    advice: &'static str,
}

/// Defines [`Reason`] and the table from one list of rows: the name, the status, what becomes of
/// the connection, and the advice.
macro_rules! reasons {
    ($(
        $(#[doc = $meaning:literal])+
        $reason:ident($name:literal, $status:ident, $connection:ident): $advice:literal;
    )+) => {
        /// Why a request, or one event of it, was not recorded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[doc = $meaning])+ $reason,)+
        }

        impl Reason {
            /// Every reason, in the order of the enum.
            pub const ALL: [Reason; [$(Reason::$reason),+].len()] = [$(Reason::$reason),+];

            const fn spec(self) -> &'static ReasonSpec {
                match self {
                    $(Reason::$reason => const {
                        &ReasonSpec {
                            name: $name,
                            status: StatusCode::$status,
                            connection: Connection::$connection,
                            advice: $advice,
                        }
                    },)+
                }
            }

            /// Returns what the reason means, as docs/endpoints.md says it.
            #[cfg(test)]
            pub(crate) fn meaning(self) -> &'static str {
                match self {
                    $(Reason::$reason => concat!($($meaning),+).trim_ascii(),)+
                }
            }
        }
    };
}

reasons! {
    /// No endpoint has this path.
    UnknownPath("unknown_path", NOT_FOUND, StaysOpen):
        "no endpoint has that path: compare it with the tag and with [path] in the configuration";
    /// The endpoint does not accept this method; `Allow` lists those that it accepts.
    Method("method", METHOD_NOT_ALLOWED, Closes):
        "that endpoint does not accept this method";
    /// Path and query are longer than their limit.
    UriTooLong("uri_too_long", URI_TOO_LONG, Closes):
        "the address is longer than {uri_bytes}, or a tracker's than {tracker_uri_bytes}: send less, or \
         use POST";
    /// The header has more bytes than its limit, or more than 100 lines. Over HTTP/2 the reply to
    /// one that is larger than a tracker's may be has the status alone, and is not counted.
    HeaderTooLarge("header_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, Closes):
        "the header is larger than {header_bytes}, or a tracker's than {tracker_header_bytes}, or has \
         more than 100 lines: most often other programs' cookies on the same domain are too many";
    /// The bytes are not an HTTP request: the target holds a space or a control character, for
    /// example. Over HTTP/2 the stream ends with `PROTOCOL_ERROR`, and is not counted.
    Malformed("malformed", BAD_REQUEST, Closes):
        "what was sent is not an HTTP request: percent-encode what the address holds";
    /// There is not exactly one valid `Host`.
    Host("host", BAD_REQUEST, Closes):
        "the Host header is missing, repeated or malformed: look at the proxy in front";
    /// A request that may not have a body has one.
    UnexpectedBody("unexpected_body", BAD_REQUEST, Closes):
        "a request other than a POST has a body: no browser sends that";
    /// A `Transfer-Encoding` is not exactly `chunked`.
    TransferEncoding("transfer_encoding", BAD_REQUEST, Closes):
        "the body has a transfer encoding other than chunked: send it without one";
    /// The client sends more hits than `[limit]` allows, and `limit.drop` is set; never a click. Or
    /// it sends `limit.drop_above` times as many, or one body makes larger records than it may. Or
    /// it asks for more withdrawals, deletions or views of the privacy page than thirty at once and
    /// then one a second, or its network (a /24 or /48) asks for more withdrawals and deletions
    /// than a thousand at once and then ten a second.
    OverLimit("over_limit", TOO_MANY_REQUESTS, StaysOpen):
        "the client sends more hits than [limit] allows: name the proxies in front in \
         http.trusted_proxies, or raise the limit";
    /// The request names no site, and no site has this host.
    SiteMissing("site_missing", BAD_REQUEST, StaysOpen):
        "it names no site, and no [[site]] has this host: add site= to the tag, or the host \
         to hosts";
    /// The configuration has no such site, nor one with that alias.
    SiteUnknown("site_unknown", BAD_REQUEST, StaysOpen):
        "no [[site]] has that key: compare its spelling with the configuration; what a tracker \
         calls its site belongs in aliases";
    /// The tag has no such module.
    ModuleUnknown("module_unknown", BAD_REQUEST, StaysOpen):
        "the tag has no module of that name: docs/tag.md lists them";
    /// The configuration has no such partner.
    PartnerUnknown("partner_unknown", BAD_REQUEST, StaysOpen):
        "no [[partner]] has that key: compare its spelling with the configuration";
    /// The partner may not write for the site.
    PartnerSite("partner_site", FORBIDDEN, StaysOpen):
        "this [[partner]] may write for other sites only: add the site to its sites";
    /// The content type is neither `application/json` nor `text/plain`; for `/consent` not
    /// `application/json`, for a form not `application/x-www-form-urlencoded`. Or the content
    /// encoding is neither `gzip` nor `deflate`.
    ContentType("content_type", UNSUPPORTED_MEDIA_TYPE, StaysOpen):
        "the content type must be application/json or text/plain, and the content encoding \
         gzip, deflate or none";
    /// The body is larger than the endpoint accepts.
    BodyTooLarge("body_too_large", PAYLOAD_TOO_LARGE, Closes):
        "the body is larger than {body_bytes}, or a tracker's than {tracker_body_bytes}: send fewer \
         events at once";
    /// The body did not arrive in time.
    BodySlow("body_slow", REQUEST_TIMEOUT, Closes):
        "the body did not arrive within {body_time}";
    /// The body ended early or cannot be unpacked.
    BodyBroken("body_broken", BAD_REQUEST, Closes):
        "the body ended early or cannot be unpacked";
    /// The memory for bodies is used up, or this client has its share of it; try again.
    Crowded("crowded", SERVICE_UNAVAILABLE, Closes):
        "the memory for bodies, http.body_memory, is used up";
    /// An array has more events than one body may have, or one of its size; those before are
    /// recorded.
    TooManyEvents("too_many_events", PAYLOAD_TOO_LARGE, StaysOpen):
        "the array has more than {events} events: send them in several requests";
    /// The body, or an event in it, is not JSON or not an object, or is nested too deep; for
    /// `/consent` it is not an object of flags.
    Json("json", BAD_REQUEST, StaysOpen):
        "the body is neither a JSON object nor an array of objects";
    /// The page's origin is not one of the site's, or a change of a choice or a form comes without
    /// an `Origin` that may make it.
    Origin("origin", FORBIDDEN, StaysOpen):
        "the page is not one of the origins of this [[site]]";
    /// A click names no target, or one that is not an http or https URL that a click may go to.
    ClickTarget("click_target", BAD_REQUEST, StaysOpen):
        "the target is not an http or https address that can be followed safely: write it in \
         full, percent-encoded, in to=";
    /// A click's target is not signed, and its host is not one of the site's `click_hosts`.
    ClickHost("click_host", BAD_REQUEST, StaysOpen):
        "the target is neither signed nor on the click_hosts of this [[site]]: sign it with \
         avtryck click-url, or list its host";
    /// A click's signature is not one of ours, and the target's host is not one of the site's
    /// `click_hosts`.
    ClickSignature("click_signature", BAD_REQUEST, StaysOpen):
        "the signature does not match: sign the query as it is sent, up to &sig=, with a key \
         of click.keys";
    /// A click's signature has expired, and the target's host is not one of the site's
    /// `click_hosts`.
    ClickExpired("click_expired", BAD_REQUEST, StaysOpen):
        "the signed click URL has expired: sign a new one";
    /// A page asks for a token for a host that is not one of the site's `links`.
    LinkHost("link_host", FORBIDDEN, StaysOpen):
        "the link leads to a host that is not among the links of this [[site]]: list it";
    /// The token of a link is not one of ours, a minute old, or for another host, page or browser.
    LinkToken("link_token", BAD_REQUEST, StaysOpen):
        "the token of a link does not count here: it is older than a minute, or was made for another \
         host, from another page, in another browser or with other cookie.keys";
    /// A form of the privacy page has fields that the page did not give it.
    Form("form", BAD_REQUEST, StaysOpen):
        "a form of the privacy page that is not as the page made it";
    /// A form of the privacy page was made for another visitor, or its cookie is gone.
    Token("token", FORBIDDEN, StaysOpen):
        "a form of the privacy page for another visitor: load the page again";
    /// A frame or a script asks for the privacy page.
    Framed("framed", FORBIDDEN, StaysOpen):
        "the privacy page is not shown in frames or to scripts: link to it";
    /// Too many clients ask the privacy page what is held.
    Busy("busy", SERVICE_UNAVAILABLE, StaysOpen):
        "too many clients ask the privacy page what is held";
    /// Postgres does not say what is held; the privacy page itself still has status 200.
    DatabaseAway("database_away", SERVICE_UNAVAILABLE, StaysOpen):
        "Postgres does not say what is held, so the privacy page cannot: look at the log";
    /// The configuration gives the partner nothing to prove a callback with.
    CallbackClosed("callback_closed", FORBIDDEN, StaysOpen):
        "this [[partner]] has neither a secret nor a token: give it one of them";
    /// A callback has neither a signature nor a token.
    CallbackUnproved("callback_unproved", UNAUTHORIZED, StaysOpen):
        "the callback has neither Avtryck-Signature nor a token: see docs/ads.md";
    /// A callback's signature is not the partner's.
    CallbackSignature("callback_signature", FORBIDDEN, StaysOpen):
        "the signature does not match: it covers timestamp, method, target and the body as \
         sent, with this partner's secret";
    /// A callback's timestamp is too far from the collector's clock.
    CallbackTimestamp("callback_timestamp", FORBIDDEN, StaysOpen):
        "the callback was signed outside timestamp_window: check the sender's clock, and sign \
         each attempt anew";
    /// A callback's token is not the partner's.
    CallbackToken("callback_token", FORBIDDEN, StaysOpen):
        "the token is not this partner's";
    /// The configuration has no such system.
    SystemUnknown("system_unknown", NOT_FOUND, StaysOpen):
        "no [[system]] has that key: compare the path with the configuration";
    /// A system's request came by plain http, and neither from this machine nor through a trusted
    /// proxy that had it by https.
    SystemHttp("system_http", FORBIDDEN, StaysOpen):
        "a system's events are taken by https alone: others could read them on the way; a token that \
         was sent has to be replaced";
    /// The address of a system's request has a query.
    SystemQuery("system_query", BAD_REQUEST, StaysOpen):
        "the address of a system's request has a query: addresses are logged, so the token belongs in \
         Authorization: Bearer, and all else in the body; a token that was sent has to be replaced";
    /// A system's request has neither a signature nor a token in `Authorization`.
    SystemUnproved("system_unproved", UNAUTHORIZED, StaysOpen):
        "the request has neither Avtryck-Signature nor Authorization: Bearer: see docs/systems.md";
    /// A signature is not the system's.
    SystemSignature("system_signature", FORBIDDEN, StaysOpen):
        "the signature does not match: it is of version 2 and covers timestamp, method, host, target, \
         content type and the body as sent, with one of this system's secrets";
    /// A system's timestamp is too far from the collector's clock.
    SystemTimestamp("system_timestamp", FORBIDDEN, StaysOpen):
        "the request was signed more than 5 minutes from now: check the sender's clock, and sign each \
         attempt anew";
    /// A token is not the system's.
    SystemToken("system_token", FORBIDDEN, StaysOpen):
        "the token is none of this system's";
    /// The system may not write for the site.
    SystemSite("system_site", FORBIDDEN, StaysOpen):
        "this [[system]] may write for other sites only: add the site to its sites";
    /// A system's event has no name.
    SystemEvent("system_event", BAD_REQUEST, StaysOpen):
        "the event has no name: put it in e";
    /// The spool has no room; try again.
    SpoolFull("spool_full", SERVICE_UNAVAILABLE, StaysOpen):
        "the spool is full: Postgres has been away for a long time, or spool.max_bytes is small";
    /// The spool could not be written; try again.
    SpoolFailed("spool_failed", SERVICE_UNAVAILABLE, StaysOpen):
        "the disk of the spool fails: look at the log";
    /// The hit is larger than a record may be, or a body takes more than 64 KiB to tell it, or 96
    /// KiB where a tracker of another maker sends it.
    HitTooLarge("hit_too_large", PAYLOAD_TOO_LARGE, StaysOpen):
        "the hit is larger than a record may be";
    /// The collector is stopping; try again.
    Stopping("stopping", SERVICE_UNAVAILABLE, Closes):
        "the collector was stopping";
}

impl Reason {
    /// Returns the word in the header `Avtryck-Refusal` and in the metric's label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.spec().name
    }

    /// Returns the status of the reply.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        self.spec().status
    }

    /// Returns whether the connection must end, because what follows may be a smuggled request.
    #[must_use]
    pub fn closes(self) -> bool {
        self.spec().connection == Connection::Closes
    }

    /// Returns one line for the person who pasted the tag: what would be right.
    #[must_use]
    pub(crate) fn advice(self) -> String {
        let limits = [
            ("{uri_bytes}", size(URI_BYTES_MAX)),
            ("{tracker_uri_bytes}", size(TRACKER_URI_BYTES_MAX)),
            ("{header_bytes}", size(HEADER_BYTES_MAX)),
            ("{tracker_header_bytes}", size(TRACKER_HEADER_BYTES_MAX)),
            ("{body_bytes}", size(BODY_BYTES_MAX)),
            ("{tracker_body_bytes}", size(TRACKER_BODY_BYTES_MAX)),
            ("{body_time}", seconds(BODY_TIME_MAX)),
            ("{events}", EVENTS_MAX.to_string()),
        ];
        limits
            .iter()
            .fold(self.spec().advice.to_owned(), |text, (place, limit)| {
                text.replace(place, limit)
            })
    }
}

/// Writes a size in the largest unit that it is a multiple of.
fn size(bytes: usize) -> String {
    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;
    match bytes {
        bytes if bytes % MIB == 0 => format!("{} MiB", bytes / MIB),
        bytes if bytes % KIB == 0 => format!("{} KiB", bytes / KIB),
        bytes => format!("{bytes} bytes"),
    }
}

/// Writes a time in whole seconds.
fn seconds(time: Duration) -> String {
    format!("{} seconds", time.as_secs())
}

/// A request that is not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub Reason);

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Refusal {
        Refusal(reason)
    }
}

impl Refusal {
    /// Returns the status of the reply.
    #[must_use]
    pub(crate) fn status(self) -> StatusCode {
        self.0.status()
    }

    /// Returns whether the connection must end ([`Reason::closes`]).
    #[must_use]
    pub(crate) fn closes(self) -> bool {
        self.0.closes()
    }
}

#[cfg(test)]
mod tests;
