//! The frame of a record: length, checksum, payload.

use crate::{RECORD_BYTES_MAX, SpoolId};

/// The length of a frame before its payload, in bytes.
pub(crate) const FRAME_BYTES: usize = 8;
/// The length of one copy of a chunk's header, in bytes.
pub(crate) const HEADER_COPY_BYTES: usize = 64;
/// Where a chunk's first record begins, in bytes: after two copies of its header.
pub(crate) const HEADER_BYTES: u64 = 2 * HEADER_COPY_BYTES as u64;

/// Returns the value that the checksums of a spool start from.
pub(crate) fn seed(id: SpoolId) -> u32 {
    crc32c::crc32c(&id.0)
}

/// Appends a record whose payload `encode` writes. Returns false and appends nothing if the payload
/// is empty or too large.
pub(crate) fn append(out: &mut Vec<u8>, seed: u32, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
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

/// Returns the length that a frame claims, if a record can have it.
pub(crate) fn claimed_length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?);
    usize::try_from(length)
        .ok()
        .filter(|length| (1..=RECORD_BYTES_MAX).contains(length))
}

/// Returns the payload of the record at the start of `bytes`, if it is complete and sound.
pub(crate) fn payload(bytes: &[u8], seed: u32) -> Option<&[u8]> {
    let length = claimed_length(bytes)?;
    let (length_bytes, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let payload = rest.get(..length)?;
    (checksum(seed, *length_bytes, payload) == u32::from_le_bytes(*crc)).then_some(payload)
}
