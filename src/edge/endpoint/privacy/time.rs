//! Points in time as people in Sweden write them.

use super::text::{Language, fill};
use crate::clock::UnixMicros;

const DAY_SECONDS: i64 = 86_400;
const HOUR_SECONDS: i64 = 3600;

/// A day of the Gregorian calendar.
struct Date {
    year: i64,
    /// 1 to 12.
    month: i64,
    /// 1 to 31.
    day: i64,
}

impl Date {
    /// The day that is `days` after 1970-01-01. The calendar repeats every 400 years of 146,097 days; a year
    /// counts from March, so that a leap day is its last.
    fn of(days: i64) -> Date {
        let days = days + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let (month, later) = if month < 10 {
            (month + 3, 0)
        } else {
            (month - 9, 1)
        };
        Date {
            year: era * 400 + year_of_era + later,
            month,
            day: day_of_year - (153 * ((month + 9) % 12) + 2) / 5 + 1,
        }
    }
}

/// The seconds that Swedish time is ahead of UTC. Summer time holds in the whole EU from 01:00 UTC on the
/// last Sunday of March to 01:00 UTC on the last Sunday of October (directive 2000/84/EC).
fn offset_seconds(utc_seconds: i64) -> i64 {
    let days = (utc_seconds - HOUR_SECONDS).div_euclid(DAY_SECONDS);
    let Date { month, day, .. } = Date::of(days);
    // 1970-01-01 was a Thursday.
    let since_sunday = (days + 4).rem_euclid(7);
    let last_sunday_has_come = day - since_sunday >= 25;
    let is_summer = match month {
        4..=9 => true,
        3 => last_sunday_has_come,
        10 => !last_sunday_has_come,
        _ => false,
    };
    HOUR_SECONDS * if is_summer { 2 } else { 1 }
}

/// `24 november 2026` in Swedish time.
pub(super) fn day(at: UnixMicros, language: Language) -> String {
    let local = at.seconds() + offset_seconds(at.seconds());
    let Date { year, month, day } = Date::of(local.div_euclid(DAY_SECONDS));
    let month = usize::try_from(month - 1).ok();
    let month = month.and_then(|at| language.text().months.get(at));
    format!("{day} {} {year}", month.copied().unwrap_or_default())
}

/// `24 november 2026 14:05` in Swedish time.
pub(super) fn minute(at: UnixMicros, language: Language) -> String {
    let local = at.seconds() + offset_seconds(at.seconds());
    let minutes = local.rem_euclid(DAY_SECONDS) / 60;
    let (hour, minute) = (minutes / 60, minutes % 60);
    format!("{} {hour:02}:{minute:02}", day(at, language))
}

/// `2026-11-24T13:05:00Z`, for machines.
pub(super) fn utc(at: UnixMicros) -> String {
    let Date { year, month, day } = Date::of(at.day());
    let second = at.seconds().rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// How many days ago, in words.
pub(super) fn ago(at: UnixMicros, now: UnixMicros, language: Language) -> String {
    let [today, yesterday, days_ago] = language.text().ago;
    let local_day =
        |at: UnixMicros| (at.seconds() + offset_seconds(at.seconds())).div_euclid(DAY_SECONDS);
    match local_day(now) - local_day(at) {
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
        assert_eq!(day(at, Language::English), "21 September 2026");
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
