//! Who is familiar at the veil: read from the kernel's sets every ten minutes and at the end, kept in the file `familiar` of `--state`,
//! a source a line with the moment at which it is forgotten, and put back whenever the sets are made anew. At a start whoever is
//! connected to a veiled port is familiar, too.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use psentry_linux::Error;
use psentry_nftables::{NewElement, Table, Transaction};
use psentry_records::{Prefix, Timestamp, canonical};

use crate::ports::Ranges;
use crate::quarantine;
use crate::ruleset::TABLE;
use crate::sockets;
use crate::source_file::{self, Sources};

/// A set, whether it is of IPv4, and how many bits of an address are one source.
const SETS: [(&str, bool, u8); 2] = [("familiar4", true, 32), ("familiar6", false, 64)];

/// How often they are read: a crash forgets whom the last of these knew.
const INTERVAL: Duration = Duration::from_secs(600);

/// How many elements are added in one transaction.
const TOGETHER: usize = 1000;

/// What was asked of the kernel, where it refuses.
const DOING: &str = "add familiar sources";

/// The kernel's sets, and the file.
pub(crate) struct Familiar {
    table: Table,
    file: Option<PathBuf>,
    known: Sources,
    next: Instant,
}

impl Familiar {
    /// Reads the file in `state`, if there is one; lines that name nobody are passed over. An error of the file is given beside.
    ///
    /// # Errors
    /// When the kernel has no netlink.
    pub(crate) fn open(state: Option<&Path>, now: Instant) -> Result<(Self, Option<io::Error>), Error> {
        let file = state.map(|folder| folder.join("familiar"));
        let read = file.as_deref().map_or_else(|| Ok(Sources::new()), |file| source_file::read(file, source));
        let (known, error) = match read {
            Ok(known) => (known, None),
            Err(error) => (Sources::new(), Some(error)),
        };
        Ok((Familiar { table: Table::open(TABLE)?, file, known, next: now + INTERVAL }, error))
    }

    /// Takes whoever is connected to one of these ports now, for so long.
    ///
    /// # Errors
    /// When the kernel does not say who is.
    pub(crate) fn add_connected(&mut self, veiled: &Ranges, span: Duration) -> Result<(), Error> {
        let until = Timestamp::now().plus(span);
        // A kernel that cannot list them has its clients wait a second once.
        for (addr, ..) in sockets::connected(veiled)? {
            self.known.extend(source(addr).map(|source| (source, until)));
        }
        Ok(())
    }

    /// Whether an address is familiar now.
    ///
    /// # Errors
    /// When the kernel does not say it.
    pub(crate) fn has(&mut self, addr: IpAddr) -> Result<bool, Error> {
        let Some(source) = source(addr) else { return Ok(true) };
        for (set, is_ipv4, _) in SETS {
            if is_ipv4 == source.is_ipv4() {
                let key = quarantine::write((source.addr(), None));
                return Ok(self.table.element(set, &key, quarantine::read)?.is_some());
            }
        }
        Ok(false)
    }

    /// Puts back who is known and not forgotten, for `longest` at most. The kernel notifies of each: `read` reads that after each
    /// thousand, before it is more than a socket has room for.
    ///
    /// # Errors
    /// When the kernel does not take them, and those of `read`.
    pub(crate) fn restore(
        &mut self,
        now: Timestamp,
        longest: Duration,
        mut read: impl FnMut() -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.known.retain(|_, until| *until > now);
        for (set, is_ipv4, _) in SETS {
            let of_set = self.known.iter().filter(|(source, _)| source.is_ipv4() == is_ipv4);
            let elements: Vec<NewElement> = of_set
                .map(|(source, until)| NewElement {
                    key: quarantine::write((source.addr(), None)),
                    timeout: Some(until.since(now).min(longest)),
                    comment: None,
                })
                .collect();
            for elements in elements.chunks(TOGETHER) {
                let mut transaction = Transaction::new(TABLE);
                transaction.add(set, elements.iter().cloned());
                let refused = |errno| Error::Refused { doing: DOING, errno };
                self.table.commit(DOING, transaction)?.map_err(refused)?;
                read()?;
            }
        }
        Ok(())
    }

    /// Reads who is familiar, and writes the file, if the last time is long enough ago.
    ///
    /// # Errors
    /// When the kernel does not say it, or the file cannot be written; in words.
    pub(crate) fn save(&mut self, now: Instant) -> Result<(), String> {
        if now < self.next {
            return Ok(());
        }
        self.next = now + INTERVAL;
        self.save_now()
    }

    /// The same at once.
    ///
    /// # Errors
    /// Those of [`save`](Self::save).
    pub(crate) fn save_now(&mut self) -> Result<(), String> {
        let now = Timestamp::now();
        let mut known = Sources::new();
        for (set, _, len) in SETS {
            let listed = self.table.elements(set, quarantine::read).map_err(|error| error.to_string())?;
            known.extend(
                listed.into_iter().map(|((addr, _), left)| (Prefix::around(addr, len), now.plus(left))),
            );
        }
        self.known = known;
        let Some(file) = &self.file else { return Ok(()) };
        source_file::write(file, &self.known)
    }
}

/// An address as the sets have it; none of loopback, which the veil does not see.
fn source(addr: IpAddr) -> Option<Prefix> {
    let addr = canonical(addr);
    let (_, _, len) = SETS.into_iter().find(|(_, is_ipv4, _)| *is_ipv4 == addr.is_ipv4())?;
    (!addr.is_loopback()).then(|| Prefix::around(addr, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_address_or_the_64_around_it() {
        let source = |addr: &str| source(addr.parse().unwrap()).map(|source| source.to_string());
        for (addr, want) in [
            ("192.0.2.7", Some("192.0.2.7/32")),
            ("::ffff:192.0.2.7", Some("192.0.2.7/32")),
            ("2001:db8:7::9", Some("2001:db8:7::/64")),
            ("127.0.0.1", None),
            ("::1", None),
        ] {
            assert_eq!(source(addr).as_deref(), want, "{addr}");
        }
    }
}
