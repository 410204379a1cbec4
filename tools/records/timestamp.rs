//! Moments, to the microsecond, as RFC 3339 writes them. All of psentry's time comes from records; only sensors
//! and the blocker look at the clock ([`Timestamp::now`]).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment between 1970 and the end of 9998, in microseconds, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Why a text is not a [`Timestamp`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// Not RFC 3339 at all.
    #[error("'{0}' is not an RFC 3339 time such as 2026-11-22T15:04:05.000000Z")]
    Form(String),
    /// A date that no log of ours can have.
    #[error("'{0}' lies outside the years 1970 to 9998")]
    Range(String),
}

impl Timestamp {
    /// The last microsecond of the year 9998.
    pub const MAX: Timestamp = Timestamp(253_370_764_799_999_999);

    /// What the system's clock says.
    #[must_use]
    pub fn now() -> Self {
        Timestamp(jiff::Timestamp::now().as_microsecond().clamp(0, Self::MAX.0))
    }

    /// From microseconds since 1970; `None` outside 1970 to 9998.
    #[must_use]
    pub fn from_micros(micros: i64) -> Option<Self> {
        (0..=Self::MAX.0).contains(&micros).then_some(Timestamp(micros))
    }

    /// From whole seconds since 1970; `None` outside 1970 to 9998.
    #[must_use]
    pub fn from_secs(secs: u64) -> Option<Self> {
        i64::try_from(secs).ok().and_then(|secs| secs.checked_mul(1_000_000)).and_then(Self::from_micros)
    }

    /// Microseconds since 1970.
    #[must_use]
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Seconds since 1970, rounded up, so that what ends at this moment never ends early.
    #[must_use]
    pub fn secs_ceil(self) -> u64 {
        u64::try_from(self.0).unwrap_or(0).div_ceil(1_000_000)
    }

    /// This moment and `span` after it; stops at [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_add(micros).min(Self::MAX.0))
    }

    /// The moment `span` before this one; stops at 1970.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_sub(micros).max(0))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Always in range: the type admits only 1970 to 9998.
        let moment = jiff::Timestamp::from_microsecond(self.0).unwrap_or_default();
        write!(f, "{moment:.6}")
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        // A text from outside goes into an error message: only the beginning of it.
        let quoted = || text.chars().take(40).collect::<String>();
        let moment: jiff::Timestamp = text.parse().map_err(|_| TimestampError::Form(quoted()))?;
        Self::from_micros(moment.as_microsecond()).ok_or_else(|| TimestampError::Range(quoted()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Timestamp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_zones_and_precisions_are_read_and_utc_microseconds_are_written() {
        for text in ["2026-11-22T16:04:05+01:00", "2026-11-22T15:04:05Z", "2026-11-22T15:04:05.000000400Z"] {
            assert_eq!(
                text.parse::<Timestamp>().unwrap().to_string(),
                "2026-11-22T15:04:05.000000Z",
                "{text}"
            );
        }
        // Suricata writes its zone without a colon.
        assert!("2026-11-22T16:04:05.123456+0100".parse::<Timestamp>().is_ok());
    }

    #[test]
    fn impossible_dates_are_refused() {
        for text in ["0000-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "yesterday", "", "2026-13-01T00:00:00Z"]
        {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        let start = Timestamp::from_micros(5).unwrap();
        assert_eq!(Timestamp::MAX.plus(Duration::from_secs(1)), Timestamp::MAX);
        assert_eq!(start.plus(Duration::MAX), Timestamp::MAX);
        assert_eq!(start.since(Timestamp::MAX), Duration::ZERO);
        assert_eq!(Timestamp::MAX.to_string(), "9998-12-31T23:59:59.999999Z");
        assert_eq!(start.secs_ceil(), 1);
    }
}
