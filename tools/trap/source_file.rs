//! Files of `--state` that say until when something holds for a source: a source a line, with the moment at which that ends.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use psentry_records::{Prefix, Timestamp};
use psentry_stage::replace_file;

use crate::served_file::read_state;

/// Sources, each with the moment until which it holds.
pub(crate) type Sources = BTreeMap<Prefix, Timestamp>;

/// More bytes than as many sources take as the sets of the rules have room for.
const LONGEST: u64 = 1 << 25;

/// Reads a file; nobody is in one that is not there. Lines that name nobody are passed over. `source` says whom an address means.
///
/// # Errors
/// It cannot be read.
pub(crate) fn read(path: &Path, source: impl Fn(IpAddr) -> Option<Prefix>) -> io::Result<Sources> {
    Ok(parse(&read_state(path, LONGEST)?, source))
}

/// Writes a file anew.
///
/// # Errors
/// It cannot be written; what it said before is still there. In words.
pub(crate) fn write(path: &Path, sources: &Sources) -> Result<(), String> {
    let written = replace_file(path, text(sources).as_bytes(), |_| Ok(()));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn parse(text: &str, source: impl Fn(IpAddr) -> Option<Prefix>) -> Sources {
    let line = |line: &str| {
        let (addr, until) = line.split_once(' ')?;
        Some((source(addr.parse().ok()?)?, until.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

fn text(sources: &Sources) -> String {
    let mut text = String::new();
    for (source, until) in sources {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {until}", source.addr());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_other_lines_are_passed_over() {
        let until: Timestamp = "2026-12-22T15:04:05Z".parse().unwrap();
        let host = |addr: IpAddr| (!addr.is_loopback()).then(|| Prefix::host(addr));
        let sources: Sources =
            ["192.0.2.7/32", "2001:db8:7::9/128"].map(|source| (source.parse().unwrap(), until)).into();
        assert_eq!(parse(&text(&sources), host), sources);
        let odd = "192.0.2.7\nx 2026-12-22T15:04:05Z\n127.0.0.1 2026-12-22T15:04:05Z\n192.0.2.8 soon\n\n";
        assert!(parse(odd, host).is_empty());
    }

    #[test]
    fn without_a_file_nobody_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let nobody = |_| None;
        assert!(read(&folder.path().join("familiar"), nobody).unwrap().is_empty());
        assert!(read(folder.path(), nobody).is_err());
        assert!(write(folder.path(), &Sources::new()).unwrap_err().starts_with("cannot write /"));
    }
}
