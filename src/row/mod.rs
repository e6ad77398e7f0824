//! What Postgres stores of a hit: exactly the columns of `avtryck.hit`, and the dimension
//! rows that it points to.
//!
//! A dimension row's key is the XXH3 64-bit hash of its content (each text with its length before
//! it, numbers as little-endian bytes), so that any number of loaders agree on it with no round
//! trip. Two contents share a key with probability n²/2⁶⁵: 3·10⁻⁸ for a million rows.

use std::borrow::Cow;

use ipnet::IpNet;
use xxhash_rust::xxh3::Xxh3;

use crate::clock::UnixMicros;
use crate::hit::{ConsentSource, Flags, Hit, Kind, Permit, VisitorId};

/// One row of `avtryck.hit`. Empty texts and `None` become NULL.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are the columns of `avtryck.hit`")]
pub struct Row<'a> {
    pub received_at: UnixMicros,
    pub site_key: i64,
    pub place_key: Option<i64>,
    pub network_key: Option<i64>,
    pub device_key: Option<i64>,
    pub ad_key: Option<i64>,
    pub flags: Flags,
    pub kind: Kind,
    pub permit: Permit,
    pub consent_source: ConsentSource,
    pub hit_id: [u8; 16],
    pub visitor_id: Option<VisitorId>,
    pub page_url: Cow<'a, str>,
    pub referrer: Cow<'a, str>,
    pub event_name: Cow<'a, str>,
    pub event_id: Cow<'a, str>,
    pub partner_uid: Cow<'a, str>,
    pub maid: Cow<'a, str>,
    pub device_id: Cow<'a, str>,
    pub click_id: Cow<'a, str>,
    pub client_ip: Option<IpNet>,
    pub params: Cow<'a, str>,
}

impl Row<'_> {
    /// The columns of type text, in order.
    #[must_use]
    pub fn texts(&self) -> [&str; 8] {
        [
            &self.page_url,
            &self.referrer,
            &self.event_name,
            &self.event_id,
            &self.partner_uid,
            &self.maid,
            &self.device_id,
            &self.click_id,
        ]
    }
}

/// Which ad a hit is about. Empty texts mean unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields are the columns of `avtryck.ad`")]
pub struct Ad<Text = String> {
    pub partner: Text,
    pub campaign: Text,
    pub creative: Text,
    pub placement: Text,
    pub publisher: Text,
}

impl<Text> Ad<Text> {
    /// The same with each text changed.
    pub fn map<To>(self, change: impl Fn(Text) -> To) -> Ad<To> {
        Ad {
            partner: change(self.partner),
            campaign: change(self.campaign),
            creative: change(self.creative),
            placement: change(self.placement),
            publisher: change(self.publisher),
        }
    }
}

impl<'h> Ad<&'h str> {
    /// The ad of a hit; `None` where it names none.
    #[must_use]
    pub fn of(hit: &'h Hit<'_>) -> Option<Ad<&'h str>> {
        let ad = Ad {
            partner: &*hit.partner,
            campaign: &*hit.campaign,
            creative: &*hit.creative,
            placement: &*hit.placement,
            publisher: &*hit.publisher,
        };
        (ad != Ad::default()).then_some(ad)
    }
}

/// The site that a hit was made on, with the category of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields are the columns of `avtryck.site`")]
pub struct Site<Text = String> {
    pub site: Text,
    pub category: Text,
}

impl<Text> Site<Text> {
    /// The same with each text changed.
    pub fn map<To>(self, change: impl Fn(Text) -> To) -> Site<To> {
        Site {
            site: change(self.site),
            category: change(self.category),
        }
    }
}

impl<'h> Site<&'h str> {
    /// The site of a hit.
    #[must_use]
    pub fn of(hit: &'h Hit<'_>) -> Site<&'h str> {
        Site {
            site: &*hit.site,
            category: &*hit.category,
        }
    }
}

