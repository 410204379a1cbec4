//! The section of psentry in hosts.deny, as bytes: found, decoded, encoded, removed. Outside of it no byte changes, whether it is
//! text or not. No file is opened here.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use psentry_records::Prefix;

use crate::block::{Block, Entry};
use crate::error::Error;
use crate::note::{self, Noted};

const BEGIN: &str = "# BEGIN psentry";
const END: &str = "# END psentry";

/// For people, after what is for a later psentry-block.
const ADVICE: &str = ": kept by psentry-block(8), changes in here are lost";
const MADE_FILE: &str = " (made this file)";
const NO_NEWLINE: &str = " (no newline before)";

/// A file in three parts, the middle of which is ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parts {
    before: Vec<u8>,
    /// The blocks, one for each scope. One that is there twice is damaged; written back it is there once.
    pub entries: Vec<Entry>,
    after: Vec<u8>,
    /// There was no file before ours.
    made_file: bool,
    /// The line before ours had no newline, which is to be so again.
    no_newline: bool,
}

impl Parts {
    /// Takes a file apart; `None`: there is no file. `path` is for error messages.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the section cannot be read, or is not one.
    pub fn read(path: &Path, content: Option<&[u8]>) -> Result<Self, Error> {
        let Some(content) = content else { return Ok(Parts { made_file: true, ..Parts::default() }) };
        let damaged = |at: usize, what| Err(Error::Damaged { path: path.to_owned(), line: at + 1, what });
        let lines: Vec<&[u8]> = content.split_inclusive(|byte| *byte == b'\n').collect();
        // Where a section begins, and where one ends.
        let mark = |(at, line): (usize, &&[u8])| match text(line) {
            END => Some((at, false)),
            text => text.starts_with(BEGIN).then_some((at, true)),
        };
        let marks: Vec<(usize, bool)> = lines.iter().enumerate().filter_map(mark).collect();
        let (begin, end) = match *marks {
            [(begin, true), (end, false)] => (begin, end),
            [] => {
                let (mut before, no_newline) = (content.to_vec(), !matches!(content, [] | [.., b'\n']));
                before.extend(no_newline.then_some(b'\n'));
                return Ok(Parts { before, no_newline, ..Parts::default() });
            }
            [(at, true)] => return damaged(at, "the section of psentry that begins here has no end"),
            [(_, true), (at, true), ..] => return damaged(at, "a section of psentry begins inside another"),
            [(_, true), (_, false), (at, true), ..] => {
                return damaged(at, "a second section of psentry begins");
            }
            [(at, false), ..] | [_, _, (at, false), ..] => {
                return damaged(at, "a section of psentry ends that never began");
            }
        };
        let mut entries: Vec<Entry> = Vec::new();
        let (mut index, mut noted) = (HashMap::new(), None);
        for (at, line) in lines.iter().enumerate().take(end).skip(begin + 1) {
            if let Some(comment) = read_comment(text(line)) {
                noted = Some(comment);
                continue;
            }
            let Some(scope) = read_client(text(line)) else {
                return damaged(at, "this line in the section of psentry is not its own");
            };
            let Noted { rule, since, until, unproven } = noted.take().unwrap_or_default();
            let place = *index.entry(scope).or_insert(entries.len());
            match entries.get_mut(place) {
                Some(first) => first.damaged = true,
                None => entries.push(Entry { since, unproven, ..Entry::new(scope, until, rule) }),
            }
        }
        let says = |what| lines.get(begin).is_some_and(|line| text(line).contains(what));
        let (made_file, no_newline) = (says(MADE_FILE), says(NO_NEWLINE));
        let before = lines.iter().take(begin).copied().flatten().copied().collect();
        let after = lines.iter().skip(end + 1).copied().flatten().copied().collect();
        Ok(Parts { before, entries, after, made_file, no_newline })
    }

    /// Puts it together; `None`: there is to be no file.
    #[must_use]
    pub fn write(&self) -> Option<Vec<u8>> {
        let mut content = self.before.clone();
        if self.entries.is_empty() {
            if self.no_newline && self.after.is_empty() {
                content.pop();
            }
        } else {
            let made = if self.made_file { MADE_FILE } else { "" };
            let newline = if self.no_newline { NO_NEWLINE } else { "" };
            content.extend(format!("{BEGIN}{made}{newline}{ADVICE}\n").into_bytes());
            content.extend(self.entries.iter().flat_map(|entry| write_entry(entry).into_bytes()));
            content.extend(format!("{END}\n").into_bytes());
        }
        content.extend_from_slice(&self.after);
        (!(content.is_empty() && self.made_file)).then_some(content)
    }
}

/// A line as text, as far as it is some.
fn text(line: &[u8]) -> &str {
    std::str::from_utf8(line).unwrap_or_default().trim_end()
}

