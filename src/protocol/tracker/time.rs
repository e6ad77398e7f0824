//! When an event happened, by what its sender says.

use crate::clock::UnixMicros;

/// How long ago an event may have happened, in microseconds: 30 days.
const PAST_MAX: i64 = 30 * 24 * 60 * 60 * 1_000_000;

/// Returns when an event happened by our clock, and whether that had to be clamped. Where the
/// sender says when it sent the event, its clock is corrected by that: what counts is how long the
/// event waited. Nothing happened in the future, or more than 30 days ago.
pub(in crate::protocol) fn occurred_at(
    received_at: UnixMicros,
    made_at: UnixMicros,
    sent_at: Option<UnixMicros>,
) -> (UnixMicros, bool) {
    let said = match sent_at {
        // A clock that was set in between says nothing.
        Some(sent_at) if sent_at >= made_at => received_at
            .0
            .saturating_sub(sent_at.0.saturating_sub(made_at.0)),
        _ => made_at.0,
    };
    let clamped = said.clamp(received_at.0.saturating_sub(PAST_MAX), received_at.0);
    (UnixMicros(clamped), clamped != said)
}

#[cfg(test)]
mod tests {
    use super::*;

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
                occurred_at(now, made, sent),
                (occurred, clamped),
                "{made:?}"
            );
        }
    }
}