/// Where a hit came from, by its IP address. Empty texts and `None` mean unknown.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are the columns of `avtryck.place`")]
pub struct Place {
    pub country: String,
    pub region: String,
    pub city: String,
    pub postal_code: String,
    pub latitude: Option<f64>,
    pub longitude: Option<f64>,
    pub time_zone: String,
}

impl Place {
    /// What is left without the permit to locate: country and region.
    #[must_use]
    pub fn coarse(&self) -> Place {
        Place {
            country: self.country.clone(),
            region: self.region.clone(),
            ..Place::default()
        }
    }
}

/// Whose network a hit came from.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the columns of `avtryck.network`"
)]
pub struct Network {
    pub asn: Option<u32>,
    pub name: String,
}

/// What kind of thing a device is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the words are their own explanation")]
pub enum DeviceClass {
    Phone,
    Tablet,
    Desktop,
    Tv,
    Console,
    Car,
    Watch,
    Bot,
    #[default]
    Other,
}

impl DeviceClass {
    /// The word in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DeviceClass::Phone => "phone",
            DeviceClass::Tablet => "tablet",
            DeviceClass::Desktop => "desktop",
            DeviceClass::Tv => "tv",
            DeviceClass::Console => "console",
            DeviceClass::Car => "car",
            DeviceClass::Watch => "watch",
            DeviceClass::Bot => "bot",
            DeviceClass::Other => "other",
        }
    }
}

/// On what device a hit was made. Empty texts mean unknown.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the columns of `avtryck.device`"
)]
pub struct Device {
    pub class: DeviceClass,
    pub brand: String,
    pub model: String,
    pub os: String,
    pub os_version: String,
    pub browser: String,
    pub browser_version: String,
    pub is_bot: bool,
}

/// Something that has a dimension key: the hash of its content.
pub trait Dimension {
    /// Feeds the content to the hash, in the order of the columns.
    fn feed(&self, hash: &mut ContentHash);

    /// The key of the dimension row.
    fn key(&self) -> i64 {
        let mut hash = ContentHash(Xxh3::new());
        self.feed(&mut hash);
        hash.0.digest().cast_signed()
    }
}

/// The hash that a dimension's content is fed to.
pub struct ContentHash(Xxh3);

impl ContentHash {
    /// Feeds a text, its length first.
    pub fn text(&mut self, text: &str) {
        self.0.update(&(text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }

    /// Feeds a number that may be missing.
    pub fn bits(&mut self, bits: Option<u64>) {
        self.0.update(&[u8::from(bits.is_some())]);
        self.0.update(&bits.unwrap_or(0).to_le_bytes());
    }
}

impl Dimension for Place {
    fn feed(&self, hash: &mut ContentHash) {
        for text in [
            &self.country,
            &self.region,
            &self.city,
            &self.postal_code,
            &self.time_zone,
        ] {
            hash.text(text);
        }
        hash.bits(self.latitude.map(f64::to_bits));
        hash.bits(self.longitude.map(f64::to_bits));
    }
}

impl Dimension for Network {
    fn feed(&self, hash: &mut ContentHash) {
        hash.bits(self.asn.map(u64::from));
        hash.text(&self.name);
    }
}

impl Dimension for Device {
    fn feed(&self, hash: &mut ContentHash) {
        hash.text(self.class.name());
        for text in [
            &self.brand,
            &self.model,
            &self.os,
            &self.os_version,
            &self.browser,
            &self.browser_version,
        ] {
            hash.text(text);
        }
        hash.bits(Some(u64::from(self.is_bot)));
    }
}

impl<Text: AsRef<str>> Dimension for Ad<Text> {
    fn feed(&self, hash: &mut ContentHash) {
        for text in [
            &self.partner,
            &self.campaign,
            &self.creative,
            &self.placement,
            &self.publisher,
        ] {
            hash.text(text.as_ref());
        }
    }
}

impl<Text: AsRef<str>> Dimension for Site<Text> {
    fn feed(&self, hash: &mut ContentHash) {
        hash.text(self.site.as_ref());
        hash.text(self.category.as_ref());
    }
}
