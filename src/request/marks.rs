//! Looks at many bytes together: which of some marks they have.

/// How many bytes are looked at together.
pub(crate) const LANES: usize = 16;

/// Returns the marks of all the bytes. It has no branch for each, so that the compiler looks at
/// many at once; the last bytes are looked at again with those before them.
pub(crate) fn marks(bytes: &[u8], mark: impl Fn(u8) -> u8) -> u8 {
    let Some(last) = bytes.last_chunk::<LANES>() else {
        return bytes.iter().fold(0, |all, byte| all | mark(*byte));
    };
    let mut all = [0; LANES];
    for lanes in bytes.as_chunks::<LANES>().0.iter().chain([last]) {
        for (all, byte) in all.iter_mut().zip(lanes) {
            *all |= mark(*byte);
        }
    }
    all.iter().fold(0, |all, marks| all | marks)
}
