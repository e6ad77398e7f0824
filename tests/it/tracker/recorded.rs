//! Recordings: requests of real clients, sent again as they were.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::{Collector, Reply, raw, root};

/// A recorded request.
pub(crate) struct Recorded {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// Reads the requests of a file of `tests/recorded`.
pub(crate) fn recorded(file: &str) -> Vec<Recorded> {
    let text = std::fs::read_to_string(root().join("tests/recorded").join(file)).unwrap();
    let requests: Vec<Value> = serde_json::from_str(&text).unwrap();
    requests.iter().map(Recorded::read).collect()
}

impl Recorded {
    fn read(request: &Value) -> Recorded {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let header = |header: &Value| (text(&header[0]), text(&header[1]));
        let headers = request["headers"].as_array().unwrap().iter().map(header);
        // Where the recording was made, and what the connection of the replay decides.
        let is_kept = |(name, _): &(String, String)| {
            let own = ["host", "connection", "content-length", "transfer-encoding"];
            !own.contains(&name.to_ascii_lowercase().as_str())
        };
        let body = request["body_base64"].as_str();
        let body = body.map(|body| STANDARD.decode(body).unwrap());
        Recorded {
            method: text(&request["method"]),
            target: text(&request["path"]),
            headers: headers.filter(is_kept).collect(),
            body: body.unwrap_or_else(|| text(&request["body"]).into_bytes()),
        }
    }

    /// Sends it again.
    pub(crate) async fn send(&self, collector: &Collector) -> Reply {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        head.push_str("Host: 127.0.0.1\r\nConnection: close\r\nX-Forwarded-For: 2.64.0.1\r\n");
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.method == "POST" {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        raw(collector.http, &[head.as_bytes(), &self.body].concat()).await
    }
}
