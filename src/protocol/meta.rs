//! The image of Meta's pixel, as pages have it by hand: `/tr?id=…&ev=PageView&noscript=1`. Pure.
//!
//! Such an image can be pointed elsewhere, the script cannot. It is our own pixel with other names:
//!
//! | parameter | becomes |
//! | --- | --- |
//! | `id` | the site's alias |
//! | `ev` | the event's name; `PageView` is a page view |
//! | `eid` | `event_id` |
//! | `dl` `rl` | `page_url` `referrer` |
//! | `fbp` | `device_id` |
//! | `cd[…]` | the member of `params` with the name in the brackets |
//! | `ud[…]` `udff[…]` `fbc` `external_id` | nothing: they say who somebody is to Meta |
//! | any other | `params` under its own name |
//!
//! `protocol.meta_names` has further names, or other ones for the same: those count first.

use std::borrow::Cow;

use super::Arrival;
use super::native::Parameter;
use super::text::decode_once;
use super::tracker::{Claims, Told, json_of, without_fragment};
use crate::consent::names::{may_mean, means_signal};
use crate::hit::Kind;
use crate::hit::limits::PARAMETERS_READ_MAX;
use crate::request::split_pairs;

/// How Meta names a page view.
const PAGE_VIEW: &str = "PageView";
/// What says who somebody is to Meta.
const PASSED_OVER: [&str; 2] = ["external_id", "fbc"];
/// What they begin with.
const OF_PEOPLE: [&str; 2] = ["ud[", "udff["];

/// Reads the hit of a query.
pub(super) fn read(arrival: &Arrival<'_, '_>) -> Told<'static> {
    let mut told = Told {
        kind: Some(Kind::PageView),
        claims: Claims {
            // The image of a page.
            keeps_cookies: true,
            ..Claims::default()
        },
        ..Told::default()
    };
    for (at, (name, value)) in split_pairs(arrival.query).enumerate() {
        let name = decode_once(name);
        if at < PARAMETERS_READ_MAX || may_mean(&name) {
            let named = arrival
                .meta_names
                .iter()
                .find(|(theirs, _)| *theirs == name);
            match named {
                Some((_, ours)) => put_ours(&mut told, ours, &decode_once(value)),
                None => put(&mut told, &name, &decode_once(value)),
            }
        }
    }
    told
}

/// Puts a parameter in its place, by our name for it.
fn put_ours(told: &mut Told<'_>, name: &str, value: &str) {
    if value.is_empty() && !means_signal(name) {
        return;
    }
    match Parameter::from_name(name) {
        Some(Parameter::Site) => put_alias(told, value),
        // An address never says who is logged in.
        Some(Parameter::User) => {}
        Some(Parameter::EventName) if value == PAGE_VIEW => {}
        Some(parameter) => put_parameter(told, parameter, value),
        None => {
            let own = name.to_owned();
            told.params
                .push((Cow::Owned(own), Cow::Owned(json_of(value))));
        }
    }
}

fn put_alias(told: &mut Told<'_>, alias: &str) {
    if told.claims.site_alias.is_empty() {
        alias.clone_into(&mut told.claims.site_alias);
    }
}

fn put_parameter(told: &mut Told<'_>, parameter: Parameter, value: &str) {
    if parameter == Parameter::EventName {
        told.kind = Some(Kind::Event);
    }
    let text = match parameter {
        Parameter::PageUrl | Parameter::Referrer => without_fragment(value),
        _ => value,
    };
    told.ours.push((parameter, Cow::Owned(json_of(text))));
}

