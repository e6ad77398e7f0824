//! The requests of a bench: as browsers and ad placements send them behind a trusted proxy, the
//! same ones for the same seed.
//!
//! | of the requests | are |
//! | --- | --- |
//! | 95 % | of user agents as often as they were observed (npm `user-agents`), 5 % of in-app browsers, each with a build number of its own |
//! | all | from one of 100,000 addresses, 30 % of them IPv6 |
//! | 70 % | of one of 60,000 visitors with a valid cookie (and with one that nginx's `userid` takes); the others are of somebody new |
//! | 50 % | of a visitor with a TC string, always the same one; a tenth of those refuses all |
//! | 55, 15, 30 % | page views, events (each with an ID of its own, as the tag makes them), impressions |
//!
//! What has to differ each time it is sent is a number of [`SERIAL_DIGITS`] digits, which the
//! sender puts in.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::Context as _;
use avtryck::clock::UnixMicros;
use avtryck::hit::VisitorId;
use avtryck::keys::CookieKeyring;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

/// The host that requests name.
pub const HOST: &str = "px.shop.example";
/// The key of the site that they name.
pub const SITE: &str = "shop";
/// The key of the partner that impressions name.
pub const PARTNER: &str = "network";
/// Digits of the number that makes a request differ from the same one sent before.
pub const SERIAL_DIGITS: usize = 9;
/// As many addresses as there are requests by default.
pub const REQUESTS: usize = 100_000;

/// What stands in place of that number.
pub(crate) const SERIAL: &str = "000000000";
const VISITORS: usize = 60_000;
const CONSENT_STRINGS: usize = 2_000;

/// Prefixes of Swedish access networks, as first address and length: where most hits come from.
const SWEDISH_V4: [(Ipv4Addr, u32); 6] = [
    (Ipv4Addr::new(2, 64, 0, 0), 13),
    (Ipv4Addr::new(78, 64, 0, 0), 12),
    (Ipv4Addr::new(81, 224, 0, 0), 12),
    (Ipv4Addr::new(83, 248, 0, 0), 13),
    (Ipv4Addr::new(90, 224, 0, 0), 12),
    (Ipv4Addr::new(213, 64, 0, 0), 14),
];
const SWEDISH_V6: [(Ipv6Addr, u32); 3] = [
    (Ipv6Addr::new(0x2a00, 0x801, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2001, 0x2040, 0, 0, 0, 0, 0, 0), 28),
    (Ipv6Addr::new(0x2a02, 0xaa0, 0, 0, 0, 0, 0, 0), 29),
];

const PAGES: [&str; 8] = [
    "",
    "mobil/telefoner",
    "mobil/telefoner/galaxy-s25-ultra-256gb",
    "bredband/5g",
    "kundservice/faktura",
    "tv/kanaler?sort=namn",
    "abonnemang/familj?steg=2&val=obegransad",
    "sok?q=roaming+spanien",
];
const REFERRERS: [&str; 5] = [
    "https://www.google.com/",
    "https://www.google.se/",
    "https://www.facebook.com/",
    "https://www.aftonbladet.se/nyheter/a/8m4x2Q/sa-blir-vadret",
    "https://www.prisjakt.nu/c/mobiltelefoner",
];
const EVENTS: [&str; 5] = ["add_to_cart", "scroll", "video_play", "purchase", "search"];

/// What requests are made from.
pub struct Source<'a> {
    /// `user-agents.json` of the npm package.
    pub agents: &'a Path,
    /// Signs visitors' cookies.
    pub keyring: &'a CookieKeyring,
    /// When those were made.
    pub now: UnixMicros,
    /// The same seed gives the same requests.
    pub seed: u64,
}

/// Requests, ready to be sent.
pub struct Corpus {
    /// Each one whole, in the order to send them.
    pub requests: Vec<Request>,
}

/// One request.
#[derive(Clone)]
pub struct Request {
    /// Its bytes.
    pub text: String,
    /// Where the number stands that differs each time it is sent.
    pub serial_at: Option<usize>,
    /// Where it comes from.
    pub client_ip: IpAddr,
}

impl Request {
    /// The bytes to send, with `serial` in them.
    pub fn put(&self, serial: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.text.as_bytes());
        if let Some(at) = self.serial_at
            && let Some(slot) = out.get_mut(start + at..start + at + SERIAL_DIGITS)
        {
            let mut rest = serial;
            for digit in slot.iter_mut().rev() {
                *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
                rest /= 10;
            }
        }
    }
}

#[derive(Deserialize)]
struct Agent {
    #[serde(rename = "userAgent")]
    user_agent: String,
    weight: f64,
}

