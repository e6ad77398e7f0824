//! Reads an encoding field by field, as far as it goes: for records that are not sound hits.

use super::Kind;
use super::fields::number_of;
use super::subject::Subject;
use super::user_key::UserKey;
use super::visitor_id::VisitorId;
use super::wire::take_varint;

const KIND: u64 = number_of("kind") as u64;
const VISITOR: u64 = number_of("visitor") as u64;
const CLIENT_IP: u64 = number_of("client_ip") as u64;
const PARTNER: u64 = number_of("partner") as u64;
const PARTNER_UID: u64 = number_of("partner_uid") as u64;
const MAID: u64 = number_of("maid") as u64;
const DEVICE_ID: u64 = number_of("device_id") as u64;
const ATTRIBUTES: u64 = number_of("attributes") as u64;
const USER_KEY: u64 = number_of("user_key") as u64;
const OLDER_USER_KEYS: u64 = number_of("older_user_keys") as u64;

/// The fields of an encoding, up to the first that cannot be read.
struct Fields<'a>(&'a [u8]);

struct EncodedField<'a> {
    number: u64,
    /// The field with its key.
    whole: &'a [u8],
    /// What is in it, where it has a length.
    value: Option<&'a [u8]>,
    /// The number that it is, where it has none; 0 where it has.
    count: u64,
}

impl<'a> Iterator for Fields<'a> {
    type Item = EncodedField<'a>;

    fn next(&mut self) -> Option<EncodedField<'a>> {
        let before = self.0;
        let key = take_varint(&mut self.0).ok()?;
        let (value, count) = match key & 7 {
            0 => (None, take_varint(&mut self.0).ok()?),
            2 => {
                let length = usize::try_from(take_varint(&mut self.0).ok()?).ok()?;
                (Some(self.0.split_off(..length)?), 0)
            }
            _ => return None,
        };
        Some(EncodedField {
            number: key >> 3,
            whole: before.get(..before.len() - self.0.len())?,
            value,
            count,
        })
    }
}

/// Returns the encoding without the client's address, up to the first field that cannot be read: a
/// record that is set aside must not carry the address into Postgres.
#[must_use]
pub fn without_client_ip(bytes: &[u8]) -> Vec<u8> {
    without(bytes, &[CLIENT_IP])
}

fn without(bytes: &[u8], numbers: &[u64]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    for field in Fields(bytes).filter(|field| !numbers.contains(&field.number)) {
        kept.extend_from_slice(field.whole);
    }
    kept
}

/// Returns the encoding without what only whoever loads it needs, the attributes that a callback
/// brings and the hashes of a user by older keys, up to the first field that cannot be read; `None`
/// where it has neither.
#[must_use]
pub(crate) fn without_unkept(bytes: &[u8]) -> Option<Vec<u8>> {
    const UNKEPT: [u64; 2] = [ATTRIBUTES, OLDER_USER_KEYS];
    Fields(bytes).find(|field| UNKEPT.contains(&field.number))?;
    Some(without(bytes, &UNKEPT))
}

/// Returns the subjects of a hit: each ID that the encoding names, up to the first field that
/// cannot be read. A subject must find its records even where they no longer decode. Where the
/// encoding names two visitors ([`super::Hit::linked_visitor`]), the other one stands in the place
/// of a partner's ID.
#[must_use]
pub fn subjects(bytes: &[u8]) -> [Option<Subject<'_>>; Subject::NAMED_MAX] {
    let [mut visitor, mut user]: [Option<[u8; 16]>; 2] = [None; 2];
    let mut older: &[[u8; 16]] = &[];
    let [mut maid, mut uid, mut partner, mut device] = [None; 4];
    let mut is_sync = false;
    for field in Fields(bytes) {
        match field.number {
            KIND => is_sync = field.count == u64::from(Kind::Sync.number()),
            VISITOR => visitor = field.value.and_then(|value| value.try_into().ok()),
            PARTNER => partner = text(&field),
            PARTNER_UID => uid = text(&field),
            MAID => maid = text(&field),
            DEVICE_ID => device = text(&field),
            USER_KEY => user = field.value.and_then(|value| value.try_into().ok()),
            OLDER_USER_KEYS => (older, _) = field.value.unwrap_or_default().as_chunks(),
            _ => {}
        }
    }
    let partner = partner.unwrap_or_default();
    let linked = uid
        .filter(|_| is_sync && partner.is_empty())
        .and_then(VisitorId::from_uuid)
        .map(Subject::Visitor);
    let as_user = |hash| Subject::User(UserKey(hash));
    let mut older = older.iter().copied().map(as_user);
    [
        visitor.map(|id| Subject::Visitor(VisitorId(id))),
        maid.map(Subject::Maid),
        linked.or_else(|| uid.map(|uid| Subject::PartnerUid { partner, uid })),
        device.map(Subject::DeviceId),
        user.map(as_user),
        older.next(),
        older.next(),
        older.next(),
    ]
}

fn text<'a>(field: &EncodedField<'a>) -> Option<&'a str> {
    let text = str::from_utf8(field.value?).ok()?;
    (!text.is_empty()).then_some(text)
}
