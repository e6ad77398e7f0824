//! Points in time as people in Sweden write them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::clock::UnixMicros;
use crate::edge::text::{Language, fill};

/// The rules of Swedish time, compiled in.
static STOCKHOLM: TimeZone = jiff::tz::get!("Europe/Stockholm");

/// A time cut to the second. One beyond the year 9999, which no hit has, becomes 1970.
fn timestamp(at: UnixMicros) -> Timestamp {
    Timestamp::from_second(at.seconds()).unwrap_or_default()
}

fn swedish(at: UnixMicros) -> DateTime {
    STOCKHOLM.to_datetime(timestamp(at))
}

/// Writes `24 november 2026`, in Swedish time.
pub(super) fn day(at: UnixMicros, language: Language) -> String {
    write_day(swedish(at), language)
}

/// Writes `24 november 2026 14:05`, in Swedish time.
pub(super) fn minute(at: UnixMicros, language: Language) -> String {
    let at = swedish(at);
    let day = write_day(at, language);
    format!("{day} {:02}:{:02}", at.hour(), at.minute())
}

fn write_day(at: DateTime, language: Language) -> String {
    let t = language.text();
    let month = usize::try_from(at.month() - 1).ok();
    let month = month.and_then(|month| t.months.get(month));
    let day = fill(t.day, &at.day().to_string());
    let day = fill(&day, month.copied().unwrap_or_default());
    fill(&day, &at.year().to_string())
}

/// Writes `2026-11-24T13:05:00Z`, for machines.
pub(super) fn utc(at: UnixMicros) -> String {
    timestamp(at).to_string()
}

/// Writes how many days ago that was, from midnight to midnight.
pub(super) fn ago(at: UnixMicros, now: UnixMicros, language: Language) -> String {
    let [today, yesterday, days_ago] = language.text().ago;
    let passed = swedish(now).date().duration_since(swedish(at).date());
    match passed.as_hours() / 24 {
        ..=0 => today.to_owned(),
        1 => yesterday.to_owned(),
        days => fill(days_ago, &days.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_swedish_clocks_on_both_sides_of_each_change() {
        // From `TZ=Europe/Stockholm date -d @SECONDS`.
        for (seconds, written, machine) in [
            (0, "1 januari 1970 01:00", "1970-01-01T00:00:00Z"),
            (
                951_782_400,
                "29 februari 2000 01:00",
                "2000-02-29T00:00:00Z",
            ),
            (1_774_745_999, "29 mars 2026 01:59", "2026-03-29T00:59:59Z"),
            (1_774_746_000, "29 mars 2026 03:00", "2026-03-29T01:00:00Z"),
            (
                1_792_889_999,
                "25 oktober 2026 02:59",
                "2026-10-25T00:59:59Z",
            ),
            (
                1_792_890_000,
                "25 oktober 2026 02:00",
                "2026-10-25T01:00:00Z",
            ),
            (
                1_798_757_999,
                "31 december 2026 23:59",
                "2026-12-31T22:59:59Z",
            ),
            (
                1_798_758_000,
                "1 januari 2027 00:00",
                "2026-12-31T23:00:00Z",
            ),
            (1_806_195_599, "28 mars 2027 01:59", "2027-03-28T00:59:59Z"),
            (1_806_195_600, "28 mars 2027 03:00", "2027-03-28T01:00:00Z"),
            (
                1_824_944_400,
                "31 oktober 2027 02:00",
                "2027-10-31T01:00:00Z",
            ),
        ] {
            let at = UnixMicros(seconds * 1_000_000);
            assert_eq!(minute(at, Language::Swedish), written);
            assert_eq!(utc(at), machine);
        }
        let at = UnixMicros(1_790_000_000_000_000);
        for (language, written) in [
            (Language::Swedish, "21 september 2026"),
            (Language::English, "21 September 2026"),
            (Language::Danish, "21. september 2026"),
            (Language::Norwegian, "21. september 2026"),
            (Language::Finnish, "21. syyskuuta 2026"),
        ] {
            assert_eq!(day(at, language), written);
        }
    }

    #[test]
    fn days_are_counted_from_midnight_to_midnight() {
        // 2026-12-31 00:30 in Sweden.
        let now = UnixMicros(1_798_673_400_000_000);
        let of = |hours: i64| {
            ago(
                UnixMicros(now.0 - hours * 3_600_000_000),
                now,
                Language::Swedish,
            )
        };
        assert_eq!(of(-1), "i dag");
        assert_eq!(of(0), "i dag");
        assert_eq!(of(1), "i går");
        assert_eq!(of(25), "för 2 dagar sedan");
        assert_eq!(of(24 * 30), "för 30 dagar sedan");
    }
}
