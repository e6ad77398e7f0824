//! How the size of a segment is told: never so exactly that two looks tell of one person.

/// Returns a size to two significant digits; `None` where it is less than the least that is told.
#[must_use]
pub fn round(size: u64, min_size: u64) -> Option<u64> {
    if size < min_size {
        return None;
    }
    let mut unit = 1;
    while size / unit >= 100 {
        unit *= 10;
    }
    Some((size + unit / 2) / unit * unit)
}

/// Returns a size as people are told it.
#[must_use]
pub fn show(size: u64, min_size: u64) -> String {
    match round(size, min_size) {
        Some(rounded) => format!("about {rounded}"),
        None => format!("< {min_size}"),
    }
}
