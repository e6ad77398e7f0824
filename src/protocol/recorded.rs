//! Requests that trackers sent, as they were recorded in `tests/recorded/`, for tests.

use serde::Deserialize;

use super::{Arrival, Draft, Drafts, read, read_body};
use crate::clock::UnixMicros;
use crate::endpoint::Endpoint;
use crate::refusal::Reason;
use crate::request::Headers;

/// When the requests arrive: a moment after they were recorded.
pub(super) const NOW: UnixMicros = UnixMicros(1_795_720_000_000_000);

/// One request.
#[derive(Deserialize)]
pub(super) struct Recorded {
    pub(super) method: String,
    pub(super) path: String,
    headers: Vec<(String, String)>,
    #[serde(default)]
    pub(super) body: String,
}

impl Recorded {
    /// Reads a recording.
    pub(super) fn all(json: &str) -> Vec<Recorded> {
        serde_json::from_str(json).expect("a recording")
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
        };
        if self.method == "GET" {
            return vec![make(read(&arrival))];
        }
        match read_body(&arrival, self.body.as_bytes()) {
            Ok(Drafts::One(draft)) => vec![make(Ok(draft))],
            Ok(Drafts::Each(events)) => events.iter().map(make).collect(),
            Err(reason) => vec![make(Err(reason))],
        }
    }
}
