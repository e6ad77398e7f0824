//! A hit: one recorded request, as received, and its encoding in the spool.
//!
//! The encoding is Protocol Buffers' wire format (proto/hit.proto is its schema), so that a hit can
//! be read in any language and fields can be added. It is written and read here by hand because
//! both ends are hot: the edge encodes straight from the request's bytes, and the loader decodes
//! into slices of the batch it read, neither with an allocation per field.
//!
//! A field that is empty is absent. A reader passes over the fields that it does not know. A field
//! whose wire type is wrong, a text that is not UTF-8, or an unknown kind is a [`DecodeError`]: the
//! loader sets such a record aside as a rejected hit.

mod fields;
mod flags;
pub mod limits;
pub mod subject;

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use crate::clock::UnixMicros;
pub use fields::{subjects, without_client_ip};
pub use flags::Flags;

/// What a hit records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A page was shown.
    PageView = 1,
    /// Something named happened on a page.
    Event = 2,
    /// An ad was shown.
    Impression = 3,
    /// An ad was clicked.
    Click = 4,
    /// An ad network's server reported something.
    Callback = 5,
    /// IDs were exchanged with a partner.
    Sync = 6,
    /// A visitor withdrew: never a row, an instruction to the loader to forget this visitor's ID.
    Withdrawal = 7,
    /// A visitor asked to be erased: never a row, the instruction to delete what is held besides.
    Erasure = 8,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: [Kind; 8] = [
        Kind::PageView,
        Kind::Event,
        Kind::Impression,
        Kind::Click,
        Kind::Callback,
        Kind::Sync,
        Kind::Withdrawal,
        Kind::Erasure,
    ];

    /// Whether it is what a visitor asks for: it goes into the spool of instructions, and is no hit.
    #[must_use]
    pub fn is_instruction(self) -> bool {
        matches!(self, Kind::Withdrawal | Kind::Erasure)
    }

    /// The word in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::PageView => "page_view",
            Kind::Event => "event",
            Kind::Impression => "impression",
            Kind::Click => "click",
            Kind::Callback => "callback",
            Kind::Sync => "sync",
            Kind::Withdrawal => "withdrawal",
            Kind::Erasure => "erasure",
        }
    }

    /// The number that stands in the spool and in Postgres.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    fn from_number(number: u64) -> Option<Kind> {
        Kind::ALL
            .into_iter()
            .find(|kind| u64::from(kind.number()) == number)
    }
}

/// What the consent signals of one hit allow: a set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Permit(u8);

impl Permit {
    /// Nothing is allowed.
    pub const NONE: Permit = Permit(0);
    /// The visitor cookie and IDs.
    pub const STORE: Permit = Permit(1);
    /// The hit as a row of its own.
    pub const MEASURE: Permit = Permit(2);
    /// Segments.
    pub const PROFILE: Permit = Permit(4);
    /// Exchange of IDs with a partner.
    pub const MATCH: Permit = Permit(8);
    /// Linking of devices and households.
    pub const LINK: Permit = Permit(16);
    /// Geodata finer than the region.
    pub const LOCATE: Permit = Permit(32);
    /// Everything.
    pub const ALL: Permit = Permit(63);

    /// Each flag with its name in config, cookies and SQL.
    pub const NAMED: [(&'static str, Permit); 6] = [
        ("store", Permit::STORE),
        ("measure", Permit::MEASURE),
        ("profile", Permit::PROFILE),
        ("match", Permit::MATCH),
        ("link", Permit::LINK),
        ("locate", Permit::LOCATE),
    ];

    /// The flag of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Permit> {
        Permit::NAMED
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, flag)| *flag)
    }

    /// Whether every flag of `other` is set here.
    #[must_use]
    pub fn allows(self, other: Permit) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags that either has.
    #[must_use]
    pub const fn with(self, other: Permit) -> Permit {
        Permit(self.0 | other.0)
    }

    /// The flags that are here and not in `other`.
    #[must_use]
    pub const fn without(self, other: Permit) -> Permit {
        Permit(self.0 & !other.0)
    }

    /// The flags that both have.
    #[must_use]
    pub const fn and(self, other: Permit) -> Permit {
        Permit(self.0 & other.0)
    }

    /// The flags as a number: 1 store, 2 measure, 4 profile, 8 match, 16 link, 32 locate.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    fn from_bits(bits: u64) -> Permit {
        Permit(u8::try_from(bits & u64::from(Permit::ALL.0)).unwrap_or(0))
    }
}

