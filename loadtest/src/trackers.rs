//! Requests of other makers' trackers, made of recorded ones (`tests/recorded/`), beside requests
//! of our own protocol that say as much in as many bytes.
//!
//! Each is sent with the headers of a request of the [`Corpus`], so that what differs is the
//! protocol alone.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::corpus::{Corpus, Request, SERIAL, SITE};

/// The number of requests that differ.
const REQUESTS: usize = 4_000;
/// Where our own events go.
const NATIVE: &str = "/e";
/// Where Snowplow's trackers post.
const SNOWPLOW: &str = "/com.snowplowanalytics.snowplow/tp2";

/// Requests of one form.
pub struct Load {
    /// What is sent.
    pub name: &'static str,
    /// How many events a request has.
    pub events: usize,
    /// The load that it is compared with, by request; the pixel is compared by event.
    pub beside: Option<&'static str>,
    /// The requests.
    pub corpus: Corpus,
}

/// How a request is written: its method, target, content type and body.
struct Form {
    target: String,
    content_type: &'static str,
    body: Option<String>,
}

impl Form {
    fn get(target: String) -> Form {
        Form {
            target,
            content_type: "",
            body: None,
        }
    }

    fn post(target: &str, body: String) -> Form {
        Form {
            target: target.to_owned(),
            content_type: "application/json",
            body: Some(body),
        }
    }
}

/// Makes the loads: the pixel first, each other one after what it is compared with. `corpus` lends
/// the headers, `recorded` is the folder of recordings.
///
/// # Errors
/// If a recording cannot be read.
pub fn loads(corpus: &Corpus, recorded: &Path) -> anyhow::Result<Vec<Load>> {
    let recordings = Recordings::read(recorded)?;
    let lenders: Vec<&Request> = corpus.requests.iter().take(REQUESTS).collect();
    let mut loads = vec![Load {
        name: "pixel",
        events: 1,
        beside: None,
        corpus: Corpus {
            requests: lenders.iter().map(|request| (*request).clone()).collect(),
        },
    }];
    let mut add = |name, events, beside, make: &dyn Fn(usize) -> Form| {
        let requests = lenders.iter().enumerate();
        let requests = requests.map(|(number, lender)| write(&make(number), lender));
        loads.push(Load {
            name,
            events,
            beside,
            corpus: Corpus {
                requests: requests.collect(),
            },
        });
    };
    let get = |number| recordings.snowplow_get(number);
    let post = |number| recordings.snowplow_post(number, 1);
    add("event_as_get", 1, None, &|number| {
        recordings.native(number, &recordings.page_view, get(number).target.len())
    });
    add("snowplow_get", 1, Some("event_as_get"), &get);
    add("event_as_post", 1, None, &|number| {
        let length = post(number).body.map_or(0, |body| body.len());
        recordings.native(number, &recordings.page_view, length)
    });
    add("snowplow_post", 1, Some("event_as_post"), &post);
    add("snowplow_ten", 10, None, &|number| {
        recordings.snowplow_post(number, 10)
    });
    add("segment_twenty", 20, None, &|number| {
        recordings.segment(number, 20)
    });
    add("matomo_ten", 10, None, &|number| {
        recordings.matomo(number, 10)
    });
    Ok(loads)
}

/// Events as trackers sent them.
struct Recordings {
    page_view: Map<String, Value>,
    snowplow: Vec<Map<String, Value>>,
    segment: Vec<Map<String, Value>>,
    matomo: Vec<String>,
}

impl Recordings {
    fn read(folder: &Path) -> anyhow::Result<Recordings> {
        let read = |name: &str| -> anyhow::Result<Vec<Value>> {
            let path = folder.join(name);
            let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
            Ok(serde_json::from_slice(&text)?)
        };
        let items = |name: &str, list: &str| -> anyhow::Result<Vec<Map<String, Value>>> {
            let mut items = Vec::new();
            for request in read(name)? {
                let body = request.get("body").and_then(Value::as_str);
                let body: Value = serde_json::from_str(body.unwrap_or("{}")).unwrap_or_default();
                let list = body.get(list).and_then(Value::as_array);
                let objects = list.into_iter().flatten().filter_map(Value::as_object);
                items.extend(objects.cloned());
            }
            anyhow::ensure!(!items.is_empty(), "{name} has no {list}");
            Ok(items)
        };
        let snowplow = items("snowplow-browser-3.24.6-post.jsdom.json", "data")?;
        let matomo = read("matomo-js-5.2.0-b5-beacon.jsdom.json")?;
        let matomo = matomo.iter().filter_map(|request| {
            let (_, query) = request.get("path")?.as_str()?.split_once('?')?;
            let site = format!("idsite={SITE}");
            Some(query.replace("idsite=1", &site))
        });
        Ok(Recordings {
            page_view: snowplow.first().cloned().unwrap_or_default(),
            snowplow,
            segment: items("segment-node-3.1.0.json", "batch")?,
            matomo: matomo.collect(),
        })
    }