impl Corpus {
    /// Makes `count` requests.
    ///
    /// # Errors
    /// Where the user agents cannot be read.
    pub fn make(source: &Source<'_>, count: usize) -> anyhow::Result<Corpus> {
        let text = std::fs::read(source.agents)
            .with_context(|| format!("{}: `script/fetch test` gets it", source.agents.display()))?;
        let agents: Vec<Agent> = serde_json::from_slice(&text).context("reading user agents")?;
        let mut maker = Maker {
            rng: Rng::with_seed(source.seed),
            agents: Weighted::new(agents),
            visitors: Vec::new(),
            consent: Vec::new(),
        };
        maker.consent = maker.consent_strings()?;
        maker.visitors = (0..VISITORS).map(|_| maker.visitor(source)).collect();
        Ok(Corpus {
            requests: (0..count).map(|_| maker.request()).collect(),
        })
    }

    /// Writes them for `corpus.lua`: the number of requests; then for each its length, where its
    /// serial number stands (-1 for none), and its bytes.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut out = io::BufWriter::new(std::fs::File::create(path)?);
        writeln!(out, "{}", self.requests.len())?;
        for request in &self.requests {
            let serial_at = request.serial_at.map_or(-1, usize::cast_signed);
            writeln!(out, "{} {serial_at}", request.text.len())?;
            writeln!(out, "{}", request.text)?;
        }
        out.flush()
    }
}

struct Weighted {
    agents: Vec<Agent>,
    /// The sum of the weights up to and with each agent.
    sums: Vec<f64>,
}

impl Weighted {
    fn new(agents: Vec<Agent>) -> Weighted {
        let mut sum = 0.0;
        let sums = agents.iter().map(|agent| {
            sum += agent.weight;
            sum
        });
        Weighted {
            sums: sums.collect(),
            agents,
        }
    }

    fn one(&self, rng: &mut Rng) -> &str {
        let at = rng.f64() * self.sums.last().copied().unwrap_or_default();
        let index = self.sums.partition_point(|sum| *sum < at);
        self.agents
            .get(index)
            .map_or("", |agent| agent.user_agent.as_str())
    }
}

struct Maker {
    rng: Rng,
    agents: Weighted,
    visitors: Vec<Visitor>,
    consent: Vec<String>,
}

/// Somebody who comes back.
#[derive(Clone)]
struct Visitor {
    cookies: String,
    /// The TC string that every request of this visitor carries, if there is one.
    consent: Option<String>,
}

impl Maker {
    fn request(&mut self) -> Request {
        let client_ip = self.client_ip();
        let is_known = self.rng.f64() < 0.7;
        let (cookies, consent) = match self.rng.choice(&self.visitors) {
            Some(visitor) if is_known => (Some(visitor.cookies.clone()), visitor.consent.clone()),
            _ => (None, self.choice()),
        };
        let page = format!("https://www.shop.example/{}", self.one_of(&PAGES));
        let mut serial = None;
        let path = self.path(&page, consent.as_deref(), &mut serial);
        let is_in_app = serial.is_none() && self.rng.f64() < 0.05 / 0.85;
        let agent = if is_in_app {
            self.in_app_agent()
        } else {
            self.agents.one(&mut self.rng).to_owned()
        };
        let mut text = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: keep-alive\r\n");
        push_hints(&mut text, &agent);
        push(&mut text, "User-Agent", &agent);
        let accept = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8";
        push(&mut text, "Accept", accept);
        push(&mut text, "Sec-Fetch-Site", "same-site");
        push(&mut text, "Sec-Fetch-Mode", "no-cors");
        push(&mut text, "Sec-Fetch-Dest", "image");
        push(&mut text, "Referer", &page);
        push(&mut text, "Accept-Encoding", "gzip, deflate, br, zstd");
        push(&mut text, "Accept-Language", "sv-SE,sv;q=0.9,en-US;q=0.8");
        if let Some(cookies) = cookies {
            push(&mut text, "Cookie", &cookies);
        }
        push(&mut text, "X-Forwarded-For", &client_ip.to_string());
        text.push_str("\r\n");
        if is_in_app {
            serial = Some(SERIAL);
        }
        let serial_at = serial.and_then(|serial| text.find(serial));
        Request {
            text,
            serial_at,
            client_ip,
        }
    }

