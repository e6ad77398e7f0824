//! 10,000 hostile targets: none leads off the list. Two oracles that share no code with the
//! collector judge each redirect: a few lines that take a `Location` apart, and the URL parser of
//! Node.js, which is a browser's.

use std::collections::HashSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::sites;
use crate::support::Collector;

const TARGETS: usize = 10_000;
const CONNECTIONS: usize = 8;

/// Numbers from a seed: SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    fn pick<'t>(&mut self, list: &[&'t str]) -> &'t str {
        list[self.below(list.len())]
    }
}

const SCHEMES: [&str; 18] = [
    "https",
    "https",
    "https",
    "https",
    "http",
    "HTTPS",
    "hTTp",
    "javascript",
    "data",
    "ftp",
    "file",
    "blob",
    "",
    "https:https",
    "view-source:https",
    "httpſ",
    " https",
    "h\tttps",
];
const SEPARATORS: [&str; 16] = [
    "://",
    "://",
    "://",
    "://",
    "://",
    "://",
    ":",
    ":/",
    ":///",
    ":////",
    "//",
    "/\\",
    ":\\\\",
    "%3A%2F%2F",
    ":/\t/",
    "",
];
const USERINFO: [&str; 14] = [
    "",
    "",
    "",
    "",
    "",
    "",
    "user@",
    "user:word@",
    "@",
    ":@",
    "www.shop.example@",
    "www.shop.example%40",
    "www.shop.example\\@",
    "www.shop.example:80@",
];
const HOSTS: [&str; 44] = [
    "www.shop.example",
    "www.shop.example",
    "www.shop.example",
    "www.shop.example",
    "a.shop.example",
    "a.b.shop.example",
    "WWW.Shop.Example",
    "evil.example",
    "evil.example",
    "shop.example",
    "www.shop.example.",
    "www.shop.example..",
    "evil.example.",
    "www.shop.example.evil.example",
    "evilshop.example",
    "evil.example%2f.shop.example",
    "evil.example%2fwww.shop.example",
    "evil.example%5cwww.shop.example",
    "evil.example%00.shop.example",
    "evil.example\0.shop.example",
    "evil.example\\.shop.example",
    "evil.example#.shop.example",
    "evil.example?.shop.example",
    "evil.example/.shop.example",
    "evil.example;.shop.example",
    "evil.example%23.shop.example",
    "evil.example%3f.shop.example",
    "evil.example:80#@www.shop.example",
    "evil.example\u{ff0f}.shop.example",
    "evil.example\u{3002}shop\u{3002}example",
    "www\u{3002}shop\u{3002}example",
    "www.\u{ff53}hop.example",
    "www.sh\u{f6}p.example",
    "xn--www-.shop.example",
    "www.shop.ex\u{ad}ample",
    "127.0.0.1",
    "2130706433",
    "0x7f.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::1%25eth0]",
    "[www.shop.example]",
    "www.shop.example\u{200d}",
    "%77%77%77.shop.example",
];
const PORTS: [&str; 10] = [
    "",
    "",
    "",
    "",
    "",
    ":443",
    ":8080",
    ":0",
    ":99999",
    ":@evil.example",
];
const TAILS: [&str; 24] = [
    "",
    "",
    "/",
    "/a",
    "/a?b=c#d",
    "?to=https://evil.example",
    "#@evil.example",
    "/\\evil.example",
    "//evil.example",
    "/../..//evil.example",
    "/%0d%0aLocation:%20https://evil.example",
    "/\r\nLocation: https://evil.example",
    "/\r\nSet-Cookie: evil=1",
    "\nevil",
    "\t",
    " ",
    "/%2f%2fevil.example",
    "/;@evil.example",
    "@evil.example",
    ".evil.example",
    "%2eevil.example",
    "\\@evil.example",
    "/\u{2028}x",
    "/&to=https://evil.example",
];
const ODD: [&str; 12] = [
    "\t", "\n", "\r", "\0", " ", "\u{85}", "\u{feff}", "\u{202e}", "\\", "/", "@", "%",
];

/// A target of six parts, each of which is the plain first one of its list two times out of three.
fn target(random: &mut Random) -> String {
    let parts: [&[&str]; 6] = [&SCHEMES, &SEPARATORS, &USERINFO, &HOSTS, &PORTS, &TAILS];
    let mut target = parts
        .map(|part| match random.below(3) {
            0 => random.pick(part),
            _ => part[0],
        })
        .concat();
    // Every third one gets something odd somewhere.
    if random.below(3) == 0 {
        let places: Vec<usize> = (0..=target.len())
            .filter(|at| target.is_char_boundary(*at))
            .collect();
        let at = places[random.below(places.len())];
        target.insert_str(at, random.pick(&ODD));
    }
    target
}

