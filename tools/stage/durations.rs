//! Durations as people write them on a command line.

use std::time::Duration;

/// The shortest duration that is taken: records count in whole seconds.
const SHORTEST: Duration = Duration::from_secs(1);

/// The longest duration that is taken: ten years. Beyond it a typing error is likelier than intent.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Reads `600` (seconds), `10m`, `1h 30m`, `2d`, `1w`. For clap's `value_parser`.
///
/// # Errors
/// A sentence that says how to write it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text)
            .map_err(|_| "write a duration as 600 (seconds), 10m, 2h, 1d or 1w".to_owned())?,
    };
    if duration < SHORTEST || duration > LONGEST {
        return Err("a duration is at least 1s and at most ten years".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_units_are_read() {
        for (text, seconds) in [("600", 600), ("10m", 600), ("1h 30m", 5400), ("1w", 604_800), ("1", 1)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn the_rest_is_refused_with_advice() {
        for text in ["", "0", "999ms", "-5", "ten", "5 parsecs", "99999999999999999999", "1000y"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
