//! The consent signals of one request, as sent.

use std::borrow::Cow;

use crate::hit::Permit;

/// The consent signals of one request, as sent. `Some("")` is a signal that says nothing, which is
/// not consent; an unexpanded macro is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signals<'a> {
    /// `gdpr=0|1`.
    pub gdpr: Option<Cow<'a, str>>,
    /// `gdpr_consent`: a TC string.
    pub tcf: Option<Cow<'a, str>>,
    /// `gpp`: a GPP string.
    pub gpp: Option<Cow<'a, str>>,
    /// `gpp_sid`: the IDs of the sections in force, separated by commas.
    pub gpp_sid: Option<Cow<'a, str>>,
    /// The header `Sec-GPC: 1`.
    pub gpc: bool,
    /// What the choice cookies permit together.
    pub choice: Option<Permit>,
    /// A signal or a partner was meant and is not understood ([`names`](super::names)).
    pub is_unclear: bool,
}