impl fmt::Display for Permit {
    /// The names of the flags joined by dots, `none` for no flag.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, flag) in Permit::NAMED {
            if self.allows(flag) {
                write!(f, "{separator}{name}")?;
                separator = ".";
            }
        }
        if separator.is_empty() {
            f.write_str("none")
        } else {
            Ok(())
        }
    }
}

/// The signal that decided the permit of a hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ConsentSource {
    /// The site's configured default.
    #[default]
    Default = 1,
    /// The visitor's own choice on this site.
    Choice = 2,
    /// The browser's Global Privacy Control.
    Gpc = 3,
    /// A TCF string.
    Tcf = 4,
    /// A GPP string.
    Gpp = 5,
    /// `gdpr=0` from where the configuration believes it.
    Gdpr0 = 6,
}

impl ConsentSource {
    /// Every source.
    pub const ALL: [ConsentSource; 6] = [
        ConsentSource::Default,
        ConsentSource::Choice,
        ConsentSource::Gpc,
        ConsentSource::Tcf,
        ConsentSource::Gpp,
        ConsentSource::Gdpr0,
    ];

    /// The word in SQL and in the reply of `/consent`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ConsentSource::Default => "default",
            ConsentSource::Choice => "choice",
            ConsentSource::Gpc => "gpc",
            ConsentSource::Tcf => "tcf",
            ConsentSource::Gpp => "gpp",
            ConsentSource::Gdpr0 => "gdpr_0",
        }
    }

    /// The number that stands in the spool and in Postgres.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    fn from_number(number: u64) -> Option<ConsentSource> {
        ConsentSource::ALL
            .into_iter()
            .find(|source| u64::from(source.number()) == number)
    }
}

/// The random 128-bit ID of a visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VisitorId(pub [u8; 16]);

/// What the browser says of its device beside the user agent: client hints, unquoted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hints<'a> {
    /// `Sec-CH-UA`: the brands with their major versions, as sent.
    pub brands: Cow<'a, str>,
    /// `Sec-CH-UA-Mobile`.
    pub mobile: Option<bool>,
    /// `Sec-CH-UA-Platform`: `Android`, `Windows`, `macOS`, …
    pub platform: Cow<'a, str>,
    /// `Sec-CH-UA-Platform-Version`.
    pub platform_version: Cow<'a, str>,
    /// `Sec-CH-UA-Model`: `SM-S918B`, …
    pub model: Cow<'a, str>,
    /// `Sec-CH-UA-Form-Factors`: `"Mobile"`, `"Tablet"`, …, as sent (a list).
    pub form_factors: Cow<'a, str>,
}

/// One recorded request. Texts are empty where the request had none.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the words of the parameters in docs/parameters.md"
)]
pub struct Hit<'a> {
    pub received_at: UnixMicros,
    pub kind: Kind,
    pub site: Cow<'a, str>,
    pub permit: Permit,
    pub consent_source: ConsentSource,
    pub flags: Flags,
    pub visitor: Option<VisitorId>,
    pub client_ip: Option<IpAddr>,
    pub user_agent: Cow<'a, str>,
    pub hints: Hints<'a>,
    pub page_url: Cow<'a, str>,
    pub referrer: Cow<'a, str>,
    pub event_name: Cow<'a, str>,
    pub event_id: Cow<'a, str>,
    pub partner: Cow<'a, str>,
    pub campaign: Cow<'a, str>,
    pub creative: Cow<'a, str>,
    pub placement: Cow<'a, str>,
    pub publisher: Cow<'a, str>,
    pub partner_uid: Cow<'a, str>,
    pub maid: Cow<'a, str>,
    pub device_id: Cow<'a, str>,
    pub category: Cow<'a, str>,
    /// Of a click its own ID, of another hit that of the click that it follows.
    pub click_id: Cow<'a, str>,
    /// What the sender added, as the text of one JSON object.
    pub params: Cow<'a, str>,
}

