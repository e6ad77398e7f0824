//! The parameters that have a place of their own, in a hit or among its signals.

use crate::hit::limits::{
    CLICK_ID_BYTES_MAX, EVENT_BYTES_MAX, PARAMS_BYTES_MAX, TEXT_BYTES_MAX, URI_BYTES_MAX,
    URL_BYTES_MAX,
};
use crate::protocol::text::{ValueKind, ValueRule};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameter {
    Site,
    PageUrl,
    Referrer,
    EventName,
    EventId,
    Partner,
    Campaign,
    Creative,
    Placement,
    Publisher,
    PartnerUid,
    Maid,
    DeviceId,
    Category,
    Model,
    Platform,
    PlatformVersion,
    Mobile,
    FormFactors,
    Brands,
    Gdpr,
    GdprConsent,
    Gpp,
    GppSid,
    ClickId,
    /// `addtl_consent` permits nothing that the other signals do not.
    AddtlConsent,
    /// `cb` only defeats caches.
    CacheBuster,
    /// Who is logged in, by the sender's ID. An address never says it: addresses are logged, shared
    /// and sent as `Referer`.
    User,
    /// What the site signed of the user. Nothing of it is kept, and an address never brings it.
    UserSig,
    /// The sender's ID of a visit.
    Session,
    /// The token of the link that led to the page.
    Link,
    /// `truncated` says that the sender left out what did not fit.
    Truncated,
}

impl Parameter {
    /// Every parameter, in the order of their bits.
    pub(crate) const ALL: [Parameter; 32] = [
        Parameter::Site,
        Parameter::PageUrl,
        Parameter::Referrer,
        Parameter::EventName,
        Parameter::EventId,
        Parameter::Partner,
        Parameter::Campaign,
        Parameter::Creative,
        Parameter::Placement,
        Parameter::Publisher,
        Parameter::PartnerUid,
        Parameter::Maid,
        Parameter::DeviceId,
        Parameter::Category,
        Parameter::Model,
        Parameter::Platform,
        Parameter::PlatformVersion,
        Parameter::Mobile,
        Parameter::FormFactors,
        Parameter::Brands,
        Parameter::Gdpr,
        Parameter::GdprConsent,
        Parameter::Gpp,
        Parameter::GppSid,
        Parameter::ClickId,
        Parameter::AddtlConsent,
        Parameter::CacheBuster,
        Parameter::User,
        Parameter::UserSig,
        Parameter::Session,
        Parameter::Link,
        Parameter::Truncated,
    ];

    /// Finds the parameter of that name. Names are matched as bytes, because that compiles to a
    /// decision by length and letter; texts would be compared one after the other.
    pub(crate) fn from_name(name: &str) -> Option<Parameter> {
        Some(match name.as_bytes() {
            b"site" => Parameter::Site,
            b"u" => Parameter::PageUrl,
            b"ref" => Parameter::Referrer,
            b"e" => Parameter::EventName,
            b"id" => Parameter::EventId,
            b"partner" => Parameter::Partner,
            b"campaign" => Parameter::Campaign,
            b"creative" => Parameter::Creative,
            b"placement" => Parameter::Placement,
            b"publisher" => Parameter::Publisher,
            b"uid" => Parameter::PartnerUid,
            b"maid" => Parameter::Maid,
            b"did" => Parameter::DeviceId,
            b"cat" => Parameter::Category,
            b"ch_model" => Parameter::Model,
            b"ch_platform" => Parameter::Platform,
            b"ch_platform_version" => Parameter::PlatformVersion,
            b"ch_mobile" => Parameter::Mobile,
            b"ch_form_factors" => Parameter::FormFactors,
            b"ch_brands" => Parameter::Brands,
            b"gdpr" => Parameter::Gdpr,
            b"gdpr_consent" => Parameter::GdprConsent,
            b"gpp" => Parameter::Gpp,
            b"gpp_sid" => Parameter::GppSid,
            b"avclid" | b"click_id" => Parameter::ClickId,
            b"addtl_consent" => Parameter::AddtlConsent,
            b"cb" => Parameter::CacheBuster,
            b"truncated" => Parameter::Truncated,
            b"user" => Parameter::User,
            b"user_sig" => Parameter::UserSig,
            b"avlink" => Parameter::Link,
            _ => return None,
        })
    }

    /// Returns its bit among those of the parameters that were there.
    pub(crate) fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Returns whether the permit is decided by its value.
    pub(crate) fn is_decided_by(self) -> bool {
        matches!(
            self,
            Parameter::Gdpr | Parameter::GdprConsent | Parameter::Gpp
        )
    }

    /// Returns whether it is a consent signal.
    pub(crate) fn is_signal(self) -> bool {
        matches!(
            self,
            Parameter::Gdpr
                | Parameter::GdprConsent
                | Parameter::Gpp
                | Parameter::GppSid
                | Parameter::AddtlConsent
        )
    }

    pub(crate) fn rule(self) -> ValueRule {
        let name = |bytes_max| ValueRule {
            bytes_max,
            kind: ValueKind::Name,
        };
        let id = |bytes_max| ValueRule {
            bytes_max,
            kind: ValueKind::Id,
        };
        match self {
            Parameter::Site => ValueRule::from(64),
            Parameter::PageUrl | Parameter::Referrer => ValueRule::from(URL_BYTES_MAX),
            Parameter::EventName => name(EVENT_BYTES_MAX),
            Parameter::EventId => id(EVENT_BYTES_MAX),
            Parameter::ClickId => id(CLICK_ID_BYTES_MAX),
            Parameter::PartnerUid
            | Parameter::Maid
            | Parameter::DeviceId
            | Parameter::User
            | Parameter::Session => id(TEXT_BYTES_MAX),
            Parameter::Campaign
            | Parameter::Creative
            | Parameter::Placement
            | Parameter::Publisher => name(TEXT_BYTES_MAX),
            Parameter::GdprConsent | Parameter::Gpp | Parameter::AddtlConsent => {
                ValueRule::from(URI_BYTES_MAX)
            }
            _ => ValueRule::from(TEXT_BYTES_MAX),
        }
    }
}

/// Returns how a value is read, by what [`Parameter::from_name`] finds for its name. Further
/// parameters have the limit of all of them together.
pub(crate) fn rule(parameter: Option<Parameter>, name: &str) -> ValueRule {
    match parameter {
        Some(parameter) => parameter.rule(),
        None if name == "ev" => Parameter::EventName.rule(),
        None => ValueRule::from(PARAMS_BYTES_MAX),
    }
}
