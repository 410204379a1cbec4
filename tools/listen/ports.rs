//! Lists of ports as people write them, `21,23,8000-8010`, read and written. It opens none of them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::num::NonZeroU16;

/// What is wrong with a list of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortsError {
    /// Neither a port nor a range.
    #[error("'{0}' is not a port from 1 to 65535, nor a range such as 8000-8010")]
    NoPort(String),
    /// `8010-8000`.
    #[error("the range '{0}' ends before it begins")]
    Backwards(String),
}

/// The ports of a list such as `21,23,445,8000-8010`. Spaces around commas are fine.
///
/// # Errors
/// A sentence that names the part that is wrong.
pub(crate) fn parse(list: &str) -> Result<BTreeSet<u16>, PortsError> {
    let mut ports = BTreeSet::new();
    for part in list.split(',').map(str::trim) {
        // What is quoted in a message: a typing error, not a whole file.
        let quoted = || part.chars().take(40).collect::<String>();
        let port = |text: &str| number(text).ok_or_else(|| PortsError::NoPort(quoted()));
        match part.split_once('-') {
            None => {
                ports.insert(port(part)?);
            }
            Some((first, last)) => {
                let (first, last) = (port(first)?, port(last)?);
                if last < first {
                    return Err(PortsError::Backwards(quoted()));
                }
                ports.extend(first..=last);
            }
        }
    }
    Ok(ports)
}

/// A port in digits alone: no sign, and not zero.
fn number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse::<NonZeroU16>().ok()).flatten().map(NonZeroU16::get)
}

/// The list again, as short as it can be written.
pub(crate) fn list(ports: &BTreeSet<u16>) -> String {
    let mut text = String::new();
    let mut rest = ports.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while let Some(next) = rest.next_if(|&next| Some(next) == last.checked_add(1)) {
            last = next;
        }
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = match last - first {
            0 => write!(text, "{comma}{first}"),
            1 => write!(text, "{comma}{first},{last}"),
            _ => write!(text, "{comma}{first}-{last}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ports_and_ranges_are_read() {
        let of = |list: &str| parse(list).unwrap().into_iter().collect::<Vec<_>>();
        assert_eq!(of("21,23,445"), [21, 23, 445]);
        assert_eq!(of("8000-8003, 21 ,8001"), [21, 8000, 8001, 8002, 8003]);
        assert_eq!(of("65535"), [65535]);
        assert_eq!(of("1-65535").len(), 65535);
    }

    #[test]
    fn the_rest_is_refused_in_a_sentence_that_names_it() {
        for list in ["", "0", "65536", "+21", "-21", "21,", "21,,23", "ssh", "1-", "1-2-3", "21 23", "0-5"] {
            assert!(matches!(parse(list), Err(PortsError::NoPort(_))), "{list}");
        }
        assert_eq!(parse("21,30-20").unwrap_err().to_string(), "the range '30-20' ends before it begins");
        assert!(parse("1,ftp").unwrap_err().to_string().starts_with("'ftp' is not a port"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(ports in btree_set(1..=u16::MAX, 1..200)) {
            prop_assert_eq!(parse(&list(&ports)), Ok(ports));
        }

        #[test]
        fn neighbours_are_written_as_a_range(first in 1..60_000u16, more in 2..5_000u16) {
            let ports = (first..=first + more).collect();
            prop_assert_eq!(list(&ports), format!("{first}-{}", first + more));
        }

        #[test]
        fn no_text_is_too_odd(text in ".{0,60}") {
            let _ = parse(&text);
        }
    }
}
