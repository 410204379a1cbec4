//! The file `/etc/psentry/ports`: a statement a line, `#` begins a comment. What is wrong names the file, the line and what
//! to write instead.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Family, PortTable, Service, Services};

/// The lines that hold where there is no file.
const BUILTIN: &str = include_str!("../../units/etc/ports");

/// More bytes than anybody writes by hand.
const LONGEST: usize = 1 << 20;

/// Why a file of ports cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PortsFileError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is too long to have been written by hand.
    #[error("{} is longer than a megabyte, so it is no file of ports", file.display())]
    Long {
        /// Which file.
        file: PathBuf,
    },
    /// A line says nothing that can be used.
    #[error("{}, line {line}: {problem}", file.display())]
    Line {
        /// Which file.
        file: PathBuf,
        /// Which line, counted from 1.
        line: usize,
        /// What is wrong and how to write it.
        problem: String,
    },
}

impl PortTable {
    /// What is compiled in.
    #[must_use]
    pub fn builtin() -> Self {
        // A test reads it; what cannot be read there is left out here.
        let mut table = PortTable::default();
        for line in BUILTIN.lines() {
            let _ = table.add(line);
        }
        table
    }

    /// The table of a file; what is compiled in, if there is no such file.
    ///
    /// # Errors
    /// [`PortsFileError`]: the file cannot be read, or a line is wrong.
    pub fn read(file: &Path) -> Result<Self, PortsFileError> {
        Self::parse(file, &Self::bytes(file)?)
    }

    /// What a file says; what is compiled in, if there is no such file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn bytes(file: &Path) -> Result<Vec<u8>, PortsFileError> {
        match fs::read(file) {
            Ok(bytes) if bytes.len() > LONGEST => Err(PortsFileError::Long { file: file.to_owned() }),
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BUILTIN.into()),
            Err(source) => Err(PortsFileError::Read { file: file.to_owned(), source }),
        }
    }

    /// The table of a text; `file` is its name in errors.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<Self, PortsFileError> {
        let mut table = PortTable::default();
        for (index, line) in String::from_utf8_lossy(bytes).lines().enumerate() {
            let wrong = |problem| PortsFileError::Line { file: file.to_owned(), line: index + 1, problem };
            table.add(line).map_err(wrong)?;
        }
        Ok(table)
    }

    /// Adds what a line says.
    fn add(&mut self, line: &str) -> Result<(), String> {
        let statement = line.split_once('#').map_or(line, |(before, _)| before);
        let words: Vec<&str> = statement.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            ["chatter", from, "to", to] => match (one(from)?, one(to)?) {
                (from, to) if from.proto == to.proto => self.chatter_between.push((from, to)),
                _ => return Err(format!("'{from}' and '{to}' are of two protocols")),
            },
            ["chatter", ports @ ..] => self.chatter.extend(several(ports, "chatter udp/1900")?),
            ["stray", "from", ports @ ..] => self.stray_from.extend(several(ports, "stray from udp/53")?),
            ["stray", ..] => return Err("write 'stray from udp/53'".to_owned()),
            ["sibling", port, "of", served @ ..] => {
                let sibling = one(port)?;
                for of in several(served, "sibling tcp/443 of tcp/80")? {
                    self.siblings.push((sibling, of));
                }
            }
            ["sibling", ..] => return Err("write 'sibling tcp/443 of tcp/80'".to_owned()),
            ["family", name, ports @ ..] if !name.contains('/') => {
                let ports = several(ports, "family smb tcp/139 tcp/445")?;
                self.families.push(Family { name: (*name).to_owned(), ports });
            }
            ["family", ..] => return Err("a family has a name: 'family smb tcp/139 tcp/445'".to_owned()),
            ["worm", ports @ ..] => self.worms.extend(several(ports, "worm tcp/23")?),
            ["translator", prefix] => match prefix.parse::<psentry_records::Prefix>() {
                Ok(prefix) if !prefix.is_ipv4() && prefix.len() == 96 => self.translators.push(prefix),
                Ok(prefix) => return Err(format!("{prefix} is no /96 of IPv6, such as 64:ff9b::/96")),
                Err(error) => return Err(error.to_string()),
            },
            ["translator", ..] => return Err("write 'translator 64:ff9b::/96'".to_owned()),
            [other, ..] => {
                let other: String = other.chars().take(40).collect();
                return Err(format!(
                    "'{other}' is none of chatter, stray, sibling, family, worm and translator"
                ));
            }
        }
        Ok(())
    }
}

fn services(word: &str) -> Result<Services, String> {
    word.parse().map_err(|error: crate::ServiceError| error.to_string())
}

/// At least one range of ports.
fn several(words: &[&str], example: &str) -> Result<Vec<Services>, String> {
    if words.is_empty() {
        return Err(format!("the ports are missing: '{example}'"));
    }
    words.iter().map(|word| services(word)).collect()
}

/// One port, no range.
fn one(word: &str) -> Result<Service, String> {
    let Services { proto, first, last } = services(word)?;
    if first == last {
        Ok(Service { proto, port: first })
    } else {
        Err(format!("'{word}' is more than one port"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(line: &str) -> String {
        PortTable::parse(Path::new("/etc/psentry/ports"), line.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn each_line_that_is_compiled_in_is_read_and_names_its_source() {
        let table = PortTable::parse(Path::new("units/etc/ports"), BUILTIN.as_bytes()).unwrap();
        assert_eq!(table, PortTable::builtin());
        for line in BUILTIN.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            assert!(line.split_once('#').is_some_and(|(_, source)| source.contains(['(', 'R'])), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_names_the_line_and_what_to_write() {
        assert_eq!(
            problem("worm tcp/23\nchatter udp 1900"),
            "/etc/psentry/ports, line 2: 'udp' is not a protocol and its ports, such as tcp/443 or udp/137-138"
        );
        for (line, word) in [
            ("chater udp/1900", "'chater' is none of chatter, stray"),
            ("chatter", "the ports are missing: 'chatter udp/1900'"),
            ("chatter udp/1-2 to udp/3", "'udp/1-2' is more than one port"),
            ("chatter udp/1 to tcp/1", "'udp/1' and 'tcp/1' are of two protocols"),
            ("stray udp/53", "write 'stray from udp/53'"),
            ("sibling tcp/443-444 of tcp/80", "'tcp/443-444' is more than one port"),
            ("sibling tcp/443", "write 'sibling tcp/443 of tcp/80'"),
            ("family tcp/139 tcp/445", "a family has a name"),
            ("worm icmp/8", "'icmp/8' is not a protocol"),
            ("worm tcp/0", "'tcp/0' is not a protocol"),
            ("translator 64:ff9b::/64", "64:ff9b::/64 is no /96"),
            ("translator 10.0.0.0/8", "is no /96"),
        ] {
            assert!(problem(line).contains(word), "{line}: {}", problem(line));
        }
    }

    #[test]
    fn without_a_file_holds_what_is_compiled_in() {
        let folder = std::env::temp_dir().join("psentry-ports-that-is-not-there");
        assert_eq!(PortTable::read(&folder).unwrap(), PortTable::builtin());
    }

    proptest! {
        #[test]
        fn no_line_is_too_odd(line in ".{0,80}", words in "(chatter|stray|sibling|family|worm)( (from|of|to|tcp/1|udp/2-9|x)){0,5}") {
            let file = Path::new("ports");
            let _ = (PortTable::parse(file, line.as_bytes()), PortTable::parse(file, words.as_bytes()));
        }
    }
}