/// `# until 2026-11-22T16:04:05Z sequential at 2026-11-22T15:04:05Z` and `ALL: 192.0.2.7`.
fn write_entry(entry: &Entry) -> String {
    let note = note::write(&Block::from(entry));
    let (rule, end) = note.rsplit_once(" until ").unwrap_or_default();
    format!("# until {end} {rule}\nALL: {}\n", client(entry.scope))
}

fn read_comment(text: &str) -> Option<Noted> {
    let (end, rule) = text.strip_prefix("# until ")?.split_once(' ')?;
    note::read(&format!("{rule} until {end}"))
}

/// A scope as hosts_access(5) writes it.
fn client(scope: Prefix) -> String {
    match scope.addr() {
        IpAddr::V4(v4) if scope.is_host() => v4.to_string(),
        IpAddr::V4(v4) => format!("{v4}/{}", scope.mask()),
        IpAddr::V6(v6) => format!("[{v6}]/{}", scope.len()),
    }
}

fn read_client(text: &str) -> Option<Prefix> {
    let client = text.strip_prefix("ALL: ")?;
    if let Some(v6) = client.strip_prefix('[') {
        return v6.replacen("]/", "/", 1).parse().ok();
    }
    let Some((addr, mask)) = client.split_once('/') else { return client.parse().ok() };
    let mask: Ipv4Addr = mask.parse().ok()?;
    format!("{addr}/{}", u32::from(mask).leading_ones()).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path() -> &'static Path {
        Path::new("/etc/hosts.deny")
    }

    fn entries() -> Vec<Entry> {
        [("192.0.2.7", Some("sequential")), ("198.51.96.0/20", None), ("2001:db8::/64", Some("fan"))]
            .map(|(scope, rule)| {
                let until = rule.map(|_| "2026-11-22T15:04:05Z".parse().unwrap());
                Entry::new(scope.parse().unwrap(), until, rule.map(str::to_owned))
            })
            .to_vec()
    }

    #[test]
    fn the_section_reads_like_hosts_access() {
        let mut parts = Parts::read(path(), Some(b"# mine\nALL: evil.example")).unwrap();
        parts.entries = entries();
        let text = String::from_utf8(parts.write().unwrap()).unwrap();
        assert_eq!(
            text,
            "# mine\nALL: evil.example\n\
             # BEGIN psentry (no newline before): kept by psentry-block(8), changes in here are lost\n\
             # until 2026-11-22T15:04:05Z sequential\n\
             ALL: 192.0.2.7\n\
             # until unblocked psentry\n\
             ALL: 198.51.96.0/255.255.240.0\n\
             # until 2026-11-22T15:04:05Z fan\n\
             ALL: [2001:db8::]/64\n\
             # END psentry\n"
        );
        assert_eq!(Parts::read(path(), Some(text.as_bytes())).unwrap(), parts);
    }

    #[test]
    fn a_file_that_was_made_goes_with_the_last_block_unless_others_wrote_into_it() {
        let mut parts = Parts::read(path(), None).unwrap();
        parts.entries = entries();
        let made = parts.write().unwrap();
        let mut parts = Parts::read(path(), Some(&made)).unwrap();
        parts.entries.clear();
        assert_eq!(parts.write(), None);
        let shared = [&made[..], b"sshd: ALL\n"].concat();
        let mut parts = Parts::read(path(), Some(&shared)).unwrap();
        parts.entries.clear();
        assert_eq!(parts.write(), Some(b"sshd: ALL\n".to_vec()));
    }

    #[test]
    fn a_damaged_section_is_an_error_with_its_line() {
        for (text, line) in [
            ("a\n# BEGIN psentry\nALL: 192.0.2.7\n", 2),
            ("a\n# END psentry\n", 2),
            ("# BEGIN psentry\n# BEGIN psentry\n# END psentry\n", 2),
            ("# BEGIN psentry\n# END psentry\n# BEGIN psentry\n# END psentry\n", 3),
            ("# BEGIN psentry\nsshd: ALL\n# END psentry\n", 2),
        ] {
            let error = Parts::read(path(), Some(text.as_bytes())).unwrap_err();
            assert!(matches!(error, Error::Damaged { line: l, .. } if l == line), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_file_holds_is_the_same_after_blocks_came_and_went(content: Vec<u8>) {
            let mut parts = Parts::read(path(), Some(&content)).unwrap();
            parts.entries = entries();
            let blocked = parts.write().unwrap();
            let mut parts = Parts::read(path(), Some(&blocked)).unwrap();
            prop_assert_eq!(&parts.entries, &entries());
            parts.entries.clear();
            prop_assert_eq!(parts.write(), Some(content));
        }
    }
}
