//! A request that is not recorded: the reason decides the status, and is counted and told.

use hyper::StatusCode;

use crate::click;
use spool::AppendError;

/// Why a request, or one event of it, was not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No endpoint has this path.
    UnknownPath,
    /// The endpoint does not take this method.
    Method,
    /// The request target is longer than its limit.
    UriTooLong,
    /// What was sent is no request; hyper answers it and closes.
    Malformed,
    /// There is not exactly one valid `Host`.
    Host,
    /// A body where none may be.
    UnexpectedBody,
    /// A `Transfer-Encoding` other than `chunked`.
    TransferEncoding,
    /// The client sends more hits than its limit.
    OverLimit,
    /// No `site`, and no single site has this host.
    SiteMissing,
    /// The configuration has no such site.
    SiteUnknown,
    /// The configuration has no such partner.
    PartnerUnknown,
    /// The content type is neither JSON nor plain text.
    ContentType,
    /// The body is larger than its limit.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodySlow,
    /// The body broke off.
    BodyBroken,
    /// The body, or an event in it, is not the JSON that is asked for.
    Json,
    /// The page's origin is not one of the site's, or it is not told where it has to be.
    Origin,
    /// A click names no target, or one that nobody may be sent to.
    ClickTarget,
    /// A click's target is not signed, and its host is not on the site's list.
    ClickHost,
    /// A click's signature is not one of ours, and the target's host is not on the site's list.
    ClickSignature,
    /// A click's signature has ended, and the target's host is not on the site's list.
    ClickExpired,
    /// A form's body is not one of this page's.
    Form,
    /// A form was made for another visitor.
    Token,
    /// The privacy page was asked for by a frame or a script.
    Framed,
    /// Too many ask for what is held.
    Busy,
    /// Postgres does not tell what is held.
    DatabaseAway,
    /// The configuration gives the partner nothing to prove a callback with.
    CallbackClosed,
    /// A callback has neither signature nor token.
    CallbackUnproved,
    /// A callback's signature is not the partner's.
    CallbackSignature,
    /// A callback was signed too long ago, or is yet to be.
    CallbackTimestamp,
    /// A callback's token is not the partner's.
    CallbackToken,
    /// The spool has no room.
    SpoolFull,
    /// The spool could not be written.
    SpoolFailed,
    /// The hit is larger than a record may be.
    HitTooLarge,
    /// The collector is stopping.
    Stopping,
}

impl Reason {
    /// Every reason, in the order of the enum.
    pub const ALL: [Reason; 35] = [
        Reason::UnknownPath,
        Reason::Method,
        Reason::UriTooLong,
        Reason::Malformed,
        Reason::Host,
        Reason::UnexpectedBody,
        Reason::TransferEncoding,
        Reason::OverLimit,
        Reason::SiteMissing,
        Reason::SiteUnknown,
        Reason::PartnerUnknown,
        Reason::ContentType,
        Reason::BodyTooLarge,
        Reason::BodySlow,
        Reason::BodyBroken,
        Reason::Json,
        Reason::Origin,
        Reason::ClickTarget,
        Reason::ClickHost,
        Reason::ClickSignature,
        Reason::ClickExpired,
        Reason::Form,
        Reason::Token,
        Reason::Framed,
        Reason::Busy,
        Reason::DatabaseAway,
        Reason::CallbackClosed,
        Reason::CallbackUnproved,
        Reason::CallbackSignature,
        Reason::CallbackTimestamp,
        Reason::CallbackToken,
        Reason::SpoolFull,
        Reason::SpoolFailed,
        Reason::HitTooLarge,
        Reason::Stopping,
    ];

