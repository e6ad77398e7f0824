//! The context of a call: what the SDK knows of page, device and consent.

use std::borrow::Cow;

use super::{consent, is_empty, read_text};
use crate::protocol::native::Parameter;
use crate::protocol::tracker::{Object, Told, json_of, read_hints};

/// Reads a context. Whatever has no place of its own goes to `params` as `context`.
/// `takes_device_id` says that the ID of the device stands for a visitor, who has none.
pub(super) fn read<'e>(json: &'e str, takes_device_id: bool, told: &mut Told<'e>) {
    let Some(Object(members)) = Object::read(json) else {
        return told.dropped.push(Cow::Borrowed(json));
    };
    let mut rest = Rest::default();
    let mut os = None;
    for (name, json) in members {
        if is_empty(&name, json) {
            continue;
        }
        match &*name {
            "page" => rest.push_object(&name, json, |name, json| read_page(name, json, told)),
            "device" => read_device(json, takes_device_id, told, &mut rest),
            "os" => {
                os = Some(json);
                rest.push(&name, json);
            }
            "userAgentData" | "ua-ch" => {
                read_hints(json, &mut told.ours);
                told.dropped.push(json.into());
            }
            "sessionId" => told.ours.push((Parameter::Session, json.into())),
            "ip" => told.claims.client_ip = read_text(json).parse().ok(),
            "userAgent" => told.claims.user_agent = read_text(json),
            holder if consent::is_holder(holder) => {
                consent::collect_categories(json, &mut told.claims.categories);
                rest.push_object(&name, json, consent::is_list_of_categories);
            }
            // The IDs that others have for the person.
            "externalId" | "externalIds" => told.dropped.push(json.into()),
            known if Parameter::from_name(known).is_some_and(Parameter::is_signal) => {
                told.params.push((name, json.into()));
            }
            _ => rest.push(&name, json),
        }
    }
    if let Some(Object(os)) = os.and_then(Object::read) {
        for (name, json) in os {
            match &*name {
                _ if is_empty(&name, json) => {}
                "name" => told.ours.push((Parameter::Platform, json.into())),
                "version" => told.ours.push((Parameter::PlatformVersion, json.into())),
                _ => {}
            }
        }
    }
    if let Some(rest) = rest.finish() {
        told.params.push(("context".into(), rest.into()));
    }
}

/// Takes what a page's address is. Returns false for what is not.
fn read_page<'e>(name: &str, json: &'e str, told: &mut Told<'e>) -> bool {
    let parameter = match name {
        "url" => Parameter::PageUrl,
        "referrer" => Parameter::Referrer,
        // The address with its fragment.
        "tab_url" => return true,
        _ => return false,
    };
    told.ours.push((parameter, json.into()));
    true
}

fn read_device<'e>(json: &'e str, takes_id: bool, told: &mut Told<'e>, rest: &mut Rest) {
    let (mut maid, mut may_track) = (None, true);
    rest.push_object("device", json, |name, json| {
        match name {
            "advertisingId" => maid = Some(json),
            _ if consent::limits_ad_tracking(name, json) => {
                may_track = false;
                return false;
            }
            "id" if takes_id => told.ours.push((Parameter::DeviceId, json.into())),
            "model" => {
                told.ours.push((Parameter::Model, json.into()));
                return false;
            }
            // The address of push messages, and what people call their phone.
            "token" | "name" => {}
            _ => return false,
        }
        true
    });
    if let Some(maid) = maid.filter(|_| may_track) {
        told.ours.push((Parameter::Maid, maid.into()));
    }
}

/// The members of an object that are left, as JSON.
#[derive(Default)]
struct Rest(String);

impl Rest {
    fn push(&mut self, name: &str, json: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        let is_plain = |byte: u8| byte >= b' ' && !matches!(byte, b'"' | b'\\');
        if name.bytes().all(is_plain) {
            self.0.push('"');
            self.0.push_str(name);
            self.0.push('"');
        } else {
            self.0.push_str(&json_of(name));
        }
        self.0.push(':');
        self.0.push_str(json);
    }

    /// Adds the members of an object that `take` leaves; anything else as it is.
    fn push_object<'e>(
        &mut self,
        name: &str,
        json: &'e str,
        mut take: impl FnMut(&str, &'e str) -> bool,
    ) {
        let Some(Object(members)) = Object::read(json) else {
            return self.push(name, json);
        };
        let mut rest = Rest::default();
        for (name, json) in members {
            if !is_empty(&name, json) && !take(&name, json) {
                rest.push(&name, json);
            }
        }
        if let Some(rest) = rest.finish() {
            self.push(name, &rest);
        }
    }

    fn finish(mut self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        self.0.push('}');
        Some(self.0)
    }
}
