//! The encoding of a hit in the spool.
//!
//! It is Protocol Buffers' wire format (`proto/hit.proto` is its schema), so that a hit can be read
//! in any language and fields can be added. It is written and read here by hand because both ends
//! are hot: the edge encodes straight from the request's bytes, and the loader decodes into slices
//! of the batch that it read, neither with an allocation for each field.
//!
//! A field that is empty is absent. A reader passes over fields that it does not know. A field with
//! the wrong wire type, a text that is not UTF-8 or an unknown kind is a [`DecodeError`]: the
//! loader sets such a record aside as a rejected hit.

use std::borrow::Cow;
use std::net::IpAddr;

use serde_json::Value as Json;

use super::fields::number_of;
use super::{ConsentSource, Flags, Hit, Kind, Permit, UserKey, VisitorId};
use crate::clock::UnixMicros;
use crate::endpoint::Protocol;

const KIND: u32 = number_of("kind");
const RECEIVED_AT: u32 = number_of("received_at");

/// Why bytes are not a hit.
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

impl<'a> Hit<'a> {
    /// Appends the encoding to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.put_fields(out);
    }

    /// Reads when a hit was received, which is the first field of an encoding; `None` where
    /// anything else is.
    #[must_use]
    pub(crate) fn peek_received_at(mut bytes: &[u8]) -> Option<UnixMicros> {
        let key = take_varint(&mut bytes).ok()?;
        let is_it = key == u64::from(RECEIVED_AT) << 3;
        let number = is_it.then(|| take_varint(&mut bytes).ok())??;
        Some(UnixMicros(number.cast_signed()))
    }

    /// Reads an encoding; texts borrow from `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] where `bytes` are not a hit.
    pub fn decode(mut bytes: &'a [u8]) -> Result<Hit<'a>, DecodeError> {
        let mut hit = Hit::EMPTY;
        let mut has_kind = false;
        while !bytes.is_empty() {
            let key = take_varint(&mut bytes)?;
            let field = u32::try_from(key >> 3).map_err(|_| DecodeError::Field(u32::MAX))?;
            match key & 7 {
                0 => {
                    let number = take_varint(&mut bytes)?;
                    hit.set_number(field, number)?;
                    has_kind |= field == KIND;
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
        if has_kind {
            Ok(hit)
        } else {
            Err(DecodeError::Kind(0))
        }
    }
}

/// The value of a field: how it is encoded, read and exported. A type has one of the two readers;
/// the other refuses the wire type.
pub(super) trait Value<'a>: Sized {
    /// The value of a field that is absent.
    const EMPTY: Self;

    /// Appends the field, unless it is empty.
    fn put(&self, field: u32, out: &mut Vec<u8>);

    /// Reads the value from a number.
    #[inline]
    fn set_number(&mut self, field: u32, _: u64) -> Result<(), DecodeError> {
        Err(DecodeError::Field(field))
    }

    /// Reads the value from bytes.
    #[inline]
    fn set_bytes(&mut self, field: u32, _: &'a [u8]) -> Result<(), DecodeError> {
        Err(DecodeError::Field(field))
    }

    /// Returns the value in words.
    fn json(&self) -> Json;

    /// Returns a value that is not empty; `text` gives that of a text.
    #[cfg(test)]
    fn sample(text: impl FnOnce() -> String) -> Self;
}

impl<'a> Value<'a> for Cow<'a, str> {
    const EMPTY: Self = Cow::Borrowed("");

    #[inline]
    fn put(&self, field: u32, out: &mut Vec<u8>) {
        put_bytes(out, field, self.as_bytes());
    }

    #[inline]
    fn set_bytes(&mut self, field: u32, bytes: &'a [u8]) -> Result<(), DecodeError> {
        let text = str::from_utf8(bytes).map_err(|_| DecodeError::Utf8(field))?;
        *self = Cow::Borrowed(text);
        Ok(())
    }

    fn json(&self) -> Json {
        (**self).into()
    }

    #[cfg(test)]
    fn sample(text: impl FnOnce() -> String) -> Self {
        Cow::Owned(text())
    }
}

impl Value<'_> for UnixMicros {
    const EMPTY: Self = UnixMicros(0);

    #[inline]
    fn put(&self, field: u32, out: &mut Vec<u8>) {
        put_number(out, field, self.0.cast_unsigned());
    }

    #[inline]
    fn set_number(&mut self, _: u32, number: u64) -> Result<(), DecodeError> {
        *self = UnixMicros(number.cast_signed());
        Ok(())
    }

    fn json(&self) -> Json {
        self.0.into()
    }

    #[cfg(test)]
    fn sample(_: impl FnOnce() -> String) -> Self {
        UnixMicros(1_795_523_696_123_456)
    }
}