    fn path(
        &mut self,
        page: &str,
        consent: Option<&str>,
        serial: &mut Option<&'static str>,
    ) -> String {
        let mut query = format!("site={SITE}&u={}", encoded(page));
        let kind = self.rng.u32(0..100);
        if kind < 70 && self.rng.u32(0..10) < 6 {
            let referrer = self.one_of(&REFERRERS);
            add(&mut query, format_args!("&ref={}", encoded(referrer)));
        }
        let (wide, tall) = (self.rng.u32(320..2560), self.rng.u32(480..1440));
        match kind {
            0..55 => add(&mut query, format_args!("&sw={wide}&sh={tall}&l=sv-SE")),
            55..70 => {
                let name = self.one_of(&EVENTS);
                *serial = Some(SERIAL);
                let price = self.rng.u32(1..20_000);
                let [a, b] = [self.rng.u32(..), self.rng.u32(..)];
                add(
                    &mut query,
                    format_args!(
                        "&e={name}&id=1764{SERIAL}-{a}%2C{b}&product=phone-{}&price={price}&currency=SEK",
                        wide % 40
                    ),
                );
            }
            _ => {
                let campaign = self.rng.u32(0..40);
                let (creative, placement) = (self.rng.u32(0..8), self.rng.u32(0..12));
                let publisher = self.rng.u32(0..30);
                add(
                    &mut query,
                    format_args!(
                        "&partner={PARTNER}&campaign=c-{campaign}&creative=banner-{creative}&placement=p-{placement}&publisher=pub-{publisher}"
                    ),
                );
            }
        }
        if let Some(string) = consent {
            add(&mut query, format_args!("&gdpr=1&gdpr_consent={string}"));
        }
        add(&mut query, format_args!("&cb={}", self.rng.u32(..)));
        let endpoint = if kind < 70 { "/p.gif" } else { "/i.gif" };
        format!("{endpoint}?{query}")
    }

    /// The TC string of somebody who was asked; of the others none.
    fn choice(&mut self) -> Option<String> {
        if self.rng.bool() {
            self.rng.choice(&self.consent).cloned()
        } else {
            None
        }
    }

    fn one_of(&mut self, texts: &[&'static str]) -> &'static str {
        self.rng.choice(texts).copied().unwrap_or_default()
    }

    /// Most from Sweden, some from anywhere.
    fn client_ip(&mut self) -> IpAddr {
        let elsewhere = self.rng.u32(0..10) == 0;
        if self.rng.u32(0..10) < 3 {
            let (first, bits) = *self.rng.choice(&SWEDISH_V6).unwrap_or(&SWEDISH_V6[0]);
            let host = self.rng.u128(..) >> bits;
            return Ipv6Addr::from_bits(first.to_bits() | host).into();
        }
        if elsewhere {
            return Ipv4Addr::from_bits(self.rng.u32(0x0500_0000..0xdf00_0000)).into();
        }
        let (first, bits) = *self.rng.choice(&SWEDISH_V4).unwrap_or(&SWEDISH_V4[0]);
        Ipv4Addr::from_bits(first.to_bits() | (self.rng.u32(..) >> bits)).into()
    }

    /// One visitor, with cookies for the collector and for nginx.
    fn visitor(&mut self, source: &Source<'_>) -> Visitor {
        let id = self.rng.u128(..).to_be_bytes();
        let value = source.keyring.sign(VisitorId(id), source.now);
        let value = value.unwrap_or_default();
        let cookies = format!(
            "_ga=GA1.2.{}.{}; avid={value}; uid={}",
            self.rng.u32(..),
            self.rng.u32(..),
            STANDARD.encode(id)
        );
        Visitor {
            cookies,
            consent: self.choice(),
        }
    }

    /// TC strings that permit a hit's row, for whoever is asked of vendor 2, and some that refuse;
    /// each with another CMP and version, as those of many visitors are.
    fn consent_strings(&mut self) -> anyhow::Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Vector {
            name: String,
            string: serde_json::Value,
            expect: Vec<Expected>,
        }
        #[derive(Deserialize)]
        struct Expected {
            vendor: u16,
            ad: Vec<String>,
            page: Vec<String>,
        }
        const VECTORS: &str = include_str!("../../src/consent/vectors.json");
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let vectors: Vec<Vector> = serde_json::from_str(VECTORS).context("consent vectors")?;
        let of = |wanted: &dyn Fn(&Vector) -> bool| -> Vec<String> {
            let found = vectors.iter().filter(|vector| wanted(vector));
            found
                .filter_map(|vector| vector.string.as_str().map(str::to_owned))
                .filter(|string| string.starts_with('C'))
                .collect()
        };
        let measures = |vector: &Vector| {
            let two = vector.expect.iter().find(|expected| expected.vendor == 2);
            two.is_some_and(|two| {
                let has = |flags: &[String]| flags.iter().any(|flag| flag == "measure");
                has(&two.ad) && has(&two.page)
            })
        };
        let permitting = of(&|vector| vector.name.starts_with("random") && measures(vector));
        let refusing = of(&|vector| vector.name == "refused");
        anyhow::ensure!(
            !permitting.is_empty() && !refusing.is_empty(),
            "the consent vectors have changed their names"
        );
        let one = |_| {
            let refuses = self.rng.u32(0..10) == 0;
            let from = if refuses { &refusing } else { &permitting };
            let mut string = self.rng.choice(from).cloned().unwrap_or_default();
            // Six bits a letter: 13 to 16 are the CMP's ID and version.
            for at in 13..17 {
                let letter = self
                    .rng
                    .choice(LETTERS)
                    .map_or('A', |byte| char::from(*byte));
                string.replace_range(at..=at, letter.encode_utf8(&mut [0; 4]));
            }
            string
        };
        Ok((0..CONSENT_STRINGS).map(one).collect())
    }

    fn in_app_agent(&mut self) -> String {
        let (major, minor) = (self.rng.u32(500..530), self.rng.u32(0..60));
        match self.rng.u32(0..3) {
            0 => format!(
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/{major}.0.0.{minor}.97;FBBV/{SERIAL};FBDV/iPhone15,2;FBMD/iPhone;FBSN/iOS;FBSV/18.6;FBSS/3;FBID/phone;FBLC/sv_SE;FBOP/5]"
            ),
            1 => format!(
                "Mozilla/5.0 (Linux; Android 14; SM-S918B Build/UP1A.231005.007; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/138.0.7204.63 Mobile Safari/537.36 Instagram 387.0.0.{minor}.85 Android (34/14; 480dpi; 1080x2115; samsung; SM-S918B; dm3q; qcom; sv_SE; {SERIAL})"
            ),
            _ => format!(
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 musical_ly_35.{minor}.0 JsSdk/2.0 NetType/WIFI Channel/App Store ByteLocale/sv Region/SE FalconTag/{SERIAL}"
            ),
        }
    }
}

