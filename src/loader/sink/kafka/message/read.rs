//! Reads messages: what `avtryck load` makes rows of.
//!
//! A message may be of an earlier version, or of a later one: fields that are not known are passed
//! over, and what is missing is empty. What cannot be read is an error with a reason, and is set
//! aside.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{CLIENT_IP_BITS, CountKey, HIT_ID, IS_SENSITIVE_PAGE, SIGHTING, SubjectSaid};
use crate::enrich::{DIMENSIONS, DimensionTable};
use crate::hit::wire::take_varint;
use crate::hit::{ConsentSource, Hit, Kind, Permit};
use crate::identity::{Node, NodeKind};
use crate::postgres::household::part::Sighting;
use crate::row::dimension::{ColumnValues, ReadColumns};
use crate::row::{Ad, Site};

/// The last minute that Postgres takes for a day of this calendar: the end of 9999.
const MINUTE_MAX: i64 = 2_932_897 * 24 * 60 - 1;
/// More hits than a message ever counts; sums of them stay far below what Postgres can hold.
const HITS_MAX: u64 = 1 << 40;
/// The most columns of a dimension that are read.
const COLUMNS_MAX: usize = 16;

/// Why a message cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It holds no hit that can be read.
    #[error(transparent)]
    Hit(#[from] crate::hit::DecodeError),
    /// A field is missing, or has a wrong type or value.
    #[error("field {0} of the message has a wrong type or value")]
    Field(u32),
}

/// A row, as its message says it.
#[derive(Debug)]
pub(crate) struct RowMessage<'a> {
    /// The hit, with the flags that were found of it.
    pub hit: Hit<'a>,
    /// Its ID.
    pub hit_id: [u8; 16],
    /// What is known of its client's address.
    pub client_ip: Option<IpNet>,
    /// Whether its page is of a sensitive category.
    pub is_sensitive_page: bool,
    /// What was found of it, encoded, in the order of [`DIMENSIONS`].
    pub dimensions: [Option<&'a [u8]>; DIMENSIONS.len()],
    /// The sighting that it makes, with its epoch.
    pub sighting: Option<(Sighting, i32)>,
}

impl<'a> RowMessage<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// If the bytes are not such a message, or one of its fields has a wrong type or value.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<RowMessage<'a>, MessageError> {
        let mut row = RowMessage {
            hit: Hit::decode(bytes)?,
            hit_id: [0; 16],
            client_ip: None,
            is_sensitive_page: false,
            dimensions: [None; DIMENSIONS.len()],
            sighting: None,
        };
        let (mut has_id, mut bits) = (false, None);
        for field in Fields(bytes) {
            let (number, value) = field?;
            match number {
                HIT_ID => {
                    row.hit_id = value.array(number)?;
                    has_id = true;
                }
                CLIENT_IP_BITS => bits = Some(value.number(number)?),
                IS_SENSITIVE_PAGE => row.is_sensitive_page = value.number(number)? != 0,
                SIGHTING => row.sighting = Some(read_sighting(value.bytes(number)?)?),
                _ => {
                    let known = DimensionTable::ALL.iter().zip(&mut row.dimensions);
                    let mut known = known.filter(|(known, _)| known.field() == Some(number));
                    if let Some((_, dimension)) = known.next() {
                        *dimension = Some(value.bytes(number)?);
                    }
                }
            }
        }
        if !has_id {
            return Err(MessageError::Field(HIT_ID));
        }
        row.client_ip = network(row.hit.client_ip, bits)?;
        Ok(row)
    }
}

fn network(ip: Option<IpAddr>, bits: Option<u64>) -> Result<Option<IpNet>, MessageError> {
    let wrong = MessageError::Field(CLIENT_IP_BITS);
    let Some(ip) = ip else {
        return Ok(None);
    };
    let bits = bits.and_then(|bits| u8::try_from(bits).ok());
    let network = bits.and_then(|bits| IpNet::new(ip, bits).ok());
    network.map(Some).ok_or(wrong)
}