impl Value<'_> for Kind {
    // Never seen: a hit without a kind is not decoded.
    const EMPTY: Self = Kind::PageView;

    #[inline]
    fn put(&self, field: u32, out: &mut Vec<u8>) {
        put_number(out, field, u64::from(self.number()));
    }

    #[inline]
    fn set_number(&mut self, _: u32, number: u64) -> Result<(), DecodeError> {
        *self = Kind::from_number(number).ok_or(DecodeError::Kind(number))?;
        Ok(())
    }

    fn json(&self) -> Json {
        self.name().into()
    }

    #[cfg(test)]
    fn sample(_: impl FnOnce() -> String) -> Self {
        Kind::Callback
    }
}

impl Value<'_> for Permit {
    const EMPTY: Self = Permit::NONE;

    #[inline]
    fn put(&self, field: u32, out: &mut Vec<u8>) {
        put_number(out, field, u64::from(self.bits()));
    }

    #[inline]
    fn set_number(&mut self, _: u32, number: u64) -> Result<(), DecodeError> {
        *self = Permit::from_bits(number);
        Ok(())
    }

    fn json(&self) -> Json {
        self.names().collect()
    }

    #[cfg(test)]
    fn sample(_: impl FnOnce() -> String) -> Self {
        Permit::ALL
    }
}

impl Value<'_> for ConsentSource {
    const EMPTY: Self = ConsentSource::Default;

    #[inline]
    fn put(&self, field: u32, out: &mut Vec<u8>) {
        put_number(out, field, u64::from(self.number()));
    }

    #[inline]
    fn set_number(&mut self, field: u32, number: u64) -> Result<(), DecodeError> {
        *self = ConsentSource::from_number(number).ok_or(DecodeError::Field(field))?;
        Ok(())
    }

    fn json(&self) -> Json {
        self.name().into()
    }

    #[cfg(test)]
    fn sample(_: impl FnOnce() -> String) -> Self {
        ConsentSource::Gpp
    }
}

impl Value<'_> for Flags {
    const EMPTY: Self = Flags::from_bits(0);

    #[inline]
    fn put(&self, field: u32, out: &mut Vec<u8>) {
        put_number(out, field, u64::from(self.bits()));
    }

    #[inline]
    fn set_number(&mut self, field: u32, number: u64) -> Result<(), DecodeError> {
        let bits = u32::try_from(number).map_err(|_| DecodeError::Field(field))?;
        *self = Flags::from_bits(bits);
        Ok(())
    }

    fn json(&self) -> Json {
        let set = Flags::ALL.iter().filter(|(_, flag)| self.has(*flag));
        set.map(|(name, _)| *name).collect()
    }

    #[cfg(test)]
    fn sample(_: impl FnOnce() -> String) -> Self {
        let all = Flags::ALL.iter().map(|(_, flag)| *flag);
        all.fold(Flags::default(), Flags::with)
    }
}

impl Value<'_> for Option<VisitorId> {
    const EMPTY: Self = None;

    #[inline]
    fn put(&self, field: u32, out: &mut Vec<u8>) {
        if let Some(VisitorId(id)) = self {
            put_bytes(out, field, id);
        }
    }

    #[inline]
    fn set_bytes(&mut self, field: u32, bytes: &[u8]) -> Result<(), DecodeError> {
        let id = bytes.try_into().map_err(|_| DecodeError::Field(field))?;
        *self = Some(VisitorId(id));
        Ok(())
    }

    fn json(&self) -> Json {
        self.map(|visitor| visitor.to_string()).into()
    }

    #[cfg(test)]
    fn sample(_: impl FnOnce() -> String) -> Self {
        Some(VisitorId(*b"0123456789abcdef"))
    }
}

impl Value<'_> for Option<UserKey> {
    const EMPTY: Self = None;

    #[inline]
    fn put(&self, field: u32, out: &mut Vec<u8>) {
        if let Some(UserKey(hash)) = self {
            put_bytes(out, field, hash);
        }
    }

    #[inline]
    fn set_bytes(&mut self, field: u32, bytes: &[u8]) -> Result<(), DecodeError> {
        let hash = bytes.try_into().map_err(|_| DecodeError::Field(field))?;
        *self = Some(UserKey(hash));
        Ok(())
    }

    fn json(&self) -> Json {
        self.map(|user| user.to_string()).into()
    }

    #[cfg(test)]
    fn sample(_: impl FnOnce() -> String) -> Self {
        Some(UserKey(*b"fedcba9876543210"))
    }
}