/// The client hints that Chromium sends unasked.
fn push_hints(text: &mut String, agent: &str) {
    let Some((_, after)) = agent.split_once("Chrome/") else {
        return;
    };
    let version = after.split('.').next().unwrap_or_default();
    let brands = format!(
        "\"Chromium\";v=\"{version}\", \"Google Chrome\";v=\"{version}\", \"Not_A Brand\";v=\"99\""
    );
    push(text, "sec-ch-ua", &brands);
    let is_mobile = agent.contains("Mobile");
    push(
        text,
        "sec-ch-ua-mobile",
        if is_mobile { "?1" } else { "?0" },
    );
    let platform = [
        ("Android", "Android"),
        ("Windows", "Windows"),
        ("Mac OS", "macOS"),
    ]
    .into_iter()
    .find_map(|(word, platform)| agent.contains(word).then_some(platform))
    .unwrap_or("Linux");
    push(text, "sec-ch-ua-platform", &format!("\"{platform}\""));
}

fn push(text: &mut String, name: &str, value: &str) {
    add(text, format_args!("{name}: {value}\r\n"));
}

fn add(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a String takes any text");
}

fn encoded(url: &str) -> String {
    utf8_percent_encode(url, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus() -> Corpus {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let source = Source {
            agents: &root.join("assets/data/test/user-agents.json"),
            keyring: &CookieKeyring::new([(1, [7; 32].as_slice())], 86_400),
            now: UnixMicros(1_800_000_000_000_000),
            seed: 1,
        };
        Corpus::make(&source, 2_000).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_requests() {
        let texts = |corpus: Corpus| corpus.requests.into_iter().map(|request| request.text);
        assert!(texts(corpus()).eq(texts(corpus())));
    }

    #[test]
    fn shares_are_as_the_table_says() {
        let corpus = corpus();
        let share = |wanted: &dyn Fn(&Request) -> bool| {
            let found = corpus.requests.iter().filter(|request| wanted(request));
            found.count() as f64 / 2_000.0
        };
        let has = |text: &'static str| share(&|request| request.text.contains(text));
        for (name, share, wanted) in [
            ("cookie", has("; avid="), 0.7),
            ("consent", has("&gdpr_consent=C"), 0.5),
            ("event", has("&id="), 0.15),
            ("impression", has("/i.gif?"), 0.3),
            ("IPv6", share(&|request| request.client_ip.is_ipv6()), 0.3),
            (
                "in-app",
                share(&|request| request.serial_at.is_some() && !request.text.contains("&id=")),
                0.05,
            ),
        ] {
            assert!((share - wanted).abs() < 0.04, "{name}: {share}");
        }
    }

    #[test]
    fn a_serial_number_takes_its_place_and_no_other() {
        let corpus = corpus();
        let with = corpus.requests.iter().find(|r| r.serial_at.is_some());
        let request = with.unwrap();
        let mut sent = Vec::new();
        request.put(120_000_045, &mut sent);
        let sent = String::from_utf8(sent).unwrap();
        assert_eq!(sent.replace("120000045", SERIAL), request.text);
    }
}