fn read_sighting(bytes: &[u8]) -> Result<(Sighting, i32), MessageError> {
    let wrong = || MessageError::Field(SIGHTING);
    let mut sighting = Sighting {
        address: 0,
        node: Node([0; 16]),
        day: 0,
        hour: 0,
        is_phone: false,
    };
    let (mut epoch, mut has_node) = (0, false);
    for field in Fields(bytes) {
        let (number, value) = field?;
        let day = || i32::try_from(value.number(SIGHTING)?).map_err(|_| wrong());
        match (number, value) {
            (1, Value::Eight(bytes)) => sighting.address = i64::from_le_bytes(bytes),
            (2, _) => {
                sighting.node = Node(value.array(SIGHTING)?);
                has_node = true;
            }
            (3, _) => sighting.day = day()?,
            (4, _) => {
                let hour = value.number(SIGHTING)?;
                sighting.hour = u8::try_from(hour).map_err(|_| wrong())?;
            }
            (5, _) => sighting.is_phone = value.number(SIGHTING)? != 0,
            (6, _) => epoch = day()?,
            _ => {}
        }
    }
    match has_node && sighting.hour < 24 {
        true => Ok((sighting, epoch)),
        false => Err(wrong()),
    }
}

/// Hits that are only counted, as their message says it.
#[derive(Debug, PartialEq)]
pub(crate) struct CountMessage {
    /// What they are counted by.
    pub key: CountKey,
    /// How many there were.
    pub hits: u64,
    /// The first half of the ID of their spool; `None` in messages of earlier versions.
    pub spool: Option<[u8; 8]>,
    /// What they said of their subjects.
    pub said: Vec<SubjectSaid>,
}

impl CountMessage {
    /// Reads a message.
    ///
    /// # Errors
    /// If the bytes are not such a message, or one of its fields has a wrong type or value.
    pub(crate) fn decode(bytes: &[u8]) -> Result<CountMessage, MessageError> {
        let mut kind = None;
        let mut count = CountMessage {
            key: CountKey {
                minute: 0,
                kind: Kind::PageView,
                site: Site::default(),
                ad: Ad::default(),
            },
            hits: 0,
            spool: None,
            said: Vec::new(),
        };
        for field in Fields(bytes) {
            let (number, value) = field?;
            let (site, ad) = (&mut count.key.site, &mut count.key.ad);
            let text = match number {
                1 => {
                    let minute = value.number(number)?;
                    let minute = i64::try_from(minute).ok();
                    let minute = minute.filter(|minute| *minute <= MINUTE_MAX);
                    count.key.minute = minute.ok_or_else(|| wrong(number))?;
                    continue;
                }
                2 => {
                    kind = Kind::from_number(value.number(number)?);
                    continue;
                }
                3 => &mut site.site,
                4 => &mut site.category,
                5 => &mut ad.partner,
                6 => &mut ad.campaign,
                7 => &mut ad.creative,
                8 => &mut ad.placement,
                9 => &mut ad.publisher,
                10 => {
                    count.hits = value.number(number)?;
                    if count.hits > HITS_MAX {
                        return Err(wrong(number));
                    }
                    continue;
                }
                11 => {
                    count.spool = Some(value.array(number)?);
                    continue;
                }
                12 => {
                    count.said.push(read_said(value.bytes(number)?)?);
                    continue;
                }
                _ => continue,
            };
            *text = value.text(number)?.to_owned();
        }
        count.key.kind = kind.filter(|kind| !kind.is_instruction()).ok_or(wrong(2))?;
        Ok(count)
    }
}

fn read_said(bytes: &[u8]) -> Result<SubjectSaid, MessageError> {
    let mut said = (None, None, Permit::NONE, None);
    for field in Fields(bytes) {
        let (number, value) = field?;
        match number {
            1 => said.0 = Some(Node(value.array(12)?)),
            2 => {
                let kind = value.number(12)?;
                let mut kinds = NodeKind::ALL.into_iter();
                said.1 = kinds.find(|known| *known as u64 == kind);
            }
            3 => said.2 = Permit::from_bits(value.number(12)?),
            4 => said.3 = ConsentSource::from_number(value.number(12)?),
            _ => {}
        }
    }
    match said {
        (Some(node), Some(kind), permit, consent_source) => Ok(SubjectSaid {
            node,
            kind,
            // What permits to measure would be a row.
            permit: permit.without(Permit::MEASURE),
            consent_source: consent_source.unwrap_or(ConsentSource::Default),
        }),
        _ => Err(wrong(12)),
    }
}

