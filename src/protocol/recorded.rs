//! Requests that trackers sent, as they were recorded in `tests/recorded/`, for tests.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Arrival, Draft, Drafts, read, read_body};
use crate::clock::UnixMicros;
use crate::endpoint::Endpoint;
use crate::refusal::Reason;
use crate::request::Headers;

/// When the requests arrive: a moment after they were recorded.
pub(super) const NOW: UnixMicros = UnixMicros(1_795_720_000_000_000);

/// One request.
#[derive(Clone, Deserialize)]
pub(super) struct Recorded {
    pub(super) method: String,
    pub(super) path: String,
    headers: Vec<(String, String)>,
    #[serde(default)]
    pub(super) body: String,
    /// A body that takes the place of the recorded one, and need not be text.
    #[serde(skip)]
    other_body: Option<Vec<u8>>,
}

impl Recorded {
    /// Reads a recording.
    pub(super) fn all(json: &str) -> Vec<Recorded> {
        serde_json::from_str(json).expect("a recording")
    }

    /// Returns the request with another body.
    pub(super) fn with_body(&self, body: Vec<u8>) -> Recorded {
        Recorded {
            other_body: Some(body),
            ..self.clone()
        }
    }

    /// Returns the items of the list in a member of the body, as they were sent.
    pub(super) fn items(&self, list: &str) -> Vec<String> {
        let (head, tail) = self.around(list);
        let items = self.body.get(head.len()..self.body.len() - tail.len());
        let items = format!("[{}]", items.unwrap_or_default());
        let items: Vec<&RawValue> = serde_json::from_str(&items).expect("a list");
        items.iter().map(|item| item.get().to_owned()).collect()
    }

    /// Returns what stands before the first item of the list in a member of the body, and behind
    /// the last.
    pub(super) fn around(&self, list: &str) -> (&str, &str) {
        let members: BTreeMap<&str, &RawValue> =
            serde_json::from_str(&self.body).unwrap_or_default();
        let Some(items) = members.get(list) else {
            return (&self.body, "");
        };
        let (head, tail) = self
            .body
            .split_once(items.get())
            .expect("it is in the body");
        let (head, tail) = (head.len() + 1, tail.len() + 1);
        self.body
            .split_at_checked(head)
            .map(|(head, rest)| (head, rest.split_at(rest.len() - tail).1))
            .expect("it is in the body")
    }

    /// Gives each draft of the request to a function, and returns what it makes of them.
    pub(super) fn drafts<T>(
        &self,
        endpoint: Endpoint,
        mut make: impl FnMut(Result<Draft<'_>, Reason>) -> T,
    ) -> Vec<T> {
        let mut headers = Headers::default();
        for (name, value) in &self.headers {
            headers.read_one(name.to_ascii_lowercase().as_bytes(), value.as_bytes());
        }
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let arrival = Arrival {
            endpoint,
            at: NOW,
            headers: &headers,
            path,
            query,
            choice_cookie: "avchoice".into(),
            meta_names: &[],
        };
        if self.method == "GET" {
            return vec![make(read(&arrival))];
        }
        let body = self.other_body.as_deref().unwrap_or(self.body.as_bytes());
        match read_body(&arrival, body) {
            Ok(Drafts::One(draft)) => vec![make(Ok(draft))],
            Ok(Drafts::Each(events)) => events.iter().map(make).collect(),
            Err(reason) => vec![make(Err(reason))],
        }
    }
}
