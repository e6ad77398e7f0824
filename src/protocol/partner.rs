//! Callbacks of partners' servers, under the partner's own names.
//!
//! One callback comes as a query, a form or a JSON object; up to 1,000 come as a JSON array. The
//! body may be packed with gzip. The sender is a server: its address, agent and cookies say nothing
//! about the visitor. What it says itself about the visitor's address and agent counts only if the
//! partner is trusted to say it.
//!
//! Whether the partner sent a callback is decided before ([`crate::callback`]).

use super::native::{self, Owner, Reading};
use super::{Arrival, Draft, Drafts};
use crate::callback::Proof;
use crate::callback::names::Fields;
use crate::hit::Kind;
use crate::hit::limits::TOLD_BYTES_MAX;
use crate::refusal::Reason;

/// What the configuration says about the partner that sends.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'p> {
    /// The partner's key.
    pub key: &'p str,
    /// The site of callbacks that name none.
    pub site: &'p str,
    /// What the partner calls things.
    pub fields: Fields<'p>,
    /// Whether the partner may say the visitor's address and agent.
    pub trusts_client: bool,
    /// What proves that the partner sent this request.
    pub proof: Option<Proof<'p>>,
}

/// Reads a callback's query and its unpacked body.
///
/// # Errors
/// If the body is of no known type, or neither a form nor JSON.
pub fn read<'r>(
    arrival: &Arrival<'_, 'r>,
    sender: Sender<'r>,
    body: &'r [u8],
) -> Result<Drafts<'r>, Reason> {
    let owner = Owner {
        partner: sender.key,
        site: sender.site,
        proof: sender.proof,
    };
    let reading = Reading {
        fields: Some(sender.fields),
        trusts_client: sender.trusts_client,
        ..Reading::default()
    };
    let begin = || Draft::new(arrival.at, Kind::Callback);
    match format_of(arrival.headers.content_type, body)? {
        Format::Form(form) if form.len() > TOLD_BYTES_MAX => Err(Reason::HitTooLarge),
        Format::Form(form) => {
            let mut draft = begin();
            native::read_form(form, arrival.query, reading, &mut draft);
            owner.name_in(&mut draft, 0);
            Ok(Drafts::One(draft))
        }
        Format::Json => native::read_events(body, arrival.query, reading, begin(), Some(owner)),
    }
}

enum Format<'b> {
    Json,
    Form(&'b str),
}

/// Tells a body's format by its type or, where there is none, by how the body begins. An empty body
/// is an empty form.
fn format_of<'b>(content_type: Option<&str>, body: &'b [u8]) -> Result<Format<'b>, Reason> {
    let form = || {
        str::from_utf8(body)
            .map(Format::Form)
            .map_err(|_| Reason::BodyBroken)
    };
    let media_type = content_type.unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let is = |known: &str| media_type.eq_ignore_ascii_case(known);
    if body.is_empty() {
        return Ok(Format::Form(""));
    }
    if is("application/json") || is("text/json") {
        return Ok(Format::Json);
    }
    if is("application/x-www-form-urlencoded") {
        return form();
    }
    if !media_type.is_empty() && !is("text/plain") {
        return Err(Reason::ContentType);
    }
    if matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
        return Ok(Format::Json);
    }
    form()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_what_its_type_says_and_without_one_what_it_begins_with() {
        let format = |content_type, body| {
            format_of(content_type, body).map(|format| matches!(format, Format::Json))
        };
        for (content_type, body, is_json) in [
            (None, &b""[..], Ok(false)),
            (Some("application/json"), b"", Ok(false)),
            (Some("application/json"), b"a=1", Ok(true)),
            (Some("text/JSON; charset=utf-8"), b"a=1", Ok(true)),
            (Some("application/x-www-form-urlencoded"), b"{}", Ok(false)),
            (None, b" [", Ok(true)),
            (Some("text/plain"), b"{}", Ok(true)),
            (Some("text/plain"), b"ev=win", Ok(false)),
            (Some("text/html"), b"{}", Err(Reason::ContentType)),
            (None, b"ev=\xff", Err(Reason::BodyBroken)),
        ] {
            assert_eq!(format(content_type, body), is_json, "{content_type:?}");
        }
    }
}
