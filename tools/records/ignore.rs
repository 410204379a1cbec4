//! Whom to leave alone: PortSentry's ignore file, read as its users expect. One address or prefix a line; `#` begins
//! a comment, also after an address; host bits may be set; upper-case hexadecimal, blanks, carriage returns and a
//! missing last newline are fine. Host names are refused: a guard that looked them up could be misled by whoever answers.
//!
//! Every program that takes such a file reads it by this, so that one file means the same to all of them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use crate::{Prefix, canonical};

/// Ranges of addresses, sorted and merged: a look-up is one binary search.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ignore {
    /// First and last of each; all of IPv4 sorts before all of IPv6.
    ranges: Vec<(IpAddr, IpAddr)>,
}

/// Why an ignore file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IgnoreError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file that was named.
        file: PathBuf,
        /// What open(2) or read(2) said.
        source: io::Error,
    },
    /// A line says nothing that can be used.
    #[error("{}, line {line}: {problem}", file.display())]
    Line {
        /// The file that was named.
        file: PathBuf,
        /// Which line, counted from 1.
        line: usize,
        /// What is wrong and how to write it.
        problem: String,
    },
}

impl Ignore {
    /// The prefixes of one file.
    ///
    /// # Errors
    /// A line that cannot be used; `file` only names it.
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<Vec<Prefix>, IgnoreError> {
        let (entries, errors) = Self::parse_lines(file, bytes);
        let prefixes = entries.into_iter().map(|(_, prefix)| prefix).collect();
        errors.into_iter().next().map_or(Ok(prefixes), Err)
    }

    /// The same with the number of each line, counted from 1, and each line that cannot be used beside the others.
    #[must_use]
    pub fn parse_lines(file: &Path, bytes: &[u8]) -> (Vec<(usize, Prefix)>, Vec<IgnoreError>) {
        let (mut prefixes, mut errors) = (Vec::new(), Vec::new());
        for (line, bytes) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            let text = String::from_utf8_lossy(bytes);
            // An editor on Windows begins a file with a byte order mark.
            let text = text.trim_start_matches('\u{feff}');
            let entry = text.split('#').next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            let refuse = |problem| IgnoreError::Line { file: file.to_owned(), line, problem };
            match Self::parse_entry(entry) {
                Ok(prefix) => prefixes.push((line, prefix)),
                Err(problem) => errors.push(refuse(problem)),
            }
        }
        (prefixes, errors)
    }

    /// One entry without its comment, as a policy may hold it too.
    ///
    /// # Errors
    /// What is wrong with it and how to write it, as a sentence without file and line.
    pub fn parse_entry(entry: &str) -> Result<Prefix, String> {
        entry.parse().map_err(|_| remedy(entry))
    }

    /// Whether that address is to be left alone.
    #[must_use]
    pub fn holds(&self, addr: IpAddr) -> bool {
        let addr = canonical(addr);
        let at = self.ranges.partition_point(|&(first, _)| first <= addr);
        at.checked_sub(1).and_then(|at| self.ranges.get(at)).is_some_and(|&(_, last)| addr <= last)
    }

    /// Whether any address of that prefix is to be left alone.
    #[must_use]
    pub fn touches(&self, prefix: Prefix) -> bool {
        let at = self.ranges.partition_point(|&(_, last)| last < prefix.addr());
        self.ranges.get(at).is_some_and(|&(first, _)| first <= prefix.last())
    }
}

impl FromIterator<Prefix> for Ignore {
    fn from_iter<I: IntoIterator<Item = Prefix>>(prefixes: I) -> Self {
        let mut sorted: Vec<_> = prefixes.into_iter().map(|prefix| (prefix.addr(), prefix.last())).collect();
        sorted.sort_unstable();
        let mut ranges: Vec<(IpAddr, IpAddr)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match ranges.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => ranges.push((first, last)),
            }
        }
        Ignore { ranges }
    }
}

/// What is wrong with an entry that is no prefix.
fn remedy(entry: &str) -> String {
    let shown: String = entry.chars().take(60).flat_map(char::escape_default).collect();
    if let Some((addr, mask)) = entry.split_once('/') {
        if let (Ok(_), Ok(mask)) = (addr.parse::<Ipv4Addr>(), mask.parse::<Ipv4Addr>()) {
            let (mask, bits) = (u32::from(mask), u32::from(mask).leading_ones());
            if bits + mask.trailing_zeros() == u32::BITS {
                return format!("'{shown}': write the length of the mask instead, {addr}/{bits}");
            }
        }
        if addr.parse::<Ipv4Addr>().is_ok() {
            return format!("'{shown}': the length after an IPv4 address is 0 to 32");
        }
        if addr.parse::<Ipv6Addr>().is_ok() {
            return format!("'{shown}': the length after an IPv6 address is 0 to 128");
        }
    }
    if entry.contains('%') {
        return format!("'{shown}': write the address without its zone; link-local ones are never blocked");
    }
    if entry.split_whitespace().count() > 1 {
        return format!("'{shown}': write one address or prefix a line; a comment begins with #");
    }
    if entry.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        && entry.contains(char::is_alphabetic)
    {
        return format!(
            "'{shown}' looks like a host name; write its addresses, because names are not looked up"
        );
    }
    format!("'{shown}' is not an address such as 192.0.2.7 or a prefix such as 192.0.2.0/24 or 2001:db8::/32")
}

#[cfg(test)]
mod tests;