/// A target as it stands in a request line: all encoded, twice encoded, or only what a line cannot
/// hold.
fn written(target: &str, way: usize) -> String {
    let encode = |text: &str, keeps: fn(u8) -> bool| {
        text.bytes()
            .map(|byte| {
                if keeps(byte) {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect::<String>()
    };
    match way {
        0 => encode(target, |byte| byte.is_ascii_alphanumeric()),
        1 => {
            let once = encode(target, |byte| byte.is_ascii_alphanumeric());
            encode(&once, |byte| byte.is_ascii_alphanumeric())
        }
        _ => encode(target, |byte| {
            byte.is_ascii_alphanumeric() || b"-._~:/?@!$'()*+,;=%&".contains(&byte)
        }),
    }
}

/// The host of a `Location`, if it is plain enough that nobody can read it otherwise.
fn plain_host(location: &str) -> Option<&str> {
    let rest = location
        .strip_prefix("https://")
        .or_else(|| location.strip_prefix("http://"))?;
    let end = rest.find(['/', '?', '#'])?;
    let (host, port) = rest[..end].split_once(':').unwrap_or((&rest[..end], "0"));
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    let is_plain = host.bytes().all(plain)
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && location.bytes().all(|byte| (0x21..0x7f).contains(&byte));
    is_plain.then_some(host)
}

fn is_allowed(host: &str) -> bool {
    host.strip_suffix(".shop.example")
        .is_some_and(|front| !front.is_empty())
}

/// The hosts that Node.js would ask, for each URL; empty for none.
fn node_hosts(urls: &[String]) -> Vec<String> {
    let script = "const urls = JSON.parse(require('fs').readFileSync(0, 'utf8'));\
        console.log(JSON.stringify(urls.map(url => { try { return new URL(url).hostname } catch { return '' } })))";
    let mut node = Command::new("node")
        .args(["-e", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = serde_json::to_string(urls).unwrap();
    node.stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = node.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What came back: the status, and `Location` where there is one.
async fn ask(stream: &mut BufReader<TcpStream>, target: &str) -> (u16, Option<String>, bool) {
    let request = format!(
        "GET /c?site=open&to={target} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: VLC\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut status, mut location, mut body_bytes, mut closes) = (0, None, 0, false);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let line = line
            .strip_suffix("\r\n")
            .unwrap_or_else(|| panic!("{target}: {line:?}"));
        if line.is_empty() {
            break;
        }
        if status == 0 {
            status = line.split(' ').nth(1).unwrap().parse().unwrap();
            continue;
        }
        let (name, value) = line.split_once(": ").unwrap();
        match name {
            "location" => assert_eq!(location.replace(value.to_owned()), None, "{target}"),
            "content-length" => body_bytes = value.parse().unwrap(),
            "connection" => closes = value == "close",
            "set-cookie" => assert!(value.starts_with("avid="), "{target}: {value}"),
            _ => {}
        }
    }
    stream.read_exact(&mut vec![0; body_bytes]).await.unwrap();
    (status, location, closes)
}

#[tokio::test]
async fn ten_thousand_hostile_targets_lead_to_no_redirect_off_the_list() {
    let collector = Collector::start(sites()).await;
    let mut random = Random(0x00c1_1c4b);
    let mut seen = HashSet::new();
    let mut targets = Vec::new();
    while targets.len() < TARGETS {
        let text = target(&mut random);
        let way = random.below(3);
        if seen.insert((text.clone(), way)) {
            targets.push((written(&text, way), text, way));
        }
    }
    let targets = Arc::new(targets);
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|first| {
            let (targets, address) = (Arc::clone(&targets), collector.http);
            tokio::spawn(async move {
                let connect = async || BufReader::new(TcpStream::connect(address).await.unwrap());
                let mut stream = connect().await;
                let mut gone = Vec::new();
                for at in (first..TARGETS).step_by(CONNECTIONS) {
                    let (written, ..) = &targets[at];
                    let (status, location, closes) = ask(&mut stream, written).await;
                    match location {
                        Some(location) => {
                            assert_eq!(status, 302, "{written}");
                            gone.push((at, location));
                        }
                        None => assert_eq!(status, 400, "{written}"),
                    }
                    if closes {
                        stream = connect().await;
                    }
                }
                gone
            })
        })
        .collect();
    let mut gone = Vec::new();
    for task in tasks {
        gone.extend(task.await.unwrap());
    }
    let locations: Vec<String> = gone.iter().map(|(_, location)| location.clone()).collect();
    for (location, node_host) in locations.iter().zip(node_hosts(&locations)) {
        let host = plain_host(location).unwrap_or_else(|| panic!("{location:?}"));
        // A dot at its end leads to the same host.
        let named = host.strip_suffix('.').unwrap_or(host);
        assert!(is_allowed(named), "{location:?}");
        assert_eq!(host, node_host, "{location:?}");
    }
    // Where a browser would have gone by the target itself: nowhere else.
    // (What the collector decodes a second time a browser would not.)
    let is_whole = |text: &str, way| way == 0 && !text.contains("%3A%2F%2F");
    let whole: Vec<_> = gone
        .iter()
        .filter(|(at, _)| is_whole(&targets[*at].1, targets[*at].2))
        .collect();
    let asked: Vec<String> = whole.iter().map(|(at, _)| targets[*at].1.clone()).collect();
    for (host, (at, location)) in node_hosts(&asked).iter().zip(&whole) {
        assert_eq!(
            Some(host.as_str()),
            plain_host(location),
            "{:?}",
            targets[*at].1
        );
    }
    eprintln!(
        "{TARGETS} targets, {} redirects, all to the list",
        gone.len()
    );
    assert!(
        gone.len() > 300,
        "too few of them are any good: {}",
        gone.len()
    );
    let clicks = "select count(*) from avtryck.hit where kind = 4";
    collector
        .wait_for(clicks, i64::try_from(gone.len()).unwrap())
        .await;
}