    /// Returns our own event of the same members: those that have a place of their own here under
    /// their names here, the others as they stand, and as many bytes in all.
    fn native(&self, number: usize, event: &Map<String, Value>, length: usize) -> Form {
        let mut own = Map::new();
        own.insert("site".to_owned(), json!(SITE));
        own.insert("id".to_owned(), json!(event_id(number, 0)));
        for (name, value) in event {
            let name = match name.as_str() {
                "url" => "u",
                "refr" => "ref",
                "duid" => "did",
                "sid" => "session",
                "uid" => "user",
                "eid" | "aid" | "e" => continue,
                name => name,
            };
            own.insert(name.to_owned(), value.clone());
        }
        own.insert("spare".to_owned(), json!(""));
        let spare = length.saturating_sub(json!(own).to_string().len());
        own.insert("spare".to_owned(), json!("x".repeat(spare)));
        Form::post(NATIVE, json!(own).to_string())
    }

    fn snowplow_get(&self, number: usize) -> Form {
        let mut target = String::from("/i?stm=1795714696603");
        let mut event = self.page_view.clone();
        event.insert("eid".to_owned(), json!(event_id(number, 0)));
        for (name, value) in &event {
            let value = value.as_str().unwrap_or_default();
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            write!(target, "&{name}={value}").expect("a String takes any text");
        }
        Form::get(target)
    }

    fn snowplow_post(&self, number: usize, events: usize) -> Form {
        let events = self.snowplow.iter().cycle().take(events);
        let events = events.enumerate().map(|(at, event)| {
            let mut event = event.clone();
            event.insert("eid".to_owned(), json!(event_id(number, at)));
            event
        });
        let schema = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4";
        let data: Vec<_> = events.collect();
        let body = json!({"schema": schema, "data": data});
        Form::post(SNOWPLOW, body.to_string())
    }

    fn segment(&self, number: usize, events: usize) -> Form {
        let events = self.segment.iter().cycle().take(events);
        let events = events.enumerate().map(|(at, event)| {
            let mut event = event.clone();
            event.insert("messageId".to_owned(), json!(event_id(number, at)));
            event
        });
        let batch: Vec<_> = events.collect();
        let body = json!({"batch": batch, "sentAt": "2026-11-26T17:48:12Z", "writeKey": SITE});
        Form::post("/v1/batch", body.to_string())
    }

    fn matomo(&self, number: usize, events: usize) -> Form {
        let queries = self.matomo.iter().cycle().take(events).enumerate();
        let requests: Vec<String> = queries
            .map(|(at, query)| format!("?{query}&rand={}", event_id(number, at)))
            .collect();
        let body = json!({"requests": requests, "send_image": 0});
        Form::post("/matomo.php", body.to_string())
    }
}

/// Returns an ID of an event; the serial number stands in that of a request's first one.
fn event_id(number: usize, at: usize) -> String {
    let serial = if at == 0 { SERIAL } else { "111111111" };
    format!(
        "2b79{:04x}-f3f4-4{at:03x}-9367-483{serial}",
        number % 0x1_0000
    )
}

/// Writes a request with the headers of another one.
fn write(form: &Form, lender: &Request) -> Request {
    let (_, headers) = lender.text.split_once("\r\n").unwrap_or_default();
    // The serial number of a request stands in its event.
    let headers = headers.trim_end().replace(SERIAL, "123456789");
    let text = match &form.body {
        None => format!("GET {} HTTP/1.1\r\n{headers}\r\n\r\n", form.target),
        Some(body) => format!(
            "POST {} HTTP/1.1\r\n{headers}\r\nOrigin: https://www.shop.example\r\n\
             Content-Type: {}\r\nContent-Length: {}\r\n\r\n{body}",
            form.target,
            form.content_type,
            body.len()
        ),
    };
    Request {
        serial_at: text.find(SERIAL),
        text,
        client_ip: lender.client_ip,
    }
}

#[cfg(test)]
mod tests {
    use avtryck::clock::UnixMicros;
    use avtryck::keys::CookieKeyring;

    use super::*;
    use crate::corpus::Source;

    #[test]
    fn what_is_compared_by_request_has_as_many_bytes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let source = Source {
            agents: &root.join("assets/data/test/user-agents.json"),
            keyring: &CookieKeyring::new([(1, [7; 32].as_slice())], 86_400),
            now: UnixMicros(1_800_000_000_000_000),
            seed: 1,
        };
        let corpus = Corpus::make(&source, 20).unwrap();
        let loads = loads(&corpus, &root.join("tests/recorded")).unwrap();
        let find = |name| loads.iter().find(|load| load.name == name).unwrap();
        for load in &loads {
            let Some(beside) = load.beside else { continue };
            for (one, other) in load
                .corpus
                .requests
                .iter()
                .zip(&find(beside).corpus.requests)
            {
                let said = |request: &Request| {
                    let (head, body) = request.text.split_once("\r\n\r\n").unwrap();
                    let target = head.split(' ').nth(1).unwrap();
                    if body.is_empty() {
                        target.len()
                    } else {
                        body.len()
                    }
                };
                assert_eq!(said(one), said(other), "{}", load.name);
            }
        }
        for load in &loads[1..] {
            assert!(load.corpus.requests.iter().all(|r| r.serial_at.is_some()));
        }
    }
}
