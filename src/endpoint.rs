//! The endpoints: what can be asked for.

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "docs/parameters.md describes each endpoint")]
pub enum Endpoint {
    Pixel,
    Event,
    Id,
    Impression,
    Click,
    Callback,
    Sync,
    SetUid,
    Consent,
    Privacy,
    PrivacyForm,
    Tag,
    Demo,
    Unknown,
}

impl Endpoint {
    /// Every endpoint with its word in the label, in the order of the enum.
    pub const ALL: [(Endpoint, &'static str); 14] = [
        (Endpoint::Pixel, "pixel"),
        (Endpoint::Event, "event"),
        (Endpoint::Id, "id"),
        (Endpoint::Impression, "impression"),
        (Endpoint::Click, "click"),
        (Endpoint::Callback, "callback"),
        (Endpoint::Sync, "sync"),
        (Endpoint::SetUid, "setuid"),
        (Endpoint::Consent, "consent"),
        (Endpoint::Privacy, "privacy"),
        (Endpoint::PrivacyForm, "privacy_form"),
        (Endpoint::Tag, "tag"),
        (Endpoint::Demo, "demo"),
        (Endpoint::Unknown, "unknown"),
    ];

    /// The word in the label.
    #[must_use]
    pub fn name(self) -> &'static str {
        Endpoint::ALL
            .iter()
            .find(|(known, _)| *known == self)
            .map_or("unknown", |(_, name)| name)
    }
}