    /// The word in the header `Avtryck-Refusal` and in the label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reason::UnknownPath => "unknown_path",
            Reason::Method => "method",
            Reason::UriTooLong => "uri_too_long",
            Reason::Malformed => "malformed",
            Reason::Host => "host",
            Reason::UnexpectedBody => "unexpected_body",
            Reason::TransferEncoding => "transfer_encoding",
            Reason::OverLimit => "over_limit",
            Reason::SiteMissing => "site_missing",
            Reason::SiteUnknown => "site_unknown",
            Reason::PartnerUnknown => "partner_unknown",
            Reason::ContentType => "content_type",
            Reason::BodyTooLarge => "body_too_large",
            Reason::BodySlow => "body_slow",
            Reason::BodyBroken => "body_broken",
            Reason::Json => "json",
            Reason::Origin => "origin",
            Reason::ClickTarget => "click_target",
            Reason::ClickHost => "click_host",
            Reason::ClickSignature => "click_signature",
            Reason::ClickExpired => "click_expired",
            Reason::Form => "form",
            Reason::Token => "token",
            Reason::Framed => "framed",
            Reason::Busy => "busy",
            Reason::DatabaseAway => "database_away",
            Reason::CallbackClosed => "callback_closed",
            Reason::CallbackUnproved => "callback_unproved",
            Reason::CallbackSignature => "callback_signature",
            Reason::CallbackTimestamp => "callback_timestamp",
            Reason::CallbackToken => "callback_token",
            Reason::SpoolFull => "spool_full",
            Reason::SpoolFailed => "spool_failed",
            Reason::HitTooLarge => "hit_too_large",
            Reason::Stopping => "stopping",
        }
    }

    /// What would be right, for the live view: one line to whoever pasted the tag.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Reason::UnknownPath => {
                "no endpoint has that path: compare it with the tag, and with [path] in the configuration"
            }
            Reason::Method => "that endpoint does not take this method",
            Reason::UriTooLong => "the address is longer than 8 KiB: send less, or a POST",
            Reason::Host => {
                "the Host header is missing, doubled or malformed: look at the proxy in front"
            }
            Reason::Malformed => "what was sent is no HTTP request",
            Reason::UnexpectedBody => "a GET with a body: no browser sends that",
            Reason::TransferEncoding => {
                "the body is coded in another way than chunked: send it plain"
            }
            Reason::OverLimit => {
                "the client sends more hits than [limit] allows: name the proxies in front in http.trusted_proxies, or raise the limit"
            }
            Reason::SiteMissing => {
                "it names no site, and no [[site]] has this host: add site= to the tag, or the host to hosts"
            }
            Reason::SiteUnknown => {
                "no [[site]] has that key: compare its spelling with the configuration"
            }
            Reason::PartnerUnknown => {
                "no [[partner]] has that key: compare its spelling with the configuration"
            }
            Reason::ContentType => "the content type must be application/json or text/plain",
            Reason::BodyTooLarge => "the body is larger than 1 MiB: send fewer events at once",
            Reason::BodySlow => "the body did not arrive within 10 seconds",
            Reason::BodyBroken => "the body broke off",
            Reason::Json => "the body is no JSON object, nor an array of objects",
            Reason::Origin => "the page is not one of the origins of this [[site]]",
            Reason::ClickTarget => {
                "the target is no http or https address that can be followed safely: write it whole, percent-encoded, in to="
            }
            Reason::ClickHost => {
                "the target is neither signed nor on the click_hosts of this [[site]]: sign it with avtryck click-url, or list its host"
            }
            Reason::ClickSignature => {
                "the signature does not fit: sign the query as it is sent, up to &sig=, with a key of click.keys"
            }
            Reason::ClickExpired => "the signed click URL has expired: sign a new one",
            Reason::CallbackClosed => {
                "this [[partner]] has neither a secret nor a token: give it one of them"
            }
            Reason::CallbackUnproved => {
                "the callback has neither Avtryck-Signature nor a token: see docs/ads.md"
            }
            Reason::CallbackSignature => {
                "the signature does not fit: it covers timestamp, method, target and the body as sent, with this partner's secret"
            }
            Reason::CallbackTimestamp => {
                "the callback was signed outside timestamp_window: look at the sender's clock, and sign each attempt anew"
            }
            Reason::CallbackToken => "the token is not this partner's",
            Reason::Form => "a form of the privacy page that is not as the page made it",
            Reason::Token => "a form of the privacy page for another visitor: load the page again",
            Reason::Framed => "the privacy page is shown in no frame and to no script: link to it",
            Reason::Busy => "too many ask the privacy page what is held",
            Reason::DatabaseAway => {
                "Postgres does not tell the privacy page what is held: look at the log"
            }
            Reason::SpoolFull => {
                "the spool is full: Postgres has been away for long, or spool.max_bytes is small"
            }
            Reason::SpoolFailed => "the disk of the spool fails: look at the log",
            Reason::HitTooLarge => "the hit is larger than a record may be",
            Reason::Stopping => "the collector was stopping",
        }
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal(pub Reason);

impl Refusal {
    /// The status of the reply.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self.0 {
            Reason::UnknownPath => StatusCode::NOT_FOUND,
            Reason::Method => StatusCode::METHOD_NOT_ALLOWED,
            Reason::UriTooLong => StatusCode::URI_TOO_LONG,
            Reason::Malformed
            | Reason::Host
            | Reason::UnexpectedBody
            | Reason::TransferEncoding
            | Reason::SiteMissing
            | Reason::SiteUnknown
            | Reason::PartnerUnknown
            | Reason::BodyBroken
            | Reason::Form
            | Reason::Json
            | Reason::ClickTarget
            | Reason::ClickHost
            | Reason::ClickSignature
            | Reason::ClickExpired => StatusCode::BAD_REQUEST,
            Reason::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Reason::BodyTooLarge | Reason::HitTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Reason::BodySlow => StatusCode::REQUEST_TIMEOUT,
            Reason::CallbackUnproved => StatusCode::UNAUTHORIZED,
            Reason::Origin
            | Reason::Token
            | Reason::Framed
            | Reason::CallbackClosed
            | Reason::CallbackSignature
            | Reason::CallbackTimestamp
            | Reason::CallbackToken => StatusCode::FORBIDDEN,
            Reason::OverLimit => StatusCode::TOO_MANY_REQUESTS,
            Reason::Busy
            | Reason::DatabaseAway
            | Reason::SpoolFull
            | Reason::SpoolFailed
            | Reason::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether the connection cannot be trusted to go on: what follows may be a smuggled request.
    pub(crate) fn closes(self) -> bool {
        matches!(
            self.0,
            Reason::Malformed
                | Reason::Host
                | Reason::UnexpectedBody
                | Reason::TransferEncoding
                | Reason::Method
                | Reason::UriTooLong
                | Reason::BodyTooLarge
                | Reason::BodySlow
                | Reason::BodyBroken
                | Reason::Stopping
        )
    }
}

impl From<click::Flaw> for Refusal {
    fn from(flaw: click::Flaw) -> Refusal {
        Refusal(match flaw {
            click::Flaw::Target => Reason::ClickTarget,
            click::Flaw::Host => Reason::ClickHost,
            click::Flaw::Signature => Reason::ClickSignature,
            click::Flaw::Expired => Reason::ClickExpired,
        })
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Refusal {
        Refusal(match error {
            AppendError::Full => Reason::SpoolFull,
            AppendError::Io => Reason::SpoolFailed,
            AppendError::TooLarge => Reason::HitTooLarge,
            AppendError::Closed => Reason::Stopping,
        })
    }
}
