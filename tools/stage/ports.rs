//! Lists of ports as people write them on a command line, `21,23,8000-8010`.

use std::num::NonZeroU16;
use std::ops::RangeInclusive;

/// What is wrong with a list of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortsError {
    /// Neither a port nor a range.
    #[error("'{0}' is not a port from 1 to 65535, nor a range such as 8000-8010")]
    NoPort(String),
    /// A range whose last port is less than its first, such as `8010-8000`.
    #[error("the range '{0}' ends before it begins")]
    Backwards(String),
}

/// The ranges of a list such as `21,23,445,8000-8010`, in their order; a port is a range of one. Spaces around commas
/// are fine.
///
/// # Errors
/// A sentence that names the part that is wrong.
pub fn parse_ports(list: &str) -> Result<Vec<RangeInclusive<u16>>, PortsError> {
    list.split(',').map(|part| range(part.trim())).collect()
}

fn range(part: &str) -> Result<RangeInclusive<u16>, PortsError> {
    // What is quoted in a message: a typing error, not a whole file.
    let quoted = || part.chars().take(40).collect::<String>();
    let port = |text: &str| number(text).ok_or_else(|| PortsError::NoPort(quoted()));
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last) = (port(first)?, port(last)?);
    if last < first { Err(PortsError::Backwards(quoted())) } else { Ok(first..=last) }
}

/// Reads a port such as `2222` or `161/udp`, and returns it with its transport. For clap's `value_parser`.
///
/// # Errors
/// A sentence that says how to write it.
pub fn parse_port(text: &str) -> Result<String, String> {
    let (port, proto) = text.split_once('/').unwrap_or((text, "tcp"));
    let port = number(port).filter(|_| ["tcp", "udp"].contains(&proto));
    let port = port.ok_or_else(|| "write a port from 1 to 65535, such as 2222 or 161/udp".to_owned())?;
    Ok(format!("{port}/{proto}"))
}

/// A port in digits alone: no sign, and not zero.
fn number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse::<NonZeroU16>().ok()).flatten().map(NonZeroU16::get)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_port_has_a_transport() {
        for (text, is) in
            [("2222", Some("2222/tcp")), ("161/udp", Some("161/udp")), ("0", None), ("1/sctp", None)]
        {
            assert_eq!(parse_port(text).ok().as_deref(), is, "{text}");
        }
    }

    #[test]
    fn ports_and_ranges_are_read() {
        assert_eq!(parse_ports("445, 21 ,8000-8010"), Ok(vec![445..=445, 21..=21, 8000..=8010]));
        assert_eq!(parse_ports("1-65535"), Ok(vec![1..=65535]));
    }

    #[test]
    fn the_rest_is_refused_in_a_sentence_that_names_it() {
        for list in ["", "0", "65536", "+21", "-21", "21,", "21,,23", "ssh", "1-", "1-2-3", "21 23", "0-5"] {
            assert!(matches!(parse_ports(list), Err(PortsError::NoPort(_))), "{list}");
        }
        assert_eq!(
            parse_ports("21,30-20").unwrap_err().to_string(),
            "the range '30-20' ends before it begins"
        );
        assert!(parse_ports("1,ftp").unwrap_err().to_string().starts_with("'ftp' is not a port"));
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in ".{0,60}") {
            let _ = parse_ports(&text);
        }
    }
}
