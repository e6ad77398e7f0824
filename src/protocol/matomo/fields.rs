//! The parameters of one request, whether a query, a form or an object says them.

use crate::consent::names::may_mean;
use crate::hit::limits::PARAMETERS_READ_MAX;
use crate::protocol::text::decode_once;
use crate::protocol::tracker::{Object, json_of};
use crate::request::split_pairs;

/// Parameters in the order sent. The first of a repeated one counts.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestFields(Vec<RequestField>);

/// One parameter.
#[derive(Clone, Debug)]
pub(super) struct RequestField {
    pub(super) name: String,
    /// Its value: a text as it is, anything else as its JSON.
    pub(super) text: String,
    /// Whether the value is JSON and not a text.
    is_json: bool,
}

impl RequestField {
    /// Returns the value as JSON.
    pub(super) fn json(&self) -> String {
        if self.is_json {
            self.text.clone()
        } else {
            json_of(&self.text)
        }
    }
}

impl RequestFields {
    /// Reads a query.
    pub(super) fn of_query(query: &str) -> RequestFields {
        let mut fields = RequestFields::default();
        fields.add_form(query);
        fields
    }

    /// Adds the pairs of a query or a form.
    pub(super) fn add_form(&mut self, form: &str) {
        for (name, value) in split_pairs(form) {
            self.add(RequestField {
                name: decode_once(name).into_owned(),
                text: decode_once(value).into_owned(),
                is_json: false,
            });
        }
    }

    /// Adds the members of an object. `None` if it is none.
    pub(super) fn add_object(&mut self, object: &str) -> Option<()> {
        let Object(members) = Object::read(object)?;
        for (name, json) in members {
            self.add_member(&name, json);
        }
        Some(())
    }

    /// Adds a member of an object, whose value is JSON.
    fn add_member(&mut self, name: &str, json: &str) {
        let text: Option<String> = serde_json::from_str(json).ok();
        let is_json = text.is_none();
        if json != "null" {
            self.add(RequestField {
                name: name.to_owned(),
                text: text.unwrap_or_else(|| json.to_owned()),
                is_json,
            });
        }
    }

    /// Of those that come after the most that is read, only what may be said of consent is kept.
    fn add(&mut self, field: RequestField) {
        if self.0.len() < PARAMETERS_READ_MAX || may_mean(&field.name) {
            self.0.push(field);
        }
    }

    /// Keeps those whose names are accepted.
    pub(super) fn retain(&mut self, accepts: impl Fn(&str) -> bool) {
        self.0.retain(|field| accepts(&field.name));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &RequestField> {
        self.0.iter()
    }

    /// Returns a parameter's value; `None` if it is not there or empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|field| field.name == name)?;
        (!found.text.is_empty()).then_some(&*found.text)
    }

    /// Returns whether a parameter is there, empty or not.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|field| field.name == name)
    }
}
