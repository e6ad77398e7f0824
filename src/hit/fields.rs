//! An encoding taken field by field, as far as it can be read: for records that are no sound hit.

use super::{VisitorId, take_varint};
use crate::hit::subject::Subject;

/// The fields of an encoding with their numbers, up to the first that cannot be read.
struct Fields<'a>(&'a [u8]);

struct Field<'a> {
    number: u64,
    /// The field as it stands.
    whole: &'a [u8],
    /// What is in it, where it has a length.
    value: Option<&'a [u8]>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let before = self.0;
        let key = take_varint(&mut self.0).ok()?;
        let value = match key & 7 {
            0 => {
                take_varint(&mut self.0).ok()?;
                None
            }
            2 => {
                let length = usize::try_from(take_varint(&mut self.0).ok()?).ok()?;
                Some(self.0.split_off(..length)?)
            }
            _ => return None,
        };
        Some(Field {
            number: key >> 3,
            whole: before.get(..before.len() - self.0.len())?,
            value,
        })
    }
}

/// The encoding without the client's address, as far as it can be read: a record that is set aside
/// must not carry the address into Postgres.
#[must_use]
pub fn without_client_ip(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    for field in Fields(bytes).filter(|field| field.number != 8) {
        kept.extend_from_slice(field.whole);
    }
    kept
}

/// Whose hit it is: each ID that the encoding names, as far as it can be read. What no longer decodes
/// must still be found by the one whom it names.
#[must_use]
pub fn subjects(bytes: &[u8]) -> [Option<Subject<'_>>; 3] {
    let mut visitor: Option<[u8; 16]> = None;
    let [mut maid, mut uid, mut partner] = [None; 3];
    for field in Fields(bytes) {
        match field.number {
            7 => visitor = field.value.and_then(|value| value.try_into().ok()),
            21 => partner = text(&field),
            26 => uid = text(&field),
            27 => maid = text(&field),
            _ => {}
        }
    }
    let partner = partner.unwrap_or_default();
    [
        visitor.map(|id| Subject::Visitor(VisitorId(id))),
        maid.map(Subject::Maid),
        uid.map(|uid| Subject::PartnerUid { partner, uid }),
    ]
}

fn text<'a>(field: &Field<'a>) -> Option<&'a str> {
    let text = str::from_utf8(field.value?).ok()?;
    (!text.is_empty()).then_some(text)
}
