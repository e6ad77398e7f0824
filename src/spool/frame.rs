//! A record's frame: length, checksum, payload.

use super::{RECORD_BYTES_MAX, SpoolId};

/// Bytes of a frame before its payload.
pub(super) const FRAME_BYTES: usize = 8;

/// What the checksums of a spool start from.
pub(super) fn seed(id: SpoolId) -> u32 {
    crc32c::crc32c(&id.0)
}

/// Appends a record whose payload `encode` writes; false, and nothing appended, where the payload
/// is empty or too large.
pub(super) fn append(out: &mut Vec<u8>, seed: u32, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES]);
    encode(out);
    let length = out.len() - start - FRAME_BYTES;
    let Some(length_bytes) = u32::try_from(length)
        .ok()
        .filter(|_| (1..=RECORD_BYTES_MAX).contains(&length))
        .map(u32::to_le_bytes)
    else {
        out.truncate(start);
        return false;
    };
    let Some((frame, payload)) = out
        .get_mut(start..)
        .and_then(|bytes| bytes.split_first_chunk_mut::<FRAME_BYTES>())
    else {
        return false;
    };
    let crc = checksum(seed, length_bytes, payload).to_le_bytes();
    let (length_slot, crc_slot) = frame.split_at_mut(4);
    length_slot.copy_from_slice(&length_bytes);
    crc_slot.copy_from_slice(&crc);
    true
}

fn checksum(seed: u32, length: [u8; 4], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &length), payload)
}

/// The length that a frame claims, if it is one that a record can have.
pub(super) fn claimed_length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?);
    usize::try_from(length)
        .ok()
        .filter(|length| (1..=RECORD_BYTES_MAX).contains(length))
}

/// The payload of the record that `bytes` begin with, if it is whole and sound.
pub(super) fn payload(bytes: &[u8], seed: u32) -> Option<&[u8]> {
    let length = claimed_length(bytes)?;
    let (length_bytes, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let payload = rest.get(..length)?;
    (checksum(seed, *length_bytes, payload) == u32::from_le_bytes(*crc)).then_some(payload)
}