impl Value<'_> for Vec<UserKey> {
    const EMPTY: Self = Vec::new();

    #[inline]
    fn put(&self, field: u32, out: &mut Vec<u8>) {
        if !self.is_empty() {
            let hashes: Vec<u8> = self.iter().flat_map(|UserKey(hash)| *hash).collect();
            put_bytes(out, field, &hashes);
        }
    }

    fn set_bytes(&mut self, field: u32, bytes: &[u8]) -> Result<(), DecodeError> {
        let (hashes, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return Err(DecodeError::Field(field));
        }
        *self = hashes.iter().copied().map(UserKey).collect();
        Ok(())
    }

    fn json(&self) -> Json {
        self.iter().map(UserKey::to_string).collect()
    }

    #[cfg(test)]
    fn sample(_: impl FnOnce() -> String) -> Self {
        vec![UserKey(*b"fedcba9876543210"), UserKey(*b"0123456789abcdef")]
    }
}

impl Value<'_> for Option<UnixMicros> {
    const EMPTY: Self = None;

    #[inline]
    fn put(&self, field: u32, out: &mut Vec<u8>) {
        if let Some(time) = self {
            time.put(field, out);
        }
    }

    /// Zero means that the field is absent.
    #[inline]
    fn set_number(&mut self, _: u32, number: u64) -> Result<(), DecodeError> {
        *self = (number != 0).then_some(UnixMicros(number.cast_signed()));
        Ok(())
    }

    fn json(&self) -> Json {
        self.map(|time| time.0).into()
    }

    #[cfg(test)]
    fn sample(_: impl FnOnce() -> String) -> Self {
        Some(UnixMicros(1_795_500_000_000_000))
    }
}

impl Value<'_> for Protocol {
    const EMPTY: Self = Protocol::Native;

    #[inline]
    fn put(&self, field: u32, out: &mut Vec<u8>) {
        put_number(out, field, u64::from(*self as u8));
    }

    #[inline]
    fn set_number(&mut self, field: u32, number: u64) -> Result<(), DecodeError> {
        let known = Protocol::ALL.into_iter();
        let mut known = known.filter(|protocol| u64::from(*protocol as u8) == number);
        *self = known.next().ok_or(DecodeError::Field(field))?;
        Ok(())
    }

    fn json(&self) -> Json {
        self.name().into()
    }

    #[cfg(test)]
    fn sample(_: impl FnOnce() -> String) -> Self {
        Protocol::Plausible
    }
}

impl Value<'_> for Option<IpAddr> {
    const EMPTY: Self = None;

    #[inline]
    fn put(&self, field: u32, out: &mut Vec<u8>) {
        match self {
            Some(IpAddr::V4(ip)) => put_bytes(out, field, &ip.octets()),
            Some(IpAddr::V6(ip)) => put_bytes(out, field, &ip.octets()),
            None => {}
        }
    }

    #[inline]
    fn set_bytes(&mut self, field: u32, bytes: &[u8]) -> Result<(), DecodeError> {
        let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
        let ip = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
        *self = Some(ip.map_err(|_| DecodeError::Field(field))?);
        Ok(())
    }

    fn json(&self) -> Json {
        self.map(|ip| ip.to_string()).into()
    }

    #[cfg(test)]
    fn sample(_: impl FnOnce() -> String) -> Self {
        Some([192, 0, 2, 77].into())
    }
}

/// 1 for no, 2 for yes. Zero means that the field is absent.
impl Value<'_> for Option<bool> {
    const EMPTY: Self = None;

    #[inline]
    fn put(&self, field: u32, out: &mut Vec<u8>) {
        if let Some(is_so) = self {
            put_number(out, field, 1 + u64::from(*is_so));
        }
    }

    #[inline]
    fn set_number(&mut self, _: u32, number: u64) -> Result<(), DecodeError> {
        *self = (number != 0).then_some(number == 2);
        Ok(())
    }

    fn json(&self) -> Json {
        (*self).into()
    }

    #[cfg(test)]
    fn sample(_: impl FnOnce() -> String) -> Self {
        Some(true)
    }
}

/// Appends a number of variable length (LEB128).
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

/// Appends a field that is a number, unless it is 0.
#[inline]
pub(crate) fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    if number != 0 {
        put_varint(out, u64::from(field) << 3);
        put_varint(out, number);
    }
}

/// Appends a field that has a length, unless it is empty.
#[inline]
pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_filled(out, u64::from(field) << 3 | 2, bytes);
    }
}

/// Appends bytes with what is before them.
fn put_filled(out: &mut Vec<u8>, key: u64, bytes: &[u8]) {
    put_varint(out, key);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads a number of variable length (LEB128) from the front of `bytes`.
#[inline]
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Result<u64, DecodeError> {
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
