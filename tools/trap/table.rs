//! The table in the kernel: loaded in one transaction, updated, read, deleted. nft(8) does it.

use std::collections::BTreeSet;

use psentry_linux::{Error, Program};

use crate::counters::KernelCounters;
use crate::ruleset::{self, TABLE};
use crate::sockets::Listening;
use crate::{TrapError, error};

/// The table, by way of the program nft.
pub(crate) struct Table {
    nft: Program,
}

impl Table {
    /// Finds nft.
    ///
    /// # Errors
    /// It is not installed.
    pub(crate) fn new() -> Result<Self, TrapError> {
        Ok(Table { nft: Program::find("nft").ok_or(TrapError::NoNft)? })
    }

    /// Has nft do what `text` says, all of it or nothing.
    pub(crate) fn apply(&self, text: &str) -> Result<(), TrapError> {
        self.nft.run_checked(&["-f", "-"], text.as_bytes()).map(drop).map_err(error::of_nft)
    }

    /// Reads the counters and resets them; `None`: the table is gone, somebody deleted it. They are reset because nft
    /// reads all sets of the table before it only lists counters: with a full quarantine that takes a second, and
    /// resetting them next to no time.
    pub(crate) fn take_counters(&self) -> Result<Option<KernelCounters>, TrapError> {
        match self.nft.run_checked(&["reset", "counters", "table", "inet", TABLE], b"") {
            Ok(listing) => {
                let counters = KernelCounters::parse(&String::from_utf8_lossy(&listing));
                Ok(counters)
            }
            Err(Error::Program { stderr, .. }) if stderr.contains("No such file or directory") => Ok(None),
            Err(error) => Err(error::of_nft(error)),
        }
    }

    /// The ports at which sockets and containers took packets lately. One set after the other, since nft finds only the last
    /// of several that one command lists.
    pub(crate) fn served(&self) -> Result<Listening, TrapError> {
        let list = |set| {
            let listing = self.nft.run_checked(&["-n", "list", "set", "inet", TABLE, set], b"");
            listing.map(|text| ports_of(&String::from_utf8_lossy(&text))).map_err(error::of_nft)
        };
        Ok(list("served4")?.and(&list("served6")?))
    }

    /// Deletes the table.
    pub(crate) fn delete(&self) -> Result<(), TrapError> {
        self.apply(&ruleset::delete())
    }
}

/// Reads nft's list of a set of services: each element is an address, the number of the protocol and a port, and when it
/// expires. At which address does not matter.
fn ports_of(listing: &str) -> Listening {
    let elements = listing.split_once("elements = {").and_then(|(_, rest)| rest.split_once('}'));
    let elements = elements.map(|(elements, _)| elements).unwrap_or_default();
    let of = |protocol: &str| -> BTreeSet<u16> {
        let port = |element: &str| {
            let mut parts = element.split(" . ").skip(1);
            let of_protocol = parts.next()?.trim() == protocol;
            let port = parts.next()?.split_whitespace().next()?.parse().ok();
            port.filter(|_| of_protocol)
        };
        elements.split(',').filter_map(port).collect()
    };
    // IPPROTO_TCP and IPPROTO_UDP (netinet/in.h).
    Listening { tcp: of("6"), udp: of("17") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_services_is_read() {
        let listing = "table inet psentry_trap {\n\tset served4 {\n\t\ttype ipv4_addr . inet_proto . inet_service\n\t\t\
                       size 65536\n\t\tflags dynamic,timeout\n\t\ttimeout 10m\n\t\telements = { 192.0.2.1 . 6 . 22 \
                       expires 9m59s950ms, 192.0.2.1 . 17 . 443 timeout 1h expires 59m,\n\t\t\t     192.0.2.2 . 6 . 8080 \
                       expires 1s }\n\t}\n}\n";
        assert_eq!(ports_of(listing), Listening { tcp: [22, 8080].into(), udp: [443].into() });
        assert_eq!(
            ports_of("table inet psentry_trap {\n\tset served6 {\n\t\ttype ipv6_addr\n\t}\n}\n"),
            Listening::default()
        );
    }
}
