//! The programs iptables and iptables-restore of one family. Runs them, remembers nothing.

use psentry_linux::{Error as Below, Program};

use super::rule_text::Rules;
use crate::backends::installed;
use crate::error::Error;

/// The programs that the filter tables need; those of IPv6 have the same names with "ip6".
pub(in super::super) const PROGRAMS: [&str; 2] = ["iptables", "iptables-restore"];

/// How many seconds the legacy variant waits for its lock.
const WAIT: &str = "20";

/// The filter table of one family.
pub(super) struct Filter {
    backend: &'static str,
    iptables: Program,
    restore: Program,
    /// nf_tables keeps the rules, and reports changes; the legacy variant does not.
    pub(super) is_nft: bool,
}

impl Filter {
    /// Finds the programs, and asks which variant they are.
    pub(super) fn find(backend: &'static str, ipv4: bool) -> Result<Self, Error> {
        let [iptables, restore] = if ipv4 { PROGRAMS } else { ["ip6tables", "ip6tables-restore"] }
            .map(|name| installed(backend, name));
        let (iptables, restore) = (iptables?, restore?);
        let version = iptables.run_checked(&["-V"], b"")?;
        let is_nft = String::from_utf8_lossy(&version).contains("nf_tables");
        Ok(Filter { backend, iptables, restore, is_nft })
    }

    /// The rules that are there.
    pub(super) fn rules(&self) -> Result<Rules, Error> {
        let listed =
            self.iptables.run_checked(&["-w", WAIT, "-S"], b"").map_err(|error| self.explain(error))?;
        Ok(Rules::read(&String::from_utf8_lossy(&listed)))
    }

    /// Makes changes, in the words of iptables-restore: all, or none. Returns the process id of the program, which is also
    /// the port id of the netlink socket by which it makes them.
    pub(super) fn change(&self, commands: &[String]) -> Result<u32, Error> {
        let script = format!("*filter\n{}\nCOMMIT\n", commands.join("\n"));
        let changed = self.restore.run_checked_with_pid(&["-w", WAIT, "--noflush"], script.as_bytes());
        changed.map(|(_, pid)| pid).map_err(|error| self.explain(error))
    }

    /// What to do about a failure, where that is known.
    fn explain(&self, error: Below) -> Error {
        let Below::Program { stderr, .. } = &error else { return error.into() };
        let backend = self.backend;
        let remedy = if stderr.contains("xtables.lock") {
            "the legacy iptables cannot open its lock; let the user of the service write /run/xtables.lock, or choose \
             iptables-nft with update-alternatives"
        } else if stderr.contains("open socket to ipset") {
            "a rule matches a set, for which iptables needs a raw socket; give the service CAP_NET_RAW and \
             RestrictAddressFamilies=AF_INET"
        } else if stderr.contains("you must be root") && !self.is_nft {
            "the legacy iptables needs CAP_NET_ADMIN and CAP_NET_RAW, or root"
        } else if stderr.contains("you must be root") {
            return Error::NotPermitted { backend };
        } else {
            return error.into();
        };
        Error::Forbidden(format!("--backend {backend}: {remedy} ({stderr})"))
    }
}