/// Reads the row of a dimension that a field of a message holds.
///
/// # Errors
/// If the bytes are not such a message, or one of its fields has a wrong type or value.
pub(crate) fn dimension<D: ReadColumns>(field: u32, bytes: &[u8]) -> Result<D, MessageError> {
    let mut columns = ReceivedColumns {
        field,
        values: [None; COLUMNS_MAX],
        next: 0,
        is_wrong: false,
    };
    for received in Fields(bytes) {
        let (number, value) = received?;
        let at = usize::try_from(number)
            .ok()
            .and_then(|at| at.checked_sub(1));
        // A column of a later version is passed over.
        if let Some(column) = at.and_then(|at| columns.values.get_mut(at)) {
            *column = Some(value);
        }
    }
    let row = D::read(&mut columns);
    match columns.is_wrong {
        true => Err(wrong(field)),
        false => Ok(row),
    }
}

/// The columns of a dimension's row, by the numbers of their fields.
struct ReceivedColumns<'a> {
    /// The field that holds the row.
    field: u32,
    values: [Option<Value<'a>>; COLUMNS_MAX],
    next: usize,
    /// Whether a value had a wrong type.
    is_wrong: bool,
}

impl<'a> ReceivedColumns<'a> {
    fn take<T>(&mut self, read: impl FnOnce(Value<'a>) -> Result<T, MessageError>) -> Option<T> {
        let value = self.values.get(self.next).copied().flatten();
        self.next += 1;
        let read = value.map(read)?;
        self.is_wrong |= read.is_err();
        read.ok()
    }
}

impl ColumnValues for ReceivedColumns<'_> {
    fn text(&mut self) -> String {
        let field = self.field;
        let text = self.take(|value| value.text(field));
        text.unwrap_or_default().to_owned()
    }

    fn integer(&mut self) -> Option<u32> {
        let field = self.field;
        self.take(|value| u32::try_from(value.number(field)?).map_err(|_| wrong(field)))
    }

    fn real(&mut self) -> Option<f64> {
        let field = self.field;
        self.take(|value| value.real(field))
    }

    fn boolean(&mut self) -> bool {
        let field = self.field;
        self.take(|value| value.number(field))
            .is_some_and(|number| number != 0)
    }
}

/// The fields of a message, with their numbers, up to the first that cannot be read.
struct Fields<'a>(&'a [u8]);

/// The value of a field.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Eight([u8; 8]),
    Four,
}

fn wrong(field: u32) -> MessageError {
    MessageError::Field(field)
}

impl<'a> Value<'a> {
    fn number(self, field: u32) -> Result<u64, MessageError> {
        match self {
            Value::Number(number) => Ok(number),
            _ => Err(wrong(field)),
        }
    }

    fn bytes(self, field: u32) -> Result<&'a [u8], MessageError> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(wrong(field)),
        }
    }

    fn array<const N: usize>(self, field: u32) -> Result<[u8; N], MessageError> {
        self.bytes(field)?.try_into().map_err(|_| wrong(field))
    }

    fn text(self, field: u32) -> Result<&'a str, MessageError> {
        str::from_utf8(self.bytes(field)?).map_err(|_| wrong(field))
    }

    fn real(self, field: u32) -> Result<f64, MessageError> {
        match self {
            Value::Eight(bytes) => Ok(f64::from_le_bytes(bytes)),
            _ => Err(wrong(field)),
        }
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self) -> Result<(u32, Value<'a>), MessageError> {
        let key = take_varint(&mut self.0)?;
        let field = u32::try_from(key >> 3).map_err(|_| wrong(u32::MAX))?;
        let short = || wrong(field);
        let value = match key & 7 {
            0 => Value::Number(take_varint(&mut self.0)?),
            1 => Value::Eight(*self.0.split_first_chunk().ok_or_else(short)?.0),
            2 => {
                let length = usize::try_from(take_varint(&mut self.0)?);
                let length = length.map_err(|_| short())?;
                Value::Bytes(self.0.split_off(..length).ok_or_else(short)?)
            }
            5 => Value::Four,
            _ => return Err(short()),
        };
        let passed = match value {
            Value::Eight(_) => 8,
            Value::Four => 4,
            _ => 0,
        };
        self.0.split_off(..passed).ok_or_else(short)?;
        Ok((field, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), MessageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let taken = self.take();
        if taken.is_err() {
            self.0 = &[];
        }
        Some(taken)
    }
}