impl<'a> Hit<'a> {
    /// A hit of `kind` on `site` at `received_at` that says nothing else and permits nothing.
    #[must_use]
    pub fn new(received_at: UnixMicros, kind: Kind, site: impl Into<Cow<'a, str>>) -> Hit<'a> {
        Hit {
            received_at,
            kind,
            site: site.into(),
            permit: Permit::NONE,
            consent_source: ConsentSource::Default,
            flags: Flags::default(),
            visitor: None,
            client_ip: None,
            user_agent: Cow::Borrowed(""),
            hints: Hints::default(),
            page_url: Cow::Borrowed(""),
            referrer: Cow::Borrowed(""),
            event_name: Cow::Borrowed(""),
            event_id: Cow::Borrowed(""),
            partner: Cow::Borrowed(""),
            campaign: Cow::Borrowed(""),
            creative: Cow::Borrowed(""),
            placement: Cow::Borrowed(""),
            publisher: Cow::Borrowed(""),
            partner_uid: Cow::Borrowed(""),
            maid: Cow::Borrowed(""),
            device_id: Cow::Borrowed(""),
            category: Cow::Borrowed(""),
            click_id: Cow::Borrowed(""),
            params: Cow::Borrowed(""),
        }
    }

    /// Each text with its field number in proto/hit.proto: the one list that both directions use.
    fn texts(&self) -> [(u32, &Cow<'a, str>); 22] {
        [
            (3, &self.site),
            (16, &self.user_agent),
            (17, &self.page_url),
            (18, &self.referrer),
            (19, &self.event_name),
            (20, &self.event_id),
            (21, &self.partner),
            (22, &self.campaign),
            (23, &self.creative),
            (24, &self.placement),
            (25, &self.publisher),
            (26, &self.partner_uid),
            (27, &self.maid),
            (28, &self.device_id),
            (29, &self.category),
            (30, &self.params),
            (31, &self.hints.brands),
            (33, &self.hints.platform),
            (34, &self.hints.platform_version),
            (35, &self.hints.model),
            (36, &self.hints.form_factors),
            (37, &self.click_id),
        ]
    }

    fn text_mut(&mut self, field: u32) -> Option<&mut Cow<'a, str>> {
        Some(match field {
            3 => &mut self.site,
            16 => &mut self.user_agent,
            17 => &mut self.page_url,
            18 => &mut self.referrer,
            19 => &mut self.event_name,
            20 => &mut self.event_id,
            21 => &mut self.partner,
            22 => &mut self.campaign,
            23 => &mut self.creative,
            24 => &mut self.placement,
            25 => &mut self.publisher,
            26 => &mut self.partner_uid,
            27 => &mut self.maid,
            28 => &mut self.device_id,
            29 => &mut self.category,
            30 => &mut self.params,
            31 => &mut self.hints.brands,
            33 => &mut self.hints.platform,
            34 => &mut self.hints.platform_version,
            35 => &mut self.hints.model,
            36 => &mut self.hints.form_factors,
            37 => &mut self.click_id,
            _ => return None,
        })
    }

    /// Appends the encoding to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_number(out, 1, self.received_at.0.cast_unsigned());
        put_number(out, 2, u64::from(self.kind.number()));
        put_number(out, 4, u64::from(self.permit.bits()));
        put_number(out, 5, u64::from(self.consent_source.number()));
        put_number(out, 6, u64::from(self.flags.bits()));
        if let Some(VisitorId(id)) = &self.visitor {
            put_bytes(out, 7, id);
        }
        match self.client_ip {
            Some(IpAddr::V4(ip)) => put_bytes(out, 8, &ip.octets()),
            Some(IpAddr::V6(ip)) => put_bytes(out, 8, &ip.octets()),
            None => {}
        }
        if let Some(mobile) = self.hints.mobile {
            put_number(out, 32, 1 + u64::from(mobile));
        }
        for (field, text) in self.texts() {
            put_bytes(out, field, text.as_bytes());
        }
    }

