//! When an event happened, by what its sender says.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::clock::UnixMicros;

/// The longest text that is read as a time, in bytes.
const TIME_BYTES_MAX: usize = 64;
/// From which number on a number since 1970 is one of milliseconds: until then it is one of seconds
/// until the year 5138.
const MILLISECONDS_FROM: i64 = 100_000_000_000;

/// How long ago a tracker's event may have happened.
pub(in crate::protocol) const PAST_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Returns when an event happened by our clock, and whether that had to be clamped. Where the
/// sender says when it sent the event, its clock is corrected by that: what counts is how long the
/// event waited. Nothing happened in the future, or longer ago than `past`.
pub(in crate::protocol) fn occurred_at(
    received_at: UnixMicros,
    made_at: UnixMicros,
    sent_at: Option<UnixMicros>,
    past: Duration,
) -> (UnixMicros, bool) {
    let past_micros = i64::try_from(past.as_micros()).unwrap_or(i64::MAX);
    let said = match sent_at {
        // A clock that was set in between says nothing.
        Some(sent_at) if sent_at >= made_at => received_at
            .0
            .saturating_sub(sent_at.0.saturating_sub(made_at.0)),
        _ => made_at.0,
    };
    let clamped = said.clamp(received_at.0.saturating_sub(past_micros), received_at.0);
    (UnixMicros(clamped), clamped != said)
}

/// Reads a time that is given as JSON: a text by ISO 8601, in UTC if it names no zone, or a number
/// of seconds or milliseconds since 1970.
pub(in crate::protocol) fn read_time(json: &str) -> Option<UnixMicros> {
    let unescaped: Option<String> = json
        .contains('\\')
        .then(|| serde_json::from_str(json).ok())
        .flatten();
    let text = unescaped.as_deref().unwrap_or(json);
    let text = text.trim_matches('"').trim();
    if text.len() > TIME_BYTES_MAX {
        return None;
    }
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    if let Ok(number) = whole.parse::<i64>() {
        let unit = if number < MILLISECONDS_FROM {
            1_000_000
        } else {
            1_000
        };
        return number.checked_mul(unit).map(UnixMicros);
    }
    let of_no_zone = || {
        TimeZone::UTC
            .to_timestamp(text.parse::<DateTime>().ok()?)
            .ok()
    };
    let time = text.parse::<Timestamp>().ok().or_else(of_no_zone)?;
    Some(UnixMicros(time.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_senders_write_them() {
        for (json, expected) in [
            ("\"2026-11-26T17:48:11.077Z\"", Some(1_795_715_291_077_000)),
            (
                "\"2026-11-26T17:48:11.077+00:00\"",
                Some(1_795_715_291_077_000),
            ),
            ("\"2026-11-26T18:48:11+0100\"", Some(1_795_715_291_000_000)),
            (
                "\"2026-11-26T17:48:11.077054\"",
                Some(1_795_715_291_077_054),
            ),
            ("\"2026-11-26 17:48:11\"", Some(1_795_715_291_000_000)),
            ("\"2026-11-26\"", Some(1_795_651_200_000_000)),
            ("1795715291077", Some(1_795_715_291_077_000)),
            ("1795715291", Some(1_795_715_291_000_000)),
            ("1795715291.5", Some(1_795_715_291_000_000)),
            ("\"1795715291077\"", Some(1_795_715_291_077_000)),
            ("9223372036854775807", None),
            ("\"yesterday\"", None),
            ("\"2026-13-26T17:48:11Z\"", None),
            ("\"\"", None),
            ("null", None),
            ("{}", None),
        ] {
            assert_eq!(read_time(json), expected.map(UnixMicros), "{json}");
        }
    }

    #[test]
    fn the_senders_clock_is_corrected_by_itself() {
        const DAY: i64 = 86_400_000_000;
        let now = UnixMicros(1_000 * DAY);
        let days = |days: i64| UnixMicros(days * DAY);
        for (made, sent, occurred, clamped) in [
            (days(997), None, days(997), false),
            // Its clock is two years slow, and the event waited for three days.
            (days(270), Some(days(273)), days(997), false),
            (days(5_000), Some(days(5_001)), days(999), false),
            (days(5_000), None, now, true),
            (days(1), None, days(970), true),
            (days(1), Some(days(900)), days(970), true),
            (days(998), Some(days(997)), days(998), false),
            (
                UnixMicros(i64::MIN),
                Some(UnixMicros(i64::MAX)),
                days(970),
                true,
            ),
        ] {
            assert_eq!(
                occurred_at(now, made, sent, PAST_MAX),
                (occurred, clamped),
                "{made:?}"
            );
        }
    }
}
