//! A request that is not recorded: the reason decides the status, and is counted and told.

use hyper::StatusCode;

use crate::click;
use crate::metrics::Reason;
use crate::spool::AppendError;

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