fn put(told: &mut Told<'_>, name: &str, value: &str) {
    let is_of_people = OF_PEOPLE.iter().any(|start| name.starts_with(start));
    let says_nothing = value.is_empty() && !means_signal(name);
    if says_nothing || is_of_people || PASSED_OVER.contains(&name) {
        return;
    }
    let parameter = match name {
        "id" => return put_alias(told, value),
        "ev" if value == PAGE_VIEW => return,
        "ev" => Some(Parameter::EventName),
        "eid" => Some(Parameter::EventId),
        "dl" => Some(Parameter::PageUrl),
        "rl" => Some(Parameter::Referrer),
        "fbp" => Some(Parameter::DeviceId),
        _ => None,
    };
    if let Some(parameter) = parameter {
        put_parameter(told, parameter, value);
    } else {
        let inner = name
            .strip_prefix("cd[")
            .and_then(|name| name.strip_suffix(']'));
        let own = inner.unwrap_or(name).to_owned();
        told.params
            .push((Cow::Owned(own), Cow::Owned(json_of(value))));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use crate::clock::UnixMicros;
    use crate::endpoint::Endpoint;
    use crate::hit::Kind;
    use crate::protocol::{Arrival, read};
    use crate::request::Headers;

    #[test]
    fn an_image_tells_what_happened_under_the_names_of_meta() {
        let headers = Headers::default();
        let draft = |query: &'static str| {
            let arrival = Arrival {
                endpoint: Endpoint::Meta,
                at: UnixMicros(7),
                headers: &headers,
                path: "/tr",
                query,
                choice_cookie: "avchoice".into(),
                meta_names: &[],
            };
            read(&arrival).unwrap()
        };
        let view = draft("id=123&ev=PageView&noscript=1&dl=https%3A%2F%2Fshop.example%2F%23a");
        assert_eq!((view.hit.kind, &*view.hit.event_name), (Kind::PageView, ""));
        assert_eq!(view.hit.page_url, "https://shop.example/");
        assert_eq!(view.hit.params, r#"{"noscript":"1"}"#);
        assert_eq!(view.claims.unwrap().site_alias, "123");

        let order = draft(
            "id=123&ev=Purchase&cd[value]=0.50&cd%5Bcurrency%5D=USD&eid=o-7&fbp=fb.1.2.3\
             &ud[em]=f660ab912ec121d1b1e928a0bb4bc61b&fbc=fb.1.2.Iw&external_id=42",
        );
        let hit = &order.hit;
        assert_eq!((hit.kind, &*hit.event_name), (Kind::Event, "Purchase"));
        assert_eq!((&*hit.event_id, &*hit.device_id), ("o-7", "fb.1.2.3"));
        assert_eq!(hit.params, r#"{"value":"0.50","currency":"USD"}"#);

        let renamed = Arrival {
            endpoint: Endpoint::Meta,
            at: UnixMicros(7),
            headers: &headers,
            path: "/tr",
            query: "pixel=123&action=Lead&order=o-7&fbp=mine&who=42&page=https%3A%2F%2Fa.example%2F%23b&x=1",
            choice_cookie: "avchoice".into(),
            meta_names: &[
                ("pixel", "site"),
                ("action", "e"),
                ("order", "order_id"),
                ("fbp", "id"),
                ("who", "user"),
                ("page", "u"),
            ]
            .map(|(theirs, ours)| (theirs.to_owned(), ours.to_owned())),
        };
        let lead = read(&renamed).unwrap();
        let hit = &lead.hit;
        assert_eq!((hit.kind, &*hit.event_name), (Kind::Event, "Lead"));
        assert_eq!((&*hit.event_id, &*hit.device_id), ("mine", ""));
        assert_eq!(hit.page_url, "https://a.example/");
        assert_eq!(hit.params, r#"{"order_id":"o-7","x":"1"}"#);
        assert_eq!(
            (&*lead.claims.unwrap().site_alias, &*lead.user),
            ("123", "")
        );

        let refused = draft("id=123&ev=PageView&gdpr=1&gdpr_consent=C");
        assert_eq!(refused.signals.gdpr.as_deref(), Some("1"));
        assert_eq!(refused.signals.tcf.as_deref(), Some("C"));
    }
}
