//! Moments as people read them, alike in every program: local time with its zone, as `TZ` or the system has it, or with `--utc` in
//! UTC. It is for what commands print; records, logs and notes in the kernel have RFC 3339 in UTC.

use std::time::Duration;

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};
use psentry_records::Timestamp;

/// Within so long the time of day says which day is meant.
const NEAR: Duration = Duration::from_secs(18 * 3600);

/// The time zone of whoever reads.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

impl Zone {
    /// That of the system, or UTC.
    #[must_use]
    pub fn new(utc: bool) -> Self {
        Zone(if utc { TimeZone::UTC } else { TimeZone::system() })
    }

    /// So many hours east of Greenwich, for tests.
    #[must_use]
    pub fn east(hours: i8) -> Self {
        Zone(TimeZone::fixed(jiff::tz::offset(hours)))
    }

    /// The time of day, as `15:04:05 CET`.
    #[must_use]
    pub fn time(&self, moment: Timestamp) -> String {
        self.format(moment, "%H:%M:%S %Z")
    }

    /// The date, as `2026-11-22`.
    #[must_use]
    pub fn day(&self, moment: Timestamp) -> String {
        self.format(moment, "%Y-%m-%d")
    }

    /// Both, as `2026-11-22 15:04:05 CET`.
    #[must_use]
    pub fn full(&self, moment: Timestamp) -> String {
        self.format(moment, "%Y-%m-%d %H:%M:%S %Z")
    }

    /// The time of day where that is not far from `now`, else both.
    #[must_use]
    pub fn near(&self, moment: Timestamp, now: Timestamp) -> String {
        let away = moment.since(now).max(now.since(moment));
        if away < NEAR { self.time(moment) } else { self.full(moment) }
    }

    /// Reads a moment: `2026-11-22T15:04:05Z`, or in this zone `2026-11-22 15:04`, `2026-11-22`, `today` and `yesterday` for their
    /// first moment, and `15:04` for the latest one; `None`: it is none of these.
    #[must_use]
    pub fn parse(&self, text: &str, now: Timestamp) -> Option<Timestamp> {
        let now = self.zoned(now)?;
        let local = |moment: DateTime| moment.to_zoned(self.0.clone()).ok();
        let day = |days: i32| local(now.date().checked_sub(days.days()).ok()?.into());
        let latest = |time: Time| {
            let today = local(now.date().to_datetime(time))?;
            if today <= now { Some(today) } else { today.checked_sub(1.day()).ok() }
        };
        let moment: Option<Zoned> = match text {
            "today" => day(0),
            "yesterday" => day(1),
            _ => {
                let with_zone = text.parse::<jiff::Timestamp>().map(|moment| moment.to_zoned(self.0.clone()));
                // A date is one, too: its first moment.
                let in_this_zone = || text.parse().ok().and_then(local);
                with_zone.ok().or_else(in_this_zone).or_else(|| latest(text.parse().ok()?))
            }
        };
        Timestamp::from_micros(moment?.timestamp().as_microsecond())
    }

    fn zoned(&self, moment: Timestamp) -> Option<Zoned> {
        let moment = jiff::Timestamp::from_microsecond(moment.micros()).ok()?;
        Some(moment.to_zoned(self.0.clone()))
    }

    fn format(&self, moment: Timestamp, form: &str) -> String {
        self.zoned(moment).map_or_else(|| moment.to_string(), |moment| moment.strftime(form).to_string())
    }
}

/// The current time, and the time zone of the user.
#[derive(Clone, Debug)]
pub struct Clock {
    /// What time it is.
    pub now: Timestamp,
    /// The zone of what is said.
    pub zone: Zone,
}

impl Clock {
    /// Of now, in local time or in UTC.
    #[must_use]
    pub fn new(utc: bool) -> Self {
        Clock { now: Timestamp::now(), zone: Zone::new(utc) }
    }

    /// A moment as `15:04:05 CET`, or with its date where it is not of these hours.
    #[must_use]
    pub fn moment(&self, moment: Timestamp) -> String {
        self.zone.near(moment, self.now)
    }

    /// How long ago a moment was: `4 min ago`.
    #[must_use]
    pub fn ago(&self, moment: Timestamp) -> String {
        format!("{} ago", span(self.now.since(moment).as_secs()))
    }

    /// How long it is until a moment: `21 s left`. A second that has begun counts.
    #[must_use]
    pub fn left(&self, moment: Timestamp) -> String {
        format!("{} left", span(moment.since(self.now).as_micros().div_ceil(1_000_000) as u64))
    }
}

/// A span in its largest unit, rounded down, such as `4 min`.
#[must_use]
pub fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_its_zone_and_a_far_one_its_date() {
        let clock = Clock { now: "2026-11-22T15:04:05Z".parse().unwrap(), zone: Zone::east(1) };
        let moment = |text: &str| clock.moment(text.parse().unwrap());
        assert_eq!(moment("2026-11-22T15:05:00Z"), "16:05:00 +01");
        assert_eq!(moment("2026-11-24T15:05:00Z"), "2026-11-24 16:05:00 +01");
        assert_eq!(moment("2026-11-20T15:05:00Z"), "2026-11-20 16:05:00 +01");
        assert_eq!(clock.ago("2026-11-22T15:00:05Z".parse().unwrap()), "4 min ago");
        assert_eq!(clock.left("2026-11-22T15:04:25.1Z".parse().unwrap()), "21 s left");
        assert_eq!(clock.left("2026-11-25T15:04:26Z".parse().unwrap()), "3 days left");
        // Another day, and the last moment that there is.
        assert_eq!(clock.zone.day("2026-11-22T23:30:00Z".parse().unwrap()), "2026-11-23");
        assert_eq!(Zone::new(true).full(Timestamp::MAX), "9998-12-31 23:59:59 UTC");
    }

    #[test]
    fn a_moment_is_read_as_people_write_it() {
        let (zone, now) = (Zone::east(1), "2026-11-22T15:04:05Z".parse().unwrap());
        for (text, want) in [
            ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00.000000Z"),
            ("2026-11-22T10:00:00+02:00", "2026-11-22T08:00:00.000000Z"),
            ("2026-11-22 10:00", "2026-11-22T09:00:00.000000Z"),
            ("2026-11-22T10:00:30", "2026-11-22T09:00:30.000000Z"),
            ("2026-11-20", "2026-11-19T23:00:00.000000Z"),
            ("today", "2026-11-21T23:00:00.000000Z"),
            ("yesterday", "2026-11-20T23:00:00.000000Z"),
            ("16:04", "2026-11-22T15:04:00.000000Z"),
            // Not there yet today.
            ("16:05", "2026-11-21T15:05:00.000000Z"),
        ] {
            assert_eq!(
                zone.parse(text, now).map(|moment| moment.to_string()).as_deref(),
                Some(want),
                "{text}"
            );
        }
        for text in ["", "12h", "tomorrow", "2026-13-01", "25:00", "last week"] {
            assert_eq!(zone.parse(text, now), None, "{text}");
        }
    }
}
