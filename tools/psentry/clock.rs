//! Moments for people: in the zone of whoever reads, and with its name.

use std::time::Duration;

use jiff::tz::TimeZone;
use psentry_records::Timestamp;

/// From how far away on a moment has its date.
const FAR: Duration = Duration::from_secs(18 * 3600);

/// What time it is, and in which zone.
pub(crate) struct Clock {
    pub(crate) now: Timestamp,
    zone: TimeZone,
}

impl Clock {
    /// Now, in local time or in UTC.
    pub(crate) fn new(utc: bool) -> Self {
        Self::at(Timestamp::now(), if utc { TimeZone::UTC } else { TimeZone::system() })
    }

    /// For tests: at a moment.
    pub(crate) fn at(now: Timestamp, zone: TimeZone) -> Self {
        Clock { now, zone }
    }

    /// A moment as `14:05 CET`, or with its date where it is not of these hours.
    pub(crate) fn moment(&self, moment: Timestamp) -> String {
        let away = moment.since(self.now).max(self.now.since(moment));
        let form = if away < FAR { "%H:%M %Z" } else { "%Y-%m-%d %H:%M %Z" };
        jiff::Timestamp::from_microsecond(moment.micros()).map_or_else(
            |_| moment.to_string(),
            |moment| moment.to_zoned(self.zone.clone()).strftime(form).to_string(),
        )
    }

    /// How long ago a moment was, in its largest unit.
    pub(crate) fn ago(&self, moment: Timestamp) -> String {
        format!("{} ago", span(self.now.since(moment)))
    }

    /// How long it is until a moment; a second that has begun counts.
    pub(crate) fn left(&self, moment: Timestamp) -> String {
        span(moment.since(self.now) + Duration::from_micros(999_999))
    }
}

/// A span in its largest unit, rounded down.
fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_its_zone_and_a_far_one_its_date() {
        let now: Timestamp = "2026-11-22T15:04:05Z".parse().unwrap();
        let clock = Clock::at(now, TimeZone::fixed(jiff::tz::offset(1)));
        assert_eq!(clock.moment("2026-11-22T15:05:00Z".parse().unwrap()), "16:05 +01");
        assert_eq!(clock.moment("2026-11-24T15:05:00Z".parse().unwrap()), "2026-11-24 16:05 +01");
        assert_eq!(clock.moment("2026-11-20T15:05:00Z".parse().unwrap()), "2026-11-20 16:05 +01");
        assert_eq!(clock.ago("2026-11-22T15:00:05Z".parse().unwrap()), "4 min ago");
        assert_eq!(clock.left("2026-11-22T15:04:26Z".parse().unwrap()), "21 s");
        assert_eq!(clock.left("2026-11-25T15:04:26Z".parse().unwrap()), "3 days");
    }
}
