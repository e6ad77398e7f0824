//! Consent signals -> [`Permit`](crate::hit::Permit); and what is not permitted leaves the hit
//! here, before the spool. Pure, but for the strings that are remembered once read ([`Strings`]).
//!
//! # Signals to permit
//! The first row that applies counts; the column is what else came with the request. `GPC` is the
//! header `Sec-GPC: 1` (any value but a no), the choice is the cookie that `/consent` or the tag
//! sets.
//!
//! Before them all: where a signal or a partner was meant and is not understood ([`names`]),
//! nothing is permitted (`unclear`), whatever else came with the request.
//!
//! | | what is said of the visitor | alone | with GPC | with a choice | with both |
//! | --- | --- | --- | --- | --- | --- |
//! | 1 | `gdpr=0`, where `gdpr_0_permit` is not empty | `gdpr_0_permit` (`gdpr_0`) | none (`gpc`) | the choice (`choice`) | the choice less the sale (`choice`) |
//! | 2 | `gdpr_consent` | what the TC string permits (`tcf`) | that less the sale (`tcf`) | what string and choice both permit | that less the sale |
//! | 3 | `gpp` | what the TC string of its section 2 permits (`gpp`) | that less the sale (`gpp`) | what string and choice both permit | that less the sale |
//! | 4 | one of the two without a value, or any `gdpr` but 0 or a `gpp_sid` that does not name other sections alone, without a string | none (`tcf`; `gpp` where only that came) | none | none | none |
//! | 5 | nothing, or `gdpr=0` that does not count | `default_permit` (`default`) | none (`gpc`) | the choice (`choice`) | the choice less the sale (`choice`) |
//!
//! - The signal in brackets is the `consent_source` of the row in Postgres. In rows 2 and 3 it is
//!   `choice` where the choice took away something that the string permits.
//! - **The sale** is `profile`, `match` and `link`. A consent or a choice was given to this site,
//!   which GPC does not revoke; but GPC says that nothing may be sold or shared. Where nobody asked
//!   the visitor (rows 1 and 5), GPC is an objection and outweighs any default.
//! - **A choice beside a string narrows it**: a visitor who withdrew on this site stays out,
//!   whatever a consent platform that has not heard of it still sends.
//! - **`gdpr=0`** is the sender's word, and a parameter cannot take a visitor out of the law. It
//!   counts only where the configuration says what such a hit may do; strings beside it are then
//!   not read.
//! - **Whose rules**: what an ad did (an ad pixel, a click, a callback) and an exchange of IDs are
//!   judged by the `[[partner]]` that they name, any other hit by its `[[site]]`: `gvl_id`,
//!   `default_permit`, `gdpr_0_permit`. A page view, an event of a page or a conversion that names
//!   a partner needs both ([`decide_by_both`]): otherwise whoever writes `partner=` would choose
//!   the rules of the site's visitors. Without a `gvl_id` no string permits anything.
//! - **A string** that is missing, malformed, an unexpanded macro (row 4), made for another vendor
//!   or for an older policy is not consent; [`tcf`] says which are, and maps purposes to the
//!   permit. `gpp` counts if `gpp_sid` names section 2 or is absent; it is read only where
//!   `gdpr_consent` is absent.
//! - **Of several choices** the intersection holds: a browser may have one cookie of the host and
//!   one of each domain above it, and an old one must not undo a withdrawal. [`parse_choice`] reads
//!   one; one that it does not understand permits nothing.
//!
//! # What a missing flag removes
//! | without | leaves the hit, before the spool |
//! | --- | --- |
//! | `measure` | all but the time's minute, site, kind, partner, campaign, creative, placement and publisher: the hit becomes a count in `hit_count`, and the address, agent, URLs, IDs and parameters are gone (of its flags only those stay that exclude it from every count, and `unclear_consent`; with `store` the visitor stays, whose permit is noted) |
//! | `store` | the visitor cookie is neither read nor set; no ID of a visitor, partner, device, user, visit or click, no e-mail address, phone number or name, wherever it stands in parameters and addresses ([`mod@strip`]) |
//! | `locate` | of parameters and addresses positions, but of our own protocol only with `store` missing as well; after the lookup all of the place but country and region ([`crate::enrich::Place::coarse`]) |
//! | `profile` | nothing here; segments take only rows whose permit has it |
//! | `match` | of a `sync`, the partner's ID; else nothing here: IDs are exchanged and data combined only for rows whose permit has it |
//! | `link` | nothing here; ties and households are made of hits whose permit has it ([`crate::identity`]) |
//!
//! A [`Kind::Withdrawal`] or [`Kind::Erasure`] is the visitor's own instruction: it keeps site,
//! time and visitor, and nothing else, under no permit at all.
//!
//! [`Kind::Withdrawal`]: crate::hit::Kind::Withdrawal
//! [`Kind::Erasure`]: crate::hit::Kind::Erasure

mod bits;
mod choice;
mod gpp;
pub mod names;
mod rules;
mod signals;
mod strings;
mod strip;
mod tcf;
#[cfg(test)]
mod tests;

pub use choice::parse_choice;
pub(crate) use rules::decide_by_both;
pub use rules::{PermitRules, decide};
pub use signals::Signals;
pub use strings::Strings;
pub use strip::{Personal, strip, strip_personal};
pub(crate) use strip::{fold_name, holds_email};
