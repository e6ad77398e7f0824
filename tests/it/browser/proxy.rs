//! The proxy between browser and collector. It names the visitor's address, keeps each request, and
//! serves and blocks what the test says.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::pages;

/// An address of a Swedish access network.
const VISITOR_IP: &str = "2.249.0.1";

/// The proxy in front of the collector.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// The blocked path whose requests wait before they fail.
    held: watch::Sender<&'static str>,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    /// Pages by their paths, besides those of [`pages`].
    pages: HashMap<String, String>,
    /// Paths whose requests fail, as those that a blocker ends.
    blocked: HashSet<String>,
}

/// A request that went through, or was blocked.
struct Seen {
    target: String,
    body: String,
}

impl Seen {
    fn path(&self) -> &str {
        path_of(&self.target)
    }
}

fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    pub(super) async fn start(collector: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let (held, watched) = watch::channel("");
        tokio::spawn(async move {
            while let Ok((browser, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let held = watched.clone();
                // A connection that breaks off is the browser's to repeat.
                tokio::spawn(async move { forward(browser, collector, &state, held).await.ok() });
            }
        });
        Proxy {
            address,
            state,
            held,
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Serves a page, and everything else at its path.
    pub(super) fn serve(&self, path: &str, page: &str) {
        let mut state = lock(&self.state);
        state.pages.insert(path.to_owned(), page.to_owned());
    }

    /// Fails every request for a path.
    pub(super) fn block(&self, path: &str) {
        lock(&self.state).blocked.insert(path.to_owned());
    }

    /// Lets the requests for a blocked path wait, and those that waited for another one fail.
    pub(super) fn hold(&self, path: &'static str) {
        self.held.send_replace(path);
    }

    /// The hits that went through or were blocked: their paths.
    pub(super) fn hits(&self) -> Vec<String> {
        let state = lock(&self.state);
        let paths = state.seen.iter().map(|seen| seen.path().to_owned());
        paths
            .filter(|path| ["/e", "/p.gif", "/i.gif"].contains(&path.as_str()))
            .collect()
    }

    /// Returns how many requests had a part of their target.
    pub(super) fn count(&self, part: &str) -> usize {
        let state = lock(&self.state);
        state
            .seen
            .iter()
            .filter(|seen| seen.target.contains(part))
            .count()
    }

    /// Every event that was posted or is in a pixel, whether it was blocked or not.
    pub(super) fn events(&self) -> Vec<Value> {
        let state = lock(&self.state);
        let texts = state.seen.iter().filter_map(|seen| match seen.path() {
            "/e" => Some(seen.body.clone()),
            "/p.gif" => {
                let (_, query) = seen.target.split_once('?')?;
                let mut pairs = url::form_urlencoded::parse(query.as_bytes());
                let event = pairs.find(|(name, _)| name == "json");
                event.map(|(_, event)| event.into_owned())
            }
            _ => None,
        });
        texts
            .flat_map(|text| match serde_json::from_str(&text).expect("JSON") {
                Value::Array(events) => events,
                event => vec![event],
            })
            .collect()
    }

    /// The last event posted.
    pub(super) fn last_event(&self) -> Value {
        self.events().pop().expect("an event")
    }
}

/// Forwards one request and its reply, then closes: `Connection: close` both ways spares the proxy
/// from knowing where a reply ends.
async fn forward(
    browser: TcpStream,
    collector: SocketAddr,
    state: &Mutex<State>,
    mut held: watch::Receiver<&'static str>,
) -> std::io::Result<()> {
    let mut browser = BufReader::new(browser);
    let mut head = String::new();
    let mut body_bytes = 0;
    if browser.read_line(&mut head).await? == 0 {
        return Ok(()); // Chromium opens connections ahead of need.
    }
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    loop {
        let mut line = String::new();
        if browser.read_line(&mut line).await? == 0 || line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            body_bytes = value.trim().parse().unwrap_or(0);
        }
        if !name.eq_ignore_ascii_case("connection") {
            head.push_str(&line);
        }
    }
    let mut body = vec![0; body_bytes];
    browser.read_exact(&mut body).await?;
    let (page, is_blocked) = {
        let mut state = lock(state);
        let path = path_of(&target);
        let page = state.pages.get(path).cloned();
        let is_blocked = state.blocked.contains(path);
        state.seen.push(Seen {
            target: target.clone(),
            body: String::from_utf8_lossy(&body).into_owned(),
        });
        (page.or_else(|| pages::page_of(&target)), is_blocked)
    };
    if is_blocked {
        held.wait_for(|held| path_of(&target) != *held).await.ok();
        // No HTTP: a mere end of the connection would be tried again.
        return browser.write_all(b"blocked").await;
    }
    if let Some(page) = page {
        let media_type = match path_of(&target).ends_with(".js") {
            true => "text/javascript",
            false => "text/html",
        };
        let reply = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{page}",
            page.len(),
        );
        return browser.write_all(reply.as_bytes()).await;
    }
    head.push_str(&format!(
        "X-Forwarded-For: {VISITOR_IP}\r\nConnection: close\r\n\r\n"
    ));
    let mut upstream = TcpStream::connect(collector).await?;
    upstream.write_all(head.as_bytes()).await?;
    upstream.write_all(&body).await?;
    tokio::io::copy(&mut upstream, &mut browser).await?;
    browser.shutdown().await
}
