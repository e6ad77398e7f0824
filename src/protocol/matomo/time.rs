//! When an event happened, as trackers write it (`cdt`, `cdo`).

use super::fields::RequestFields;
use crate::clock::UnixMicros;
use crate::protocol::tracker::read_time;

const MICROS: i64 = 1_000_000;

/// Returns when an event happened by its sender's clock, if it says so: at a time (`cdt`), so many
/// seconds before that or before now (`cdo`).
pub(super) fn made_at(fields: &RequestFields, now: UnixMicros) -> Option<UnixMicros> {
    let at = fields.text("cdt").and_then(read_time);
    let ago = fields.text("cdo").and_then(|text| text.parse::<i64>().ok());
    let ago = ago.filter(|ago| *ago != 0);
    let start = at.or_else(|| ago.map(|_| now))?;
    let ago = ago.map_or(0, |ago| ago.saturating_abs().saturating_mul(MICROS));
    Some(UnixMicros(start.0.saturating_sub(ago)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_counts_from_the_time_or_from_now() {
        let now = UnixMicros(1_000_000 * MICROS);
        for (query, seconds) in [
            ("cdo=60", Some(999_940)),
            ("cdo=-60", Some(999_940)),
            ("cdt=1000&cdo=60", Some(940)),
            ("cdt=1000", Some(1000)),
            ("cdt=2026-11-25+10:00:00", Some(1_795_600_800)),
            ("cdt=2026-11-25+10:00:00Z", Some(1_795_600_800)),
            ("cdt=2026-11-25+11:00:00%2B0100", Some(1_795_600_800)),
            ("cdt=2026-11-25T10:00:00Z", Some(1_795_600_800)),
            ("cdt=1795600800000", Some(1_795_600_800)),
            ("cdo=0", None),
            ("cdt=x", None),
            ("", None),
        ] {
            let made_at = made_at(&RequestFields::of_query(query), now);
            let expected = seconds.map(|seconds| UnixMicros(seconds * MICROS));
            assert_eq!(made_at, expected, "{query}");
        }
    }
}