    /// Reads an encoding; texts borrow from `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] where `bytes` is no hit.
    pub fn decode(mut bytes: &'a [u8]) -> Result<Hit<'a>, DecodeError> {
        let mut hit = Hit::new(UnixMicros(0), Kind::PageView, "");
        let mut kind = None;
        while !bytes.is_empty() {
            let key = take_varint(&mut bytes)?;
            let field = u32::try_from(key >> 3).map_err(|_| DecodeError::Field(u32::MAX))?;
            match key & 7 {
                0 => {
                    let number = take_varint(&mut bytes)?;
                    match field {
                        1 => hit.received_at = UnixMicros(number.cast_signed()),
                        2 => {
                            kind =
                                Some(Kind::from_number(number).ok_or(DecodeError::Kind(number))?);
                        }
                        4 => hit.permit = Permit::from_bits(number),
                        5 => {
                            hit.consent_source = ConsentSource::from_number(number)
                                .ok_or(DecodeError::Field(field))?;
                        }
                        6 => {
                            hit.flags = Flags(
                                u32::try_from(number).map_err(|_| DecodeError::Field(field))?,
                            );
                        }
                        32 => hit.hints.mobile = Some(number == 2),
                        _ if hit.text_mut(field).is_some() => {
                            return Err(DecodeError::Field(field));
                        }
                        _ => {}
                    }
                }
                2 => {
                    let length = usize::try_from(take_varint(&mut bytes)?)
                        .map_err(|_| DecodeError::Short)?;
                    let value = bytes.split_off(..length).ok_or(DecodeError::Short)?;
                    hit.set_bytes(field, value)?;
                }
                _ => return Err(DecodeError::Field(field)),
            }
        }
        hit.kind = kind.ok_or(DecodeError::Kind(0))?;
        Ok(hit)
    }

    fn set_bytes(&mut self, field: u32, value: &'a [u8]) -> Result<(), DecodeError> {
        match field {
            7 => {
                let id = value.try_into().map_err(|_| DecodeError::Field(field))?;
                self.visitor = Some(VisitorId(id));
            }
            8 => {
                let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
                let ip = v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from));
                self.client_ip = Some(ip.map_err(|_| DecodeError::Field(field))?);
            }
            1 | 2 | 4 | 5 | 6 | 32 => return Err(DecodeError::Field(field)),
            _ => {
                if let Some(text) = self.text_mut(field) {
                    let value = str::from_utf8(value).map_err(|_| DecodeError::Utf8(field))?;
                    *text = Cow::Borrowed(value);
                }
            }
        }
        Ok(())
    }
}

/// Why bytes are no hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within a field.
    #[error("the record ends within a field")]
    Short,
    /// The kind is missing (0) or unknown.
    #[error("{0} is no kind of hit")]
    Kind(u64),
    /// A field's type or value is wrong.
    #[error("field {0} has a wrong type or value")]
    Field(u32),
    /// A text is not UTF-8.
    #[error("field {0} is not UTF-8")]
    Utf8(u32),
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    if number != 0 {
        put_varint(out, u64::from(field) << 3);
        put_varint(out, number);
    }
}

fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_varint(out, u64::from(field) << 3 | 2);
        put_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first().ok_or(DecodeError::Short)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(DecodeError::Short)
}

#[cfg(test)]
mod tests;
