//! A probe from its line, fast: psentry's own sensors write every record in one form, and of a record in that form the
//! judge reads the few fields that it needs, without a JSON parser and without a copy. A line in any other form is left
//! to [`Record::parse`]; what is read here is exactly what that would read, which a property test holds against it.

use std::net::IpAddr;
use std::str::FromStr;

use psentry_records::{Class, Kind, Malformed, Proto, Record, Timestamp};

use crate::observation::{Observation, host_hash, reports_closed_ports};

/// What a line holds, read no further than the judge needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// A probe in psentry's own form; its texts are still in the line.
    Probe(Observation),
    /// A record of another type, or a probe in another form.
    Record(Box<Record>),
}

/// Reads one line, without its newline.
///
/// # Errors
/// Those of [`Record::parse`]: the line is no record.
pub fn decode(line: &str) -> Result<Decoded, Malformed> {
    match fast(line) {
        Some(seen) => Ok(Decoded::Probe(seen)),
        None => Record::parse(line).map(|record| Decoded::Record(Box::new(record))),
    }
}

/// The rest of a line.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn eat(&mut self, text: &str) -> bool {
        match self.0.strip_prefix(text) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn need(&mut self, text: &str) -> Option<()> {
        self.eat(text).then_some(())
    }

    /// The rest of a string of plain characters, whose opening quote is eaten.
    fn plain(&mut self) -> Option<&'a str> {
        let end = self.0.bytes().position(|byte| byte == b'"' || byte == b'\\' || byte < b' ')?;
        let (text, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.strip_prefix('"')?;
        Some(text)
    }

    /// A whole number as JSON has it.
    fn number<T: FromStr>(&mut self) -> Option<T> {
        let end = self.0.bytes().position(|byte| !byte.is_ascii_digit())?;
        let (digits, rest) = self.0.split_at_checked(end)?;
        if digits.starts_with('0') && digits.len() > 1 {
            return None;
        }
        self.0 = rest;
        digits.parse().ok()
    }

    fn boolean(&mut self) -> Option<bool> {
        if self.eat("true") { Some(true) } else { self.eat("false").then_some(false) }
    }
}

/// A probe as psentry writes it; `None`: read it the long way.
fn fast(line: &str) -> Option<Observation> {
    let mut rest = Cursor(line);
    rest.need(r#"{"timestamp":""#)?;
    let at = timestamp(rest.plain()?)?;
    rest.need(r#","event_type":"probe""#)?;
    let host = if rest.eat(r#","host":""#) { host_hash(rest.plain()?) } else { 0 };
    rest.need(r#","src_ip":""#)?;
    let src = rest.plain()?.parse::<IpAddr>().ok()?.to_canonical();
    let src_port = if rest.eat(r#","src_port":"#) { Some(rest.number()?) } else { None };
    if rest.eat(r#","dest_ip":""#) {
        rest.plain()?.parse::<IpAddr>().ok()?;
    }
    let port = if rest.eat(r#","dest_port":"#) { Some(rest.number()?) } else { None };
    let proto = if rest.eat(r#","proto":""#) { Proto::from_name(rest.plain()?) } else { Proto::Other };
    rest.need(r#","probe":{"#)?;
    let mut closed = false;
    if rest.eat(r#""sensor":""#) {
        closed = reports_closed_ports(rest.plain()?);
        rest.need(",")?;
    }
    rest.need(r#""kind":""#)?;
    let kind = kind(rest.plain()?)?;
    rest.need(r#","handshake":"#)?;
    let handshake = rest.boolean()?;
    let cookie = if rest.eat(r#","cookie":"#) { rest.boolean()? } else { false };
    let signature = rest.eat(r#","signature":""#);
    if signature {
        rest.plain()?;
    }
    let class = if rest.eat(r#","class":""#) { Some(class(rest.plain()?)) } else { None };
    let veiled = if rest.eat(r#","veiled":"#) { rest.boolean()? } else { false };
    if rest.eat(r#","hidden":"#) {
        rest.boolean()?;
    }
    if rest.eat(r#","quarantine":"#) {
        rest.number::<u32>()?;
    }
    let count = if rest.eat(r#","count":"#) { rest.number()? } else { 1 };
    if rest.eat(r#","payload":""#) {
        rest.plain()?;
    }
    // Only blanks may follow the record.
    (rest.eat("}}") && rest.0.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))).then_some(
        Observation {
            at,
            src,
            src_port,
            host,
            port,
            proto,
            kind,
            handshake,
            cookie,
            signature,
            closed,
            class,
            veiled,
            count,
        },
    )
}

fn class(name: &str) -> Class {
    match name {
        "chatter" => Class::Chatter,
        "stray" => Class::Stray,
        _ => Class::Probe,
    }
}

fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "connect" => Kind::Connect,
        "syn" => Kind::Syn,
        "fin" => Kind::Fin,
        "null" => Kind::Null,
        "xmas" => Kind::Xmas,
        "ack" => Kind::Ack,
        "maimon" => Kind::Maimon,
        "window" => Kind::Window,
        "udp" => Kind::Udp,
        "other" => Kind::Other,
        _ => return None,
    })
}

/// A moment as psentry writes it: `2026-11-22T15:04:05.000000Z`.
fn timestamp(text: &str) -> Option<Timestamp> {
    let bytes: &[u8; 27] = text.as_bytes().try_into().ok()?;
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        m1,
        m2,
        b'-',
        d1,
        d2,
        b'T',
        h1,
        h2,
        b':',
        n1,
        n2,
        b':',
        s1,
        s2,
        b'.',
        micros @ ..,
        b'Z',
    ] = *bytes
    else {
        return None;
    };
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0i64, |number, digit| {
            digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0'))
        })
    };
    let (year, month, day) = (number(&[y1, y2, y3, y4])?, number(&[m1, m2])?, number(&[d1, d2])?);
    let (hour, minute, second) = (number(&[h1, h2])?, number(&[n1, n2])?, number(&[s1, s2])?);
    let micros = number(&micros)?;
    // Days beyond the 28th, and leap seconds, take a calendar.
    let easy = (1970..=9998).contains(&year) && (1..=12).contains(&month) && (1..=28).contains(&day);
    if !easy || hour > 23 || minute > 59 || second > 59 {
        return calendar_timestamp(text);
    }
    // Days since 1970 of a date of the Gregorian calendar (H. Hinnant, chrono-compatible low-level date algorithms).
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year / 400, year % 400);
    let days =
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Timestamp::from_micros((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micros)
}

fn calendar_timestamp(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

#[cfg(test)]
mod tests;
